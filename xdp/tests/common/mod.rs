//! A network namespace of its own for each test, and frames to feed the program.
//!
//! ```text
//!   one test thread, one namespace
//!   +-------------------------------------------+
//!   |   twx0 (under test)  <-- veth -->  twx1   |
//!   +-------------------------------------------+
//! ```
//!
//! The namespace has no name: it ends with the thread, whatever happens to the test.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

use rustix::net::{AddressFamily, SocketType, socket};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use tailwater_xdp::{
    Action, FlowKey, HashKey, Indirection, Kind, Limits, Mode, Place, PortConfig, Shared, Steering, Trial, Verdict,
    flow_hash, worker_of,
};

pub(crate) mod frames;

/// MAC address of the end under test.
pub(crate) const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// MAC address of the other end.
pub(crate) const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Fixed, so that a failure repeats.
pub(crate) const HASH_KEY: HashKey = HashKey::new(0x6a09_e667_f3bc_c908, 0xbb67_ae85_84ca_a73b);

/// Own end of the veth pair.
pub(crate) const OWN: &str = "twx0";
/// The other end.
pub(crate) const PEER: &str = "twx1";

/// Moves this thread into a fresh network namespace with a veth pair, both ends up.
pub(crate) fn enter_namespace() {
    enter_empty_namespace();
    run(&format!(
        "ip link add {OWN} address 02:00:00:00:00:01 numrxqueues 2 numtxqueues 2 type veth peer name {PEER} address 02:00:00:00:00:02 numrxqueues 2 numtxqueues 2"
    ));
    for name in [OWN, PEER] {
        // No frames of the kernel's own (router solicitations, multicast reports) among those we count.
        run(&format!("sysctl -q -w net.ipv6.conf.{name}.disable_ipv6=1"));
        run(&format!("ip link set {name} up"));
    }
}

/// Moves this thread into a fresh network namespace with nothing but loopback.
pub(crate) fn enter_empty_namespace() {
    // SAFETY: changes the namespace of this thread only; no descriptor table is unshared.
    #[allow(unsafe_code)]
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
        .expect("privileged test: needs root (CAP_SYS_ADMIN) to make a network namespace");
    run("ip link set lo up");
}

/// Runs a command line, which must succeed. Answers what it printed.
pub(crate) fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "`{line}`: {err}");
    out.into_owned()
}

/// Index of an interface of this thread's namespace.
pub(crate) fn ifindex(name: &str) -> u32 {
    // /sys shows another namespace, and ip's JSON is for machines.
    let line = run(&format!("ip -o link show {name}"));
    line.split(':').next().unwrap().trim().parse().unwrap()
}

/// What `ip link` says of XDP on an interface: empty if nothing is attached.
pub(crate) fn xdp_shown(name: &str) -> String {
    let text = run(&format!("ip link show {name}"));
    text.lines().filter(|line| line.contains("xdp")).collect::<Vec<_>>().join("\n")
}

/// A port under test, and what its counters said before.
pub(crate) struct Bench {
    pub(crate) shared: Shared,
    pub(crate) steering: Steering,
    sockets: Vec<OwnedFd>,
}

impl Bench {
    /// Attaches to a fresh veth in a fresh namespace.
    pub(crate) fn new(mode: Mode, place: Place) -> Self {
        enter_namespace();
        Self::on(PortConfig { mode, place, queues: 2, workers: 4, ..PortConfig::new(ifindex(OWN)) })
    }

    /// Attaches in the namespace there is. Every queue and worker gets a socket.
    pub(crate) fn on(config: PortConfig) -> Self {
        let mut bench = Self::without_sockets(config);
        let PortConfig { queues, workers, .. } = *bench.steering.config();
        for queue in 0..queues {
            for worker in 0..workers {
                // Unbound: enough for the map, and for a frame that is not on a wire.
                let socket = socket(AddressFamily::XDP, SocketType::RAW, None).unwrap();
                bench.steering.insert_socket(queue, worker, socket.as_fd()).unwrap();
                bench.sockets.push(socket);
            }
        }
        bench
    }

    pub(crate) fn without_sockets(config: PortConfig) -> Self {
        let shared = Shared::with_hash_key(Limits::default(), HASH_KEY).expect("privileged test: needs root");
        shared.set_indirection(&Indirection::even(config.workers as u8));
        let steering = Steering::attach(&shared, config).unwrap();
        Self { shared, steering, sockets: vec![] }
    }

    /// What each verdict counted so far.
    pub(crate) fn counts(&self) -> Vec<u64> {
        self.steering.verdicts().unwrap().iter().map(|tally| tally.packets).collect()
    }

    /// Runs a frame through the program: its verdict, the kernel's action, the worker if it went to one.
    pub(crate) fn feed(&self, frame: &[u8]) -> Outcome {
        let (counts, sent) = (self.counts(), self.sent());
        let Trial { action, frame: after } = self.steering.try_frame(frame, 0).unwrap();
        let changed: Vec<_> = self.counts().iter().zip(&counts).map(|(now, before)| now - before).collect();
        assert_eq!(changed.iter().sum::<u64>(), 1, "one frame, one verdict: {changed:?}");
        let at = changed.iter().position(|&count| count == 1).unwrap();
        let worker = self.sent().iter().zip(&sent).position(|(now, before)| now != before);
        Outcome { verdict: Verdict::ALL[at], action, worker, unchanged: after == frame, after }
    }

    /// What went to each worker of queue 0.
    fn sent(&self) -> Vec<u32> {
        let workers = 0..self.steering.config().workers;
        workers.map(|worker| self.steering.ring_state(0, worker).unwrap().sent()).collect()
    }

    /// The worker which should own a flow.
    pub(crate) fn owner(&self, flow: &FlowKey) -> Option<usize> {
        Some(worker_of(flow_hash(&HASH_KEY, flow), &self.shared.indirection()).into())
    }
}

/// What became of one frame.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) action: Action,
    pub(crate) worker: Option<usize>,
    pub(crate) unchanged: bool,
    pub(crate) after: Vec<u8>,
}

/// Whether action and verdict say the same.
pub(crate) fn consistent(outcome: &Outcome) -> bool {
    let kind = match outcome.action {
        Action::Redirect if outcome.verdict == Verdict::TxForwarded => Kind::Tx,
        Action::Redirect => Kind::Redirect,
        Action::Pass => Kind::Pass,
        Action::Drop => Kind::Drop,
        Action::Tx | Action::Aborted => return false,
    };
    kind == outcome.verdict.kind()
        && (kind == Kind::Redirect) == outcome.worker.is_some()
        && (kind == Kind::Tx || outcome.unchanged)
}
