//! Retransmission timeout (RFC 6298).

use core::time::Duration;

/// RFC 6298 §2.1.
pub(super) const INITIAL: Duration = Duration::from_secs(1);
/// RFC 6298 §5.7: in place of [`INITIAL`] where a SYN was sent again, until the round trip is measured.
const FALLBACK: Duration = Duration::from_secs(3);
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
    expiries: u8,
    /// The same since the round trip was last measured: acknowledgements that measure none do not show that the timer
    /// waits long enough (RFC 6298 §5).
    backoff: u8,
    fallen_back: bool,
}

impl RttEstimator {
    /// RFC 6298 §2.2, §2.3.
    pub(super) fn on_sample(&mut self, rtt: Duration) {
        self.on_least_ns(nanos(rtt));
        self.on_sample_ns(nanos(rtt));
    }

    /// The same, at least 1.
    #[inline(always)]
    pub(super) fn on_sample_ns(&mut self, rtt_ns: u64) {
        self.backoff = 0;
        if self.srtt_ns == 0 {
            self.srtt_ns = rtt_ns;
            self.rttvar_ns = rtt_ns / 2;
        } else {
            self.rttvar_ns = (self.rttvar_ns * 3 + self.srtt_ns.abs_diff(rtt_ns)) / 4;
            self.srtt_ns = ((self.srtt_ns * 7 + rtt_ns) / 8).max(1);
        }
    }

    /// A sample that is right for the least round-trip time but not for the average; at least 1.
    #[inline]
    pub(super) fn on_least_ns(&mut self, rtt_ns: u64) {
        self.min_ns = if self.min_ns == 0 { rtt_ns } else { self.min_ns.min(rtt_ns) };
    }

    /// 0: not measured.
    #[inline]
    pub(super) fn srtt_ns(&self) -> u64 {
        self.srtt_ns
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
        Duration::from_nanos(self.rto_ns())
    }

    /// The same in nanoseconds.
    #[inline]
    pub(super) fn rto_ns(&self) -> u64 {
        let base = match self.srtt_ns {
            0 if self.fallen_back => FALLBACK.as_nanos() as u64,
            0 => INITIAL.as_nanos() as u64,
            srtt_ns => srtt_ns + (self.rttvar_ns * 4).max(MIN.as_nanos() as u64),
        };
        // At most 2^31 days of nanoseconds: 128 bits, but only after a time-out.
        let backed_off = if self.backoff == 0 { base } else { base.saturating_mul(1 << self.backoff.min(31)) };
        backed_off.min(MAX.as_nanos() as u64)
    }

    /// RFC 6298 §5.7.
    pub(super) fn fall_back(&mut self) {
        self.fallen_back = true;
    }

    /// RFC 6298 §5.5.
    pub(super) fn back_off(&mut self) {
        self.expiries = self.expiries.saturating_add(1).min(31);
        self.backoff = self.backoff.saturating_add(1).min(31);
    }

    pub(super) fn expiries(&self) -> u8 {
        self.expiries
    }

    #[inline]
    pub(super) fn on_progress(&mut self) {
        self.expiries = 0;
    }

    /// What expired did not wait for a round trip.
    pub(super) fn reset(&mut self) {
        (self.expiries, self.backoff) = (0, 0);
    }
}

/// At least 1, so that it counts as measured; a day stands for anything longer.
fn nanos(rtt: Duration) -> u64 {
    u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX).clamp(1, 86_400_000_000_000)
}
