//! `tailwater capture`: files that Wireshark opens, of an interface that goes on working.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::PathBuf;

use common::{DEADLINE, assert_accounted, command, outcome, report, started, tailwater};
use tailwater_lab::{Lab, Process, Program};

/// A folder for captures, removed with this value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tailwater-capture-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> String {
        self.0.join("packets.pcapng").display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The packets of a file, one a line, with these fields.
fn tshark(file: &str, fields: &[&str]) -> Vec<String> {
    let fields = fields.iter().flat_map(|field| ["-e", field]);
    let read = Program::new("tshark").args(["-r", file, "-T", "fields"]).args(fields);
    read.run(DEADLINE).unwrap().lines().map(str::to_owned).collect()
}

fn ping(lab: &Lab, words: &str) {
    lab.gen_side().program("ping").args(words.split(' ')).run(DEADLINE).unwrap();
}

fn finish(process: Process) -> String {
    let finished = process.wait(DEADLINE).unwrap();
    assert!(finished.status.success(), "{finished:?}");
    finished.stdout
}

#[test]
fn capture_stops_after_its_count_and_tshark_reads_what_was_sent() {
    let lab = Lab::pair(1, 1500).unwrap();
    let folder = Folder::new("count");
    let capture = started(lab.dut(), &format!("capture -i d0 -w {} -f icmp -c 5 -j", folder.file()));
    // All are answered: the host gets what is captured, too.
    ping(&lab, "-c 7 -i 0.05 -W 5 -s 200 10.1.0.1");
    let finished = capture.wait(DEADLINE).unwrap();
    assert_accounted(&report(&finished));
    let packets = tshark(&folder.file(), &["ip.src", "icmp.type", "icmp.seq", "frame.len"]);
    let expected: Vec<String> = (1..=5).map(|number| format!("10.1.0.2\t8\t{number}\t242")).collect();
    assert_eq!(packets, expected);
}

#[test]
fn snap_length_cuts_packets_and_keeps_their_length() {
    let lab = Lab::pair(1, 1500).unwrap();
    let folder = Folder::new("snap");
    let capture = started(lab.dut(), &format!("capture -i d0 -w {} -f icmp6 -c 1 --snaplen 64", folder.file()));
    ping(&lab, "-c 3 -i 0.05 -W 5 -s 1000 fd00:1::1");
    let text = finish(capture);
    assert!(text.contains("captured"), "{text}");
    let packets = tshark(&folder.file(), &["frame.cap_len", "frame.len"]);
    assert!(packets.len() == 1 && packets[0].starts_with("64\t"), "{packets:?}");
}

#[test]
fn files_go_round_and_only_the_newest_are_kept() {
    let lab = Lab::pair(1, 9000).unwrap();
    let folder = Folder::new("ring");
    let words = format!("capture -i d0 -w {} -f icmp -c 400 --file-size-mb 1 --files 2", folder.file());
    let capture = started(lab.dut(), &words);
    ping(&lab, "-q -c 400 -i 0.002 -W 5 -s 8000 10.1.0.1");
    finish(capture);
    let mut files: Vec<String> =
        std::fs::read_dir(&folder.0).unwrap().flatten().map(|entry| entry.path().display().to_string()).collect();
    files.sort();
    assert_eq!(files.len(), 2, "{files:?}");
    // 3.2 MB in files of 1 MiB: the last packet is in the newest.
    let last = tshark(&files[1], &["icmp.seq"]).last().cloned();
    assert_eq!(last.as_deref(), Some("400"), "{files:?}");
}

#[test]
fn standard_output_carries_packets_and_nothing_else() {
    let lab = Lab::pair(1, 1500).unwrap();
    let folder = Folder::new("stdout");
    let script = format!("{} capture -i d0 -w - -c 2 -f icmp > {}", tailwater().display(), folder.file());
    let capture = lab.dut().program("sh").args(["-c", &script]).spawn().unwrap();
    // Its readiness is told on standard error here; the file's head comes with it.
    common::eventually("the file has its head", || std::fs::metadata(folder.file()).is_ok_and(|file| file.len() > 0));
    ping(&lab, "-c 4 -i 0.2 -W 5 10.1.0.1");
    finish(capture);
    assert_eq!(tshark(&folder.file(), &["icmp.type"]), ["8", "8"]);
}

#[test]
fn malformed_filter_is_a_wrong_command_line() {
    let lab = Lab::pair(1, 1500).unwrap();
    let folder = Folder::new("filter");
    let words = ["capture", "-i", "d0", "-w", &folder.file(), "-f", "udp prot 53"];
    let (code, _, stderr) = outcome(lab.dut().program(tailwater()).args(words));
    assert_eq!(code, Some(2), "{stderr}");
    assert!(
        stderr.contains("malformed filter") && stderr.contains("udp prot 53") && stderr.contains("tcpdump"),
        "{stderr}"
    );
    assert!(!PathBuf::from(folder.file()).exists(), "nothing is written for a command that cannot run");
    let (code, _, stderr) = outcome(command(lab.dut(), "capture -i d0"));
    assert!(code == Some(2) && stderr.contains("--write"), "{stderr}");
}

#[test]
fn what_an_xdp_program_takes_before_is_hinted_at() {
    let lab = Lab::pair(1, 1500).unwrap();
    let folder = Folder::new("taken");
    let stderr_of = |capture: Process| capture.interrupt().unwrap().stderr;
    let words = format!("capture -i d0 -w {}", folder.file());
    let hint = "`tailwater ctl insert cap capture rx:d0 file=FILE`";
    let alone = stderr_of(started(lab.dut(), &words));
    assert!(!alone.contains(hint), "{alone}");
    let forward = started(lab.dut(), "l3fwd -i d0 --place user");
    let beside = stderr_of(started(lab.dut(), &words));
    assert!(beside.contains(hint), "{beside}");
    assert!(forward.interrupt().unwrap().status.success());
}
