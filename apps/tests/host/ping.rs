//! Ping with a stack of our own, answered by the kernel.

use std::process::Output;

use crate::peers::*;
use serde_json::Value;
use tailwater_lab::Lab;

fn ping(lab: &Lab, words: &str) -> Output {
    tailwater(lab.dut(), &format!("ping -i d0 {words}")).output(DEADLINE).unwrap()
}

/// The summary of a run that must have gone well, with every reply intact.
fn all_answered(lab: &Lab, words: &str) -> Value {
    let output = ping(lab, &format!("-j -W 20 {words}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words}: {out}{err}");
    let summary: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(summary["sent"], summary["received"], "{words}: {out}");
    assert_eq!((&summary["corrupted"], &summary["duplicates"]), (&0.into(), &0.into()), "{words}: {out}");
    summary
}

#[test]
fn kernel_answers_an_address_of_our_own_in_all_sizes() {
    let lab = Lab::pair(1, 1500).unwrap();
    for size in [0, 8, 56, 1_472, 1_473, 20_000, 65_507] {
        let words = format!("--address 10.1.0.9/24 -c 3 --interval 0.01 -s {size} 10.1.0.2");
        assert_eq!(all_answered(&lab, &words)["received"], 3);
    }
    for size in [0, 56, 1_452, 20_000] {
        let words = format!("--address fd00:1::9/64 -c 3 --interval 0.01 -s {size} fd00:1::2");
        assert_eq!(all_answered(&lab, &words)["received"], 3);
    }
}

#[test]
fn interface_taken_over_asks_from_the_address_of_the_kernel() {
    let lab = Lab::pair(2, 9000).unwrap();
    for host in ["10.1.0.2", "fd00:1::2"] {
        assert_eq!(all_answered(&lab, &format!("--exclusive -c 5 --interval 0.01 -s 8000 {host}"))["received"], 5);
    }
}

#[test]
fn output_reads_like_that_of_ping() {
    let lab = Lab::pair(1, 1500).unwrap();
    let output = ping(&lab, "--exclusive -c 2 --interval 0.01 10.1.0.2");
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "PING 10.1.0.2 (10.1.0.2) 56(84) bytes of data.");
    assert!(lines[1].starts_with("64 bytes from 10.1.0.2: icmp_seq=1 ttl=64 time="), "{text}");
    assert_eq!(lines[4], "--- 10.1.0.2 ping statistics ---");
    assert!(lines[5].starts_with("2 packets transmitted, 2 received, 0.0000% packet loss"), "{text}");
    assert!(lines[6].starts_with("rtt min/avg/max/mdev = "), "{text}");
}

#[test]
fn host_that_is_not_there_is_named_and_the_exit_code_is_one() {
    let lab = Lab::pair(1, 1500).unwrap();
    let output = ping(&lab, "--exclusive -c 1 10.1.0.200");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(out.contains("10.1.0.200 does not answer") && err.contains("no reply from 10.1.0.200"), "{out}{err}");
}

#[test]
fn router_on_the_way_tells_that_the_hop_limit_ran_out() {
    let lab = Lab::router(1, 1500).unwrap();
    let words = "ping -i g0 --exclusive --address 10.1.0.9/24 --gateway 10.1.0.1 -c 1 -W 20";
    let near = tailwater(lab.gen_side(), &format!("{words} -t 1 10.2.0.2")).output(DEADLINE).unwrap();
    assert_eq!(near.status.code(), Some(1));
    let text = String::from_utf8_lossy(&near.stdout);
    assert!(text.contains("From 10.1.0.1 icmp_seq=1 Time to live exceeded"), "{text}");
    let far = tailwater(lab.gen_side(), &format!("{words} 10.2.0.2")).output(DEADLINE).unwrap();
    assert!(far.status.success(), "{}", String::from_utf8_lossy(&far.stdout));
}

#[test]
fn shared_address_is_refused_with_the_way_out() {
    let lab = Lab::pair(1, 1500).unwrap();
    let output = ping(&lab, "-c 1 10.1.0.2");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--address") && said.contains("--exclusive"), "{said}");
}
