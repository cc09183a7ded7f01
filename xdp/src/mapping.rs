//! Maps shared with the program through memory (`BPF_F_MMAPABLE`): no system call to read or write them.
//!
//! The memory is written by the BPF program and by other threads, so it is only ever touched through
//! atomics.

use std::ffi::c_void;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::error::{Error, Result};

/// One mapped array map.
pub(crate) struct Mapping {
    base: NonNull<c_void>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone, is not tied to a thread, and is unmapped once, by drop.
#[allow(unsafe_code)]
unsafe impl Send for Mapping {}
// SAFETY: through a shared reference the memory is reachable as atomics only.
#[allow(unsafe_code)]
unsafe impl Sync for Mapping {}

#[allow(unsafe_code)]
impl Mapping {
    /// Maps the first `len` bytes of an array map's values.
    pub(crate) fn new(map: BorrowedFd<'_>, len: usize) -> Result<Self> {
        // SAFETY: a null hint makes the kernel choose a free range, so no memory in use is replaced.
        let base = unsafe { mmap(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, map, 0) };
        let base = base.map_err(|errno| Error::system("mmap of a BPF map", errno.into()))?;
        let base = NonNull::new(base).ok_or_else(|| Error::system("mmap of a BPF map", errno_invalid()))?;
        Ok(Self { base, len })
    }

    /// The atomic of type `T` at a byte offset, if it lies inside and is aligned.
    fn at<T: Atomic>(&self, offset: usize) -> Option<&T> {
        let end = offset.checked_add(size_of::<T>())?;
        if end > self.len || !offset.is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: offset < len, checked above, so the result stays within the mapping.
        let at = unsafe { self.base.byte_add(offset) }.cast::<T>();
        // SAFETY: in bounds and aligned (mappings start on a page), alive as long as &self; `Atomic` types
        // are valid for every bit pattern and allow concurrent writes.
        Some(unsafe { at.as_ref() })
    }

    pub(crate) fn u8(&self, offset: usize) -> Option<&AtomicU8> {
        self.at(offset)
    }

    pub(crate) fn u32(&self, offset: usize) -> Option<&AtomicU32> {
        self.at(offset)
    }

    pub(crate) fn u64(&self, offset: usize) -> Option<&AtomicU64> {
        self.at(offset)
    }
}

trait Atomic {}
impl Atomic for AtomicU8 {}
impl Atomic for AtomicU32 {}
impl Atomic for AtomicU64 {}

#[allow(unsafe_code)]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and len are those of a mapping made in `new`; no reference outlives self.
        if let Err(errno) = unsafe { munmap(self.base.as_ptr(), self.len) } {
            tracing::warn!("munmap of a BPF map: {errno}");
        }
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("len", &self.len).finish()
    }
}

fn errno_invalid() -> std::io::Error {
    std::io::Error::from_raw_os_error(libc::EINVAL)
}
