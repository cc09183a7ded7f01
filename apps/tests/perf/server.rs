//! Stock iperf3 as the client of our server.

use crate::common::{DEADLINE, command};
use crate::ends::*;
use tailwater_lab::Lab;

/// Everything that a stock client asks for, to one address.
fn serve_all(lab: &Lab, host: &str) {
    let forward = iperf3(lab, &format!("-c {host} -k 40 -l 128K"));
    // One whose buffer has been full in between sends a block more.
    let (sent, received) = sums(&forward, "");
    assert!(sent >= received && received >= 40 * BLOCK, "{host}: {forward:#}");
    let several = iperf3(lab, &format!("-c {host} -P 4 -n 8M -N"));
    let (sent, received) = sums(&several, "");
    // A client with several streams sends more than it was told, and does not wait for the rest of it.
    assert!(sent >= received && received >= 8 << 20, "{host}: {several:#}");
    for stream in several["end"]["streams"].as_array().unwrap() {
        assert!(number(stream, "/receiver/bytes") > 0.0, "{host}: {several:#}");
    }
    let reverse = iperf3(lab, &format!("-c {host} -R -P 2 -n 8M"));
    let (sent, received) = sums(&reverse, "");
    assert!(sent >= received && received >= 8 << 20, "{host}: {reverse:#}");
    let both = iperf3(lab, &format!("-c {host} --bidir -t 1"));
    for suffix in ["", "_bidir_reverse"] {
        let (sent, received) = sums(&both, suffix);
        assert!(received > 0 && received <= sent, "{host}: {both:#}");
    }
    let datagrams = iperf3(lab, &format!("-c {host} -u -b 100M -k 1000 -l 1000"));
    assert_eq!(number(&datagrams, "/end/sum/packets"), 1_000.0, "{host}: {datagrams:#}");
    let lost = number(&datagrams, "/end/sum/lost_packets");
    let report = &datagrams["end"]["streams"][0]["udp"];
    assert!(lost < 100.0 && number(report, "/jitter_ms") >= 0.0, "{host}: {datagrams:#}");
}

#[test]
fn stock_clients_are_served_over_both_families() {
    let lab = Lab::pair(1, 1500).unwrap();
    let server = Server::start(&lab, "");
    serve_all(&lab, "10.1.0.1");
    serve_all(&lab, "fd00:1::1");
    assert_eq!(server.tests(10).len(), 10);
    let report = server.stop();
    assert_eq!(counter(&report, "tcp_timeouts"), 0, "{report:#}");
}

#[test]
fn two_workers_share_the_streams_of_jumbo_tests() {
    let lab = Lab::pair(2, 9000).unwrap();
    let server = Server::start(&lab, "--cores 0,1");
    serve_all(&lab, "10.1.0.1");
    // One worker gets all of 32 streams once in 2^31 runs.
    let many = iperf3(&lab, "-c 10.1.0.1 -P 32 -n 32M");
    let (sent, received) = sums(&many, "");
    assert!(sent >= received && received >= 32 << 20, "{many:#}");
    server.tests(6);
    let report = server.stop();
    let workers = report["workers"].as_array().unwrap();
    let streams = |worker: &serde_json::Value| -> u64 {
        let blocks = worker["blocks"].as_array().unwrap();
        blocks.iter().filter_map(|block| block["counters"]["perf_streams"].as_u64()).sum()
    };
    assert!(workers.len() == 2 && workers.iter().all(|worker| streams(worker) > 0), "{report:#}");
}

/// How many packets left, and in how many calls that took several segments each.
fn sent(report: &serde_json::Value) -> [u64; 2] {
    let workers = report["workers"].as_array().unwrap().iter();
    let ports: Vec<_> = workers.flat_map(|worker| worker["ports"].as_array().unwrap()).collect();
    ["tx_packets", "tx_trains"].map(|name| ports.iter().map(|port| port["counters"][name].as_u64().unwrap()).sum())
}

#[test]
fn segments_leave_in_trains_that_the_kernel_cuts_unless_that_is_switched_off() {
    let cases =
        [(1500, false, "", true), (9000, false, "", true), (1500, true, "", false), (9000, false, "--no-gso", false)];
    for (mtu, offloads, words, wanted) in cases {
        let lab = Lab::pair(1, mtu).unwrap();
        lab.dut().offload("d0", &["tso", "gso", "gro", "tx"], offloads).unwrap();
        // What the kernel leaves unsummed reaches AF_XDP unsummed.
        lab.client().offload("c0", &["tso", "gso", "tx"], false).unwrap();
        lab.client().offload("c0", &["gro"], offloads).unwrap();
        let server = Server::start(&lab, words);
        for host in ["10.1.0.1", "fd00:1::1"] {
            let result = iperf3(&lab, &format!("-c {host} -R -n 16M"));
            let (sent, received) = sums(&result, "");
            assert!(sent >= received && received >= 16 << 20, "MTU {mtu} {words}: {result:#}");
        }
        server.tests(2);
        let report = server.stop();
        let [packets, trains] = sent(&report);
        // A veth with checksum off-load would hand on what nobody has summed up.
        let as_asked = if wanted { trains > 0 && packets > 4 * trains } else { trains == 0 };
        assert!(as_asked, "MTU {mtu} {words}: {packets} packets, {trains} trains");
        assert_eq!(counter(&report, "tcp_timeouts"), 0, "MTU {mtu} {words}: {report:#}");
    }
}

#[test]
fn datagrams_from_the_server_are_counted_by_stock_clients_in_both_widths() {
    let lab = Lab::pair(1, 1500).unwrap();
    let server = Server::start(&lab, "");
    for wide in ["", "--udp-counters-64bit"] {
        let reverse = iperf3(&lab, &format!("-c 10.1.0.1 -u -R -b 10M -t 1 -l 1000 {wide}"));
        let (packets, lost) = (number(&reverse, "/end/sum/packets"), number(&reverse, "/end/sum/lost_packets"));
        // 1250 a second; how many of them a busy machine takes in is not the point, that they are numbered is.
        assert!(packets > 100.0 && lost < packets / 2.0, "{reverse:#}");
    }
    server.stop();
}

#[test]
fn datagrams_of_the_omission_count_at_neither_end() {
    let lab = Lab::pair(1, 1500).unwrap();
    let server = Server::start(&lab, "");
    assert_omission_left_out(&iperf3(&lab, "-c 10.1.0.1 -u -O 1 -t 1 -b 10M -l 1000"));
    assert_omission_left_out(&iperf3(&lab, "-c 10.1.0.1 -u -R -O 1 -t 1 -b 10M -l 1000"));
    for test in server.tests(2) {
        assert_omission_left_out(&test);
    }
    server.stop();
    let _server = iperf3_server(&lab);
    assert_omission_left_out(&perf(&lab, "-c 10.1.0.2 -u -O 1 -t 1 -b 10M -l 1000"));
    assert_omission_left_out(&perf(&lab, "-c 10.1.0.2 -u -R -O 1 -t 1 -b 10M -l 1000"));
}

/// DSCP of large packets from d0 while a test is under way.
fn classes(lab: &Lab) -> Vec<String> {
    let words = "-i c0 -c 20 -T fields -e ip.dsfield.dscp -f";
    let tshark = lab.client().program("tshark").args(words.split(' ')).arg("src host 10.1.0.1 and greater 500");
    tshark.run(DEADLINE).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn both_ends_send_in_the_class_that_the_client_asks_for() {
    let lab = Lab::pair(1, 1500).unwrap();
    let server = Server::start(&lab, "");
    for words in ["-R", "-u -R -b 10M"] {
        let words = format!("-c 10.1.0.1 -t 60 -S 184 -i 0.1 --forceflush {words}");
        let mut client = lab.client().program("iperf3").args(words.split(' ')).spawn().unwrap();
        client.wait_for("runs", |line| line.contains("bits/sec"), DEADLINE).unwrap();
        assert_eq!(classes(&lab), ["46"; 20], "{words}");
        client.interrupt().unwrap();
    }
    server.tests(2);
    server.stop();
    let _server = iperf3_server(&lab);
    for words in ["", "-u -b 10M"] {
        let words = format!("perf -i d0 -c 10.1.0.2 -t 60 -S 184 --interval 0.1 {words}");
        let mut client = command(lab.dut(), &words).spawn().unwrap();
        client.wait_for("runs", |line| line.contains("bits/sec"), DEADLINE).unwrap();
        assert_eq!(classes(&lab), ["46"; 20], "{words}");
        client.interrupt().unwrap();
    }
}

#[test]
fn congestion_control_of_both_ends_is_what_the_client_asks_for() {
    let lab = Lab::pair(1, 1500).unwrap();
    let server = Server::start(&lab, "");
    let result = iperf3(&lab, "-c 10.1.0.1 -C reno -R -n 1M");
    assert_eq!(result["end"]["sender_tcp_congestion"], "reno", "{result:#}");
    server.tests(1);
    server.stop();
}

#[test]
fn one_off_server_ends_after_a_test_and_sends_its_output_if_asked() {
    let lab = Lab::pair(1, 1500).unwrap();
    let server = Server::start(&lab, "--one-off --listen 10.1.0.1:6000");
    let result = iperf3(&lab, "-c 10.1.0.1 -p 6000 -n 1M --get-server-output");
    let theirs = &result["server_output_json"];
    assert_eq!(number(theirs, "/end/sum_received/bytes"), number(&result, "/end/sum_received/bytes"), "{result:#}");
    server.wait();
}
