//! The timers of one connection. All of them together take one entry on the [`Wheel`](super::wheel).

use crate::time::Instant;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Timer {
    /// RFC 6298 §5: the oldest segment is unacknowledged for too long.
    Retransmit,
    /// RFC 8985 §7: the tail may be lost.
    LossProbe,
    /// RFC 8985 §6.2 step 5: what seemed reordered is judged lost.
    Reorder,
    /// RFC 9293 §3.8.6.1: the window is closed.
    Persist,
    /// RFC 9293 §3.8.6.3.
    DelayedAck,
    /// RFC 9293 §3.8.4.
    KeepAlive,
    /// 2 MSL in TIME-WAIT; FIN-WAIT-2 without an application.
    Linger,
    /// The pacer lets the next segment go; or memory was short for what the application writes, and may be there again.
    Pace,
}

impl Timer {
    pub(super) const ALL: [Self; 8] = [
        Self::Linger,
        Self::Reorder,
        Self::LossProbe,
        Self::Retransmit,
        Self::Persist,
        Self::KeepAlive,
        Self::Pace,
        Self::DelayedAck,
    ];

    /// For people.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Retransmit => "retransmit",
            Self::LossProbe => "loss-probe",
            Self::Reorder => "reorder",
            Self::Persist => "persist",
            Self::DelayedAck => "delayed-ack",
            Self::KeepAlive => "keep-alive",
            Self::Linger => "linger",
            Self::Pace => "pace",
        }
    }
}

/// Nanoseconds; no timer runs that long.
const IDLE: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
pub(super) struct Timers {
    at: [u64; Timer::ALL.len()],
}

impl Timers {
    pub(super) const fn new() -> Self {
        Self { at: [IDLE; Timer::ALL.len()] }
    }

    pub(super) fn arm(&mut self, timer: Timer, at: Instant) {
        if let Some(slot) = self.at.get_mut(timer as usize) {
            *slot = at.as_nanos();
        }
    }

    pub(super) fn disarm(&mut self, timer: Timer) {
        if let Some(slot) = self.at.get_mut(timer as usize) {
            *slot = IDLE;
        }
    }

    pub(super) fn disarm_all(&mut self) {
        *self = Self::new();
    }

    pub(super) fn get(&self, timer: Timer) -> Option<Instant> {
        self.at.get(timer as usize).filter(|&&at| at != IDLE).map(|&at| Instant::from_nanos(at))
    }

    pub(super) fn is_armed(&self, timer: Timer) -> bool {
        self.get(timer).is_some()
    }

    /// Disarms the timer if its time has come; whether it had.
    pub(super) fn expire(&mut self, timer: Timer, now: Instant) -> bool {
        let due = self.get(timer).is_some_and(|at| at <= now);
        if due {
            self.disarm(timer);
        }
        due
    }

    /// Which is the next.
    pub(super) fn next_timer(&self) -> Option<(Timer, Instant)> {
        let armed = Timer::ALL.into_iter().filter_map(|timer| Some((timer, self.get(timer)?)));
        armed.min_by_key(|&(_, at)| at)
    }

    /// The next of all.
    #[inline]
    pub(super) fn next(&self) -> Option<Instant> {
        let at = self.at.iter().copied().fold(IDLE, u64::min);
        (at != IDLE).then(|| Instant::from_nanos(at))
    }
}
