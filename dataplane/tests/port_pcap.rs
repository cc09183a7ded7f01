//! Replay of files that other programs wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod rig;

use std::process::Command;

use rig::{content, udp4};
use tailwater_dataplane::frame::{Batch, Pool, Region, RegionConfig};
use tailwater_dataplane::ledger::Ledger;
use tailwater_dataplane::port::pcap::{PcapPort, RecorderConfig, ReplayConfig, Speed};
use tailwater_dataplane::port::{Port, PortError};

fn region(chunks: usize) -> std::sync::Arc<Region> {
    Region::in_process(RegionConfig { chunks, huge_pages: false, ..RegionConfig::default() }).unwrap()
}

fn path(name: &str) -> String {
    std::env::temp_dir().join(format!("tailwater-port-pcap-{}-{name}", std::process::id())).to_string_lossy().into()
}

fn replay(path: &str, speed: Speed, loops: u64) -> Result<PcapPort, PortError> {
    PcapPort::open(&region(64), "file", Some(&ReplayConfig { path: path.into(), speed, loops }), None)
}

fn all(port: &mut PcapPort, pool: &mut Pool) -> Vec<Vec<u8>> {
    let (mut batch, mut ledger, mut all) = (Batch::default(), Ledger::default(), Vec::new());
    while !port.finished() {
        port.receive(pool, &mut ledger, &mut batch, 7);
        for frame in batch.drain() {
            all.push(content(&frame));
            pool.release(frame);
        }
    }
    all
}

/// A file of three packets 200 microseconds apart, recorded by the port and converted by Wireshark's tool.
fn sample(name: &str, format: &str) -> String {
    let (ours, theirs) = (path(&format!("{name}-ours")), path(name));
    let region = region(64);
    let mut pool = Pool::new(region.clone());
    let config = RecorderConfig { path: ours.clone(), ..RecorderConfig::default() };
    let mut port = PcapPort::open(&region, "file", None, Some(&config)).unwrap();
    for n in 1..4 {
        let mut batch = Batch::default();
        batch.push(pool.allocate_copy(&udp4(n, &[n as u8; 2000])).unwrap());
        assert_eq!(port.transmit(&mut pool, &mut batch), 1);
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
    port.close(&mut pool);
    let status = Command::new("editcap").args(["-F", format, &ours, &theirs]).status().expect("editcap is installed");
    assert!(status.success());
    std::fs::remove_file(ours).unwrap();
    theirs
}

#[test]
fn every_format_replays_the_same_packets_in_each_loop() {
    let once: Vec<Vec<u8>> = (1..4).map(|n| udp4(n, &[n as u8; 2000])).collect();
    for format in ["pcap", "nsecpcap", "pcapng"] {
        let file = sample(&format!("loops-{format}"), format);
        let mut port = replay(&file, Speed::Full, 2).unwrap();
        assert_eq!(all(&mut port, &mut Pool::new(region(64))), [once.clone(), once.clone()].concat(), "{format}");
        assert_eq!((port.counters().rx_packets, port.counters().rx_bytes), (6, 6 * 2042));
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn original_timing_takes_at_least_the_original_time() {
    for format in ["pcap", "pcapng"] {
        let file = sample(&format!("timing-{format}"), format);
        let started = std::time::Instant::now();
        // Two gaps of at least 200 microseconds, slowed down 50 times. A misread resolution would be off by 1000.
        all(&mut replay(&file, Speed::Scaled(0.02), 1).unwrap(), &mut Pool::new(region(64)));
        let took = started.elapsed();
        assert!(took.as_millis() >= 20 && took.as_secs() < 60, "{took:?}");
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn frames_running_out_delay_packets_and_lose_none() {
    let file = sample("starved", "pcap");
    let mut port = replay(&file, Speed::Full, 1).unwrap();
    let mut pool = Pool::new(region(3));
    let (mut batch, mut ledger) = (Batch::default(), Ledger::default());
    // Each packet takes two chunks.
    assert_eq!(port.receive(&mut pool, &mut ledger, &mut batch, 8), 1);
    assert_eq!(port.receive(&mut pool, &mut ledger, &mut batch, 8), 0);
    assert_eq!(port.counters().refill_starved, 2);
    batch.drain().for_each(|frame| pool.release(frame));
    assert_eq!(all(&mut port, &mut pool).len(), 2);
    assert_eq!(ledger.total(), 0);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn what_is_no_capture_of_ethernet_is_refused_with_the_reason() {
    let refuse = |file: &str| replay(file, Speed::Full, 1).err().expect("refused").to_string();
    assert!(refuse("/nowhere.pcap").contains("No such file"));
    let file = path("text");
    std::fs::write(&file, "no capture at all, but long enough for a header").unwrap();
    assert!(refuse(&file).contains("neither pcap nor pcapng"), "{}", refuse(&file));
    // A header of a raw IP capture (link type 101), without packets.
    std::fs::write(&file, [&[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0], &[0; 8][..], &[0, 0, 4, 0, 101, 0, 0, 0]].concat())
        .unwrap();
    assert!(refuse(&file).contains("not Ethernet"), "{}", refuse(&file));
    std::fs::remove_file(file).unwrap();
}
