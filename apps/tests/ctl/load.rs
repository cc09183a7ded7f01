//! Changes under load. In CI some dozens of each; `TAILWATER_FULL=1` makes it 1,000 replaces, 1,000 pairs of insert and
//! extract, and 100 whole graphs:
//!
//! ```text
//! TAILWATER_FULL=1 cargo test --release -p tailwater --test ctl load -- --nocapture --test-threads 1
//! ```
//!
//! Datagrams carry sequence numbers, and no more are on their way than the smallest queue between the ends holds, so that
//! none is lost to overload. Whatever is missing or out of turn is the change's doing.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tailwater_lab::{Lab, Namespace, Program};

use crate::common::{DEADLINE, RunFolder, assert_accounted, eventually, summary};
use crate::line::Line;

/// One after another: they measure stalls.
static TURN: Mutex<()> = Mutex::new(());
/// Datagrams of one flow on their way. A veth takes 256 packets at a time.
const WINDOW: u64 = 48;
const FLOWS: usize = 2;

struct Counts {
    replaces: usize,
    inserts: usize,
    applies: usize,
}

fn counts() -> Counts {
    match std::env::var_os("TAILWATER_FULL") {
        Some(_) => Counts { replaces: 1000, inserts: 1000, applies: 100 },
        None => Counts { replaces: 60, inserts: 60, applies: 10 },
    }
}

/// Numbered datagrams to somebody who sends them back.
struct Flow {
    socket: UdpSocket,
    sent: u64,
    received: u64,
    /// Numbers that came out of turn.
    astray: Vec<u64>,
}

impl Flow {
    fn new(from: &Namespace, to: &str) -> Self {
        let socket = from.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        Self { socket, sent: 0, received: 0, astray: Vec::new() }
    }

    fn send(&mut self) {
        let mut datagram = [0u8; 64];
        datagram[..8].copy_from_slice(&self.sent.to_be_bytes());
        self.socket.send(&datagram).unwrap();
        self.sent += 1;
    }

    fn step(&mut self, sends: bool) {
        while sends && self.sent - self.received < WINDOW {
            self.send();
        }
        let mut datagram = [0u8; 64];
        match self.socket.recv(&mut datagram) {
            Ok(_) => {
                let number = u64::from_be_bytes(datagram[..8].try_into().unwrap());
                if number != self.received {
                    self.astray.push(number);
                }
                self.received += 1;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Until everything is back. The time limit is only reached where something is lost.
    fn settle(&mut self) {
        let end = Instant::now() + DEADLINE;
        while self.received < self.sent {
            assert!(Instant::now() < end, "lost: {} of {} datagrams came back", self.received, self.sent);
            self.step(false);
        }
    }
}

/// Makes changes while all flows are full; the stalls in ns, in order.
fn under_load(flows: &mut [Flow], changes: impl FnOnce() -> Vec<u64>) -> Vec<u64> {
    let stop = AtomicBool::new(false);
    let mut stalls = std::thread::scope(|scope| {
        for flow in flows.iter_mut() {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    flow.step(true);
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(changes));
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap()
    });
    for flow in flows {
        flow.settle();
        assert!(flow.astray.is_empty(), "out of turn: {:?}", flow.astray);
        assert!(flow.sent > WINDOW, "there was no load");
    }
    stalls.sort_unstable();
    stalls
}

fn tell(what: &str, stalls: &[u64], flows: &[Flow]) {
    let at = |per_mille: usize| stalls[(stalls.len() - 1) * per_mille / 1000];
    let sent: u64 = flows.iter().map(|flow| flow.sent).sum();
    println!(
        "{what}: {} changes of a worker, {sent} datagrams so far, 0 lost, 0 out of turn; stall in ns: median {}, p99 {}, max {}",
        stalls.len(),
        at(500),
        at(990),
        at(1000)
    );
}

/// All sorts of changes to a graph that begins with the edge `first`; what leads from it to `block` keeps the order.
fn all_changes(line: &Mutex<Line>, flows: &mut [Flow], first: &str, block: &str) {
    let Counts { replaces, inserts, applies } = counts();
    let change = |operations: Value| line.lock().unwrap().change(operations);
    change(json!([
        { "op": "insert", "node": { "name": "slow", "kind": "impair", "parameters": { "delay_us": 100 } },
          "edge": format!("{first} -> {block}") },
        { "op": "insert", "node": { "name": "count", "kind": "counter" }, "edge": format!("{first} -> slow") },
    ]));
    let names = ["count", "slow", block];
    let replace = |n: usize| change(json!([{ "op": "replace", "name": (names[n % names.len()]) }]));
    let stalls = under_load(flows, || (0..replaces).flat_map(replace).collect());
    tell("replaces", &stalls, flows);
    let nodes = [
        json!({ "name": "new", "kind": "counter" }),
        json!({ "name": "new", "kind": "rate-limit" }),
        json!({ "name": "new", "kind": "filter", "parameters": { "expression": "" } }),
        json!({ "name": "new", "kind": "impair", "parameters": { "delay_us": 200 } }),
    ];
    let edges = [format!("{first} -> count"), "count -> slow".to_owned(), format!("slow -> {block}")];
    let pair = |n: usize| {
        let (node, edge) = (&nodes[n % nodes.len()], &edges[n % edges.len()]);
        let mut stalls = change(json!([{ "op": "insert", "node": node, "edge": edge }]));
        stalls.extend(change(json!([{ "op": "extract", "name": "new" }])));
        stalls
    };
    let stalls = under_load(flows, || (0..inserts).flat_map(pair).collect());
    tell("inserts and extracts", &stalls, flows);
    let one = line.lock().unwrap().dump()["graph"].clone();
    let other = other_graph(&one, first, block);
    let graphs = [&other, &one];
    let apply = |n: usize| change(json!([{ "op": "apply", "graph": (graphs[n % 2]) }]));
    let stalls = under_load(flows, || (0..applies).flat_map(apply).collect());
    tell("whole graphs", &stalls, flows);
    change(json!([{ "op": "extract", "name": "slow" }, { "op": "extract", "name": "count" }]));
}

/// The same with the blocks in another order, one more, one of another kind, one with other parameters.
fn other_graph(one: &Value, first: &str, block: &str) -> Value {
    let mut other = one.clone();
    let nodes = other["node"].as_array_mut().unwrap();
    nodes.iter_mut().find(|node| node["name"] == "slow").unwrap()["parameters"]["delay_us"] = 20.into();
    nodes.iter_mut().find(|node| node["name"] == "count").unwrap()["kind"] = "tee".into();
    nodes.push(json!({ "name": "limit", "kind": "rate-limit" }));
    let edges = other["edges"].as_array_mut().unwrap();
    edges.retain(|edge| {
        let edge = edge.as_str().unwrap();
        !edge.starts_with(first) && !edge.contains("slow") && !edge.contains("count")
    });
    let line =
        [format!("{first} -> slow"), "slow -> limit".into(), "limit -> count".into(), format!("count -> {block}")];
    edges.extend(line.map(Value::from));
    other
}

/// Sends every datagram back until it is dropped.
struct Mirror {
    stop: std::sync::Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Mirror {
    fn at(namespace: &Namespace, address: &'static str) -> Self {
        let socket = namespace.enter(|| UdpSocket::bind(address)).unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let stopping = std::sync::Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut datagram = [0u8; 2048];
            while !stopping.load(Ordering::Relaxed) {
                if let Ok((len, from)) = socket.recv_from(&mut datagram) {
                    socket.send_to(&datagram[..len], from).unwrap();
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// One at a time until neighbours are known: only so many packets wait for one.
fn warm_up(flows: &mut [Flow]) {
    for flow in flows {
        flow.send();
        flow.settle();
    }
}

#[test]
fn forwarder_under_load_loses_and_reorders_nothing_whatever_is_changed() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (lab, folder) = (Lab::router(1, 1500).unwrap(), RunFolder::new("ctl-load-l3"));
    let forwarder = folder.start(lab.dut(), "l3fwd -i d0 -i d1 --place user --idle sleep -j");
    let _mirror = Mirror::at(lab.sink(), "10.2.0.2:7000");
    let mut flows: Vec<Flow> = (0..FLOWS).map(|_| Flow::new(lab.gen_side(), "10.2.0.2:7000")).collect();
    warm_up(&mut flows);
    let line = Mutex::new(Line::to(&folder.socket(&forwarder)));
    all_changes(&line, &mut flows, "rx:d0", "route");
    let report = summary(forwarder);
    assert_accounted(&report);
    let dropped = report["dropped"].as_object().unwrap();
    let excused = ["unbound_output"];
    assert!(dropped.keys().all(|reason| excused.contains(&reason.as_str())), "{dropped:?}");
}

#[test]
fn udp_echo_under_load_loses_and_reorders_nothing_whatever_is_changed() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (lab, folder) = (Lab::pair(1, 1500).unwrap(), RunFolder::new("ctl-load-echo"));
    let echo = folder.start(lab.dut(), "echo --udp -i d0 --listen 10.1.0.1:7000 --idle sleep -j");
    let mut flows: Vec<Flow> = (0..FLOWS).map(|_| Flow::new(lab.client(), "10.1.0.1:7000")).collect();
    warm_up(&mut flows);
    let line = Mutex::new(Line::to(&folder.socket(&echo)));
    all_changes(&line, &mut flows, "rx:d0", "stack");
    let report = summary(echo);
    assert_accounted(&report);
    let sent: u64 = flows.iter().map(|flow| flow.sent).sum();
    let replies = report["workers"][0]["blocks"].as_array().unwrap().iter();
    let replies: u64 = replies.filter_map(|block| block["counters"]["echo_replies"].as_u64()).sum();
    assert_eq!(replies, sent, "the service has gone over with each replace");
}

#[test]
fn tcp_through_the_forwarder_stays_up_and_intact_whatever_is_changed() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (lab, folder) = (Lab::router(1, 1500).unwrap(), RunFolder::new("ctl-load-tcp"));
    let forwarder = folder.start(lab.dut(), "l3fwd -i d0 -i d1 --place user --idle sleep -j");
    let mut server = lab.sink().program("iperf3").args(["-s", "-1", "--forceflush"]).spawn().unwrap();
    server.wait_for("listens", |line| line.contains("listening"), DEADLINE).unwrap();
    let client = lab.gen_side().program("iperf3").args(["-c", "10.2.0.2", "-t", "3", "-J"]).spawn().unwrap();
    let mut line = Line::to(&folder.socket(&forwarder));
    line.change(json!([{ "op": "insert", "node": { "name": "count", "kind": "counter" }, "edge": "rx:d0 -> route" }]));
    let graphs = {
        let one = line.dump()["graph"].clone();
        line.change(
            json!([{ "op": "insert", "node": { "name": "all", "kind": "filter", "parameters": { "expression": "" } },
                             "edge": "rx:d1 -> route" }]),
        );
        [one, line.dump()["graph"].clone()]
    };
    let (sent, received) = (folder.0.join("sent"), folder.0.join("received"));
    let content: Vec<u8> = (0..8_000_000u64).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    std::fs::write(&sent, content).unwrap();
    let stop = AtomicBool::new(false);
    let transfers = std::thread::scope(|scope| {
        let transfers = scope.spawn(|| {
            let mut transfers = 0;
            while transfers == 0 || !stop.load(Ordering::Relaxed) {
                transfer(&lab, &sent, &received);
                transfers += 1;
            }
            transfers
        });
        let mut client = client;
        let mut rounds = 0;
        while client.is_running() {
            line.change(json!([{ "op": "replace", "name": "route" }, { "op": "replace", "name": "count" }]));
            line.change(
                json!([{ "op": "insert", "node": { "name": "new", "kind": "rate-limit" }, "edge": "rx:d0 -> count" }]),
            );
            line.change(json!([{ "op": "extract", "name": "new" }]));
            line.change(json!([{ "op": "apply", "graph": (graphs[rounds % 2]) }]));
            rounds += 1;
            std::thread::sleep(Duration::from_millis(2));
        }
        stop.store(true, Ordering::Relaxed);
        let finished = client.wait(DEADLINE).unwrap();
        let result: Value = serde_json::from_str(&finished.stdout).unwrap();
        let bytes = result["end"]["sum_received"]["bytes"].as_u64().unwrap_or(0);
        assert!(finished.status.success() && bytes > 1_000_000, "{finished:?}");
        println!("iperf3: {bytes} bytes, {} changes meanwhile", rounds * 4);
        transfers.join().unwrap()
    });
    println!("{transfers} files with the same sha256 at both ends");
    server.wait(DEADLINE).unwrap();
    assert_accounted(&summary(forwarder));
}

/// A file through the forwarder, with its sha256 compared.
fn transfer(lab: &Lab, sent: &std::path::Path, received: &std::path::Path) {
    let _ = std::fs::remove_file(received);
    let listener = lab.sink().program("socat").args(["-u", "TCP4-LISTEN:9000,reuseaddr"]);
    let listener = listener.arg(format!("CREATE:{}", received.display())).spawn().unwrap();
    // 9000 in hexadecimal, state LISTEN.
    let listens = || {
        let table = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
        table.lines().any(|line| line.contains(":2328 ") && line.contains(" 0A "))
    };
    eventually("listening", || lab.sink().enter(listens).unwrap());
    let sender = lab.gen_side().program("socat").arg("-u").arg(format!("OPEN:{}", sent.display()));
    sender.arg("TCP4:10.2.0.2:9000").run(DEADLINE).unwrap();
    listener.wait(DEADLINE).unwrap();
    let sum = |file: &std::path::Path| {
        let output = Program::new("sha256sum").arg(file).run(DEADLINE).unwrap();
        output.split(' ').next().unwrap().to_owned()
    };
    assert_eq!(sum(sent), sum(received));
}
