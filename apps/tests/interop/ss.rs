//! `tailwater ss`: what it lists is what there is.

use std::io::{Read, Write};

use serde_json::Value;
use tailwater_lab::Lab;

use crate::common::{RunFolder, eventually, outcome};
use crate::peer::*;

fn rows(lab: &Lab, folder: &RunFolder, words: &str) -> Vec<Value> {
    let (code, stdout, stderr) = outcome(folder.command(lab.dut(), &format!("ss -j {words}")));
    assert_eq!(code, Some(0), "{words}: {stderr}");
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn connections_are_listed_with_what_they_are_doing_and_filtered() {
    let lab = Lab::pair(2, 1500).unwrap();
    let folder = RunFolder::new("ss");
    let http = folder.start(lab.dut(), "http serve -j -i d0 --cores 0,1 --listen 0.0.0.0:80 --listen [::]:80");
    let mut streams: Vec<_> =
        (0..40).map(|n| connect(&lab, ["10.1.0.1:80", "[fd00:1::1]:80"][usize::from(n % 4 == 0)])).collect();
    streams.iter_mut().for_each(|stream| drop(ask(stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")));
    // One that does not read what it is sent, and one that has ended.
    streams[1].write_all(b"GET /bytes/100000000 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    ask(&mut streams[2], "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let ended = streams.remove(2);
    let ended_port = ended.local_addr().unwrap().port();
    drop(ended);
    let list = |words: &str| rows(&lab, &folder, words);
    eventually("one is in TIME-WAIT", || list("--state time-wait").len() == 1);
    assert_eq!(list("--state time-wait")[0]["remote"], format!("10.1.0.2:{ended_port}"));
    let all = list("--state established");
    assert_eq!(all.len(), 39);
    let workers: std::collections::HashSet<u64> = all.iter().map(|row| row["worker"].as_u64().unwrap()).collect();
    assert_eq!(workers.len(), 2, "40 flows on one worker come about once in 2^39 runs");
    for stream in &streams {
        let remote = Value::from(stream.local_addr().unwrap().to_string());
        let row = all.iter().find(|row| row["remote"] == remote).unwrap();
        assert_eq!((row["state"].as_str(), row["opened"].as_str()), (Some("established"), Some("passive")));
        assert_eq!((row["command"].as_str(), row["congestion"].as_str()), (Some("http"), Some("cubic")));
        assert!(row["srtt_us"].as_f64().unwrap() > 0.0 && row["bytes_received"].as_u64().unwrap() >= 27, "{row:#}");
    }
    let hoarder = Value::from(streams[1].local_addr().unwrap().to_string());
    let hoards = || list("").into_iter().find(|row| row["remote"] == hoarder).unwrap();
    eventually("the window of one is full", || {
        hoards()["unsent"].as_u64() > Some(0) && hoards()["snd_wnd"].as_u64() < Some(1_448)
    });
    assert!(hoards()["send_q"].as_u64() >= hoards()["unsent"].as_u64());
    let port = streams[5].local_addr().unwrap().port();
    assert_eq!(list(&format!("--port {port}")).len(), 1);
    assert_eq!((list("-6").len(), list("-4").len()), (10, 30));
    assert_eq!(list("--state fin-wait-2 --state syn-sent").len(), 0);
    let listening = list("--listening");
    assert_eq!(listening.len(), 4, "two addresses on two workers");
    assert!(listening.iter().all(|row| row["state"] == "listen" && row["waiting"] == 0), "{listening:#?}");
    assert_eq!(list("--all").len(), 4 + 40);
    let (_, text, _) = outcome(folder.command(lab.dut(), "ss --state established"));
    assert!(text.lines().count() == 1 + 2 * 39 && text.contains("estab") && text.contains("cubic:"), "{text}");
    let (_, brief, _) = outcome(folder.command(lab.dut(), "ss --brief --state established"));
    assert_eq!(brief.lines().count(), 1 + 39);
    let (code, _, said) = outcome(folder.command(lab.dut(), "ss --state open"));
    assert!(code == Some(2) && said.contains("established, "), "{said}");
    streams[0].write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(streams[0].read(&mut [0; 10]).unwrap() > 0, "and the connections go on");
    stop(http);
}

#[test]
fn commands_without_tcp_have_an_empty_list_and_no_process_is_no_error() {
    let lab = Lab::pair(1, 1500).unwrap();
    let folder = RunFolder::new("ss-none");
    let (code, stdout, stderr) = outcome(folder.command(lab.dut(), "ss"));
    assert!(code == Some(0) && stdout.lines().count() == 1 && stderr.contains("no tailwater process"), "{stderr}");
    let forwarder = folder.start(lab.dut(), "l3fwd -i d0 --place user --idle sleep -j");
    assert_eq!(rows(&lab, &folder, "--all").len(), 0);
    crate::common::summary(forwarder);
}
