//! `top` without a terminal. What it draws on one is tested beside its code, with pictures.

use serde_json::Value;
use tailwater_lab::Lab;

use crate::common::{RunFolder, outcome, summary};

#[test]
fn top_prints_one_screen_where_there_is_no_terminal() {
    let lab = Lab::router(2, 1500).unwrap();
    let folder = RunFolder::new("top");
    let forwarder = folder.start(lab.dut(), "l3fwd -i d0 -i d1 --place user --idle sleep -j");
    let mut pinger = lab.gen_side().program("ping").args(["-i0.002", "10.2.0.2"]).spawn().unwrap();
    pinger.wait_for("gets replies", |line| line.contains("time="), crate::common::DEADLINE).unwrap();
    let (code, text, stderr) = outcome(folder.command(lab.dut(), "top --interval 0.5"));
    assert_eq!(code, Some(0), "{stderr}");
    for wanted in ["l3fwd (pid", "workers:", "ports:", "queues:", "blocks:", "verdicts:", "ip-forward", "af_xdp"] {
        assert!(text.contains(wanted), "{wanted} is missing from\n{text}");
    }
    let (code, text, stderr) = outcome(folder.command(lab.dut(), "top --once -j --interval 0.5"));
    assert_eq!(code, Some(0), "{stderr}");
    let top: Value = serde_json::from_str(&text).unwrap();
    let pps = |thing: &Value, key: &str| thing[key].as_f64().unwrap();
    let (worker, block) = (&top["workers"][0], &top["blocks"][0]);
    assert!(pps(worker, "in_pps") > 0.0 && pps(worker, "packets_per_batch") >= 1.0, "{top:#}");
    assert!((pps(worker, "in_pps") - pps(block, "in_pps")).abs() < 0.01, "{top:#}");
    assert!(pps(block, "cycles_per_packet") > 0.0 && pps(&top, "secs") >= 0.4, "{top:#}");
    pinger.stop();
    summary(forwarder);
}

#[test]
fn top_of_nothing_says_what_to_do() {
    let lab = Lab::pair(1, 1500).unwrap();
    let folder = RunFolder::new("top-of-nothing");
    let (code, _, stderr) = outcome(folder.command(lab.dut(), "top"));
    assert!(code == Some(1) && stderr.contains("no tailwater process runs here"), "{stderr}");
    let (code, _, stderr) = outcome(folder.command(lab.dut(), "top --interval 0"));
    assert!(code == Some(2) && stderr.contains("0.1 to 60"), "{stderr}");
}
