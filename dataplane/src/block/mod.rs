//! Functional blocks: the vertices of the packet graph.
//!
//! A block is one file implementing [`Block`], plus a [`Kind`] which describes it to the graph builder, the command line
//! and the reader. To add one: write the file, register its `KIND` in [`Registry::builtin`] (inside this crate) or with
//! [`Registry::add`] (outside; see `examples/`).
//!
//! Blocks get whole batches. Frames that a block leaves in the batch go on to its first output in order; others it
//! hands to [`Context::emit`] or, with a reason, to [`Context::discard`]. One dynamic call is paid per batch.

mod arguments;
mod context;
mod registry;

pub use arguments::{Arguments, Parameter, ParameterError, Value, ValueKind};
pub use context::Context;
pub use registry::{BuildError, Registry, Services};

use std::any::Any;

use crate::frame::Batch;

/// What kind of bytes an edge carries. An edge joins pins of the same type, or one that is [`Any`](Self::Any).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PacketType {
    /// Ethernet frames, header first.
    Ethernet,
    /// Ethernet frames whose network header's offset is known and is IPv4.
    Ip4,
    /// Ethernet frames whose network header's offset is known and is IPv6.
    Ip6,
    /// Whatever comes.
    Any,
}

impl PacketType {
    /// Whether packets of type `self` may flow into a pin of type `to`.
    pub fn fits(self, to: PacketType) -> bool {
        self == to
            || self == PacketType::Any
            || to == PacketType::Any
            || (to == PacketType::Ethernet && matches!(self, PacketType::Ip4 | PacketType::Ip6))
    }
}

/// A named output.
#[derive(Clone, Copy, Debug)]
pub struct Pin {
    /// Name, as in `ethernet.ip4`.
    pub name: &'static str,
    /// What comes out of it.
    pub carries: PacketType,
}

/// State of a block on its way to its successor: typed, so that a block of another kind refuses it.
pub struct State {
    /// Kind of the block that exported it.
    pub kind: &'static str,
    /// The content.
    pub content: Box<dyn Any + Send>,
}

/// Why a block did not take over a state.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It keeps none.
    #[error("this block keeps no state; replace it with --drop")]
    Stateless,
    /// The state is another kind's.
    #[error("the state is of a {found:?} block, this one needs that of {wanted:?}")]
    Kind {
        /// Kind of the block that exported it.
        found: &'static str,
        /// Kind expected.
        wanted: &'static str,
    },
}

/// A vertex of the packet graph, one instance per worker.
pub trait Block: Send {
    /// Works on a batch. Frames left in it go to output 0.
    fn process(&mut self, batch: &mut Batch, context: &mut Context<'_>);

    /// Called once per turn, before the inputs, for blocks whose [`Kind::polled`] is set: to emit what has become due.
    fn poll(&mut self, context: &mut Context<'_>) {
        let _ = context;
    }

    /// When `poll` has work next, in ns of the worker's clock; `None` while nothing is held.
    fn deadline_ns(&self) -> Option<u64> {
        None
    }

    /// Packets inside the block.
    fn held(&self) -> usize {
        0
    }

    /// Gives up all packets inside, for a shutdown.
    fn drain(&mut self, batch: &mut Batch) {
        let _ = batch;
    }

    /// Changes a parameter while traffic flows. `value` has been checked against [`Kind::parameters`].
    fn set(&mut self, key: &str, value: &Value) -> Result<(), ParameterError> {
        let _ = value;
        Err(ParameterError::Fixed { key: key.to_owned() })
    }

    /// The block's own counters, by name.
    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        let _ = report;
    }

    /// Moves the block's state out, for a successor.
    fn export(&mut self) -> Option<State> {
        None
    }

    /// Takes over a predecessor's state.
    fn import(&mut self, state: State) -> Result<(), ImportError> {
        let _ = state;
        Err(ImportError::Stateless)
    }
}

/// Builds one worker's instance of a block.
pub type Build = fn(&Arguments, &Services) -> Result<Box<dyn Block>, BuildError>;

/// Description of a sort of block.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Name in graph files and on the command line.
    pub name: &'static str,
    /// One line for listings.
    pub summary: &'static str,
    /// What it takes in.
    pub input: PacketType,
    /// Its outputs; the first is where frames left in a batch go. Empty for a block that keeps or consumes everything.
    pub outputs: &'static [Pin],
    /// What can be given and changed.
    pub parameters: &'static [Parameter],
    /// Whether `poll` is wanted each turn.
    pub polled: bool,
    /// The constructor.
    pub build: Build,
}

/// The single output of blocks that pass packets on.
pub const OUT: &[Pin] = &[Pin { name: "out", carries: PacketType::Any }];
