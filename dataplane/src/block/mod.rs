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

mod state;

pub use arguments::{Arguments, Parameter, ParameterError, Value, ValueKind};
pub use context::Context;
pub(crate) use context::{Completes, Room};
pub use registry::{BuildError, PortNames, Registry, Services};
pub use state::{ImportError, State};

use std::any::Any;

use crate::frame::Batch;
use crate::ledger::DropReason;

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

/// A vertex of the packet graph, one instance per worker.
pub trait Block: Send {
    /// Works on a batch. Frames left in it go to output 0.
    fn process(&mut self, batch: &mut Batch, context: &mut Context<'_>);

    /// Called once per turn, before its own input, for blocks whose [`Kind::polled`] is set: to emit what has become due.
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

    /// Lets all packets inside go, because the block is taken out of a running graph: emits, in order, those that can go
    /// on, and discards others. Unless a block says otherwise they are discarded as [`DropReason::BlockRemoved`].
    fn let_go(&mut self, context: &mut Context<'_>) {
        if self.held() == 0 {
            return;
        }
        let mut batch = Batch::default();
        self.drain(&mut batch);
        batch.drain().for_each(|frame| context.discard(frame, DropReason::BlockRemoved));
    }

    /// Changes a parameter while traffic flows, in the worker's turn: without waiting and without allocating.
    /// [`Kind::prepare`] has agreed to `key` and the checked `value`, and made nothing of them.
    fn set(&mut self, key: &str, value: &Value) -> Result<(), ParameterError> {
        let _ = value;
        Err(ParameterError::Fixed { key: key.to_owned() })
    }

    /// As [`set`](Self::set), for a parameter of which [`Kind::prepare`] has made something: exchanges it for what the
    /// block had, so that calling it again undoes it and nothing is freed here.
    fn set_prepared(&mut self, key: &str, prepared: &mut (dyn Any + Send)) -> Result<(), ParameterError> {
        let _ = prepared;
        Err(ParameterError::Fixed { key: key.to_owned() })
    }

    /// The block's own counters, by name.
    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        let _ = report;
    }

    /// Lends the block's state, packets inside included, to a successor. `Some` where [`Kind::state`] is.
    fn export(&mut self) -> Option<State<'_>> {
        None
    }

    /// Takes over a predecessor's state by [`State::exchange`]: without waiting and without allocating. Refused, the
    /// state is as it was, with its block.
    fn import(&mut self, state: State<'_>) -> Result<(), ImportError> {
        let _ = state;
        Err(ImportError::Stateless)
    }
}

/// What a block takes up by [`Block::set_prepared`]: a compiled filter, memory for a longer queue.
pub type Prepared = Box<dyn Any + Send>;

/// Agrees, on the control thread, to a change of the parameter `key` of a running block to its value among `arguments`,
/// all of them as they will be; makes what the block needs for it, if it needs anything. Refuses with
/// [`ParameterError::Fixed`] what only a new block can have.
pub type Prepare = fn(key: &str, arguments: &Arguments) -> Result<Option<Prepared>, ParameterError>;

/// The [`Prepare`] of blocks without parameters that can change.
pub fn fixed(key: &str, _arguments: &Arguments) -> Result<Option<Prepared>, ParameterError> {
    Err(ParameterError::Fixed { key: key.to_owned() })
}

/// The [`Prepare`] of blocks all of whose parameters are plain numbers or truth values that can change.
pub fn live(_key: &str, _arguments: &Arguments) -> Result<Option<Prepared>, ParameterError> {
    Ok(None)
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
    /// Whether it makes packets of its own and asks how many may leave ([`Context::room`]).
    pub asks_for_room: bool,
    /// Name of the state that it exports and imports; blocks with states of one name can replace one another. `None`:
    /// nothing is worth keeping.
    pub state: Option<&'static str>,
    /// Whether it is told things only once, from elsewhere: it comes with the graph that is started and stays as long as that
    /// runs. Another one can only take its place together with its state.
    pub lasts: bool,
    /// Which parameters can change while a block lives, and what it wants made of them beforehand.
    pub prepare: Prepare,
    /// The constructor.
    pub build: Build,
}

impl Kind {
    /// What a kind has unless it says otherwise; end a description with `..Kind::PLAIN`.
    pub const PLAIN: Kind = Kind {
        name: "",
        summary: "",
        input: PacketType::Any,
        outputs: OUT,
        parameters: &[],
        polled: false,
        asks_for_room: false,
        state: None,
        lasts: false,
        prepare: fixed,
        build: |_, _| Err(BuildError::Service("a constructor")),
    };

    /// Whether a running block can change its parameter `key` at all.
    pub fn is_live(&self, key: &str) -> bool {
        !matches!((self.prepare)(key, &Arguments::default()), Err(ParameterError::Fixed { .. }))
    }
}

/// The single output of blocks that pass packets on.
pub const OUT: &[Pin] = &[Pin { name: "out", carries: PacketType::Any }];
