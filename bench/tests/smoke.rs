//! The scenario runner on a real kernel, as briefly as possible: does it measure, write and clean up? Needs root and two
//! CPUs. No figure is judged.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where one test's results go; removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("tailwater-bench-smoke-{}-{name}", std::process::id())))
    }

    fn json(&self, scenario: &str) -> serde_json::Value {
        let text = fs::read_to_string(self.0.join(format!("{scenario}.json"))).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bench(out: &Path, words: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_tailwater-bench");
    let output = Command::new(program).arg("run").args(words).arg("--out").arg(out).output().unwrap();
    eprintln!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn quick_forwarding_run_counts_packets_and_writes_every_file() {
    let folder = Folder::new("l3fwd");
    let output = bench(&folder.0, &["l3fwd", "--quick", "--sizes", "60", "--peers", "kernel,xdp-fib,xdp-redirect"]);
    assert!(output.status.success());
    for file in ["l3fwd.md", "l3fwd-best.svg", "l3fwd-best.png", "l3fwd-overload.svg", "l3fwd-cpu.png"] {
        assert!(fs::metadata(folder.0.join(file)).unwrap().len() > 0, "{file}");
    }
    let report = folder.json("l3fwd");
    let samples = report["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 3);
    for sample in samples {
        let values = &sample["values"];
        let [delivered, offered] = ["mpps", "offered_mpps"].map(|key| values[key].as_f64().unwrap());
        assert!(delivered > 0.0 && offered > 0.0, "{sample}");
    }
    assert_eq!(report["complete"], true);
}

#[test]
fn quick_round_trip_run_has_percentiles_for_both_clients() {
    let folder = Folder::new("udp-rtt");
    let output = bench(&folder.0, &["udp-rtt", "--quick", "--peers", "kernel-polls,kernel-blocks"]);
    assert!(output.status.success());
    let report = folder.json("udp-rtt");
    assert_eq!(report["samples"].as_array().map(Vec::len), Some(4));
    assert_eq!(report["tables"].as_array().map(Vec::len), Some(3));
}

#[test]
fn contender_that_was_asked_for_and_is_absent_fails_the_run_and_is_named() {
    let folder = Folder::new("absent");
    let words = ["l3fwd", "--quick", "--sizes", "60", "--peers", "kernel,tailwater", "--tailwater", "/nonexistent"];
    let output = bench(&folder.0, &words);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent"));
    // The others were measured all the same.
    assert_eq!(folder.json("l3fwd")["samples"].as_array().map(Vec::len), Some(1));
}

#[test]
fn quick_group_run_times_every_way_to_change_a_group() {
    let folder = Folder::new("groups");
    let output = bench(&folder.0, &["groups", "--quick", "--members", "8", "--peers", "ip-group,ip-each,ip-batch"]);
    assert!(output.status.success());
    let report = folder.json("groups");
    let samples = report["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 3);
    for sample in samples {
        for key in ["up_ms", "mtu_ms", "down_ms"] {
            assert!(sample["values"][key].as_f64().unwrap() > 0.0, "{sample}");
        }
    }
}
