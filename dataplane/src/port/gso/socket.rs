//! The AF_PACKET socket that trains leave by. It receives nothing.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::Train;
use super::train::PIECES_MAX;
use crate::frame::Frame;
use crate::port::raw::{bind_packet, packet_socket, set};

/// Bytes of socket buffers under way.
const SEND_BUFFER_BYTES: i32 = 16 << 20;

/// Why a train did not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::port) enum Refusal {
    /// Too much is under way, or memory is short: later perhaps.
    ForNow,
    /// A segment that leaves alone is larger than the link takes by now.
    TooBig,
    /// The interface is down or gone.
    Down,
    /// The kernel takes no such packets here.
    ForGood,
}

/// One worker's way of sending trains by one interface.
pub(in crate::port) struct TrainSocket {
    fd: OwnedFd,
    /// The pieces of the train being sent; empty between calls.
    pieces: Vec<libc::iovec>,
}

// SAFETY: `pieces` is empty between calls, so no pointer goes to another thread.
#[allow(unsafe_code)]
unsafe impl Send for TrainSocket {}

impl TrainSocket {
    /// A socket that sends by interface `ifindex`.
    pub(in crate::port) fn open(ifindex: u32) -> io::Result<Self> {
        let fd = packet_socket()?;
        set(&fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1)?;
        // Without CAP_NET_ADMIN the default stays: fewer trains under way.
        let _ = set(&fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER_BYTES);
        bind_packet(&fd, ifindex, 0)?;
        Ok(Self { fd, pieces: Vec::with_capacity(PIECES_MAX + 1) })
    }

    /// Sends the train of the first `train.frames` of `frames`; the kernel copies, so that they are free afterwards.
    pub(in crate::port) fn send(&mut self, train: &Train, frames: &[Frame]) -> Result<(), Refusal> {
        let piece = |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        self.pieces.push(piece(train.front()));
        for frame in frames.iter().take(train.frames) {
            let mut skip = train.text_at;
            for segment in frame.segments() {
                let text = segment.get(skip..).unwrap_or_default();
                skip = skip.saturating_sub(segment.len());
                if !text.is_empty() {
                    self.pieces.push(piece(text));
                }
            }
        }
        // SAFETY: all-zero bytes are a valid msghdr: no address, no control data.
        #[allow(unsafe_code)]
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = self.pieces.as_mut_ptr();
        message.msg_iovlen = self.pieces.len();
        // SAFETY: the pieces are parts of `train` and `frames`, which are borrowed for the call; the kernel only reads them.
        #[allow(unsafe_code)]
        let sent = unsafe { libc::sendmsg(self.fd.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT) };
        self.pieces.clear();
        if sent >= 0 {
            return Ok(());
        }
        Err(match io::Error::last_os_error().raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR) => Refusal::ForNow,
            Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => Refusal::Down,
            Some(libc::EMSGSIZE) if train.frames == 1 => Refusal::TooBig,
            _ => Refusal::ForGood,
        })
    }
}
