//! How acknowledgements come together (draft-ietf-ccwg-bbr-06 §5.5.9): what a window must allow beyond the
//! bandwidth-delay product, so that sending does not stop while they wait for each other.

use super::PER_SECOND;
use crate::time::Instant;

/// §2.12: rounds that the filter covers, in two buckets; in Startup one round each.
const EXTRA_ACKED_BUCKET_ROUNDS: u64 = 5;

/// How many bytes more than expected acknowledgements bring at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aggregation {
    interval_start: Instant,
    delivered: u64,
    this_bucket: u64,
    last_bucket: u64,
    bucket_began: u64,
}

impl Aggregation {
    pub(super) fn new(now: Instant) -> Self {
        Self { interval_start: now, delivered: 0, this_bucket: 0, last_bucket: 0, bucket_began: 0 }
    }

    pub(super) fn extra_acked(&self) -> u64 {
        self.this_bucket.max(self.last_bucket)
    }

    pub(super) fn restart(&mut self, now: Instant) {
        self.interval_start = now;
        self.delivered = 0;
    }

    /// `newly_acked` bytes arrived at `now`; `bw` and `cwnd` are what is believed and allowed, `round` counts round trips.
    pub(super) fn update(
        &mut self,
        now: Instant,
        newly_acked: u64,
        bw: u64,
        cwnd: u64,
        round: u64,
        full_bw_reached: bool,
    ) {
        let bucket_rounds = if full_bw_reached { EXTRA_ACKED_BUCKET_ROUNDS } else { 1 };
        if round.saturating_sub(self.bucket_began) >= bucket_rounds {
            self.last_bucket = self.this_bucket;
            self.this_bucket = 0;
            self.bucket_began = round;
        }
        let interval = now.since(self.interval_start);
        let mut expected = u64::try_from(u128::from(bw) * interval.as_nanos() / PER_SECOND).unwrap_or(u64::MAX);
        if self.delivered <= expected {
            self.restart(now);
            expected = 0;
        }
        self.delivered = self.delivered.saturating_add(newly_acked);
        let extra = self.delivered.saturating_sub(expected).min(cwnd);
        self.this_bucket = self.this_bucket.max(extra);
    }
}
