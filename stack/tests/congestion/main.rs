//! Congestion controls against the formulas they come from, and over a path of one bottleneck.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, unreachable_pub)]

mod bbr;
mod bbr3;
mod bounds;
mod cubic;
mod events;
mod exchange;
mod hystart;
mod pacing;
mod path;
mod rate_sample;
mod reno;
