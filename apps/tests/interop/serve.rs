//! Our server, asked by hand: what clients may do, and what they may not.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use tailwater_lab::Lab;

use crate::common::{DEADLINE, command, outcome};
use crate::peer::*;

#[test]
fn requests_come_one_by_one_all_at_once_and_in_pieces() {
    let lab = Lab::pair(1, 1500).unwrap();
    let server = serve(&lab, "--listen 10.1.0.1:80 --bytes 10");
    let mut stream = connect(&lab, "10.1.0.1:80");
    let mut root = [0; 10];
    pattern(0, &mut root);
    for _ in 0..3 {
        let (head, body) = ask(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body == root, "{head}");
    }
    let (head, _) = ask(&mut stream, "HEAD /bytes/5000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(field(&head, "Content-Length"), Some("5000000"));
    let (head, body) = ask(&mut stream, "GET /bytes/5000000 HTTP/1.1\r\nHost: a\r\nRange: bytes=4999990-\r\n\r\n");
    let mut tail = [0; 10];
    pattern(4_999_990, &mut tail);
    assert!(head.starts_with("HTTP/1.1 206 ") && body == tail, "{head}");
    for byte in b"GET /bytes/3 HTTP/1.1\r\nHost: a\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(answer(&mut stream, true).1, root[..3]);
    // More than fits the send buffer, and nobody reads until everything is written.
    let sizes: Vec<usize> = (0..400).map(|n| n * 113 % 20_000).collect();
    let requests = sizes.iter().map(|size| format!("GET /bytes/{size} HTTP/1.1\r\nHost: a\r\n\r\n"));
    stream.write_all(requests.collect::<String>().as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    for size in sizes {
        let mut expected = vec![0; size];
        pattern(0, &mut expected);
        assert!(answer(&mut stream, true).1 == expected, "{size} bytes changed");
    }
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the end comes behind the last answer");
    let report = stop(server);
    assert_eq!((counter(&report, "http_requests"), counter(&report, "http_connections")), (406, 1));
}

#[test]
fn what_is_wrong_is_answered_by_its_name_and_ends_where_it_must() {
    let lab = Lab::pair(1, 1500).unwrap();
    let server = serve(&lab, "--listen [fd00:1::1]:80");
    let fields = "X: y\r\n".repeat(2_000);
    let cases = [
        ("GET /none HTTP/1.1\r\nHost: a\r\n\r\n", "404", true),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "405", true),
        ("GET / HTTP/1.1\r\nHost: a\r\nRange: bytes=5000-\r\n\r\n", "416", true),
        ("GET / HTTP/1.1\r\n\r\n", "400", false),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", "505", false),
        ("\u{1}\u{2}\r\n\r\n", "400", false),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody", "413", false),
        (&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}"), "431", false),
        ("GET / HTTP/1.0\r\n\r\n", "200", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "200", false),
    ];
    for (request, code, stays) in cases {
        let mut stream = connect(&lab, "[fd00:1::1]:80");
        let (head, _) = ask(&mut stream, request);
        assert!(head.starts_with(&format!("HTTP/1.1 {code} ")), "{request:?}: {head}");
        match stays {
            true => assert!(ask(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").0.contains(" 200 ")),
            false => assert!(matches!(stream.read(&mut [0]), Ok(0)), "{request:?} did not end the connection"),
        }
    }
    stop(server);
}

#[test]
fn connections_beyond_the_bound_wait_until_silent_ones_are_given_up() {
    let lab = Lab::pair(1, 1500).unwrap();
    let server = serve(&lab, "--listen 10.1.0.1:80 --connections 4 --idle-timeout 2");
    let mut held: Vec<_> = (0..4).map(|_| connect(&lab, "10.1.0.1:80")).collect();
    held.iter_mut().for_each(|stream| drop(ask(stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")));
    let soon = Duration::from_millis(300);
    let unanswered = lab.client().enter(|| TcpStream::connect_timeout(&"10.1.0.1:80".parse().unwrap(), soon)).unwrap();
    assert_eq!(unanswered.unwrap_err().kind(), ErrorKind::TimedOut);
    // Half a head is silence, too, however slowly the rest is promised.
    let began = Instant::now();
    held[0].write_all(b"GET / HT").unwrap();
    for stream in &mut held {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "given up in order, not by a reset");
    }
    assert!(began.elapsed() > Duration::from_millis(500));
    drop(held);
    // There are places again.
    assert!(ask(&mut connect(&lab, "10.1.0.1:80"), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").0.contains(" 200 "));
    let report = stop(server);
    assert_eq!(counter(&report, "http_connections_max_hit"), 1);
    assert!(report["dropped"]["tcp_accept_queue_full"].as_u64() >= Some(1), "{report:#}");
    assert_eq!(counter(&report, "http_connections_timed_out"), 4);
}

#[test]
fn many_clients_that_do_not_read_leave_frames_for_others() {
    let lab = Lab::pair(1, 1500).unwrap();
    // 200 send buffers of a megabyte are more than the memory there is.
    let server = serve(&lab, "--listen 10.1.0.1:80");
    let mut hoarders: Vec<_> = (0..200).map(|_| connect(&lab, "10.1.0.1:80")).collect();
    for stream in &mut hoarders {
        stream.write_all(b"GET /bytes/100000000 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    let mut expected = vec![0; 100_000];
    pattern(0, &mut expected);
    for round in 0..20 {
        let mut stream = connect(&lab, "10.1.0.1:80");
        let (_, body) = ask(&mut stream, "GET /bytes/100000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert!(body == expected, "round {round}");
    }
    // And the hoarders are served once they read.
    for stream in hoarders.iter_mut().take(20) {
        let mut got = vec![0; 2_000_000];
        stream.read_exact(&mut got).unwrap();
    }
    let report = stop(server);
    assert_eq!(counter(&report, "http_connections"), 220);
    println!("{} times without frames", counter(&report, "http_starved"));
}

#[test]
fn wrong_command_lines_are_refused_with_the_way_out() {
    let lab = Lab::pair(1, 1500).unwrap();
    let said = |words: &str| outcome(command(lab.dut(), words));
    for (words, code, wanted) in [
        ("http serve -i d0", 2, "--listen"),
        ("http serve -i d0 --listen 10.1.0.1", 2, "an address and a port"),
        ("http serve -i d0 --listen 10.1.0.1:80 --root /nonexistent", 2, "no such folder"),
        ("http serve -i nope --listen 10.1.0.1:80", 1, "no interface named 'nope'"),
        ("http get -i d0 https://10.1.0.2/", 2, "there is no TLS"),
        ("http get -i d0 10.1.0.2", 2, "wanted http://HOST"),
        ("http get -i d0 http://10.1.0.2/ -6", 2, "no address of that family"),
        ("http get -i d0 http://10.1.0.2/ -o /nonexistent/file", 1, "choose another file with -o"),
    ] {
        let (status, _, stderr) = said(words);
        assert!(status == Some(code) && stderr.contains(wanted), "{words}: {status:?} {stderr}");
    }
    // Somebody else's port.
    let _taken = lab.dut().enter(|| std::net::TcpListener::bind("10.1.0.1:80").unwrap()).unwrap();
    let taken = command(lab.dut(), "http serve -i d0 --listen 10.1.0.1:80").output(DEADLINE).unwrap();
    assert!(String::from_utf8_lossy(&taken.stderr).contains("ss -lntup"));
}
