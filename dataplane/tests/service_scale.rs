//! Many idle connections of workers: what each costs of the process's memory, with the tables of the service around the stack.
//!
//! `TAILWATER_TCP_CONNECTIONS=1000000 cargo test --release -p tailwater-dataplane --test service_scale -- --nocapture` has a
//! million: half of them at each of two workers, joined by memory ports.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tailwater_dataplane::block::Registry;
use tailwater_dataplane::frame::{Pool, Region, RegionConfig};
use tailwater_dataplane::graph::Graph;
use tailwater_dataplane::port::memory::MemoryPort;
use tailwater_dataplane::service::{Addresses, Host, Io, Service, graph};
use tailwater_dataplane::worker::{Idle, Worker, WorkerConfig};
use tailwater_stack::tcp::{CloseReason, Connect, ConnectionId};
use tailwater_stack::{Cidr, Config, InterfaceConfig, MacAddress};

/// Ports that are connected to, so that there are local ones enough.
const PORTS: usize = 100;
/// Handshakes at the same time.
const OPENED: usize = 32;
/// Opened before memory is looked at: what a process takes once.
const FIRST: usize = 1_000;
/// Bytes that one may take. The stack has 1,024 (`tcp_scale`), and allocators and pages round up.
const EACH_MAX: usize = 1_536;

#[derive(Default)]
struct Counts {
    wanted: AtomicUsize,
    connected: AtomicUsize,
    accepted: AtomicUsize,
}

struct End {
    counts: Arc<Counts>,
    opened: usize,
    under_way: usize,
}

impl End {
    fn new(counts: &Arc<Counts>) -> Self {
        Self { counts: Arc::clone(counts), opened: 0, under_way: 0 }
    }
}

impl Service for End {
    fn deadline_ns(&self) -> Option<u64> {
        let wants = self.opened < self.counts.wanted.load(Ordering::Relaxed) && self.under_way < OPENED;
        wants.then_some(0)
    }

    fn on_deadline(&mut self, io: &mut Io<'_, '_>) {
        while self.deadline_ns().is_some() {
            let to: SocketAddr = ([192, 0, 2, 2], 7_000 + (self.opened % PORTS) as u16).into();
            io.connect(Connect::to(to)).unwrap();
            self.opened += 1;
            self.under_way += 1;
        }
    }

    fn on_connected(&mut self, _: ConnectionId, _: &mut Io<'_, '_>) {
        self.under_way -= 1;
        self.counts.connected.fetch_add(1, Ordering::Relaxed);
    }

    fn on_accepted(&mut self, _: ConnectionId, _: SocketAddr, _: &mut Io<'_, '_>) {
        self.counts.accepted.fetch_add(1, Ordering::Relaxed);
    }

    fn on_closed(&mut self, _: ConnectionId, reason: CloseReason, _: &mut Io<'_, '_>) {
        panic!("{reason:?}");
    }
}

fn worker(n: u8, end: End, port: MemoryPort, region: &Arc<Region>, connections: usize) -> Worker {
    let end = std::sync::Mutex::new(Some(end));
    let addresses = vec![Cidr::new([192, 0, 2, n], 24).unwrap()];
    let host = Host::new(move |_| end.lock().unwrap().take().unwrap());
    let host = host.addresses(Addresses::Own { addresses, gateways: Vec::new() });
    let mut config = Config::default();
    config.tcp.connections_max = connections;
    let listening = (0..PORTS as u16).filter(|_| n == 2).map(|at| ([0, 0, 0, 0], 7_000 + at).into());
    let host = listening.fold(host.stack_config(config), Host::listen_tcp);
    let interface = InterfaceConfig::exclusive(MacAddress([2, 0, 0, 0, 0, n]), 1_500);
    let (services, names) = (host.detached(interface, 1).unwrap(), ["port".to_owned()]);
    let graph = Graph::build(&graph(&names), &Registry::builtin(), &services, &names).unwrap();
    let config = WorkerConfig { number: 0, core: None, idle: Idle::Spin };
    Worker::new(config, vec![Box::new(port)], graph, Pool::new(Arc::clone(region))).unwrap()
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()).unwrap();
    kilobytes.parse::<usize>().unwrap() << 10
}

#[test]
fn idle_connections_of_workers_cost_little_of_the_processs_memory() {
    let wanted: usize = std::env::var("TAILWATER_TCP_CONNECTIONS").map_or(20_000, |n| n.parse().unwrap());
    let pairs = wanted / 2;
    assert!(pairs > FIRST, "TAILWATER_TCP_CONNECTIONS is above {}", 2 * FIRST);
    let region = RegionConfig { chunks: 4_096, huge_pages: false, ..RegionConfig::default() };
    let region = Region::in_process(region).unwrap();
    let (near, far) = MemoryPort::pair(&region, ["port", "port"], 1_024);
    let [near_counts, far_counts] = [(); 2].map(|()| Arc::new(Counts::default()));
    let mut workers = [
        worker(1, End::new(&near_counts), near, &region, pairs),
        worker(2, End::new(&far_counts), far, &region, pairs),
    ];
    let mut now_ns = 1_000_000_000;
    let mut open = |connections: usize| {
        near_counts.wanted.store(connections, Ordering::Relaxed);
        let end_ns = now_ns + 600_000_000_000;
        let open = || near_counts.connected.load(Ordering::Relaxed).min(far_counts.accepted.load(Ordering::Relaxed));
        while open() < connections {
            workers.iter_mut().for_each(|worker| _ = worker.turn(now_ns));
            now_ns += 10_000;
            assert!(now_ns < end_ns, "{} of {connections}", open());
        }
        resident()
    };
    let before = open(FIRST);
    let each = open(pairs).saturating_sub(before) / (2 * (pairs - FIRST));
    println!("{wanted} connections of two workers: {each} bytes of memory each");
    assert!(each <= EACH_MAX, "{each} bytes a connection");
    workers.into_iter().for_each(|worker| _ = worker.close());
    assert_eq!((region.at_home(), region.strayed()), (region.chunks(), 0));
}
