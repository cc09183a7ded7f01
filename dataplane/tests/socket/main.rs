//! Sockets for threads: between two hosts in this process, and with the kernel's sockets at the other end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod blocking;
mod closing;
mod hosts;
mod kernel;
mod kernel_opens;
mod memory;
mod readiness;
mod stopping;
mod traffic;
mod udp;
