//! One end is killed: the other learns of it by a clean error.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;

use tailwater_lab::{Lab, Process};

use crate::common::{RunFolder, command, eventually};
use crate::peer::*;

#[test]
fn kernel_client_of_a_killed_server_gets_a_reset_and_the_port_is_free_again() {
    let lab = Lab::pair(1, 1500).unwrap();
    let server = serve(&lab, "--listen 10.1.0.1:80");
    let mut downloading = connect(&lab, "10.1.0.1:80");
    downloading.write_all(b"GET /bytes/1000000000 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    downloading.read_exact(&mut vec![0; 1 << 20]).unwrap();
    let mut idle = connect(&lab, "10.1.0.1:80");
    ask(&mut idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    server.kill();
    // What the client says next meets the kernel, which knows of no connection. It may have done so already: then it is the
    // write that tells, and nothing tells a second time.
    let told = downloading.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").err();
    let mut rest = vec![0; 1 << 20];
    let error = told.unwrap_or_else(|| {
        loop {
            match downloading.read(&mut rest) {
                Ok(0) => panic!("half an answer looks like a whole one"),
                Ok(_) => {}
                Err(error) => break error,
            }
        }
    });
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(idle.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let refused = lab.client().enter(|| std::net::TcpStream::connect("10.1.0.1:80").unwrap_err()).unwrap();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let again = serve(&lab, "--listen 10.1.0.1:80");
    assert!(ask(&mut connect(&lab, "10.1.0.1:80"), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").0.contains(" 200 "));
    stop(again);
}

#[test]
fn server_of_a_killed_kernel_client_closes_with_a_reset_and_counts_it() {
    let lab = Lab::pair(1, 1500).unwrap();
    let folder = RunFolder::new("death-client");
    let server = folder.start(lab.dut(), "http serve -j -i d0 --listen 10.1.0.1:80");
    let slow = ["-s", "--limit-rate", "1M", "-o", "/dev/null", "http://10.1.0.1/bytes/1000000000"];
    let curl = lab.client().program("curl").args(slow).spawn().unwrap();
    let open = || counter(&folder.json(&lab, "-j"), "http_connections_open");
    eventually("the download has begun", || counter(&folder.json(&lab, "-j"), "http_body_bytes") > 1 << 20);
    assert_eq!(open(), 1);
    curl.kill();
    eventually("the server has let go", || open() == 0);
    let report = stop(server);
    assert_eq!(counter(&report, "http_connections_failed"), 1, "{report:#}");
    assert_eq!(counter(&report, "http_answers_cut_short"), 1);
    // One ended the connection; what was still on its way met further ones.
    assert!(report["dropped"]["tcp_reset"].as_u64() >= Some(1), "{report:#}");
}

/// A server in the client's namespace, at port 8000, of one body that does not end.
fn endless(lab: &Lab, folder: &Folder) -> Process {
    let script =
        "read -r line; printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 100000000000\\r\\n\\r\\n'; exec cat /dev/zero";
    std::fs::write(folder.file("answer.sh"), script).unwrap();
    let endless = format!("EXEC:sh {}", folder.file("answer.sh").display());
    let socat = lab.client().program("socat").args(["TCP4-LISTEN:8000,reuseaddr", &endless]).spawn().unwrap();
    eventually("socat listens", || {
        lab.client().program("ss").args(["-Hltn", "sport = :8000"]).run(ANSWER).unwrap().contains("8000")
    });
    socat
}

#[test]
fn kernel_server_of_our_killed_client_gets_a_reset_and_serves_the_next() {
    let lab = Lab::pair(1, 1500).unwrap();
    let listener = lab.client().enter(|| TcpListener::bind("10.1.0.2:8000").unwrap()).unwrap();
    for _ in 0..2 {
        let mut get = command(lab.dut(), "http get -j -i d0 http://10.1.0.2:8000/").spawn().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_write_timeout(Some(ANSWER)).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n").unwrap();
        stream.write_all(&[0; 1_000]).unwrap();
        get.wait_for("has some of it", |line| line.contains(r#""bytes":1000"#), ANSWER).unwrap();
        get.kill();
        // What the server says next meets the kernel, which knows of no connection.
        let error = loop {
            if let Err(error) = stream.write_all(&[0; 10_000]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn interrupted_download_has_failed() {
    let lab = Lab::pair(1, 1500).unwrap();
    let folder = Folder::new("death-interrupt");
    for words in ["", "--sha256"] {
        let _socat = endless(&lab, &folder);
        let mut get = command(lab.dut(), &format!("http get -j -i d0 http://10.1.0.2:8000/ {words}")).spawn().unwrap();
        get.wait_for("makes progress", |line| line.contains(r#""event":"progress""#), ANSWER).unwrap();
        let finished = get.interrupt().unwrap();
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        assert!(finished.stderr.contains("interrupted after") && !finished.stdout.contains("result"), "{finished:?}");
    }
}

#[test]
fn our_client_of_a_killed_kernel_server_says_so() {
    let lab = Lab::pair(1, 1500).unwrap();
    let folder = Folder::new("death-server");
    // Its death closes the connection in the middle of the body.
    let socat = endless(&lab, &folder);
    let mut get = command(lab.dut(), "http get -j -i d0 http://10.1.0.2:8000/").spawn().unwrap();
    get.wait_for("makes progress", |line| line.contains(r#""event":"progress""#), ANSWER).unwrap();
    socat.kill();
    let finished = get.wait(ANSWER).unwrap();
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    let said = ["reset the connection", "bytes missing"];
    assert!(said.iter().any(|said| finished.stderr.contains(said)), "{}", finished.stderr);
}
