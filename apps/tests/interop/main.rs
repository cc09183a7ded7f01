//! Our TCP with programs that others wrote, and under attack: the kernel's sockets, curl, nginx, socat, and tshark's
//! judgement of what goes over the wire.
//!
//! ```text
//!   client                                dut
//!   c0 10.1.0.2 ------------------- d0 10.1.0.1     tailwater runs here
//!      fd00:1::2                       fd00:1::1
//! ```
//!
//! `TAILWATER_FULL=1` makes downloads a gigabyte and the flood a million segments, and asserts how much of its rate a
//! client keeps meanwhile; run it with `--test-threads 1` on a machine that does nothing else.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod blind;
mod curl;
mod death;
mod flood;
mod nginx;
mod peer;
mod raw;
mod serve;
mod short;
mod socat;
mod sockets;
mod ss;
