//! Pacing: segments leave spread over the round trip instead of in bursts (RFC 9002 §7.7 says why
//! and how; draft-ietf-ccwg-bbr §5.6.2).

use core::time::Duration;

use super::SSTHRESH_INFINITE;
use crate::time::Instant;

/// Segments that may leave together at any rate: one wake-up per segment would cost more than it gives.
const BURST_MIN: u32 = 2;
/// What leaves together covers this much time at the paced rate, if that is more.
const BURST_TIME: Duration = Duration::from_millis(1);
/// Lateness that is made up for where the rate is a control's own: a timer fires after its time, by more if the core has
/// other work, and without this each time would take something off the rate. It is also what such a connection may send at
/// once besides after it was idle. A rate that is only to spread a window has room for lateness, and does without the burst.
const CATCH_UP_MAX: Duration = Duration::from_millis(2);
/// Bytes that may leave together at most.
pub const BURST_MAX: u32 = 64 * 1024;

/// Says when the next segment may leave. Keeps the time at which everything sent so far would have
/// left at the paced rate, or a little before now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pacer {
    /// Bytes per second; 0: unlimited.
    rate: u64,
    /// What a timer is late is made up for.
    kept: bool,
    next_send_at: Instant,
}

impl Pacer {
    /// Bytes per second from now on; 0: unlimited. It is `kept` on average if a control names it, and an upper bound if it
    /// only spreads a window.
    pub fn set_rate(&mut self, bytes_per_second: u64, kept: bool) {
        self.rate = bytes_per_second;
        self.kept = kept;
    }

    /// When the next segment may leave; not later than `now` if at once.
    pub fn release_at(&self) -> Instant {
        self.next_send_at
    }

    /// Bytes that may leave at once when [`release_at`](Self::release_at) has come.
    pub fn quantum(&self, smss: u32) -> u32 {
        if self.rate == 0 {
            return BURST_MAX;
        }
        let over_time = u128::from(self.rate) * BURST_TIME.as_nanos() / 1_000_000_000;
        let over_time = u32::try_from(over_time).unwrap_or(BURST_MAX);
        over_time.clamp(smss.saturating_mul(BURST_MIN), BURST_MAX.max(smss))
    }

    /// `len` bytes left at `now`.
    pub fn on_send(&mut self, now: Instant, len: u32) {
        if self.rate == 0 {
            self.next_send_at = now;
            return;
        }
        let took = u128::from(len) * 1_000_000_000 / u128::from(self.rate);
        let took = Duration::from_nanos(u64::try_from(took).unwrap_or(u64::MAX));
        let catch_up = if self.kept { CATCH_UP_MAX } else { Duration::ZERO };
        let earliest = now.as_nanos().saturating_sub(catch_up.as_nanos() as u64);
        self.next_send_at = self.next_send_at.max(Instant::from_nanos(earliest)) + took;
    }
}

/// The rate of a control that names none: the window per round trip, and some more so that pacing
/// never is what limits; twice in slow start, where the window doubles in a round trip.
/// 0 (unlimited) before a round-trip time is known.
pub fn window_rate(cwnd: u32, ssthresh: u32, srtt: Option<Duration>) -> u64 {
    let Some(srtt) = srtt.filter(|srtt| !srtt.is_zero()) else { return 0 };
    let slow_start = ssthresh == SSTHRESH_INFINITE || cwnd < ssthresh / 2;
    let (numerator, denominator) = if slow_start { (2, 1) } else { (6, 5) };
    let rate = u128::from(cwnd) * 1_000_000_000 * numerator / denominator / srtt.as_nanos();
    u64::try_from(rate).unwrap_or(u64::MAX).max(1)
}
