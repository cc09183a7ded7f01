//! A flood of SYNs from addresses that nobody has, and a client who wants to be served meanwhile (RFC 4987).

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tailwater_lab::{Lab, Process};

use crate::common::eventually;
use crate::peer::*;
use crate::raw::{Link, SYN, Segment};

/// Frames that are sent at once.
const BURST: u32 = 50;
/// SYNs a second: ten times what fills the list of half-open connections.
const RATE: u32 = 100_000;
/// SYNs after which the client comes: more than the list of half-open connections takes.
const AHEAD: u32 = 5_000;
/// Downloads that must have come wholly, from connecting on, before the flood ends.
const DOWNLOADS: u32 = 1;
/// Bytes of one download.
const BODY: usize = 4 << 20;
/// Memory by which the process may grow: a thousand half-open connections, and what the client's transfers need.
const GROWTH_MAX: u64 = 64 << 20;

/// Numbers that look random and are the same in each run (splitmix64).
fn random(n: u64) -> u64 {
    let mut bytes = [0; 8];
    pattern(n * 8, &mut bytes);
    u64::from_le_bytes(bytes)
}

/// A SYN from anywhere.
fn forged(n: u32) -> Vec<u8> {
    let (source, rest) = (random(2 * u64::from(n)), random(2 * u64::from(n) + 1));
    // 100.64.0.0/10, so that no source is a group, a broadcast or ourselves.
    let source = Ipv4Addr::from_bits(0x6440_0000 | source as u32 & 0x003f_ffff);
    let ports = (1_024 + (rest >> 32) as u16 % 60_000, 80);
    Segment { ports, seq: rest as u32, flags: SYN, ..Segment::default() }.frame(source)
}

/// Sends so many SYNs at a steady rate, and more until the client has been served; how many a second it came to.
fn flood(link: &mut Link, count: u32, sent: &AtomicU32, served: &AtomicU32) -> f64 {
    let (began, mut next) = (Instant::now(), 0);
    while next < count || served.load(Ordering::Relaxed) < DOWNLOADS {
        assert!(began.elapsed() < TRANSFER, "the client gets nothing beside {next} SYNs");
        link.send((next..next + BURST).map(forged));
        link.seen();
        next += BURST;
        sent.store(next, Ordering::Relaxed);
        let due = Duration::from_secs_f64(f64::from(next) / f64::from(RATE));
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    f64::from(next) / began.elapsed().as_secs_f64()
}

/// Connects and downloads again and again, for as long as `goes_on` says, once at least; bytes a second.
fn download(lab: &Lab, goes_on: impl Fn() -> bool) -> f64 {
    let mut expected = vec![0; BODY];
    pattern(0, &mut expected);
    let (began, mut bytes) = (Instant::now(), 0);
    loop {
        let mut stream = connect(lab, "10.1.0.1:80");
        let request = format!("GET /bytes/{BODY} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let (_, body) = answer(&mut stream, true);
        assert!(body == expected, "the body changed");
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        bytes += BODY;
        if !goes_on() {
            return bytes as f64 / began.elapsed().as_secs_f64();
        }
    }
}

/// Undisturbed for a while, then beside so many SYNs: what the client keeps of its rate.
fn side_by_side(lab: &Lab, link: &mut Link, count: u32) -> f64 {
    let until = Instant::now() + Duration::from_secs_f64(f64::from(count) / f64::from(RATE));
    let alone = download(lab, || Instant::now() < until);
    let (over, sent, served) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let (disturbed, rate) = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let rate = flood(link, count, &sent, &served);
            over.store(true, Ordering::Relaxed);
            rate
        });
        eventually("the flood is there", || sent.load(Ordering::Relaxed) >= AHEAD);
        let disturbed = download(lab, || {
            served.fetch_add(1, Ordering::Relaxed);
            !over.load(Ordering::Relaxed)
        });
        (disturbed, flooding.join().unwrap())
    });
    let sent = sent.into_inner();
    println!(
        "{:.1} MB/s alone, {:.1} MB/s beside {sent} SYNs at {rate:.0} a second: {:.2}",
        alone / 1e6,
        disturbed / 1e6,
        disturbed / alone
    );
    disturbed / alone
}

/// Resident memory of a process, in bytes.
fn resident(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}

#[test]
fn client_is_served_beside_a_flood_of_spoofed_syns_within_bounded_memory() {
    let lab = Lab::pair(1, 1500).unwrap();
    // Answers to anybody go back over the link, where nobody takes them.
    lab.dut().ip("route add default via 10.1.0.2").unwrap();
    let server = serve(&lab, "--listen 10.1.0.1:80");
    let mut link = Link::on(&lab);
    download(&lab, || false);
    let before = resident(&server);
    let count = if full() { 1_000_000 } else { 100_000 };
    let kept = side_by_side(&lab, &mut link, count);
    let grown = resident(&server).saturating_sub(before);
    let report = stop(server);
    println!(
        "memory grew by {} KiB; cookies: {} sent, {} accepted",
        grown >> 10,
        counter(&report, "tcp_syn_cookies_sent"),
        counter(&report, "tcp_syn_cookies_accepted")
    );
    assert!(grown < GROWTH_MAX, "{grown} bytes");
    assert!(counter(&report, "tcp_syn_cookies_sent") > u64::from(count) / 4, "{report:#}");
    assert!(counter(&report, "tcp_syn_cookies_accepted") > 0, "{report:#}");
    assert_eq!(counter(&report, "http_errors"), 0);
    assert!(!full() || kept >= 0.5, "the client kept {kept:.2} of its rate");
}
