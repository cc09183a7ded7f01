//! Networks of several hosts: links, topologies, workloads, files, and that a seed is a run.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod captures;
mod congestion;
mod determinism;
mod examples;
mod links;
mod networks;
mod scenario;
mod seeds;
mod tcp;
mod topology;
