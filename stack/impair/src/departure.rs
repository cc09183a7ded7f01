//! When a packet comes out at the other end.
//!
//! ```text
//!  packet -> serialisation (rate) -> delay +- jitter, or none for one that overtakes -> out
//! ```

use crate::Random;

/// What comes after serialisation.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Delay {
    pub delay_ns: u64,
    /// The delay varies evenly by this much either way.
    pub jitter_ns: u64,
    /// Probability that a packet skips the delay and overtakes others.
    pub reorder: f64,
    /// At most one packet in this many overtakes.
    pub reorder_gap_packets: u64,
}

/// How one packet leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Departure {
    pub due_ns: u64,
    pub overtakes: bool,
}

/// Where one link stands. Without jitter and reordering packets keep their order, also while parameters change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Departures {
    /// When the link has sent everything given to it so far.
    free_ns: u64,
    /// The latest departure so far.
    last_due_ns: u64,
    since_reorder: u64,
}

impl Departures {
    /// Nanoseconds from `now_ns` until everything given to the link so far is sent.
    pub fn backlog_ns(&self, now_ns: u64) -> u64 {
        self.free_ns.saturating_sub(now_ns)
    }

    /// Nanoseconds for which the link has had nothing to send at `now_ns`.
    pub fn idle_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.free_ns)
    }

    /// The link sends at another rate (bits per second; 0 is no limit) from `now_ns` on, also what is waiting already.
    pub fn change_rate(&mut self, from_bps: u64, to_bps: u64, now_ns: u64) {
        let backlog_ns = self.backlog_ns(now_ns);
        if backlog_ns > 0 {
            let at_new_rate = (u128::from(backlog_ns) * u128::from(from_bps)).checked_div(u128::from(to_bps));
            self.free_ns = now_ns.saturating_add(u64::try_from(at_new_rate.unwrap_or(0)).unwrap_or(u64::MAX));
        }
    }

    /// A packet that takes `serialisation_ns` arrives at `now_ns`.
    pub fn next(&mut self, delay: &Delay, serialisation_ns: u64, now_ns: u64, random: &mut Random) -> Departure {
        self.free_ns = self.free_ns.max(now_ns).saturating_add(serialisation_ns);
        let sent_ns = if serialisation_ns == 0 { now_ns } else { self.free_ns };
        self.since_reorder = self.since_reorder.saturating_add(1);
        let overtakes = self.since_reorder >= delay.reorder_gap_packets && random.chance(delay.reorder);
        let mut due_ns = sent_ns;
        if overtakes {
            self.since_reorder = 0;
        } else {
            let variation_ns = random.up_to(delay.jitter_ns.saturating_mul(2));
            let delay_ns = delay.delay_ns.saturating_add(variation_ns).saturating_sub(delay.jitter_ns);
            due_ns = sent_ns.saturating_add(delay_ns);
            if delay.jitter_ns == 0 && delay.reorder == 0.0 {
                due_ns = due_ns.max(self.last_due_ns);
            }
        }
        self.last_due_ns = self.last_due_ns.max(due_ns);
        Departure { due_ns, overtakes }
    }
}

/// How long `bytes` take at `rate_bps` bits per second; 0 bits per second is no limit.
pub fn serialisation_ns(bytes: usize, rate_bps: u64) -> u64 {
    match rate_bps {
        0 => 0,
        rate_bps => (bytes as u64).saturating_mul(8_000_000_000).div_ceil(rate_bps),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dues(delay: Delay, packets: u64, gap_ns: u64) -> (std::vec::Vec<u64>, u64) {
        let (mut departures, mut random) = (Departures::default(), Random::new(9, 0));
        let mut overtaking = 0;
        let dues = (0..packets).map(|n| {
            let departure = departures.next(&delay, serialisation_ns(125, 1_000_000), n * gap_ns, &mut random);
            overtaking += u64::from(departure.overtakes);
            departure.due_ns
        });
        (dues.collect(), overtaking)
    }

    #[test]
    fn packets_leave_at_the_rate_and_after_the_delay() {
        let (dues, _) = dues(Delay { delay_ns: 5_000_000, ..Delay::default() }, 4, 0);
        assert_eq!(dues, [6_000_000, 7_000_000, 8_000_000, 9_000_000]);
    }

    #[test]
    fn backlog_is_what_is_still_to_be_sent() {
        let (mut departures, mut random) = (Departures::default(), Random::new(1, 0));
        assert_eq!(departures.backlog_ns(0), 0);
        departures.next(&Delay::default(), 1_000, 100, &mut random);
        departures.next(&Delay::default(), 1_000, 200, &mut random);
        assert_eq!([200, 1_100, 5_000].map(|now_ns| departures.backlog_ns(now_ns)), [1_900, 1_000, 0]);
        assert_eq!([200, 2_100, 5_000].map(|now_ns| departures.idle_ns(now_ns)), [0, 0, 2_900]);
    }

    #[test]
    fn what_waits_is_sent_at_the_new_rate() {
        let (mut departures, mut random) = (Departures::default(), Random::new(1, 0));
        departures.next(&Delay::default(), 1_000, 100, &mut random);
        departures.change_rate(10_000, 40_000, 300);
        assert_eq!(departures.backlog_ns(300), 200);
        departures.change_rate(40_000, 20_000, 400);
        assert_eq!(departures.backlog_ns(400), 200);
        departures.change_rate(20_000, 0, 500);
        assert_eq!(departures.backlog_ns(500), 0);
        departures.change_rate(0, 1, 900);
        assert_eq!(departures.idle_ns(900), 400, "an idle link stays one");
    }

    #[test]
    fn jitter_stays_within_its_bounds_and_uses_them() {
        let delay = Delay { delay_ns: 5_000_000, jitter_ns: 2_000_000, ..Delay::default() };
        let (dues, _) = dues(delay, 1_000, 10_000_000);
        let delays: std::vec::Vec<u64> =
            dues.iter().zip(0..).map(|(due, n)| due - n * 10_000_000 - 1_000_000).collect();
        assert!(delays.iter().all(|delay| (3_000_000..=7_000_000).contains(delay)));
        assert!(delays.iter().any(|delay| *delay < 3_100_000) && delays.iter().any(|delay| *delay > 6_900_000));
    }

    #[test]
    fn a_share_of_the_packets_overtakes_but_not_more_often_than_the_gap() {
        let delay = Delay { delay_ns: 5_000_000, reorder: 0.25, ..Delay::default() };
        let (_, overtaking) = dues(delay, 10_000, 0);
        assert!((2_300..2_700).contains(&overtaking), "{overtaking}");
        let (_, overtaking) = dues(Delay { reorder: 1.0, reorder_gap_packets: 10, ..delay }, 10_000, 0);
        assert_eq!(overtaking, 1_000);
    }

    #[test]
    fn no_rate_is_no_time() {
        assert_eq!(serialisation_ns(1_500, 0), 0);
        assert_eq!(serialisation_ns(1_500, 12_000), 1_000_000_000);
        assert_eq!(serialisation_ns(usize::MAX, 1), u64::MAX);
    }
}
