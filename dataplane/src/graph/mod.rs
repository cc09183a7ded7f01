//! The packet graph of one worker: blocks in topological order, batches walking along the edges.
//!
//! ```text
//! rx:a --> ethernet --ip4--> ip4-forward --> tx:b        sources and sinks are ports,
//!              \--other--> ...                           everything between is a block
//! ```
//!
//! [`GraphSpec`] is the graph as data; [`Graph::build`] checks it and makes the blocks; [`Graph::run`] walks all pending
//! batches once. Every edge leads forward in the order, so one pass empties the graph.

mod spec;

pub use spec::{EGRESS, Edge, GraphSpec, NODES_MAX, NodeSpec};

use crate::block::{Arguments, Block, BuildError, Context, Kind, PacketType, Registry, Services};
use crate::clock;
use crate::frame::{Batch, Frame, Pool, owner};
use crate::ledger::{DropReason, Ledger};

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
    #[error("{0:?} cannot name a block (empty, or with a colon, dot or blank)")]
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

/// Where an output leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Node(usize),
    Port(usize),
    /// `tx:*`: the port that each frame names.
    Egress,
    Unbound,
}

/// What a vertex has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct NodeCounters {
    /// Packets that came in.
    pub packets: u64,
    /// Batches that came in.
    pub batches: u64,
    /// Clock cycles spent (time stamp counter).
    pub cycles: u64,
}

struct Node {
    name: String,
    kind: Kind,
    block: Box<dyn Block>,
    input: Batch,
    targets: Vec<Target>,
    counters: NodeCounters,
    owner: u16,
}

/// Borrowed from the worker for one turn.
pub struct Turn<'a> {
    /// Monotonic nanoseconds.
    pub now_ns: u64,
    /// Free frames.
    pub pool: &'a mut Pool,
    /// Drops.
    pub ledger: &'a mut Ledger,
    /// Packets made by blocks.
    pub originated: &'a mut u64,
    /// Packets that ended well in blocks.
    pub delivered: &'a mut u64,
}

/// One worker's instance of a packet graph.
pub struct Graph {
    nodes: Vec<Node>,
    polled: Vec<usize>,
    /// Where each port's received packets go.
    sources: Vec<Target>,
    /// What waits for each port's transmission.
    sinks: Vec<Batch>,
    outputs: Vec<Batch>,
    spec: GraphSpec,
}

impl Graph {
    /// Checks `spec` and builds its blocks for one worker. `ports` are the port names in index order.
    pub fn build(
        spec: &GraphSpec,
        registry: &Registry,
        services: &Services,
        ports: &[String],
    ) -> Result<Self, GraphError> {
        let order = spec.check(registry, ports)?;
        let mut place = vec![0; spec.nodes.len()];
        order.iter().enumerate().for_each(|(at, &node)| place[node] = at);
        let mut nodes = Vec::with_capacity(order.len());
        for &at in &order {
            nodes.push(build_node(&spec.nodes[at], registry, services)?);
        }
        let mut graph = Self {
            polled: (0..nodes.len()).filter(|&at| nodes[at].kind.polled).collect(),
            outputs: (0..nodes.iter().map(|node| node.targets.len()).max().unwrap_or(0))
                .map(|_| Batch::default())
                .collect(),
            nodes,
            sources: vec![Target::Unbound; ports.len()],
            sinks: ports.iter().map(|_| Batch::default()).collect(),
            spec: spec.clone(),
        };
        let position = |name: &str| spec.nodes.iter().position(|node| node.name == name).map(|node| place[node]);
        for edge in &spec.edges {
            let text = || String::from(edge.clone());
            let target = match spec::port_of(&edge.to, "tx:", ports, &text)? {
                _ if edge.to == spec::EGRESS => Target::Egress,
                Some(port) => Target::Port(port),
                None => position(&edge.to).map_or(Target::Unbound, Target::Node),
            };
            match spec::port_of(&edge.from, "rx:", ports, &text)? {
                Some(port) => graph.sources[port] = target,
                None => {
                    if let Some(at) = position(&edge.from) {
                        let output = spec::output_of(&graph.nodes[at].kind, &edge.output, &text)?;
                        graph.nodes[at].targets[output] = target;
                    }
                }
            }
        }
        Ok(graph)
    }

    /// The graph as data.
    pub fn spec(&self) -> &GraphSpec {
        &self.spec
    }

    /// Takes in what a port received.
    #[inline]
    pub fn ingest(&mut self, port: usize, batch: &mut Batch, turn: &mut Turn<'_>) {
        let target = self.sources.get(port).copied().unwrap_or(Target::Unbound);
        deliver(target, batch, &mut self.nodes, &mut self.sinks, turn);
    }

    /// Lets blocks emit what has become due, then walks every pending batch to the ports.
    #[inline]
    pub fn run(&mut self, turn: &mut Turn<'_>) {
        for polled in 0..self.polled.len() {
            self.step(self.polled[polled], turn, true);
        }
        let mut started = clock::cycles();
        for at in 0..self.nodes.len() {
            if self.nodes[at].input.is_empty() {
                continue;
            }
            self.step(at, turn, false);
            let ended = clock::cycles();
            self.nodes[at].counters.cycles += ended.wrapping_sub(started);
            started = ended;
        }
    }

    #[inline]
    fn step(&mut self, at: usize, turn: &mut Turn<'_>, poll: bool) {
        let node = &mut self.nodes[at];
        let mut batch = Batch::default();
        let mut context = Context {
            now_ns: turn.now_ns,
            pool: turn.pool,
            ledger: turn.ledger,
            originated: turn.originated,
            delivered: turn.delivered,
            outputs: &mut self.outputs[..node.targets.len()],
        };
        if poll {
            node.block.poll(&mut context);
        } else {
            std::mem::swap(&mut batch, &mut node.input);
            node.counters.packets += batch.len() as u64;
            node.counters.batches += 1;
            if cfg!(debug_assertions) {
                batch.iter_mut().for_each(|frame| frame.set_owner(node.owner));
            }
            node.block.process(&mut batch, &mut context);
        }
        for output in 0..self.nodes[at].targets.len() {
            let target = self.nodes[at].targets[output];
            // What was emitted to output 0 goes before what was left in the batch.
            if !self.outputs[output].is_empty() {
                let mut emitted = std::mem::take(&mut self.outputs[output]);
                deliver(target, &mut emitted, &mut self.nodes, &mut self.sinks, turn);
                self.outputs[output] = emitted;
            }
            if output == 0 && !batch.is_empty() {
                deliver(target, &mut batch, &mut self.nodes, &mut self.sinks, turn);
            }
        }
        // A block without outputs keeps what it wants and must have emptied the batch.
        batch.drain().for_each(|frame| {
            turn.ledger.count(DropReason::UnboundOutput);
            turn.pool.release(frame);
        });
        if !poll {
            self.nodes[at].input = batch;
        }
    }

    /// What waits for transmission on a port.
    #[inline]
    pub fn sink(&mut self, port: usize) -> Option<&mut Batch> {
        self.sinks.get_mut(port)
    }

    /// When a block has work next, without any packet arriving.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.polled.iter().filter_map(|&at| self.nodes[at].block.deadline_ns()).min()
    }

    /// Packets inside blocks.
    pub fn held(&self) -> usize {
        self.nodes.iter().map(|node| node.block.held()).sum()
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

    /// Name, kind, counters and the block's own counters of each vertex, in order.
    pub fn report(&self, mut visit: impl FnMut(usize, &str, &'static str, NodeCounters, &dyn Block)) {
        for (at, node) in self.nodes.iter().enumerate() {
            visit(at, &node.name, node.kind.name, node.counters, node.block.as_ref());
        }
    }
}

#[inline]
fn deliver(target: Target, batch: &mut Batch, nodes: &mut [Node], sinks: &mut [Batch], turn: &mut Turn<'_>) {
    match target {
        Target::Node(to) => nodes[to].input.append(batch),
        Target::Port(port) => sinks[port].append(batch),
        Target::Egress => deliver_by_frame(batch, sinks, turn),
        Target::Unbound => batch.drain().for_each(|frame| {
            turn.ledger.count(DropReason::UnboundOutput);
            turn.pool.release(frame);
        }),
    }
}

/// Sends each frame to the port it names. Batches mostly leave by one port, and then move as a whole.
#[inline]
fn deliver_by_frame(batch: &mut Batch, sinks: &mut [Batch], turn: &mut Turn<'_>) {
    let Some(port) = batch.iter().next().map(Frame::port) else { return };
    // Without a way out of the loop: it is done several frames at a time.
    if batch.iter().fold(0, |any, frame| any | (frame.port() ^ port)) == 0
        && let Some(sink) = sinks.get_mut(usize::from(port))
    {
        sink.append(batch);
        return;
    }
    for frame in batch.drain() {
        match sinks.get_mut(usize::from(frame.port())) {
            Some(sink) => sink.push(frame),
            None => {
                turn.ledger.count(DropReason::UnboundOutput);
                turn.pool.release(frame);
            }
        }
    }
}

fn build_node(spec: &NodeSpec, registry: &Registry, services: &Services) -> Result<Node, GraphError> {
    let failed = |error: BuildError| GraphError::Build { node: spec.name.clone(), error };
    let kind = registry.find(&spec.kind).ok_or_else(|| GraphError::UnknownKind {
        node: spec.name.clone(),
        kind: spec.kind.clone(),
        known: String::new(),
    })?;
    let arguments =
        Arguments::check(kind.parameters, &spec.parameters).map_err(|error| failed(BuildError::Parameter(error)))?;
    let block = (kind.build)(&arguments, services).map_err(failed)?;
    Ok(Node {
        owner: owner::number(&spec.name),
        name: spec.name.clone(),
        kind: *kind,
        block,
        input: Batch::default(),
        targets: vec![Target::Unbound; kind.outputs.len()],
        counters: NodeCounters::default(),
    })
}
