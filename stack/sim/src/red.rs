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
/// After so many that could have passed nothing is left of any average.
const IDLE_PACKETS_MAX: u64 = 8_192;

/// Where one queue stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RedState {
    average: f64,
    /// Packets since the last drop or mark; -1 while the average is below the minimum.
    count: i64,
}

impl Default for RedState {
    fn default() -> Self {
        Self { average: 0.0, count: -1 }
    }
}

impl RedState {
    /// A packet arrives at a queue of `queued` bytes that has been empty for `idle_ns`, whether there is room for it or not.
    /// A packet takes `packet_ns` to be sent: so many would have passed meanwhile.
    pub(crate) fn on_arrival(&mut self, queued: u64, idle_ns: u64, packet_ns: u64) {
        if queued > 0 {
            self.average += WEIGHT * (queued as f64 - self.average);
            return;
        }
        let Some(passed) = idle_ns.checked_div(packet_ns) else {
            self.average = 0.0;
            return;
        };
        // Multiplied and not raised to a power, so that every platform computes the same.
        for _ in 0..passed.min(IDLE_PACKETS_MAX) {
            self.average *= 1.0 - WEIGHT;
        }
        self.average *= 1.0 - WEIGHT * ((idle_ns % packet_ns) as f64 / packet_ns as f64);
    }

    /// Whether the packet that has just arrived is to be marked or dropped.
    pub(crate) fn strikes(&mut self, red: &Red, random: &mut Random) -> bool {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: Red = Red { min_bytes: 10_000, max_bytes: 30_000, probability_max: 0.1 };

    impl RedState {
        fn arrive(&mut self, queued: u64, idle_ns: u64, random: &mut Random) -> bool {
            self.on_arrival(queued, idle_ns, 1_000);
            self.strikes(&RED, random)
        }
    }

    fn share(queued: u64) -> f64 {
        let (mut state, mut random) = (RedState::default(), Random::new(3, 0));
        let struck = (0..40_000).filter(|n| state.arrive(queued, 0, &mut random) && *n >= 20_000);
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
        assert!((0..100).all(|_| !state.arrive(50_000, 0, &mut random)));
        assert!((100..2_000).any(|_| state.arrive(50_000, 0, &mut random)));
    }

    #[test]
    fn an_idle_queue_forgets() {
        let (mut state, mut random) = (RedState::default(), Random::new(3, 0));
        for _ in 0..10_000 {
            state.arrive(20_000, 0, &mut random);
        }
        let full = state.average;
        state.arrive(0, 0, &mut random);
        assert_eq!(state.average, full, "no time has passed");
        state.arrive(0, 500, &mut random);
        assert!(state.average < full && state.average > full * 0.99, "half a packet could have passed");
        state.arrive(0, 10_000_000_000, &mut random);
        assert!(state.average < 1.0, "{}", state.average);
    }
}
