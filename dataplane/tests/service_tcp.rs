//! Two services that talk TCP to each other, each in a worker of its own, over nothing but handed-over frames: no kernel,
//! a virtual clock, and frames that are sent and kept at once.
#![allow(unsafe_code, clippy::unwrap_used, clippy::panic, reason = "a test, with an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tailwater_dataplane::block::{Registry, Services};
use tailwater_dataplane::frame::{Batch, Frame, Pool, Region, RegionConfig};
use tailwater_dataplane::graph::{Graph, Turn};
use tailwater_dataplane::ledger::Ledger;
use tailwater_dataplane::service::{Addresses, Host, Io, Service, graph};
use tailwater_stack::tcp::{CloseReason, Connect, ConnectionId};
use tailwater_stack::{Cidr, Config, InterfaceConfig, MacAddress};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts allocations of each thread.
struct Counting;

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: passed on from the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: passed on from the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const IPS: [[u8; 4]; 2] = [[192, 0, 2, 1], [192, 0, 2, 2]];

fn pattern(at: u64) -> u8 {
    (at ^ at >> 8 ^ at >> 16) as u8
}

/// What the client has got back, and how its connection ended.
#[derive(Default)]
struct Outcome {
    received: AtomicU64,
    closed: AtomicU64,
}

/// Sends so many bytes, and compares what comes back.
struct Client {
    total: u64,
    sent: u64,
    outcome: Arc<Outcome>,
}

impl Client {
    fn pump(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        while self.sent < self.total {
            let (from, len) = (self.sent, (self.total - self.sent).min(16_384) as usize);
            let fill = |at: usize, room: &mut [u8]| {
                room.iter_mut().zip(from + at as u64..).for_each(|(byte, at)| *byte = pattern(at));
            };
            let taken = io.send_with(connection, len, fill).unwrap();
            self.sent += taken as u64;
            if taken < len {
                return;
            }
        }
        io.shutdown(connection).unwrap();
    }
}

impl Service for Client {
    fn on_start(&mut self, io: &mut Io<'_, '_>) {
        io.connect(Connect::to((IPS[1], 7_000).into())).unwrap();
    }

    fn on_connected(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        self.pump(connection, io);
    }

    fn on_writable(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        self.pump(connection, io);
    }

    fn on_readable(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        while let Ok(Some(text)) = io.receive(connection) {
            let mut at = self.outcome.received.load(Ordering::Relaxed);
            for segment in text.segments() {
                assert!(segment.iter().zip(at..).all(|(&byte, at)| byte == pattern(at)), "at {at}");
                at += segment.len() as u64;
            }
            self.outcome.received.store(at, Ordering::Relaxed);
            io.release(text);
        }
    }

    fn on_closed(&mut self, _connection: ConnectionId, reason: CloseReason, _io: &mut Io<'_, '_>) {
        assert_eq!(reason, CloseReason::Finished);
        self.outcome.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends back the frames that come.
struct Echo;

impl Echo {
    fn pump(connection: ConnectionId, io: &mut Io<'_, '_>) {
        while io.send_room(connection) > 0 {
            match io.receive(connection) {
                Ok(Some(text)) => io.send_frame(connection, text).unwrap(),
                Ok(None) => return,
                Err(_) => return io.shutdown(connection).unwrap_or_default(),
            }
        }
    }
}

impl Service for Echo {
    fn on_readable(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        Self::pump(connection, io);
    }

    fn on_writable(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        Self::pump(connection, io);
    }
}

fn services<S: Service + 'static>(
    n: usize,
    mtu: usize,
    service: impl Fn(usize) -> S + Send + Sync + 'static,
) -> Services {
    let addresses = vec![Cidr::new(IPS[n], 24).unwrap()];
    let host = Host::new(service).addresses(Addresses::Own { addresses, gateways: Vec::new() });
    // Queues that do not grow any more once the first megabytes have gone through.
    let mut config = Config::default();
    config.tcp.connection.send_buffer_max = 256 << 10;
    config.tcp.connection.receive_buffer_max = 256 << 10;
    let host = host.stack_config(config).listen_tcp("0.0.0.0:7000".parse().unwrap());
    host.detached(InterfaceConfig::exclusive(MacAddress([2, 0, 0, 0, 0, n as u8 + 1]), mtu), 1).unwrap()
}

/// One worker's graph.
struct Worker {
    graph: Graph,
    pool: Pool,
    ledger: Ledger,
    received: u64,
    originated: u64,
    sent: u64,
    delivered: u64,
}

impl Worker {
    fn new(services: &Services, region: &Arc<Region>) -> Self {
        let ports = ["port".to_owned()];
        Self {
            graph: Graph::build(&graph(&ports), &Registry::builtin(), services, &ports).unwrap(),
            pool: Pool::new(Arc::clone(region)),
            ledger: Ledger::default(),
            received: 0,
            originated: 0,
            sent: 0,
            delivered: 0,
        }
    }

    /// One turn with these frames received; what leaves is in `batch` afterwards.
    fn turn(&mut self, batch: &mut Batch, now_ns: u64) {
        let Self { graph, pool, ledger, originated, delivered, .. } = self;
        self.received += batch.len() as u64;
        let mut turn = Turn { now_ns, pool, ledger, originated, delivered };
        graph.ingest(0, batch, &mut turn);
        graph.run(&mut turn);
        batch.append(graph.sink(0).unwrap());
        self.sent += batch.len() as u64;
        let ended = self.sent + self.delivered + self.ledger.total() + self.graph.held() as u64;
        assert_eq!(self.received + self.originated, ended, "{:?}", self.ledger);
    }
}

/// Echoes `total` bytes; allocations while the last quarter comes back, and the time that it took per byte and direction.
fn run(total: u64, mtu: usize) -> (u64, f64) {
    let region =
        Region::in_process(RegionConfig { chunks: 16_384, huge_pages: false, ..RegionConfig::default() }).unwrap();
    let outcome = Arc::new(Outcome::default());
    let shared = Arc::clone(&outcome);
    let client = services(0, mtu, move |_| Client { total, sent: 0, outcome: Arc::clone(&shared) });
    let mut workers = [Worker::new(&client, &region), Worker::new(&services(1, mtu, |_| Echo), &region)];
    let mut wires = [Batch::with_capacity(4_096), Batch::with_capacity(4_096)];
    let begun = std::time::Instant::now();
    let (mut now_ns, mut allocations) = (1_000_000_000, (None, None));
    while outcome.closed.load(Ordering::Relaxed) == 0 {
        for (n, worker) in workers.iter_mut().enumerate() {
            // What the other sent becomes what this one receives.
            worker.turn(&mut wires[n], now_ns);
            let [one, two] = &mut wires;
            if n == 0 { two.append(one) } else { one.append(two) }
        }
        now_ns += 50_000;
        let received = outcome.received.load(Ordering::Relaxed);
        if received >= total / 4 * 3 {
            allocations.0.get_or_insert(ALLOCATIONS.get());
        }
        if received >= total / 64 * 63 {
            allocations.1.get_or_insert(ALLOCATIONS.get());
        }
        assert!(now_ns < 600_000_000_000, "{received} of {total} in ten minutes");
    }
    let took = begun.elapsed().as_secs_f64() / total as f64 / 2.0;
    assert_eq!(outcome.received.load(Ordering::Relaxed), total);
    let allocations = allocations.1.unwrap() - allocations.0.unwrap();
    for (worker, wire) in workers.iter_mut().zip(&mut wires) {
        wire.drain().for_each(|frame: Frame| worker.pool.release(frame));
    }
    drop(workers);
    assert_eq!((region.at_home(), region.strayed()), (region.chunks(), 0));
    (allocations, took)
}

#[test]
fn every_byte_comes_back_every_frame_comes_home_and_nothing_is_allocated_on_the_way() {
    let (allocations, took) = run(16 << 20, 1_500);
    println!("{:.3} ns a byte and direction", took * 1e9);
    assert_eq!(allocations, 0, "in the last quarter");
}

#[test]
fn jumbo_segments_that_span_chunks_come_back_too() {
    run(16 << 20, 9_000);
}
