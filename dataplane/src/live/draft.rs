//! Operations applied to a copy of the running graph.

use std::collections::BTreeMap;

use crate::block::{Arguments, Kind, Registry, Value};
use crate::graph::{Edge, GraphError, GraphSpec, NodeSpec, is_name, kind_of};

use super::error::{ChangeError, similar};
use super::operation::{OPERATIONS_MAX, Operation};

/// Where a block of the draft comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The running block of this name, whose parameters may have changed.
    Running,
    /// A new block in the place of the running one of this name.
    Replaced(StateWish),
    /// New.
    New,
}

/// What is to become of a replaced block's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StateWish {
    Keep,
    KeepIfItFits,
    Drop,
}

/// A graph in the making. Between two operations it need not be sound.
pub(super) struct Draft<'a> {
    registry: &'a Registry,
    nodes: Vec<(NodeSpec, Origin)>,
    edges: Vec<Edge>,
}

impl<'a> Draft<'a> {
    pub(super) fn of(running: &GraphSpec, registry: &'a Registry) -> Self {
        let nodes = running.nodes.iter().map(|node| (node.clone(), Origin::Running)).collect();
        Self { registry, nodes, edges: running.edges.clone() }
    }

    /// Applies operations in order, up to the first that cannot be.
    pub(super) fn apply_all(&mut self, operations: &[Operation]) -> Result<(), ChangeError> {
        if operations.len() > OPERATIONS_MAX {
            return Err(ChangeError::TooMany { count: operations.len() });
        }
        for (at, operation) in operations.iter().enumerate() {
            self.apply(operation).map_err(|error| match operations.len() {
                1 => error,
                _ => ChangeError::Operation { number: at + 1, error: Box::new(error) },
            })?;
        }
        Ok(())
    }

    /// The graph, with the origin of each of its nodes.
    pub(super) fn finish(self) -> (GraphSpec, Vec<Origin>) {
        let (nodes, origins) = self.nodes.into_iter().unzip();
        (GraphSpec { nodes, edges: self.edges }, origins)
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), ChangeError> {
        match operation {
            Operation::Add { node } => self.add(node),
            Operation::Rm { name } => self.rm(name),
            Operation::Set { name, key, value } => self.set(name, key, value),
            Operation::Bind { edge } => self.bind(edge),
            Operation::Unbind { edge } => self.find_edge(edge).map(|at| drop(self.edges.remove(at))),
            Operation::Replace { name, kind, parameters, drop_state } => {
                self.replace(name, kind.as_deref(), parameters, *drop_state)
            }
            Operation::Insert { node, edge } => self.insert(node, edge),
            Operation::Extract { name } => self.extract(name),
            Operation::Apply { graph } => self.become_graph(graph),
        }
    }

    fn add(&mut self, node: &NodeSpec) -> Result<(), ChangeError> {
        if !is_name(&node.name) {
            return Err(GraphError::BadName(node.name.clone()).into());
        }
        if self.nodes.iter().any(|(known, _)| known.name == node.name) {
            return Err(ChangeError::NameTaken { name: node.name.clone() });
        }
        let node = self.checked(node)?;
        self.nodes.push((node, Origin::New));
        Ok(())
    }

    fn rm(&mut self, name: &str) -> Result<(), ChangeError> {
        let at = self.find(name)?;
        let edges: Vec<String> =
            self.touching(name).map(|edge| format!("\"{}\"", String::from(edge.clone()))).collect();
        if !edges.is_empty() {
            return Err(ChangeError::InUse { name: name.to_owned(), edges: edges.join(", ") });
        }
        self.nodes.remove(at);
        Ok(())
    }

    fn set(&mut self, name: &str, key: &str, value: &Value) -> Result<(), ChangeError> {
        let at = self.find(name)?;
        let mut node = self.nodes[at].0.clone();
        node.parameters.insert(key.to_owned(), value.clone());
        self.nodes[at].0 = self.checked(&node)?;
        Ok(())
    }

    fn bind(&mut self, edge: &Edge) -> Result<(), ChangeError> {
        if self.edges.iter().any(|known| self.same(known, edge)) {
            return Err(ChangeError::EdgeExists { edge: String::from(edge.clone()) });
        }
        self.edges.push(edge.clone());
        Ok(())
    }

    fn replace(
        &mut self,
        name: &str,
        kind: Option<&str>,
        parameters: &BTreeMap<String, Value>,
        drop_state: bool,
    ) -> Result<(), ChangeError> {
        let at = self.find(name)?;
        let (old, origin) = &self.nodes[at];
        let mut node = old.clone();
        if let Some(kind) = kind.filter(|&kind| kind != old.kind) {
            node.kind = kind.to_owned();
            node.parameters.clear();
        }
        node.parameters.extend(parameters.iter().map(|(key, value)| (key.clone(), value.clone())));
        let origin = match *origin {
            Origin::New => Origin::New,
            // What is dropped once does not come back with the next replace.
            Origin::Replaced(StateWish::Drop) => *origin,
            _ => Origin::Replaced(if drop_state { StateWish::Drop } else { StateWish::Keep }),
        };
        self.nodes[at] = (self.checked(&node)?, origin);
        Ok(())
    }

    fn insert(&mut self, node: &NodeSpec, edge: &Edge) -> Result<(), ChangeError> {
        let at = self.find_edge(edge)?;
        self.add(node)?;
        let behind = std::mem::replace(&mut self.edges[at].to, node.name.clone());
        self.edges.insert(at + 1, Edge { from: node.name.clone(), output: String::new(), to: behind });
        Ok(())
    }

    fn extract(&mut self, name: &str) -> Result<(), ChangeError> {
        let at = self.find(name)?;
        let not_in_line = |why: String| ChangeError::NotInLine { name: name.to_owned(), why };
        let outgoing: Vec<&Edge> = self.edges.iter().filter(|edge| edge.from == name).collect();
        let behind = match outgoing.as_slice() {
            [] => return Err(not_in_line("it leads nowhere".into())),
            [edge] if self.output(edge) == self.first_output(name) => edge.to.clone(),
            [edge] => return Err(not_in_line(format!("its first output leads nowhere, but {:?} does", edge.output))),
            edges => return Err(not_in_line(format!("{} of its outputs lead somewhere", edges.len()))),
        };
        if !self.edges.iter().any(|edge| edge.to == name) {
            return Err(not_in_line("nothing leads to it".into()));
        }
        self.edges.retain(|edge| edge.from != name);
        self.edges.iter_mut().filter(|edge| edge.to == name).for_each(|edge| edge.to.clone_from(&behind));
        self.nodes.remove(at);
        Ok(())
    }

    fn become_graph(&mut self, graph: &GraphSpec) -> Result<(), ChangeError> {
        let mut nodes = Vec::with_capacity(graph.nodes.len());
        for node in &graph.nodes {
            let node = self.checked(node)?;
            let known = self.nodes.iter().find(|(known, _)| known.name == node.name);
            let origin = match known {
                None | Some((_, Origin::New)) => Origin::New,
                Some((old, origin)) if old.kind == node.kind && self.can_live_on(old, &node)? => *origin,
                Some(_) => Origin::Replaced(StateWish::KeepIfItFits),
            };
            nodes.push((node, origin));
        }
        self.nodes = nodes;
        self.edges.clone_from(&graph.edges);
        Ok(())
    }

    /// Whether a running block can get from the one's parameters to the other's.
    fn can_live_on(&self, old: &NodeSpec, new: &NodeSpec) -> Result<bool, ChangeError> {
        let kind = self.kind(new)?;
        let [before, after] = [arguments(kind, old)?, arguments(kind, new)?];
        Ok(after.differences(&before).all(|key| kind.is_live(key)))
    }

    fn find(&self, name: &str) -> Result<usize, ChangeError> {
        self.nodes.iter().position(|(node, _)| node.name == name).ok_or_else(|| ChangeError::UnknownBlock {
            name: name.to_owned(),
            similar: similar(name, self.nodes.iter().map(|(node, _)| node.name.as_str())),
        })
    }

    fn find_edge(&self, wanted: &Edge) -> Result<usize, ChangeError> {
        self.edges.iter().position(|edge| self.same(edge, wanted)).ok_or_else(|| {
            let edges: Vec<String> = self.edges.iter().map(|edge| String::from(edge.clone())).collect();
            let edge = String::from(wanted.clone());
            let similar = similar(&edge, edges.iter().map(String::as_str));
            ChangeError::UnknownEdge { edge, similar: similar.into_iter().map(|edge| format!("{edge:?}")).collect() }
        })
    }

    fn touching<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'b Edge> {
        self.edges.iter().filter(move |edge| edge.from == name || edge.to == name)
    }

    /// Edges are the same if they join the same things, whether or not the first output is named.
    fn same(&self, one: &Edge, other: &Edge) -> bool {
        one.from == other.from && one.to == other.to && self.output(one) == self.output(other)
    }

    fn output<'b>(&'b self, edge: &'b Edge) -> &'b str {
        if edge.output.is_empty() { self.first_output(&edge.from) } else { &edge.output }
    }

    fn first_output(&self, name: &str) -> &str {
        let node = self.nodes.iter().find(|(node, _)| node.name == name);
        let kind = node.and_then(|(node, _)| self.registry.find(&node.kind));
        kind.and_then(|kind| kind.outputs.first()).map_or("", |pin| pin.name)
    }

    fn kind(&self, node: &NodeSpec) -> Result<&'a Kind, ChangeError> {
        kind_of(node, self.registry).map_err(|_| ChangeError::UnknownKind {
            kind: node.kind.clone(),
            similar: similar(&node.kind, self.registry.kinds().map(|kind| kind.name)),
        })
    }

    /// The node with its parameters checked, and brought into their proper types.
    fn checked(&self, node: &NodeSpec) -> Result<NodeSpec, ChangeError> {
        let arguments = arguments(self.kind(node)?, node)?;
        let mut node = node.clone();
        for (key, value) in &mut node.parameters {
            if let Some(checked) = arguments.value(key) {
                value.clone_from(checked);
            }
        }
        Ok(node)
    }
}

/// All parameters of a node.
pub(super) fn arguments(kind: &Kind, node: &NodeSpec) -> Result<Arguments, ChangeError> {
    Arguments::check(kind.parameters, &node.parameters)
        .map_err(|error| ChangeError::Parameter { name: node.name.clone(), error })
}
