//! What poll(2) and epoll see of a socket: an eventfd whose level follows the socket's readiness.
//!
//! ```text
//!   worker: something came  --->  raise: watched and not raised yet? write(2)
//!   thread: took something  --->  settle: still ready? nothing. Else read(2), and look again
//! ```
//! Until somebody has asked for the descriptor nothing is ever written to it, and while the level stays neither.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};

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

/// The descriptor, and what was last written to it.
pub(super) struct Event {
    fd: OwnedFd,
    /// Somebody has asked for the descriptor.
    watched: AtomicBool,
    /// The descriptor is readable, or is about to be.
    raised: AtomicBool,
    interest: AtomicU8,
}

impl Event {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            fd: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            watched: AtomicBool::new(false),
            raised: AtomicBool::new(false),
            interest: AtomicU8::new(Readiness::READABLE.bits()),
        })
    }

    /// From now on the descriptor's level follows.
    pub(super) fn watch(&self, readiness: impl Fn() -> Readiness) -> BorrowedFd<'_> {
        if !self.watched.swap(true, Ordering::SeqCst) {
            self.settle(readiness);
        }
        self.fd.as_fd()
    }

    pub(super) fn set_interest(&self, interest: Readiness, readiness: impl Fn() -> Readiness) {
        self.interest.store(interest.bits(), Ordering::SeqCst);
        self.settle(readiness);
    }

    fn concerns(&self, readiness: Readiness) -> bool {
        readiness.bits() & self.interest.load(Ordering::Relaxed) != 0
    }

    #[inline]
    fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// The socket is ready for more than it was. That is in place, and a `SeqCst` fence lies behind it.
    #[inline]
    pub(super) fn raise(&self, readiness: impl Fn() -> Readiness) {
        if self.is_watched() && !self.raised.load(Ordering::Relaxed) && self.concerns(readiness()) {
            self.write();
        }
    }

    #[cold]
    fn write(&self) {
        if !self.raised.swap(true, Ordering::SeqCst) {
            let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        }
    }

    /// The socket may be ready for less than it was, or the interest is another.
    #[inline]
    pub(super) fn settle(&self, readiness: impl Fn() -> Readiness) {
        if self.is_watched() {
            self.follow(readiness);
        }
    }

    #[cold]
    fn follow(&self, readiness: impl Fn() -> Readiness) {
        fence(Ordering::SeqCst);
        if self.raised.load(Ordering::Relaxed) && !self.concerns(readiness()) {
            // The mark goes after the level: whoever raises in between has nothing to write, and is seen below.
            let _ = rustix::io::read(&self.fd, &mut [0u8; 8]);
            self.raised.store(false, Ordering::SeqCst);
            fence(Ordering::SeqCst);
        }
        if self.concerns(readiness()) {
            self.write();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn level(event: &Event) -> bool {
        let mut set = [PollFd::new(&event.fd, PollFlags::IN)];
        poll(&mut set, Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn the_level_follows_what_is_watched_for_and_nothing_is_written_while_nobody_watches() {
        let event = Event::new().unwrap();
        event.raise(|| Readiness::BOTH);
        assert!(!level(&event), "nobody watches");
        event.watch(|| Readiness::WRITABLE);
        assert!(!level(&event), "watched for reading only");
        event.raise(|| Readiness::READABLE);
        event.raise(|| Readiness::READABLE);
        assert!(level(&event));
        event.settle(|| Readiness::BOTH);
        assert!(level(&event));
        event.settle(|| Readiness::WRITABLE);
        assert!(!level(&event), "two raises, one write");
        event.set_interest(Readiness::BOTH, || Readiness::WRITABLE);
        assert!(level(&event));
        event.settle(Readiness::default);
        assert!(!level(&event));
    }
}
