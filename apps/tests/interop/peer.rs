//! What these tests share: the kernel's sockets at the other end, bodies and hashes.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tailwater_lab::{Lab, Process};

use crate::common::{assert_accounted, started, summary};

/// Time that a single answer may take on a busy machine.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);
/// Time for a large transfer.
pub(crate) const TRANSFER: Duration = Duration::from_secs(240);

/// Whether there is time for everything.
pub(crate) fn full() -> bool {
    std::env::var_os("TAILWATER_FULL").is_some()
}

/// `tailwater http serve` on d0, ready.
pub(crate) fn serve(lab: &Lab, words: &str) -> Process {
    started(lab.dut(), &format!("http serve -j -i d0 {words}"))
}

/// `tailwater echo --tcp` on d0, ready.
pub(crate) fn echo(lab: &Lab, words: &str) -> Process {
    started(lab.dut(), &format!("echo --tcp -j -i d0 {words}"))
}

/// Stops it; its summary, in which every packet and frame must be accounted for.
pub(crate) fn stop(process: Process) -> Value {
    let report = summary(process);
    assert_accounted(&report);
    report
}

/// A counter of the stack or the service, over all workers.
pub(crate) fn counter(report: &Value, name: &str) -> u64 {
    let blocks = report["workers"].as_array().unwrap().iter().flat_map(|worker| worker["blocks"].as_array().unwrap());
    blocks.filter_map(|block| block["counters"][name].as_u64()).sum()
}

/// A kernel socket of the client's, connected.
pub(crate) fn connect(lab: &Lab, to: &str) -> TcpStream {
    let to: SocketAddr = to.parse().unwrap();
    let stream = lab.client().enter(|| TcpStream::connect_timeout(&to, ANSWER).unwrap()).unwrap();
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    stream.set_write_timeout(Some(ANSWER)).unwrap();
    stream
}

/// Head and body of the next answer on a connection.
pub(crate) fn answer(stream: &mut impl Read, with_body: bool) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream
            .read_exact(&mut byte)
            .unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(&head)));
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let len = field(&head, "Content-Length").unwrap().parse().unwrap();
    let mut body = vec![0; if with_body { len } else { 0 }];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

/// A field of a head.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// Sends `request` and reads the answer.
pub(crate) fn ask(stream: &mut (impl Read + Write), request: &str) -> (String, Vec<u8>) {
    stream.write_all(request.as_bytes()).unwrap();
    answer(stream, !request.starts_with("HEAD"))
}

/// The bytes that `/bytes/N` has from `offset` on: splitmix64, written down once more.
pub(crate) fn pattern(offset: u64, room: &mut [u8]) {
    for (byte, at) in room.iter_mut().zip(offset..) {
        let mut z = (at / 8 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        *byte = (z >> (at % 8 * 8)) as u8;
    }
}

/// SHA-256 of `len` such bytes.
pub(crate) fn pattern_sha256(len: u64) -> String {
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    for offset in (0..len).step_by(piece.len()) {
        let n = (len - offset).min(piece.len() as u64) as usize;
        pattern(offset, &mut piece[..n]);
        hash.update(&piece[..n]);
    }
    hex(&hash.finalize())
}

/// SHA-256 of a file.
pub(crate) fn file_sha256(path: &Path) -> String {
    let mut file = std::fs::File::open(path).unwrap();
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).unwrap() {
            0 => return hex(&hash.finalize()),
            n => hash.update(&piece[..n]),
        }
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A folder that goes away with its value.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tailwater-interop-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file of `len` bytes that look random.
    pub(crate) fn fill(&self, name: &str, len: u64) -> PathBuf {
        let path = self.file(name);
        let mut file = std::fs::File::create(&path).unwrap();
        let mut piece = vec![0; 1 << 20];
        for offset in (0..len).step_by(piece.len()) {
            let n = (len - offset).min(piece.len() as u64) as usize;
            pattern(offset, &mut piece[..n]);
            file.write_all(&piece[..n]).unwrap();
        }
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
