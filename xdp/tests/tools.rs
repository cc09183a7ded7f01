//! The measuring programs on real veth interfaces. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use common::{OWN, PEER, enter_namespace, ifindex, run, xdp_shown};
use tailwater_xdp::AttachMode;
use tailwater_xdp::tools::{self, AttachedTool, Flood, Generator, Seen, Tool};

const FOREIGN_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x99];

fn flood() -> Flood {
    Flood {
        dests: 4000,
        flows: 16,
        ..Flood::new(ifindex(OWN), FOREIGN_MAC, Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 2, 0, 1))
    }
}

/// Waits until nothing more arrives: frames lie in the veth's ring for a moment.
fn settled(tool: &AttachedTool) -> Seen {
    let mut last = tool.seen().unwrap();
    for _ in 0..200 {
        thread::sleep(Duration::from_millis(20));
        let now = tool.seen().unwrap();
        if now == last {
            break;
        }
        last = now;
    }
    last
}

#[test]
fn the_sink_sees_every_frame_the_driver_took_from_the_generator() {
    enter_namespace();
    let sink = tools::attach(Tool::Sink, ifindex(PEER), AttachMode::Native).unwrap();
    let generator = Generator::new(Flood { frame_len: 1514, ..flood() }).unwrap();
    let report = generator.run(Duration::from_millis(100)).unwrap();
    let seen = settled(&sink);
    assert!(report.offered > 0);
    assert_eq!(Some(seen.packets), report.accepted);
    assert_eq!(seen.bytes, seen.packets * 1514);
}

/// The kernel drops datagrams with a bad header checksum as InHdrErrors, and counts the good ones.
#[test]
fn the_kernel_finds_no_fault_in_generated_headers() {
    enter_namespace();
    let _pass = tools::attach(Tool::Pass, ifindex(PEER), AttachMode::Native).unwrap();
    let own_mac = [0x02, 0, 0, 0, 0, 0x02];
    let generator = Generator::new(Flood { dst_mac: own_mac, clock_reads: 64, ..flood() }).unwrap();
    generator.run(Duration::from_millis(50)).unwrap();
    thread::sleep(Duration::from_millis(50));
    let snmp = run("cat /proc/thread-self/net/snmp");
    let column = |name: &str| {
        let mut lines = snmp.lines().filter(|line| line.starts_with("Ip:"));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let at = names.split_whitespace().position(|word| word == name).unwrap();
        values.split_whitespace().nth(at).unwrap().parse::<u64>().unwrap()
    };
    assert!(column("InReceives") > 0);
    assert_eq!(column("InHdrErrors"), 0);
}

#[test]
fn reflect_sends_every_frame_back() {
    enter_namespace();
    let back = tools::attach(Tool::Sink, ifindex(OWN), AttachMode::Native).unwrap();
    let mirror = tools::attach(Tool::Reflect, ifindex(PEER), AttachMode::Native).unwrap();
    // Slow enough for the way back, which shares this CPU.
    Generator::new(Flood { clock_reads: 64, ..flood() }).unwrap().run(Duration::from_millis(50)).unwrap();
    let (there, back) = (settled(&mirror), settled(&back));
    assert!(there.packets > 0);
    assert!(back.packets > 0 && back.packets <= there.packets, "{back:?} of {there:?}");
}

#[test]
fn every_tool_attaches_and_detaches() {
    enter_namespace();
    let to = ifindex(PEER);
    for tool in [Tool::Sink, Tool::Reflect, Tool::Pass, Tool::Redirect { to }, Tool::FibRedirect] {
        let attached = tools::attach(tool, ifindex(OWN), AttachMode::Native).unwrap();
        assert!(xdp_shown(OWN).contains("prog/xdp id"), "{tool:?}");
        drop(attached);
        assert_eq!(xdp_shown(OWN), "", "{tool:?}");
    }
}
