//! A running graph changed while traffic flows, over memory ports.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod changes;
mod load;
mod pairs;
mod plant;
mod sequences;
mod trace;
mod workers;
