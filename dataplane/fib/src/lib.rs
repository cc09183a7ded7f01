//! Longest-prefix-match forwarding tables, changed by one writer while many readers look up.

mod adjacency;
mod arena;
mod entry;
mod error;
mod fib;
pub mod generate;
mod group;
mod lookup;
mod memory;
#[cfg(all(test, loom))]
mod model;
mod next_hop;
mod node;
mod prefix;
mod quiescence;
mod reuse;
mod rib;
mod sync;
mod trie;

pub use adjacency::{Adjacencies, Adjacency, PORT_MAX};
pub use error::FibError;
pub use fib::{FibReader, FibView, FibWriter, Limits, Routes, new};
pub use group::{BUCKETS, Groups, Member};
pub use lookup::BATCH;
pub use next_hop::NextHop;
pub use prefix::{Address, Prefix, Prefix4, Prefix6};
pub use quiescence::READERS_MAX;
