//! `--group`: interfaces that join a running dataplane and leave it, under traffic.
//!
//! ```text
//!   gen                       dut                        sink
//!   g0 10.1.0.2 ------- d0 10.1.0.1 | d1 10.2.0.1 ------- s0 10.2.0.2     d0 and d1 are in group 7
//!                                   | d2 10.3.0.1 ------- s2 10.3.0.2     d2 comes and goes
//! ```
//!
//! The router's own kernel has forwarding switched off: what arrives went through us.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::net::UdpSocket;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::{DEADLINE, assert_accounted, command, eventually, outcome, started, summary};
use serde_json::Value;
use tailwater_lab::{Lab, Process};

/// Labs share two cores: one at a time is faster than all at once.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lab() -> Lab {
    let lab = Lab::router(1, 1500).unwrap();
    for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        lab.dut().sysctl(key, 0).unwrap();
    }
    lab.dut().ip("link set d0 group 7").unwrap();
    lab.dut().ip("link set d1 group 7").unwrap();
    lab
}

/// Makes the pair d2 - s2, up and with addresses, in the default group.
fn add_d2(lab: &Lab) {
    lab.dut().ip(&format!("link add d2 type veth peer name s2 netns {}", lab.sink().name())).unwrap();
    lab.sink().ip_batch("address add 10.3.0.2/24 dev s2\nlink set s2 up\n").unwrap();
    lab.sink().offload("s2", &["tx"], false).unwrap();
    lab.dut().ip_batch("address add 10.3.0.1/24 dev d2\nlink set d2 up\n").unwrap();
}

fn group(lab: &Lab, words: &str) {
    command(lab.dut(), &format!("group 7 {words}")).run(DEADLINE).unwrap();
}

fn pings(lab: &Lab, to: &str) -> bool {
    lab.gen_side().program("ping").args(["-q", "-c1", "-W1", to]).run(DEADLINE).is_ok()
}

/// The interfaces of a running command.
fn interfaces(lab: &Lab, process: &Process) -> Vec<String> {
    let (_, stdout, stderr) = outcome(command(lab.dut(), "stats --list -j"));
    let peers: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    let ours = peers.as_array().unwrap().iter().find(|peer| peer["pid"] == process.pid());
    let names = ours.into_iter().flat_map(|peer| peer["interfaces"].as_array().unwrap());
    names.map(|name| name.as_str().unwrap().into()).collect()
}

fn has_program(lab: &Lab, interface: &str) -> bool {
    lab.dut().ip(&format!("link show dev {interface}")).unwrap().contains("xdp")
}

/// A ping every 10 ms over the ports that stay; at its end none may be missing.
fn steady(lab: &Lab) -> Process {
    lab.gen_side().program("ping").args(["-q", "-i", "0.01", "10.2.0.2"]).spawn().unwrap()
}

fn assert_nothing_lost(steady: Process) {
    let finished = steady.interrupt().unwrap();
    assert!(finished.stdout.contains(" 0% packet loss"), "{finished:?}");
}

#[test]
fn a_member_that_joins_is_forwarded_to_and_one_that_leaves_is_the_kernels_again() {
    let _turn = alone();
    let lab = lab();
    let forwarder = started(lab.dut(), "l3fwd --group 7 --place user --idle sleep -j");
    let steady = steady(&lab);
    add_d2(&lab);
    assert!(!pings(&lab, "10.3.0.2"), "nobody forwards to an interface that is not in the group");
    for _ in 0..3 {
        group(&lab, "attach d2");
        eventually("forwarding to d2", || pings(&lab, "10.3.0.2"));
        assert_eq!(interfaces(&lab, &forwarder), ["d0", "d1", "d2"]);
        assert!(has_program(&lab, "d2"));
        group(&lab, "detach d2");
        eventually("leaving", || interfaces(&lab, &forwarder) == ["d0", "d1"]);
        assert!(!has_program(&lab, "d2") && !pings(&lab, "10.3.0.2"));
    }
    assert_nothing_lost(steady);
    let words = format!("ctl --pid {} subscribe --from 1 --count 7 -j", forwarder.pid());
    let events = command(lab.dut(), &words).run(DEADLINE).unwrap();
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    let comings = ["port_joined", "port_left"].repeat(3);
    assert_eq!((told[0], &told[1..]), ("started", comings.as_slice()));
    assert_eq!((&events[1]["name"], &events[1]["port"], &events[2]["name"]), (&"d2".into(), &2.into(), &"d2".into()));
    let report = summary(forwarder);
    assert_accounted(&report);
    let departed = report["workers"][0]["ports"].as_array().unwrap().iter().find(|port| port["name"] == "(departed)");
    assert!(departed.unwrap()["counters"]["tx_packets"].as_u64().unwrap() >= 3, "{report:#}");
}

#[test]
fn members_deleted_under_load_take_no_frame_with_them() {
    let _turn = alone();
    let lab = lab();
    let forwarder = started(lab.dut(), "l3fwd --group 7 --place user --idle sleep --cores 0,1 -j");
    for _ in 0..5 {
        add_d2(&lab);
        group(&lab, "attach d2");
        eventually("forwarding to d2", || pings(&lab, "10.3.0.2"));
        let flood = || lab.gen_side().program("ping").args(["-q", "-f", "-l", "100", "10.3.0.2"]).spawn().unwrap();
        let load = [flood(), flood()];
        eventually("load", || lab.dut().counters("d2").unwrap().tx_packets > 2000);
        lab.dut().ip("link del d2").unwrap();
        eventually("leaving", || interfaces(&lab, &forwarder) == ["d0", "d1"]);
        load.into_iter().for_each(|flood| drop(flood.stop()));
    }
    assert!(pings(&lab, "10.2.0.2"));
    assert_accounted(&summary(forwarder));
}

#[test]
fn a_member_keeps_its_place_under_a_new_name_and_one_that_is_down_joins_when_it_comes_up() {
    let _turn = alone();
    let lab = lab();
    add_d2(&lab);
    lab.dut().ip("link set d2 down").unwrap();
    group(&lab, "attach d2");
    let forwarder = started(lab.dut(), "l3fwd --group 7 --place user --idle sleep -j");
    assert_eq!(interfaces(&lab, &forwarder), ["d0", "d1"]);
    group(&lab, "up");
    eventually("forwarding to d2", || pings(&lab, "10.3.0.2"));
    lab.dut().ip("link set d2 name uplink").unwrap();
    eventually("renaming", || interfaces(&lab, &forwarder) == ["d0", "d1", "uplink"]);
    assert!(pings(&lab, "10.3.0.2"));
    let report = summary(forwarder);
    assert_accounted(&report);
    let names: Vec<&str> =
        report["workers"][0]["ports"].as_array().unwrap().iter().map(|port| port["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["d0", "d1", "uplink"]);
}

#[test]
fn one_more_than_there_are_places_for_is_refused_aloud_and_joins_when_a_place_is_free() {
    let _turn = alone();
    let lab = lab();
    let forwarder = started(lab.dut(), "l3fwd --group 7 --max-interfaces 2 --place user --idle sleep -j");
    add_d2(&lab);
    group(&lab, "attach d2");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(interfaces(&lab, &forwarder), ["d0", "d1"]);
    assert!(pings(&lab, "10.2.0.2"));
    group(&lab, "detach d1");
    eventually("taking the place", || interfaces(&lab, &forwarder) == ["d0", "d2"]);
    lab.sink().ip("route add 10.1.0.0/24 via 10.3.0.1").unwrap();
    eventually("forwarding to d2", || pings(&lab, "10.3.0.2"));
    let finished = forwarder.stop().unwrap();
    assert!(finished.stderr.contains("all 2 places for interfaces are taken"), "{}", finished.stderr);
    assert_accounted(&common::report(&finished));
}

#[test]
fn the_kernel_placement_forwards_to_members_that_join() {
    let _turn = alone();
    let lab = lab();
    for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        lab.dut().sysctl(key, 1).unwrap();
    }
    lab.gen_side().offload("g0", &["gro"], true).unwrap();
    lab.sink().offload("s0", &["gro"], true).unwrap();
    let forwarder = started(lab.dut(), "l3fwd --group 7 --place xdp --idle sleep -j");
    add_d2(&lab);
    lab.sink().offload("s2", &["gro"], true).unwrap();
    group(&lab, "attach d2");
    eventually("joining", || interfaces(&lab, &forwarder) == ["d0", "d1", "d2"]);
    assert!(pings(&lab, "10.3.0.2") && pings(&lab, "10.3.0.2"));
    group(&lab, "detach d2");
    eventually("leaving", || interfaces(&lab, &forwarder) == ["d0", "d1"]);
    let report = summary(forwarder);
    assert_accounted(&report);
    let verdicts: u64 = report["interfaces"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|interface| interface["verdicts"]["tx_forwarded"]["packets"].as_u64())
        .sum();
    assert!(verdicts >= 2, "{report:#}");
}

#[test]
fn an_echo_server_answers_on_members_that_join_and_no_longer_on_those_that_leave() {
    let _turn = alone();
    let lab = lab();
    let server = started(lab.dut(), "echo --udp --group 7 --listen 0.0.0.0:7 --idle sleep -j");
    let echoes = |to: &str| {
        let socket = lab.sink().enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let sent = socket.send_to(b"are you there", to);
        sent.is_ok() && socket.recv(&mut [0; 64]).is_ok_and(|length| length == 13)
    };
    eventually("echo on d1", || echoes("10.2.0.1:7"));
    add_d2(&lab);
    assert!(!echoes("10.3.0.1:7"));
    for _ in 0..2 {
        group(&lab, "attach d2");
        eventually("echo on d2", || echoes("10.3.0.1:7"));
        assert!(echoes("10.2.0.1:7"));
        group(&lab, "detach d2");
        eventually("leaving", || interfaces(&lab, &server) == ["d0", "d1"]);
        assert!(!echoes("10.3.0.1:7") && echoes("10.2.0.1:7"));
    }
    assert_accounted(&summary(server));
}

#[test]
fn a_group_that_cannot_be_used_is_refused_with_a_way_out() {
    let _turn = alone();
    let lab = lab();
    let refused = |words: &str, code: i32, wanted: &[&str]| {
        let (status, _, stderr) = outcome(command(lab.dut(), words));
        assert_eq!(status, Some(code), "{words}: {stderr}");
        wanted.iter().for_each(|wanted| assert!(stderr.contains(wanted), "{words}: {wanted} is missing from {stderr}"));
    };
    refused("l3fwd --group 8", 1, &["group 8 has no members"]);
    refused("l3fwd --group 0", 2, &["group 0 is every interface", "attach"]);
    refused("l3fwd --group uplnks", 1, &["no interface group named 'uplnks'"]);
    refused("l3fwd --group 7 --max-interfaces 1", 2, &["2 interfaces are more than the 1"]);
    refused("l3fwd -i d0 --max-interfaces 4", 2, &["--group"]);
    refused("echo --udp --group 7 --listen 10.1.0.9:7 --address 10.1.0.9/24", 2, &["--address is for one interface"]);
    group(&lab, "down");
    refused("l3fwd --group 7", 1, &["no member of group 7", "tailwater group 7 up"]);
}
