//! The command line, as a person uses it.

use std::io::Write;

use serde_json::Value;
use tailwater_lab::{Lab, Process, Program};

use crate::common::{DEADLINE, RunFolder, assert_accounted, eventually, outcome, summary};

/// A forwarder with pings going through it, and words for it.
struct Scene {
    lab: Lab,
    folder: RunFolder,
    forwarder: Process,
}

impl Scene {
    fn new(name: &str) -> Self {
        let (lab, folder) = (Lab::router(1, 1500).unwrap(), RunFolder::new(name));
        let forwarder = folder.start(lab.dut(), "l3fwd -i d0 -i d1 --place user --idle sleep -j");
        Self { lab, folder, forwarder }
    }

    fn ctl(&self, words: &[&str]) -> (Option<i32>, String, String) {
        outcome(self.folder.command(self.lab.dut(), "ctl").args(words))
    }

    fn done(&self, words: &[&str]) -> String {
        let (code, stdout, stderr) = self.ctl(words);
        assert_eq!(code, Some(0), "{words:?}: {stdout}{stderr}");
        stdout
    }

    fn refused(&self, words: &[&str], code: i32, wanted: &[&str]) {
        let (status, _, stderr) = self.ctl(words);
        assert_eq!(status, Some(code), "{words:?}: {stderr}");
        wanted.iter().for_each(|wanted| assert!(stderr.contains(wanted), "{words:?}: {wanted:?} missing in\n{stderr}"));
    }

    fn pings(&self, count: u32) {
        let count = format!("-c{count}");
        self.lab.gen_side().program("ping").args([&count, "-i0.01", "-W5", "10.2.0.2"]).run(DEADLINE).unwrap();
    }

    fn file(&self, name: &str) -> String {
        self.folder.0.join(name).display().to_string()
    }

    fn end(self) {
        assert_accounted(&summary(self.forwarder));
    }
}

fn packets(file: &str) -> usize {
    Program::new("tshark").args(["-r", file, "-T", "fields", "-e", "frame.len"]).run(DEADLINE).unwrap().lines().count()
}

#[test]
fn capture_inserted_into_a_running_forwarder_can_be_read_while_it_grows_and_after() {
    let scene = Scene::new("ctl-capture");
    let file = scene.file("in.pcapng");
    scene.pings(1);
    scene.done(&["insert", "cap", "capture", "rx:d0", &format!("file={file}"), "expression=icmp"]);
    scene.pings(10);
    eventually("the file has what came in so far", || packets(&file) == 10);
    scene.done(&["set", "cap", "expression=arp"]);
    scene.pings(5);
    scene.done(&["set", "cap", "expression=icmp"]);
    scene.pings(5);
    scene.done(&["extract", "cap"]);
    scene.pings(3);
    assert_eq!(packets(&file), 15, "complete as soon as the block is out");
    let interface = Program::new("tshark").args(["-r", &file, "-T", "fields", "-e", "frame.interface_name", "-c", "1"]);
    assert_eq!(interface.run(DEADLINE).unwrap().trim(), "d0");
    scene.end();
}

#[test]
fn graph_goes_through_a_file_and_back() {
    let scene = Scene::new("ctl-file");
    let before = scene.done(&["dump"]);
    scene.done(&["insert", "count", "counter", "rx:d0"]);
    scene.done(&["insert", "slow", "impair", "count -> route", "delay_us=100"]);
    let after = scene.done(&["dump"]);
    let (old, new) = (scene.file("old.toml"), scene.file("new.toml"));
    std::fs::write(&old, &before).unwrap();
    std::fs::write(&new, after.replace("delay_us = 100", "delay_us = 200")).unwrap();
    let diff = scene.done(&["diff", &new]);
    assert!(diff.contains("~ block slow: delay_us=100 -> 200") && diff.contains("nothing was done"), "{diff}");
    scene.done(&["apply", &new]);
    scene.pings(3);
    scene.done(&["apply", &old]);
    assert_eq!(scene.done(&["dump"]), before);
    scene.done(&["undo"]);
    assert_eq!(scene.done(&["dump"]), std::fs::read_to_string(&new).unwrap());
    assert!(scene.done(&["diff", &new]).contains("no difference"));
    scene.pings(3);
    scene.end();
}

#[test]
fn batch_is_one_transaction_and_a_dry_run_none() {
    let scene = Scene::new("ctl-batch");
    let before = scene.done(&["dump"]);
    let file = scene.file("batch");
    std::fs::write(
        &file,
        "# by way of a counter\nadd count counter\nunbind rx:d0\nbind 'rx:d0 -> count'\nbind 'count -> route'\n",
    )
    .unwrap();
    let dry = scene.done(&["--dry-run", "batch", &file]);
    assert!(dry.contains("+ block count: counter") && dry.contains("nothing was done; version 1"), "{dry}");
    assert_eq!(scene.done(&["dump"]), before);
    let done: Value = serde_json::from_str(&scene.done(&["batch", &file, "-j"])).unwrap();
    assert_eq!((done["version"].as_u64(), done["diff"]["bound"].as_array().unwrap().len()), (Some(2), 2));
    assert!(done["stalls"][0]["stall_ns"].as_u64().unwrap() > 0);
    std::fs::write(&file, "extract count\nadd more counter\nrm nothing\n").unwrap();
    let after = scene.done(&["dump"]);
    scene.refused(&["batch", &file], 1, &["operation 3", "no block is named \"nothing\""]);
    assert_eq!(scene.done(&["dump"]), after);
    std::fs::write(&file, "extract count\nlevitate\n").unwrap();
    scene.refused(&["batch", &file], 2, &["line 2", "levitate"]);
    scene.end();
}

#[test]
fn blocks_are_listed_with_what_they_count() {
    let scene = Scene::new("ctl-list");
    scene.done(&["insert", "count", "counter", "rx:d0"]);
    scene.pings(7);
    let listed: Value = serde_json::from_str(&scene.done(&["list", "-j"])).unwrap();
    let block = listed.as_array().unwrap().iter().find(|block| block["name"] == "count").unwrap().clone();
    assert_eq!(block["packets"], block["counters"]["packets"]);
    assert!(block["packets"].as_u64().unwrap() >= 7, "{block}");
    assert!(scene.done(&["list"]).contains("counter"));
    let kinds: Value = serde_json::from_str(&scene.done(&["kinds", "rate-limit", "-j"])).unwrap();
    let pps = &kinds[0]["parameters"][0];
    assert_eq!((pps["key"].as_str(), pps["min"].as_i64(), pps["live"].as_bool()), (Some("pps"), Some(0), Some(true)));
    assert!(scene.done(&["kinds"]).lines().count() > 10);
    scene.end();
}

#[test]
fn mistakes_are_told_with_what_would_be_right() {
    let scene = Scene::new("ctl-errors");
    scene.done(&["insert", "count", "counter", "rx:d0"]);
    let before = scene.done(&["dump"]);
    scene.refused(&["rm", "cuont"], 1, &["no block is named \"cuont\"", "did you mean count", "ctl list"]);
    scene.refused(&["rm", "count"], 1, &["still bound", "rx:d0 -> count", "ctl extract"]);
    scene.refused(&["add", "new", "conter"], 1, &["no kind", "did you mean counter", "ctl kinds"]);
    scene.refused(&["insert", "new", "counter", "rx:d7"], 1, &["no edge begins at", "rx:d0 -> count"]);
    scene.refused(&["bind", "route.host -> tx:d9"], 1, &["no port \"d9\"", "d0, d1"]);
    scene.refused(&["bind", "count to route"], 2, &["FROM[.OUTPUT] -> TO"]);
    scene.refused(&["set", "count", "pps=1"], 1, &["unknown parameter", "ctl kinds"]);
    scene.refused(&["set", "count", "pps"], 2, &["KEY=VALUE"]);
    scene.refused(&["insert", "slow", "impair", "rx:d0", "delay_us=-1"], 1, &["from 0 to 60000000"]);
    scene.refused(&["insert", "cap", "capture", "rx:d0"], 1, &["\"file\" must be given"]);
    scene.refused(&["insert", "cap", "capture", "rx:d0", "file=/nonexistent/x"], 1, &["/nonexistent/x", "folder"]);
    scene.refused(&["replace", "count", "--kind", "impair"], 1, &["does not fit", "--drop"]);
    scene.refused(&["--base", "1", "rm", "count"], 1, &["version 2 by now, not 1", "ctl dump"]);
    let (code, stdout, _) = scene.ctl(&["--base", "1", "rm", "count", "-j"]);
    let told: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (code, told["error"]["kind"].as_str(), told["error"]["current"].as_u64()),
        (Some(1), Some("conflict"), Some(2))
    );
    scene.refused(&["bind", "route.host -> cuont"], 1, &["would dangle", "did you mean count"]);
    scene.refused(&["undo", "--base", "9"], 1, &["version 2 by now, not 9"]);
    scene.refused(&["subscribe", "--from", "0"], 1, &["not kept"]);
    scene.refused(&["apply", "/nonexistent.toml"], 1, &["cannot read /nonexistent.toml"]);
    scene.refused(&["dump", "--socket", "/nonexistent.sock"], 1, &["cannot connect to /nonexistent.sock"]);
    scene.refused(&["dump", "--name", "echo"], 1, &["no such process", "l3fwd"]);
    let wrong = scene.file("wrong.toml");
    std::fs::write(&wrong, "[[node]]\nname = \"x\"\nknid = \"counter\"\n").unwrap();
    scene.refused(&["diff", &wrong], 1, &["knid", "ctl dump"]);
    assert_eq!(scene.done(&["dump"]), before);
    scene.end();
}

#[test]
fn client_killed_in_the_middle_of_a_transaction_changes_nothing() {
    let scene = Scene::new("ctl-killed");
    let before = scene.done(&["dump"]);
    for _ in 0..3 {
        let folder = format!("TAILWATER_RUN_DIR={}", scene.folder.0.display());
        let mut child = std::process::Command::new("env")
            .arg(folder)
            .arg(crate::common::tailwater())
            .args(["ctl", "--socket"])
            .arg(scene.folder.socket(&scene.forwarder))
            .args(["batch", "-"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.as_mut().unwrap().write_all(b"add one counter\nadd two counter\n").unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(scene.done(&["dump"]), before);
    scene.end();
}

#[test]
fn subscriber_sees_each_change_once_in_order() {
    let scene = Scene::new("ctl-events");
    let events = scene.folder.command(scene.lab.dut(), "ctl -j subscribe --from 1 --count 4").spawn().unwrap();
    scene.done(&["insert", "count", "counter", "rx:d0"]);
    scene.refused(&["rm", "count"], 1, &["still bound"]);
    scene.done(&["undo"]);
    let finished = events.wait(DEADLINE).unwrap();
    let seen: Vec<Value> = finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = seen.iter().map(|event| (event["number"].as_u64(), event["event"].as_str())).collect();
    assert_eq!(
        told,
        [(Some(1), Some("started")), (Some(2), Some("changed")), (Some(3), Some("refused")), (Some(4), Some("undone"))]
    );
    assert_eq!((seen[1]["version"].as_u64(), seen[3]["version"].as_u64()), (Some(2), Some(3)));
    assert_eq!(
        (seen[2]["code"].as_str(), seen[1]["diff"]["added"][0]["name"].as_str()),
        (Some("in_use"), Some("count"))
    );
    assert!(seen[1]["who"].as_str().unwrap().contains("user 0"));
    scene.end();
}
