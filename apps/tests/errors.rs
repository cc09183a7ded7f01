//! Every error that a user may run into says what to do, and exits with the right code.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{DEADLINE, command, outcome, started, tailwater};
use tailwater_lab::{Lab, Program};

/// Runs it and checks its exit code and that its standard error holds all of `wanted`.
fn refused(program: Program, code: i32, wanted: &[&str]) {
    let shown = program.display();
    let (status, _, stderr) = outcome(program);
    assert_eq!(status, Some(code), "{shown}: {stderr}");
    wanted.iter().for_each(|wanted| assert!(stderr.contains(wanted), "{shown}: {wanted:?} is missing from\n{stderr}"));
}

#[test]
fn interface_that_does_not_exist_comes_with_a_suggestion() {
    let lab = Lab::router(1, 1500).unwrap();
    let dut = lab.dut();
    dut.ip("link add uplink7 type veth peer name downlink7").unwrap();
    refused(
        command(dut, "l3fwd -i uplnik7 -i d1"),
        1,
        &["no interface named 'uplnik7'", "did you mean uplink7", "ip -br link"],
    );
    refused(command(dut, "echo --udp -i uplnik7 --listen 10.1.0.1:7"), 1, &["uplnik7", "did you mean uplink7"]);
    refused(command(dut, "capture -i uplnik7 -w /dev/null"), 1, &["uplnik7", "did you mean uplink7"]);
    refused(command(dut, "doctor uplnik7"), 1, &["uplnik7", "did you mean uplink7"]);
}

#[test]
fn missing_privileges_are_named_with_a_way_to_get_them() {
    let lab = Lab::pair(1, 1500).unwrap();
    // Nobody must reach the program, wherever the build put it.
    let copy = std::env::temp_dir().join(format!("tailwater-nobody-{}", std::process::id()));
    std::fs::copy(tailwater(), &copy).unwrap();
    let nobody = |words: &str| {
        let drop = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        lab.dut().program("setpriv").args(drop).arg(&copy).args(words.split(' '))
    };
    for words in ["l3fwd -i d0", "capture -i d0 -w /tmp/tailwater-nobody.pcapng", "demo"] {
        refused(nobody(words), 1, &["not permitted", "CAP_NET_ADMIN", "CAP_BPF", "hint: run as root"]);
    }
    let (status, stdout, stderr) = outcome(nobody("doctor d0"));
    assert_eq!(status, Some(0), "looking needs no privilege: {stderr}");
    assert!(stdout.contains("missing CAP_NET_ADMIN"), "{stdout}");
    std::fs::remove_file(&copy).unwrap();
}

#[test]
fn interface_with_another_xdp_program_is_refused_and_the_program_named() {
    let lab = Lab::router(1, 1500).unwrap();
    let first = started(lab.dut(), "l3fwd -i d0 -i d1 --place user -j");
    refused(
        command(lab.dut(), "l3fwd -i d0"),
        1,
        &["d0", "another XDP program is attached", "\"steer\"", "bpftool prog show id"],
    );
    common::assert_accounted(&common::summary(first));
    // The refused one has left nothing behind that would stand in the way of the next.
    common::summary(started(lab.dut(), "l3fwd -i d0 -i d1 --place user -j"));
}

#[test]
fn native_mode_on_a_driver_without_it_is_refused_and_auto_falls_back() {
    let lab = Lab::router(1, 1500).unwrap();
    lab.dut().ip("link add br0 type bridge").unwrap();
    lab.dut().ip("link set br0 up").unwrap();
    refused(command(lab.dut(), "l3fwd -i br0 --mode native"), 1, &["br0", "refused native XDP", "--mode auto"]);
    let (status, _, stderr) = outcome(command(lab.dut(), "l3fwd -i br0 --duration 0.1"));
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stderr.contains("generic") && stderr.contains("refused native mode"), "{stderr}");
}

#[test]
fn queue_number_too_high_says_how_many_there_are() {
    let lab = Lab::router(2, 1500).unwrap();
    refused(command(lab.dut(), "l3fwd -i d0 --queues 3"), 1, &["d0 has 2 queue(s)", "give --queues 2 or less"]);
    refused(command(lab.dut(), "l3fwd -i d0 --queues 0"), 2, &["--queues"]);
}

#[test]
fn interface_that_is_down_says_how_to_bring_it_up() {
    let lab = Lab::router(1, 1500).unwrap();
    lab.dut().ip("link set d0 down").unwrap();
    refused(command(lab.dut(), "l3fwd -i d0 -i d1"), 1, &["d0 is down", "ip link set dev d0 up"]);
}

#[test]
fn command_line_that_cannot_be_right_exits_with_2() {
    let lab = Lab::pair(1, 1500).unwrap();
    let dut = lab.dut();
    refused(command(dut, "l3fwd"), 2, &["--interface"]);
    refused(command(dut, "l3fwd -i d0 --ring-size 100"), 2, &["power of two"]);
    refused(command(dut, "l3fwd -i d0 --frames 63"), 2, &["64"]);
    refused(command(dut, "l3fwd -i d0 --cores 4095"), 2, &["there is no core 4095", "cores here:"]);
    refused(command(dut, "l3fwd -i d0 --cores 0,0"), 2, &["core 0 is given twice"]);
    refused(command(dut, "l3fwd -i d0 --place moon"), 2, &["auto", "user", "xdp"]);
    refused(command(dut, "l3fwd -i d0 --duration soon"), 2, &["seconds"]);
    refused(command(dut, "levitate"), 2, &["levitate"]);
    refused(command(dut, "l3fwd -i d0 -i d0"), 1, &["\"d0\" is given twice", "name each interface once"]);
}

#[test]
fn interface_without_ethernet_frames_is_refused() {
    let lab = Lab::pair(1, 1500).unwrap();
    let dut = lab.dut();
    dut.ip("tuntap add tun7 mode tun").unwrap();
    dut.ip("link set tun7 up").unwrap();
    refused(command(dut, "l3fwd -i tun7"), 1, &["tun7 has no Ethernet address"]);
}

#[test]
fn file_that_cannot_be_written_is_refused_before_anything_is_opened() {
    let lab = Lab::pair(1, 1500).unwrap();
    refused(
        command(lab.dut(), "capture -i d0 -w /nonexistent/x.pcapng"),
        1,
        &["cannot write /nonexistent/x.pcapng", "-w"],
    );
}

#[test]
fn completions_and_help_come_for_every_command() {
    let lab = Lab::pair(1, 1500).unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = command(lab.dut(), &format!("completions {shell}")).run(DEADLINE).unwrap();
        assert!(script.contains("l3fwd") && script.contains("doctor"), "{shell}");
    }
    for name in ["l3fwd", "echo", "perf", "ping", "capture", "doctor", "stats", "demo", "group"] {
        let help = command(lab.dut(), &format!("{name} --help")).run(DEADLINE).unwrap();
        assert!(help.contains("Examples:"), "{name}");
    }
}
