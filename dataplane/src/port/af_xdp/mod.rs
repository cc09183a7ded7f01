//! AF_XDP: frames straight from and to a network device's queues.
//!
//! ```text
//!  queue q of the device                       UMEM (frame::Region), shared by all sockets
//!  +-----------------------+
//!  | fill ring       <-----|--- free chunks ---  the queue's owner (worker q mod W)
//!  | completion ring ------|--- sent chunks -->  the queue's owner
//!  +-----------------------+
//!  | socket of worker 0    |  RX ring --> worker 0      TX ring <-- worker 0
//!  | socket of worker 1    |  RX ring --> worker 1      TX ring <-- worker 1
//!  +-----------------------+
//! ```
//!
//! The XDP program chooses the worker and redirects into that worker's socket of the queue which the packet arrived on,
//! so any worker is reached from any queue without a hand-over in user space. Received chunks thus leave the fill ring's
//! owner for good; what the other workers free comes back through the region's depot. The owner looks after the rings of
//! its queues in each turn. It may be asleep while another worker receives, so that one does it, too, each time it has
//! used a part of them: whoever finds the other at it goes on, nobody waits.
//!
//! TCP segments of one connection that leave together take another way where the kernel copies anyway: as one packet, which
//! it cuts (`port/gso`).
//!
//! System calls: `sendto` once per turn while the transmit ring asks for it (copy mode always does; up to 512 packets a
//! call from Linux 6.17 on, 32 before), `recvfrom` when the fill ring asks or when busy polling works, `poll` when idle.

mod fill_level;
mod open;
mod rings;
mod socket;

use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

pub use super::gso::{TextSwitch, TextWay};
use fill_level::FillLevel;
pub use open::{Entrance, OpenConfig, Opened, open};
pub(crate) use open::{ONE_CHUNK, is_large};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
pub use socket::Copy;
use socket::Socket;
use tailwater_xdp::RingState;

use super::descriptors::{Burst, put_burst, take_burst};
use super::gso::{IP_LEN_MAX, Refusal, Train, TrainSocket};
use super::{Capabilities, LinkMtu, Port, PortCounters, QueueCounters, Traffic};
use crate::frame::{Batch, DATA_OFFSET, Frame, Pool, Region};
use crate::ledger::{DropReason, Ledger};
use crate::ring::{Consumer, Descriptor, Producer};

/// Calls in one flush before the rest waits for the next turn: bounds a turn where the kernel takes few at a time.
const KICKS_MAX: u32 = 64;
/// A worker that is not a queue's owner looks after its rings when it has used one in so many of its places.
const SHARE: u32 = 16;

/// This worker's receiving half of one queue.
struct QueueRx {
    counters: Cell<QueueCounters>,
    ring: Consumer<Descriptor>,
    socket: Arc<Socket>,
    state: Option<RingState>,
}

impl QueueRx {
    #[inline]
    fn count(&mut self, burst: Burst) {
        let counters = self.counters.get_mut();
        counters.rx_packets += burst.packets as u64;
        counters.rx_bytes += burst.bytes;
    }

    /// The counters, after a look at the kernel's.
    fn look(&self) -> QueueCounters {
        let mut counters = self.counters.get();
        counters.waiting = self.ring.waiting().into();
        if let Some(kernel) = self.socket.statistics() {
            counters.kernel_rx_dropped = kernel.rx_dropped;
            counters.kernel_rx_ring_full = kernel.rx_ring_full;
            counters.kernel_invalid = kernel.rx_invalid_descs + kernel.tx_invalid_descs;
        }
        self.counters.set(counters);
        counters
    }
}

/// Fill and completion rings of a queue.
struct QueueRings {
    fill: Producer<u64>,
    completion: Consumer<u64>,
    socket: Arc<Socket>,
    level: FillLevel,
}

/// A worker's access to a queue's rings.
struct Access {
    rings: Arc<Mutex<QueueRings>>,
    /// It is this worker that looks after them in each turn.
    owned: bool,
    /// Packets received and sent by the queue since this worker last looked.
    used: u32,
    /// So many make it look, if it is not the owner.
    used_max: u32,
}

impl Access {
    /// The rings, if they are to be looked after now and nobody else does it.
    #[inline]
    fn due(&mut self) -> Option<MutexGuard<'_, QueueRings>> {
        if !self.owned && self.used < self.used_max {
            return None;
        }
        self.used = 0;
        self.free()
    }

    /// The rings, if nobody else looks after them just now.
    fn free(&self) -> Option<MutexGuard<'_, QueueRings>> {
        match self.rings.try_lock() {
            Ok(rings) => Some(rings),
            // A worker that has panicked ends the dataplane; until then rings are rings.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// One worker's end of an interface.
pub struct XdpPort {
    name: String,
    number: u16,
    region: Arc<Region>,
    queues: Vec<QueueRx>,
    /// Queue to read first next time.
    next_queue: usize,
    tx: Producer<Descriptor>,
    tx_socket: Arc<Socket>,
    /// By queue.
    accesses: Vec<Access>,
    /// Descriptors of a packet of full length.
    packet_slots: usize,
    mtu: LinkMtu,
    /// The queue that is sent by.
    tx_queue: usize,
    /// Descriptors given to the kernel minus those whose completion this worker has seen.
    tx_in_flight: i64,
    /// The interface was down, or gone, when the kernel was last asked to transmit.
    is_down: bool,
    /// Where several TCP segments may leave as one packet, and whether they do.
    trains: Option<(TrainSocket, Arc<TextSwitch>)>,
    /// Segments that the link was too small for, until `receive` can enter them in the ledger.
    too_big: u32,
    /// The ring holds segments of which later ones may be in a train.
    text_in_ring: bool,
    epoll: Option<OwnedFd>,
    capabilities: Capabilities,
    counters: PortCounters,
}

impl Port for XdpPort {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn set_number(&mut self, number: u16) {
        self.number = number;
    }

    fn receive(&mut self, pool: &mut Pool, ledger: &mut Ledger, batch: &mut Batch, max: usize) -> usize {
        (0..std::mem::take(&mut self.too_big)).for_each(|_| ledger.count(DropReason::PacketTooBig));
        let mut received = 0;
        for turn in 0..self.queues.len() {
            let at = (self.next_queue + turn) % self.queues.len();
            let burst =
                receive_from(&mut self.queues[at], &self.region, self.number, pool, ledger, batch, max - received);
            received += burst.packets;
            self.accesses[at].used += burst.packets as u32;
            if received == max {
                self.next_queue = (at + 1) % self.queues.len();
                break;
            }
        }
        received
    }

    fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        let is_text = |frame: &Frame| frame.is_lent();
        if self.trains.is_none() || !batch.iter().any(is_text) {
            return self.put(pool, batch, usize::MAX);
        }
        let way = self.text_way();
        if way == TextWay::Ring {
            return self.put_text(pool, batch, usize::MAX);
        }
        let mut len_max = self.trains.as_ref().map_or(0, |(_, switch)| switch.train_len_max());
        let lead = |frames: &[Frame], len_max| match way {
            TextWay::Socket => Train::couple(frames, len_max).or_else(|| Train::alone(frames)),
            _ => Train::couple(frames, len_max),
        };
        let mut taken = 0;
        loop {
            let frames = batch.iter().as_slice();
            let train = (0..frames.len()).find_map(|at| lead(&frames[at..], len_max).map(|train| (at, train)));
            let alone = train.as_ref().map_or(frames.len(), |&(at, _)| at);
            self.text_in_ring |= frames[..alone].iter().any(is_text);
            let put = self.put_text(pool, batch, alone);
            taken += put;
            let Some((_, train)) = train.filter(|_| put == alone) else { return taken };
            if self.text_stays_in_ring() {
                return taken + self.put_text(pool, batch, usize::MAX);
            }
            if train.frames == 1 {
                batch.iter_mut().take(1).for_each(Frame::complete_sum);
            }
            match self.send_train(&train, batch.iter().as_slice()) {
                Ok(()) | Err(Refusal::TooBig) => {
                    batch.drain_front(train.frames).for_each(|frame| pool.release(frame));
                }
                // It needs memory in large pieces, of which there may be none for long.
                Err(Refusal::ForNow) if train.long => {
                    len_max = IP_LEN_MAX;
                    continue;
                }
                Err(Refusal::ForNow) => return taken,
                // The ring knows what becomes of them.
                Err(_) => return taken + self.put_text(pool, batch, usize::MAX),
            }
            taken += train.frames;
        }
    }

    #[inline]
    fn tx_room(&mut self, wanted: usize) -> usize {
        (self.tx.free((wanted * self.packet_slots) as u32) as usize) / self.packet_slots
    }

    fn flush(&mut self, pool: &mut Pool) {
        self.push_ring();
        let mtu = self.mtu.get();
        if mtu != self.capabilities.mtu {
            (self.capabilities.mtu, self.packet_slots) = (mtu, open::packet_slots(&self.region, mtu));
        }
        self.capabilities.segmentation = self.text_way() != TextWay::Ring;
        for access in &mut self.accesses {
            let Some(mut rings) = access.due() else { continue };
            self.tx_in_flight -= complete(&mut rings, &self.region, pool);
            refill(&mut rings, &self.region, pool, &mut self.counters);
        }
    }

    fn pollable(&self) -> Option<BorrowedFd<'_>> {
        match &self.epoll {
            Some(epoll) => Some(epoll.as_fd()),
            None => self.queues.first().map(|queue| queue.socket.fd()),
        }
    }

    fn busy_poll(&mut self) -> bool {
        if !self.capabilities.busy_poll {
            return false;
        }
        for queue in &self.queues {
            self.counters.rx_kicks += 1;
            // Nothing is read: the call runs the device's poll function in this thread (errors are "nothing there").
            let _ = rustix::net::recv(queue.socket.fd(), &mut [0u8; 0][..], RecvFlags::DONTWAIT);
        }
        true
    }

    fn is_down(&self) -> bool {
        self.is_down
    }

    fn tx_pending(&mut self) -> usize {
        self.tx.pending() as usize
    }

    fn tx_in_flight(&self) -> i64 {
        self.tx_in_flight
    }

    fn take_back_unsent(&mut self, pool: &mut Pool, keep: usize) {
        if self.tx_socket.copy() != Copy::Copy {
            return;
        }
        pool.check(&self.region);
        while self.tx.pending() as usize > keep {
            let Some(unsent) = self.tx.take_back() else { return };
            if let Some(chunk) = self.region.chunk_at(unsent.addr as usize) {
                pool.put_chunk(chunk);
            }
            self.tx_in_flight -= 1;
        }
    }

    fn counters(&self) -> PortCounters {
        let mut counters = self.counters;
        for queue in &self.queues {
            let queue = queue.look();
            counters.rx_packets += queue.rx_packets;
            counters.rx_bytes += queue.rx_bytes;
            counters.kernel_rx_dropped += queue.kernel_rx_dropped;
            counters.kernel_rx_ring_full += queue.kernel_rx_ring_full;
            counters.kernel_invalid += queue.kernel_invalid;
        }
        counters
    }

    fn rest(&mut self, pool: &mut Pool) {
        for access in &self.accesses {
            let Some(mut rings) = access.free() else { continue };
            rings.level.rest();
            refill(&mut rings, &self.region, pool, &mut self.counters);
        }
    }

    fn traffic(&self) -> Traffic {
        let received = self.queues.iter().map(|queue| queue.counters.get());
        let sum = |traffic: Traffic, queue: QueueCounters| Traffic {
            rx_packets: traffic.rx_packets + queue.rx_packets,
            rx_bytes: traffic.rx_bytes + queue.rx_bytes,
            ..traffic
        };
        received.fold(Traffic { tx_bytes: self.counters.tx_bytes, ..Traffic::default() }, sum)
    }

    fn queues(&self, report: &mut dyn FnMut(QueueCounters)) {
        self.queues.iter().for_each(|queue| report(queue.counters.get()));
    }

    /// Call after the XDP program is detached and its grace period has passed: the kernel then fills no more frames.
    fn close(&mut self, pool: &mut Pool) {
        let (mut batch, mut ledger) = (Batch::default(), Ledger::default());
        self.receive(pool, &mut ledger, &mut batch, usize::MAX >> 32);
        batch.drain().for_each(|frame| pool.release(frame));
        // Where the kernel copies, it looks at the ring only in calls of this thread, so nobody sends these any more.
        if self.tx_socket.copy() == Copy::Copy {
            while let Some(unsent) = self.tx.take_back() {
                if let Some(chunk) = self.region.chunk_at(unsent.addr as usize) {
                    self.region.leave_unsettled(chunk);
                }
            }
        }
        for access in self.accesses.iter().filter(|access| access.owned) {
            let mut rings = access.rings.lock().unwrap_or_else(PoisonError::into_inner);
            complete(&mut rings, &self.region, pool);
            pool.check(&self.region);
            while let Some(addr) = rings.fill.take_back() {
                if let Some(chunk) = self.region.chunk_at(addr as usize) {
                    pool.put_chunk(chunk);
                }
            }
        }
    }
}

impl XdpPort {
    /// Which way text leaves now.
    #[inline]
    fn text_way(&self) -> TextWay {
        self.trains.as_ref().map_or(TextWay::Ring, |(_, way)| way.get())
    }

    /// As [`put`](Self::put), of packets whose checksums may be undone: all of the first `max` have theirs afterwards.
    fn put_text(&mut self, pool: &mut Pool, batch: &mut Batch, max: usize) -> usize {
        batch.iter_mut().take(max).for_each(Frame::complete_sum);
        self.put(pool, batch, max)
    }

    /// Moves at most `max` packets from the front of `batch` into the transmit ring.
    #[inline]
    fn put(&mut self, pool: &mut Pool, batch: &mut Batch, max: usize) -> usize {
        let before = self.tx.position();
        let burst = put_burst(&mut self.tx, &self.region, pool, batch, max);
        self.tx_in_flight += i64::from(self.tx.position().wrapping_sub(before));
        self.counters.tx_packets += burst.packets as u64;
        self.counters.tx_bytes += burst.bytes;
        burst.packets
    }

    /// Has the kernel transmit what lies in the ring.
    #[inline]
    fn push_ring(&mut self) {
        let pending = self.tx.pending();
        if pending > 0 {
            self.accesses[self.tx_queue].used += pending;
            self.kick(pending);
        }
        self.text_in_ring &= self.tx.pending() > 0;
    }

    /// Whether the kernel leaves segments in the ring for now, which a train must not overtake.
    fn text_stays_in_ring(&mut self) -> bool {
        if self.text_in_ring {
            self.push_ring();
        }
        self.text_in_ring
    }

    /// Sends the first frames of `frames` as one packet.
    fn send_train(&mut self, train: &Train, frames: &[Frame]) -> Result<(), Refusal> {
        let Some((socket, _)) = &mut self.trains else { return Err(Refusal::ForGood) };
        self.counters.tx_kicks += 1;
        let sent = socket.send(train, frames);
        match sent {
            Ok(()) => {
                self.counters.tx_trains += u64::from(train.frames > 1);
                self.counters.tx_packets += train.frames as u64;
                let bytes = frames.iter().take(train.frames).map(|frame| frame.total_len() as u64);
                self.counters.tx_bytes += bytes.sum::<u64>();
            }
            Err(Refusal::ForNow) => self.counters.tx_refused += 1,
            Err(Refusal::TooBig) => {
                self.counters.tx_refused += 1;
                self.too_big += 1;
            }
            Err(Refusal::Down) => {}
            Err(Refusal::ForGood) => {
                tracing::warn!(interface = %self.name, "the kernel takes no segmented packets here: each goes alone");
                (self.trains, self.capabilities.segmentation) = (None, false);
            }
        }
        sent
    }

    /// Makes the kernel transmit. It takes a bounded number per call and refuses while the device is busy.
    fn kick(&mut self, mut pending: u32) {
        for _ in 0..KICKS_MAX {
            if !self.tx.needs_wakeup() {
                return;
            }
            self.counters.tx_kicks += 1;
            let sent = rustix::net::send(self.tx_socket.fd(), &[], SendFlags::DONTWAIT);
            let left = self.tx.pending();
            self.is_down = matches!(sent, Err(Errno::NETDOWN | Errno::NXIO | Errno::NODEV));
            if sent.is_err() {
                self.counters.tx_refused += u64::from(left == pending);
            }
            if left == 0 || left == pending {
                return;
            }
            pending = left;
        }
    }
}

#[inline]
fn receive_from(
    queue: &mut QueueRx,
    region: &Region,
    number: u16,
    pool: &mut Pool,
    ledger: &mut Ledger,
    batch: &mut Batch,
    max: usize,
) -> Burst {
    // SAFETY: the kernel owned the chunks since they were put into the fill ring, and gives them up by producing their
    // descriptors into this ring.
    #[allow(unsafe_code)]
    let burst = unsafe { take_burst(&mut queue.ring, region, number, pool, ledger, batch, max) };
    queue.count(burst);
    if let Some(state) = &queue.state {
        if burst.packets == 0 {
            // Nothing outstanding: what the program believes to be in the ring was refused there.
            state.mark_empty();
        } else {
            state.add_taken(burst.packets as u32);
        }
    }
    burst
}

/// Takes back chunks whose packets have been sent; returns how many.
fn complete(rings: &mut QueueRings, region: &Region, pool: &mut Pool) -> i64 {
    if rings.completion.available(1) == 0 {
        return 0;
    }
    pool.check(region);
    let mut completed = 0;
    while let Some(addr) = rings.completion.pop() {
        if let Some(chunk) = region.chunk_at(addr as usize) {
            pool.put_chunk(chunk);
        }
        completed += 1;
    }
    rings.completion.release();
    completed
}

/// Gives free chunks to the kernel to receive into.
fn refill(rings: &mut QueueRings, region: &Region, pool: &mut Pool, counters: &mut PortCounters) {
    let mut room = rings.level.room(rings.fill.pending());
    if room == 0 {
        return;
    }
    pool.check(region);
    while room > 0 {
        let Some(chunk) = pool.take_chunk() else {
            counters.refill_starved += 1;
            break;
        };
        let addr = u64::from(chunk) * region.chunk_len() as u64 + DATA_OFFSET as u64;
        if rings.fill.push(addr).is_err() {
            pool.put_chunk(chunk);
            break;
        }
        room -= 1;
    }
    rings.fill.publish();
    rings.level.filled(rings.fill.pending());
    if rings.fill.needs_wakeup() {
        counters.rx_kicks += 1;
        let _ = rustix::net::recv(rings.socket.fd(), &mut [0u8; 0][..], RecvFlags::DONTWAIT);
    }
}

fn epoll_over(queues: &[QueueRx]) -> std::io::Result<Option<OwnedFd>> {
    use rustix::event::epoll;
    if queues.len() < 2 {
        return Ok(None);
    }
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for queue in queues {
        let fd = queue.socket.fd();
        epoll::add(&set, fd, epoll::EventData::new_u64(fd.as_raw_fd() as u64), epoll::EventFlags::IN)?;
    }
    Ok(Some(set))
}
