//! Waking a worker that sleeps, by one system call, and by none if it is awake.
//!
//! ```text
//!   worker                          whoever has something for it
//!   announce: sleeping = 1          put it where the worker looks
//!   look again                      sleeping?  -- no: it will look by itself
//!   poll(2) <------- wake fd ------ yes: take the mark away, write
//! ```
//! Each side puts its word in place before it looks at the other's, so one of them sees the other.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};

use crate::block::Services;

/// Wakes one worker.
pub struct Waker {
    sleeping: AtomicBool,
    wake: OwnedFd,
}

impl Waker {
    /// For a worker that is yet to start.
    pub fn new() -> std::io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { sleeping: AtomicBool::new(false), wake })
    }

    /// Sees to it that the worker looks for what has just been put in place: one fence and one load while it is awake.
    #[inline]
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) {
            self.rouse();
        }
    }

    #[cold]
    fn rouse(&self) {
        if self.sleeping.swap(false, Ordering::AcqRel) {
            // A full counter means that it is being woken already.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }

    /// The worker is about to sleep, and looks once more after this.
    pub(super) fn announce(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The worker is awake, and forgets that it was woken.
    pub(super) fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
        let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// The wakers of all workers, by number; found among a block's [`Services`].
pub struct Wakers(Vec<Arc<Waker>>);

impl Wakers {
    /// For so many workers.
    pub fn new(workers: usize) -> std::io::Result<Self> {
        Ok(Self((0..workers).map(|_| Waker::new().map(Arc::new)).collect::<Result<_, _>>()?))
    }

    /// By worker.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<Waker>> {
        self.0.iter()
    }

    /// That of the worker which a block is built for.
    pub(crate) fn among(services: &Services) -> Option<Arc<Waker>> {
        services.find::<Self>()?.0.get(services.worker).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_written(waker: &Waker) -> bool {
        let mut set = [rustix::event::PollFd::new(waker, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut set, Some(&rustix::event::Timespec::default())).unwrap() == 1
    }

    #[test]
    fn only_a_worker_that_sleeps_is_woken_and_only_once() {
        let waker = Waker::new().unwrap();
        waker.wake();
        assert!(!is_written(&waker));
        waker.announce();
        waker.wake();
        assert!(is_written(&waker) && !waker.sleeping.load(Ordering::Relaxed));
        waker.awake();
        assert!(!is_written(&waker));
    }
}
