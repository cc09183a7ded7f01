//! Thousands of connections through a transmit ring that holds next to nothing, on a virtual clock: nothing is lost, nobody is
//! left behind.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tailwater_dataplane::block::{Registry, Services};
use tailwater_dataplane::frame::{Batch, Pool, Region, RegionConfig};
use tailwater_dataplane::graph::{Graph, GraphSpec};
use tailwater_dataplane::ledger::Ledger;
use tailwater_dataplane::port::memory::MemoryPort;
use tailwater_dataplane::port::{Capabilities, Port, PortCounters};
use tailwater_dataplane::service::{Addresses, Host, Io, Service, graph};
use tailwater_dataplane::worker::{Idle, Worker, WorkerConfig, WorkerReport};
use tailwater_stack::checksum::Sum;
use tailwater_stack::tcp::{CloseReason, Connect, ConnectionId};
use tailwater_stack::{Cidr, Config, InterfaceConfig, MacAddress};

const IPS: [[u8; 4]; 2] = [[192, 0, 2, 1], [192, 0, 2, 2]];
/// Bytes of an answer: some trains of segments, more than an initial window.
const ANSWER: usize = 40_000;
/// Connections that are opened at once: their SYNs are no text, and may be lost where there is no room.
const OPENED: usize = 8;
const RING: u32 = 64;

fn pattern(at: usize) -> u8 {
    (at ^ at >> 8) as u8
}

/// Answers received, by connection.
#[derive(Default)]
struct Outcome {
    received: Mutex<HashMap<ConnectionId, usize>>,
    answers: AtomicU64,
}

impl Outcome {
    /// Answers of the connection that has the fewest, and of the one that has most.
    fn range(&self) -> (usize, usize) {
        let received = self.received.lock().unwrap();
        let answers = received.values().map(|bytes| bytes / ANSWER);
        (answers.clone().min().unwrap_or(0), answers.max().unwrap_or(0))
    }
}

/// Connects so many times, and asks on each again and again as soon as all are there.
struct Client {
    connections: usize,
    opened: usize,
    asking: bool,
    connected: Vec<ConnectionId>,
    outcome: Arc<Outcome>,
}

impl Client {
    fn new(connections: usize, outcome: Arc<Outcome>) -> Self {
        Self { connections, opened: 0, asking: false, connected: Vec::new(), outcome }
    }

    fn open(&mut self, io: &mut Io<'_, '_>) {
        if self.opened < self.connections {
            self.opened += 1;
            io.connect(Connect::to((IPS[1], 7_000).into())).unwrap();
        }
    }
}

impl Service for Client {
    fn on_start(&mut self, io: &mut Io<'_, '_>) {
        (0..OPENED).for_each(|_| self.open(io));
    }

    fn on_connected(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        self.connected.push(connection);
        self.open(io);
    }

    /// The first question of each, when all have connected: all at once.
    fn deadline_ns(&self) -> Option<u64> {
        (!self.asking && self.connected.len() == self.connections).then_some(0)
    }

    fn on_deadline(&mut self, io: &mut Io<'_, '_>) {
        self.asking = true;
        for &connection in &self.connected {
            assert_eq!(io.send(connection, b"?"), Ok(1));
            self.outcome.received.lock().unwrap().insert(connection, 0);
        }
    }

    fn on_readable(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        let outcome = Arc::clone(&self.outcome);
        let mut received = outcome.received.lock().unwrap();
        let at = received.get_mut(&connection).unwrap();
        while let Ok(Some(text)) = io.receive(connection) {
            for segment in text.segments() {
                assert!(segment.iter().zip(*at..).all(|(&byte, at)| byte == pattern(at % ANSWER)), "at {at}");
                *at += segment.len();
            }
            io.release(text);
            if at.is_multiple_of(ANSWER) {
                outcome.answers.fetch_add(1, Ordering::Relaxed);
                assert_eq!(io.send(connection, b"?"), Ok(1));
            }
        }
    }

    fn on_closed(&mut self, _connection: ConnectionId, reason: CloseReason, _io: &mut Io<'_, '_>) {
        panic!("{reason:?}");
    }
}

/// Gives each question its answer.
#[derive(Default)]
struct Server {
    /// Bytes of answers that have yet to be written.
    due: HashMap<ConnectionId, usize>,
}

impl Server {
    fn go_on(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        let due = self.due.entry(connection).or_default();
        let from = ANSWER - *due;
        *due -= io
            .send_with(connection, *due, |at, room| {
                room.iter_mut().zip(from + at..).for_each(|(byte, at)| *byte = pattern(at));
            })
            .unwrap();
    }
}

impl Service for Server {
    fn on_readable(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        while let Ok(Some(question)) = io.receive(connection) {
            io.release(question);
            self.due.insert(connection, ANSWER);
        }
        self.go_on(connection, io);
    }

    fn on_writable(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        self.go_on(connection, io);
    }
}

/// A port that claims to have room, and takes little: as where the kernel's queue is full.
struct Reluctant {
    inner: MemoryPort,
    /// Packets that it takes at a time.
    takes: usize,
}

impl Port for Reluctant {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn set_number(&mut self, number: u16) {
        self.inner.set_number(number);
    }

    fn receive(&mut self, pool: &mut Pool, ledger: &mut Ledger, batch: &mut Batch, max: usize) -> usize {
        self.inner.receive(pool, ledger, batch, max)
    }

    fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        let mut some = Batch::default();
        some.extend(batch.drain_front(self.takes));
        let taken = self.inner.transmit(pool, &mut some);
        some.append(batch);
        std::mem::swap(&mut some, batch);
        taken
    }

    fn flush(&mut self, pool: &mut Pool) {
        self.inner.flush(pool);
    }

    fn counters(&self) -> PortCounters {
        self.inner.counters()
    }

    fn close(&mut self, pool: &mut Pool) {
        self.inner.close(pool);
    }
}

/// A port that claims to complete checksums; nothing leaves by it.
struct Completing {
    inner: MemoryPort,
    capabilities: Capabilities,
}

impl Port for Completing {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn set_number(&mut self, number: u16) {
        self.inner.set_number(number);
    }

    fn receive(&mut self, pool: &mut Pool, ledger: &mut Ledger, batch: &mut Batch, max: usize) -> usize {
        self.inner.receive(pool, ledger, batch, max)
    }

    fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        self.inner.transmit(pool, batch)
    }

    fn flush(&mut self, pool: &mut Pool) {
        self.inner.flush(pool);
    }

    fn counters(&self) -> PortCounters {
        self.inner.counters()
    }

    fn close(&mut self, pool: &mut Pool) {
        self.inner.close(pool);
    }
}

fn services<S: Service + 'static>(n: usize, service: impl Fn(usize) -> S + Send + Sync + 'static) -> Services {
    let addresses = vec![Cidr::new(IPS[n], 24).unwrap()];
    let host = Host::new(service).addresses(Addresses::Own { addresses, gateways: Vec::new() });
    let mut config = Config::default();
    config.tcp.connection.nagle = false;
    let host = host.stack_config(config).listen_tcp("0.0.0.0:7000".parse().unwrap());
    host.detached(InterfaceConfig::exclusive(MacAddress([2, 0, 0, 0, 0, n as u8 + 1]), 1_500), 1).unwrap()
}

fn worker(number: usize, services: &Services, port: Box<dyn Port>, region: &Arc<Region>) -> Worker {
    let names = [port.name().to_owned()];
    let graph = Graph::build(&graph(&names), &Registry::builtin(), services, &names).unwrap();
    let config = WorkerConfig { number, core: None, idle: Idle::Spin };
    Worker::new(config, vec![port], graph, Pool::new(Arc::clone(region))).unwrap()
}

fn counter(report: &WorkerReport, name: &str) -> u64 {
    report.blocks.iter().flat_map(|block| &block.counters).find(|(known, _)| *known == name).unwrap().1
}

/// Turns of both until `answers` were received; the client's and the server's reports, and who got how many.
fn run(connections: usize, answers: u64, reluctant: bool) -> ([WorkerReport; 2], (usize, usize)) {
    let region =
        Region::in_process(RegionConfig { chunks: 65_536, huge_pages: false, ..RegionConfig::default() }).unwrap();
    let outcome = Arc::new(Outcome::default());
    let shared = Arc::clone(&outcome);
    let (near, far) = MemoryPort::pair(&region, ["near", "far"], RING);
    let far: Box<dyn Port> = if reluctant { Box::new(Reluctant { inner: far, takes: 5 }) } else { Box::new(far) };
    let client = services(0, move |_| Client::new(connections, Arc::clone(&shared)));
    let server = services(1, |_| Server::default());
    let mut workers = [worker(0, &client, Box::new(near), &region), worker(1, &server, far, &region)];
    let mut now_ns = 1_000_000_000;
    while outcome.answers.load(Ordering::Relaxed) < answers {
        workers.iter_mut().for_each(|worker| _ = worker.turn(now_ns));
        now_ns += 10_000;
        assert!(now_ns < 3_600_000_000_000, "{:?} of {answers} answers in an hour", outcome.answers);
    }
    let reports = workers.map(Worker::close);
    assert_eq!((region.at_home(), region.strayed()), (region.chunks(), 0));
    (reports, outcome.range())
}

#[test]
fn two_thousand_connections_share_a_small_ring_and_none_loses_a_segment_or_falls_behind() {
    let ([client, server], (fewest, most)) = run(2_000, 5_000, false);
    let resent = [&client, &server].map(|report| counter(report, "tcp_segments_resent"));
    assert_eq!((resent, server.kept_back), ([0, 0], 0));
    let lost = [&client, &server].map(|report| report.dropped.iter().any(|(reason, _)| *reason == "tx_ring_full"));
    assert_eq!(lost, [false, false], "{:?} {:?}", client.dropped, server.dropped);
    assert!(counter(&server, "tcp_room_waits") > 1_000);
    assert!(most - fewest <= 1, "{fewest} to {most} answers");
}

#[test]
fn text_that_a_port_leaves_waits_for_it_in_order() {
    let ([client, server], (fewest, _)) = run(100, 300, true);
    assert_eq!([&client, &server].map(|report| counter(report, "tcp_segments_resent")), [0, 0]);
    assert!(server.kept_back > 1_000, "{} of text, {:?}", server.kept_back, server.dropped);
    assert!(fewest > 0);
}

fn tcp_sum_is_valid(packet: &[u8]) -> bool {
    let address = |at: usize| std::net::Ipv4Addr::from_octets(*packet[at..].first_chunk().unwrap());
    Sum::pseudo_v4(address(26), address(30), 6, packet.len() - 34).with(&packet[34..]).is_valid()
}

/// Moves what has come to `from` on to `to`; their number, all with whole sums.
fn pass_on(from: &mut MemoryPort, to: &mut MemoryPort, pool: &mut Pool) -> usize {
    let mut batch = Batch::default();
    let came = from.receive(pool, &mut Ledger::default(), &mut batch, 64);
    for frame in batch.iter() {
        let packet: Vec<u8> = frame.segments().flatten().copied().collect();
        assert!(packet[12..14] != [8, 0] || tcp_sum_is_valid(&packet), "{} bytes", packet.len());
    }
    assert_eq!(to.transmit(pool, &mut batch), came);
    came
}

/// The server's stack knows of its first port, which completes sums; all that it sends leaves by the second, which does not.
#[test]
fn sums_are_left_undone_only_for_the_port_that_a_fixed_edge_leads_to() {
    let region =
        Region::in_process(RegionConfig { chunks: 4_096, huge_pages: false, ..RegionConfig::default() }).unwrap();
    let outcome = Arc::new(Outcome::default());
    let shared = Arc::clone(&outcome);
    let client = services(0, move |_| Client::new(1, Arc::clone(&shared)));
    let server = services(1, |_| Server::default());
    let [(near, mut client_end), (known, mut known_end), (way_out, mut out_end)] =
        ["near", "known", "out"].map(|name| MemoryPort::pair(&region, [name, "end"], RING));
    let capabilities = Capabilities { segmentation: true, ..known.capabilities().clone() };
    let known = Completing { inner: known, capabilities };
    let names = ["known".to_owned(), "out".to_owned()];
    let spec = GraphSpec::default().node("stack", "stack", &[]).edge("rx:known", "stack").edge("stack", "tx:out");
    let graph = Graph::build(&spec, &Registry::builtin(), &server, &names).unwrap();
    let config = WorkerConfig { number: 1, core: None, idle: Idle::Spin };
    let ports: Vec<Box<dyn Port>> = vec![Box::new(known), Box::new(way_out)];
    let server = Worker::new(config, ports, graph, Pool::new(Arc::clone(&region))).unwrap();
    let mut workers = [worker(0, &client, Box::new(near), &region), server];
    let (mut pool, mut now_ns, mut passed) = (Pool::new(Arc::clone(&region)), 1_000_000_000, 0);
    while outcome.answers.load(Ordering::Relaxed) < 10 {
        workers.iter_mut().for_each(|worker| _ = worker.turn(now_ns));
        pass_on(&mut client_end, &mut known_end, &mut pool);
        passed += pass_on(&mut out_end, &mut client_end, &mut pool);
        now_ns += 10_000;
        assert!(now_ns < 60_000_000_000, "{:?} answers in a minute", outcome.answers);
    }
    assert!(passed > 10 * ANSWER / 1_460, "{passed} segments");
    workers.into_iter().for_each(|worker| _ = worker.close());
    [client_end, known_end, out_end].iter_mut().for_each(|port| port.close(&mut pool));
    drop(pool);
    assert_eq!((region.at_home(), region.strayed()), (region.chunks(), 0));
}
