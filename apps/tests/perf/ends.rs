//! Both ends, ours and iperf3's.

use serde_json::Value;
use tailwater_lab::{Lab, Namespace, Process};

use crate::common::{DEADLINE, assert_accounted, command, report};

/// Bytes of one block.
pub(crate) const BLOCK: u64 = 131_072;

/// Our server, ready.
pub(crate) struct Server {
    process: Process,
}

impl Server {
    /// On d0.
    pub(crate) fn start(lab: &Lab, words: &str) -> Self {
        Self::start_on(lab.dut(), "d0", words)
    }

    pub(crate) fn start_on(namespace: &Namespace, interface: &str, words: &str) -> Self {
        let mut process = command(namespace, &format!("perf -s -j -i {interface} {words}")).spawn().unwrap();
        process.wait_for("is ready", |line| line.contains(r#""event":"ready""#), DEADLINE).unwrap();
        Self { process }
    }

    /// Bytes of memory that it has at the moment.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
    }

    /// Waits until it has reported `n` tests, and returns them.
    pub(crate) fn tests(&self, n: usize) -> Vec<Value> {
        crate::common::eventually("the server has reported its tests", || self.reported().len() >= n);
        self.reported()
    }

    fn reported(&self) -> Vec<Value> {
        let stdout = self.process.stdout();
        let events = stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["event"] == "test").map(|mut event| event["result"].take()).collect()
    }

    /// Stops it; its summary, in which every packet and frame must be accounted for.
    pub(crate) fn stop(self) -> Value {
        let finished = self.process.interrupt().unwrap();
        let report = report(&finished);
        assert_accounted(&report);
        report
    }

    /// Waits for it to end by itself.
    pub(crate) fn wait(self) -> Value {
        report(&self.process.wait(DEADLINE).unwrap())
    }
}

/// A counter of the service, over all workers.
pub(crate) fn counter(report: &Value, name: &str) -> u64 {
    let workers = report["workers"].as_array().unwrap();
    let blocks = workers.iter().flat_map(|worker| worker["blocks"].as_array().unwrap());
    blocks.filter_map(|block| block["counters"][name].as_u64()).sum()
}

/// Stock iperf3 as a client on c0; its JSON, whatever became of it.
pub(crate) fn try_iperf3(lab: &Lab, words: &str) -> Value {
    let output =
        lab.client().program("iperf3").arg("-J").args(words.split_ascii_whitespace()).output(DEADLINE).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The same, when it must have gone well.
pub(crate) fn iperf3(lab: &Lab, words: &str) -> Value {
    let result = try_iperf3(lab, words);
    assert!(result.get("error").is_none(), "iperf3 {words}: {result:#}");
    result
}

/// Stock iperf3 as a server on c0, ready.
pub(crate) fn iperf3_server(lab: &Lab) -> Process {
    let mut process = lab.client().program("iperf3").args(["-s", "--forceflush"]).spawn().unwrap();
    process.wait_for("listens", |line| line.starts_with("Server listening"), DEADLINE).unwrap();
    process
}

/// Our client on d0; its JSON, when it must have gone well.
pub(crate) fn perf(lab: &Lab, words: &str) -> Value {
    let output = command(lab.dut(), &format!("perf -J -i d0 {words}")).output(DEADLINE).unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "perf {words}: {out}\n{err}");
    assert!(err.contains("every packet is accounted for"), "perf {words}: {err}");
    let result: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"));
    assert!(result.get("error").is_none(), "perf {words}: {result:#}");
    result
}

/// A number at a path such as `/end/sum_sent/bytes`.
pub(crate) fn number(result: &Value, path: &str) -> f64 {
    result.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number at {path}: {result:#}"))
}

/// Bytes that one end sent and the other received.
pub(crate) fn sums(result: &Value, suffix: &str) -> (u64, u64) {
    let bytes = |which: &str| number(result, &format!("/end/sum_{which}{suffix}/bytes")) as u64;
    (bytes("sent"), bytes("received"))
}

/// Both ends of a UDP test counted those datagrams that followed the omission: 1250 in a second.
pub(crate) fn assert_omission_left_out(result: &Value) {
    let packets = |which: &str| number(result, &format!("/end/sum_{which}/packets"));
    let (sent, received) = (packets("sent"), packets("received"));
    assert!((1_000.0..1_500.0).contains(&sent) && (received - sent).abs() < sent / 5.0, "{result:#}");
    let percent = number(result, "/end/sum/lost_percent");
    assert!((0.0..20.0).contains(&percent), "{result:#}");
}

/// The totals are what the intervals add up to, within the tail that is no interval of its own.
pub(crate) fn assert_intervals_add_up(result: &Value, end: &str) {
    let intervals = result["intervals"].as_array().unwrap();
    let sum: f64 = intervals.iter().map(|interval| number(interval, "/sum/bytes")).sum();
    let total = number(result, &format!("/end/{end}/bytes"));
    assert!(sum <= total && sum >= total * 0.5, "{sum} of {total}: {result:#}");
}
