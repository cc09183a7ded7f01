//! `tailwater perf` with stock iperf3, kernel sockets, and itself at the other end, in network namespaces.
//!
//! ```text
//!   client                                dut
//!   c0 10.1.0.2 ------------------- d0 10.1.0.1     tailwater runs here; in some tests on c0, too
//!      fd00:1::2                       fd00:1::1
//! ```

#![allow(clippy::unwrap_used, clippy::panic, reason = "only tests use it")]

#[path = "../common/mod.rs"]
mod common;

mod client;
mod ends;
mod members;
mod requests;
mod server;
mod sweep;
mod trouble;
