//! Two stacks over a wire with faults, on a virtual clock. One seed is one run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tailwater_stack::tcp::{CloseReason, Connect, ConnectionId, Listen, TcpEvent};
use tailwater_stack::testing::{TestEnv, VecBuffer, mac};
use tailwater_stack::{Cidr, Config, Env, Instant, InterfaceConfig, InterfaceId, Stack, Verdict};

pub const PORT: u16 = 80;

/// What the wire does, in thousandths of the frames.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub loss: u64,
    pub duplication: u64,
    pub corruption: u64,
    pub reordering: u64,
    pub delay: Duration,
    /// By which a reordered frame comes later.
    pub lateness: Duration,
    /// Bytes per second; 0: any.
    pub rate: u64,
    /// Time that frames may wait for the wire before they are dropped.
    pub queue: Duration,
    /// Marks (ECN) instead of dropping, from half a queue on.
    pub marks: bool,
}

impl Faults {
    pub const NONE: Self = Self {
        loss: 0,
        duplication: 0,
        corruption: 0,
        reordering: 0,
        delay: Duration::from_millis(5),
        lateness: Duration::from_millis(3),
        rate: 0,
        queue: Duration::from_millis(50),
        marks: false,
    };
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    at: Instant,
    number: u64,
    to: usize,
    frame: Vec<u8>,
}

pub struct Net {
    pub stacks: [Stack<VecBuffer>; 2],
    pub envs: [TestEnv; 2],
    pub now: Instant,
    pub faults: Faults,
    flying: BinaryHeap<Reverse<Flying>>,
    number: u64,
    random: TestEnv,
    /// When the wire of each end is free again.
    free_at: [Instant; 2],
    /// Frames of each end that are to be lost, by their number from now on.
    pub lose: [Vec<usize>; 2],
    counted: [usize; 2],
    /// Frames lost so far.
    pub lost: usize,
    pub carried: usize,
    pub events: [Vec<TcpEvent>; 2],
    pub dead: bool,
    /// What arrives at the same time is taken in as a burst.
    pub bursts: bool,
}

pub fn address(n: usize, v6: bool) -> IpAddr {
    match v6 {
        false => Ipv4Addr::new(192, 0, 2, 1 + n as u8).into(),
        true => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1 + n as u16).into(),
    }
}

impl Net {
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self::with([Config::default(), Config::default()], 1500, seed, faults)
    }

    pub fn with(configs: [Config; 2], mtu: usize, seed: u64, faults: Faults) -> Self {
        let mut n = 0;
        let stacks = configs.map(|config| {
            let mut stack = Stack::new(config, seed ^ n);
            let port = stack.add_interface(InterfaceConfig::exclusive(mac(1 + n as u8), mtu));
            stack.add_address(port, Cidr::new(address(n as usize, false), 24).unwrap()).unwrap();
            stack.add_address(port, Cidr::new(address(n as usize, true), 64).unwrap()).unwrap();
            n += 1;
            stack
        });
        let mut net = Self {
            stacks,
            envs: [TestEnv { seed: seed ^ 0xa5, ..TestEnv::default() }, TestEnv { seed, ..TestEnv::default() }],
            now: Instant::ZERO + Duration::from_secs(100),
            faults,
            flying: BinaryHeap::new(),
            number: 0,
            random: TestEnv { seed: seed.wrapping_mul(0x9e37_79b9), ..TestEnv::default() },
            free_at: [Instant::ZERO; 2],
            lose: [Vec::new(), Vec::new()],
            counted: [0; 2],
            lost: 0,
            carried: 0,
            events: [Vec::new(), Vec::new()],
            dead: false,
            bursts: false,
        };
        net.set_clocks();
        for n in 0..2 {
            for v6 in [false, true] {
                let (stack, env) = (&mut net.stacks[n], &mut net.envs[n]);
                assert!(stack.set_neighbour(InterfaceId(0), address(1 - n, v6), mac(2 - n as u8), env));
            }
        }
        net
    }

    fn set_clocks(&mut self) {
        self.envs.iter_mut().for_each(|env| env.now = self.now);
    }

    fn chance(&mut self, thousandths: u64) -> bool {
        thousandths > 0 && self.random.random() % 1_000 < thousandths
    }

    /// Puts what the stacks have sent onto the wire.
    fn collect(&mut self) {
        for from in 0..2 {
            while let Some((_, frame)) = self.envs[from].transmitted.pop_front() {
                self.put(from, frame.to_vec());
            }
            while let Some(event) = self.stacks[from].tcp_poll() {
                self.events[from].push(event);
            }
        }
    }

    fn put(&mut self, from: usize, mut frame: Vec<u8>) {
        let number = self.counted[from];
        self.counted[from] += 1;
        let chosen = self.lose[from].contains(&number);
        if self.dead || chosen || self.chance(self.faults.loss) {
            self.lost += 1;
            return;
        }
        let mut at = self.now + self.faults.delay;
        if self.faults.rate > 0 {
            let starts = self.free_at[from].max(self.now);
            let waits = starts.since(self.now);
            if waits > self.faults.queue {
                self.lost += 1;
                return;
            }
            if self.faults.marks && waits > self.faults.queue / 2 && frame[15] & 3 == 2 {
                mark(&mut frame);
            }
            let took = Duration::from_secs_f64(frame.len() as f64 / self.faults.rate as f64);
            self.free_at[from] = starts + took;
            at = self.free_at[from] + self.faults.delay;
        }
        if self.chance(self.faults.corruption) {
            let bit = self.random.random() as usize % ((frame.len() - 14) * 8);
            frame[14 + bit / 8] ^= 1 << (bit % 8);
        }
        if self.chance(self.faults.reordering) {
            at = at + self.faults.lateness;
        }
        let copies = 1 + usize::from(self.chance(self.faults.duplication));
        for _ in 0..copies {
            self.number += 1;
            self.flying.push(Reverse(Flying { at, number: self.number, to: 1 - from, frame: frame.clone() }));
        }
    }

    /// When something happens next.
    pub fn next(&self) -> Option<Instant> {
        let frame = self.flying.peek().map(|Reverse(flying)| flying.at);
        let timers = self.stacks.iter().filter_map(Stack::poll_timeout);
        frame.into_iter().chain(timers).min()
    }

    /// Lets the next thing happen; `false` if nothing will before `until`.
    pub fn step(&mut self, until: Instant) -> bool {
        self.collect();
        let Some(at) = self.next().filter(|&at| at <= until) else { return false };
        self.now = self.now.max(at);
        self.set_clocks();
        if self.flying.peek().is_some_and(|Reverse(flying)| flying.at <= self.now) {
            let Reverse(flying) = self.flying.pop().unwrap();
            let to = flying.to;
            if self.bursts {
                self.stacks[to].begin_burst();
            }
            self.arrive(flying);
            while self.bursts && self.flying.peek().is_some_and(|Reverse(next)| next.at <= self.now && next.to == to) {
                let Reverse(next) = self.flying.pop().unwrap();
                self.arrive(next);
            }
            self.stacks[to].end_burst(&mut self.envs[to]);
        } else {
            for n in 0..2 {
                self.stacks[n].on_timeout(&mut self.envs[n]);
            }
        }
        self.collect();
        true
    }

    fn arrive(&mut self, Flying { to, frame, .. }: Flying) {
        self.carried += 1;
        let (stack, env) = (&mut self.stacks[to], &mut self.envs[to]);
        let verdict = stack.ingest(InterfaceId(0), VecBuffer::from_bytes(&frame), env);
        assert!(!matches!(verdict, Verdict::Datagram(_) | Verdict::EchoReply(_)));
    }

    /// Runs until nothing happens, at most for `time`.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        let mut steps = 0;
        while self.step(until) {
            steps += 1;
            assert!(steps < 5_000_000, "livelock");
        }
        self.now = self.now.max(until);
        self.set_clocks();
    }

    pub fn take_events(&mut self, n: usize) -> Vec<TcpEvent> {
        std::mem::take(&mut self.events[n])
    }

    /// Connects end 0 to a listener at end 1.
    pub fn connect(&mut self, v6: bool) -> ConnectionId {
        let any = if v6 { "[::]:80" } else { "0.0.0.0:80" };
        let _ = self.stacks[1].tcp_listen(any.parse().unwrap(), Listen::default());
        let connect = Connect::to(SocketAddr::new(address(1, v6), PORT));
        self.stacks[0].tcp_connect(connect, |_| true, &mut self.envs[0]).unwrap()
    }

    /// For whoever has to find out why.
    pub fn describe(&self) -> String {
        let ends = self.stacks.iter().zip(&self.envs).map(|(stack, env)| {
            let connections: Vec<_> = stack.tcp_connections(self.now).collect();
            let drops: Vec<_> = stack.ledger().drops().collect();
            let due = stack.poll_timeout().map(|due| due.since(env.now));
            format!("{connections:#?}\n{:?}\n{drops:?}\ndue in {due:?}", stack.tcp_counters())
        });
        ends.collect::<Vec<_>>().join("\n\n")
    }

    pub fn assert_books(&self) {
        for (stack, env) in self.stacks.iter().zip(&self.envs) {
            let held = stack.held();
            assert!(stack.ledger().is_balanced(held), "{held} held, {:?}", stack.ledger());
            assert!(env.allocated + self.carried >= held);
        }
    }
}

/// Congestion experienced, in an IPv4 frame.
fn mark(frame: &mut [u8]) {
    frame[15] |= 3;
    smoltcp::wire::Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
}

/// What a transfer came to.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Outcome {
    /// How each end's connection was closed.
    pub closed: [Option<CloseReason>; 2],
    /// Bytes that each end received, all of them right and in order.
    pub received: [usize; 2],
    pub took: Duration,
    /// The time was up before both ends had learnt of the end.
    pub hangs: bool,
}

/// Both ends write so many bytes, shut down, and read to the end.
pub struct Transfer {
    ids: [Option<ConnectionId>; 2],
    to_send: [usize; 2],
    sent: [usize; 2],
    shut: [bool; 2],
    outcome: Outcome,
}

fn pattern(n: usize, at: usize) -> u8 {
    (at.wrapping_mul(31) >> 3 ^ at ^ (n * 77)) as u8
}

impl Transfer {
    /// `client`: end 0's connection; end 1's is the one that it accepts.
    pub fn new(client: ConnectionId, to_send: [usize; 2]) -> Self {
        Self { ids: [Some(client), None], to_send, sent: [0; 2], shut: [false; 2], outcome: Outcome::default() }
    }

    /// The application of one end does what it can.
    fn turn(&mut self, net: &mut Net, n: usize) {
        for event in net.take_events(n) {
            match event {
                TcpEvent::Accepted { connection, .. } => self.ids[n] = Some(connection),
                TcpEvent::Closed(id, reason) => {
                    assert_eq!(Some(id), self.ids[n]);
                    assert_eq!(self.outcome.closed[n], None, "closed twice");
                    self.outcome.closed[n] = Some(reason);
                }
                _ => {}
            }
        }
        if let Some(id) = self.ids[n].filter(|_| self.outcome.closed[n].is_none()) {
            self.write(net, n, id);
            self.read(net, n, id);
        }
    }

    fn write(&mut self, net: &mut Net, n: usize, id: ConnectionId) {
        let (stack, env) = (&mut net.stacks[n], &mut net.envs[n]);
        while self.sent[n] < self.to_send[n] {
            let len = (self.to_send[n] - self.sent[n]).min(20_000);
            let from = self.sent[n];
            let fill = |at: usize, room: &mut [u8]| {
                for (i, byte) in room.iter_mut().enumerate() {
                    *byte = pattern(n, from + at + i);
                }
            };
            let Ok(taken) = stack.tcp_send_with(id, len, fill, env) else { return };
            self.sent[n] += taken;
            if taken < len {
                return;
            }
        }
        if !self.shut[n] {
            self.shut[n] = true;
            let _ = stack.tcp_shutdown(id, env);
        }
    }

    fn read(&mut self, net: &mut Net, n: usize, id: ConnectionId) {
        let (stack, env) = (&mut net.stacks[n], &mut net.envs[n]);
        while let Ok(Some(text)) = stack.tcp_receive(id, env) {
            for byte in text.to_vec() {
                let at = self.outcome.received[n];
                assert_eq!(byte, pattern(1 - n, at), "byte {at} at end {n}");
                self.outcome.received[n] += 1;
            }
        }
    }

    fn is_over(&self) -> bool {
        // An end that never accepted has nothing to close.
        let over = |n: usize| self.outcome.closed[n].is_some() || (n == 1 && self.ids[n].is_none());
        over(0) && over(1)
    }

    /// Runs until both ends are closed, at most for `time`.
    pub fn run(mut self, net: &mut Net, time: Duration) -> Outcome {
        let began = net.now;
        let until = net.now + time;
        let mut steps = 0;
        loop {
            for n in 0..2 {
                self.turn(net, n);
            }
            if self.is_over() || !net.step(until) {
                break;
            }
            steps += 1;
            assert!(steps < 3_000_000, "livelock");
        }
        self.outcome.took = net.now.since(began);
        self.outcome.hangs = !self.is_over();
        self.outcome
    }
}
