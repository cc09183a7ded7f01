//! The idle ladder: spin, yield, busy-poll, sleep.
//!
//! Spinning answers fastest but costs the core; sleeping costs nothing but a wake-up (30 to 40 microseconds on a virtual
//! machine). [`Idle::Adaptive`] spins for a while after each packet and then sleeps.
//!
//! Yielding matters where the kernel's receive thread (NAPI) shares the core: it then runs at once instead of waiting for
//! the scheduler to end our slice.

use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::control::Control;
use crate::port::Port;

/// Nanoseconds of spinning before the adaptive ladder looks for something cheaper.
const SPIN_NS: u64 = 50_000;
/// Nanoseconds of socket busy polling, where it works, before sleeping.
const BUSY_POLL_NS: u64 = 50_000;
/// Longest sleep: a bound in case that a wake-up is lost.
const SLEEP_MAX_NS: u64 = 1_000_000_000;
/// Sleep while packets wait in a transmit ring that the kernel refused to empty.
const UNSENT_NS: u64 = 200_000;
/// Sleep while a port that cannot be waited on is open.
const POLLED_PORT_NS: u64 = 50_000;
/// Ports that one `poll` waits on; further ones are looked at when the sleep ends.
const POLL_MAX: usize = 64;

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// Spins, always: lowest latency, a whole core. For a core that nothing else uses.
    Spin,
    /// Spins for a while after the last packet, then busy-polls where the device can, then sleeps.
    #[default]
    Adaptive,
    /// Sleeps at once: for a core shared with the kernel's receive thread or with other programs.
    Sleep,
}

/// The next thing to do while idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Spin,
    Yield,
    BusyPoll,
    Sleep { until_ns: u64 },
}

/// Where on the ladder a worker stands.
pub(super) struct Ladder {
    idle: Idle,
    /// When the first empty turn since the last packet was.
    since_ns: Option<u64>,
    busy_poll: bool,
}

impl Ladder {
    pub(super) fn new(idle: Idle) -> Self {
        Self { idle, since_ns: None, busy_poll: true }
    }

    /// A turn moved packets.
    #[inline]
    pub(super) fn worked(&mut self) {
        self.since_ns = None;
    }

    /// No port can be busy-polled.
    pub(super) fn no_busy_poll(&mut self) {
        self.busy_poll = false;
    }

    /// A turn found nothing; `deadline_ns` tells when a block has work, and is asked only if that matters.
    #[inline]
    pub(super) fn step(&mut self, now_ns: u64, deadline_ns: impl FnOnce() -> Option<u64>) -> Step {
        if self.idle == Idle::Spin {
            return Step::Spin;
        }
        let first = self.since_ns.is_none();
        let idle_ns = now_ns.saturating_sub(*self.since_ns.get_or_insert(now_ns));
        if self.idle == Idle::Adaptive && idle_ns < SPIN_NS {
            return Step::Spin;
        }
        let deadline_ns = deadline_ns();
        if deadline_ns.is_some_and(|deadline_ns| deadline_ns <= now_ns) {
            return Step::Spin;
        }
        match self.idle {
            Idle::Sleep if first => Step::Yield,
            Idle::Adaptive if self.busy_poll && idle_ns < SPIN_NS + BUSY_POLL_NS => Step::BusyPoll,
            _ => Step::Sleep { until_ns: deadline_ns.unwrap_or(u64::MAX).min(now_ns.saturating_add(SLEEP_MAX_NS)) },
        }
    }
}

/// Waits until a port has packets, a request comes, or `until_ns`.
pub(super) fn sleep(ports: &[Box<dyn Port>], control: &Control, now_ns: u64, until_ns: u64, unsent: bool) {
    let wake = control.wake_fd();
    let mut fds: [Option<BorrowedFd<'_>>; POLL_MAX] = [None; POLL_MAX];
    let mut limit_ns = SLEEP_MAX_NS;
    let mut count = 0;
    for port in ports {
        match port.pollable() {
            Some(fd) if count < POLL_MAX - 1 => {
                fds[count] = Some(fd);
                count += 1;
            }
            _ => limit_ns = POLLED_PORT_NS,
        }
    }
    if unsent {
        limit_ns = limit_ns.min(UNSENT_NS);
    }
    let ns = until_ns.saturating_sub(now_ns).min(limit_ns);
    let timeout = Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 };
    let mut set: [PollFd<'_>; POLL_MAX] =
        std::array::from_fn(|at| PollFd::from_borrowed_fd(fds[at].unwrap_or(wake), PollFlags::IN));
    // An interrupted or refused wait is as good as a short one: the next turn looks anyway.
    let _ = poll(&mut set[..=count], Some(&timeout));
    control.woken();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adaptive_ladder_spins_then_busy_polls_then_sleeps_until_the_deadline() {
        let mut ladder = Ladder::new(Idle::Adaptive);
        assert_eq!(ladder.step(1_000, || None), Step::Spin);
        assert_eq!(ladder.step(1_000 + SPIN_NS, || None), Step::BusyPoll);
        ladder.no_busy_poll();
        let late_ns = 1_000 + SPIN_NS + 1;
        assert_eq!(ladder.step(late_ns, || Some(late_ns + 5)), Step::Sleep { until_ns: late_ns + 5 });
        ladder.worked();
        assert_eq!(ladder.step(late_ns, || None), Step::Spin, "a packet starts the ladder anew");
    }

    #[test]
    fn a_deadline_that_has_passed_is_never_slept_over() {
        let mut ladder = Ladder::new(Idle::Sleep);
        assert_eq!(ladder.step(10, || None), Step::Yield);
        assert_eq!(ladder.step(10, || Some(10)), Step::Spin);
        assert_eq!(ladder.step(10, || Some(11)), Step::Sleep { until_ns: 11 });
    }
}
