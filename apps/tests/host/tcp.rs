//! Echo by TCP: the kernel's TCP, and programs of others, at the other end.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use tailwater_lab::Lab;

use crate::peers::*;

/// A kernel socket of the client's, connected.
fn connect(lab: &Lab, to: &str) -> TcpStream {
    let to: SocketAddr = to.parse().unwrap();
    let stream = lab.client().enter(|| TcpStream::connect_timeout(&to, ANSWER).unwrap()).unwrap();
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    stream.set_write_timeout(Some(ANSWER)).unwrap();
    stream
}

/// Sends `len` bytes, shuts down, and compares everything that comes back until the end.
fn stream_through(lab: &Lab, to: &str, len: usize) {
    let stream = connect(lab, to);
    let sent = Random(len as u64).exactly(len);
    let mut reader = stream.try_clone().unwrap();
    let writing = {
        let sent = sent.clone();
        let mut stream = stream;
        std::thread::spawn(move || {
            stream.write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        })
    };
    let mut got = Vec::new();
    reader.read_to_end(&mut got).unwrap_or_else(|error| panic!("after {} of {len} bytes: {error}", got.len()));
    writing.join().unwrap();
    assert!(got == sent, "{} bytes came back of {len}, or changed", got.len());
}

#[test]
fn the_kernels_tcp_gets_every_byte_back_over_both_families() {
    let lab = Lab::pair(1, 1500).unwrap();
    let echo = Echo::start_for(&lab, "--tcp", "--listen 0.0.0.0:7000 --listen [::]:7000");
    for to in ["10.1.0.1:7000", "[fd00:1::1]:7000"] {
        for len in [0, 1, 1_448, 100_000, 20_000_000] {
            stream_through(&lab, to, len);
        }
    }
    let report = echo.stop();
    assert_eq!(counter(&report, "echo_connections"), 10);
    assert_eq!(counter(&report, "echo_stream_bytes"), 2 * 20_101_449);
    assert_eq!(counter(&report, "tcp_timeouts"), 0);
}

#[test]
fn jumbo_segments_come_back_too() {
    let lab = Lab::pair(1, 9000).unwrap();
    let echo = Echo::start_for(&lab, "--tcp", "--exclusive --listen 0.0.0.0:7000 --listen [::]:7000");
    for to in ["10.1.0.1:7000", "[fd00:1::1]:7000"] {
        stream_through(&lab, to, 20_000_000);
    }
    echo.stop();
}

#[test]
fn two_workers_share_many_connections_of_the_kernels() {
    let lab = Lab::pair(2, 1500).unwrap();
    let echo = Echo::start_for(&lab, "--tcp", "--cores 0,1 --listen 10.1.0.1:7000");
    for round in 0..500 {
        let mut stream = connect(&lab, "10.1.0.1:7000");
        let line = Random(round).exactly(100);
        stream.write_all(&line).unwrap();
        let mut answer = [0; 100];
        stream.read_exact(&mut answer).unwrap();
        assert!(answer[..] == line[..], "connection {round}");
        if round % 2 == 0 {
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(stream.read(&mut answer).unwrap(), 0);
        }
    }
    let report = echo.stop();
    assert_eq!(counter(&report, "echo_connections"), 500);
}

#[test]
fn socat_and_a_peer_that_resets_are_served() {
    let lab = Lab::pair(1, 1500).unwrap();
    let echo = Echo::start_for(&lab, "--tcp", "--listen 10.1.0.1:7000");
    let said =
        lab.client().program("sh").args(["-c", "echo hello | socat -t 5 - TCP4:10.1.0.1:7000"]).run(DEADLINE).unwrap();
    assert_eq!(said.trim(), "hello");
    // Closing with unread bytes makes the kernel reset.
    let mut stream = connect(&lab, "10.1.0.1:7000");
    stream.write_all(&[7; 10_000]).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    drop(stream);
    stream_through(&lab, "10.1.0.1:7000", 10_000);
    echo.stop();
}

#[test]
fn a_port_where_nobody_listens_is_refused_in_exclusive_mode() {
    let lab = Lab::pair(1, 1500).unwrap();
    let echo = Echo::start_for(&lab, "--tcp", "--exclusive --listen 10.1.0.1:7000");
    let to: SocketAddr = "10.1.0.1:7001".parse().unwrap();
    let refused = lab.client().enter(|| TcpStream::connect_timeout(&to, ANSWER).unwrap_err()).unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    echo.stop();
}
