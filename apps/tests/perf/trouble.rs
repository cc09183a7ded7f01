//! What goes wrong ends with a word, and the server goes on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;
use tailwater_lab::Lab;

use crate::common::{DEADLINE, command, eventually, outcome};
use crate::ends::*;

/// PARAM_EXCHANGE, CREATE_STREAMS, ACCESS_DENIED, SERVER_ERROR.
const PARAM_EXCHANGE: u8 = 9;
const CREATE_STREAMS: u8 = 10;
const ACCESS_DENIED: u8 = 0xff;
const SERVER_ERROR: u8 = 0xfe;

/// A client made by hand, on c0.
struct Raw(TcpStream);

impl Raw {
    fn connect(lab: &Lab) -> Self {
        let to: SocketAddr = "10.1.0.1:5201".parse().unwrap();
        let stream = lab.client().enter(|| TcpStream::connect_timeout(&to, DEADLINE).unwrap()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(stream)
    }

    /// With a cookie of its own.
    fn greet(lab: &Lab, cookie: u8) -> Self {
        let mut raw = Self::connect(lab);
        raw.say(&[&[cookie; 36][..], &[0]].concat());
        raw
    }

    fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// The same, once the server is through with whoever came before.
    fn first(lab: &Lab, cookie: u8) -> Self {
        let mut found = None;
        eventually("the server is free", || {
            let mut raw = Self::greet(lab, cookie);
            let free = raw.byte() == PARAM_EXCHANGE;
            found = Some(raw);
            free
        });
        found.unwrap()
    }

    fn parameters(&mut self, json: &str) {
        self.say(&[&(json.len() as u32).to_be_bytes()[..], json.as_bytes()].concat());
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.0.read_exact(&mut byte).unwrap();
        byte[0]
    }

    /// Everything up to the end, which a reset is, too.
    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.0.read_to_end(&mut rest);
        rest
    }
}

/// The next client is served, once the server is through with the last.
fn serves(lab: &Lab) {
    let mut last = Value::Null;
    eventually("the next client is served", || {
        last = try_iperf3(lab, "-c 10.1.0.1 -n 1M");
        last.get("error").is_none()
    });
    assert_eq!(sums(&last, ""), (1 << 20, 1 << 20), "{last:#}");
}

#[test]
fn second_client_is_turned_away_and_the_first_goes_on() {
    let lab = Lab::pair(1, 1500).unwrap();
    let server = Server::start(&lab, "");
    let mut first = Raw::first(&lab, b'a');
    assert_eq!(Raw::greet(&lab, b'b').rest(), [ACCESS_DENIED]);
    let refused = try_iperf3(&lab, "-c 10.1.0.1 -n 1M");
    assert!(refused["error"].as_str().unwrap().contains("busy"), "{refused:#}");
    first.parameters(r#"{"tcp":true,"parallel":1,"len":1024,"num":1024}"#);
    assert_eq!(first.byte(), CREATE_STREAMS);
    drop(first);
    serves(&lab);
    let report = server.stop();
    assert!(counter(&report, "perf_turned_away") >= 2, "{report:#}");
}

#[test]
fn parameters_that_cannot_be_read_are_answered_by_an_error() {
    let lab = Lab::pair(1, 1500).unwrap();
    let server = Server::start(&lab, "");
    let error = |number: u8| [SERVER_ERROR, 0, 0, 0, number, 0, 0, 0, 0];
    let cases: [(&[u8], u8); 5] = [
        (b"\0\0\0\x05{bad}", 114),
        (b"\xff\xff\xff\xff", 114),
        (b"\0\0\0\x10{\"parallel\":999}", 114),
        (b"\0\0\0\x12{\"tcp\":true,\"x\":1", 114),
        (b"\0\0\0\x16{\"congestion\":\"vegas\"}", 134),
    ];
    for (text, number) in cases {
        let mut raw = Raw::first(&lab, b'x');
        raw.say(text);
        if text.len() == 4 + usize::from(text[3]) || text[0] == 0xff {
            assert_eq!(raw.rest(), error(number), "{text:?}");
        }
    }
    serves(&lab);
    server.stop();
}

#[test]
fn clients_that_leave_in_any_state_leave_a_server_that_serves() {
    let lab = Lab::pair(2, 1500).unwrap();
    let server = Server::start(&lab, "--cores 0,1");
    drop(Raw::connect(&lab));
    let mut silent = Raw::connect(&lab);
    silent.say(b"not a cook");
    drop(silent);
    drop(Raw::greet(&lab, b'c'));
    serves(&lab);
    let mut agreed = Raw::first(&lab, b'd');
    agreed.parameters(r#"{"tcp":true,"parallel":3,"len":1024,"time":1}"#);
    assert_eq!(agreed.byte(), CREATE_STREAMS);
    // One stream of three, and a stranger with another cookie.
    let stream = Raw::greet(&lab, b'd');
    assert_eq!(Raw::greet(&lab, b'e').rest(), [ACCESS_DENIED]);
    drop((agreed, stream));
    serves(&lab);
    server.stop();
}

#[test]
fn client_that_talks_without_end_is_left_at_once_and_not_remembered() {
    let lab = Lab::pair(1, 1500).unwrap();
    let server = Server::start(&lab, "");
    let before = server.resident_bytes();
    let mut client = Raw::first(&lab, b'f');
    client.parameters(r#"{"tcp":true,"parallel":3,"len":1024,"time":1}"#);
    assert_eq!(client.byte(), CREATE_STREAMS);
    let piece = vec![b'x'; 1 << 20];
    // It is waited for its streams, for fifteen seconds.
    let sent = (0..64).take_while(|_| client.0.write_all(&piece).is_ok()).count();
    assert!(sent < 64, "all of it was taken");
    let test = server.tests(1).remove(0);
    assert!(test["error"].as_str().unwrap().contains("came unasked"), "{test:#}");
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes more are resident");
    serves(&lab);
    server.stop();
}

#[test]
fn client_that_is_killed_in_a_test_does_not_keep_the_server() {
    let lab = Lab::pair(1, 1500).unwrap();
    let server = Server::start(&lab, "");
    for words in ["-t 60 -P 4", "-t 60 -R", "-t 60 -u -b 10M", "-t 60 --bidir"] {
        let all = format!("-c 10.1.0.1 -i 0.1 --forceflush {words}");
        let mut client = lab.client().program("iperf3").args(all.split(' ')).spawn().unwrap();
        client.wait_for("runs", |line| line.contains("bits/sec"), DEADLINE).unwrap();
        client.kill();
        serves(&lab);
    }
    let troubles = server.tests(8).iter().filter(|test| test.get("error").is_some()).count();
    assert_eq!(troubles, 4);
    server.stop();
}

#[test]
fn client_whose_link_is_cut_does_not_keep_the_server() {
    std::thread::scope(|scope| {
        for words in ["-t 600", "-t 600 -u -b 10M", "-t 600 -u -R -b 10M"] {
            scope.spawn(move || link_is_cut(words));
        }
    });
}

fn link_is_cut(words: &str) {
    let lab = Lab::pair(1, 1500).unwrap();
    let server = Server::start(&lab, "");
    let all = format!("-c 10.1.0.1 -i 0.1 --forceflush {words}");
    let mut client = lab.client().program("iperf3").args(all.split(' ')).spawn().unwrap();
    client.wait_for("runs", |line| line.contains("bits/sec"), DEADLINE).unwrap();
    lab.client().ip("link set c0 down").unwrap();
    let test = server.tests(1).remove(0);
    assert!(test["error"].as_str().unwrap().contains("the other end"), "{words}: {test:#}");
    client.kill();
    lab.client().ip("link set c0 up").unwrap();
    lab.client().wait_until_up("c0").unwrap();
    serves(&lab);
    server.stop();
}

#[test]
fn interrupted_client_tells_the_server_and_interrupted_server_the_client() {
    let lab = Lab::pair(1, 1500).unwrap();
    let server = iperf3_server(&lab);
    let mut client = command(lab.dut(), "perf -i d0 -c 10.1.0.2 -t 60 --interval 0.1").spawn().unwrap();
    client.wait_for("runs", |line| line.contains("bits/sec"), DEADLINE).unwrap();
    let client = client.interrupt().unwrap();
    assert!(client.status.code() == Some(1) && client.stderr.contains("interrupted"), "{client:?}");
    // It serves one after the other.
    perf(&lab, "-c 10.1.0.2 -n 1M");
    let server = server.interrupt().unwrap();
    assert!(server.stderr.contains("the client has terminated"), "{server:?}");
    let server = Server::start(&lab, "");
    let mut client =
        lab.client().program("iperf3").args("-c 10.1.0.1 -t 60 -i 0.1 --forceflush".split(' ')).spawn().unwrap();
    client.wait_for("runs", |line| line.contains("bits/sec"), DEADLINE).unwrap();
    server.stop();
    let finished = client.wait(DEADLINE).unwrap();
    // Where it is about to write when the streams end, iperf3 says that instead.
    let told = ["the server has terminated", "Broken pipe", "Connection reset"];
    assert!(told.iter().any(|text| finished.stderr.contains(text)), "{finished:?}");
    assert!(!finished.status.success());
}

#[test]
fn client_without_a_server_says_how_to_start_one() {
    let lab = Lab::pair(1, 1500).unwrap();
    let (code, _, stderr) = outcome(command(lab.dut(), "perf -i d0 -c 10.1.0.2 -p 5999"));
    assert!(code == Some(1) && stderr.contains("nobody listens") && stderr.contains("-p 5999"), "{stderr}");
    let (code, _, stderr) = outcome(command(lab.dut(), "perf -i d0 -c 10.1.0.2 -C vegas"));
    assert!(code == Some(2) && stderr.contains("cubic, reno, bbr"), "{stderr}");
    let (code, _, stderr) = outcome(command(lab.dut(), "perf -i d0 -c 10.1.0.2 -w 513M"));
    assert!(code == Some(2) && stderr.contains("up to 512M"), "{stderr}");
    for words in ["perf -i d0", "perf -i d0 -s -R", "perf -i d0 -c 10.1.0.2 -u --rr", "perf -s -i d0 -t 5"] {
        assert_eq!(outcome(command(lab.dut(), words)).0, Some(2), "{words}");
    }
    let (code, _, stderr) = outcome(command(lab.dut(), "perf -i d0 -c 10.1.0.2 --peer echo"));
    assert!(code == Some(2) && stderr.contains("--rr"), "{stderr}");
}
