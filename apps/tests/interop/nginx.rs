//! Our client, served by nginx.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use serde_json::Value;
use tailwater_lab::{Lab, Process};

use crate::common::{command, outcome};
use crate::peer::*;

/// nginx in the client's namespace, at port 8000 of both families.
pub(crate) fn nginx(lab: &Lab, folder: &Folder) -> Process {
    let at = folder.0.display();
    let config = format!(
        "daemon off; master_process off; worker_processes 1; error_log {at}/error.log; pid {at}/pid;
         events {{ worker_connections 1024; }}
         http {{
             access_log off; sendfile on; keepalive_requests 1000000;
             client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
             uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
             server {{ listen 10.1.0.2:8000; listen [fd00:1::2]:8000; root {at}/site; }}
         }}"
    );
    let path = folder.file("nginx.conf");
    std::fs::write(&path, config).unwrap();
    let started = lab.client().program("nginx").arg("-c").arg(&path).spawn().unwrap();
    crate::common::eventually("nginx listens", || {
        lab.client().enter(|| std::net::TcpStream::connect("10.1.0.2:8000").is_ok()).unwrap()
    });
    started
}

/// The result of a download that must go well.
pub(crate) fn get(lab: &Lab, words: &str) -> Value {
    let output = command(lab.dut(), &format!("http get -j -i d0 {words}")).output(TRANSFER).unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words}: {out}{err}");
    let line = out.lines().find(|line| line.contains(r#""event":"result""#)).unwrap();
    serde_json::from_str::<Value>(line).unwrap()["result"].take()
}

fn nginx_serves(mtu: u32) {
    let lab = Lab::pair(2, mtu).unwrap();
    let folder = Folder::new(&format!("nginx-{mtu}"));
    std::fs::create_dir(folder.file("site")).unwrap();
    let len: u64 = if full() { 1 << 30 } else { 64 << 20 };
    let big = folder.fill("site/big", len);
    std::fs::write(folder.file("site/small"), "small\n").unwrap();
    let _nginx = nginx(&lab, &folder);
    let (expected, got) = (file_sha256(&big), folder.file("got"));
    for host in ["10.1.0.2", "[fd00:1::2]"] {
        let result = get(&lab, &format!("http://{host}:8000/big --sha256 -o {}", got.display()));
        println!("nginx at {host}, MTU {mtu}: {:.0} Mbit/s", result["bits_per_second"].as_f64().unwrap() / 1e6);
        assert_eq!((result["bytes"].as_u64(), result["sha256"].as_str()), (Some(len), Some(expected.as_str())));
        assert_eq!(file_sha256(&got), expected);
        let result = get(&lab, &format!("http://{host}:8000/small -n 500 --sha256"));
        assert_eq!((result["answers"].as_u64(), result["connections"].as_u64()), (Some(500), Some(1)));
        let result = get(&lab, &format!("http://{host}:8000/small -n 300 --close"));
        assert_eq!((result["answers"].as_u64(), result["connections"].as_u64()), (Some(300), Some(300)));
    }
}

#[test]
fn nginx_serves_our_client_over_both_families() {
    nginx_serves(1_500);
}

#[test]
fn nginx_serves_our_client_in_jumbo_segments_too() {
    nginx_serves(9_000);
}

#[test]
fn addresses_of_our_own_and_an_interface_taken_over_download_too() {
    let lab = Lab::pair(1, 1500).unwrap();
    let folder = Folder::new("nginx-own");
    std::fs::create_dir(folder.file("site")).unwrap();
    let file = folder.fill("site/file", 1_000_000);
    let _nginx = nginx(&lab, &folder);
    let expected = file_sha256(&file);
    for words in
        ["--address 10.1.0.9/24 http://10.1.0.2", "--exclusive http://10.1.0.2", "--exclusive http://[fd00:1::2]"]
    {
        let result = get(&lab, &format!("{words}:8000/file --sha256"));
        assert_eq!(result["sha256"].as_str(), Some(expected.as_str()), "{words}");
    }
}

/// A server of one answer, whatever is asked.
fn answers(lab: &Lab, answer: &'static [u8]) -> thread::JoinHandle<()> {
    let listener = lab.client().enter(|| TcpListener::bind("10.1.0.2:8001").unwrap()).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        let _ = stream.read(&mut [0; 1_000]).unwrap();
        stream.write_all(answer).unwrap();
    })
}

#[test]
fn server_whose_link_is_cut_is_not_waited_for() {
    let lab = Lab::pair(1, 1500).unwrap();
    let listener = lab.client().enter(|| TcpListener::bind("10.1.0.2:8001").unwrap()).unwrap();
    let mut get = command(lab.dut(), "http get -j -i d0 http://10.1.0.2:8001/").spawn().unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort").unwrap();
    get.wait_for("has half of it", |line| line.contains(r#""bytes":5"#), ANSWER).unwrap();
    lab.client().ip("link set c0 down").unwrap();
    let finished = get.wait(TRANSFER).unwrap();
    let told = ["the server does not answer", "the server cannot be reached"];
    assert!(told.iter().any(|told| finished.stderr.contains(told)), "{finished:?}");
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
}

#[test]
fn answers_that_are_not_what_they_say_are_errors() {
    let lab = Lab::pair(1, 1500).unwrap();
    for (answer, wanted) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"[..], "5 bytes missing"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answers 404"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\ntoo much", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "in chunks"),
        (b"SSH-2.0-nonsense\r\n", "not HTTP"),
        (b"", "without an answer"),
    ] {
        let server = answers(&lab, answer);
        let (status, _, stderr) = outcome(command(lab.dut(), "http get -i d0 http://10.1.0.2:8001/ -n 2"));
        server.join().unwrap();
        assert!(status == Some(1) && stderr.contains(wanted), "{wanted}: {status:?} {stderr}");
    }
    let (status, _, stderr) = outcome(command(lab.dut(), "http get -i d0 http://10.1.0.2:8002/"));
    assert!(status == Some(1) && stderr.contains("refuses connections"), "{stderr}");
    // Until the end of the connection, without a length.
    let server = answers(&lab, b"HTTP/1.0 200 OK\r\n\r\nall of it");
    let (status, stdout, stderr) = outcome(command(lab.dut(), "http get -i d0 http://10.1.0.2:8001/"));
    server.join().unwrap();
    assert!(status == Some(0) && stdout.contains("9 bytes in 1 answer"), "{stdout}{stderr}");
}
