//! Random early detection (Floyd and Jacobson, "Random Early Detection Gateways for Congestion Avoidance", 1993).

use tailwater_impair::Random;

/// Parameters, in bytes of queue; the average moves a 512th of the way with each packet, as its authors advise.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Red {
    /// No packet is dropped or marked while the average is below.
    pub min_bytes: u64,
    /// Every packet is from here on.
    pub max_bytes: u64,
    /// Probability just below `max_bytes`, from 0 to 1.
    pub probability_max: f64,
}

/// The authors' `w_q`.
const WEIGHT: f64 = 1.0 / 512.0;

/// Where one queue stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RedState {
    average: f64,
    /// Packets since the last drop or mark; -1 while the average is below the minimum.
    count: i64,
    empty_since_ns: Option<u64>,
}

impl Default for RedState {
    fn default() -> Self {
        Self { average: 0.0, count: -1, empty_since_ns: Some(0) }
    }
}

impl RedState {
    /// Whether the packet that arrives at a queue of `queued` bytes is to be marked or dropped. A packet takes
    /// `packet_ns` to be sent: so many would have passed while the queue was empty.
    pub(crate) fn strikes(&mut self, red: &Red, queued: u64, now_ns: u64, packet_ns: u64, random: &mut Random) -> bool {
        self.move_average(queued, now_ns, packet_ns);
        if self.average < red.min_bytes as f64 {
            self.count = -1;
            return false;
        }
        if self.average >= red.max_bytes as f64 {
            self.count = 0;
            return true;
        }
        self.count += 1;
        let share = (self.average - red.min_bytes as f64) / (red.max_bytes - red.min_bytes) as f64;
        let base = red.probability_max * share;
        // Spreads drops evenly: without it they would cluster.
        let spread = 1.0 - self.count as f64 * base;
        let strikes = spread <= 0.0 || random.chance(base / spread);
        if strikes {
            self.count = 0;
        }
        strikes
    }

    fn move_average(&mut self, queued: u64, now_ns: u64, packet_ns: u64) {
        if queued == 0 {
            let since_ns = *self.empty_since_ns.get_or_insert(now_ns);
            let passed = now_ns.saturating_sub(since_ns).checked_div(packet_ns).unwrap_or(0);
            // Multiplied and not raised to a power, so that every platform computes the same.
            for _ in 0..passed.min(8_192) {
                self.average *= 1.0 - WEIGHT;
            }
            self.empty_since_ns = Some(now_ns);
        } else {
            self.empty_since_ns = None;
            self.average += WEIGHT * (queued as f64 - self.average);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: Red = Red { min_bytes: 10_000, max_bytes: 30_000, probability_max: 0.1 };

    fn share(queued: u64) -> f64 {
        let (mut state, mut random) = (RedState::default(), Random::new(3, 0));
        let struck = (0..40_000).filter(|n| state.strikes(&RED, queued, *n, 1, &mut random) && *n >= 20_000);
        struck.count() as f64 / 20_000.0
    }

    // With the spreading, one in every 1 / base to 2 / base packets: 1.5 / base apart on average. At 25 000 bytes base
    // is 0.075.
    #[test]
    fn a_share_is_struck_between_the_thresholds() {
        assert_eq!(share(9_000), 0.0);
        assert_eq!(share(31_000), 1.0);
        let between = share(25_000);
        assert!((between - 2.0 * 0.075).abs() < 0.03, "{between}");
        assert!(share(15_000) < between / 2.0);
    }

    #[test]
    fn a_burst_passes_since_the_average_is_slow() {
        let (mut state, mut random) = (RedState::default(), Random::new(3, 0));
        assert!((0..100).all(|n| !state.strikes(&RED, 50_000, n, 1, &mut random)));
        assert!((100..2_000).any(|n| state.strikes(&RED, 50_000, n, 1, &mut random)));
    }

    #[test]
    fn an_idle_queue_forgets() {
        let (mut state, mut random) = (RedState::default(), Random::new(3, 0));
        (0..10_000).for_each(|n| {
            state.strikes(&RED, 20_000, n, 1_000, &mut random);
        });
        state.strikes(&RED, 0, 10_000, 1_000, &mut random);
        assert!(state.average > 19_000.0);
        state.strikes(&RED, 0, 10_000_000, 1_000, &mut random);
        assert!(state.average < 1.0, "{}", state.average);
    }
}
