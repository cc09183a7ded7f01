//! `tailwater l3fwd` between real peers: the Linux kernel on both sides, its ping, traceroute, TCP and UDP.
//!
//! ```text
//!   gen                       dut                        sink
//!   g0 10.1.0.2 ------- d0 10.1.0.1 | d1 10.2.0.1 ------- s0 10.2.0.2
//! ```
//!
//! Where workers forward, the router's own kernel has forwarding switched off: what arrives went through us.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{DEADLINE, assert_accounted, eventually, report, started, summary};
use serde_json::Value;
use tailwater_lab::Lab;

/// Labs share two cores: one at a time is faster than all at once.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a kernel ping from gen gets all its answers; `words` come before the address.
fn pings(lab: &Lab, words: &str, to: &str) -> bool {
    let words = words.split_ascii_whitespace();
    lab.gen_side().program("ping").args(["-q", "-W", "5"]).args(words).arg(to).run(DEADLINE).is_ok()
}

fn kernel_forwarding(lab: &Lab, on: bool) {
    lab.dut().sysctl("net.ipv4.ip_forward", u8::from(on)).unwrap();
    lab.dut().sysctl("net.ipv6.conf.all.forwarding", u8::from(on)).unwrap();
}

/// One way to run the forwarder.
#[derive(Clone, Copy, Debug)]
struct Case {
    place: &'static str,
    mode: &'static str,
    mtu: u32,
    queues: u16,
    workers: u8,
}

const fn case(place: &'static str, mode: &'static str, mtu: u32, queues: u16, workers: u8) -> Case {
    Case { place, mode, mtu, queues, workers }
}

impl Case {
    fn lab(self) -> Lab {
        let lab = Lab::router(self.queues, self.mtu).unwrap();
        kernel_forwarding(&lab, self.place == "xdp");
        // A veth takes what XDP redirects only while its peer has a NAPI.
        lab.gen_side().offload("g0", &["gro"], true).unwrap();
        lab.sink().offload("s0", &["gro"], true).unwrap();
        lab
    }

    fn words(self) -> String {
        let Self { place, mode, queues, workers, .. } = self;
        let cores = if workers == 1 { "0" } else { "0,1" };
        format!("l3fwd -i d0 -i d1 --place {place} --mode {mode} --queues {queues} --cores {cores} --idle sleep -j")
    }

    /// Packets that went through us, wherever we forwarded them.
    fn forwarded(self, report: &Value) -> u64 {
        let key = if self.place == "xdp" { "sent_by_kernel" } else { "sent" };
        report["totals"][key].as_u64().unwrap()
    }
}

/// Every value of every option, and every pair of values that could get in each other's way.
const CASES: [Case; 10] = [
    case("user", "native", 1500, 1, 1),
    case("user", "native", 9000, 2, 2),
    case("user", "native", 1500, 2, 1),
    case("user", "native", 9000, 1, 2),
    case("user", "generic", 1500, 2, 2),
    case("user", "generic", 9000, 1, 1),
    case("xdp", "native", 1500, 1, 1),
    case("xdp", "native", 9000, 2, 2),
    case("xdp", "generic", 1500, 2, 1),
    case("xdp", "generic", 9000, 1, 2),
];

#[test]
fn kernel_peers_ping_trace_and_transfer_through_every_way_to_forward() {
    let _turn = alone();
    for case in CASES {
        let lab = case.lab();
        let forwarder = started(lab.dut(), &case.words());
        full_size_pings_pass(&lab, case);
        both_hops_are_seen(&lab, case);
        file_arrives_unchanged(&lab, case, "10.2.0.2", "TCP4");
        file_arrives_unchanged(&lab, case, "[fd00:2::2]", "TCP6");
        let report = summary(forwarder);
        assert_accounted(&report);
        assert!(case.forwarded(&report) > 100, "{case:?}: {report:#}");
    }
}

fn full_size_pings_pass(lab: &Lab, case: Case) {
    let (ip4, ip6) = (case.mtu - 28, case.mtu - 48);
    assert!(pings(lab, &format!("-c 3 -i 0.1 -M do -s {ip4}"), "10.2.0.2"), "{case:?}");
    assert!(pings(lab, &format!("-c 3 -i 0.1 -M do -s {ip6}"), "fd00:2::2"), "{case:?}");
    // What is for the router itself reaches its kernel.
    assert!(pings(lab, "-c 1", "10.1.0.1") && pings(lab, "-c 1", "fd00:1::1"), "{case:?}");
    assert!(pings(lab, "-c 1", "10.2.0.1") && pings(lab, "-c 1", "fd00:2::1"), "{case:?}");
}

/// RFC 1812 §5.3.1 and RFC 4443 §3.3: the hop which counts down to zero names itself.
fn both_hops_are_seen(lab: &Lab, case: Case) {
    for [family, router, sink] in [["-4", "10.1.0.1", "10.2.0.2"], ["-6", "fd00:1::1", "fd00:2::2"]] {
        let traced = lab.gen_side().program("traceroute").args([family, "-n", "-q", "2", "-w", "5", "-m", "4", sink]);
        let path = traced.run(DEADLINE).unwrap();
        let hop = |number: usize, address: &str| path.lines().nth(number).is_some_and(|line| line.contains(address));
        assert!(hop(1, router) && hop(2, sink), "{case:?}: {path}");
    }
}

fn file_arrives_unchanged(lab: &Lab, case: Case, to: &str, transport: &str) {
    let folder = std::env::temp_dir();
    let name = |end: &str| folder.join(format!("tailwater-{}-{end}", std::process::id()));
    let (sent, received) = (name("sent"), name("received"));
    // Every byte differs from its neighbours and from those a power of two away.
    let content: Vec<u8> = (0..4_000_000u64).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    std::fs::write(&sent, &content).unwrap();
    let _ = std::fs::remove_file(&received);
    let listener = lab.sink().program("socat").arg("-u").arg(format!("{transport}-LISTEN:9000,reuseaddr"));
    let listener = listener.arg(format!("CREATE:{}", received.display())).spawn().unwrap();
    let port = if transport == "TCP6" { "/proc/thread-self/net/tcp6" } else { "/proc/thread-self/net/tcp" };
    // 9000 in hexadecimal, state LISTEN.
    let listens =
        || std::fs::read_to_string(port).unwrap().lines().any(|line| line.contains(":2328 ") && line.contains(" 0A "));
    eventually("listening", || lab.sink().enter(listens).unwrap());
    let sender = lab.gen_side().program("socat").arg("-u").arg(format!("OPEN:{}", sent.display()));
    sender.arg(format!("{transport}:{to}:9000")).run(DEADLINE).unwrap();
    listener.wait(DEADLINE).unwrap();
    assert!(std::fs::read(&received).unwrap() == content, "{case:?}: the file was changed on its way to {to}");
    std::fs::remove_file(&sent).unwrap();
    std::fs::remove_file(&received).unwrap();
}

#[test]
fn iperf3_runs_through_the_workers() {
    let _turn = alone();
    let case = case("user", "native", 1500, 1, 1);
    let lab = case.lab();
    let forwarder = started(lab.dut(), &case.words());
    let mut server = lab.sink().program("iperf3").args(["-s", "-1", "--forceflush"]).spawn().unwrap();
    server.wait_for("listens", |line| line.contains("listening"), DEADLINE).unwrap();
    let client = lab.gen_side().program("iperf3").args(["-c", "10.2.0.2", "-t", "2", "-J"]).run(DEADLINE).unwrap();
    let result: Value = serde_json::from_str(&client).unwrap();
    assert!(result["end"]["sum_received"]["bytes"].as_u64().unwrap() > 1_000_000, "{client}");
    server.wait(DEADLINE).unwrap();
    assert_accounted(&summary(forwarder));
}

#[test]
fn routes_added_changed_and_withdrawn_under_load_take_effect_and_lose_nothing_else() {
    let _turn = alone();
    for place in ["user", "xdp"] {
        let case = case(place, "native", 1500, 1, 1);
        let lab = case.lab();
        lab.sink().ip("addr add 10.50.0.1/32 dev lo").unwrap();
        let forwarder = started(lab.dut(), &case.words());
        let load = lab.gen_side().program("ping").args(["-q", "-i", "0.002", "-W", "5", "10.2.0.2"]).spawn().unwrap();
        let reachable = || pings(&lab, "-c 1", "10.50.0.1");
        let says = |what: &str| {
            let output =
                lab.gen_side().program("ping").args(["-c", "1", "-W", "2", "10.50.0.1"]).output(DEADLINE).unwrap();
            String::from_utf8_lossy(&output.stdout).contains(what)
        };
        let net_unreachable = || says("Destination Net Unreachable");
        eventually("unreachable before there is a route", net_unreachable);
        lab.dut().ip("route add 10.50.0.0/16 via 10.2.0.2").unwrap();
        eventually("added", reachable);
        lab.dut().ip("route add prohibit 10.50.0.1/32").unwrap();
        eventually("a longer prefix that prohibits", || says("Packet filtered") || says("Prohibited"));
        lab.dut().ip("route replace blackhole 10.50.0.1/32").unwrap();
        eventually("changed", || says("100% packet loss") && !says("filtered"));
        lab.dut().ip("route del blackhole 10.50.0.1/32").unwrap();
        eventually("the shorter prefix again", reachable);
        lab.dut().ip("route del 10.50.0.0/16").unwrap();
        eventually("withdrawn", net_unreachable);
        let load = load.interrupt().unwrap();
        assert!(load.stdout.contains(" 0% packet loss"), "{place}: {}", load.stdout);
        let report = summary(forwarder);
        assert_accounted(&report);
        let dropped = |reason: &str| report["dropped"][reason].as_u64().unwrap_or(0);
        assert!(dropped("no_route") > 0 && dropped("blackhole") > 0 && dropped("route_refused") > 0, "{report:#}");
    }
}

#[test]
fn killed_in_full_traffic_it_leaves_the_interface_to_the_kernel() {
    let _turn = alone();
    let case = case("user", "native", 1500, 1, 1);
    let lab = case.lab();
    let forwarder = started(lab.dut(), &case.words());
    let load = lab.gen_side().program("ping").args(["-q", "-f", "10.2.0.2"]).spawn().unwrap();
    assert!(pings(&lab, "-c 3 -i 0.1", "10.2.0.2"));
    forwarder.kill();
    kernel_forwarding(&lab, true);
    eventually("no program is attached", || !lab.dut().ip("link show d0").unwrap().contains("xdp"));
    assert!(pings(&lab, "-c 3 -i 0.1", "10.2.0.2"), "the kernel forwards again");
    kernel_forwarding(&lab, false);
    let next = started(lab.dut(), &case.words());
    assert!(pings(&lab, "-c 3 -i 0.1", "10.2.0.2"), "and so do we");
    drop(load);
    assert_accounted(&summary(next));
}

#[test]
fn interface_down_and_up_again_goes_on_forwarding() {
    let _turn = alone();
    let case = case("user", "native", 1500, 1, 1);
    let lab = case.lab();
    let forwarder = started(lab.dut(), &case.words());
    let load = lab.gen_side().program("ping").args(["-q", "-f", "10.2.0.2"]).spawn().unwrap();
    for round in 0..3 {
        lab.dut().ip("link set d1 down").unwrap();
        assert!(!pings(&lab, "-c 1 -w 1", "10.2.0.2"), "round {round}");
        lab.dut().ip("link set d1 up").unwrap();
        eventually("forwarding again", || pings(&lab, "-c 1", "10.2.0.2"));
    }
    drop(load);
    assert_accounted(&summary(forwarder));
}

#[test]
fn deleted_interface_ends_neither_the_process_nor_the_accounts() {
    let _turn = alone();
    let case = case("user", "native", 1500, 1, 1);
    let lab = case.lab();
    let mut forwarder = started(lab.dut(), &case.words());
    // Enough of it that packets lie in the transmit ring when the kernel stops serving it.
    let flood = || lab.gen_side().program("ping").args(["-q", "-f", "-l", "100", "10.2.0.2"]).spawn().unwrap();
    let load = [flood(), flood(), flood()];
    assert!(pings(&lab, "-c 3 -i 0.1", "10.2.0.2"));
    lab.dut().ip("link del d1").unwrap();
    assert!(!pings(&lab, "-c 1 -w 1", "10.2.0.2"));
    assert!(pings(&lab, "-c 1", "10.1.0.1"), "the other interface works on");
    assert!(forwarder.is_running());
    drop(load);
    assert_accounted(&summary(forwarder));
}

#[test]
fn changed_mtu_is_obeyed_and_told_to_the_sender() {
    let _turn = alone();
    let case = case("user", "native", 1500, 1, 1);
    let lab = case.lab();
    let forwarder = started(lab.dut(), &case.words());
    assert!(pings(&lab, "-c 1 -M do -s 1472", "10.2.0.2") && pings(&lab, "-c 1 -M do -s 1452", "fd00:2::2"));
    // Both ends, as on a wire: a veth takes no frame that is larger than its own MTU.
    lab.dut().ip("link set d1 mtu 1400").unwrap();
    lab.sink().ip("link set s0 mtu 1400").unwrap();
    // RFC 1191 §4 and RFC 4443 §3.2: the message carries the MTU of the next link.
    let says = |size: &str, to: &str, what: &str| {
        let ping = lab.gen_side().program("ping").args(["-c", "1", "-W", "2", "-M", "do", "-s", size, to]);
        let output = ping.output(DEADLINE).unwrap();
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).contains(what)
    };
    eventually("IPv4: fragmentation needed", || says("1472", "10.2.0.2", "1400"));
    eventually("IPv6: packet too big", || says("1452", "fd00:2::2", "1400"));
    assert!(pings(&lab, "-c 1 -M dont -s 1472", "10.2.0.2"), "without the bit it is fragmented");
    let report = summary(forwarder);
    assert_accounted(&report);
    assert!(report["dropped"]["packet_too_big"].as_u64().is_some_and(|dropped| dropped > 0), "{report:#}");
}

#[test]
fn sixty_four_frames_starve_it_and_nothing_leaks() {
    let _turn = alone();
    let case = case("user", "native", 1500, 1, 1);
    let lab = case.lab();
    let forwarder = started(lab.dut(), &format!("{} --frames 64 --ring-size 64", case.words()));
    let flood = |from: &tailwater_lab::Namespace, to: &str| {
        from.program("ping").args(["-q", "-f", "-l", "200", "-s", "1400", "-w", "3", to]).spawn().unwrap()
    };
    let floods = [flood(lab.gen_side(), "10.2.0.2"), flood(lab.gen_side(), "fd00:2::2"), flood(lab.sink(), "10.1.0.2")];
    floods.into_iter().for_each(|flood| drop(flood.wait(DEADLINE)));
    eventually("it recovers", || pings(&lab, "-c 1", "10.2.0.2"));
    let report = summary(forwarder);
    assert_accounted(&report);
    assert_eq!(report["frames"], 64);
    assert!(report["totals"]["shed"].as_u64().is_some_and(|shed| shed > 0), "it was not starved: {report:#}");
}

#[test]
fn duration_ends_it_and_the_text_summary_names_what_happened() {
    let _turn = alone();
    let case = case("user", "native", 1500, 1, 1);
    let lab = case.lab();
    let words = "l3fwd -i d0 -i d1 --place user --duration 2 --stats-interval 0.2";
    let forwarder = started(lab.dut(), words);
    assert!(pings(&lab, "-c 2 -i 0.1", "10.2.0.2"));
    assert!(!pings(&lab, "-c 1 -w 1", "10.77.0.1"), "nobody has a route there");
    let finished = forwarder.wait(DEADLINE).unwrap();
    assert!(finished.status.success(), "{finished:?}");
    for wanted in ["every packet is accounted for", "no_route", "packets per transmit call", "all of them came back"] {
        assert!(finished.stdout.contains(wanted), "{wanted} is missing from\n{}", finished.stdout);
    }
    assert!(finished.stderr.lines().filter(|line| line.contains("pps")).count() >= 3, "{}", finished.stderr);
    assert!(finished.stderr.contains("place: user space"), "{}", finished.stderr);
}

#[test]
fn napi_threads_are_switched_on_pinned_and_switched_off_again() {
    let _turn = alone();
    let case = case("user", "native", 1500, 1, 1);
    let lab = case.lab();
    let threaded = || {
        let read = lab.dut().program("cat").arg("/sys/class/net/d0/threaded").run(DEADLINE).unwrap();
        read.trim().to_owned()
    };
    assert_eq!(threaded(), "0");
    let forwarder = started(lab.dut(), &format!("{} --napi-thread --napi-nice -5", case.words()));
    assert_eq!(threaded(), "1");
    assert!(pings(&lab, "-c 3 -i 0.1", "10.2.0.2"));
    let finished = forwarder.stop().unwrap();
    assert!(finished.stderr.contains("receive work in napi/d0-"), "{}", finished.stderr);
    assert_accounted(&report(&finished));
    assert_eq!(threaded(), "0");
}

#[test]
fn af_packet_forwards_where_asked_for_although_the_senders_left_out_checksums() {
    let _turn = alone();
    let case = case("user", "auto", 1500, 1, 1);
    let lab = case.lab();
    lab.gen_side().offload("g0", &["tx"], true).unwrap();
    lab.sink().offload("s0", &["tx"], true).unwrap();
    let forwarder = started(lab.dut(), &format!("{} --backend packet", case.words()));
    full_size_pings_pass(&lab, case);
    both_hops_are_seen(&lab, case);
    file_arrives_unchanged(&lab, case, "10.2.0.2", "TCP4");
    file_arrives_unchanged(&lab, case, "[fd00:2::2]", "TCP6");
    let report = summary(forwarder);
    assert_accounted(&report);
    assert_eq!(report["workers"][0]["ports"][0]["backend"], "packet");
}

/// A BIRD of one router: `session` is its BGP session's own end, other end and AS numbers.
fn bird(
    namespace: &tailwater_lab::Namespace,
    folder: &std::path::Path,
    name: &str,
    session: &str,
) -> tailwater_lab::Process {
    let file = folder.join(format!("{name}.conf"));
    std::fs::write(&file, session).unwrap();
    let socket = folder.join(format!("{name}.ctl"));
    namespace.program("bird").arg("-f").arg("-c").arg(&file).arg("-s").arg(&socket).spawn().unwrap()
}

#[test]
fn routes_that_bird_learns_are_forwarded_by_and_withdrawn_ones_are_not() {
    let _turn = alone();
    let case = case("user", "native", 1500, 1, 1);
    let lab = case.lab();
    let folder = std::env::temp_dir().join(format!("tailwater-bird-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for address in ["10.60.0.1/32", "fd00:60::1/128"] {
        lab.sink().ip(&format!("addr add {address} dev lo")).unwrap();
    }
    let session = |number: u8, local: &str, local_as: u32, other: &str, other_as: u32, channel: &str| {
        format!(
            "protocol bgp b{number} {{ local {local} as {local_as}; neighbor {other} as {other_as};\n  \
             connect delay time 1; connect retry time 1; error wait time 1, 2; {channel} }}\n"
        )
    };
    let learn = |family: &str| format!("{family} {{ import all; export none; }};");
    let tell = |family: &str| format!("{family} {{ import none; export all; next hop self; }};");
    let ours = "router id 10.2.0.1;\nprotocol device {}\n\
                protocol kernel { ipv4 { import none; export all; }; }\n\
                protocol kernel { ipv6 { import none; export all; }; }\n"
        .to_owned()
        + &session(4, "10.2.0.1", 65001, "10.2.0.2", 65002, &learn("ipv4"))
        + &session(6, "fd00:2::1", 65001, "fd00:2::2", 65002, &learn("ipv6"));
    let theirs = "router id 10.2.0.2;\nprotocol device {}\n\
                  protocol static { ipv4; route 10.60.0.0/16 blackhole; }\n\
                  protocol static { ipv6; route fd00:60::/32 blackhole; }\n"
        .to_owned()
        + &session(4, "10.2.0.2", 65002, "10.2.0.1", 65001, &tell("ipv4"))
        + &session(6, "fd00:2::2", 65002, "fd00:2::1", 65001, &tell("ipv6"));
    let forwarder = started(lab.dut(), &case.words());
    let reachable = |to: &str| pings(&lab, "-c 1", to);
    assert!(!reachable("10.60.0.1") && !reachable("fd00:60::1"));
    // BGP itself is traffic for the router's own kernel, over a forwarded interface.
    let our_bird = bird(lab.dut(), &folder, "ours", &ours);
    let their_bird = bird(lab.sink(), &folder, "theirs", &theirs);
    eventually("learned, IPv4", || reachable("10.60.0.1"));
    eventually("learned, IPv6", || reachable("fd00:60::1"));
    their_bird.stop();
    eventually("withdrawn, IPv4", || !reachable("10.60.0.1"));
    eventually("withdrawn, IPv6", || !reachable("fd00:60::1"));
    our_bird.stop();
    let report = summary(forwarder);
    assert_accounted(&report);
    assert!(report["dropped"]["no_route"].as_u64().is_some_and(|dropped| dropped > 0), "{report:#}");
    std::fs::remove_dir_all(&folder).unwrap();
}
