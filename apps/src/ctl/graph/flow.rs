//! What flows along each edge of a graph.

use std::collections::BTreeMap;

use serde::Serialize;
use tailwater_dataplane::graph::EGRESS;

use crate::control::{Dump, KindInfo};
use crate::snapshot::{Block, Counts, Snapshot, ratio};
use crate::top::scaled;
use crate::window::Window;

/// Where packets go that leave by an output which leads nowhere.
pub(super) const NOWHERE: &str = "nowhere";

/// A graph with rates.
#[derive(Debug, Serialize)]
pub(super) struct Flow {
    /// Version of the graph.
    pub(super) version: u64,
    /// Length of the time over which rates were taken.
    pub(super) secs: f64,
    pub(super) ports: Vec<String>,
    pub(super) blocks: Vec<BlockFlow>,
    pub(super) edges: Vec<EdgeFlow>,
}

/// A block and its work, of all workers together.
#[derive(Debug, Serialize)]
pub(super) struct BlockFlow {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) in_pps: f64,
    pub(super) cycles_per_packet: Option<f64>,
    pub(super) packets_per_batch: Option<f64>,
    /// Part of all cycles, 0 to 1.
    pub(super) share: f64,
}

/// An edge and what flows along it.
#[derive(Debug, Serialize)]
pub(super) struct EdgeFlow {
    pub(super) from: String,
    /// Name of the output; empty for a port's.
    pub(super) output: String,
    pub(super) to: String,
    /// Packets per second; unknown in the moment after a change.
    pub(super) pps: Option<f64>,
}

impl EdgeFlow {
    /// `FROM.OUTPUT`, or `rx:PORT`.
    pub(super) fn source(&self) -> String {
        if self.output.is_empty() { self.from.clone() } else { format!("{}.{}", self.from, self.output) }
    }

    /// The rate for people.
    pub(super) fn rate(&self) -> String {
        self.pps.map_or("-".to_owned(), scaled)
    }
}

impl Flow {
    /// The flow along the edges of `dump` in a window of time.
    pub(super) fn of(dump: &Dump, kinds: &[KindInfo], window: &Window) -> Self {
        let work = joined(&window.delta);
        let ports = port_counters(&window.delta);
        let cycles = work.values().map(|block| block.cycles).sum();
        let blocks = dump.graph.nodes.iter().map(|node| {
            let nothing = Block::default();
            let block = work.get(node.name.as_str()).unwrap_or(&nothing);
            BlockFlow {
                name: node.name.clone(),
                kind: node.kind.clone(),
                in_pps: window.rate(block.packets),
                cycles_per_packet: ratio(block.cycles, block.packets),
                packets_per_batch: ratio(block.packets, block.batches),
                share: ratio(block.cycles, cycles).unwrap_or(0.0),
            }
        });
        let mut flow = Self {
            version: dump.version,
            secs: window.secs,
            ports: dump.ports.clone(),
            blocks: blocks.collect(),
            edges: Vec::new(),
        };
        for edge in &dump.graph.edges {
            let output = output_name(edge.from.as_str(), &edge.output, dump, kinds);
            let n = match edge.from.strip_prefix("rx:") {
                Some(port) => ports.get(port).map(|counters| count(counters, "rx_packets")),
                None => work.get(edge.from.as_str()).and_then(|block| block.sent.get(&output).copied()),
            };
            let pps = n.map(|n| window.rate(n));
            flow.edges.push(EdgeFlow { from: edge.from.clone(), output, to: edge.to.clone(), pps });
        }
        flow.add_egress(&ports, window);
        flow.add_losses(&work, window);
        flow
    }

    /// From `tx:*` to each port, what does not come by an edge of its own.
    fn add_egress(&mut self, ports: &BTreeMap<String, Counts>, window: &Window) {
        if !self.edges.iter().any(|edge| edge.to == EGRESS) {
            return;
        }
        for port in &self.ports {
            let to = format!("tx:{port}");
            let sent = ports.get(port).map(|counters| window.rate(count(counters, "tx_packets")));
            let direct: f64 = self.edges.iter().filter(|edge| edge.to == to).filter_map(|edge| edge.pps).sum();
            let pps = sent.map(|sent| (sent - direct).max(0.0));
            self.edges.push(EdgeFlow { from: EGRESS.to_owned(), output: String::new(), to, pps });
        }
    }

    /// Outputs that lead nowhere, where something comes out of them.
    fn add_losses(&mut self, work: &BTreeMap<String, Block>, window: &Window) {
        for (name, block) in work {
            for (output, &n) in &block.sent {
                let is_bound = self.edges.iter().any(|edge| edge.from == *name && edge.output == *output);
                if n > 0 && !is_bound && self.blocks.iter().any(|block| block.name == *name) {
                    let (from, output, to) = (name.clone(), output.clone(), NOWHERE.to_owned());
                    self.edges.push(EdgeFlow { from, output, to, pps: Some(window.rate(n)) });
                }
            }
        }
    }
}

/// The output that an edge means: an empty name is the first of the kind.
fn output_name(from: &str, output: &str, dump: &Dump, kinds: &[KindInfo]) -> String {
    if !output.is_empty() || from.starts_with("rx:") {
        return output.to_owned();
    }
    let kind = dump.graph.nodes.iter().find(|node| node.name == from).map(|node| &node.kind);
    let kind = kinds.iter().find(|known| Some(&known.name) == kind);
    kind.and_then(|kind| kind.outputs.first()).cloned().unwrap_or_default()
}

fn count(counters: &Counts, key: &str) -> u64 {
    counters.get(key).copied().unwrap_or(0)
}

/// Blocks by name, all workers' instances in one.
fn joined(snapshot: &Snapshot) -> BTreeMap<String, Block> {
    let mut blocks: BTreeMap<String, Block> = BTreeMap::new();
    for block in snapshot.workers.iter().flat_map(|worker| &worker.blocks) {
        blocks.entry(block.name.clone()).and_modify(|known| known.join(block)).or_insert_with(|| block.clone());
    }
    blocks
}

fn port_counters(snapshot: &Snapshot) -> BTreeMap<String, Counts> {
    snapshot.port_counters().into_iter().collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::snapshot::sample;
    use tailwater_dataplane::block::Registry;
    use tailwater_dataplane::graph::GraphSpec;

    pub(in crate::ctl::graph) fn flow() -> Flow {
        let graph = GraphSpec::default()
            .node("count", "counter", &[])
            .node("route", "ip-forward", &[])
            .node("a \"b\"", "counter", &[])
            .edge("rx:d0", "count")
            .edge("count", "route")
            .edge("rx:d1", "route")
            .edge("route.out", "tx:*")
            .edge("route.host", "a \"b\"");
        let dump = Dump { version: 3, ports: vec!["d0".into(), "d1".into()], graph };
        let kinds: Vec<KindInfo> = Registry::builtin().kinds().map(KindInfo::of).collect();
        Flow::of(&dump, &kinds, &sample::window())
    }

    fn pps(flow: &Flow, edge: &str) -> Option<f64> {
        let found = flow.edges.iter().find(|known| format!("{} -> {}", known.source(), known.to) == edge);
        found.unwrap_or_else(|| panic!("no edge {edge} in {flow:#?}")).pps
    }

    #[test]
    fn edges_carry_what_their_source_sent() {
        let flow = flow();
        assert_eq!(pps(&flow, "rx:d0 -> count"), Some(1_200_000.0));
        assert_eq!(pps(&flow, "count.out -> route"), Some(1_080_000.0), "the first output has a name");
        assert_eq!(pps(&flow, "route.out -> tx:*"), Some(2_160_000.0));
        assert_eq!(pps(&flow, "tx:* -> tx:d1"), Some(1_080_000.0));
        assert_eq!(pps(&flow, "route.host -> a \"b\""), None, "it has not run yet");
        assert_eq!(flow.blocks[1].cycles_per_packet, Some(82.0));
    }

    #[test]
    fn packets_that_leave_by_an_unbound_output_are_seen() {
        let graph = GraphSpec::default().node("count", "counter", &[]).edge("rx:d0", "count");
        let dump = Dump { version: 1, ports: vec!["d0".into()], graph };
        let flow = Flow::of(&dump, &[], &sample::window());
        assert_eq!(pps(&flow, "count.out -> nowhere"), Some(1_080_000.0));
    }
}
