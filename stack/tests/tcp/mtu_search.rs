//! Larger segments are tried where they may arrive: RFC 8899 §5, RFC 4821 §7. A path that drops what is too large, and mostly
//! says nothing.

use std::time::Duration;

use tailwater_stack::Config;
use tailwater_stack::tcp::{ConnectionId, MtuProbing, TcpCounters, TcpEvent, TcpSnapshot};

use crate::acceptability::icmp_about;
use crate::script::*;

const RTT: Duration = Duration::from_millis(40);
/// IP and TCP headers.
const HEADERS: usize = 40;

/// A peer behind a path that carries packets of `mtu` bytes.
struct Path {
    host: Host,
    id: ConnectionId,
    first: u32,
    mtu: usize,
    acked: usize,
    /// What has arrived beyond, from where to where, in order.
    early: Vec<(usize, usize)>,
    sent: usize,
    /// Sizes of the packets that did not arrive.
    dropped: Vec<usize>,
    /// Once: the frame that was dropped last is reported by a router.
    reports: bool,
    /// What it carries from the first black hole on.
    heals_to: Option<usize>,
}

impl Path {
    fn new(mtu: usize, probing: MtuProbing) -> Self {
        let mut config = Config::default();
        config.tcp.connection.mtu_probing = probing;
        let mut host = Host::with(config);
        host.listen();
        let mut syn = seg(SYN, 1_000, 0);
        (syn.mss, syn.sack_permitted) = (Some(1_460), true);
        host.get(&syn);
        let first = host.expect().seq + 1;
        host.wait(RTT);
        host.get(&seg(ACK, 1_001, first));
        let [TcpEvent::Accepted { connection: id, .. }] = host.events[..] else { panic!("{:?}", host.events) };
        Self {
            host,
            id,
            first,
            mtu,
            acked: 0,
            early: Vec::new(),
            sent: 0,
            dropped: Vec::new(),
            reports: false,
            heals_to: None,
        }
    }

    /// A round trip with plenty to send.
    fn round(&mut self) {
        self.round_with(200_000);
    }

    /// Nothing is in flight for this long.
    fn rest(&mut self, time: Duration) {
        while self.acked < self.sent {
            self.round_with(0);
        }
        self.host.wait(time);
    }

    /// A round trip with up to `most` bytes to be sent.
    fn round_with(&mut self, most: usize) {
        let room = most.saturating_sub(self.sent - self.acked);
        self.sent += self.host.send(self.id, &bytes(self.sent, room));
        self.host.wait(RTT);
        // What is sent in answer arrives a round trip later.
        for frame in std::iter::from_fn(|| self.host.env.sent()).collect::<Vec<_>>() {
            if self.counters().black_holes > 0
                && let Some(mtu) = self.heals_to.take()
            {
                self.mtu = mtu;
                self.dropped.clear();
            }
            let segment = Segment::read(&frame);
            let at = segment.seq.wrapping_sub(self.first) as usize;
            if segment.text.len() + HEADERS > self.mtu {
                self.dropped.push(segment.text.len() + HEADERS);
                if std::mem::take(&mut self.reports) {
                    icmp_about(&mut self.host, 3, 4, self.mtu as u16, &frame);
                }
                continue;
            }
            assert_eq!(segment.text, bytes(at, segment.text.len()), "bytes are what they were");
            self.arrive(at, at + segment.text.len());
        }
    }

    fn rounds(&mut self, n: usize) {
        (0..n).for_each(|_| self.round());
    }

    fn arrive(&mut self, from: usize, to: usize) {
        let (mut from, mut to) = (from, to);
        let joins = |early: &(usize, usize), from: usize, to: usize| early.0 <= to && from <= early.1;
        while let Some(at) = self.early.iter().position(|early| joins(early, from, to)) {
            let early = self.early.remove(at);
            (from, to) = (from.min(early.0), to.max(early.1));
        }
        if from <= self.acked {
            self.acked = self.acked.max(to);
        } else {
            self.early.push((from, to));
            self.early.sort_unstable();
        }
        let number = |at: usize| self.first.wrapping_add(at as u32);
        let blocks: Vec<_> = self.early.iter().take(3).map(|&(left, right)| (number(left), number(right))).collect();
        self.host.get(&seg(ACK, 1_001, number(self.acked)).sack(&blocks));
    }

    fn snapshot(&self) -> TcpSnapshot {
        self.host.stack.tcp_snapshot(self.id, self.host.env.now).unwrap()
    }

    fn counters(&self) -> TcpCounters {
        *self.host.stack.tcp_counters()
    }
}

/// A path that carries small packets only, until segments have become small.
fn black_hole(heals_to: usize) -> Path {
    let path = Path::new(1_280, MtuProbing::AfterBlackHole);
    let mut path = Path { heals_to: Some(heals_to), ..path };
    path.rounds(400);
    assert_eq!(path.counters().black_holes, 1);
    path
}

#[test]
fn a_black_hole_that_has_passed_costs_one_probe_rfc8899_s5_3() {
    let path = black_hole(1_500);
    assert_eq!((path.snapshot().path_mtu, path.snapshot().smss), (1_500, 1_460));
    assert_eq!((path.counters().mtu_probes, path.dropped.len()), (1, 0));
}

#[test]
fn the_search_settles_on_what_the_path_carries_rfc8899_s5_3_2() {
    let mut path = black_hole(1_400);
    let found = path.snapshot().path_mtu;
    assert!((1_393..=1_400).contains(&found), "{found}");
    // Three of each size that does not arrive (§5.1.2, MAX_PROBES).
    let mut sizes = path.dropped.clone();
    sizes.dedup();
    assert_eq!(sizes[0], 1_500);
    assert_eq!(path.dropped.len(), 3 * sizes.len(), "{:?}", path.dropped);
    // Then it rests (§5.1.1, PMTU_RAISE_TIMER).
    let probes = path.counters().mtu_probes;
    path.rounds(100);
    assert_eq!(path.counters().mtu_probes, probes);
}

#[test]
fn a_lost_probe_is_no_sign_of_congestion_rfc4821_s7_6_2() {
    let mut path = Path::new(1_400, MtuProbing::FromBase);
    path.rounds(200);
    let found = path.snapshot().path_mtu;
    assert!(
        (1_393..=1_400).contains(&found),
        "{found}, {:?} dropped, {} probes",
        path.dropped,
        path.counters().mtu_probes
    );
    assert!(path.dropped.len() >= 3, "{:?}", path.dropped);
    let counters = path.counters();
    assert_eq!((counters.recoveries, counters.timeouts, counters.loss_probes), (0, 0, 0));
    assert_eq!(path.snapshot().congestion.ssthresh, None);
    // What the probes carried was sent again in segments that arrive.
    assert!(path.acked > 1_000_000, "{}", path.acked);
}

#[test]
fn a_probe_leaves_only_with_text_enough_behind_it_rfc4821_s7_4() {
    let mut path = Path::new(1_500, MtuProbing::FromBase);
    let (id, first) = (path.id, path.first);
    // Enough for the probe, and for two segments behind it.
    path.host.send(id, &bytes(0, 1_460 + 2 * 1_240));
    assert!(path.host.all().iter().all(|segment| segment.text.len() <= 1_240));
    path.host.get(&seg(ACK, 1_001, first + 1_460 + 2 * 1_240));
    path.host.send(id, &bytes(0, 1_460 + 3 * 1_240));
    assert_eq!(path.host.expect().text.len(), 1_460);
    path.host.all();
}

#[test]
fn starting_at_the_base_ends_at_the_links_mtu_rfc8899_s5_2() {
    let mut path = Path::new(1_500, MtuProbing::FromBase);
    assert_eq!(path.snapshot().smss, 1_240);
    path.rounds(10);
    assert_eq!((path.snapshot().smss, path.counters().mtu_probes), (1_460, 1));
    assert_eq!((path.counters().recoveries, path.dropped.len()), (0, 0));
}

#[test]
fn what_a_router_says_of_a_probe_is_tried_next_rfc8899_s4_6_2() {
    let mut path = Path::new(1_372, MtuProbing::FromBase);
    path.reports = true;
    path.rounds(20);
    assert_eq!(path.snapshot().path_mtu, 1_372);
    assert_eq!((path.dropped.len(), path.counters().mtu_probes), (1, 2));
    assert_eq!((path.counters().recoveries, path.counters().timeouts), (0, 0));
}

#[test]
fn ten_minutes_after_a_router_said_less_more_is_tried_rfc1191_s6_3() {
    let mut path = Path::new(1_400, MtuProbing::AfterBlackHole);
    path.reports = true;
    path.rounds(10);
    assert_eq!(path.snapshot().path_mtu, 1_400);
    path.mtu = 1_500;
    for _ in 0..57 {
        path.rest(Duration::from_secs(10));
        path.rounds(1);
    }
    assert_eq!((path.snapshot().path_mtu, path.counters().mtu_probes), (1_400, 0));
    path.rest(Duration::from_secs(30));
    path.rounds(10);
    assert_eq!((path.snapshot().path_mtu, path.counters().mtu_probes), (1_500, 1));
}

#[test]
fn without_probing_small_segments_stay_small() {
    let mut path = Path::new(1_280, MtuProbing::Off);
    path.rounds(400);
    assert_eq!(path.counters().black_holes, 1);
    path.mtu = 1_500;
    path.rounds(50);
    assert_eq!((path.snapshot().path_mtu, path.counters().mtu_probes), (1_280, 0));
}
