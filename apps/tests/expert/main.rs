//! tshark's expert looks at transfers over a clean path, in both directions. Nothing else runs meanwhile: what a program
//! that gets no CPU misses is lost, on any path.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../interop/peer.rs"]
mod peer;

use std::collections::BTreeMap;
use std::path::Path;

use tailwater_lab::{Lab, Process};

use crate::common::{DEADLINE, command};
use crate::peer::*;

/// Flags of tshark's TCP analysis that a clean path explains: the receiver has read and says so, the sender has filled
/// the window that it was given, or the kernel writes a checksum of 0 as 0xffff, which is the same.
const EXPLAINED: [&str; 3] = ["tcp.analysis.window_update", "tcp.analysis.window_full", "tcp.checksum.ffff"];

/// Flags that a tail loss probe explains (RFC 8985 §7), of which there is one where the other end does not run for some
/// milliseconds, as happens on a machine that has more to do than CPUs: the last segment again, and the D-SACK for it.
/// There may be as many as the sender has counted.
const PROBES: [&str; 3] =
    ["tcp.analysis.retransmission", "tcp.analysis.spurious_retransmission", "tcp.analysis.duplicate_ack"];

/// Flags that an echo explains besides: it takes no more than it can give back, and while its client writes without reading
/// that may be nothing. The window opens again, for the transfer ends.
const OF_AN_ECHO: [&str; 3] =
    ["tcp.analysis.zero_window", "tcp.analysis.zero_window_probe", "tcp.analysis.zero_window_probe_ack"];

/// What must not be, by name: everything else that the analysis can flag.
const SUSPECT: [&str; 10] = [
    "tcp.analysis.fast_retransmission",
    "tcp.analysis.out_of_order",
    "tcp.analysis.lost_segment",
    "tcp.analysis.ack_lost_segment",
    "tcp.analysis.zero_window",
    "tcp.analysis.zero_window_probe",
    "tcp.analysis.zero_window_probe_ack",
    "tcp.analysis.keep_alive",
    "tcp.analysis.reused_ports",
    "_ws.malformed",
];

const ECHO: u16 = 41_234;

/// tcpdump on c0.
struct Capture {
    tcpdump: Process,
}

impl Capture {
    fn start(lab: &Lab, file: &Path) -> Self {
        let words = ["-i", "c0", "-B", "65536", "-s", "0", "-w"];
        let mut tcpdump = lab.client().program("sh");
        let line = format!("exec tcpdump {} {} tcp 2>&1", words.join(" "), file.display());
        tcpdump = tcpdump.args(["-c", &line]);
        let mut tcpdump = tcpdump.spawn().unwrap();
        tcpdump.wait_for_line("tcpdump: listening", DEADLINE).unwrap();
        Self { tcpdump }
    }

    /// Ends it; nothing may have been missed.
    fn end(self) {
        // What the kernel has captured reaches tcpdump within its time-out of a second.
        std::thread::sleep(std::time::Duration::from_millis(1_500));
        let finished = self.tcpdump.interrupt().unwrap();
        assert!(finished.stdout.contains("\n0 packets dropped by kernel"), "{}", finished.stdout);
    }
}

/// A judgement: what was looked at, and by flag the frames that have it.
type Judgement = (String, BTreeMap<&'static str, Vec<String>>);

fn judge(what: String, file: &Path) -> Judgement {
    let known: Vec<&str> = SUSPECT.iter().chain(&EXPLAINED).chain(&PROBES).copied().collect();
    let tshark = tailwater_lab::Program::new("tshark").args(["-n", "-r"]).arg(file);
    // TCP and below are judged: at some clients' ports tshark would look for a protocol, which in random bytes is malformed.
    let tshark = tshark.args(["-d", "tcp.port==1-65535,data"]);
    // Checksums are judged, too.
    let tshark = tshark.args(["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]);
    let flagged = "tcp.analysis.flags || _ws.malformed || tcp.checksum.status == 0 || ip.checksum.status == 0";
    let tshark = tshark.args(["-Y", flagged, "-T", "fields", "-e", "frame.number", "-e", "_ws.col.Info"]);
    let text = tshark.args(known.iter().flat_map(|field| ["-e", field])).run(TRANSFER).unwrap();
    let mut by_flag: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('\t').collect();
        let flags = known.iter().zip(&cells[2..]).filter(|(_, cell)| !cell.is_empty());
        let flags: Vec<&str> = flags.map(|(flag, _)| *flag).collect();
        let flags = if flags.is_empty() { vec!["another flag, or a wrong checksum"] } else { flags };
        flags.into_iter().for_each(|flag| by_flag.entry(flag).or_default().push(cells[..2].join(" ")));
    }
    let counts: Vec<String> = by_flag.iter().map(|(flag, frames)| format!("{flag} {}", frames.len())).collect();
    println!("{what}: {}", if counts.is_empty() { "nothing flagged".to_owned() } else { counts.join(", ") });
    (what, by_flag)
}

/// Nothing is flagged that is not explained: always, by these flags besides, or by as many `probes` for tail losses.
fn assert_clean(judgements: &[Judgement], besides: &[&str], probes: usize) {
    for (what, by_flag) in judgements {
        for (flag, frames) in by_flag {
            let few = &frames[..frames.len().min(10)];
            let of_probes = PROBES.contains(flag) && frames.len() <= probes;
            let explained = EXPLAINED.contains(flag) || besides.contains(flag) || of_probes;
            assert!(explained, "{what}: {flag}, with {probes} probes: {few:#?}");
        }
    }
}

fn clean_path(mtu: u32) {
    let lab = Lab::pair(2, mtu).unwrap();
    let folder = Folder::new(&format!("expert-{mtu}"));
    let file = folder.file("capture.pcap");
    let sent = folder.fill("sent", 8 << 20);
    let run = |program: &str, words: &[&str]| lab.client().program(program).args(words).run(TRANSFER).unwrap();
    let server = serve(&lab, "--cores 0,1 --listen 0.0.0.0:80 --listen [::]:80");
    let mut judgements = Vec::new();
    for host in ["10.1.0.1", "[fd00:1::1]"] {
        let capture = Capture::start(&lab, &file);
        let (root, body) = (format!("http://{host}/"), format!("http://{host}/bytes/{}", 16 << 20));
        run("curl", &["-sS", "-g", "-o", "/dev/null", &body]);
        (0..20).for_each(|_| drop(run("curl", &["-sS", "-g", "-o", "/dev/null", &root, "-o", "/dev/null", &root])));
        capture.end();
        judgements.push(judge(format!("from our server at {host}, MTU {mtu}"), &file));
    }
    let report = stop(server);
    say_lost(&report);
    assert_clean(&judgements, &[], counter(&report, "tcp_loss_probes") as usize);
    // It keeps what has come and what is yet to leave: of small segments more than the memory of a default holds.
    let server = echo(&lab, &format!("--cores 0,1 --listen 0.0.0.0:{ECHO} --listen [::]:{ECHO}"));
    let mut judgements = Vec::new();
    for to in ["TCP4:10.1.0.1", "TCP6:[fd00:1::1]"] {
        let capture = Capture::start(&lab, &file);
        run("sh", &["-c", &format!("socat -t 60 STDIO {to}:{ECHO} < {} > /dev/null", sent.display())]);
        capture.end();
        judgements.push(judge(format!("both ways with our echo at {to}, MTU {mtu}"), &file));
    }
    // Both ends send text here, and the kernel's probes are not counted by us: it has as many as we, or one.
    let report = stop(server);
    say_lost(&report);
    assert_clean(&judgements, &OF_AN_ECHO, 2 * counter(&report, "tcp_loss_probes") as usize + 1);
    let script = format!("read -r line; printf 'HTTP/1.0 200 OK\\r\\n\\r\\n'; exec cat {}", sent.display());
    std::fs::write(folder.file("answer.sh"), script).unwrap();
    let answer = format!("EXEC:sh {}", folder.file("answer.sh").display());
    for (listen, url) in
        [("TCP4-LISTEN:8000", "http://10.1.0.2:8000/"), ("TCP6-LISTEN:8000", "http://[fd00:1::2]:8000/")]
    {
        let listen = format!("{listen},reuseaddr,fork");
        let _server = lab.client().program("socat").args(["-t", "60", &listen, &answer]).spawn().unwrap();
        crate::common::eventually("socat listens", || run("ss", &["-Hltn", "sport = :8000"]).contains("8000"));
        let capture = Capture::start(&lab, &file);
        command(lab.dut(), &format!("http get -i d0 {url}")).run(TRANSFER).unwrap();
        capture.end();
        assert_clean(&[judge(format!("to our client from {url}, MTU {mtu}"), &file)], &[], 1);
    }
}

/// What did not get through, by our own account.
fn say_lost(report: &serde_json::Value) {
    let ports = report["workers"].as_array().unwrap().iter().flat_map(|worker| worker["ports"].as_array().unwrap());
    println!("drops {}, ports {:?}", report["dropped"], ports.map(ToString::to_string).collect::<Vec<_>>());
}

#[test]
fn tshark_finds_nothing_unexplained_on_a_clean_path() {
    clean_path(1_500);
    clean_path(9_000);
}
