//! A port over AF_PACKET rings: for interfaces on which no XDP program can run.
//!
//! ```text
//!   kernel --copy--> rx ring slot --copy--> Frame          a slot is in memory shared with the kernel;
//!   kernel <-------- tx ring slot <--copy-- Frame          its status word says whose it is
//! ```
//!
//! Both ways packets are copied between ring and frames; that, and the kernel's own work for each packet, is why AF_XDP is
//! faster. The socket is a tap: the kernel's stack sees every packet, too.
//!
//! The rings are TPACKET_V2, a slot a packet, because a packet is there as soon as the kernel has written it. V3 packs
//! packets into blocks and hands over a block when it is full or a timer with the kernel's tick (1 to 10 ms) has run out:
//! less memory, but no latency fit for forwarding.
//!
//! * Packets larger than a slot come through the socket itself (`PACKET_COPY_THRESH`), in full, and leave by another: slots are
//!   made for the MTU that there is at the start.
//! * Packets whose checksum or segmentation the sender left to its device are completed in software (`offload`).
//! * A VLAN tag that the kernel has taken out is put back.
//! * What this host sends is not seen (`PACKET_IGNORE_OUTGOING`, Linux 4.20).
//! * Several workers share an interface by the kernel's symmetric flow hash (`PACKET_FANOUT_HASH`).
//! * While the interface is down nothing moves; it goes on when the interface is up again. When it is gone for good,
//!   everything sent is refused.

mod offload;
mod socket;

#[cfg(test)]
pub(super) use offload::segments_of;

use std::cell::Cell;
use std::os::fd::BorrowedFd;

use super::virtio::WORDS_LEN;
use super::{Capabilities, LinkMtu, Port, PortCounters, PortError, Traffic};
use crate::blocks::header::{ETHERNET_LEN, VLAN_TAG_LEN, push_tag};
use crate::frame::{Batch, Frame, Pool};
use crate::ledger::{DropReason, Ledger};
use offload::Offload;
use socket::{Beside, Socket};

/// Largest header in front of the MTU: Ethernet and two VLAN tags.
const HEADER_MAX: usize = ETHERNET_LEN + 2 * VLAN_TAG_LEN;
/// The largest packet that the kernel delivers, unsegmented, with the words about its offloads in front.
const LARGE_MAX: usize = WORDS_LEN + 65_536 + HEADER_MAX;
/// Turns without a packet between two looks at the socket's error, which costs a system call.
const ERROR_LOOK_TURNS: u32 = 1024;

/// How to open an interface.
#[derive(Clone, Debug)]
pub struct PacketConfig {
    /// Interface name.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// Its MTU.
    pub mtu: LinkMtu,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Workers that get an end each.
    pub workers: u32,
    /// Slots per ring; a power of two, 64 to 32,768.
    pub ring_size: u32,
    /// Whether to receive what is addressed to other stations.
    pub promiscuous: bool,
}

/// One worker's end of an interface.
pub struct PacketPort {
    name: String,
    number: u16,
    socket: Socket,
    /// For packets larger than a slot.
    beside: Beside,
    mtu: LinkMtu,
    capabilities: Capabilities,
    counters: PortCounters,
    /// Reading resets the kernel's counter, so it is added up here.
    kernel_dropped: Cell<u64>,
    /// Slots of each ring.
    slots: u32,
    rx_at: u32,
    /// Next slot to write.
    tx_at: u32,
    /// Oldest slot that the kernel may still have.
    tx_done: u32,
    /// There is something in slots that the kernel has not taken.
    unkicked: bool,
    /// Packets that `transmit` had to let go of, until `receive` can enter them in the ledger.
    refused: Vec<DropReason>,
    is_down: bool,
    empty_turns: u32,
    /// A packet that did not fit a slot.
    large: Box<[u8]>,
    /// Where segments are put together.
    scratch: Vec<u8>,
    /// Segments of one packet that did not fit the caller's batch.
    carry: Batch,
}

/// Opens an interface for `config.workers` workers; nothing is received before all of them can.
pub fn open(config: &PacketConfig) -> Result<Vec<PacketPort>, PortError> {
    let failed = |what: &'static str| {
        move |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => PortError::Privilege { what: "open an AF_PACKET socket" },
            _ => PortError::System { interface: config.interface.clone(), what, error },
        }
    };
    let slots = config.ring_size.clamp(64, 32_768).next_power_of_two();
    let mut sockets = Vec::new();
    for _ in 0..config.workers.max(1) {
        let socket = Socket::open(packet_max(&config.mtu), slots).map_err(failed("making AF_PACKET rings"))?;
        socket.bind(config.ifindex).map_err(failed("binding an AF_PACKET socket"))?;
        sockets.push(socket);
    }
    if config.workers > 1 {
        Socket::join(&sockets).map_err(failed("sharing the interface between workers"))?;
    }
    for socket in &sockets {
        if config.promiscuous {
            socket.receive_all(config.ifindex).map_err(failed("switching to promiscuous mode"))?;
        }
        socket.let_in().map_err(failed("beginning to receive"))?;
    }
    let port = |socket| {
        let beside = Beside::open(config.ifindex).map_err(failed("opening a socket for large packets"))?;
        Ok(PacketPort::new(config, socket, beside, slots))
    };
    sockets.into_iter().map(port).collect()
}

/// Bytes of the largest packet, headers and all.
fn packet_max(mtu: &LinkMtu) -> usize {
    mtu.get() as usize + HEADER_MAX
}

impl PacketPort {
    fn new(config: &PacketConfig, socket: Socket, beside: Beside, slots: u32) -> Self {
        Self {
            name: config.interface.clone(),
            number: 0,
            socket,
            beside,
            mtu: config.mtu.clone(),
            capabilities: Capabilities {
                backend: "packet",
                mode: "AF_PACKET rings, copy".into(),
                mtu: config.mtu.get(),
                mac: config.mac,
                queues: 1,
                multi_buffer: true,
                busy_poll: false,
                segmentation: false,
                tx_budget: slots,
            },
            counters: PortCounters::default(),
            kernel_dropped: Cell::new(0),
            slots,
            rx_at: 0,
            tx_at: 0,
            tx_done: 0,
            unkicked: false,
            refused: Vec::new(),
            is_down: false,
            empty_turns: 0,
            large: vec![0; LARGE_MAX].into(),
            scratch: Vec::with_capacity(LARGE_MAX),
            carry: Batch::default(),
        }
    }

    /// Takes the packet from the slot at `rx_at` and appends what becomes of it to `carry`. `None` if there is none, or
    /// no frame for it.
    fn take_slot(&mut self, pool: &mut Pool, ledger: &mut Ledger) -> Option<()> {
        let Self { socket, large, scratch, carry, .. } = self;
        let arrival = socket.arrival(self.rx_at)?;
        let whole = if arrival.copied {
            let len = socket.receive_large(large).ok().flatten();
            len.and_then(|len| large.get_mut(..len)?.split_first_chunk_mut()).map(|(words, packet)| (&*words, packet))
        } else if arrival.truncated {
            None
        } else {
            socket.packet(self.rx_at)
        };
        let taken = match whole {
            Some((words, packet)) => convert(Offload::parse(words), packet, arrival.vlan, pool, scratch, carry),
            None => Err(DropReason::Truncated),
        };
        match taken {
            // The packet stays in its slot until there are frames again.
            Err(DropReason::NoFrame) if !arrival.copied => {
                self.counters.refill_starved += 1;
                return None;
            }
            Err(reason) => {
                self.counters.rx_packets += 1;
                ledger.count(reason);
            }
            Ok(()) => {}
        }
        self.socket.give_back(self.rx_at);
        self.rx_at = (self.rx_at + 1) & (self.slots - 1);
        Some(())
    }

    /// Notices that the interface went down, which also ends the socket's claim to be readable.
    fn look_for_error(&mut self) {
        self.empty_turns = 0;
        if self.socket.take_error().is_some() {
            self.is_down = true;
        }
    }

    /// Writes a packet into the next slot. `Err(None)`: none is free.
    fn send_by_slot(&mut self, frame: &Frame, len: usize) -> Result<(), Option<DropReason>> {
        if self.tx_at.wrapping_sub(self.tx_done) == self.slots {
            return Err(None);
        }
        self.socket.send(self.tx_at & (self.slots - 1), len, frame.segments());
        self.tx_at = self.tx_at.wrapping_add(1);
        self.unkicked = true;
        Ok(())
    }

    /// Sends a packet that no slot can hold, behind those in slots. `Err(None)`: not now.
    #[cold]
    fn send_beside(&mut self, frame: &Frame) -> Result<(), Option<DropReason>> {
        self.kick();
        if self.unkicked {
            return Err(None);
        }
        self.counters.tx_kicks += 1;
        self.beside.send(frame.segments()).map_err(|error| match error.raw_os_error() {
            Some(libc::EMSGSIZE) => Some(DropReason::PacketTooBig),
            _ => {
                self.note_refusal(&error);
                None
            }
        })
    }

    /// Makes the kernel send what lies in slots. It takes no more than its socket has room for, the oldest first, and says
    /// nothing of the others.
    fn kick(&mut self) {
        if !self.unkicked {
            return;
        }
        self.counters.tx_kicks += 1;
        // The first call after the interface was down may only hand over that old news.
        let sent = self.socket.kick().or_else(|error| match error.raw_os_error() {
            Some(libc::ENETDOWN) => self.socket.kick(),
            _ => Err(error),
        });
        match sent {
            Ok(()) => {
                let last = self.tx_at.wrapping_sub(1) & (self.slots - 1);
                (self.unkicked, self.is_down) = (!self.socket.is_taken(last), false);
            }
            Err(error) => self.note_refusal(&error),
        }
    }

    fn note_refusal(&mut self, error: &std::io::Error) {
        self.counters.tx_refused += 1;
        self.is_down = matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV));
    }

    fn tx_reclaim(&mut self) {
        while self.tx_done != self.tx_at && self.socket.is_sent(self.tx_done & (self.slots - 1)) {
            self.tx_done = self.tx_done.wrapping_add(1);
        }
    }
}

impl Port for PacketPort {
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
        self.refused.drain(..).for_each(|reason| ledger.count(reason));
        let before = batch.len();
        loop {
            let room = max - (batch.len() - before);
            batch.extend(self.carry.drain_front(room).map(|mut frame| {
                frame.set_port(self.number);
                frame
            }));
            if batch.len() - before == max || self.take_slot(pool, ledger).is_none() {
                break;
            }
        }
        let received = batch.len() - before;
        if received == 0 {
            self.empty_turns += 1;
            if self.empty_turns >= ERROR_LOOK_TURNS {
                self.look_for_error();
            }
            return 0;
        }
        self.is_down = false;
        self.empty_turns = 0;
        self.counters.rx_packets += received as u64;
        self.counters.rx_bytes += batch.iter().skip(before).map(|frame| frame.total_len() as u64).sum::<u64>();
        received
    }

    fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        self.tx_reclaim();
        let len_max = packet_max(&self.mtu);
        let mut taken = 0;
        for frame in batch.iter() {
            let len = frame.total_len();
            let sent = match len {
                // The kernel would refuse these, and say so of no packet in particular.
                ..ETHERNET_LEN => Err(Some(DropReason::BadEthernet)),
                _ if len > len_max => Err(Some(DropReason::PacketTooBig)),
                _ if len > self.socket.packet_max() => self.send_beside(frame),
                _ => self.send_by_slot(frame, len),
            };
            match sent {
                Ok(()) => {
                    self.counters.tx_packets += 1;
                    self.counters.tx_bytes += len as u64;
                }
                Err(Some(reason)) => {
                    self.refused.push(reason);
                    self.counters.tx_refused += 1;
                }
                Err(None) => break,
            }
            taken += 1;
        }
        batch.drain_front(taken).for_each(|frame| pool.release(frame));
        taken
    }

    fn tx_room(&mut self, wanted: usize) -> usize {
        let free = |port: &Self| (port.slots - port.tx_at.wrapping_sub(port.tx_done)) as usize;
        if free(self) < wanted {
            self.tx_reclaim();
        }
        free(self)
    }

    fn flush(&mut self, _pool: &mut Pool) {
        self.capabilities.mtu = self.mtu.get();
        if self.unkicked {
            self.kick();
            self.tx_reclaim();
        }
    }

    fn pollable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.fd())
    }

    fn is_down(&self) -> bool {
        self.is_down
    }

    fn tx_pending(&mut self) -> usize {
        self.tx_reclaim();
        self.tx_at.wrapping_sub(self.tx_done) as usize
    }

    fn traffic(&self) -> Traffic {
        Traffic::from(&self.counters)
    }

    fn counters(&self) -> PortCounters {
        self.kernel_dropped.set(self.kernel_dropped.get() + self.socket.take_dropped());
        PortCounters { kernel_rx_ring_full: self.kernel_dropped.get(), ..self.counters }
    }

    fn close(&mut self, pool: &mut Pool) {
        self.carry.drain().for_each(|frame| pool.release(frame));
    }
}

/// Makes frames of a packet as the kernel had it: one, or the segments that its sender left to be cut.
fn convert(
    offload: Offload,
    packet: &mut [u8],
    vlan: Option<(u16, u16)>,
    pool: &mut Pool,
    scratch: &mut Vec<u8>,
    out: &mut Batch,
) -> Result<(), DropReason> {
    if offload.is_segmented() {
        let before = out.len();
        let cut = offload.segments(packet, scratch, |segment| put(segment, vlan, pool, out));
        return cut.inspect_err(|_| {
            // All of it or nothing: a caller which tries again must not send the first segments twice.
            while out.len() > before {
                out.pop().into_iter().for_each(|frame| pool.release(frame));
            }
        });
    }
    offload.complete_checksum(packet)?;
    put(packet, vlan, pool, out)
}

fn put(packet: &[u8], vlan: Option<(u16, u16)>, pool: &mut Pool, out: &mut Batch) -> Result<(), DropReason> {
    if packet.len() > crate::frame::SEGMENTS_MAX * pool.region().segment_max() {
        return Err(DropReason::TooManySegments);
    }
    let mut frame = pool.allocate_copy(packet).ok_or(DropReason::NoFrame)?;
    if let Some((protocol, tag)) = vlan
        && let Err(reason) = push_tag(&mut frame, protocol, tag)
    {
        pool.release(frame);
        return Err(reason);
    }
    out.push(frame);
    Ok(())
}
