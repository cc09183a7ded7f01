//! Ports: where frames come from and go to. One trait, several backends.
//!
//! | backend | for |
//! |---|---|
//! | `af_xdp` | network interfaces, around the kernel's stack |
//! | `packet` | interfaces without XDP: AF_PACKET rings |
//! | `memory` | two ends in one process: tests, simulation, the cost of our own code |
//! | `pcap` | replay and record of capture files |
//! | `vacant` | the place of a port that has yet to join, or has left |
//!
//! A [`Port`] is one worker's end of an interface: each worker has its own, so no method needs a lock.

pub mod af_xdp;
mod descriptors;
mod error;
mod gso;
mod link_mtu;
pub mod memory;
pub mod packet;
pub mod pcap;
mod raw;
mod vacant;
mod virtio;

use std::os::fd::BorrowedFd;

pub use error::PortError;
pub use link_mtu::LinkMtu;
pub use vacant::Vacant;

use crate::frame::{Batch, Pool};
use crate::ledger::Ledger;

/// What a port can do, as probed when it was opened; the MTU as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Capabilities {
    /// Backend: `af_xdp`, `packet`, `memory`, `pcap`.
    pub backend: &'static str,
    /// How it runs, in words: "native, copy", "generic, copy", "mmap".
    pub mode: String,
    /// Largest packet behind the Ethernet header, in bytes.
    pub mtu: u32,
    /// Ethernet address; zero where there is none.
    pub mac: [u8; 6],
    /// Receive queues that this worker's end reads.
    pub queues: u32,
    /// Whether packets larger than one chunk pass.
    pub multi_buffer: bool,
    /// Whether socket busy polling drives the device.
    pub busy_poll: bool,
    /// Whether TCP segments may leave as one packet that the kernel cuts. Such a port completes checksums that were left undone.
    pub segmentation: bool,
    /// Most packets that the kernel takes from the transmit ring in one system call; 0 where there is no such call.
    pub tx_budget: u32,
}

/// What a port counts. Packets and bytes count whole packets; jumbo packets count once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PortCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets put into the transmit ring.
    pub tx_packets: u64,
    /// Bytes put into the transmit ring.
    pub tx_bytes: u64,
    /// System calls to make the kernel transmit.
    pub tx_kicks: u64,
    /// Calls that gave the kernel several TCP segments as one packet to cut; each is also counted in `tx_kicks`.
    pub tx_trains: u64,
    /// System calls to make the kernel receive (fill ring wake-ups, busy polls).
    pub rx_kicks: u64,
    /// Transmit calls that the kernel refused for now (EAGAIN, ENOBUFS, EBUSY).
    pub tx_refused: u64,
    /// Turns that found the free frames exhausted when refilling.
    pub refill_starved: u64,
    /// Kernel: dropped for no free frame in the fill ring, or a packet too large for the frames (`rx_dropped`).
    pub kernel_rx_dropped: u64,
    /// Kernel: dropped because the receive ring was full.
    pub kernel_rx_ring_full: u64,
    /// Kernel: descriptors it found invalid.
    pub kernel_invalid: u64,
}

impl PortCounters {
    /// Takes away what another of the same port had counted.
    pub(crate) fn subtract(&mut self, other: &Self) {
        let Self {
            rx_packets,
            rx_bytes,
            tx_packets,
            tx_bytes,
            tx_kicks,
            tx_trains,
            rx_kicks,
            tx_refused,
            refill_starved,
            kernel_rx_dropped,
            kernel_rx_ring_full,
            kernel_invalid,
        } = other;
        for (ours, theirs) in [
            (&mut self.rx_packets, rx_packets),
            (&mut self.rx_bytes, rx_bytes),
            (&mut self.tx_packets, tx_packets),
            (&mut self.tx_bytes, tx_bytes),
            (&mut self.tx_kicks, tx_kicks),
            (&mut self.tx_trains, tx_trains),
            (&mut self.rx_kicks, rx_kicks),
            (&mut self.tx_refused, tx_refused),
            (&mut self.refill_starved, refill_starved),
            (&mut self.kernel_rx_dropped, kernel_rx_dropped),
            (&mut self.kernel_rx_ring_full, kernel_rx_ring_full),
            (&mut self.kernel_invalid, kernel_invalid),
        ] {
            *ours = ours.saturating_sub(*theirs);
        }
    }

    /// Adds another worker's counters of the same port.
    pub fn add(&mut self, other: &Self) {
        let Self {
            rx_packets,
            rx_bytes,
            tx_packets,
            tx_bytes,
            tx_kicks,
            tx_trains,
            rx_kicks,
            tx_refused,
            refill_starved,
            kernel_rx_dropped,
            kernel_rx_ring_full,
            kernel_invalid,
        } = other;
        self.rx_packets += rx_packets;
        self.rx_bytes += rx_bytes;
        self.tx_packets += tx_packets;
        self.tx_bytes += tx_bytes;
        self.tx_kicks += tx_kicks;
        self.tx_trains += tx_trains;
        self.rx_kicks += rx_kicks;
        self.tx_refused += tx_refused;
        self.refill_starved += refill_starved;
        self.kernel_rx_dropped += kernel_rx_dropped;
        self.kernel_rx_ring_full += kernel_rx_ring_full;
        self.kernel_invalid += kernel_invalid;
    }
}

/// What a port has carried so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
}

impl From<&PortCounters> for Traffic {
    fn from(counters: &PortCounters) -> Self {
        Self { rx_packets: counters.rx_packets, rx_bytes: counters.rx_bytes, tx_bytes: counters.tx_bytes }
    }
}

impl std::ops::Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            rx_packets: self.rx_packets + other.rx_packets,
            rx_bytes: self.rx_bytes + other.rx_bytes,
            tx_bytes: self.tx_bytes + other.tx_bytes,
        }
    }
}

/// The part of one receive queue in a port's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct QueueCounters {
    /// Number of the device's queue.
    pub queue: u32,
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Kernel: dropped for no free frame in the fill ring, or a packet too large for the frames (`rx_dropped`).
    pub kernel_rx_dropped: u64,
    /// Kernel: dropped because the receive ring was full.
    pub kernel_rx_ring_full: u64,
    /// Kernel: descriptors it found invalid.
    pub kernel_invalid: u64,
    /// Descriptors in the receive ring now.
    pub waiting: u64,
}

/// One worker's end of an interface.
///
/// A worker's turn calls, in this order: [`receive`](Self::receive), then after the graph
/// [`transmit`](Self::transmit), then [`flush`](Self::flush) once.
pub trait Port: Send {
    /// The interface's name.
    fn name(&self) -> &str;

    /// What it can do.
    fn capabilities(&self) -> &Capabilities;

    /// Tells the port its index in the worker, which received frames carry from then on
    /// ([`Frame::port`](crate::frame::Frame::port)).
    fn set_number(&mut self, number: u16);

    /// Appends at most `max` received packets to `batch`; returns how many. Never waits. Packets that cannot be
    /// represented are counted in `ledger`.
    fn receive(&mut self, pool: &mut Pool, ledger: &mut Ledger, batch: &mut Batch, max: usize) -> usize;

    /// Takes frames from the front of `batch` and queues them for transmission; returns how many. Those left in the
    /// batch found no room: flush, try again, or drop them with a reason.
    fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize;

    /// Packets of full length for which [`transmit`](Self::transmit) has room now, if these are less than `wanted`; else
    /// `wanted` or more.
    fn tx_room(&mut self, wanted: usize) -> usize {
        wanted
    }

    /// Ends a turn: makes the kernel transmit if it asks for that, takes finished frames back, gives free ones to receive.
    fn flush(&mut self, pool: &mut Pool);

    /// What to wait on before the next `receive`, while idle. Ports without one are polled.
    fn pollable(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Lets the kernel receive in this thread's time, where the device supports it; returns whether it did anything.
    fn busy_poll(&mut self) -> bool {
        false
    }

    /// Whether the interface is known to be down or gone: what `transmit` leaves is lost for that reason.
    fn is_down(&self) -> bool {
        false
    }

    /// Packets queued for transmission which the other side has not taken.
    fn tx_pending(&mut self) -> usize {
        0
    }

    /// Segments given to the other side for transmission minus those taken back. Another worker's port may take back what
    /// this one gave: only the sum over all workers says how many are under way.
    fn tx_in_flight(&self) -> i64 {
        0
    }

    /// Takes back segments queued for transmission which the other side has not taken and never will, newest first, until
    /// `keep` are left. Only while the other side is known to be stopped.
    fn take_back_unsent(&mut self, _pool: &mut Pool, _keep: usize) {}

    /// The counters, including the kernel's.
    fn counters(&self) -> PortCounters;

    /// The worker is about to sleep until a packet comes: what may arrive before it is awake is to find room.
    fn rest(&mut self, pool: &mut Pool) {
        let _ = pool;
    }

    /// What of the counters costs no system call. A port that tells nothing is never taken for one that receives in bulk.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    /// Calls `report` with the part of each receive queue, as of the last [`counters`](Self::counters): their sums are
    /// the port's. Ports whose packets come from no queue of a device report none.
    fn queues(&self, report: &mut dyn FnMut(QueueCounters)) {
        let _ = report;
    }

    /// Takes back every frame that lies in rings, where that is possible, before the port is dropped.
    fn close(&mut self, pool: &mut Pool);
}
