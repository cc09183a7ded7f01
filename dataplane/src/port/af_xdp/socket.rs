//! AF_XDP sockets: one primary socket per queue, opened by xsk-rs, and auxiliary ones for the other workers.
//!
//! A queue's sockets share its fill and completion rings. libxdp can only open the first socket of a queue (for another
//! it names the UMEM's own descriptor as partner, the kernel wants one of the same queue), so auxiliary sockets are
//! opened here, naming the primary one.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};

use super::rings;
use crate::frame::Region;
use crate::port::{PortError, raw};

/// `XDP_MAX_TX_SKB_BUDGET` (Linux 6.17): descriptors that one system call may transmit in copy mode.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
/// What we ask for; the kernel's default is 32.
const TX_BUDGET: i32 = 512;
const TX_BUDGET_DEFAULT: u32 = 32;
/// Socket send buffer: packets in flight in copy mode are charged to it at about 0.8 KiB each.
const SEND_BUFFER_BYTES: i32 = 8 << 20;
/// Microseconds and packets of a socket busy poll.
const BUSY_POLL_US: i32 = 20;
const BUSY_POLL_BUDGET: i32 = 64;

/// How a socket is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// The driver writes into our memory.
    Zero,
    /// The kernel copies.
    Copy,
}

pub(super) enum Holder {
    Primary(#[allow(dead_code, reason = "keeps the socket open")] Box<PrimaryRings>),
    Auxiliary(#[allow(dead_code, reason = "keeps the socket open")] OwnedFd),
}

/// xsk-rs's handles: they keep the socket open; their rings are never used.
pub(super) struct PrimaryRings {
    _tx: xsk_rs::TxQueue,
    _rx: xsk_rs::RxQueue,
    _fill: Option<(xsk_rs::FillQueue, xsk_rs::CompQueue)>,
}

// SAFETY: the rings in xsk-rs's handles are never touched; what is left is a descriptor to close.
#[allow(unsafe_code)]
unsafe impl Send for PrimaryRings {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for PrimaryRings {}

/// An open, bound socket.
pub(super) struct Socket {
    fd: i32,
    pub(super) _holder: Holder,
    pub(super) tx_budget: u32,
    pub(super) busy_poll: bool,
}

impl Socket {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the holder keeps the descriptor open as long as `self` lives.
        #[allow(unsafe_code)]
        unsafe {
            BorrowedFd::borrow_raw(self.fd)
        }
    }

    /// Opens the first socket of a queue, which gets the queue's fill and completion rings.
    pub(super) fn primary(
        region: &Region,
        interface: &str,
        queue: u32,
        ring_size: u32,
        bind: BindFlags,
    ) -> Result<Self, PortError> {
        let umem = region.umem().ok_or(PortError::NoUmem)?;
        let refused = |error: String| PortError::Bind { interface: interface.into(), queue, error };
        let size = QueueSize::new(ring_size).map_err(|error| refused(error.to_string()))?;
        let config = SocketConfig::builder()
            .rx_queue_size(size)
            .tx_queue_size(size)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(bind)
            .build();
        let name = CString::new(interface).map_err(|error| refused(error.to_string()))?;
        // SAFETY: the rings and the UMEM's frames are only used through this module, whose ownership rules the frame
        // types enforce.
        #[allow(unsafe_code)]
        let opened = unsafe { xsk_rs::Socket::new(config, umem, &Interface::new(name), queue) };
        let (tx, rx, fill) = opened.map_err(|error| {
            let source = std::error::Error::source(&error);
            let os = source.and_then(|source| source.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error);
            match os {
                Some(libc::EBUSY) => PortError::QueueBusy { interface: interface.into(), queue },
                Some(libc::EPERM) => PortError::Privilege { what: "open AF_XDP sockets" },
                Some(libc::ENODEV) => PortError::NoInterface { name: interface.into() },
                _ => refused(source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))),
            }
        })?;
        if fill.is_none() {
            return Err(PortError::QueueBusy { interface: interface.into(), queue });
        }
        let fd = tx.fd().as_raw_fd();
        let holder = Holder::Primary(Box::new(PrimaryRings { _tx: tx, _rx: rx, _fill: fill }));
        Ok(Self { fd, _holder: holder, tx_budget: 0, busy_poll: false }.tuned(ring_size))
    }

    /// Opens a further socket on the queue of `primary`, with receive and transmit rings only.
    pub(super) fn auxiliary(
        primary: &Socket,
        interface: &str,
        ifindex: u32,
        queue: u32,
        ring_size: u32,
    ) -> Result<Self, PortError> {
        let refused =
            |error: io::Error| PortError::Bind { interface: interface.into(), queue, error: error.to_string() };
        // SAFETY: plain system call; the result is checked and owned at once.
        #[allow(unsafe_code)]
        let fd = unsafe {
            let fd = libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            if fd < 0 {
                return Err(refused(io::Error::last_os_error()));
            }
            OwnedFd::from_raw_fd(fd)
        };
        raw::set(&fd, libc::SOL_XDP, libc::XDP_RX_RING, &ring_size).map_err(refused)?;
        raw::set(&fd, libc::SOL_XDP, libc::XDP_TX_RING, &ring_size).map_err(refused)?;
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: libc::XDP_SHARED_UMEM,
            sxdp_ifindex: ifindex,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: primary.fd as u32,
        };
        // SAFETY: passes a live sockaddr_xdp and its size.
        #[allow(unsafe_code)]
        let bound = unsafe {
            let pointer = (&raw const address).cast();
            libc::bind(fd.as_raw_fd(), pointer, size_of::<libc::sockaddr_xdp>() as libc::socklen_t)
        };
        if bound != 0 {
            return Err(refused(io::Error::last_os_error()));
        }
        let raw = fd.as_raw_fd();
        Ok(Self { fd: raw, _holder: Holder::Auxiliary(fd), tx_budget: 0, busy_poll: false }.tuned(ring_size))
    }

    /// Sets what is worth having where the kernel has it; what it has not is no error.
    fn tuned(mut self, ring_size: u32) -> Self {
        let fd = self.fd();
        // The kernel takes no budget beyond the ring's size.
        let wanted = TX_BUDGET.min(ring_size as i32);
        let budget = raw::set(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &wanted).is_ok();
        if let Err(error) = raw::set(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER_BYTES) {
            tracing::warn!(%error, "send buffer stays small: fewer packets in flight");
        }
        let napi_id: i32 = raw::get(fd, libc::SOL_SOCKET, libc::SO_INCOMING_NAPI_ID, 0).unwrap_or(0);
        let busy_poll = napi_id > 0
            && raw::set(fd, libc::SOL_SOCKET, libc::SO_PREFER_BUSY_POLL, &1).is_ok()
            && raw::set(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, &BUSY_POLL_US).is_ok()
            && raw::set(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL_BUDGET, &BUSY_POLL_BUDGET).is_ok();
        self.tx_budget = if budget { wanted as u32 } else { TX_BUDGET_DEFAULT };
        self.busy_poll = busy_poll;
        self
    }

    /// Whether the kernel says that it does not copy.
    pub(super) fn copy(&self) -> Copy {
        match rings::xdp_option::<libc::xdp_options>(self.fd(), libc::XDP_OPTIONS) {
            Ok(options) if options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0 => Copy::Zero,
            _ => Copy::Copy,
        }
    }

    pub(super) fn statistics(&self) -> Option<libc::xdp_statistics> {
        rings::xdp_option(self.fd(), libc::XDP_STATISTICS).ok()
    }
}
