//! Changing a running graph: transactions, checked as a whole, performed by every worker between two of its turns.
//!
//! ```text
//!  Transaction --> Draft (a copy) --> check --> one Plan per worker --> workers exchange graphs --> Change, Event
//!                     |                 |                                      |
//!                     +--- refused -----+-------- a worker refuses ------------+--> all as it was, ChangeError
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `operation` | what can be asked for |
//! | `draft` | operations applied to a copy of the graph |
//! | `blueprint` | a draft compared with what runs: what must be built, moved, set |
//! | `crew` | plans handed to the workers, all or none |
//! | `diff` | what a change does, for people and programs |
//! | `events` | the ordered record that subscribers follow |
//! | `error` | why a change was refused |
//!
//! Invariants:
//! - A refused transaction leaves graph, version and history as they were.
//! - A block keeps its state and its counters unless it was asked to drop them; what a removed block holds goes on ahead
//!   of everything that comes later.
//! - A worker neither locks, allocates nor frees for a change; it reports how long it was kept from its packets.
//! - Either all workers run the new graph or none does. A worker that began with a plan and never answers is an error
//!   ([`ChangeError::Unsettled`]) until it does.

mod blueprint;
mod crew;
mod diff;
mod draft;
mod engine;
mod error;
mod events;
mod operation;

pub(crate) use crew::Undone;
pub use diff::{Diff, Inheritance, Replacement, SetParameter};
pub use engine::{Change, HISTORY_MAX, Live, Stall};
pub use error::ChangeError;
pub use events::{EVENTS_MAX, Event, EventLog, TooOld, What};
pub use operation::{OPERATIONS_MAX, Operation, Transaction};
