//! `--metrics ADDR`: a snapshot as a page for Prometheus and whatever else reads its formats.
//!
//! ```text
//!   GET /metrics -- server -- snapshot -- families: names, labels, values -- page: text in the format asked for
//! ```
//!
//! Every number of `stats -j` is there, and no other: both are made from the same snapshot.

mod families;
mod page;
mod server;

pub(crate) use server::{Endpoint, Serving};
