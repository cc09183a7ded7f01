//! Following packets through the running graph, block by block.
//!
//! ```text
//!  control thread                         each worker
//!    Tracer -- Probe: filter, slots,  -->  turn, while it has a probe: marks frames that are wanted, lets blocks work on
//!              room for records            a marked frame alone, and writes down what became of it (graph/traced.rs)
//!    Trace  <------- Probe: records -----  when nothing is left to follow, when asked to, or when the graph changes
//! ```
//!
//! A mark is four bits of the word that a frame carries (`frame/layout.rs`): the number of a slot in the probe. It goes
//! where the frame goes, a copy of the frame gets it, too, and it ends with the frame. As a marked frame is a batch of its
//! own, what its block did to it is seen from outside: by the ledger, by counters, by where it turns up. No block
//! knows of tracing, and without a probe a turn costs a branch for each batch.

mod probe;
mod tracer;

pub(crate) use probe::{Event, Place, Probe, Snap, reason_since};
pub use tracer::Tracer;

use serde::{Deserialize, Serialize};

/// Most packets that one trace follows.
pub const PACKETS_MAX: u32 = 1000;

/// What to follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceConfig {
    /// Packets, of all workers together: 1 to [`PACKETS_MAX`].
    pub count: u32,
    /// libpcap expression; empty takes every packet.
    #[serde(default)]
    pub filter: String,
}

/// Why no trace was begun.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum TraceError {
    #[error("{0} packets cannot be followed; ask for 1 to {PACKETS_MAX}")]
    Count(u32),
    #[error("malformed filter: {0}")]
    Filter(String),
    #[error("somebody else is tracing; wait until they are done")]
    Busy,
    #[error("worker {worker} does not answer; try again")]
    Unresponsive { worker: usize },
}

/// What was seen so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Whether nothing comes any more.
    pub done: bool,
    /// Packets in the order in which they came.
    pub packets: Vec<Packet>,
    /// Packets that were wanted, but came while 63 others of the same worker were under way.
    pub passed_by: u64,
    /// Steps that were not written down for want of room.
    pub steps_lost: u64,
}

/// A packet with what became of it and of its copies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Packet {
    /// Worker that it came to.
    pub worker: usize,
    /// In the order in which things happened.
    pub steps: Vec<Step>,
    /// Whether the end of it and of all copies was seen.
    pub complete: bool,
}

/// What happened to a packet at one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Monotonic nanoseconds of the worker's turn.
    pub at_ns: u64,
    /// Name of the block or port.
    pub at: String,
    /// Kind of block; `port`.
    pub kind: String,
    pub did: Did,
    /// Clock cycles that the block spent on it; 0 where it did not work.
    pub cycles: u64,
    /// Bytes of the whole packet, before and after.
    pub len: [u32; 2],
    /// The first 96 bytes in hexadecimal, before and after.
    pub bytes: [String; 2],
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Did {
    /// Came in by the port.
    Received,
    /// Was made by the block: an answer, an error, a request of its own.
    Made { output: String },
    /// Passed on to an output.
    Passed { output: String },
    /// A copy of it, to an output.
    Copied { output: String },
    /// Kept inside the block for later.
    Held,
    /// Ended well inside the block.
    Delivered,
    /// Discarded for this reason.
    Dropped { reason: String },
    /// Left by the port.
    Sent,
}
