//! `tailwater echo` and `tailwater ping` against the Linux kernel, in network namespaces.
//!
//! ```text
//!   client                                dut
//!   c0 10.1.0.2 ------------------- d0 10.1.0.1     tailwater runs here
//!      fd00:1::2                       fd00:1::1
//! ```

#![allow(clippy::unwrap_used, clippy::panic, reason = "only tests use it")]

mod echo;
mod peers;
mod ping;
mod shared;
mod tcp;
