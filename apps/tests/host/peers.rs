//! The command under test, and the kernel's sockets at the other end.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::Value;
use tailwater_lab::{Finished, Lab, Namespace, Process, Program};

/// Far more than any step takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// Time that a single answer may take.
pub(crate) const ANSWER: Duration = Duration::from_secs(20);
/// Time after which an answer that must not come is taken for missing.
pub(crate) const SILENCE: Duration = Duration::from_millis(500);

/// `tailwater` with these words, to be run inside.
pub(crate) fn tailwater(namespace: &Namespace, words: &str) -> Program {
    namespace.program(env!("CARGO_BIN_EXE_tailwater")).args(words.split_ascii_whitespace())
}

/// An echo that runs on d0 and is ready.
pub(crate) struct Echo {
    process: Process,
}

impl Echo {
    pub(crate) fn start(lab: &Lab, words: &str) -> Self {
        Self::start_for(lab, "--udp", words)
    }

    /// For `--tcp`, `--udp` or both.
    pub(crate) fn start_for(lab: &Lab, transports: &str, words: &str) -> Self {
        let mut process = tailwater(lab.dut(), &format!("echo {transports} -j -i d0 {words}")).spawn().unwrap();
        process.wait_for(r#""ready""#, |line| line.contains(r#""event":"ready""#), DEADLINE).unwrap();
        Self { process }
    }

    /// Stops it; its summary, in which every packet and frame must be accounted for.
    pub(crate) fn stop(self) -> Value {
        let Finished { status, stdout, stderr, .. } = self.process.interrupt().unwrap();
        assert!(status.success(), "{status}: {stderr}");
        let line = stdout.lines().rfind(|line| line.contains(r#""event":"summary""#)).unwrap();
        let report = serde_json::from_str::<Value>(line).unwrap()["report"].take();
        assert_eq!(report["totals"]["imbalance"], 0, "{report:#}");
        assert_eq!(report["frames_missing"], 0, "{report:#}");
        assert_eq!(report["frames_strayed"], 0, "{report:#}");
        report
    }

    /// Ends it without a chance to clean up.
    pub(crate) fn kill(self) {
        self.process.kill();
    }
}

/// A counter of the service, over all workers.
pub(crate) fn counter(report: &Value, name: &str) -> u64 {
    let workers = report["workers"].as_array().unwrap();
    let blocks = workers.iter().flat_map(|worker| worker["blocks"].as_array().unwrap());
    blocks.filter_map(|block| block["counters"][name].as_u64()).sum()
}

/// A kernel socket of the client's, connected.
pub(crate) fn socket(lab: &Lab, to: &str) -> UdpSocket {
    let to: SocketAddr = to.parse().unwrap();
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    lab.client()
        .enter(|| {
            let socket = UdpSocket::bind(any).unwrap();
            socket.connect(to).unwrap();
            socket.set_read_timeout(Some(ANSWER)).unwrap();
            socket
        })
        .unwrap()
}

/// Sends and compares what comes back, one at a time.
pub(crate) fn round_trip(socket: &UdpSocket, payload: &[u8]) {
    socket.send(payload).unwrap();
    let mut answer = vec![0; 65_536];
    let n = socket.recv(&mut answer).unwrap_or_else(|error| panic!("{} bytes: {error}", payload.len()));
    assert!(answer[..n] == *payload, "{} bytes came back as {n}, or changed", payload.len());
}

/// What one round trip brings: an answer, a refusal by ICMP, or silence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answer,
    Refused,
    Silence,
}

/// A datagram to a port where nobody may be.
pub(crate) fn try_port(lab: &Lab, to: &str) -> Outcome {
    let socket = socket(lab, to);
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    socket.send(b"anybody there?").unwrap();
    match socket.recv(&mut [0; 64]) {
        Ok(_) => Outcome::Answer,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Outcome::Refused,
        Err(_) => Outcome::Silence,
    }
}

/// Numbers that look random and are the same in each run (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A payload of 0 to `max` bytes.
    pub(crate) fn payload(&mut self, max: usize) -> Vec<u8> {
        let len = self.next() as usize % (max + 1);
        self.exactly(len)
    }

    /// A payload of `len` bytes.
    pub(crate) fn exactly(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// `count` datagrams of random sizes up to `max` from several sockets in turn, each compared with what comes back.
pub(crate) fn exchange(lab: &Lab, to: &str, count: usize, max: usize) {
    let sockets: Vec<UdpSocket> = (0..8).map(|_| socket(lab, to)).collect();
    let mut random = Random(count as u64);
    for n in 0..count {
        round_trip(&sockets[n % sockets.len()], &random.payload(max));
    }
}
