//! What the scenario runner and the criterion benches share.

pub mod memory_forward;
pub mod stats;
pub mod tcp_in_process;
