//! Echo beside the kernel: only what is listened at is ours, and the kernel configures it without knowing of it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;

use crate::peers::*;
use tailwater_lab::{Lab, LabConfig, Topology};

/// Polls of something that another thread or process brings about.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + DEADLINE;
    while !holds() {
        assert!(std::time::Instant::now() < end, "not within {DEADLINE:?}: {what}");
        thread::sleep(SILENCE / 10);
    }
}

#[test]
fn kernel_goes_on_with_everything_that_is_not_listened_at() {
    let lab = Lab::pair(2, 1500).unwrap();
    let echo = Echo::start(&lab, "--cores 0,1 --listen 0.0.0.0:7000 --listen [::]:7000");
    // A session of the kernel's, as ssh would be, open while echo works.
    let listener = lab.dut().enter(|| TcpListener::bind("10.1.0.1:7000").unwrap()).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    });
    let mut stream = lab.client().enter(|| TcpStream::connect("10.1.0.1:7000").unwrap()).unwrap();
    stream.write_all(b"before ").unwrap();
    exchange(&lab, "10.1.0.1:7000", 1_000, 1_472);
    exchange(&lab, "[fd00:1::1]:7000", 1_000, 1_452);
    stream.write_all(b"after").unwrap();
    drop(stream);
    assert_eq!(server.join().unwrap(), "before after");
    for host in ["10.1.0.1", "fd00:1::1"] {
        lab.client().program("ping").args(["-c2", "-i0.1", "-W20", host]).run(DEADLINE).unwrap();
    }
    assert_eq!(try_port(&lab, "10.1.0.1:7001"), Outcome::Refused);
    let report = echo.stop();
    assert_eq!(counter(&report, "echo_replies"), 2_000);
    assert_eq!(counter(&report, "answered"), 0, "ping and closed ports are the kernel's");
}

#[test]
fn worker_that_sleeps_keeps_no_frames_from_the_other() {
    // One queue, so that one of the workers owns none; each flow is one worker's, and the other has nothing to do.
    let lab = Lab::pair(1, 1500).unwrap();
    let echo = Echo::start(&lab, "--cores 0,1 --listen 10.1.0.1:7000");
    // All flows are the owner's once in 2^8 runs, which is no failure.
    for flow in 0..8 {
        let socket = socket(&lab, "10.1.0.1:7000");
        // More than there are places in the rings.
        (0..3_000).for_each(|_| round_trip(&socket, &[flow; 64]));
    }
    let report = echo.stop();
    assert_eq!(counter(&report, "echo_replies"), 24_000);
}

#[test]
fn port_is_reserved_in_the_kernel_and_given_back() {
    let lab = Lab::pair(1, 1500).unwrap();
    let echo = Echo::start(&lab, "--listen 10.1.0.1:7000");
    let bind = || lab.dut().enter(|| UdpSocket::bind("10.1.0.1:7000").map(drop)).unwrap();
    assert_eq!(bind().unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    echo.stop();
    bind().unwrap();
}

#[test]
fn port_in_use_is_refused_before_anything_is_attached() {
    let lab = Lab::pair(1, 1500).unwrap();
    let _taken = lab.dut().enter(|| UdpSocket::bind("10.1.0.1:7000").unwrap()).unwrap();
    let output = tailwater(lab.dut(), "echo --udp -i d0 --listen 10.1.0.1:7000").output(DEADLINE).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("10.1.0.1:7000") && said.contains("ss -lntup"), "{said}");
}

#[test]
fn addresses_that_come_and_go_are_followed_live() {
    let lab = Lab::pair(1, 1500).unwrap();
    let echo = Echo::start(&lab, "--listen 0.0.0.0:7000 --listen [::]:7000");
    exchange(&lab, "10.1.0.1:7000", 10, 1_000);
    // As DHCP would do it: another address, then the old one gone.
    lab.dut().ip("addr add 10.1.0.77/24 dev d0").unwrap();
    lab.dut().ip("addr add fd00:1::77/64 dev d0 nodad").unwrap();
    eventually("echo at the new IPv4 address", || try_port(&lab, "10.1.0.77:7000") == Outcome::Answer);
    eventually("echo at the new IPv6 address", || try_port(&lab, "[fd00:1::77]:7000") == Outcome::Answer);
    exchange(&lab, "10.1.0.77:7000", 10, 1_000);
    lab.dut().ip("addr del 10.1.0.77/24 dev d0").unwrap();
    lab.dut().ip("addr del 10.1.0.1/24 dev d0").unwrap();
    lab.dut().ip("addr add 10.1.0.78/24 dev d0").unwrap();
    eventually("no echo at an address that is gone", || try_port(&lab, "10.1.0.1:7000") != Outcome::Answer);
    eventually("echo at the third address", || try_port(&lab, "10.1.0.78:7000") == Outcome::Answer);
    exchange(&lab, "[fd00:1::77]:7000", 10, 1_000);
    echo.stop();
}

#[test]
fn answers_that_need_a_neighbour_have_the_kernel_find_it() {
    let lab = Lab::pair(1, 1500).unwrap();
    let echo = Echo::start(&lab, "--listen 10.1.0.1:7000");
    // A request with IP options (four no-operations) is not answered in its own headers, so the stack needs a route and
    // a neighbour, which here only the kernel can find.
    let with_options = |host: &str| {
        let bind = format!("UDP:10.1.0.1:7000,bind={host},ip-options=x01010101");
        let command = format!("printf '%s' question | socat -t20 -T20 STDIO,ignoreeof!!STDOUT {bind} | head -c 8");
        lab.client().program("sh").args(["-c", &command]).run(DEADLINE).unwrap().trim_end().to_owned()
    };
    lab.client().ip("addr add 10.1.0.3/24 dev c0").unwrap();
    lab.dut().ip("neigh flush dev d0").unwrap();
    assert_eq!(with_options("10.1.0.2"), "question");
    assert_eq!(with_options("10.1.0.3"), "question");
    let known = lab.dut().ip("neigh show dev d0").unwrap();
    assert!(known.contains("10.1.0.2 ") && known.contains("10.1.0.3 "), "{known}");
    let report = echo.stop();
    assert_eq!(counter(&report, "echo_replies"), 2);
    assert_eq!(report["dropped"].as_object().map(serde_json::Map::len), Some(0), "{report:#}");
}

#[test]
fn echo_killed_amid_traffic_leaves_the_interface_as_it_was() {
    let lab = Lab::pair(2, 1500).unwrap();
    let echo = Echo::start(&lab, "--cores 0,1 --exclusive --listen 10.1.0.1:7000");
    let flood = socket(&lab, "10.1.0.1:7000");
    let enough = lab.client().counters("c0").unwrap().rx_packets + 1_000;
    let burst = || {
        // Refused at times once nobody listens any more.
        (0..100).for_each(|_| drop(flood.send(&[7; 1_000])));
        lab.client().counters("c0").unwrap().rx_packets >= enough
    };
    eventually("a thousand answers", burst);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..500 {
                burst();
            }
        });
        echo.kill();
    });
    // The kernel answers again, and another echo can start.
    eventually("ping by the kernel", || {
        lab.client().program("ping").args(["-c1", "-W1", "10.1.0.1"]).run(DEADLINE).is_ok()
    });
    let link = lab.dut().ip("-d link show d0").unwrap();
    assert!(!link.contains("xdp"), "{link}");
    let echo = Echo::start(&lab, "--listen 10.1.0.1:7000");
    exchange(&lab, "10.1.0.1:7000", 100, 1_000);
    echo.stop();
}

#[test]
fn link_that_goes_down_and_up_echoes_again() {
    let config = LabConfig { ipv6: false, ..LabConfig::default() };
    let lab = Lab::build(Topology::Pair, &config).unwrap();
    let echo = Echo::start(&lab, "--listen 0.0.0.0:7000");
    exchange(&lab, "10.1.0.1:7000", 10, 1_000);
    lab.dut().ip("link set d0 down").unwrap();
    lab.dut().ip("link set d0 up").unwrap();
    lab.dut().wait_until_up("d0").unwrap();
    eventually("echo after the link came back", || try_port(&lab, "10.1.0.1:7000") == Outcome::Answer);
    echo.stop();
}
