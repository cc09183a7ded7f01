//! TCP as its peers see it, on a virtual clock.
//!
//! | module | peer | asks |
//! |---|---|---|
//! | `script` and its users | frames by etherparse, read by smoltcp | does one segment do what the RFC says |
//! | `pair` and its users | another stack of ours, over a wire with faults | do bytes arrive, does recovery recover |
//! | `smoltcp_peer` | smoltcp | does it work with somebody else's TCP |
//!
//! A name ends in the section that it shows; `features` has the list, and finds what nothing shows.

// Helpers fail a test as asserts do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod pair;
mod script;

mod acceptability;
mod buffers;
mod burst;
mod extension;
mod features;
mod foreign_control;
mod handshake;
mod mtu_search;
mod receiving;
mod recovery;
mod room;
mod sending;
mod smoltcp_peer;
mod snapshots;
mod transfer;
