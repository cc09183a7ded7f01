//! Numbered datagrams from gen to sink, as fast as they arrive there, each checked byte by byte.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tailwater_lab::Lab;

use super::common::DEADLINE;

/// Stands in every datagram, as often as it fits.
pub(crate) const PATTERN: &[u8] = b"tailwater in the clear ";
const FLOWS: usize = 4;
/// Datagrams on their way at a time: fewer than any ring or socket on it holds, so that none is lost for want of room.
const WINDOW: u64 = 64;
/// Shows the pattern often enough to be worth compressing.
const LEN_MIN: usize = 200;
/// Payload of a packet of 1500 bytes.
const LEN_MAX: usize = 1472;
const LOOK: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Shared {
    sent: AtomicU64,
    received: AtomicU64,
    stop: AtomicBool,
}

/// A sender and a receiver on threads of their own.
pub(crate) struct Load {
    shared: Arc<Shared>,
    sender: JoinHandle<()>,
    receiver: JoinHandle<()>,
}

impl Load {
    pub(crate) fn start(lab: &Lab) -> Self {
        // The sender's own kernel may let later packets past those that waited for its gateway; the forwarders must not.
        lab.gen_side().program("ping").args(["-c1", "-W5", "10.1.0.1"]).run(DEADLINE).unwrap();
        let shared = Arc::new(Shared::default());
        let bind = |address: &str| UdpSocket::bind(address).unwrap();
        let receiver = lab.sink().enter(|| bind("10.2.0.2:7000")).unwrap();
        receiver.set_read_timeout(Some(LOOK)).unwrap();
        let senders = lab.gen_side().enter(|| [(); FLOWS].map(|()| bind("10.1.0.2:0"))).unwrap();
        senders.iter().for_each(|sender| sender.connect("10.2.0.2:7000").unwrap());
        let (sending, receiving) = (Arc::clone(&shared), Arc::clone(&shared));
        Self {
            sender: std::thread::spawn(move || send(&senders, &sending)),
            receiver: std::thread::spawn(move || receive(&receiver, &receiving)),
            shared,
        }
    }

    /// Waits until so many more have arrived.
    pub(crate) fn wait_for(&self, packets: u64) {
        let (end, wanted) = (Instant::now() + DEADLINE, self.shared.received.load(Ordering::Acquire) + packets);
        while self.shared.received.load(Ordering::Acquire) < wanted {
            assert!(!self.receiver.is_finished(), "the receiver found something wrong");
            let Shared { sent, received, .. } = &*self.shared;
            assert!(Instant::now() < end, "{sent:?} sent, {received:?} received, and no more");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops sending and waits for all that is on its way.
    pub(crate) fn settle(self) {
        self.wait_for(1);
        self.shared.stop.store(true, Ordering::Release);
        self.sender.join().unwrap();
        self.receiver.join().unwrap();
        let [sent, received] = [&self.shared.sent, &self.shared.received].map(|count| count.load(Ordering::Acquire));
        assert_eq!(sent, received);
    }
}

fn content(flow: usize, number: u64) -> Vec<u8> {
    let len = (number as usize).wrapping_mul(611) % (LEN_MAX - LEN_MIN) + LEN_MIN;
    let len = if number.is_multiple_of(8) { LEN_MAX } else { len };
    let mut content: Vec<u8> = PATTERN.iter().copied().cycle().take(len).collect();
    content[..8].copy_from_slice(&number.to_be_bytes());
    content[8] = flow as u8;
    content
}

fn send(sockets: &[UdpSocket], shared: &Shared) {
    let mut number = 0;
    while !shared.stop.load(Ordering::Acquire) {
        let sent = shared.sent.load(Ordering::Relaxed);
        if sent - shared.received.load(Ordering::Acquire) >= WINDOW {
            std::thread::yield_now();
            continue;
        }
        let flow = (sent % FLOWS as u64) as usize;
        sockets[flow].send(&content(flow, number)).unwrap();
        number += u64::from(flow == FLOWS - 1);
        shared.sent.store(sent + 1, Ordering::Release);
    }
}

fn receive(socket: &UdpSocket, shared: &Shared) {
    let (mut next, mut buffer) = ([0u64; FLOWS], [0; 2048]);
    let mut silent_since = Instant::now();
    loop {
        let Ok(len) = socket.recv(&mut buffer) else {
            let all = shared.received.load(Ordering::Relaxed) == shared.sent.load(Ordering::Acquire);
            if shared.stop.load(Ordering::Acquire) && (all || silent_since.elapsed() > DEADLINE) {
                return;
            }
            continue;
        };
        silent_since = Instant::now();
        let flow = usize::from(buffer[8]);
        let number = u64::from_be_bytes(buffer[..8].try_into().unwrap());
        assert_eq!(number, next[flow], "flow {flow}: lost, repeated or out of turn");
        assert!(buffer[..len] == content(flow, number), "flow {flow}, datagram {number} was changed on its way");
        next[flow] += 1;
        shared.received.fetch_add(1, Ordering::AcqRel);
    }
}
