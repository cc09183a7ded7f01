//! Round trips timed by what is delivered: one is over when something arrives that was sent after it began (BBR version 3,
//! §5.5.1).
//!
//! A segment that overtakes others comes back early, with the first half of a round trip's acknowledgements still under way. A few
//! of them would pass for round trips in which the bandwidth did not grow, and end Startup at a fraction of it. So a round trip also
//! takes most of the smoothed round-trip time.

use core::time::Duration;

use crate::time::Instant;

#[derive(Clone, Copy, Debug)]
pub(super) struct Rounds {
    /// `C.delivered` when the present one began, and when that was.
    delivered: u64,
    began: Instant,
    /// The last acknowledgement, and what was delivered up to it.
    now: Instant,
    delivered_now: u64,
    /// The last acknowledgement began one.
    pub(super) start: bool,
    pub(super) count: u64,
}

impl Rounds {
    pub(super) fn new(now: Instant, delivered: u64) -> Self {
        Self { delivered, began: now, now, delivered_now: delivered, start: false, count: 0 }
    }

    /// An acknowledgement, after which `delivered` bytes have arrived in all, and `prior_delivered` had when what it acknowledges was
    /// sent. Returns whether a round trip is over, and the next begins.
    pub(super) fn update(
        &mut self,
        now: Instant,
        delivered: u64,
        prior_delivered: u64,
        srtt: Option<Duration>,
    ) -> bool {
        (self.now, self.delivered_now) = (now, delivered);
        let srtt = srtt.unwrap_or_default();
        self.start = prior_delivered >= self.delivered && now.since(self.began) >= srtt - srtt / 4;
        if self.start {
            self.begin();
            self.count = self.count.wrapping_add(1);
        }
        self.start
    }

    /// Counts from here.
    pub(super) fn begin(&mut self) {
        (self.began, self.delivered) = (self.now, self.delivered_now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRTT: Option<Duration> = Some(Duration::from_millis(40));

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn a_round_trip_is_over_when_something_arrives_that_was_sent_after_it_began() {
        let mut rounds = Rounds::new(at(0), 0);
        assert!(rounds.update(at(40), 1_000, 0, SRTT));
        assert!(!rounds.update(at(41), 2_000, 0, SRTT), "sent before");
        assert!(rounds.update(at(80), 3_000, 1_000, SRTT));
        assert_eq!(rounds.count, 2);
    }

    #[test]
    fn a_segment_that_overtakes_others_ends_no_round_trip() {
        let mut rounds = Rounds::new(at(0), 0);
        assert!(rounds.update(at(40), 1_000, 0, SRTT));
        assert!(!rounds.update(at(60), 2_000, 1_000, SRTT), "half a round trip later");
        assert!(rounds.update(at(71), 3_000, 1_500, SRTT));
    }

    #[test]
    fn counting_anew_begins_at_the_last_acknowledgement() {
        let mut rounds = Rounds::new(at(0), 0);
        rounds.update(at(40), 5_000, 0, None);
        rounds.update(at(50), 9_000, 0, None);
        rounds.begin();
        assert!(!rounds.update(at(90), 9_500, 8_000, None));
        assert!(rounds.update(at(91), 9_900, 9_000, None));
    }
}
