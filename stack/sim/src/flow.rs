//! Figures of a flow: what its ends know, added up.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Delays, in a histogram of nanoseconds with two significant digits, up to 17 minutes.
#[derive(Clone, Debug, Default)]
pub struct Delays {
    /// Made with the first delay: it takes more memory than all else of a flow.
    histogram: Option<Histogram<u64>>,
    last: Option<Duration>,
    /// Only the latest is wanted.
    forgets: bool,
}

const HIGHEST_NS: u64 = 1 << 40;

#[allow(clippy::expect_used, reason = "the bounds are constants that the library accepts; a test makes one")]
fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST_NS, 2).expect("bounds are valid")
}

impl Delays {
    pub fn add(&mut self, delay: Duration) {
        let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        if !self.forgets {
            self.histogram.get_or_insert_with(empty).saturating_record(nanos.clamp(1, HIGHEST_NS));
        }
        self.last = Some(delay);
    }

    pub fn merge(&mut self, other: &Self) {
        if let Some(other) = other.histogram.as_ref().filter(|_| !self.forgets) {
            // Both have the same bounds.
            let _ = self.histogram.get_or_insert_with(empty).add(other);
        }
        self.last = other.last.or(self.last);
    }

    pub fn len(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The latest.
    pub fn last(&self) -> Option<Duration> {
        self.last
    }

    /// Zero if there is none.
    pub fn min(&self) -> Duration {
        let histogram = self.histogram.as_ref().filter(|histogram| !histogram.is_empty());
        Duration::from_nanos(histogram.map_or(0, Histogram::min))
    }

    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.histogram.as_ref().map_or(0, Histogram::max))
    }

    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.histogram.as_ref().map_or(0.0, Histogram::mean) as u64)
    }

    /// From 0 to 1.
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.histogram.as_ref().map_or(0, |histogram| histogram.value_at_quantile(quantile)))
    }
}

/// One flow at one moment.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    pub sent_packets: u64,
    pub sent_bytes: u64,
    pub received_packets: u64,
    pub received_bytes: u64,
    pub answered: u64,
    pub duplicates: u64,
    pub reordered: u64,
    /// Refused by a stack, given up, reported undelivered, or not understood.
    pub failed: u64,
    /// Sent to received: both ends read the same clock.
    pub one_way: Delays,
    pub rtt: Delays,
    /// Bytes, of a sender with congestion control.
    pub cwnd: Option<u32>,
    pub srtt: Option<Duration>,
    pub retransmitted_bytes: u64,
    /// Connections that were asked for.
    pub opened: u64,
    /// Connections that came in, complete.
    pub accepted: u64,
    /// Ends of connections that ended by both sides' closing.
    pub ended_well: u64,
    /// Ends of connections that ended by an error.
    pub ended_badly: u64,
    /// Bytes that arrived and were not what was sent.
    pub wrong_bytes: u64,
}

impl Flow {
    /// Keeps of delays only the latest: histograms of many flows, added up often, would cost more than what they are about.
    pub(crate) fn without_histograms() -> Self {
        let latest = || Delays { forgets: true, ..Delays::default() };
        Self { one_way: latest(), rtt: latest(), ..Self::default() }
    }

    /// Sent, and neither received nor known to have failed; what is under way included.
    pub fn missing_packets(&self) -> u64 {
        self.sent_packets.saturating_sub(self.received_packets)
    }

    /// Bits per second received over `time`.
    pub fn goodput_bps(&self, time: Duration) -> f64 {
        self.received_bytes as f64 * 8.0 / time.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_told_to_two_digits() {
        let mut delays = Delays::default();
        assert_eq!((delays.min(), delays.max(), delays.last()), (Duration::ZERO, Duration::ZERO, None));
        (1..=100).for_each(|n| delays.add(Duration::from_millis(n)));
        let near = |delay: Duration, millis: f64| (delay.as_secs_f64() * 1_000.0 - millis).abs() < millis / 100.0;
        assert!(near(delays.min(), 1.0) && near(delays.max(), 100.0) && near(delays.quantile(0.5), 50.0));
        let mut merged = Delays::default();
        merged.merge(&delays);
        assert_eq!((merged.len(), merged.last()), (100, Some(Duration::from_millis(100))));
    }
}
