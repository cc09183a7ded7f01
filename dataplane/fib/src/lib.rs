//! Longest-prefix-match forwarding tables, changed by one writer while many readers look up.

mod arena;
mod entry;
mod error;
mod fib;
mod memory;
mod next_hop;
mod node;
mod prefix;
mod quiescence;
mod rib;
mod sync;
mod trie;

pub use error::FibError;
pub use fib::{FibReader, FibView, FibWriter, Limits, Routes, new};
pub use next_hop::NextHop;
pub use prefix::{Address, Prefix, Prefix4, Prefix6};
pub use quiescence::READERS_MAX;
pub use trie::BATCH;
