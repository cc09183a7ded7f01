//! A checked graph with its names resolved to numbers: which block stands where, and where each output leads.

use crate::block::{Kind, Registry};

use super::{EGRESS, GraphError, GraphSpec, INGRESS, spec};

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
        let mut others = Target::Unbound;
        let mut own_edge = vec![false; ports.len()];
        for edge in &graph.edges {
            let text = || String::from(edge.clone());
            let target = match spec::port_of(&edge.to, "tx:", ports, &text)? {
                _ if edge.to == EGRESS => Target::Egress,
                Some(port) => Target::Port(port),
                None => wiring.place(&edge.to).map_or(Target::Unbound, Target::Node),
            };
            match spec::port_of(&edge.from, "rx:", ports, &text)? {
                _ if edge.from == INGRESS => others = target,
                Some(port) => {
                    wiring.sources[port] = target;
                    own_edge[port] = true;
                }
                None => {
                    if let Some(at) = wiring.place(&edge.from) {
                        let vertex = &mut wiring.vertices[at];
                        vertex.targets[spec::output_of(&vertex.kind, &edge.output, &text)?] = target;
                    }
                }
            }
        }
        let left = wiring.sources.iter_mut().zip(own_edge).filter(|(_, own_edge)| !own_edge);
        left.for_each(|(source, _)| *source = others);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn wiring(edges: &[&str]) -> Result<Wiring, GraphError> {
        let mut graph = GraphSpec::default().node("count", "counter", &[]);
        graph.edges = edges.iter().map(|edge| edge.parse().unwrap()).collect();
        // The last place has had no port yet.
        Wiring::of(&graph, &Registry::builtin(), &["a".into(), "b".into(), String::new()])
    }

    #[test]
    fn all_other_ports_are_those_without_an_edge_of_their_own_and_those_to_come() {
        for edges in [["rx:a -> tx:b", "rx:* -> count"], ["rx:* -> count", "rx:a -> tx:b"]] {
            assert_eq!(wiring(&edges).unwrap().sources, [Target::Port(1), Target::Node(0), Target::Node(0)]);
        }
        assert_eq!(wiring(&["rx:a -> count"]).unwrap().sources, [Target::Node(0), Target::Unbound, Target::Unbound]);
        assert!(matches!(wiring(&["rx:* -> count", "rx:* -> tx:a"]), Err(GraphError::OutputTaken { .. })));
    }

    #[test]
    fn a_place_that_no_port_has_had_cannot_be_named() {
        for edge in ["rx: -> count", "count -> tx:", "rx:c -> count"] {
            let error = wiring(&[edge]).map(drop).unwrap_err();
            assert!(matches!(&error, GraphError::UnknownPort { known, .. } if known == "a, b"), "{edge}: {error}");
        }
    }
}
