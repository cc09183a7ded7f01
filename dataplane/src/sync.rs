//! What the wake-ups of threads and workers are made of: atomics, a futex, an eventfd. `tests/wake_model.rs` puts loom's in
//! their place, with the same names.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, Ordering, fence};
pub(crate) use std::thread::yield_now;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::thread::futex;

/// A word that threads sleep on.
#[derive(Default)]
pub(crate) struct Futex(AtomicU32);

impl Futex {
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.0
    }

    /// Sleeps while the word has this value; woken, interrupted, or after a while.
    pub(crate) fn sleep(&self, value: u32, at_most: Duration) {
        let at_most = at_most.try_into().ok();
        let _ = futex::wait(&self.0, futex::Flags::PRIVATE, value, at_most.as_ref());
    }

    /// Wakes everybody.
    pub(crate) fn wake(&self) {
        let _ = futex::wake(&self.0, futex::Flags::PRIVATE, i32::MAX as u32);
    }
}

/// A descriptor that is readable, or not.
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    /// Makes it readable. A full counter means that it is.
    pub(crate) fn raise(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Makes it unreadable; returns how often it was made readable since the last time.
    pub(crate) fn lower(&self) -> u32 {
        let mut count = [0; 8];
        match rustix::io::read(&self.0, &mut count) {
            Ok(_) => u32::try_from(u64::from_ne_bytes(count)).unwrap_or(u32::MAX),
            Err(_) => 0,
        }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
