//! A checked graph with its names resolved to numbers: which block stands where, and where each output leads.

use crate::block::{Kind, Registry};

use super::{EGRESS, GraphError, GraphSpec, spec};

/// Where an output leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Node(usize),
    Port(usize),
    /// `tx:*`: the port that each frame names.
    Egress,
    Unbound,
}

/// A block's place.
#[derive(Clone, Debug)]
pub(super) struct Vertex {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Its place among the nodes of the graph as data.
    pub(super) spec: usize,
    /// By output.
    pub(super) targets: Vec<Target>,
}

/// Places in an order in which every edge leads forward.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wiring {
    pub(super) vertices: Vec<Vertex>,
    /// Where each port's received packets go.
    pub(super) sources: Vec<Target>,
}

impl Wiring {
    /// Checks `graph`; `ports` are the port names in index order.
    pub(crate) fn of(graph: &GraphSpec, registry: &Registry, ports: &[String]) -> Result<Self, GraphError> {
        let mut vertices = Vec::with_capacity(graph.nodes.len());
        for at in graph.check(registry, ports)? {
            let node = &graph.nodes[at];
            let kind = *spec::kind_of(node, registry)?;
            let targets = vec![Target::Unbound; kind.outputs.len()];
            vertices.push(Vertex { name: node.name.clone(), kind, spec: at, targets });
        }
        let mut wiring = Self { vertices, sources: vec![Target::Unbound; ports.len()] };
        for edge in &graph.edges {
            let text = || String::from(edge.clone());
            let target = match spec::port_of(&edge.to, "tx:", ports, &text)? {
                _ if edge.to == EGRESS => Target::Egress,
                Some(port) => Target::Port(port),
                None => wiring.place(&edge.to).map_or(Target::Unbound, Target::Node),
            };
            match spec::port_of(&edge.from, "rx:", ports, &text)? {
                Some(port) => wiring.sources[port] = target,
                None => {
                    if let Some(at) = wiring.place(&edge.from) {
                        let vertex = &mut wiring.vertices[at];
                        vertex.targets[spec::output_of(&vertex.kind, &edge.output, &text)?] = target;
                    }
                }
            }
        }
        Ok(wiring)
    }

    /// The place of a block by name.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.vertices.iter().position(|vertex| vertex.name == name)
    }

    /// The name of the block at a place.
    pub(crate) fn name(&self, at: usize) -> &str {
        self.vertices.get(at).map_or("", |vertex| &vertex.name)
    }

    /// The kind of the block at a place.
    pub(crate) fn kind_name(&self, at: usize) -> &'static str {
        self.vertices.get(at).map_or("", |vertex| vertex.kind.name)
    }

    /// The name of an output of the block at a place.
    pub(crate) fn output(&self, at: usize, output: usize) -> &'static str {
        self.vertices.get(at).and_then(|vertex| vertex.kind.outputs.get(output)).map_or("", |pin| pin.name)
    }

    /// How many blocks there are, and outputs of one at most.
    pub(crate) fn size(&self) -> usize {
        self.vertices.len() + self.outputs_max()
    }

    /// Whether the same names stand in the same places.
    pub(crate) fn same_order(&self, other: &Self) -> bool {
        let names = |wiring: &'_ Self| wiring.vertices.iter().map(|vertex| vertex.name.clone()).collect::<Vec<_>>();
        names(self) == names(other)
    }

    /// Most outputs of a block.
    pub(super) fn outputs_max(&self) -> usize {
        self.vertices.iter().map(|vertex| vertex.targets.len()).max().unwrap_or(0)
    }
}
