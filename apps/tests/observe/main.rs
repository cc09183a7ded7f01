//! What a running command shows of itself: the same numbers in JSON, in metrics and in `top`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod expectation;
mod graph;
mod metrics;
mod scrape;
mod top;
mod trace;
