//! The packet graph of one worker: blocks in topological order, batches walking along the edges.
//!
//! ```text
//! rx:a --> ethernet --ip4--> ip4-forward --> tx:b        sources and sinks are ports,
//!              \--other--> ...                           everything between is a block
//! ```
//!
//! [`GraphSpec`] is the graph as data; [`Graph::build`] checks it and makes the blocks; [`Graph::run`] walks all pending
//! batches once. Every edge leads forward in the order, so one pass empties the graph. [`live`](crate::live) exchanges a
//! graph for another between two turns (`exchange`).

mod batch_sizes;
mod exchange;
mod spec;
mod traced;
mod wiring;

pub use batch_sizes::BatchSizes;
pub(crate) use exchange::{Fate, Plan, Reshape, Seat, Setting};
pub use spec::{EGRESS, Edge, GraphSpec, INGRESS, NAME_MAX, NODES_MAX, NodeSpec};
pub(crate) use spec::{is_name, kind_of, output_of};
pub(crate) use wiring::Wiring;

use crate::block::{Arguments, Block, BuildError, Completes, Context, Kind, PacketType, Registry, Room, Services};
use crate::clock;
use crate::frame::{Batch, Frame, Pool, owner};
use crate::ledger::{DropReason, Ledger};
use wiring::{Target, Vertex};

/// Packets that a block's input holds before it has to grow: the largest burst of a port.
const INPUT_LEN: usize = 256;

/// Why a graph was refused. Nothing of it has run.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum GraphError {
    #[error("edge {0:?} is not written FROM[.OUTPUT] -> TO")]
    EdgeSyntax(String),
    #[error("{count} vertices are more than {NODES_MAX}")]
    TooManyNodes { count: usize },
    #[error("{node:?}: no such kind of block {kind:?}; there are: {known}")]
    UnknownKind { node: String, kind: String, known: String },
    #[error("{0:?} cannot name a block: 1 to {NAME_MAX} characters without blanks and : . = > * \"")]
    BadName(String),
    #[error("two blocks are named {0:?}")]
    DuplicateName(String),
    #[error("edge {edge:?}: no block named {node:?}")]
    UnknownNode { edge: String, node: String },
    #[error("edge {edge:?}: no port {port:?}; there are: {known}")]
    UnknownPort { edge: String, port: String, known: String },
    #[error("edge {edge:?}: no output {output:?}; there are: {known}")]
    UnknownOutput { edge: String, output: String, known: String },
    #[error("edge {edge:?}: that output is bound already; a tee block copies packets to several")]
    OutputTaken { edge: String },
    #[error("edge {edge:?}: carries {carries:?} packets into a block that takes {takes:?}")]
    Type { edge: String, carries: PacketType, takes: PacketType },
    #[error("{node:?} lies on a cycle; packets would never leave it")]
    Cycle { node: String },
    #[error("block {node:?}: {error}")]
    Build { node: String, error: BuildError },
}

/// What a vertex has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct NodeCounters {
    /// Packets that came in.
    pub packets: u64,
    /// Batches that came in.
    pub batches: u64,
    /// Clock cycles spent (time stamp counter), by the time of one walk in 31.
    pub cycles: u64,
    /// Batches that came in, by size.
    pub batch_sizes: BatchSizes,
}

struct Node {
    name: String,
    kind: Kind,
    block: Box<dyn Block>,
    input: Batch,
    targets: Vec<Target>,
    /// Packets that went out, by output.
    sent: Vec<u64>,
    counters: NodeCounters,
    owner: u16,
}

/// A vertex as [`Graph::report`] shows it.
pub struct NodeView<'a> {
    /// Name in the graph.
    pub name: &'a str,
    /// Kind of block.
    pub kind: &'a Kind,
    /// What it has done.
    pub work: NodeCounters,
    /// Packets that went out, in the order of the kind's outputs.
    pub sent: &'a [u64],
    /// The block, with counters of its own.
    pub block: &'a dyn Block,
}

/// Borrowed from the worker for one turn.
// rustc lays both out as it likes. As it does now, no two fields lie beside each other that do so in a `Context`: they would be
// copied in pairs, and the CPU waits with reading in one piece what was just written in two.
pub struct Turn<'a> {
    /// Monotonic nanoseconds.
    pub now_ns: u64,
    /// Drops.
    pub ledger: &'a mut Ledger,
    /// Packets that ended well in blocks.
    pub delivered: &'a mut u64,
    /// Free frames.
    pub pool: &'a mut Pool,
    /// Packets made by blocks.
    pub originated: &'a mut u64,
}

/// One worker's instance of a packet graph.
pub struct Graph {
    nodes: Vec<Node>,
    /// Some block makes packets of its own, for which there must be room.
    asks_for_room: bool,
    /// Where each port's received packets go.
    sources: Vec<Target>,
    /// What waits for each port's transmission.
    sinks: Vec<Batch>,
    /// Packets made in blocks that may still leave by each port in this turn.
    rooms: Vec<Room>,
    /// Which ports complete checksums.
    completes: Vec<bool>,
    outputs: Vec<Batch>,
    spec: GraphSpec,
    /// Walks with packets so far.
    walks: u32,
}

/// One walk in so many is timed: reading the clock for each block costs as much as a packet does. Prime, so that two ways of
/// traffic in turn are both timed.
const TIMED_WALKS: u32 = 31;

impl Graph {
    /// Checks `spec` and builds its blocks for one worker. `ports` are the port names in index order.
    pub fn build(
        spec: &GraphSpec,
        registry: &Registry,
        services: &Services,
        ports: &[String],
    ) -> Result<Self, GraphError> {
        let wiring = Wiring::of(spec, registry, ports)?;
        Self::from_wiring(&wiring, spec, |at| build_block(&spec.nodes[at], registry, services))
    }

    /// A graph whose blocks `block` makes, by their place in `spec`.
    fn from_wiring(
        wiring: &Wiring,
        spec: &GraphSpec,
        mut block: impl FnMut(usize) -> Result<Box<dyn Block>, GraphError>,
    ) -> Result<Self, GraphError> {
        let mut nodes = Vec::with_capacity(wiring.vertices.len());
        for vertex in &wiring.vertices {
            nodes.push(Node::new(vertex, block(vertex.spec)?));
        }
        Ok(Self {
            asks_for_room: nodes.iter().any(|node| node.kind.asks_for_room),
            outputs: (0..wiring.outputs_max()).map(|_| Batch::with_capacity(INPUT_LEN)).collect(),
            nodes,
            sources: wiring.sources.clone(),
            sinks: wiring.sources.iter().map(|_| Batch::with_capacity(INPUT_LEN)).collect(),
            rooms: vec![Room::ENDLESS; wiring.sources.len()],
            completes: vec![false; wiring.sources.len()],
            spec: spec.clone(),
            walks: 0,
        })
    }

    /// The graph as data.
    pub fn spec(&self) -> &GraphSpec {
        &self.spec
    }

    /// Where a port can put what it receives, if that goes to a block.
    #[inline]
    pub(crate) fn intake(&mut self, port: usize) -> Option<&mut Batch> {
        match self.sources.get(port) {
            Some(&Target::Node(to)) => self.nodes.get_mut(to).map(|node| &mut node.input),
            _ => None,
        }
    }

    /// Takes in what a port received.
    #[inline]
    pub fn ingest(&mut self, port: usize, batch: &mut Batch, turn: &mut Turn<'_>) {
        match self.sources.get(port).copied().unwrap_or(Target::Unbound) {
            Target::Node(to) => self.nodes[to].input.append(batch),
            target => Onward { nodes: &mut self.nodes, first: 0, sinks: &mut self.sinks }.deliver(target, batch, turn),
        }
    }

    /// Walks every pending batch to the ports, together with what has become due in the blocks on the way.
    #[inline]
    pub fn run(&mut self, turn: &mut Turn<'_>) {
        let walked =
            if self.walks.is_multiple_of(TIMED_WALKS) { self.walk_timed(turn) } else { self.walk(turn, || 0, 0) };
        // Turns without packets are not counted: with them a rhythm of packets and pauses might never be timed.
        self.walks = self.walks.wrapping_add(u32::from(walked));
    }

    #[inline(never)]
    fn walk_timed(&mut self, turn: &mut Turn<'_>) -> bool {
        self.walk(turn, clock::cycles, TIMED_WALKS)
    }

    /// Walks every pending batch through; each block's time by `clock` counts `weight` times. Whether there was one.
    #[inline(always)]
    fn walk(&mut self, turn: &mut Turn<'_>, clock: impl Fn() -> u64, weight: u32) -> bool {
        let mut started = clock();
        let mut walked = false;
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            let (polls, works) = (node.kind.polled, !node.input.is_empty());
            if !works {
                if polls {
                    self.step(at, turn, true, false);
                    // Its time is nobody's: what becomes due is not counted by packets.
                    started = clock();
                }
                continue;
            }
            walked = true;
            node.count_input();
            self.step(at, turn, polls, true);
            let ended = clock();
            self.nodes[at].counters.cycles += ended.wrapping_sub(started) * u64::from(weight);
            started = ended;
        }
        walked
    }

    /// Lets one block emit what has become due (`polls`), and work on its input, in place (`works`), and hands on what it emits
    /// and leaves.
    // Not within the loop of the walk: all that it reads of the graph would be fetched in front of that, twice.
    #[inline(never)]
    fn step(&mut self, at: usize, turn: &mut Turn<'_>, polls: bool, works: bool) {
        let Self { nodes, sinks, rooms, outputs, completes, .. } = self;
        // Every edge leads forward: what lies behind the node is all that it can hand on to.
        let (done, nodes) = nodes.split_at_mut(at + 1);
        let Some(Node { block, input, targets, sent, .. }) = done.last_mut() else { return };
        let outputs = &mut outputs[..targets.len()];
        let mut context = Context {
            now_ns: turn.now_ns,
            pool: turn.pool,
            ledger: turn.ledger,
            originated: turn.originated,
            delivered: turn.delivered,
            rooms,
            outputs,
            completes: match targets.first() {
                Some(Target::Egress) => Completes::ByPort(completes),
                Some(&Target::Port(port)) => Completes::Fixed(completes.get(port).is_some_and(|&completes| completes)),
                _ => Completes::Fixed(false),
            },
        };
        if polls {
            block.poll(&mut context);
        }
        if works {
            block.process(input, &mut context);
        } else if outputs.iter().all(Batch::is_empty) {
            // Mostly there is nothing due.
            return;
        }
        let mut onward = Onward { nodes, first: at + 1, sinks };
        let ([target, targets @ ..], [emitted, outputs @ ..], [sent, sents @ ..]) =
            (targets.as_slice(), outputs, sent.as_mut_slice())
        else {
            // A block without outputs keeps what it wants and must have emptied the batch.
            return discard_unbound(input, turn);
        };
        // What was emitted goes before what was left in the batch.
        if works && !input.is_empty() {
            emitted.append(input);
        }
        if !emitted.is_empty() {
            *sent += emitted.len() as u64;
            onward.deliver(*target, emitted, turn);
        }
        if !targets.is_empty() {
            onward.deliver_others(targets, outputs, sents, turn);
        }
    }

    /// Whether any block makes packets of its own, for which there must be room.
    #[inline]
    pub(crate) fn asks_for_room(&self) -> bool {
        self.asks_for_room
    }

    /// Says how many packets made in blocks may leave by a port in the turn that begins; any number unless it is said.
    #[inline]
    pub(crate) fn set_room(&mut self, port: usize, room: Room) {
        if let Some(known) = self.rooms.get_mut(port) {
            *known = room;
        }
    }

    /// What waits for transmission on a port.
    #[inline]
    pub fn sink(&mut self, port: usize) -> Option<&mut Batch> {
        self.sinks.get_mut(port)
    }

    /// Whether `port` completes checksums, so that what leads to it, and nowhere else, may leave them undone.
    pub(crate) fn completes_sums(&self, port: usize) -> bool {
        self.completes.get(port).is_some_and(|&completes| completes)
    }

    /// Notes whether `port` completes checksums from now on. If not, those of what waits for it are completed.
    pub(crate) fn set_completes_sums(&mut self, port: usize, completes: bool) {
        if let Some(known) = self.completes.get_mut(port) {
            *known = completes;
        }
        if let Some(waiting) = self.sinks.get_mut(port).filter(|_| !completes) {
            waiting.iter_mut().for_each(Frame::complete_sum);
        }
    }

    /// When a block has work next, without any packet arriving.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.nodes.iter().filter(|node| node.kind.polled).filter_map(|node| node.block.deadline_ns()).min()
    }

    /// Packets inside: in blocks, and between them while a change is under way.
    pub fn held(&self) -> usize {
        let waiting: usize = self.sinks.iter().map(Batch::len).sum();
        waiting + self.nodes.iter().map(|node| node.block.held() + node.input.len()).sum::<usize>()
    }

    /// Drops what blocks still hold, for a shutdown.
    pub fn drain(&mut self, turn: &mut Turn<'_>) {
        let mut batch = Batch::default();
        for node in &mut self.nodes {
            node.block.drain(&mut batch);
            batch.append(&mut node.input);
        }
        for sink in &mut self.sinks {
            batch.append(sink);
        }
        batch.drain().for_each(|frame| {
            turn.ledger.count(DropReason::Shutdown);
            turn.pool.release(frame);
        });
    }

    /// Each vertex in order, with its place, its counters and the block's own.
    pub fn report(&self, mut visit: impl FnMut(usize, NodeView<'_>)) {
        for (at, node) in self.nodes.iter().enumerate() {
            let Node { name, kind, block, sent, counters, .. } = node;
            visit(at, NodeView { name, kind, work: *counters, sent, block: block.as_ref() });
        }
    }
}

/// Where batches can go: the vertices from `first` on, and the ports.
struct Onward<'a> {
    nodes: &'a mut [Node],
    first: usize,
    sinks: &'a mut [Batch],
}

impl Onward<'_> {
    /// Takes all frames out of `batch`.
    #[inline(always)]
    fn deliver(&mut self, target: Target, batch: &mut Batch, turn: &mut Turn<'_>) {
        match target {
            Target::Node(to) => self.nodes[to - self.first].input.append(batch),
            Target::Port(port) => self.sinks[port].append(batch),
            Target::Egress => self.deliver_by_frame(batch, turn),
            Target::Unbound => discard_unbound(batch, turn),
        }
    }

    /// The same of the outputs behind the first.
    #[inline(never)]
    fn deliver_others(&mut self, targets: &[Target], outputs: &mut [Batch], sent: &mut [u64], turn: &mut Turn<'_>) {
        for ((&target, emitted), sent) in targets.iter().zip(outputs).zip(sent) {
            if !emitted.is_empty() {
                *sent += emitted.len() as u64;
                self.deliver(target, emitted, turn);
            }
        }
    }

    /// Sends each frame to the port it names. Batches mostly leave by one port, and then move as a whole.
    #[inline]
    fn deliver_by_frame(&mut self, batch: &mut Batch, turn: &mut Turn<'_>) {
        if let Some(sink) = batch.common_port().and_then(|port| self.sinks.get_mut(usize::from(port))) {
            sink.append(batch);
        } else {
            self.sort_by_port(batch, turn);
        }
    }

    #[inline(never)]
    fn sort_by_port(&mut self, batch: &mut Batch, turn: &mut Turn<'_>) {
        for frame in batch.drain() {
            match self.sinks.get_mut(usize::from(frame.port())) {
                Some(sink) => sink.push(frame),
                None => {
                    turn.ledger.count(DropReason::UnboundOutput);
                    turn.pool.release(frame);
                }
            }
        }
    }
}

#[cold]
fn discard_unbound(batch: &mut Batch, turn: &mut Turn<'_>) {
    batch.drain().for_each(|frame| {
        turn.ledger.count(DropReason::UnboundOutput);
        turn.pool.release(frame);
    });
}

impl Node {
    /// Counts what came in.
    #[inline]
    fn count_input(&mut self) {
        let Self { input, counters, owner, .. } = self;
        counters.packets += input.len() as u64;
        counters.batches += 1;
        counters.batch_sizes.count(input.len());
        if cfg!(debug_assertions) {
            input.iter_mut().for_each(|frame| frame.set_owner(*owner));
        }
    }

    fn new(vertex: &Vertex, block: Box<dyn Block>) -> Self {
        Self {
            owner: owner::number(&vertex.name),
            name: vertex.name.clone(),
            kind: vertex.kind,
            block,
            input: Batch::with_capacity(INPUT_LEN),
            targets: vertex.targets.clone(),
            sent: vec![0; vertex.targets.len()],
            counters: NodeCounters::default(),
        }
    }

    /// Takes over the counters of the place, those of outputs only from the same kind of block.
    fn go_on_counting(&mut self, before: &Self) {
        self.counters = before.counters;
        if self.kind.name == before.kind.name && self.sent.len() == before.sent.len() {
            self.sent.copy_from_slice(&before.sent);
        }
    }
}

fn build_block(spec: &NodeSpec, registry: &Registry, services: &Services) -> Result<Box<dyn Block>, GraphError> {
    let failed = |error: BuildError| GraphError::Build { node: spec.name.clone(), error };
    let kind = kind_of(spec, registry)?;
    let arguments =
        Arguments::check(kind.parameters, &spec.parameters).map_err(|error| failed(BuildError::Parameter(error)))?;
    (kind.build)(&arguments, services).map_err(failed)
}
