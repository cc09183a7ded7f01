//! Waking a worker that sleeps, by one system call, and by none if it is awake.
//!
//! ```text
//!   worker                          whoever has something for it
//!   announce: sleeping = 1          put it where the worker looks
//!   look again                      sleeping?  -- no: it will look by itself
//!   poll(2) <------- wake fd ------ yes: take the mark away, write
//! ```
//! Each side puts its word in place before it looks at the other's, so one of them sees the other.

use crate::sync::{AtomicBool, AtomicU32, EventFd, Ordering, fence};

/// Wakes one worker.
pub struct Waker {
    sleeping: AtomicBool,
    /// Wake-ups that somebody has promised, by taking the mark away, and the worker has not read; only the worker's.
    owed: AtomicU32,
    fd: EventFd,
}

impl Waker {
    /// For a worker that is yet to start.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { sleeping: AtomicBool::new(false), owed: AtomicU32::new(0), fd: EventFd::new()? })
    }

    /// Sees to it that the worker looks for what has just been put in place: one fence and one load while it is awake.
    #[inline]
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) {
            self.rouse();
        }
    }

    /// Of several, one writes. The others leave the mark alone: it may be that of the next sleep already.
    #[cold]
    fn rouse(&self) {
        if self.sleeping.compare_exchange(true, false, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.fd.raise();
        }
    }

    /// The worker is about to sleep, and looks once more after this.
    pub(crate) fn announce(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Readable when the worker is to wake up.
    pub(crate) fn fd(&self) -> &EventFd {
        &self.fd
    }

    /// The worker is awake, and forgets that it was woken: by a system call only if it was, or if a promised wake-up has
    /// still to come. Returns whether there was that call.
    pub(crate) fn awake(&self) -> bool {
        let roused = !self.sleeping.swap(false, Ordering::AcqRel);
        let owed = self.owed.load(Ordering::Relaxed) + u32::from(roused);
        if owed > 0 {
            self.owed.store(owed.saturating_sub(self.fd.lower()), Ordering::Relaxed);
        }
        owed > 0
    }
}
