//! Listing the connections of a worker that has many: two hosts, each in a worker of its own, joined by memory ports.
//!
//! `TAILWATER_FULL=1` makes it a hundred thousand.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tailwater_dataplane::block::{Registry, Services};
use tailwater_dataplane::frame::{Pool, Region, RegionConfig};
use tailwater_dataplane::graph::Graph;
use tailwater_dataplane::port::Port;
use tailwater_dataplane::port::memory::MemoryPort;
use tailwater_dataplane::service::{
    Addresses, Census, CensusError, CensusFilter, CensusPage, CensusQuery, Host, Io, Service, graph,
};
use tailwater_dataplane::worker::{Control, Idle, Running, Worker, WorkerConfig};
use tailwater_stack::tcp::{CloseReason, Connect, ConnectionId, State};
use tailwater_stack::{Cidr, Config, InterfaceConfig, MacAddress};

const IPS: [[u8; 4]; 2] = [[192, 0, 2, 1], [192, 0, 2, 2]];
const FIRST_PORT: u16 = 7_000;
/// Of which each takes some thousand connections: a client has 16384 ports for each.
const PORTS: u16 = 16;
/// Handshakes under way at a time.
const OPENING_MAX: usize = 64;
const DEADLINE: Duration = Duration::from_secs(120);

/// Opens so many connections and leaves them alone.
struct Opener {
    wanted: usize,
    opened: usize,
    connected: Arc<AtomicUsize>,
}

impl Opener {
    fn open(&mut self, io: &mut Io<'_, '_>) {
        while self.opened < self.wanted && self.opened - self.connected.load(Ordering::Relaxed) < OPENING_MAX {
            let port = FIRST_PORT + (self.opened % usize::from(PORTS)) as u16;
            io.connect(Connect::to((IPS[1], port).into())).unwrap();
            self.opened += 1;
        }
    }
}

impl Service for Opener {
    fn on_start(&mut self, io: &mut Io<'_, '_>) {
        self.open(io);
    }

    fn on_connected(&mut self, _connection: ConnectionId, io: &mut Io<'_, '_>) {
        self.connected.fetch_add(1, Ordering::Relaxed);
        self.open(io);
    }

    fn on_closed(&mut self, _connection: ConnectionId, reason: CloseReason, _io: &mut Io<'_, '_>) {
        panic!("{reason:?}");
    }
}

/// Accepts, and nothing else.
struct Silent;

impl Service for Silent {}

/// A host in a worker.
struct End {
    running: Running,
    census: Arc<Census>,
}

fn end<S: Service + 'static>(
    n: usize,
    port: MemoryPort,
    region: &Arc<Region>,
    service: impl Fn() -> S + Send + Sync + 'static,
) -> End {
    let mut config = Config::default();
    config.tcp.connections_max = 200_000;
    let addresses = Addresses::Own { addresses: vec![Cidr::new(IPS[n], 24).unwrap()], gateways: Vec::new() };
    let host = Host::new(move |_worker| service()).addresses(addresses).stack_config(config);
    let any = |port: u16| SocketAddr::from(([0, 0, 0, 0], port));
    let host = (FIRST_PORT..FIRST_PORT + PORTS).fold(host, |host, port| host.listen_tcp(any(port)));
    let mac = MacAddress([2, 0, 0, 0, 0, n as u8 + 1]);
    let services: Services = host.detached(InterfaceConfig::exclusive(mac, 1_500), 1).unwrap();
    let names = ["port".to_owned()];
    let graph = Graph::build(&graph(&names), &Registry::builtin(), &services, &names).unwrap();
    let ports: Vec<Box<dyn Port>> = vec![Box::new(port)];
    let config = WorkerConfig { number: 0, core: None, idle: Idle::Sleep };
    let worker = Worker::new(config, ports, graph, Pool::new(Arc::clone(region))).unwrap();
    End { running: worker.spawn().unwrap(), census: services.find().unwrap() }
}

/// Every page of the list.
fn pages(census: &Census, controls: &[Arc<Control>], limit: usize, filter: CensusFilter) -> Vec<CensusPage> {
    let (mut pages, mut from): (Vec<CensusPage>, _) = (Vec::new(), Some(0));
    while let Some(at) = from {
        let page = census.page(controls, CensusQuery { worker: 0, from: at, limit, filter }).unwrap();
        assert!(page.connections.len() <= limit);
        from = page.next;
        pages.push(page);
    }
    pages
}

#[test]
fn a_list_of_many_connections_has_each_of_them_once_and_filters_in_the_worker() {
    let wanted = if std::env::var_os("TAILWATER_FULL").is_some() { 100_000 } else { 10_000 };
    let region =
        Region::in_process(RegionConfig { chunks: 16_384, huge_pages: false, ..RegionConfig::default() }).unwrap();
    let (left, right) = MemoryPort::pair(&region, ["left", "right"], 4_096);
    let server = end(1, right, &region, || Silent);
    let connected = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&connected);
    let client = end(0, left, &region, move || Opener { wanted, opened: 0, connected: Arc::clone(&shared) });
    let until = Instant::now() + DEADLINE;
    while connected.load(Ordering::Relaxed) < wanted {
        assert!(Instant::now() < until, "{connected:?} of {wanted} connected");
        std::thread::sleep(Duration::from_millis(5));
    }
    let controls = [Arc::clone(&server.running.control)];
    let began = Instant::now();
    let all = pages(&server.census, &controls, 1_000, CensusFilter::default());
    println!("{wanted} connections listed in {:?}", began.elapsed());
    let remotes: HashSet<SocketAddr> = all.iter().flat_map(|page| &page.connections).map(|one| one.remote).collect();
    let listed: usize = all.iter().map(|page| page.connections.len()).sum();
    // Two connections of one client port go to different ports of the server.
    assert!(listed == wanted && remotes.len() > wanted / usize::from(PORTS), "{listed}, {}", remotes.len());
    assert_eq!(all[0].listeners.len(), usize::from(PORTS));
    assert!(all[1..].iter().all(|page| page.listeners.is_empty()));
    let one_port = CensusFilter { port: Some(FIRST_PORT), ipv4: Some(true), ..CensusFilter::default() };
    let of_one = pages(&server.census, &controls, 100, one_port);
    let of_one: Vec<_> = of_one.iter().flat_map(|page| &page.connections).collect();
    assert!(of_one.iter().all(|one| one.local.port() == FIRST_PORT || one.remote.port() == FIRST_PORT));
    assert_eq!(of_one.len(), wanted / usize::from(PORTS));
    let closing = CensusFilter { states: CensusFilter::state(State::FinWait1), ..CensusFilter::default() };
    assert_eq!(pages(&server.census, &controls, 100, closing).last().unwrap().connections.len(), 0);
    let only_listeners = pages(&server.census, &controls, 0, CensusFilter::default());
    assert_eq!((only_listeners.len(), only_listeners[0].listeners.len()), (1, usize::from(PORTS)));
    let nobody = server.census.page(&controls, CensusQuery { worker: 1, ..CensusQuery::default() });
    assert_eq!(nobody.unwrap_err(), CensusError::NoWorker(1));
    for End { running, .. } in [client, server] {
        running.control.stop();
        running.join().unwrap().close();
    }
}
