//! The AF_PACKET socket with its two mapped rings (Documentation/networking/packet_mmap.rst). All `unsafe` is here.
//!
//! ```text
//!  mapping: | rx slot 0 | rx slot 1 | ... | tx slot 0 | tx slot 1 | ... |
//!
//!  rx slot: | tpacket2_hdr | ... | offload words | packet (tp_mac, tp_snaplen)     status 0: the kernel's
//!  tx slot: | tpacket2_hdr | offload words | packet                                status 0: ours
//! ```
//!
//! Invariant: a slot's bytes are touched only while its status word, read with acquire, says that the slot is ours, and the
//! word is written last, with release. Slots lie within the mapping: indices are checked, lengths bounded by the slot's.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{tpacket_req, tpacket2_hdr};
use rustix::net::{SendAncillaryBuffer, SendFlags};

use crate::port::raw::{bind_packet, get, packet_socket, set};
use crate::port::virtio::WORDS_LEN;

/// `struct tpacket2_hdr`, aligned; packets to send start behind it.
const TX_OFFSET: usize = (size_of::<tpacket2_hdr>()).next_multiple_of(16);
/// Most bytes in front of a received packet: header, link address, offload words, alignment.
const RX_OFFSET_MAX: usize = 128;
/// The unit in which the kernel allocates a ring.
const BLOCK_LEN: usize = 1 << 16;
/// Room for packets that do not fit a slot, and for slots being sent, in bytes.
const SOCKET_BUFFER_LEN: c_int = 16 << 20;

const SOL_PACKET: c_int = libc::SOL_PACKET;
const TPACKET_V2: c_int = 1;
/// The fanout group that the first socket makes gets a free number.
const FANOUT_NEW: c_int = ((libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_UNIQUEID) as c_int) << 16;
const FANOUT_HASH: c_int = (libc::PACKET_FANOUT_HASH as c_int) << 16;

/// What the kernel says of a packet that it has put into a slot.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    /// Protocol and control information of the tag that the kernel took out.
    pub(super) vlan: Option<(u16, u16)>,
    /// The slot holds the beginning only; all of it is to be received from the socket.
    pub(super) copied: bool,
    /// The slot holds the beginning only, and there is no more.
    pub(super) truncated: bool,
}

pub(super) struct Socket {
    fd: OwnedFd,
    map: NonNull<u8>,
    map_len: usize,
    slot_len: usize,
    slots: u32,
}

// SAFETY: the mapping belongs to this value alone, and is reached through it only.
#[allow(unsafe_code)]
unsafe impl Send for Socket {}

impl Socket {
    /// A socket with two rings of `slots` (a power of two) slots, each for packets of `packet_max` bytes.
    /// It receives nothing before `bind` and `let_in`.
    pub(super) fn open(packet_max: usize, slots: u32) -> io::Result<Self> {
        let fd = packet_socket()?;
        let slot_len = (packet_max + RX_OFFSET_MAX).next_power_of_two().max(2048);
        let map_len = 2 * slot_len * slots as usize;
        refuse_everything(&fd)?;
        set(&fd, SOL_PACKET, libc::PACKET_VERSION, &TPACKET_V2)?;
        set(&fd, SOL_PACKET, libc::PACKET_VNET_HDR, &1)?;
        set(&fd, SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1)?;
        set(&fd, SOL_PACKET, libc::PACKET_COPY_THRESH, &1)?;
        // A packet that the kernel finds wrong is skipped instead of holding up those behind it.
        set(&fd, SOL_PACKET, libc::PACKET_LOSS, &1)?;
        set(&fd, SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1)?;
        for option in [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE] {
            // Without CAP_NET_ADMIN the default stays, which only bounds bursts of large packets.
            let _ = set(&fd, libc::SOL_SOCKET, option, &SOCKET_BUFFER_LEN);
        }
        let block_len = slot_len.max(BLOCK_LEN);
        let request = tpacket_req {
            tp_block_size: block_len as u32,
            tp_block_nr: (slot_len * slots as usize / block_len) as u32,
            tp_frame_size: slot_len as u32,
            tp_frame_nr: slots,
        };
        set(&fd, SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        set(&fd, SOL_PACKET, libc::PACKET_TX_RING, &request)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping of the rings, whose length was just agreed on.
        #[allow(unsafe_code)]
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                map_len,
                protection,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                fd.as_raw_fd(),
                0,
            )
        };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let map = NonNull::new(map.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { fd, map, map_len, slot_len, slots })
    }

    /// Ties the socket to an interface.
    pub(super) fn bind(&self, ifindex: u32) -> io::Result<()> {
        bind_packet(&self.fd, ifindex, libc::ETH_P_ALL as u16)
    }

    /// Makes a group of these sockets: each flow goes to one of them, the same one both ways.
    pub(super) fn join(sockets: &[Socket]) -> io::Result<()> {
        let Some((first, others)) = sockets.split_first() else { return Ok(()) };
        set(&first.fd, SOL_PACKET, libc::PACKET_FANOUT, &FANOUT_NEW)?;
        let group: c_int = get(&first.fd, SOL_PACKET, libc::PACKET_FANOUT, 0)?;
        others
            .iter()
            .try_for_each(|socket| set(&socket.fd, SOL_PACKET, libc::PACKET_FANOUT, &(group & 0xffff | FANOUT_HASH)))
    }

    /// Receives what is addressed to others, too; the interface goes back when the socket is closed.
    pub(super) fn receive_all(&self, ifindex: u32) -> io::Result<()> {
        let request = libc::packet_mreq {
            mr_ifindex: ifindex as c_int,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        set(&self.fd, SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
    }

    /// Takes away the filter that refused everything.
    pub(super) fn let_in(&self) -> io::Result<()> {
        set(&self.fd, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The header of rx slot `at`, if the kernel has put a packet there: the slot is ours until `give_back`.
    fn header(&self, at: u32) -> Option<(u32, tpacket2_hdr)> {
        let status = self.status(at)?.load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the slot starts with this header, and is ours.
        #[allow(unsafe_code)]
        let header = unsafe { self.slot(at)?.cast::<tpacket2_hdr>().read() };
        Some((status, header))
    }

    /// What has arrived in rx slot `at`, if anything.
    pub(super) fn arrival(&self, at: u32) -> Option<Arrival> {
        let (status, header) = self.header(at)?;
        let valid = |bit: u32, value: u16| (status & bit != 0).then_some(value);
        Some(Arrival {
            vlan: valid(libc::TP_STATUS_VLAN_VALID, header.tp_vlan_tci)
                .map(|tag| (valid(libc::TP_STATUS_VLAN_TPID_VALID, header.tp_vlan_tpid).unwrap_or(0x8100), tag)),
            copied: status & libc::TP_STATUS_COPY != 0,
            truncated: header.tp_snaplen < header.tp_len,
        })
    }

    /// The packet in rx slot `at`, behind the kernel's words about its checksum and segmentation.
    pub(super) fn packet(&mut self, at: u32) -> Option<(&[u8; WORDS_LEN], &mut [u8])> {
        let (_, header) = self.header(at)?;
        let mac = usize::from(header.tp_mac).clamp(WORDS_LEN, self.slot_len);
        let len = (header.tp_snaplen as usize).min(self.slot_len - mac);
        // SAFETY: `WORDS_LEN <= mac` and `mac + len <= slot_len`: within the slot, which is ours until `give_back`;
        // `&mut self` excludes that and every other view.
        #[allow(unsafe_code)]
        let bytes = unsafe {
            let words = self.slot(at)?.add(mac - WORDS_LEN);
            std::slice::from_raw_parts_mut(words.as_ptr(), WORDS_LEN + len)
        };
        bytes.split_first_chunk_mut().map(|(words, packet)| (&*words, packet))
    }

    /// Gives rx slot `at` back to the kernel.
    pub(super) fn give_back(&mut self, at: u32) {
        if let Some(status) = self.status(at) {
            status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        }
    }

    /// Receives the packet that did not fit its slot, offload words first; `None` if it does not fit `buffer` either.
    pub(super) fn receive_large(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: the buffer is live and of that length.
        #[allow(unsafe_code)]
        let got = unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags) };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        Ok((got <= buffer.len()).then_some(got))
    }

    /// Whether the kernel is done with tx slot `at` (or refused it).
    pub(super) fn is_sent(&self, at: u32) -> bool {
        let busy = libc::TP_STATUS_SEND_REQUEST | libc::TP_STATUS_SENDING;
        self.status(at + self.slots).is_none_or(|status| status.load(Ordering::Acquire) & busy == 0)
    }

    /// Whether the kernel has taken what was written into tx slot `at`.
    pub(super) fn is_taken(&self, at: u32) -> bool {
        let waits = libc::TP_STATUS_SEND_REQUEST;
        self.status(at + self.slots).is_none_or(|status| status.load(Ordering::Acquire) & waits == 0)
    }

    /// Bytes of the largest packet that a slot holds.
    pub(super) fn packet_max(&self) -> usize {
        self.slot_len - TX_OFFSET - WORDS_LEN
    }

    /// Writes a packet of `len` bytes into tx slot `at`, for which `is_sent` has been true.
    pub(super) fn send<'a>(&mut self, at: u32, len: usize, segments: impl Iterator<Item = &'a [u8]>) {
        let Some(start) = self.slot(at + self.slots) else { return };
        let mut room = self.slot_len - TX_OFFSET;
        // SAFETY: the part of the slot behind its header; the slot is ours, and `&mut self` excludes other views.
        #[allow(unsafe_code)]
        let bytes = unsafe { std::slice::from_raw_parts_mut(start.add(TX_OFFSET).as_ptr(), room) };
        // Nothing is left to the device.
        bytes[..WORDS_LEN].fill(0);
        let mut written = WORDS_LEN;
        room -= WORDS_LEN;
        for segment in segments {
            let n = segment.len().min(room);
            bytes[written..written + n].copy_from_slice(&segment[..n]);
            (written, room) = (written + n, room - n);
        }
        debug_assert_eq!(written, WORDS_LEN + len, "packets were checked against the slot's size");
        // SAFETY: within the slot's header; the slot is ours.
        #[allow(unsafe_code)]
        unsafe {
            (*start.cast::<tpacket2_hdr>().as_ptr()).tp_len = written as u32;
        }
        if let Some(status) = self.status(at + self.slots) {
            status.store(libc::TP_STATUS_SEND_REQUEST, Ordering::Release);
        }
    }

    /// Makes the kernel send what lies in the tx ring.
    pub(super) fn kick(&self) -> io::Result<()> {
        // SAFETY: no memory is passed.
        #[allow(unsafe_code)]
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The error that the socket has met since the last look: the interface went down.
    pub(super) fn take_error(&self) -> Option<io::Error> {
        match get::<c_int>(&self.fd, libc::SOL_SOCKET, libc::SO_ERROR, 0) {
            Ok(0) => None,
            Ok(error) => Some(io::Error::from_raw_os_error(error)),
            Err(error) => Some(error),
        }
    }

    /// Packets dropped by the kernel since the last call.
    pub(super) fn take_dropped(&self) -> u64 {
        let none = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        get(&self.fd, SOL_PACKET, libc::PACKET_STATISTICS, none).map_or(0, |stats| u64::from(stats.tp_drops))
    }

    /// Start of a slot, numbered through both rings.
    fn slot(&self, at: u32) -> Option<NonNull<u8>> {
        if at >= 2 * self.slots {
            return None;
        }
        // SAFETY: both rings' slots are contiguous in the mapping: block lengths are multiples of slot lengths.
        #[allow(unsafe_code)]
        Some(unsafe { self.map.add(at as usize * self.slot_len) })
    }

    /// The status word of a slot, its first field.
    fn status(&self, at: u32) -> Option<&AtomicU32> {
        let slot = self.slot(at)?;
        // SAFETY: slots are aligned to 2048 bytes, start with the word and stay mapped as long as `self`; the kernel, too,
        // accesses it atomically.
        #[allow(unsafe_code)]
        Some(unsafe { slot.cast().as_ref() })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `open`; nothing points into it any more.
        #[allow(unsafe_code)]
        unsafe {
            libc::munmap(self.map.as_ptr().cast(), self.map_len);
        }
    }
}

/// A socket without rings, which sends packets of any size.
pub(super) struct Beside(OwnedFd);

impl Beside {
    /// One that sends by interface `ifindex` and receives nothing.
    pub(super) fn open(ifindex: u32) -> io::Result<Self> {
        let fd = packet_socket()?;
        // As the slots do, so that nothing is overtaken.
        set(&fd, SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1)?;
        // Without CAP_NET_ADMIN the default stays: fewer packets under way.
        let _ = set(&fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SOCKET_BUFFER_LEN);
        bind_packet(&fd, ifindex, 0)?;
        Ok(Self(fd))
    }

    pub(super) fn send<'a>(&self, segments: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
        let pieces: Vec<_> = segments.map(io::IoSlice::new).collect();
        let mut no_control = SendAncillaryBuffer::default();
        rustix::net::sendmsg(&self.0, &pieces, &mut no_control, SendFlags::DONTWAIT)?;
        Ok(())
    }
}

/// A filter of one instruction, "return 0": until it is taken away, nothing is received.
fn refuse_everything(fd: &OwnedFd) -> io::Result<()> {
    let mut refuse = libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut refuse };
    set(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}
