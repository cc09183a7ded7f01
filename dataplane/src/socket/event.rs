//! What poll(2) and epoll see of a socket: an eventfd whose level follows the socket's readiness.
//!
//! ```text
//!                      not ready                 ready
//!            LOW  <-- read -- CHANGING      CHANGING -- write -->  HIGH
//! ```
//! Threads and worker change it by the same steps: whoever finds the level wrong takes it to CHANGING, makes the system
//! call, and looks again when it is done. A worker that finds it CHANGING leaves it to that; a thread waits for the end of
//! the call, so that the level is right when it goes on (`tests/wake_model.rs`). Until somebody has asked for the
//! descriptor nothing is ever written to it, and while the level is right neither.

use std::os::fd::{AsFd, BorrowedFd};

use crate::sync::{AtomicBool, AtomicU8, EventFd, Ordering, fence, yield_now};

/// What a socket is ready for, or is to be watched for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// A read (or an accept) would not block: there is something, or the end, or an error.
    pub readable: bool,
    /// A write would not block: there is room, or an error.
    pub writable: bool,
}

impl Readiness {
    /// Ready for reading alone, which is what a socket's descriptor tells unless it was asked otherwise.
    pub const READABLE: Self = Self { readable: true, writable: false };
    /// Ready for writing alone.
    pub const WRITABLE: Self = Self { readable: false, writable: true };
    /// Ready for both.
    pub const BOTH: Self = Self { readable: true, writable: true };

    fn bits(self) -> u8 {
        u8::from(self.readable) | u8::from(self.writable) << 1
    }
}

const LOW: u8 = 0;
const CHANGING: u8 = 1;
const HIGH: u8 = 2;

/// The descriptor, and its level.
pub(crate) struct Event {
    fd: EventFd,
    /// Somebody has asked for the descriptor.
    watched: AtomicBool,
    level: AtomicU8,
    interest: AtomicU8,
}

impl Event {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            fd: EventFd::new()?,
            watched: AtomicBool::new(false),
            level: AtomicU8::new(LOW),
            interest: AtomicU8::new(Readiness::READABLE.bits()),
        })
    }

    #[cfg(test)]
    pub(crate) fn fd(&self) -> &EventFd {
        &self.fd
    }

    /// From now on the level follows.
    pub(crate) fn watch(&self, readiness: impl Fn() -> Readiness) -> BorrowedFd<'_> {
        if !self.watched.swap(true, Ordering::SeqCst) {
            self.follow(readiness, true);
        }
        self.fd.as_fd()
    }

    pub(crate) fn set_interest(&self, interest: Readiness, readiness: impl Fn() -> Readiness) {
        self.interest.store(interest.bits(), Ordering::SeqCst);
        self.settle(readiness);
    }

    fn concerns(&self, readiness: Readiness) -> bool {
        readiness.bits() & self.interest.load(Ordering::Relaxed) != 0
    }

    /// The socket is ready for more than it was. That is in place, and a `SeqCst` fence lies behind it.
    #[inline]
    pub(crate) fn raise(&self, readiness: impl Fn() -> Readiness) {
        if self.watched.load(Ordering::Relaxed) && self.level.load(Ordering::Relaxed) != HIGH {
            self.follow(readiness, false);
        }
    }

    /// The socket may be ready for less than it was. For threads: it may wait for a system call of another's.
    #[inline]
    pub(crate) fn settle(&self, readiness: impl Fn() -> Readiness) {
        if self.watched.load(Ordering::Relaxed) {
            self.follow(readiness, true);
        }
    }

    #[cold]
    fn follow(&self, readiness: impl Fn() -> Readiness, waits: bool) {
        // Each pass ends with a level that was right when it began; another follows if that has changed since.
        loop {
            fence(Ordering::SeqCst);
            let (from, to) = match (self.level.load(Ordering::Relaxed), self.concerns(readiness())) {
                (LOW, true) => (LOW, HIGH),
                (HIGH, false) => (HIGH, LOW),
                (CHANGING, _) if waits => {
                    yield_now();
                    continue;
                }
                _ => return,
            };
            if self.level.compare_exchange(from, CHANGING, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue;
            }
            if to == HIGH {
                self.fd.raise();
            } else {
                self.fd.lower();
            }
            self.level.store(to, Ordering::Release);
        }
    }
}
