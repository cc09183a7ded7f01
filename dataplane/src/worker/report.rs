//! What a worker can tell about itself, as plain data.

use super::{Tally, WorkerConfig};
use crate::frame::Pool;
use crate::graph::{BatchSizes, Graph, NodeCounters, NodeView};
use crate::port::{Capabilities, Port, PortCounters, QueueCounters};

/// Name under which reports sum the ports that have left.
pub const DEPARTED: &str = "(departed)";

/// A port as one worker sees it.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct PortReport {
    /// Interface name.
    pub name: String,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What it counted.
    pub counters: PortCounters,
    /// The part of each receive queue, where the device has queues.
    pub queues: Vec<QueueCounters>,
}

/// A block of one worker's graph.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct NodeReport {
    /// Name in the graph.
    pub name: String,
    /// Kind of block.
    pub kind: &'static str,
    /// Packets, batches and cycles.
    #[serde(flatten)]
    pub work: NodeCounters,
    /// Packets that went out, by output.
    pub sent: Vec<(&'static str, u64)>,
    /// The block's own counters.
    pub counters: Vec<(&'static str, u64)>,
}

/// Everything that a worker counts. Counters only grow.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct WorkerReport {
    /// Number of the worker.
    pub worker: usize,
    /// Core that it is pinned to.
    pub core: Option<usize>,
    /// Turns taken.
    pub turns: u64,
    /// Turns that found nothing.
    pub empty_turns: u64,
    /// Times it went to sleep.
    pub sleeps: u64,
    /// Times it took note, by a system call, that somebody had woken it.
    pub wake_ups: u64,
    /// Times it let the kernel receive in its own time.
    pub busy_polls: u64,
    /// Times it gave the core to whoever else wanted it.
    pub yields: u64,
    /// Nanoseconds in turns that moved packets.
    pub busy_ns: u64,
    /// Packets that found no room in a transmit ring and were kept for the next turn: text of our own TCP.
    pub kept_back: u64,
    /// Packets in received batches.
    pub batched: u64,
    /// Received batches by size.
    pub batch_sizes: BatchSizes,
    /// Ports in index order; last, under the name [`DEPARTED`], the sum of those that have left.
    pub ports: Vec<PortReport>,
    /// Blocks in graph order.
    pub blocks: Vec<NodeReport>,
    /// Discarded packets by reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// Packets that blocks made.
    pub originated: u64,
    /// Packets that ended well inside blocks.
    pub delivered: u64,
    /// Packets inside blocks now.
    pub held: u64,
    /// Free frames in the worker's pool.
    pub free_frames: u64,
}

impl WorkerReport {
    /// Packets in minus packets out, over all places where packets are counted: 0 when nothing was lost silently.
    pub fn imbalance(&self) -> i64 {
        let received: u64 = self.ports.iter().map(|port| port.counters.rx_packets).sum();
        let sent: u64 = self.ports.iter().map(|port| port.counters.tx_packets).sum();
        let dropped: u64 = self.dropped.iter().map(|(_, n)| n).sum();
        (received + self.originated) as i64 - (sent + self.delivered + dropped + self.held) as i64
    }
}

/// Brings `report` up to date, reusing its memory.
pub(super) fn fill(
    report: &mut WorkerReport,
    config: &WorkerConfig,
    ports: &[Box<dyn Port>],
    graph: &Graph,
    pool: &Pool,
    tally: &Tally,
) {
    let Tally {
        ledger,
        originated,
        delivered,
        turns,
        empty_turns,
        sleeps,
        wake_ups,
        busy_polls,
        yields,
        busy_ns,
        kept_back,
        batched,
        batch_sizes,
        departed,
    } = tally;
    report.worker = config.number;
    report.core = config.core;
    report.turns = *turns;
    report.empty_turns = *empty_turns;
    report.sleeps = *sleeps;
    report.wake_ups = *wake_ups;
    report.busy_polls = *busy_polls;
    report.yields = *yields;
    report.busy_ns = *busy_ns;
    report.kept_back = *kept_back;
    report.batched = *batched;
    report.batch_sizes = *batch_sizes;
    report.originated = *originated;
    report.delivered = *delivered;
    report.held = graph.held() as u64;
    report.free_frames = pool.cached() as u64;
    report.dropped.clear();
    report.dropped.extend(ledger.entries());
    let present = ports.iter().filter(|port| !port.name().is_empty());
    let anything_departed = *departed != PortCounters::default();
    report.ports.resize_with(present.clone().count() + usize::from(anything_departed), PortReport::default);
    for (slot, port) in report.ports.iter_mut().zip(present) {
        slot.name.clear();
        slot.name.push_str(port.name());
        slot.capabilities.clone_from(port.capabilities());
        slot.counters = port.counters();
        slot.queues.clear();
        port.queues(&mut |queue| slot.queues.push(queue));
    }
    if anything_departed && let Some(slot) = report.ports.last_mut() {
        slot.name.clear();
        slot.name.push_str(DEPARTED);
        slot.capabilities = Capabilities::default();
        slot.counters = *departed;
        slot.queues.clear();
    }
    let mut blocks = 0;
    graph.report(|at, NodeView { name, kind, work, sent, block }| {
        blocks = at + 1;
        if report.blocks.len() <= at {
            report.blocks.resize_with(at + 1, NodeReport::default);
        }
        let slot = &mut report.blocks[at];
        slot.name.clear();
        slot.name.push_str(name);
        (slot.kind, slot.work) = (kind.name, work);
        slot.sent.clear();
        slot.sent.extend(kind.outputs.iter().map(|pin| pin.name).zip(sent.iter().copied()));
        slot.counters.clear();
        block.counters(&mut |name, n| slot.counters.push((name, n)));
    });
    report.blocks.truncate(blocks);
}
