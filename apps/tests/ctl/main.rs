//! `tailwater ctl` and the control socket: the graph of a running command, changed while traffic flows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod commands;
#[path = "../common/mod.rs"]
mod common;
mod fuzz;
mod line;
mod load;
mod socket;
