//! Requests and responses, of ourselves and of echo servers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;
use tailwater_lab::Lab;

use crate::common::{DEADLINE, command, outcome};
use crate::ends::*;

/// A kernel echo server on c0, until its lab is gone.
fn kernel_echo(lab: &Lab) {
    let listener = lab.client().enter(|| TcpListener::bind("10.1.0.2:7").unwrap()).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || echo(stream));
        }
    });
}

fn echo(mut stream: TcpStream) {
    let mut text = [0; 65_536];
    stream.set_nodelay(true).unwrap();
    // An error is the end, too.
    while let Ok(n @ 1..) = stream.read(&mut text) {
        if stream.write_all(&text[..n]).is_err() {
            return;
        }
    }
}

/// What was measured; the quantiles must stand in their order.
fn transactions(result: &Value) -> &Value {
    let found = &result["end"]["transactions"];
    let latency = ["min", "p50", "p90", "p99", "p99.9", "max"];
    let latency: Vec<f64> = latency.iter().map(|name| found["latency_us"][name].as_f64().unwrap()).collect();
    assert!(latency.is_sorted() && latency[0] > 0.0, "{result:#}");
    assert_eq!(found["failed"], 0, "{result:#}");
    found
}

#[test]
fn our_server_answers_requests_of_both_kinds_from_two_workers_to_two() {
    let lab = Lab::pair(2, 1500).unwrap();
    let server = Server::start_on(lab.client(), "c0", "--cores 0,1");
    let kept = perf(&lab, "-c 10.1.0.2 --cores 0,1 --rr 100,5000 -P 4 -n 1000");
    assert!(transactions(&kept)["count"].as_u64().unwrap() >= 1_000, "{kept:#}");
    let closed = perf(&lab, "-c fd00:1::2 --cores 0,1 --crr 1,1 -P 4 -n 1000");
    assert!(transactions(&closed)["count"].as_u64().unwrap() >= 1_000, "{closed:#}");
    assert_eq!(closed["end"]["transactions"]["mode"], "crr");
    server.tests(2);
    server.stop();
}

#[test]
fn requests_larger_than_a_send_buffer_are_sent_piece_by_piece() {
    let lab = Lab::pair(1, 1500).unwrap();
    let server = Server::start_on(lab.client(), "c0", "");
    for (words, n) in [("--rr 1M -P 16 -n 64", 64), ("--rr 64K -w 32K -n 10", 10), ("--crr 64K -w 32K -n 10", 10)] {
        let result = perf(&lab, &format!("-c 10.1.0.2 {words}"));
        assert!(transactions(&result)["count"].as_u64().unwrap() >= n, "{words}: {result:#}");
    }
    server.tests(3);
    server.stop();
}

#[test]
fn kernel_echo_is_measured_and_ports_in_time_wait_are_used_again() {
    let lab = Lab::pair(1, 1500).unwrap();
    kernel_echo(&lab);
    let kept = perf(&lab, "-c 10.1.0.2 --peer echo --rr 64 -P 8 -n 2000");
    assert!(transactions(&kept)["count"].as_u64().unwrap() >= 2_000, "{kept:#}");
    // A client has 193 ports for this, and closes first: each is in TIME-WAIT five times.
    let closed = perf(&lab, "-c 10.1.0.2 --peer echo --crr 64 -n 1000");
    assert!(transactions(&closed)["count"].as_u64().unwrap() >= 1_000, "{closed:#}");
}

#[test]
fn stock_server_is_told_from_ours_when_requests_are_wanted() {
    let lab = Lab::pair(1, 1500).unwrap();
    let _server = iperf3_server(&lab);
    let (code, _, stderr) = outcome(command(lab.dut(), "perf -i d0 -c 10.1.0.2 --rr"));
    assert!(code == Some(1) && stderr.contains("answers no requests") && stderr.contains("--peer echo"), "{stderr}");
    // It serves the next.
    perf(&lab, "-c 10.1.0.2 -n 1M");
}

#[test]
fn text_tells_rate_and_latencies() {
    let lab = Lab::pair(1, 1500).unwrap();
    kernel_echo(&lab);
    let text = command(lab.dut(), "perf -i d0 -c 10.1.0.2 --peer echo --rr -n 500").run(DEADLINE).unwrap();
    for wanted in ["request, response: 64 B for 64 B over 1 connection", "per second", "p50", "p99.9", "max"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}
