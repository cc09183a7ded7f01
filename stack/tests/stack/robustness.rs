//! Hostile frames in masses: nothing panics, no buffer is lost, the books balance.

use std::time::Duration;

use tailwater_stack::Verdict;
use tailwater_stack::testing::VecBuffer;

use crate::frames::*;
use crate::host::Host;

const CASES: u64 = 200_000;

/// splitmix64: one seed, one run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Valid frames of every kind the stack knows.
fn corpus() -> Vec<Vec<u8>> {
    let udp_out = &udp4_between(OURS, REMOTE, 7, 53, b"query")[ETHERNET..];
    let udp6_out = &udp6_between(OURS6, REMOTE6, 7, 53, b"query")[ETHERNET..];
    let nd_target = [&OURS6.octets()[..], &[1, 1], &PEER_MAC.0].concat();
    let na_target = [&PEER6.octets()[..], &[2, 1], &PEER_MAC.0].concat();
    let options = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &udp6(5000, 7, b"x")[ETHERNET + 40..]].concat();
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &PEER_MAC.0, &PEER.octets(), &[0; 6], &OURS.octets()].concat();
    let mut frames = vec![
        udp4(5000, 7, b"hello world"),
        udp6(5000, 7, b"hello world"),
        udp4(5000, 8, b"closed"),
        udp6(5000, 8, b"closed"),
        echo4(1, 2, b"hello"),
        echo6(1, 2, b"hello"),
        icmp4(PEER, 0, 0, 0x0009_0001, b"reply"),
        icmp6(PEER6, OURS6, 129, 0, 0x0009_0001, b"reply"),
        icmp4(PEER, 3, 4, 600, udp_out),
        icmp4(PEER, 11, 0, 0, udp_out),
        icmp6(PEER6, OURS6, 2, 0, 1280, udp6_out),
        icmp6(PEER6, OURS6, 1, 4, 0, udp6_out),
        ndp(PEER6, OURS6, 135, 0, &nd_target),
        ndp(PEER6, OURS6, 136, 0x6000_0000, &na_target),
        ip4(17, &[7, 7, 4, 0, 0, 0, 0, 0], &udp4(5000, 7, b"x")[ETHERNET + 20..]),
        ip6(60, &options),
        ip4(6, &[], &[0; 20]),
        link(0x0806, &arp),
    ];
    frames.extend(split4(3, &udp4(5000, 7, &[9; 300]), 104));
    frames.extend(split6(3, &udp6(5000, 7, &[9; 300]), 104));
    frames.extend(split4(4, &echo4(1, 1, &[9; 300]), 104));
    frames
}

fn listening() -> Host {
    let mut host = Host::new();
    host.bind("0.0.0.0:7");
    host.bind("[::]:7");
    host.stack.echo_open(9);
    host
}

/// Does with a verdict what an echo server does.
fn act(host: &mut Host, verdict: Verdict<VecBuffer>) {
    if let Verdict::Datagram(datagram) = verdict {
        let _ = host.reply(datagram);
    }
    host.env.transmitted.clear();
    host.env.discarded.clear();
    while host.stack.poll_event().is_some() {}
}

fn mutate(frame: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        match random.below(8) {
            0 => frame.truncate(random.below(frame.len() + 1)),
            1 => frame.extend((0..random.below(60)).map(|n| n as u8)),
            2 if frame.len() > 40 => {
                let (from, to) = (random.below(frame.len()), random.below(frame.len()));
                frame.swap(from, to);
            }
            3 if frame.len() > ETHERNET => {
                let at = ETHERNET + random.below(frame.len() - ETHERNET);
                frame[at] = [0, 1, 0x7f, 0x80, 0xff, 44, 58, 17][random.below(8)];
            }
            _ if !frame.is_empty() => {
                let at = random.below(frame.len());
                frame[at] ^= 1 << random.below(8);
            }
            _ => {}
        }
    }
}

/// So that mutations get past the first check.
fn mend_ipv4(frame: &mut [u8]) {
    if frame.len() >= ETHERNET + 20 && frame[12..14] == [8, 0] {
        let header_len = usize::from(frame[ETHERNET] & 0xf) * 4;
        if header_len >= 20 && frame.len() >= ETHERNET + header_len {
            frame[ETHERNET + 10..ETHERNET + 12].fill(0);
            let sum = tailwater_stack::checksum::of(&frame[ETHERNET..ETHERNET + header_len]);
            frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum);
        }
    }
}

#[test]
fn mutated_frames_never_panic_leak_or_unbalance() {
    let corpus = corpus();
    let mut host = listening();
    let mut random = Random(20_260_101);
    for case in 0..CASES {
        let mut frame = corpus[random.below(corpus.len())].clone();
        mutate(&mut frame, &mut random);
        if random.below(4) != 0 {
            mend_ipv4(&mut frame);
        }
        let buffer = match random.below(4) {
            0 => VecBuffer::segmented(&frame, 1 + random.below(120)),
            1 => VecBuffer::from_bytes(&frame).unchainable(),
            _ => VecBuffer::from_bytes(&frame),
        };
        let verdict = host.receive_buffer(buffer);
        act(&mut host, verdict);
        if case % 64 == 0 {
            host.env.pool = random.below(200);
            host.wait(Duration::from_millis(random.below(3_000) as u64));
            host.assert_books();
        }
    }
    host.wait(Duration::from_secs(120));
    assert_eq!(host.stack.held(), 0);
    // The run is worth its time only if it got everywhere.
    let ledger = host.stack.ledger();
    assert!(ledger.delivered > 1_000 && ledger.answered > 1_000 && ledger.consumed > 1_000, "{ledger:?}");
    assert!(ledger.drops().count() > 30, "{:?}", ledger.drops().collect::<Vec<_>>());
}

#[test]
fn random_bytes_never_panic_or_unbalance() {
    let mut host = listening();
    let mut random = Random(7);
    for _ in 0..CASES {
        let len = random.below(100);
        let mut frame: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        if len > ETHERNET {
            frame[..6].copy_from_slice(&OUR_MAC.0);
            frame[6..12].copy_from_slice(&PEER_MAC.0);
            let kinds = [[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0]];
            frame[12..14].copy_from_slice(&kinds[random.below(4)]);
            frame[ETHERNET] = [0x45, 0x60, 0x46, 0][random.below(4)];
        }
        let verdict = host.receive(&frame);
        act(&mut host, verdict);
    }
    host.assert_books();
}

#[test]
fn every_truncation_of_every_valid_frame_is_handled() {
    let mut host = listening();
    for frame in corpus() {
        for len in 0..=frame.len() {
            let verdict = host.receive(&frame[..len]);
            act(&mut host, verdict);
            host.assert_books();
        }
    }
    host.wait(Duration::from_secs(120));
}

#[test]
fn every_single_byte_change_of_every_valid_frame_is_handled() {
    let corpus = corpus();
    for value in [0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff] {
        let mut host = listening();
        for frame in &corpus {
            for at in 0..frame.len() {
                let mut frame = frame.clone();
                frame[at] = value;
                mend_ipv4(&mut frame);
                let verdict = host.receive(&frame);
                act(&mut host, verdict);
            }
        }
        host.wait(Duration::from_secs(120));
        assert_eq!(host.stack.held(), 0);
    }
}

#[test]
fn a_dry_pool_loses_nothing() {
    let mut host = listening();
    host.env.pool = 0;
    for frame in corpus() {
        let verdict = host.receive(&frame);
        act(&mut host, verdict);
    }
    let socket = host.bind("0.0.0.0:9");
    let _ = host.send(socket, "192.0.2.77:1", b"nobody can be asked");
    host.wait(Duration::from_secs(120));
    assert_eq!(host.stack.held(), 0);
}
