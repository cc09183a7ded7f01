//! An AF_XDP socket's rings, mapped from its file descriptor.
//!
//! xsk-rs opens and binds the sockets; the rings are mapped here a second time, because frames carry headroom (a packet
//! may leave from another address than it arrived at, which xsk-rs's descriptors cannot say) and because the same ring
//! code then serves auxiliary sockets and memory ports.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::{io, mem};

use crate::ring::{Consumer, Descriptor, Producer, Shared};

/// A mapping that is undone when its last user is dropped.
struct Mapping {
    start: NonNull<libc::c_void>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread.
#[allow(unsafe_code)]
unsafe impl Send for Mapping {}
// SAFETY: as above; access goes through the rings' atomics.
#[allow(unsafe_code)]
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: start and len are what mmap returned; the rings that used them are gone (they hold an Arc of this).
        #[allow(unsafe_code)]
        unsafe {
            libc::munmap(self.start.as_ptr(), self.len);
        }
    }
}

/// Reads a socket option of level SOL_XDP.
pub(super) fn xdp_option<T: Copy>(fd: BorrowedFd<'_>, option: libc::c_int) -> io::Result<T> {
    let mut value = mem::MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes; T is one of libc's plain structs of integers, valid when zeroed.
    #[allow(unsafe_code)]
    unsafe {
        if libc::getsockopt(fd.as_raw_fd(), libc::SOL_XDP, option, value.as_mut_ptr().cast(), &mut len) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(value.assume_init())
    }
}

/// The four ring offsets of a socket.
pub(super) fn offsets(fd: BorrowedFd<'_>) -> io::Result<libc::xdp_mmap_offsets> {
    xdp_option(fd, libc::XDP_MMAP_OFFSETS)
}

fn map<T>(fd: BorrowedFd<'_>, page_offset: u64, offset: &libc::xdp_ring_offset, size: u32) -> io::Result<Shared<T>> {
    let len = offset.desc as usize + size as usize * size_of::<T>();
    // SAFETY: maps `len` bytes of the socket's ring; the kernel refuses what it does not have.
    #[allow(unsafe_code)]
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            fd.as_raw_fd(),
            page_offset as libc::off_t,
        )
    };
    let start = match NonNull::new(start) {
        Some(start) if start.as_ptr() != libc::MAP_FAILED => start,
        _ => return Err(io::Error::last_os_error()),
    };
    let memory = Arc::new(Mapping { start, len });
    // SAFETY: the offsets come from XDP_MMAP_OFFSETS of the same socket and lie within the mapping.
    #[allow(unsafe_code)]
    let at = |bytes: u64| unsafe { start.cast::<u8>().add(bytes as usize) };
    Ok(Shared {
        producer: at(offset.producer).cast(),
        consumer: at(offset.consumer).cast(),
        flags: at(offset.flags).cast(),
        slots: at(offset.desc).cast(),
        size,
        _memory: memory,
    })
}

/// The receive ring. Call at most once for a socket.
pub(super) fn rx(fd: BorrowedFd<'_>, size: u32) -> io::Result<Consumer<Descriptor>> {
    let shared = map(fd, libc::XDP_PGOFF_RX_RING as u64, &offsets(fd)?.rx, size)?;
    // SAFETY: ring memory of a live socket; xsk-rs's own handle of this ring is never used.
    #[allow(unsafe_code)]
    Ok(unsafe { Consumer::new(shared) })
}

/// The transmit ring. Call at most once for a socket.
pub(super) fn tx(fd: BorrowedFd<'_>, size: u32) -> io::Result<Producer<Descriptor>> {
    let shared = map(fd, libc::XDP_PGOFF_TX_RING as u64, &offsets(fd)?.tx, size)?;
    // SAFETY: as for `rx`.
    #[allow(unsafe_code)]
    Ok(unsafe { Producer::new(shared) })
}

/// The fill ring of a queue's primary socket. Call at most once.
pub(super) fn fill(fd: BorrowedFd<'_>, size: u32) -> io::Result<Producer<u64>> {
    let shared = map(fd, libc::XDP_UMEM_PGOFF_FILL_RING, &offsets(fd)?.fr, size)?;
    // SAFETY: as for `rx`.
    #[allow(unsafe_code)]
    Ok(unsafe { Producer::new(shared) })
}

/// The completion ring of a queue's primary socket. Call at most once.
pub(super) fn completion(fd: BorrowedFd<'_>, size: u32) -> io::Result<Consumer<u64>> {
    let shared = map(fd, libc::XDP_UMEM_PGOFF_COMPLETION_RING, &offsets(fd)?.cr, size)?;
    // SAFETY: as for `rx`.
    #[allow(unsafe_code)]
    Ok(unsafe { Consumer::new(shared) })
}
