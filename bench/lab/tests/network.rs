//! Labs on a real kernel. Needs root, and fails without it.

use std::path::Path;
use std::time::Duration;

use tailwater_lab::{Lab, LabConfig, LabError, Topology, sweep};

const DEADLINE: Duration = Duration::from_secs(20);

fn ping(lab: &Lab, words: &str) -> Result<String, LabError> {
    lab.gen_side().program("ping").args(words.split(' ')).run(DEADLINE)
}

#[test]
fn client_reaches_the_device_over_ipv4_and_ipv6() {
    let lab = Lab::pair(1, 1500).unwrap();
    ping(&lab, "-c1 -W5 10.1.0.1").unwrap();
    ping(&lab, "-c1 -W5 fd00:1::1").unwrap();
}

#[test]
fn generator_reaches_the_sink_through_the_router_with_full_jumbo_packets() {
    let lab = Lab::router(2, 9000).unwrap();
    ping(&lab, "-c1 -W5 -M do -s 8972 10.2.0.2").unwrap();
    ping(&lab, "-c1 -W5 -M do -s 8952 fd00:2::2").unwrap();
    assert!(ping(&lab, "-c1 -W1 -M do -s 8973 10.2.0.2").is_err());
    assert!(lab.sink().counters("s0").unwrap().rx_packets >= 2);
}

#[test]
fn both_ends_of_a_line_reach_each_other_over_a_wire_that_can_be_tapped() {
    let lab = Lab::line(1, 1500).unwrap();
    let tap = "exec tcpdump -l -n -c 3 -i w1 'icmp or (icmp6 && ip6[40] == 128)' 2>&1";
    let mut tap = lab.wire().program("sh").args(["-c", tap]).spawn().unwrap();
    tap.wait_for("listens", |line| line.contains("listening"), DEADLINE).unwrap();
    ping(&lab, "-c1 -W5 -M do -s 1472 10.2.0.2").unwrap();
    ping(&lab, "-c1 -W5 fd00:2::2").unwrap();
    assert!(tap.wait(DEADLINE).unwrap().stdout.contains("10.1.0.2 > 10.2.0.2: ICMP echo request"));
}

#[test]
fn interfaces_have_the_queues_that_were_asked_for() {
    let lab = Lab::pair(3, 1500).unwrap();
    let queues = lab.dut().program("sh").args(["-c", "ls -d /sys/class/net/d0/queues/rx-*"]).run(DEADLINE).unwrap();
    assert_eq!(queues.lines().count(), 3, "{queues}");
}

#[test]
fn labs_side_by_side_do_not_see_each_other_and_vanish_when_dropped() {
    let first = Lab::pair(1, 1500).unwrap();
    let second = Lab::pair(1, 1500).unwrap();
    let names = [first.dut().name().to_owned(), second.dut().name().to_owned()];
    first.dut().ip("link set d0 down").unwrap();
    assert!(ping(&first, "-c1 -W1 10.1.0.1").is_err());
    ping(&second, "-c1 -W5 10.1.0.1").unwrap();
    drop((first, second));
    for name in names {
        assert!(!Path::new("/run/netns").join(&name).exists(), "{name}");
    }
}

#[test]
fn closure_inside_opens_its_sockets_in_the_namespace() {
    let lab = Lab::pair(1, 1500).unwrap();
    // The address exists nowhere else, so binding to it proves where the thread was.
    let inside = lab.dut().enter(|| std::net::UdpSocket::bind("10.1.0.1:0").is_ok()).unwrap();
    assert!(inside);
    assert!(std::net::UdpSocket::bind("10.1.0.1:0").is_err());
}

#[test]
fn napi_thread_is_refused_without_a_napi_and_found_with_one() {
    let lab = Lab::pair(2, 1500).unwrap();
    let refused = lab.dut().napi_thread("d0", 0).unwrap_err();
    assert!(matches!(refused, LabError::NoNapiThread { .. }), "{refused}");
    lab.dut().offload("d0", &["gro"], true).unwrap();
    let threads = lab.dut().napi_thread("d0", 0).unwrap();
    assert_eq!(lab.dut().napi_thread("d0", 0).unwrap(), threads, "asked again");
    assert_eq!(threads.len(), 2, "one a queue");
    for thread in threads {
        let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap();
        assert!(status.lines().any(|line| line == "Cpus_allowed_list:\t0"), "{status}");
    }
}

#[test]
fn sender_checksums_its_packets_unless_told_otherwise() {
    let features = |lab: &Lab| {
        let text = lab.client().program("ethtool").args(["-k", "c0"]).run(DEADLINE).unwrap();
        text.lines().any(|line| line.starts_with("tx-checksumming: on"))
    };
    assert!(!features(&Lab::pair(1, 1500).unwrap()));
    let config = LabConfig { checksum_offload: true, ..LabConfig::default() };
    assert!(features(&Lab::build(Topology::Pair, &config).unwrap()));
}

#[test]
fn static_neighbours_need_no_arp() {
    let config = LabConfig { static_neighbours: true, ipv6: false, ..LabConfig::default() };
    let lab = Lab::build(Topology::Router, &config).unwrap();
    let neighbours = lab.dut().ip("neigh show").unwrap();
    assert_eq!(neighbours.matches("PERMANENT").count(), 2, "{neighbours}");
    ping(&lab, "-c1 -W5 10.2.0.2").unwrap();
    let links = [lab.gen_side().counters("g0").unwrap(), lab.sink().counters("s0").unwrap()];
    assert_eq!(links.map(|link| link.rx_packets), [1, 1], "the reply and the request, nothing else");
}

#[test]
fn lab_of_a_dead_process_is_swept_with_the_programs_in_it() {
    // A process that has ended and been reaped: its id is free.
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let name = format!("twlab-{}-0-dut", child.id());
    let ip = |words: &[&str]| std::process::Command::new("ip").args(words).status().unwrap().success();
    assert!(ip(&["netns", "add", &name]));
    let mut left = std::process::Command::new("ip").args(["netns", "exec", &name, "sleep", "600"]).spawn().unwrap();
    // It is inside as soon as it has become `sleep`.
    let comm = format!("/proc/{}/comm", left.id());
    for _ in 0..1000 {
        if std::fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == "sleep") {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // Another test's lab may have swept it first; gone it must be.
    sweep().unwrap();
    assert!(!left.wait().unwrap().success(), "ended by a signal");
    assert!(!Path::new("/run/netns").join(&name).exists());
}
