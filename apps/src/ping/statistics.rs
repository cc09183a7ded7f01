//! What remains of the replies.

use std::time::Duration;

use super::requester::Happened;

/// Counts, and moments of the round trip time.
#[derive(Clone, Debug, Default)]
pub(super) struct Statistics {
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Requests of which it is known that no reply will come.
    pub(super) failed: u64,
    pub(super) duplicates: u64,
    pub(super) corrupted: u64,
    pub(super) elapsed: Duration,
    min_ns: Option<u64>,
    max_ns: u64,
    sum_ns: f64,
    sum_of_squares: f64,
}

/// Round trip times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RoundTrip {
    pub(super) min_ms: f64,
    pub(super) avg_ms: f64,
    pub(super) max_ms: f64,
    /// Standard deviation.
    pub(super) mdev_ms: f64,
}

impl Statistics {
    pub(super) fn note(&mut self, happened: &Happened) {
        match *happened {
            Happened::Sent { .. } => self.sent += 1,
            Happened::NotSent { .. } | Happened::Undelivered { .. } => self.failed += 1,
            Happened::NoNeighbour { requests, .. } => self.failed += requests,
            Happened::Duplicate { .. } => self.duplicates += 1,
            Happened::Late { .. } => self.received += 1,
            Happened::Reply { rtt_ns, intact, .. } => {
                self.received += 1;
                self.corrupted += u64::from(!intact);
                self.min_ns = Some(self.min_ns.map_or(rtt_ns, |min| min.min(rtt_ns)));
                self.max_ns = self.max_ns.max(rtt_ns);
                self.sum_ns += rtt_ns as f64;
                self.sum_of_squares += rtt_ns as f64 * rtt_ns as f64;
            }
        }
    }

    pub(super) fn loss_percent(&self) -> f64 {
        if self.sent == 0 { 0.0 } else { self.sent.saturating_sub(self.received) as f64 * 100.0 / self.sent as f64 }
    }

    /// `None` without a timed reply.
    pub(super) fn round_trip(&self) -> Option<RoundTrip> {
        const MS: f64 = 1e-6;
        let min_ns = self.min_ns?;
        let n = self.received.max(1) as f64;
        let mean = self.sum_ns / n;
        let variance = (self.sum_of_squares / n - mean * mean).max(0.0);
        Some(RoundTrip {
            min_ms: min_ns as f64 * MS,
            avg_ms: mean * MS,
            max_ms: self.max_ns as f64 * MS,
            mdev_ms: variance.sqrt() * MS,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(sequence: u16, rtt_ns: u64) -> Happened {
        let from = [192, 0, 2, 1].into();
        Happened::Reply { sequence, from, len: 64, hop_limit: 64, rtt_ns, intact: true }
    }

    #[test]
    fn round_trip_times_are_summed_up() {
        let mut statistics = Statistics::default();
        for sequence in 1..=4 {
            statistics.note(&Happened::Sent { sequence });
        }
        [(1, 1_000_000), (2, 3_000_000)].iter().for_each(|&(sequence, rtt)| statistics.note(&reply(sequence, rtt)));
        assert_eq!(statistics.loss_percent(), 50.0);
        let expected = RoundTrip { min_ms: 1.0, avg_ms: 2.0, max_ms: 3.0, mdev_ms: 1.0 };
        assert_eq!(statistics.round_trip(), Some(expected));
    }

    #[test]
    fn without_replies_there_are_no_times_and_no_division_by_zero() {
        let mut statistics = Statistics::default();
        assert_eq!((statistics.loss_percent(), statistics.round_trip()), (0.0, None));
        statistics.note(&Happened::Sent { sequence: 1 });
        assert_eq!((statistics.loss_percent(), statistics.round_trip()), (100.0, None));
    }
}
