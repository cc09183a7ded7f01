//! The stack as its neighbours see it: frames in, frames out, a virtual clock.
//!
//! Frames are built with etherparse and those sent are checked with smoltcp's parsers, so that
//! neither end of a test is our own code.

// Helpers fail a test as asserts do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod addressing;
mod buffer;
mod checksum;
mod frames;
mod host;
mod icmp;
mod icmp_error;
mod neighbours;
mod path_mtu;
mod rate_limit;
mod reassembly;
mod robustness;
mod smoltcp_peer;
mod udp;
mod wire;
