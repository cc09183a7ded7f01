//! Retransmission timeout (RFC 6298).

use core::time::Duration;

/// RFC 6298 §2.1.
pub(super) const INITIAL: Duration = Duration::from_secs(1);
/// RFC 6298 §2.4 has 1 s: see DEVIATIONS.md.
pub(super) const MIN: Duration = Duration::from_millis(200);
/// RFC 6298 §2.5: at least 60 s.
pub(super) const MAX: Duration = Duration::from_secs(120);
/// Retransmissions of one segment before the connection is given up: 15 minutes with the RTO at its
/// least (RFC 1122 §4.2.3.5: R2 at least 100 s).
pub(super) const RETRANSMITS_MAX: u8 = 15;
/// Of a SYN: two minutes, and RFC 9293 §3.8.3 asks for three (see DEVIATIONS.md).
pub(super) const SYN_RETRANSMITS_MAX: u8 = 6;
/// Of a SYN,ACK: one minute, for nobody may be there.
pub(super) const SYN_ACK_RETRANSMITS_MAX: u8 = 5;

/// Round-trip time, smoothed, and what follows from it. Nanoseconds; 0: not measured.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RttEstimator {
    srtt_ns: u64,
    rttvar_ns: u64,
    min_ns: u64,
    /// Expiries of the timer since the last acknowledgement of new data.
    backoff: u8,
}

impl RttEstimator {
    /// RFC 6298 §2.2, §2.3.
    pub(super) fn on_sample(&mut self, rtt: Duration) {
        self.on_least(rtt);
        let rtt_ns = nanos(rtt);
        if self.srtt_ns == 0 {
            self.srtt_ns = rtt_ns;
            self.rttvar_ns = rtt_ns / 2;
        } else {
            self.rttvar_ns = (self.rttvar_ns * 3 + self.srtt_ns.abs_diff(rtt_ns)) / 4;
            self.srtt_ns = ((self.srtt_ns * 7 + rtt_ns) / 8).max(1);
        }
    }

    /// A sample that is right for the least round-trip time but not for the average.
    pub(super) fn on_least(&mut self, rtt: Duration) {
        let rtt_ns = nanos(rtt);
        self.min_ns = if self.min_ns == 0 { rtt_ns } else { self.min_ns.min(rtt_ns) };
    }

    pub(super) fn srtt(&self) -> Option<Duration> {
        (self.srtt_ns != 0).then(|| Duration::from_nanos(self.srtt_ns))
    }

    pub(super) fn rttvar(&self) -> Duration {
        Duration::from_nanos(self.rttvar_ns)
    }

    pub(super) fn min(&self) -> Option<Duration> {
        (self.min_ns != 0).then(|| Duration::from_nanos(self.min_ns))
    }

    /// RFC 6298 §2.3 with its variance bounded from below, so that a steady path does not bring the
    /// timer down to the round trip: RTO = SRTT + max(4 RTTVAR, [`MIN`]), backed off (§5.5).
    pub(super) fn rto(&self) -> Duration {
        let base = self.srtt().map_or(INITIAL, |srtt| srtt + (self.rttvar() * 4).max(MIN));
        base.saturating_mul(1u32.checked_shl(self.backoff.into()).unwrap_or(u32::MAX)).min(MAX)
    }

    /// RFC 6298 §5.5.
    pub(super) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1).min(31);
    }

    pub(super) fn backoff(&self) -> u8 {
        self.backoff
    }

    pub(super) fn reset_backoff(&mut self) {
        self.backoff = 0;
    }
}

/// At least 1, so that it counts as measured; a day stands for anything longer.
fn nanos(rtt: Duration) -> u64 {
    u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX).clamp(1, 86_400_000_000_000)
}
