//! Workers on threads of their own between memory ports, and the outside of those ports.
//!
//! ```text
//!   outside  --a-->  worker 0: graph  --b-->  outside          packets carry sequence numbers
//!            --a-->  worker 1: graph  --b-->
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tailwater_dataplane::block::{Registry, Services, Value};
use tailwater_dataplane::frame::{Batch, Pool, Region, RegionConfig};
use tailwater_dataplane::graph::{Edge, Graph, GraphSpec, NodeSpec};
use tailwater_dataplane::ledger::Ledger;
use tailwater_dataplane::live::{Change, ChangeError, Live, Operation, Transaction};
use tailwater_dataplane::port::Port;
use tailwater_dataplane::port::memory::MemoryPort;
use tailwater_dataplane::worker::{Control, Idle, Running, Worker, WorkerConfig, WorkerReport};

/// Longest time that anything may take on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(20);
/// Packets on their way at a time, from one outside to one worker and back.
const WINDOW: u64 = 128;
const RING: u32 = 1024;
const LEN: usize = 60;

/// Workers whose graph can be changed.
pub(crate) struct Plant {
    pub(crate) live: Live,
    pub(crate) region: Arc<Region>,
    workers: Vec<Running>,
}

/// The other ends of one worker's ports `a` and `b`.
pub(crate) struct Outside {
    pub(crate) a: MemoryPort,
    pub(crate) b: MemoryPort,
    pool: Pool,
    ledger: Ledger,
    waiting: Batch,
    arrived: Batch,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    next: u64,
    /// Numbers that came out of turn, with the one expected.
    pub(crate) astray: VecDeque<(u64, u64)>,
}

/// From `a` to `b`.
pub(crate) fn wire() -> GraphSpec {
    GraphSpec::default().edge("rx:a", "tx:b")
}

pub(crate) fn edge(text: &str) -> Edge {
    text.parse().unwrap()
}

pub(crate) fn node(name: &str, kind: &str, parameters: &[(&str, i64)]) -> NodeSpec {
    let parameters = parameters.iter().map(|(key, value)| ((*key).to_owned(), Value::Integer(*value))).collect();
    NodeSpec { name: name.into(), kind: kind.into(), parameters }
}

pub(crate) fn insert(name: &str, kind: &str, parameters: &[(&str, i64)], into: &str) -> Operation {
    Operation::Insert { node: node(name, kind, parameters), edge: edge(into) }
}

pub(crate) fn extract(name: &str) -> Operation {
    Operation::Extract { name: name.into() }
}

pub(crate) fn replace(name: &str, kind: Option<&str>, drop_state: bool) -> Operation {
    Operation::Replace { name: name.into(), kind: kind.map(str::to_owned), parameters: Default::default(), drop_state }
}

impl Plant {
    pub(crate) fn start(spec: GraphSpec, workers: usize) -> (Self, Vec<Outside>) {
        Self::start_with(spec, workers, Registry::builtin(), PATIENCE)
    }

    pub(crate) fn start_with(
        spec: GraphSpec,
        workers: usize,
        registry: Registry,
        patience: Duration,
    ) -> (Self, Vec<Outside>) {
        let region = Region::in_process(RegionConfig { chunks: 16_384, huge_pages: false, ..RegionConfig::default() });
        let region = region.unwrap();
        let names = ["a".to_owned(), "b".to_owned()];
        let (mut ready, mut outsides) = (Vec::new(), Vec::new());
        for number in 0..workers {
            let (outer_a, inner_a) = MemoryPort::pair(&region, ["outer", "a"], RING);
            let (outer_b, inner_b) = MemoryPort::pair(&region, ["outer", "b"], RING);
            let mut services = Services::default();
            services.worker = number;
            let graph = Graph::build(&spec, &registry, &services, &names).unwrap();
            let ports: Vec<Box<dyn Port>> = vec![Box::new(inner_a), Box::new(inner_b)];
            let config = WorkerConfig { number, core: None, idle: Idle::Sleep };
            ready.push(Worker::new(config, ports, graph, Pool::new(Arc::clone(&region))).unwrap());
            outsides.push(Outside::new(outer_a, outer_b, Pool::new(Arc::clone(&region))));
        }
        let controls = ready.iter().map(|worker| Arc::clone(worker.control())).collect();
        let live = Live::new(spec, registry, Services::default(), names.to_vec(), controls, patience).unwrap();
        let workers = ready.into_iter().map(|worker| worker.spawn().unwrap()).collect();
        (Self { live, region, workers }, outsides)
    }

    pub(crate) fn change(&mut self, operations: impl IntoIterator<Item = Operation>) -> Result<Change, ChangeError> {
        self.live.change(&Transaction::of(operations))
    }

    /// The graph as a file would hold it.
    pub(crate) fn dump(&self) -> String {
        toml::to_string(self.live.graph().1).unwrap()
    }

    pub(crate) fn report(&self, worker: usize) -> WorkerReport {
        self.workers[worker].control.report(PATIENCE).unwrap()
    }

    /// Ways to talk to the workers.
    pub(crate) fn controls(&self) -> Vec<Arc<Control>> {
        self.workers.iter().map(|worker| Arc::clone(&worker.control)).collect()
    }

    /// Repeats a change as long as a worker that was late keeps it from happening.
    pub(crate) fn patiently(&mut self, mut change: impl FnMut(&mut Self) -> Result<Change, ChangeError>) -> Change {
        let end = Instant::now() + DEADLINE;
        loop {
            match change(self) {
                Err(error) if matches!(error.code(), "unsettled" | "unresponsive") => {
                    assert!(Instant::now() < end, "{error}");
                }
                outcome => return outcome.unwrap(),
            }
        }
    }

    /// A counter of a block, over all workers.
    pub(crate) fn counter(&self, block: &str, counter: &str) -> u64 {
        let reports = (0..self.workers.len()).map(|worker| self.report(worker));
        let blocks = reports.flat_map(|report| report.blocks).filter(|node| node.name == block);
        blocks.flat_map(|node| node.counters).filter(|(name, _)| *name == counter).map(|(_, n)| n).sum()
    }

    /// Stops everything: each worker's accounts are balanced and every frame is back.
    pub(crate) fn stop(self, outsides: Vec<Outside>) -> Vec<WorkerReport> {
        let Self { live, region, workers } = self;
        workers.iter().for_each(|worker| worker.control.stop());
        let workers: Vec<Worker> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        let mut outsides = outsides;
        outsides.iter_mut().for_each(Outside::close);
        let reports: Vec<WorkerReport> = workers.into_iter().map(Worker::close).collect();
        drop((outsides, live));
        for report in &reports {
            assert_eq!(report.imbalance(), 0, "{report:#?}");
        }
        assert_eq!(region.strayed(), 0);
        assert_eq!(region.at_home(), region.chunks(), "frames are missing: {:?}", region.missing_by_owner());
        reports
    }
}

impl Outside {
    fn new(a: MemoryPort, b: MemoryPort, pool: Pool) -> Self {
        Self {
            a,
            b,
            pool,
            ledger: Ledger::default(),
            waiting: Batch::default(),
            arrived: Batch::default(),
            sent: 0,
            received: 0,
            next: 0,
            astray: VecDeque::new(),
        }
    }

    /// Sends numbered packets as long as fewer than the window are on their way, and looks at what comes back.
    pub(crate) fn step(&mut self, sends: bool) {
        while sends && self.sent - self.received < WINDOW {
            let mut packet = [0u8; LEN];
            packet[12..14].copy_from_slice(&[0x88, 0xb5]);
            packet[14..22].copy_from_slice(&self.sent.to_be_bytes());
            let Some(frame) = self.pool.allocate_copy(&packet) else { break };
            self.waiting.push(frame);
            self.sent += 1;
        }
        self.a.transmit(&mut self.pool, &mut self.waiting);
        self.a.flush(&mut self.pool);
        self.b.receive(&mut self.pool, &mut self.ledger, &mut self.arrived, 256);
        for frame in self.arrived.drain() {
            let number = u64::from_be_bytes(frame.bytes()[14..22].try_into().unwrap());
            if number != self.next {
                self.astray.push_back((number, self.next));
            }
            self.next = number + 1;
            self.received += 1;
            self.pool.release(frame);
        }
        self.b.flush(&mut self.pool);
        std::thread::yield_now();
    }

    /// Goes on until everything sent has come back.
    pub(crate) fn settle(&mut self) {
        let end = Instant::now() + DEADLINE;
        while self.received < self.sent {
            assert!(Instant::now() < end, "{} of {} packets came back", self.received, self.sent);
            self.step(false);
        }
    }

    /// Sends a numbered packet and takes what comes out anywhere, without a look at it.
    pub(crate) fn send_numbered(&mut self) {
        let mut packet = [0u8; LEN];
        packet[12..14].copy_from_slice(&[0x88, 0xb5]);
        packet[14..22].copy_from_slice(&self.sent.to_be_bytes());
        self.waiting.extend(self.pool.allocate_copy(&packet));
        self.sent += 1;
        self.a.transmit(&mut self.pool, &mut self.waiting);
        self.take_all();
        std::thread::yield_now();
    }

    /// Sends `count` packets and takes what comes out anywhere, whatever and however much that is.
    pub(crate) fn stir(&mut self, count: usize) {
        for _ in 0..count {
            self.waiting.extend(self.pool.allocate_copy(&[0; LEN]));
        }
        self.a.transmit(&mut self.pool, &mut self.waiting);
        self.waiting.drain().for_each(|frame| self.pool.release(frame));
        self.take_all();
    }

    fn take_all(&mut self) {
        let Self { a, b, pool, ledger, arrived, .. } = self;
        for port in [a, b] {
            port.receive(pool, ledger, arrived, RING as usize);
            port.flush(pool);
            arrived.drain().for_each(|frame| pool.release(frame));
        }
    }

    fn close(&mut self) {
        self.waiting.drain().for_each(|frame| self.pool.release(frame));
        self.a.close(&mut self.pool);
        self.b.close(&mut self.pool);
    }
}
