//! Our client and stock iperf3 as its server, and ourselves.

use crate::common::{DEADLINE, command};
use crate::ends::*;
use tailwater_lab::Lab;

/// Everything that our client can ask for, of one address.
fn ask_all(lab: &Lab, words: &str) {
    let forward = perf(lab, &format!("{words} -n 5M"));
    let (sent, received) = sums(&forward, "");
    // iperf3 does not wait for what is on its way when the client says that it was all.
    assert!(sent == 5 << 20 && received <= sent && received > 0, "{words}: {forward:#}");
    let reverse = perf(lab, &format!("{words} -R -P 4 -n 8M"));
    let (sent, received) = sums(&reverse, "");
    assert!(sent >= received && received >= 8 << 20, "{words}: {reverse:#}");
    let both = perf(lab, &format!("{words} --bidir -t 1 --interval 0.25"));
    for suffix in ["", "_bidir_reverse"] {
        let (sent, received) = sums(&both, suffix);
        assert!(received > 0 && received <= sent, "{words}: {both:#}");
    }
    assert_intervals_add_up(&both, "sum_sent");
    let datagrams = perf(lab, &format!("{words} -u -b 100M -k 1000 -l 1000"));
    assert_eq!(number(&datagrams, "/end/sum/packets"), 1_000.0, "{words}: {datagrams:#}");
    let back = perf(lab, &format!("{words} -u -R -b 10M -t 1 -l 1000"));
    let (packets, lost) = (number(&back, "/end/sum_received/packets"), number(&back, "/end/sum_received/lost_packets"));
    assert!(packets > 100.0 && lost < packets / 2.0, "{words}: {back:#}");
}

#[test]
fn stock_servers_serve_our_client_over_both_families() {
    let lab = Lab::pair(1, 1500).unwrap();
    let _server = iperf3_server(&lab);
    ask_all(&lab, "-c 10.1.0.2");
    ask_all(&lab, "-c fd00:1::2");
}

#[test]
fn two_workers_open_the_streams_of_a_jumbo_test() {
    let lab = Lab::pair(2, 9000).unwrap();
    let _server = iperf3_server(&lab);
    for host in ["10.1.0.2", "fd00:1::2"] {
        let result = perf(&lab, &format!("-c {host} --cores 0,1 -P 8 -n 32M"));
        assert_eq!(result["end"]["streams"].as_array().unwrap().len(), 8, "{result:#}");
        for stream in result["end"]["streams"].as_array().unwrap() {
            assert_eq!(number(stream, "/sender/bytes"), f64::from(4 << 20), "{result:#}");
        }
        // Which end sends on which stream goes by the order in which they were opened, whichever workers did it.
        let both = perf(&lab, &format!("-c {host} --cores 0,1 -P 4 --bidir -t 1"));
        for stream in both["end"]["streams"].as_array().unwrap() {
            assert!(number(stream, "/receiver/bytes") > 0.0, "{both:#}");
        }
        let back = perf(&lab, &format!("-c {host} --cores 0,1 -R -P 2 -n 8M"));
        assert!(sums(&back, "").1 >= 8 << 20, "{back:#}");
        let datagrams = perf(&lab, &format!("-c {host} --cores 0,1 -u -b 100M -k 1000 -l 8000"));
        assert_eq!(number(&datagrams, "/end/sum/packets"), 1_000.0, "{datagrams:#}");
    }
}

#[test]
fn ours_to_ours_agree_to_the_byte_with_two_workers_each() {
    let lab = Lab::pair(2, 1500).unwrap();
    let server = Server::start_on(lab.client(), "c0", "--cores 0,1");
    for words in ["-n 10M", "-P 3 -n 10000001", "-P 4 -n 8M -C bbr"] {
        let result = perf(&lab, &format!("-c 10.1.0.2 --cores 0,1 {words}"));
        let (sent, received) = sums(&result, "");
        assert_eq!(sent, received, "{words}: {result:#}");
    }
    let both = perf(&lab, "-c fd00:1::2 --cores 0,1 -P 4 --bidir -t 1 -O 1");
    assert!(sums(&both, "").1 > 0 && sums(&both, "_bidir_reverse").1 > 0, "{both:#}");
    let omitted = |at: usize| both["intervals"][at]["sum"]["omitted"].as_bool();
    assert_eq!((omitted(0), omitted(1)), (Some(true), Some(false)), "{both:#}");
    let theirs = server.tests(4);
    assert_eq!(number(&theirs[0], "/end/sum_received/bytes"), f64::from(10 << 20), "{:#}", theirs[0]);
    assert_eq!(theirs[2]["end"]["receiver_tcp_congestion"], "bbr", "{:#}", theirs[2]);
    server.stop();
}

#[test]
fn text_reads_like_that_of_iperf3() {
    let lab = Lab::pair(1, 1500).unwrap();
    let _server = iperf3_server(&lab);
    let text = command(lab.dut(), "perf -i d0 -c 10.1.0.2 -n 1M --interval 0").run(DEADLINE).unwrap();
    let start = ["Connecting to host 10.1.0.2, port 5201", "[  1] local 10.1.0.1 port "];
    start.iter().zip(text.lines()).for_each(|(wanted, line)| assert!(line.starts_with(wanted), "{text}"));
    for wanted in ["Interval           Transfer     Bitrate", "1.00 MBytes", "sender", "receiver", "iperf Done."] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}
