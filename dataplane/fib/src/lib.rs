//! Forwarding tables: longest prefix match for IPv4 and IPv6, adjacencies and next hop groups, changed by one writer
//! while many readers look up.
//!
//! ```text
//!   address --- trie ---> NextHop --- adjacency ---------------------> port + MAC, or what else to do
//!                            |                                              ^
//!                            +------- group, bucket of the flow hash -------+
//! ```
//!
//! * Readers take no locks and never wait. A lookup during a change finds the old next hop or the new one.
//! * The writer's calls return when the change is visible. A refused change has changed nothing.
//! * Memory of what was withdrawn is used again once every reader has called [`FibView::quiescent`] since, or is
//!   [`FibView::offline`]. Until then it waits, within the limits: a reader that never does makes changes fail with
//!   [`FibError::Busy`], never lookups go wrong.
//!
//! Memory is mapped for [`Limits`] and used as routes come: an empty table costs nothing, a route a page, which is 2 MiB
//! where the kernel gives huge ones. Full tables, 1,000,000 IPv4 and 200,000 IPv6 prefixes: IPv4 96 MiB root (a
//! third of it its short form) and 0.4 MiB nodes, at most 160 MiB; IPv6 under 64 MiB root (13 MiB here, as only few blocks
//! are allocated) and 7 MiB nodes, at most 256 MiB; and the writer's own 40 MiB of routes as they were given.
//!
//! ```
//! use std::net::Ipv4Addr;
//! use tailwater_fib::{Adjacency, Limits, NextHop, Prefix};
//!
//! let (mut writer, reader) = tailwater_fib::new(Limits::default())?;
//! let gateway = writer.adjacencies.add()?;
//! writer.v4.insert(Prefix::new(Ipv4Addr::new(10, 0, 0, 0), 8)?, gateway)?;
//!
//! let view = reader.join()?; // in the worker
//! let mut next_hops = [NextHop::NONE; 2];
//! view.lookup4_batch(&[0x0a01_0203, 0x0b01_0203], &mut next_hops);
//! assert_eq!(next_hops, [gateway, NextHop::NONE]);
//! assert_eq!(view.resolve(gateway, 0), Adjacency::Unresolved { next_hop: gateway });
//!
//! writer.adjacencies.resolve(gateway, 3, [2, 0, 0, 0, 0, 1])?; // the neighbour has answered
//! assert_eq!(view.resolve(gateway, 0), Adjacency::Forward { port: 3, mac: [2, 0, 0, 0, 0, 1] });
//! view.quiescent(); // between two turns, holding no next hop
//! # Ok::<(), tailwater_fib::FibError>(())
//! ```
//!
//! Where to read: [`FibWriter`] and [`FibView`] in `fib`; the structure and how it changes in `trie`, its node in
//! `node`, the short form of the IPv4 root in `short`, its lookup in `lookup`; reuse of memory in `quiescence`, `arena` and
//! `reuse`; what a next hop leads to in `adjacency` and `group`.

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
mod short;
mod sync;
mod trie;

pub use adjacency::{Adjacencies, Adjacency, AdjacencyWord, PORT_MAX};
pub use error::FibError;
pub use fib::{FibReader, FibView, FibWriter, Limits, Routes, new};
pub use group::{BUCKETS, Groups, Member};
pub use lookup::BATCH;
pub use next_hop::NextHop;
pub use prefix::{Address, Prefix, Prefix4, Prefix6};
pub use quiescence::READERS_MAX;
