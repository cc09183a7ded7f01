//! The metrics page and `stats -j` tell the same, and the ledger adds up in both.

use std::collections::BTreeSet;

use serde_json::Value;
use tailwater_lab::{Lab, LabConfig, Topology};

use crate::common::{DEADLINE, RunFolder, outcome, summary};
use crate::expectation::Expected;
use crate::scrape::{ADDRESS, Samples, get, scrape};

/// Two queues, and nobody who says anything unasked.
fn quiet_lab() -> Lab {
    let config = LabConfig { queues: 2, ipv6: false, static_neighbours: true, ..LabConfig::default() };
    Lab::build(Topology::Router, &config).unwrap()
}

/// Pings that pass, that find no route, and that come to the end of their life in the router.
fn traffic(lab: &Lab) {
    for words in ["-c30 -i0.002 -W5 10.2.0.2", "-c3 -i0.01 -W0.1 10.99.0.1", "-c4 -i0.01 -W0.1 -t1 10.2.0.2"] {
        lab.gen_side().program("ping").args(words.split(' ')).output(DEADLINE).unwrap();
    }
}

fn sum(samples: &Samples, name: &str) -> f64 {
    let name = format!("tailwater_{name}");
    samples.iter().filter(|((sample, _), _)| *sample == name).map(|(_, value)| value).sum()
}

/// The workers go on turning, and the one who asks wakes them, so the page lies between two reports in JSON; where these
/// agree, and with stopped traffic almost all numbers do, it says exactly the same.
#[test]
fn metrics_are_the_numbers_of_the_json_each_of_them_and_no_other() {
    let lab = quiet_lab();
    let folder = RunFolder::new("metrics");
    let words = format!("l3fwd -i d0 -i d1 --place user --cores 0,1 --idle sleep -j --metrics {ADDRESS}");
    let forwarder = folder.start(lab.dut(), &words);
    let (code, _, stderr) = outcome(folder.command(lab.dut(), "ctl insert count counter rx:d0"));
    assert_eq!(code, Some(0), "{stderr}");
    traffic(&lab);
    let before = Expected::of(&folder.json(&lab, "-j")).samples;
    let page = scrape(lab.dut());
    let after = Expected::of(&folder.json(&lab, "-j")).samples;
    let keys = |samples: &Samples| samples.keys().cloned().collect::<BTreeSet<_>>();
    let (page_keys, wanted) = (keys(&page), keys(&before));
    let different: Vec<_> = page_keys.symmetric_difference(&wanted).collect();
    assert!(different.is_empty(), "only in one of the two: {different:#?}");
    let mut exact = 0;
    for (key, &value) in &page {
        let (before, after) = (before[key], after[key]);
        let (low, high) = (before.min(after), before.max(after));
        let rounding = high.abs() * 1e-9;
        assert!((low - rounding..=high + rounding).contains(&value), "{key:?}: {value} is not from {low} to {high}");
        exact += usize::from(low == high);
    }
    assert!(exact * 10 > page.len() * 8, "only {exact} of {} numbers stood still", page.len());
    assert!(page.len() > 200 && sum(&page, "block_packets_total") >= 70.0, "{page:?}");
    summary(forwarder);
}

#[test]
fn ledger_of_the_page_adds_up() {
    let lab = quiet_lab();
    let folder = RunFolder::new("ledger");
    let words = format!("l3fwd -i d0 -i d1 --place user --cores 0,1 --idle sleep -j --metrics {ADDRESS}");
    let forwarder = folder.start(lab.dut(), &words);
    traffic(&lab);
    let page = scrape(lab.dut());
    let n = |name: &str| sum(&page, name);
    assert!(n("packets_received_total") >= 67.0 && n("packets_dropped_total") == 7.0, "{page:?}");
    assert_eq!(n("packets_imbalance"), 0.0);
    let out = ["sent_total", "delivered_total", "dropped_total", "held"].map(|way| n(&format!("packets_{way}")));
    assert_eq!(n("packets_received_total") + n("packets_originated_total"), out.iter().sum::<f64>());
    for (total, parts) in [
        ("packets_dropped_total", "dropped_packets_total"),
        ("packets_dropped_total", "worker_dropped_packets_total"),
        ("packets_received_total", "port_rx_packets_total"),
        ("packets_received_total", "queue_rx_packets_total"),
        ("packets_received_total", "worker_batch_packets_sum"),
        ("packets_sent_total", "port_tx_packets_total"),
        ("packets_originated_total", "worker_packets_originated_total"),
        ("system_calls_total", "worker_system_calls_total"),
        ("block_packets_total", "block_batch_packets_sum"),
        ("block_batches_total", "block_batch_packets_count"),
        ("port_rx_bytes_total", "queue_rx_bytes_total"),
        ("packets_sent_total", "block_sent_packets_total"),
    ] {
        assert_eq!(n(total), n(parts), "{total} is not the sum of {parts}");
    }
    summary(forwarder);
}

#[test]
fn only_the_page_is_served_and_scrapes_are_counted() {
    let lab = quiet_lab();
    let folder = RunFolder::new("server");
    let mut forwarder = folder
        .command(lab.dut(), &format!("l3fwd -i d0 --place user --idle sleep -j --metrics {ADDRESS}"))
        .spawn()
        .unwrap();
    let ready = forwarder.wait_for("is ready", |line| line.contains("\"ready\""), DEADLINE).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&ready).unwrap()["metrics"], ADDRESS);
    for (request, status) in [("GET / HTTP/1.0", 404), ("POST /metrics HTTP/1.1", 405), ("hello", 400)] {
        let answer = get(lab.dut(), &format!("{request}\r\n\r\n"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    let openmetrics = get(lab.dut(), "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n");
    assert!(openmetrics.ends_with("# EOF\n"), "{openmetrics}");
    let (code, _, stderr) =
        outcome(folder.command(lab.dut(), &format!("l3fwd -i d1 --place user --metrics {ADDRESS}")));
    assert!(code == Some(1) && stderr.contains("cannot serve metrics at") && stderr.contains("hint:"), "{stderr}");
    let counters = &summary(forwarder)["command_counters"];
    assert_eq!((&counters["metrics_served"], &counters["metrics_bad_requests"]), (&1.into(), &3.into()));
}

#[test]
fn every_long_running_command_serves_metrics() {
    let lab = quiet_lab();
    let folder = RunFolder::new("commands");
    let file = folder.0.with_extension("pcapng");
    for words in
        ["echo --udp -i d0 --listen 10.1.0.1:7 --idle sleep".to_owned(), format!("capture -i d0 -w {}", file.display())]
    {
        let process = folder.start(lab.dut(), &format!("{words} -j --metrics {ADDRESS}"));
        let page = scrape(lab.dut());
        let commands: Vec<_> = page.keys().filter(|(name, _)| name == "tailwater_process_info").collect();
        let command = words.split(' ').next().unwrap();
        assert!(format!("{commands:?}").contains(&format!("{command:?}")), "{words}: {commands:?}");
        assert!(sum(&page, "frames") > 0.0, "{words}: {page:?}");
        summary(process);
    }
    let _ = std::fs::remove_file(file);
    let words = format!("ping -i d0 --address 10.1.0.9/24 10.1.0.2 --metrics {ADDRESS}");
    let mut ping = folder.command(lab.dut(), &words).spawn().unwrap();
    ping.wait_for("gets replies", |line| line.contains("time="), DEADLINE).unwrap();
    let page = scrape(lab.dut());
    assert!(sum(&page, "packets_sent_total") >= 1.0 && sum(&page, "packets_imbalance") == 0.0, "{page:?}");
    assert!(ping.interrupt().unwrap().status.success());
}
