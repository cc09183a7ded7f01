//! One graph for another, between two turns of a worker.
//!
//! ```text
//!  control thread                                            worker
//!    new Graph: built blocks, empty places for kept ones
//!    Shift there, Shift back           ------ Plan ------>   settings, state, blocks over; graphs change places;
//!    drops what came back              <----- Plan -------   what leaving blocks hold goes on
//! ```
//!
//! Everything that needs memory is made and freed on the control thread. The worker moves pointers and counters, and
//! performs the same plan again to undo it.

use crate::block::{Block, Completes, Context, ImportError, ParameterError, Prepared, Registry, Services, Value};
use crate::frame::Batch;
use crate::port::Port;

use super::wiring::{Target, Wiring};
use super::{Graph, GraphError, GraphSpec, INPUT_LEN, Onward, Turn, build_block};

/// What becomes of a block in the change that leads to its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is new.
    New,
    /// It goes over as it is.
    Kept,
    /// It succeeds one of the same name.
    Replaced {
        /// Whether it takes over its predecessor's state.
        state: bool,
    },
}

/// A parameter of a block that lives on. Taking it up once more brings the value from before back.
pub(crate) struct Setting {
    /// Place in the graph that runs before the change.
    pub(crate) at: usize,
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) before: Value,
    pub(crate) prepared: Option<Prepared>,
}

/// Where the blocks of one graph go in another.
#[derive(Default)]
pub(crate) struct Shift {
    /// Blocks that go over: places from and to.
    kept: Vec<(usize, usize)>,
    /// Blocks that succeed another; the counters of the place go on.
    succeeded: Vec<(usize, usize)>,
    /// Those of them that take over the state.
    inherited: Vec<(usize, usize)>,
    /// Blocks that must let go of what they hold, last ones first, and where their outputs lead in the other graph.
    leaving: Vec<(usize, Vec<Target>)>,
}

/// The other graph, and the way to it and back.
pub(crate) struct Reshape {
    graph: Graph,
    there: Shift,
    back: Shift,
}

/// A port for one of the worker's places, which gets the one that was there instead. The same once more undoes it.
pub(crate) struct Seat {
    pub(crate) at: usize,
    pub(crate) port: Box<dyn Port>,
}

/// A change for one worker.
pub(crate) struct Plan {
    pub(crate) settings: Vec<Setting>,
    pub(crate) reshape: Option<Reshape>,
    pub(crate) seats: Vec<Seat>,
    /// Whether it has been performed.
    pub(crate) done: bool,
    /// Why it was not.
    pub(crate) refusal: Option<Refusal>,
    /// From when the worker saw the plan until it could go on, in ns.
    pub(crate) stall_ns: u64,
}

/// A block said no, although it had been asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Parameter(ParameterError),
    #[error(transparent)]
    State(ImportError),
}

impl Plan {
    pub(crate) fn new(settings: Vec<Setting>, reshape: Option<Reshape>) -> Self {
        Self { settings, reshape, seats: Vec::new(), done: false, refusal: None, stall_ns: 0 }
    }

    /// Ports for others; the graph stays.
    pub(crate) fn of_seats(seats: Vec<Seat>) -> Self {
        Self { seats, ..Self::new(Vec::new(), None) }
    }

    /// Changes the running graph, or undoes that if it has been done. Refused, the graph is as it was.
    pub(crate) fn perform(&mut self, running: &mut Graph, turn: &mut Turn<'_>) {
        let outcome = if self.done { self.take_back(running, turn) } else { self.bring_about(running, turn) };
        match outcome {
            Ok(()) => self.done = !self.done,
            Err(refusal) => self.refusal = Some(refusal),
        }
    }

    fn bring_about(&mut self, running: &mut Graph, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        for at in 0..self.settings.len() {
            if let Err(error) = self.settings[at].take_up(running, true) {
                self.settings[..at].iter_mut().for_each(|setting| drop(setting.take_up(running, false)));
                return Err(Refusal::Parameter(error));
            }
        }
        let Some(Reshape { graph, there, .. }) = &mut self.reshape else { return Ok(()) };
        there.perform(running, graph, turn).map_err(|error| {
            self.settings.iter_mut().for_each(|setting| drop(setting.take_up(running, false)));
            Refusal::State(error)
        })
    }

    fn take_back(&mut self, running: &mut Graph, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        if let Some(Reshape { graph, back, .. }) = &mut self.reshape {
            back.perform(running, graph, turn).map_err(Refusal::State)?;
        }
        self.settings.iter_mut().try_for_each(|setting| setting.take_up(running, false)).map_err(Refusal::Parameter)
    }
}

impl Setting {
    fn take_up(&mut self, graph: &mut Graph, forward: bool) -> Result<(), ParameterError> {
        let Some(node) = graph.nodes.get_mut(self.at) else { return Ok(()) };
        match &mut self.prepared {
            Some(prepared) => node.block.set_prepared(&self.key, prepared.as_mut()),
            None => node.block.set(&self.key, if forward { &self.value } else { &self.before }),
        }
    }
}

impl Reshape {
    /// Builds the new blocks of `spec`, and works out the way from `from` to `to`, its wiring. `fates` are by place in `to`.
    pub(crate) fn build(
        spec: &GraphSpec,
        [from, to]: [&Wiring; 2],
        fates: &[Fate],
        registry: &Registry,
        services: &Services,
    ) -> Result<Self, GraphError> {
        let fate_of = |name: &str| to.place(name).and_then(|at| fates.get(at)).copied().unwrap_or(Fate::New);
        let mut graph = Graph::from_wiring(to, spec, |at| match fate_of(&spec.nodes[at].name) {
            Fate::Kept => Ok(Box::new(Absent)),
            Fate::New | Fate::Replaced { .. } => build_block(&spec.nodes[at], registry, services),
        })?;
        let outputs = from.outputs_max().max(to.outputs_max());
        graph.outputs.resize_with(outputs, || Batch::with_capacity(INPUT_LEN));
        let (mut there, mut back) = (Shift::default(), Shift::default());
        for (new, (vertex, fate)) in to.vertices.iter().zip(fates).enumerate() {
            let Some(old) = from.place(&vertex.name) else { continue };
            match fate {
                Fate::New => {}
                Fate::Kept => {
                    there.kept.push((old, new));
                    back.kept.push((new, old));
                }
                Fate::Replaced { state } => {
                    there.succeeded.push((old, new));
                    back.succeeded.push((new, old));
                    if *state {
                        there.inherited.push((old, new));
                        back.inherited.push((new, old));
                    }
                }
            }
        }
        there.find_leaving(from, to);
        back.find_leaving(to, from);
        Ok(Self { graph, there, back })
    }
}

impl Shift {
    fn find_leaving(&mut self, from: &Wiring, to: &Wiring) {
        let mut places = vec![None; from.vertices.len()];
        self.kept.iter().chain(&self.succeeded).for_each(|&(old, new)| places[old] = Some(new));
        let stays = |at: usize| self.kept.iter().chain(&self.inherited).any(|&(old, _)| old == at);
        let leaving = (0..from.vertices.len()).rev().filter(|&at| !stays(at));
        let targets = |at: usize| from.vertices[at].targets.iter().map(|&target| onward(target, from, to, &places));
        self.leaving = leaving.map(|at| (at, targets(at).collect())).collect();
    }

    /// Lets `other` take the place of `running`, or leaves both as they are.
    fn perform(&self, running: &mut Graph, other: &mut Graph, turn: &mut Turn<'_>) -> Result<(), ImportError> {
        self.inherit(running, other)?;
        for &(from, to) in &self.succeeded {
            let (old, new) = (&mut running.nodes[from], &mut other.nodes[to]);
            new.go_on_counting(old);
            new.input.append(&mut old.input);
        }
        for &(from, to) in &self.kept {
            let (old, new) = (&mut running.nodes[from], &mut other.nodes[to]);
            new.go_on_counting(old);
            std::mem::swap(&mut new.block, &mut old.block);
            std::mem::swap(&mut new.input, &mut old.input);
        }
        for (new, old) in other.sinks.iter_mut().zip(&mut running.sinks) {
            std::mem::swap(new, old);
        }
        if other.outputs.len() < running.outputs.len() {
            std::mem::swap(&mut other.outputs, &mut running.outputs);
        }
        std::mem::swap(running, other);
        for (at, targets) in &self.leaving {
            let node = &mut other.nodes[*at];
            running.take_over(node.block.as_mut(), &mut node.input, targets, turn);
        }
        Ok(())
    }

    fn inherit(&self, running: &mut Graph, other: &mut Graph) -> Result<(), ImportError> {
        for (done, &(from, to)) in self.inherited.iter().enumerate() {
            if let Err(error) = hand_on(running.nodes[from].block.as_mut(), other.nodes[to].block.as_mut()) {
                for &(from, to) in self.inherited[..done].iter().rev() {
                    // What was taken over is returned to where it came from, by the same exchange.
                    let returned = hand_on(other.nodes[to].block.as_mut(), running.nodes[from].block.as_mut());
                    debug_assert!(returned.is_ok(), "a block refuses its own state");
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

fn hand_on(from: &mut dyn Block, to: &mut dyn Block) -> Result<(), ImportError> {
    from.export().map_or(Ok(()), |state| to.import(state))
}

/// Where a target of the graph `from` lies in the other: behind blocks that are not there any more.
fn onward(mut target: Target, from: &Wiring, to: &Wiring, places: &[Option<usize>]) -> Target {
    loop {
        target = match target {
            Target::Node(at) => match places[at] {
                Some(place) => return Target::Node(place),
                None => from.vertices[at].targets.first().copied().unwrap_or(Target::Unbound),
            },
            Target::Port(port) if port >= to.sources.len() => return Target::Unbound,
            target => return target,
        }
    }
}

impl Graph {
    /// Whether packets wait between blocks: after a change, for the next turn.
    pub(crate) fn is_pending(&self) -> bool {
        self.sinks.iter().chain(self.nodes.iter().map(|node| &node.input)).any(|batch| !batch.is_empty())
    }

    /// Takes over what a leaving block still has, ahead of everything that comes later.
    fn take_over(&mut self, block: &mut dyn Block, input: &mut Batch, targets: &[Target], turn: &mut Turn<'_>) {
        if block.held() > 0 {
            let mut context = Context {
                now_ns: turn.now_ns,
                pool: turn.pool,
                ledger: turn.ledger,
                originated: turn.originated,
                delivered: turn.delivered,
                rooms: &mut self.rooms,
                outputs: &mut self.outputs[..targets.len()],
                completes: Completes::Fixed(false),
            };
            block.let_go(&mut context);
        }
        let mut onward = Onward { nodes: &mut self.nodes, first: 0, sinks: &mut self.sinks };
        for (emitted, &target) in self.outputs.iter_mut().zip(targets) {
            onward.deliver(target, emitted, turn);
        }
        onward.deliver(targets.first().copied().unwrap_or(Target::Unbound), input, turn);
    }
}

/// Keeps the place of a block that has yet to come, or has gone.
struct Absent;

impl Block for Absent {
    fn process(&mut self, _batch: &mut Batch, _context: &mut Context<'_>) {
        debug_assert!(false, "a place without its block runs");
    }
}
