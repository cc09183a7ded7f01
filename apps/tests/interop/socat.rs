//! socat at the other end, in both roles.

use tailwater_lab::Lab;

use crate::common::command;
use crate::peer::*;

fn through_our_echo(mtu: u32) {
    let lab = Lab::pair(2, mtu).unwrap();
    let server = echo(&lab, "--cores 0,1 --listen 0.0.0.0:7000 --listen [::]:7000");
    let folder = Folder::new(&format!("socat-{mtu}"));
    let sent = folder.fill("sent", 16 << 20);
    let got = folder.file("got");
    for to in ["TCP4:10.1.0.1:7000", "TCP6:[fd00:1::1]:7000"] {
        // At the end of the file socat shuts its side down and goes on reading: half-close.
        let script = format!("socat -t 60 STDIO {to} < {} > {}", sent.display(), got.display());
        lab.client().program("sh").args(["-c", &script]).run(TRANSFER).unwrap();
        assert_eq!(file_sha256(&got), file_sha256(&sent), "{to}");
    }
    let report = stop(server);
    assert_eq!(counter(&report, "echo_stream_bytes"), 2 * (16 << 20));
    assert_eq!(counter(&report, "tcp_failed"), 0, "{report:#}");
}

#[test]
fn socat_gets_every_byte_back_after_it_has_shut_its_side_down() {
    through_our_echo(1_500);
}

#[test]
fn socat_gets_every_byte_back_in_jumbo_segments_too() {
    through_our_echo(9_000);
}

fn serves_our_client(mtu: u32) {
    let lab = Lab::pair(1, mtu).unwrap();
    let folder = Folder::new(&format!("socat-serves-{mtu}"));
    let body = folder.fill("body", 8 << 20);
    let got = folder.file("got");
    let script = format!("read -r line; printf 'HTTP/1.0 200 OK\\r\\n\\r\\n'; exec cat {}", body.display());
    std::fs::write(folder.file("answer.sh"), script).unwrap();
    let run = format!("EXEC:sh {}", folder.file("answer.sh").display());
    for (listen, url) in [
        ("TCP4-LISTEN:8000,reuseaddr", "http://10.1.0.2:8000/"),
        ("TCP6-LISTEN:8000,reuseaddr", "http://[fd00:1::2]:8000/"),
    ] {
        let _server = lab.client().program("socat").args(["-t", "60", listen, &run]).spawn().unwrap();
        crate::common::eventually("socat listens", || {
            lab.client().program("ss").args(["-Hltn", "sport = :8000"]).run(ANSWER).unwrap().contains("8000")
        });
        let words = format!("http get -i d0 {url} --sha256 -o {}", got.display());
        let said = command(lab.dut(), &words).run(TRANSFER).unwrap();
        let expected = file_sha256(&body);
        assert!(said.contains(&format!("sha256 {expected}")), "{said}");
        assert_eq!(file_sha256(&got), expected, "{url}");
    }
}

#[test]
fn socat_serves_our_client_until_it_closes() {
    serves_our_client(1_500);
}

#[test]
fn socat_serves_our_client_in_jumbo_segments_too() {
    serves_our_client(9_000);
}
