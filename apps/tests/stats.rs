//! `tailwater stats` and `tailwater doctor`: what they tell is true, and the doctor changes nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use common::{DEADLINE, RunFolder as Folder, assert_accounted, command, eventually};
use serde_json::Value;
use tailwater_lab::Lab;

fn ping(lab: &Lab, count: u32, to: &str) {
    let count = format!("-c{count}");
    lab.gen_side().program("ping").args([&count, "-i0.01", "-W5", to]).run(DEADLINE).unwrap();
}

#[test]
fn counters_of_a_running_forwarder_are_those_of_its_summary() {
    let lab = Lab::router(1, 1500).unwrap();
    let folder = Folder::new("counters");
    let forwarder = folder.start(lab.dut(), "l3fwd -i d0 -i d1 --place user --idle sleep -j");
    ping(&lab, 20, "10.2.0.2");
    for _ in 0..3 {
        let nowhere = lab.gen_side().program("ping").args(["-c1", "-W2", "10.99.0.1"]).output(DEADLINE).unwrap();
        assert!(!nowhere.status.success());
    }
    let running = folder.json(&lab, "-j");
    let packets = |report: &Value, key: &str| report["totals"][key].as_u64().unwrap();
    assert!(packets(&running, "sent") >= 40 && packets(&running, "dropped") >= 3, "{running:#}");
    assert_eq!(running["totals"]["imbalance"], 0, "{running:#}");
    assert_eq!(running["dropped"]["no_route"], 3, "{running:#}");
    let ports = running["workers"][0]["ports"].as_array().unwrap();
    assert_eq!(ports.iter().map(|port| port["name"].as_str().unwrap()).collect::<Vec<_>>(), ["d0", "d1"]);
    let block = &running["workers"][0]["blocks"][0];
    assert_eq!(
        (block["kind"].as_str(), block["packets"].as_u64()),
        (Some("ip-forward"), running["totals"]["received"].as_u64())
    );
    assert!(running["interfaces"][0]["verdicts"]["redirect_transit"]["packets"].as_u64().unwrap() >= 23, "{running:#}");
    let summary = common::summary(forwarder);
    assert_accounted(&summary);
    assert!(packets(&summary, "sent") >= packets(&running, "sent"));
    let (code, _, stderr) = folder.stats(&lab, "");
    assert_eq!(code, Some(1));
    assert!(stderr.contains("no tailwater process runs here"), "{stderr}");
}

#[test]
fn several_processes_are_listed_and_one_must_be_chosen() {
    let lab = Lab::router(1, 1500).unwrap();
    let folder = Folder::new("several");
    let first = folder.start(lab.dut(), "l3fwd -i d0 --place user --idle sleep -j");
    let second = folder.start(lab.dut(), "echo --udp -i d1 --listen 10.2.0.1:7 --idle sleep -j");
    let (code, _, stderr) = folder.stats(&lab, "");
    assert_eq!(code, Some(2), "{stderr}");
    let pids = [first.pid().to_string(), second.pid().to_string()];
    assert!(stderr.contains("--pid") && pids.iter().all(|pid| stderr.contains(pid)), "{stderr}");
    assert_eq!(folder.json(&lab, "--list -j").as_array().unwrap().len(), 2);
    assert_eq!(folder.json(&lab, &format!("-j --pid {}", pids[1]))["command"], "echo");
    assert_eq!(folder.json(&lab, "-j --name l3fwd")["pid"].as_u64(), Some(u64::from(first.pid())));
    let (code, _, stderr) = folder.stats(&lab, "--pid 1");
    assert!(code == Some(1) && stderr.contains("no such process") && stderr.contains(&pids[0]), "{stderr}");
    assert!(folder.json(&lab, "--graph -j --name l3fwd")["edges"].as_array().unwrap().len() >= 2);
    // A process that could not clean up is forgotten.
    second.kill();
    eventually("one is left", || folder.json(&lab, "--list -j").as_array().unwrap().len() == 1);
    common::summary(first);
}

#[test]
fn control_socket_speaks_one_line_of_json_for_another() {
    let lab = Lab::router(1, 1500).unwrap();
    let folder = Folder::new("protocol");
    let forwarder = folder.start(lab.dut(), "l3fwd -i d0 --place user --idle sleep -j");
    let socket = UnixStream::connect(folder.socket(&forwarder)).unwrap();
    let mut answers = BufReader::new(&socket).lines();
    let mut ask = |request: &str| -> Value {
        (&socket).write_all(format!("{request}\n").as_bytes()).unwrap();
        serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap()
    };
    let identity = ask(r#"{"version":1,"op":"identify"}"#);
    assert_eq!((identity["version"].as_u64(), identity["ok"]["command"].as_str()), (Some(1), Some("l3fwd")));
    assert_eq!(ask(r#"{"version":9,"op":"identify"}"#)["error"]["kind"], "version");
    assert_eq!(ask("hello")["error"]["kind"], "syntax");
    assert!(ask(r#"{"version":1,"op":"report"}"#)["ok"]["totals"]["received"].is_u64());
    common::summary(forwarder);
}

#[test]
fn doctor_names_obstacles_and_changes_nothing() {
    let lab = Lab::router(2, 9000).unwrap();
    let dut = lab.dut();
    let state = || dut.ip("-d link show").unwrap();
    let before = state();
    let topics = |interface: &str| -> Value {
        let text = command(dut, &format!("doctor {interface} -j")).run(DEADLINE).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["interfaces"][0].clone()
    };
    let finding = |report: &Value, topic: &str| -> Value {
        report["findings"].as_array().unwrap().iter().find(|finding| finding["topic"] == topic).unwrap().clone()
    };
    let report = topics("d0");
    assert_eq!((report["driver"].as_str(), report["verdict"].as_str()), (Some("veth"), Some("AF_XDP, native, copy")));
    assert!(finding(&report, "queues")["state"].as_str().unwrap().starts_with("2 to receive"), "{report:#}");
    assert!(finding(&report, "MTU")["state"].as_str().unwrap().contains("several buffers"), "{report:#}");
    assert!(finding(&report, "kernel placement")["hint"].as_str().unwrap().contains("gro on"), "{report:#}");
    assert_eq!(state(), before);
    lab.gen_side().offload("g0", &["gro"], true).unwrap();
    assert!(finding(&topics("d0"), "kernel placement")["hint"].is_null());
    dut.ip("link set d0 down").unwrap();
    assert!(finding(&topics("d0"), "state")["hint"].as_str().unwrap().contains("ip link set dev d0 up"));
    dut.ip("link set d0 up").unwrap();
    let forwarder = common::started(dut, "l3fwd -i d0 --place user --idle sleep -j");
    assert!(finding(&topics("d0"), "XDP program")["state"].as_str().unwrap().contains("steer"));
    common::summary(forwarder);
    let all = command(dut, "doctor").run(DEADLINE).unwrap();
    assert!(all.contains("\nd0 (") && all.contains("\nd1 (") && !all.contains("\nlo ("), "{all}");
}

#[test]
fn demo_shows_both_forwarders_and_leaves_nothing_behind() {
    let lab = Lab::pair(1, 1500).unwrap();
    // Started from a namespace of its own only to have a name for the process; the demo makes its own network.
    let demo = command(lab.dut(), "demo --seconds 0.3 -j").spawn().unwrap();
    let pid = demo.pid();
    let finished = demo.wait(DEADLINE).unwrap();
    assert!(finished.status.success(), "{finished:?}");
    let last: Value = serde_json::from_str(finished.stdout.lines().last().unwrap()).unwrap();
    let figures = last["figures"].as_array().unwrap();
    assert_eq!(figures.len(), 3, "{last:#}");
    assert!(figures.iter().all(|figure| figure["count"].as_u64().unwrap() > 0), "{last:#}");
    let served = last["tcp"].as_array().unwrap();
    assert_eq!(served.iter().map(|one| one["server"].as_str().unwrap()).collect::<Vec<_>>(), ["kernel", "tailwater"]);
    assert!(served.iter().all(|one| one["count"].as_u64().unwrap() > 0 && one["bulk_mbit_per_s"].as_f64() > Some(0.0)));
    let left = |pid: u32| {
        let start = format!("twdemo-{pid}-");
        let mut names = std::fs::read_dir("/run/netns").unwrap().flatten().map(|entry| entry.file_name());
        names.any(|name| name.to_string_lossy().starts_with(&start))
    };
    assert!(!left(pid));
    let mut interrupted = command(lab.dut(), "demo --seconds 5 -j").spawn().unwrap();
    interrupted.wait_for("begins to forward", |line| line.contains("\"number\":3"), DEADLINE).unwrap();
    let pid = interrupted.pid();
    let finished = interrupted.interrupt().unwrap();
    assert!(!finished.was_killed && finished.status.code() == Some(1), "{finished:?}");
    assert!(finished.stderr.contains("interrupted; everything has been removed"), "{finished:?}");
    assert!(!left(pid));
    // One that is killed cannot clean up; the next does it.
    let mut killed = command(lab.dut(), "demo --seconds 5 -j").spawn().unwrap();
    killed.wait_for("has its network", |line| line.contains("\"number\":2"), DEADLINE).unwrap();
    let pid = killed.pid();
    killed.kill();
    assert!(left(pid));
    command(lab.dut(), "demo --seconds 0.1 -j").run(DEADLINE).unwrap();
    assert!(!left(pid));
}
