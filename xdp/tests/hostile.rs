//! Frames nobody should send: cut short, mutated, random. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::frames::*;
use common::{Bench, OWN_MAC, consistent};
use tailwater_xdp::{Action, Kind, Mode, Place, Transport, Verdict};

const ETHERNET_LEN: usize = 14;

const MODES: [(Mode, Place); 4] = [
    (Mode::Shared, Place::User),
    (Mode::Exclusive, Place::User),
    (Mode::Router, Place::User),
    (Mode::Router, Place::Kernel),
];

/// One of each kind of frame the program parses.
fn seeds() -> Vec<Vec<u8>> {
    let udp4 = Ip4::new([192, 0, 2, 7], [198, 51, 100, 1], UDP, udp(5000, 7));
    let tcp6 = Ip6::new("2001:db8:1::7", "2001:db8:2::1", TCP, tcp(5000, 80));
    let solicit = Ip6::new("2001:db8:1::7", "ff02::1:ff00:1", ICMP6, neighbour(135, "2001:db8:2::1"));
    let double = tagged(&tagged(&udp4.frame(), ETHERTYPE_VLAN, 5), ETHERTYPE_QINQ, 6);
    vec![
        udp4.frame(),
        Ip4 { options: vec![1; 40], ..udp4.clone() }.frame(),
        Ip4 { fragment: 0x2001, ..udp4 }.frame(),
        Ip4::new([192, 0, 2, 7], [198, 51, 100, 1], ICMP, icmp_echo()).frame(),
        tcp6.frame(),
        Ip6 { next: 0, ..tcp6 }.frame(),
        solicit.frame(),
        arp_request([198, 51, 100, 1]),
        double,
        ethernet(OWN_MAC, 0x88cc, &[0; 46]),
        encapsulated(0x88b5, 0x1234),
    ]
}

fn bench(mode: Mode, place: Place) -> Bench {
    let bench = Bench::new(mode, place);
    // For as long as the maps: the test ends with them.
    std::mem::forget(bench.shared.register_ethertype(0x88b5).unwrap());
    let listeners = bench.shared.listeners();
    listeners.insert(Transport::Udp, "198.51.100.1:7".parse().unwrap()).unwrap();
    listeners.insert(Transport::Tcp, "[::]:80".parse().unwrap()).unwrap();
    listeners.insert_address("198.51.100.1".parse().unwrap()).unwrap();
    listeners.insert_address("2001:db8:2::1".parse().unwrap()).unwrap();
    bench.shared.local_addrs().insert("198.51.100.9".parse().unwrap()).unwrap();
    bench.shared.flow_exceptions().set_active(1);
    bench
}

#[test]
fn every_prefix_of_every_frame_gets_a_verdict_that_fits_the_mode() {
    for (mode, place) in MODES {
        let bench = bench(mode, place);
        for frame in seeds() {
            for len in ETHERNET_LEN..=frame.len() {
                let outcome = bench.feed(&frame[..len]);
                assert!(consistent(&outcome), "{mode:?}, {len} of {frame:02x?}: {outcome:?}");
                assert_ne!(outcome.verdict.kind(), Kind::Drop, "{mode:?}, {len} of {frame:02x?}");
                if mode == Mode::Exclusive {
                    assert_eq!(outcome.verdict.kind(), Kind::Redirect, "{len} of {frame:02x?}");
                }
            }
        }
    }
}

#[test]
fn a_frame_cut_inside_a_header_it_needs_counts_as_truncated() {
    let bench = bench(Mode::Shared, Place::User);
    let needs = [
        ("IPv4, UDP ports", 0, ETHERNET_LEN + 20 + 4),
        ("IPv4 options, UDP ports", 1, ETHERNET_LEN + 60 + 4),
        ("IPv6, TCP ports", 4, ETHERNET_LEN + 40 + 4),
        ("ARP", 7, ETHERNET_LEN + 28),
        ("two tags, IPv4, UDP ports", 8, ETHERNET_LEN + 8 + 20 + 4),
    ];
    let seeds = seeds();
    for (what, seed, needed) in needs {
        for len in ETHERNET_LEN..seeds[seed].len() {
            let verdict = bench.feed(&seeds[seed][..len]).verdict;
            assert_eq!(verdict == Verdict::PassTruncated, len < needed, "{what}, {len} bytes: {verdict}");
        }
    }
}

/// xorshift64*: the same frames on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Flips bits, sets edge values, cuts and extends.
fn mutate(random: &mut Random, seed: &[u8]) -> Vec<u8> {
    let mut frame = seed.to_vec();
    for _ in 0..=random.below(6) {
        // Headers matter most, and the bytes that steer parsing are few.
        let at = random.below(frame.len().min(70));
        match random.below(5) {
            0 => frame[at] ^= 1 << random.below(8),
            1 => frame[at] = random.next() as u8,
            2 => frame[at] = [0, 0xff, 0x80, 0x7f][random.below(4)],
            3 => frame.truncate((at + 1).max(ETHERNET_LEN)),
            _ => frame.resize(frame.len() + random.below(64), random.next() as u8),
        }
    }
    frame
}

#[test]
fn no_mutated_frame_aborts_is_dropped_or_goes_uncounted() {
    const FRAMES_PER_MODE: usize = 50_000;
    for (mode, place) in MODES {
        let bench = bench(mode, place);
        let seeds = seeds();
        let mut random = Random(0x1234_5678_9abc_def1);
        for number in 0..FRAMES_PER_MODE {
            let frame = mutate(&mut random, &seeds[number % seeds.len()]);
            let trial = bench.steering.try_frame(&frame, 0).unwrap();
            let expected = match mode {
                Mode::Exclusive => trial.action == Action::Redirect,
                _ => matches!(trial.action, Action::Redirect | Action::Pass),
            };
            assert!(expected, "{mode:?} frame {number}: {:?} for {frame:02x?}", trial.action);
            assert_eq!(trial.frame, frame, "{mode:?} frame {number} was changed");
        }
        assert_eq!(bench.counts().iter().sum::<u64>(), FRAMES_PER_MODE as u64, "{mode:?}");
    }
}
