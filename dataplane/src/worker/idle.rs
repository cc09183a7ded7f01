//! The idle ladder: spin, yield, busy-poll, sleep.
//!
//! Spinning answers fastest but costs the core; sleeping costs nothing but a wake-up (30 to 40 microseconds on a virtual
//! machine). [`Idle::Adaptive`] spins for a while after each packet and then sleeps.
//!
//! Where packets come in bulk ([`Inflow`](super::inflow::Inflow)), it naps as soon as there is none: for a time, not until the next
//! packet, as whoever brings that would pay for waking it (14 microseconds of its core on a virtual machine).
//!
//! Yielding matters where the kernel's receive thread (NAPI) shares the core: it then runs at once instead of waiting for
//! the scheduler to end our slice.

/// Nanoseconds of spinning before the adaptive ladder looks for something cheaper.
const SPIN_NS: u64 = 50_000;
/// Nanoseconds of socket busy polling, where it works, before sleeping.
const BUSY_POLL_NS: u64 = 50_000;
/// Nap while packets come in bulk: 16 frames of 1500 bytes at 10 Gbit/s, a sixteenth of the least that a fill ring holds.
const NAP_NS: u64 = 20_000;
/// Longest sleep: a bound in case that a wake-up is lost.
pub(super) const SLEEP_MAX_NS: u64 = 1_000_000_000;

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// Spins, always: lowest latency, a whole core. For a core that nothing else uses.
    Spin,
    /// Spins for a while after the last packet, then busy-polls where the device can, then sleeps; naps at once where packets
    /// come in bulk.
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
    /// Packets do not wake it.
    Nap {
        until_ns: u64,
    },
    Sleep {
        until_ns: u64,
    },
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

    /// A turn found nothing. `deadline_ns` tells when a block has work, `is_bulk` whether packets come in bulk; each is asked only
    /// if that matters.
    #[inline]
    pub(super) fn step(
        &mut self,
        now_ns: u64,
        deadline_ns: impl FnOnce() -> Option<u64>,
        is_bulk: impl FnOnce() -> bool,
    ) -> Step {
        if self.idle == Idle::Spin {
            return Step::Spin;
        }
        let first = self.since_ns.is_none();
        let idle_ns = now_ns.saturating_sub(*self.since_ns.get_or_insert(now_ns));
        let naps = first && self.idle == Idle::Adaptive && is_bulk();
        if self.idle == Idle::Adaptive && idle_ns < SPIN_NS && !naps {
            return Step::Spin;
        }
        let deadline_ns = deadline_ns();
        if deadline_ns.is_some_and(|deadline_ns| deadline_ns <= now_ns) {
            return Step::Spin;
        }
        match self.idle {
            _ if naps => Step::Nap { until_ns: deadline_ns.unwrap_or(u64::MAX).min(now_ns + NAP_NS) },
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
        assert_eq!(ladder.step(1_000, || None, || false), Step::Spin);
        assert_eq!(ladder.step(1_000 + SPIN_NS, || None, || false), Step::BusyPoll);
        ladder.no_busy_poll();
        let late_ns = 1_000 + SPIN_NS + 1;
        assert_eq!(ladder.step(late_ns, || Some(late_ns + 5), || false), Step::Sleep { until_ns: late_ns + 5 });
        ladder.worked();
        assert_eq!(ladder.step(late_ns, || None, || false), Step::Spin, "a packet starts the ladder anew");
    }

    #[test]
    fn where_packets_come_in_bulk_each_pause_begins_with_a_nap_that_ends_at_the_deadline() {
        let mut ladder = Ladder::new(Idle::Adaptive);
        assert_eq!(ladder.step(1_000, || None, || true), Step::Nap { until_ns: 1_000 + NAP_NS });
        assert_eq!(ladder.step(21_500, || None, || true), Step::Spin, "nothing has come meanwhile");
        ladder.worked();
        assert_eq!(ladder.step(60_000, || Some(60_007), || true), Step::Nap { until_ns: 60_007 });
        ladder.worked();
        assert_eq!(ladder.step(90_000, || Some(90_000), || true), Step::Spin);
        assert_eq!(Ladder::new(Idle::Spin).step(1_000, || None, || true), Step::Spin);
    }

    #[test]
    fn a_deadline_that_has_passed_is_never_slept_over() {
        let mut ladder = Ladder::new(Idle::Sleep);
        assert_eq!(ladder.step(10, || None, || false), Step::Yield);
        assert_eq!(ladder.step(10, || Some(10), || true), Step::Spin);
        assert_eq!(ladder.step(10, || Some(11), || true), Step::Sleep { until_ns: 11 });
    }
}
