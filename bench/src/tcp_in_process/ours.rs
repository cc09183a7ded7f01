//! Our hosts.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result};
use tailwater_dataplane::block::Registry;
use tailwater_dataplane::frame::{Pool, Region, RegionConfig};
use tailwater_dataplane::graph::Graph;
use tailwater_dataplane::port::Port;
use tailwater_dataplane::port::memory::MemoryPort;
use tailwater_dataplane::service::{self, Addresses, Host, Io, Service};
use tailwater_dataplane::worker::{Idle, Worker, WorkerConfig};
use tailwater_stack::tcp::{Connect, ConnectionId};
use tailwater_stack::{Cidr, Config, InterfaceConfig, MacAddress};

use super::{Exchange, Load, MESSAGE, Pair, WRITE, pattern, warm_up};

const RING: u32 = 2048;
const CHUNKS: usize = 16_384;
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PORT: u16 = 7;
/// The stack takes 0 for never.
const START_NS: u64 = 1_000_000_000;

/// A client and a server of ours.
pub struct Ours {
    client: Worker,
    server: Worker,
    done: Arc<AtomicU64>,
    connected: Arc<AtomicUsize>,
    started: Instant,
}

impl Ours {
    /// Connects them, and warms up.
    pub fn new(exchange: Exchange) -> Result<Self> {
        let Exchange { load, mtu, connections } = exchange;
        // As the runtime chooses it.
        let chunk_len = if mtu > 1_700 { 4_096 } else { 2_048 };
        let region = Region::in_process(RegionConfig { chunks: CHUNKS, chunk_len, ..RegionConfig::default() })?;
        let (near, far) = MemoryPort::pair(&region, ["wire", "wire"], RING);
        let done = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&done);
        let connected = Arc::new(AtomicUsize::new(0));
        let shown = Arc::clone(&connected);
        let client = move |_| Client::new(load, connections, Tally::shown_in(&counter), Arc::clone(&shown));
        let client = Host::new(client);
        let counter = Arc::clone(&done);
        let server = Host::new(move |_| Server { load, done: Tally::shown_in(&counter) });
        let server = server.listen_tcp(SocketAddr::new(SERVER.into(), PORT));
        let mut pair = Self {
            client: worker(client, 1, near, &region, &exchange)?,
            server: worker(server, 2, far, &region, &exchange)?,
            done,
            connected,
            started: Instant::now(),
        };
        warm_up(&mut pair, &exchange)?;
        Ok(pair)
    }
}

impl Ours {
    fn now_ns(&self) -> u64 {
        START_NS + self.started.elapsed().as_nanos() as u64
    }
}

impl Pair for Ours {
    fn pass(&mut self) {
        self.client.turn(self.now_ns());
        self.server.turn(self.now_ns());
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }
}

fn worker<S: Service + 'static>(
    host: Host<S>,
    number: u8,
    port: MemoryPort,
    region: &Arc<Region>,
    exchange: &Exchange,
) -> Result<Worker> {
    let address = Cidr::new([10, 0, 0, number], 24).ok().context("a prefix of 24 bits fits")?;
    let mut stack = Config::default();
    stack.tcp.connection.nagle = false;
    let buffer = exchange.buffer() as u32;
    stack.tcp.connection.send_buffer_max = buffer;
    stack.tcp.connection.receive_buffer = buffer;
    stack.tcp.connection.receive_buffer_max = buffer;
    let host = host.stack_config(stack).addresses(Addresses::Own { addresses: vec![address], gateways: Vec::new() });
    let interface = InterfaceConfig::exclusive(MacAddress([2, 0, 0, 0, 0, number]), exchange.mtu);
    let services = host.detached(interface, 1)?;
    let names = ["wire".to_owned()];
    let graph = Graph::build(&service::graph(&names), &Registry::builtin(), &services, &names)?;
    let config = WorkerConfig { number: 0, core: None, idle: Idle::Spin };
    let ports: Vec<Box<dyn Port>> = vec![Box::new(port)];
    Ok(Worker::new(config, ports, graph, Pool::new(Arc::clone(region)))?)
}

/// Counts for itself, as smoltcp's hosts do, and shows it.
struct Tally {
    count: u64,
    shown: Arc<AtomicU64>,
}

impl Tally {
    fn shown_in(counter: &Arc<AtomicU64>) -> Self {
        Self { count: 0, shown: Arc::clone(counter) }
    }

    fn add(&mut self, n: u64) {
        self.count += n;
        self.shown.store(self.count, Ordering::Relaxed);
    }
}

struct Client {
    load: Load,
    pattern: Vec<u8>,
    /// By place: bytes of the response that are there.
    answered: Vec<usize>,
    connections: usize,
    connected: Arc<AtomicUsize>,
    done: Tally,
}

impl Client {
    fn new(load: Load, connections: usize, done: Tally, connected: Arc<AtomicUsize>) -> Self {
        Self { load, pattern: pattern(), answered: Vec::new(), connections, connected, done }
    }

    fn connect(&self, io: &mut Io<'_, '_>) {
        // A refusal shows: nothing is transferred then.
        let _ = io.connect(Connect::to(SocketAddr::new(SERVER.into(), PORT)));
    }

    fn fill(&self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        // Ends when the send buffer is full.
        while io.send(connection, &self.pattern).is_ok_and(|sent| sent == WRITE) {}
    }

    fn request(&self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        // A request fits: nothing else is on its way.
        let _ = io.send(connection, &self.pattern[..MESSAGE]);
    }
}

impl Service for Client {
    fn on_start(&mut self, io: &mut Io<'_, '_>) {
        self.connect(io);
    }

    fn on_connected(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        self.answered.resize(self.answered.len().max(connection.place() + 1), 0);
        let connected = 1 + self.connected.fetch_add(1, Ordering::Relaxed);
        // One after the other: a handshake each turn, beside those that have begun.
        if connected < self.connections {
            self.connect(io);
        }
        match self.load {
            Load::Bulk => self.fill(connection, io),
            Load::Requests => self.request(connection, io),
        }
    }

    fn on_writable(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        if self.load == Load::Bulk {
            self.fill(connection, io);
        }
    }

    fn on_readable(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        let Some(answered) = self.answered.get_mut(connection.place()) else { return };
        while let Ok(Some(text)) = io.receive(connection) {
            *answered += text.total_len();
            io.release(text);
        }
        if *answered >= MESSAGE {
            *answered = 0;
            self.done.add(1);
            self.request(connection, io);
        }
    }
}

struct Server {
    load: Load,
    done: Tally,
}

impl Service for Server {
    fn on_readable(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        while let Ok(Some(text)) = io.receive(connection) {
            match self.load {
                Load::Bulk => {
                    self.done.add(text.total_len() as u64);
                    io.release(text);
                }
                Load::Requests => {
                    if let Err((_, Some(text))) = io.send_frame(connection, text) {
                        io.release(text);
                    }
                }
            }
        }
    }
}
