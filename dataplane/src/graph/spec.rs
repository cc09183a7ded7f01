//! A graph as data: what a file holds and what is checked before anything runs.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::block::{Kind, PacketType, Registry, Value};

use super::GraphError;

/// Most vertices of a graph.
pub const NODES_MAX: usize = 1024;

/// Longest name of a block, in bytes.
pub const NAME_MAX: usize = 64;

/// The sink that sends each frame to the port which it names ([`Frame::port`](crate::frame::Frame::port)): for blocks
/// that choose the way out themselves.
pub const EGRESS: &str = "tx:*";

/// The source that stands for every port without an edge of its own, those that join later included.
pub const INGRESS: &str = "rx:*";

/// A vertex: a block with its parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// Unique name.
    pub name: String,
    /// Kind of block.
    pub kind: String,
    /// Parameters as given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Value>,
}

/// An edge, written `FROM[.OUTPUT] -> TO`. `rx:PORT` is a source, `rx:*` all other ports, `tx:PORT` a sink, `tx:*` the
/// sink by frame.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Edge {
    /// Vertex that packets come from.
    pub from: String,
    /// Its output; the first one if empty.
    pub output: String,
    /// Vertex that packets go to.
    pub to: String,
}

impl FromStr for Edge {
    type Err = GraphError;

    fn from_str(text: &str) -> Result<Self, GraphError> {
        let (from, to) = text.split_once("->").ok_or_else(|| GraphError::EdgeSyntax(text.into()))?;
        let (from, to) = (from.trim(), to.trim());
        let (from, output) = match from.rsplit_once('.') {
            // Interface names may hold dots (vlans); `rx:eth0.5` has no outputs.
            Some((node, output)) if !from.starts_with("rx:") => (node, output),
            _ => (from, ""),
        };
        if from.is_empty() || to.is_empty() {
            return Err(GraphError::EdgeSyntax(text.into()));
        }
        Ok(Self { from: from.into(), output: output.into(), to: to.into() })
    }
}

impl TryFrom<String> for Edge {
    type Error = GraphError;

    fn try_from(text: String) -> Result<Self, GraphError> {
        text.parse()
    }
}

impl From<Edge> for String {
    fn from(edge: Edge) -> String {
        match edge.output.as_str() {
            "" => format!("{} -> {}", edge.from, edge.to),
            output => format!("{}.{output} -> {}", edge.from, edge.to),
        }
    }
}

/// A whole graph.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphSpec {
    /// The vertices.
    #[serde(default, rename = "node")]
    pub nodes: Vec<NodeSpec>,
    /// The edges.
    #[serde(default)]
    pub edges: Vec<Edge>,
}

impl GraphSpec {
    /// Adds a vertex.
    pub fn node(mut self, name: &str, kind: &str, parameters: &[(&str, Value)]) -> Self {
        let parameters = parameters.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
        self.nodes.push(NodeSpec { name: name.into(), kind: kind.into(), parameters });
        self
    }

    /// Adds an edge, written as in a file.
    pub fn edge(mut self, from: &str, to: &str) -> Self {
        if let Ok(edge) = format!("{from} -> {to}").parse() {
            self.edges.push(edge);
        }
        self
    }

    /// Checks names, kinds, pins, types, cycles and single use of outputs against the kinds and ports there are, and
    /// returns the vertices in an order in which every edge leads forward.
    pub(super) fn check(&self, registry: &Registry, ports: &[String]) -> Result<Vec<usize>, GraphError> {
        if self.nodes.len() > NODES_MAX {
            return Err(GraphError::TooManyNodes { count: self.nodes.len() });
        }
        let mut kinds = BTreeMap::new();
        for (at, node) in self.nodes.iter().enumerate() {
            let kind = kind_of(node, registry)?;
            if !is_name(&node.name) {
                return Err(GraphError::BadName(node.name.clone()));
            }
            if kinds.insert(node.name.as_str(), (at, kind)).is_some() {
                return Err(GraphError::DuplicateName(node.name.clone()));
            }
        }
        let mut used = std::collections::BTreeSet::new();
        let mut successors = vec![Vec::new(); self.nodes.len()];
        for edge in &self.edges {
            let text = || String::from(edge.clone());
            let (from, output, carries) = match port_of(&edge.from, "rx:", ports, &text)? {
                Some(_) => (None, 0, PacketType::Ethernet),
                None => {
                    let &(at, kind) = kinds
                        .get(edge.from.as_str())
                        .ok_or_else(|| GraphError::UnknownNode { edge: text(), node: edge.from.clone() })?;
                    let output = output_of(kind, &edge.output, &text)?;
                    (Some(at), output, kind.outputs[output].carries)
                }
            };
            if !used.insert((edge.from.as_str(), output)) {
                return Err(GraphError::OutputTaken { edge: text() });
            }
            let takes = match port_of(&edge.to, "tx:", ports, &text)? {
                Some(_) => PacketType::Ethernet,
                None => {
                    let &(to, kind) = kinds
                        .get(edge.to.as_str())
                        .ok_or_else(|| GraphError::UnknownNode { edge: text(), node: edge.to.clone() })?;
                    if let Some(from) = from {
                        successors[from].push(to);
                    }
                    kind.input
                }
            };
            if !carries.fits(takes) {
                return Err(GraphError::Type { edge: text(), carries, takes });
            }
        }
        topological_order(&successors).map_err(|at| GraphError::Cycle { node: self.nodes[at].name.clone() })
    }
}

/// The kind of a vertex.
pub(crate) fn kind_of<'a>(node: &NodeSpec, registry: &'a Registry) -> Result<&'a Kind, GraphError> {
    registry.find(&node.kind).ok_or_else(|| GraphError::UnknownKind {
        node: node.name.clone(),
        kind: node.kind.clone(),
        known: registry.kinds().map(|kind| kind.name).collect::<Vec<_>>().join(", "),
    })
}

/// Whether `name` can name a block: not a port, and nothing that an edge's text could not hold.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && !name
            .contains(|c: char| matches!(c, ':' | '.' | '=' | '>' | '"' | '*') || c.is_whitespace() || c.is_control())
}

/// Index of the port behind `rx:NAME` or `tx:NAME` (none in particular for `rx:*` and `tx:*`); `None` for a block's name.
pub(super) fn port_of(
    name: &str,
    prefix: &str,
    ports: &[String],
    edge: &dyn Fn() -> String,
) -> Result<Option<usize>, GraphError> {
    let Some(port) = name.strip_prefix(prefix) else { return Ok(None) };
    if name == EGRESS || name == INGRESS {
        return Ok(Some(usize::MAX));
    }
    // A place that no port has had yet has no name.
    let named = || ports.iter().filter(|known| !known.is_empty());
    let at = ports.iter().position(|known| known == port && !port.is_empty());
    let known = || named().map(String::as_str).collect::<Vec<_>>().join(", ");
    at.map(Some).ok_or_else(|| GraphError::UnknownPort { edge: edge(), port: port.into(), known: known() })
}

/// Index of an output by name; the empty name is the first.
pub(crate) fn output_of(kind: &Kind, output: &str, edge: &dyn Fn() -> String) -> Result<usize, GraphError> {
    let at = match output {
        "" if !kind.outputs.is_empty() => Some(0),
        name => kind.outputs.iter().position(|pin| pin.name == name),
    };
    at.ok_or_else(|| GraphError::UnknownOutput {
        edge: edge(),
        output: output.into(),
        known: kind.outputs.iter().map(|pin| pin.name).collect::<Vec<_>>().join(", "),
    })
}

/// Kahn's algorithm; on a cycle, the index of a vertex on or behind it.
fn topological_order(successors: &[Vec<usize>]) -> Result<Vec<usize>, usize> {
    let mut incoming = vec![0usize; successors.len()];
    successors.iter().flatten().for_each(|&to| incoming[to] += 1);
    let mut ready: std::collections::VecDeque<usize> = (0..incoming.len()).filter(|&at| incoming[at] == 0).collect();
    let mut order = Vec::with_capacity(incoming.len());
    while let Some(at) = ready.pop_front() {
        order.push(at);
        for &to in &successors[at] {
            incoming[to] -= 1;
            if incoming[to] == 0 {
                ready.push_back(to);
            }
        }
    }
    match incoming.iter().position(|&left| left > 0) {
        Some(at) => Err(at),
        None => Ok(order),
    }
}
