//! The idle ladder: spin, yield, busy-poll, sleep.
//!
//! Spinning answers fastest but costs the core; sleeping costs nothing but a wake-up (30 to 40 microseconds on a virtual
//! machine). [`Idle::Adaptive`] spins for a while after each packet and then sleeps.
//!
//! Yielding matters where the kernel's receive thread (NAPI) shares the core: it then runs at once instead of waiting for
//! the scheduler to end our slice.

/// Nanoseconds of spinning before the adaptive ladder looks for something cheaper.
const SPIN_NS: u64 = 50_000;
/// Nanoseconds of socket busy polling, where it works, before sleeping.
const BUSY_POLL_NS: u64 = 50_000;
/// Longest sleep: a bound in case that a wake-up is lost.
pub(super) const SLEEP_MAX_NS: u64 = 1_000_000_000;

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
