//! Many connections in one process: what each costs in memory, and that neither the table nor the timers slow down.
//!
//! No clock decides a close call here: a segment among all connections may cost [`COST_RATIO_MAX`] times what it costs among ten,
//! where going through all of them would cost hundreds of times as much.
//!
//! `TAILWATER_TCP_CONNECTIONS=1000000 cargo test --release -p tailwater-stack --test tcp_scale -- --nocapture` opens a million
//! and prints the cost per segment from ten connections up: for ten of them again and again, which is what finding a connection
//! and its timer costs among so many, and for a thousand spread over all, which adds the way to memory that no cache holds.
#![allow(unsafe_code, clippy::unwrap_used, clippy::panic, reason = "a test, with an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tailwater_stack::tcp::{ConnectionId, Listen, State, TcpEvent};
use tailwater_stack::testing::{TestEnv, VecBuffer, mac};
use tailwater_stack::wire::tcp::{TcpSend, flag};
use tailwater_stack::{Cidr, Config, InterfaceConfig, InterfaceId, Stack, checksum};

/// Bytes allocated and not freed.
static LIVE: AtomicUsize = AtomicUsize::new(0);
/// One test at a time, since they all count what is allocated.
static TURN: Mutex<()> = Mutex::new(());

struct Counting;

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: passed on from the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: passed on from the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const OURS: [u8; 4] = [10, 0, 0, 1];
/// Each has 64,000 ports.
const PEERS: usize = 16;
/// Caches hold ten connections and not thousands; nothing else may cost more among many.
const COST_RATIO_MAX: u32 = 20;
/// Rounds of each measure, of which the least counts: others have the processor, too.
const ROUNDS: usize = 5;

fn wanted() -> usize {
    std::env::var("TAILWATER_TCP_CONNECTIONS").map_or(20_000, |n| n.parse().unwrap())
}

fn assert_flat(about: &str, among_ten: Duration, among_all: Duration) {
    assert!(among_all <= among_ten * COST_RATIO_MAX, "{about}: {among_ten:?} among ten, {among_all:?} among all");
}

struct World {
    stack: Stack<VecBuffer>,
    env: TestEnv,
}

impl World {
    fn new(connections_max: usize) -> Self {
        let mut config = Config::default();
        config.tcp.connections_max = connections_max;
        let mut stack = Stack::new(config, 1);
        let port = stack.add_interface(InterfaceConfig::exclusive(mac(1), 1500));
        stack.add_address(port, Cidr::new(OURS, 8).unwrap()).unwrap();
        let how = Listen { backlog_max: usize::MAX, ..Listen::default() };
        stack.tcp_listen("0.0.0.0:80".parse().unwrap(), how).unwrap();
        let mut env = TestEnv::default();
        env.advance(Duration::from_secs(1));
        for n in 0..PEERS as u8 {
            assert!(stack.set_neighbour(port, Ipv4Addr::new(10, 1, 0, n).into(), mac(2), &mut env));
        }
        Self { stack, env }
    }

    fn get(&mut self, n: usize, seq: u32, ack: u32, flags: u8, text: &[u8]) {
        let frame = frame(n, seq, ack, flags, text);
        let _ = self.stack.ingest(InterfaceId(0), VecBuffer::from_bytes(&frame), &mut self.env);
    }

    /// Opens connection `n`; our first number in it.
    fn open(&mut self, n: usize) -> u32 {
        self.accept(n).0
    }

    fn accept(&mut self, n: usize) -> (u32, ConnectionId) {
        self.get(n, 999, 0, flag::SYN, b"");
        let answer = self.env.sent().unwrap();
        let first = u32::from_be_bytes(answer[38..42].try_into().unwrap()).wrapping_add(1);
        self.get(n, 1_000, first, flag::ACK, b"");
        match self.stack.tcp_poll() {
            Some(TcpEvent::Accepted { connection, .. }) => (first, connection),
            other => panic!("connection {n}: {other:?}"),
        }
    }

    /// What was sent and told is of no interest.
    fn forget(&mut self) {
        self.env.transmitted.clear();
        self.env.discarded.clear();
        while self.stack.tcp_poll().is_some() {}
    }

    /// Acknowledges what is sent on connection `n`, until `len` bytes have come.
    fn take(&mut self, n: usize, first: u32, len: usize) {
        const HEADERS: usize = 14 + 20 + 20;
        let mut taken = 0;
        while taken < len {
            let before = taken;
            while let Some(frame) = self.env.sent() {
                taken += frame.len() - HEADERS;
            }
            assert!(taken > before, "connection {n} is stuck at {taken} of {len}");
            self.get(n, 1_000, first.wrapping_add(taken as u32), flag::ACK, b"");
        }
    }
}

/// From peer and port by number.
fn frame(n: usize, seq: u32, ack: u32, flags: u8, text: &[u8]) -> Vec<u8> {
    let peer = [10, 1, 0, (n % PEERS) as u8];
    let header = TcpSend {
        source_port: (n / PEERS + 1_024) as u16,
        destination_port: 80,
        seq,
        ack,
        flags,
        window: 65_535,
        options_len: 0,
    }
    .header();
    let mut segment = Vec::from(zerocopy_bytes(&header));
    segment.extend_from_slice(text);
    let sum = checksum::Sum::pseudo_v4(peer.into(), OURS.into(), 6, segment.len()).with(&segment).checksum();
    segment[16..18].copy_from_slice(&sum);
    let len = (20 + segment.len()) as u16;
    let mut ip = [&[0x45, 0][..], &len.to_be_bytes(), &[0, 0, 0x40, 0, 64, 6, 0, 0], &peer, &OURS].concat();
    let sum = checksum::of(&ip);
    ip[10..12].copy_from_slice(&sum);
    [&mac(1).0[..], &mac(2).0, &[8, 0], &ip, &segment].concat()
}

fn zerocopy_bytes(header: &tailwater_stack::wire::tcp::TcpHeader) -> &[u8] {
    zerocopy::IntoBytes::as_bytes(header)
}

#[test]
fn connections_in_time_wait_have_given_back_the_memory_of_their_windows() {
    const CONNECTIONS: usize = 500;
    const SENT: usize = 40_000;
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut world = World::new(CONNECTIONS);
    let before = LIVE.load(Ordering::Relaxed);
    for n in 0..CONNECTIONS {
        let (first, id) = world.accept(n);
        assert_eq!(world.stack.tcp_send(id, &[7; SENT], &mut world.env), Ok(SENT));
        world.take(n, first, SENT);
        world.stack.tcp_shutdown(id, &mut world.env).unwrap();
        world.get(n, 1_000, first.wrapping_add(SENT as u32 + 1), flag::ACK | flag::FIN, b"");
        while world.env.sent().is_some() || world.stack.tcp_poll().is_some() {}
        assert_eq!(world.stack.tcp_snapshot(id, world.env.now).unwrap().state, State::TimeWait);
    }
    let each = (LIVE.load(Ordering::Relaxed) - before) / CONNECTIONS;
    assert!(each <= 2_048, "{each} bytes a connection");
}

#[test]
fn idle_connections_cost_little_memory_and_no_timer() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = wanted();
    let mut world = World::new(wanted);
    let mut among_ten = None;
    let mut firsts = Vec::with_capacity(wanted);
    let before = LIVE.load(Ordering::Relaxed);
    println!("per segment and its acknowledgement: ten connections again and again; a thousand all over");
    for n in 0..wanted {
        firsts.push(world.open(n));
        if is_power_of_ten(n + 1) || n + 1 == wanted {
            let ten: Vec<usize> = (0..1_000).map(|at| n - at % 10).collect();
            let all: Vec<usize> = (0..1_000).map(|at| at * 7_919 % (n + 1)).collect();
            let [same, spread] = [ten, all].map(|picked| cost(&mut world, &firsts, &picked));
            println!("{:>8} connections: {same:?}, {spread:?}", n + 1);
            let [ten_same, ten_spread] = *among_ten.get_or_insert([same, spread]);
            assert_flat("a segment of the same ten", ten_same, same);
            assert_flat("a segment of any", ten_spread, spread);
        }
    }
    let each = (LIVE.load(Ordering::Relaxed) - before) / wanted;
    println!("{each} bytes a connection");
    // With CUBIC, the tables, what they have in reserve, and four bytes of the test's own.
    assert!(each <= 1_024, "{each} bytes a connection");
    // Acknowledgements that were delayed have left by now; nothing else is due.
    world.env.advance(Duration::from_secs(60));
    world.stack.on_timeout(&mut world.env);
    world.stack.on_timeout(&mut world.env);
    assert_eq!(world.stack.poll_timeout(), None);
    assert_eq!(world.stack.held(), 0);
}

fn is_power_of_ten(n: usize) -> bool {
    n >= 10 && 10_usize.pow(n.ilog10()) == n
}

/// Least time of several for a segment to each of these connections.
fn cost(world: &mut World, firsts: &[u32], picked: &[usize]) -> Duration {
    (0..ROUNDS).map(|_| cost_once(world, firsts, picked)).min().unwrap()
}

fn cost_once(world: &mut World, firsts: &[u32], picked: &[usize]) -> Duration {
    // A keep-alive probe: each is answered by an acknowledgement, and leaves nothing behind. Probes of one connection are
    // answered once in a while only, so each round of ten comes at a time of its own.
    let frames: Vec<_> = picked.iter().map(|&n| frame(n, 999, firsts[n], flag::ACK, b"")).collect();
    let buffers: Vec<_> = frames.iter().map(|frame| VecBuffer::from_bytes(frame)).collect();
    let mut took = Duration::ZERO;
    let mut buffers = buffers.into_iter().peekable();
    while buffers.peek().is_some() {
        world.env.advance(Duration::from_secs(1));
        let round: Vec<_> = buffers.by_ref().take(10).collect();
        let begun = Instant::now();
        for buffer in round {
            let _ = world.stack.ingest(InterfaceId(0), buffer, &mut world.env);
        }
        took += begun.elapsed();
    }
    assert_eq!(world.env.transmitted.len(), picked.len());
    world.env.transmitted.clear();
    world.env.discarded.clear();
    took / picked.len() as u32
}

/// Connections of which each waits for an acknowledgement, with deadlines spread over 100 ms.
struct Waiting {
    world: World,
    /// Of each connection: its number, and how far our text is sent.
    sent: Vec<(ConnectionId, u32)>,
}

impl Waiting {
    fn new(connections: usize) -> Self {
        let mut world = World::new(connections);
        let opened: Vec<_> = (0..connections).map(|n| world.accept(n)).collect();
        let apart = Duration::from_millis(100) / connections as u32;
        let mut sent = Vec::with_capacity(connections);
        for (first, id) in opened {
            assert_eq!(world.stack.tcp_send(id, b"?", &mut world.env), Ok(1));
            sent.push((id, first.wrapping_add(1)));
            world.env.advance(apart);
        }
        // The wheel comes up to the present.
        world.stack.on_timeout(&mut world.env);
        world.forget();
        Self { world, sent }
    }

    /// What is in flight is acknowledged, the next text leaves, and the worker asks for the timers: for each of these connections.
    fn cost_of_exchange(&mut self, picked: &[usize]) -> Duration {
        let frames: Vec<_> = picked.iter().map(|&n| frame(n, 1_000, self.sent[n].1, flag::ACK, b"")).collect();
        let buffers: Vec<_> = frames.iter().map(|frame| VecBuffer::from_bytes(frame)).collect();
        let World { stack, env } = &mut self.world;
        let begun = Instant::now();
        for (buffer, &n) in buffers.into_iter().zip(picked) {
            let (id, sent) = &mut self.sent[n];
            let _ = stack.ingest(InterfaceId(0), buffer, env);
            assert_eq!(stack.tcp_send(*id, b"!", env), Ok(1));
            *sent = sent.wrapping_add(1);
            assert!(stack.poll_timeout().is_some());
            stack.on_timeout(env);
        }
        let took = begun.elapsed() / picked.len() as u32;
        assert_eq!(self.world.env.transmitted.len(), picked.len(), "nothing was due");
        self.world.forget();
        took
    }

    /// Lets every deadline come, one after the other; each sends its text again. Per deadline.
    fn cost_of_expiry(&mut self) -> Duration {
        let World { stack, env } = &mut self.world;
        let end = env.now + Duration::from_millis(350);
        let (mut took, mut fired) = (Duration::ZERO, 0);
        while let Some(due) = stack.poll_timeout().filter(|&due| due <= end) {
            env.now = env.now.max(due);
            let begun = Instant::now();
            stack.on_timeout(env);
            took += begun.elapsed();
            fired += env.transmitted.len();
            env.transmitted.clear();
        }
        assert_eq!(fired, self.sent.len(), "each once");
        took / fired as u32
    }
}

#[test]
fn as_many_timers_as_connections_cost_no_more_each_than_ten() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let [few, all] = [10, wanted()].map(|connections| {
        let mut waiting = Waiting::new(connections);
        // Each at most once a round: a second text would wait for the first.
        let rounds: Vec<Vec<usize>> = match connections {
            10 => (0..100).map(|_| (0..10).collect()).collect(),
            _ => vec![(0..1_000).map(|at| at * 7_919 % connections).collect()],
        };
        let exchange = |waiting: &mut Waiting| {
            let took: Duration = rounds.iter().map(|picked| waiting.cost_of_exchange(picked)).sum();
            took / rounds.len() as u32
        };
        let exchange = (0..ROUNDS).map(|_| exchange(&mut waiting)).min().unwrap();
        let expiry = waiting.cost_of_expiry();
        println!("{connections:>8} timers: {exchange:?} an exchange, {expiry:?} an expiry");
        (exchange, expiry)
    });
    assert_flat("an exchange", few.0, all.0);
    assert_flat("an expiry", few.1, all.1);
}
