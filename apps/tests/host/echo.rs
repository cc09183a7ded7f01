//! Echo in exclusive mode and as a host of its own: the stack answers for everything.

use crate::peers::*;
use tailwater_lab::{Lab, LabConfig, Topology};

#[test]
fn ten_thousand_datagrams_of_random_sizes_come_back_byte_by_byte() {
    let lab = Lab::pair(1, 1500).unwrap();
    let echo = Echo::start(&lab, "--exclusive --listen 0.0.0.0:7000 --listen [::]:7000");
    exchange(&lab, "10.1.0.1:7000", 5_000, 1_472);
    exchange(&lab, "[fd00:1::1]:7000", 5_000, 1_452);
    let report = echo.stop();
    assert_eq!(counter(&report, "echo_replies"), 10_000);
}

#[test]
fn two_workers_on_two_queues_share_the_flows() {
    let lab = Lab::pair(2, 1500).unwrap();
    let echo = Echo::start(&lab, "--exclusive --cores 0,1 --listen 10.1.0.1:7000");
    let mut random = Random(1);
    // One worker gets all of 64 flows once in 2^63 runs.
    for _ in 0..64 {
        round_trip(&socket(&lab, "10.1.0.1:7000"), &random.payload(1_400));
    }
    let report = echo.stop();
    assert_eq!(counter(&report, "echo_replies"), 64);
    let by_worker = report["workers"].as_array().unwrap().iter();
    let delivered: Vec<u64> = by_worker.map(|worker| worker["delivered"].as_u64().unwrap()).collect();
    assert!(delivered.len() == 2 && delivered.iter().all(|&n| n > 0), "{delivered:?}");
}

#[test]
fn datagrams_larger_than_the_mtu_are_put_together_and_answered_in_fragments() {
    let lab = Lab::pair(2, 1500).unwrap();
    let echo = Echo::start(&lab, "--exclusive --cores 0,1 --listen 0.0.0.0:7000 --listen [::]:7000");
    exchange(&lab, "10.1.0.1:7000", 100, 65_507);
    exchange(&lab, "[fd00:1::1]:7000", 100, 65_487);
    echo.stop();
}

#[test]
fn jumbo_datagrams_that_span_chunks_are_answered_in_place_and_beyond_the_mtu_in_fragments() {
    let lab = Lab::pair(1, 9000).unwrap();
    let echo = Echo::start(&lab, "--exclusive --listen 0.0.0.0:7000 --listen [::]:7000");
    exchange(&lab, "10.1.0.1:7000", 500, 8_972);
    exchange(&lab, "[fd00:1::1]:7000", 500, 8_952);
    let frames = |lab: &Lab| lab.client().counters("c0").unwrap().rx_packets;
    let before = frames(&lab);
    round_trip(&socket(&lab, "10.1.0.1:7000"), &[7; 8_972]);
    assert!(frames(&lab) - before <= 3, "an answer that fits the MTU is one packet");
    exchange(&lab, "10.1.0.1:7000", 50, 65_507);
    exchange(&lab, "[fd00:1::1]:7000", 50, 65_487);
    echo.stop();
}

#[test]
fn generic_xdp_echoes_too() {
    let lab = Lab::pair(1, 1500).unwrap();
    let echo = Echo::start(&lab, "--exclusive --mode generic --listen 0.0.0.0:7000 --listen [::]:7000");
    exchange(&lab, "10.1.0.1:7000", 300, 1_472);
    exchange(&lab, "[fd00:1::1]:7000", 300, 5_000);
    echo.stop();
}

#[test]
fn packet_rings_echo_where_xdp_is_not_wanted() {
    let lab = Lab::pair(2, 1500).unwrap();
    let echo = Echo::start(&lab, "--backend packet --cores 0,1 --listen 0.0.0.0:7000 --listen [::]:7000");
    // The kernel sees each packet, too, but its port is held by a socket that nobody reads.
    exchange(&lab, "10.1.0.1:7000", 300, 5_000);
    exchange(&lab, "[fd00:1::1]:7000", 300, 5_000);
    let report = echo.stop();
    assert_eq!(counter(&report, "echo_replies"), 600);
}

#[test]
fn host_of_its_own_answers_arp_discovery_ping_and_closed_ports() {
    let lab = Lab::pair(1, 1500).unwrap();
    let address = "--address 10.1.0.9/24 --address fd00:1::9/64";
    let echo = Echo::start(&lab, &format!("--exclusive {address} --listen 10.1.0.9:7000 --listen [fd00:1::9]:7000"));
    for size in ["0", "56", "1472", "4000"] {
        for host in ["10.1.0.9", "fd00:1::9"] {
            lab.client().program("ping").args(["-c2", "-i0.1", "-W20", "-s", size, host]).run(DEADLINE).unwrap();
        }
    }
    exchange(&lab, "10.1.0.9:7000", 100, 3_000);
    exchange(&lab, "[fd00:1::9]:7000", 100, 3_000);
    assert_eq!(try_port(&lab, "10.1.0.9:7001"), Outcome::Refused);
    assert_eq!(try_port(&lab, "[fd00:1::9]:7001"), Outcome::Refused);
    let report = echo.stop();
    assert_eq!(report["dropped"]["udp_port_closed"], 2, "{report:#}");
}

#[test]
fn large_answers_leave_from_a_worker_that_never_sees_arp() {
    // ARP and neighbour discovery come to worker 0 only; an answer in fragments needs the neighbour where it is made.
    let lab = Lab::pair(1, 1500).unwrap();
    let address = "--address 10.1.0.9/24 --address fd00:1::9/64";
    let words = format!("--exclusive --cores 0,1 {address} --listen 10.1.0.9:7000 --listen [fd00:1::9]:7000");
    let echo = Echo::start(&lab, &words);
    // Each client address is another flow of fragments: sixteen miss worker 1 once in 2^16 runs, which is no failure.
    for host in 10..26 {
        lab.client().ip(&format!("addr add 10.1.0.{host}/24 dev c0")).unwrap();
        let from: std::net::SocketAddr = format!("10.1.0.{host}:0").parse().unwrap();
        let socket = lab.client().enter(|| std::net::UdpSocket::bind(from).unwrap()).unwrap();
        socket.set_read_timeout(Some(ANSWER)).unwrap();
        socket.connect("10.1.0.9:7000").unwrap();
        round_trip(&socket, &[5; 4_000]);
    }
    exchange(&lab, "[fd00:1::9]:7000", 10, 4_000);
    echo.stop();
}

#[test]
fn private_address_beside_the_kernel_takes_fragments_and_ping_and_leaves_the_rest() {
    let lab = Lab::pair(1, 1500).unwrap();
    let echo = Echo::start(&lab, "--address 10.1.0.9/24 --listen 10.1.0.9:7000");
    exchange(&lab, "10.1.0.9:7000", 100, 20_000);
    lab.client().program("ping").args(["-c2", "-i0.1", "-W20", "10.1.0.9"]).run(DEADLINE).unwrap();
    // The kernel's own address goes on as before.
    lab.client().program("ping").args(["-c2", "-i0.1", "-W20", "10.1.0.1"]).run(DEADLINE).unwrap();
    assert_eq!(try_port(&lab, "10.1.0.1:7000"), Outcome::Refused);
    let report = echo.stop();
    assert_eq!(counter(&report, "answered"), 2 + 1, "two pings and the ARP request: {report:#}");
}

#[test]
fn forged_source_port_of_an_echo_is_not_answered() {
    let lab = Lab::pair(1, 1500).unwrap();
    let echo = Echo::start(&lab, "--exclusive --listen 10.1.0.1:7000");
    let socket = lab.client().enter(|| std::net::UdpSocket::bind("10.1.0.2:7000").unwrap()).unwrap();
    socket.send_to(b"ping", "10.1.0.1:7000").unwrap();
    // The next one is answered, and it came later.
    round_trip(&crate::peers::socket(&lab, "10.1.0.1:7000"), b"pong");
    let report = echo.stop();
    assert_eq!((counter(&report, "echo_loops_refused"), counter(&report, "echo_replies")), (1, 1));
}

#[test]
fn no_receive_buffer_is_lost_to_fragments_that_never_complete() {
    let config = LabConfig { static_neighbours: true, ..LabConfig::default() };
    let lab = Lab::build(Topology::Pair, &config).unwrap();
    let echo = Echo::start(&lab, "--exclusive --listen 10.1.0.1:7000");
    // Without its last fragments, by a filter on the way out.
    let drop = "add table netdev t; add chain netdev t out { type filter hook egress device c0 priority 0; }; \
                add rule netdev t out ip frag-off & 0x1fff > 200 drop";
    lab.client().program("nft").arg(drop).run(DEADLINE).unwrap();
    let socket = socket(&lab, "10.1.0.1:7000");
    for _ in 0..200 {
        socket.send(&[1; 3_000]).unwrap();
    }
    round_trip(&socket, b"still there");
    let report = echo.stop();
    assert_eq!(counter(&report, "echo_replies"), 1);
    let given_up = &report["dropped"];
    let evicted = given_up["reassembly_evicted"].as_u64().unwrap_or(0) + given_up["shutdown"].as_u64().unwrap_or(0);
    assert!(evicted >= 200, "{given_up:#}");
}
