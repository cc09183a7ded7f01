//! Who is lost.

use crate::Random;

/// How losses come. Probabilities are from 0 to 1.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum LossModel {
    /// Each packet by itself.
    Uniform { probability: f64 },
    /// Gilbert and Elliott's two states (E. O. Elliott, "Estimates of Error Rates for Codes on Burst-Noise Channels",
    /// 1963), between which each packet may bring the link.
    GilbertElliott {
        /// From good to bad.
        enter: f64,
        /// From bad to good.
        leave: f64,
        /// Loss in the good state.
        good: f64,
        /// Loss in the bad state.
        bad: f64,
    },
}

impl Default for LossModel {
    fn default() -> Self {
        Self::Uniform { probability: 0.0 }
    }
}

impl LossModel {
    /// Gilbert's model: everything within a burst is lost, nothing between bursts, `share` of all packets in all.
    /// Bursts have `mean_packets` on average, or more where that leaves less than a packet between two of them; below 1
    /// each loss is independent.
    pub fn bursts(share: f64, mean_packets: f64) -> Self {
        if mean_packets < 1.0 || share >= 1.0 {
            return Self::Uniform { probability: share };
        }
        // Entering and leaving balance where this share of the packets lies in bursts: enter is leave * balance.
        let balance = share / (1.0 - share);
        let leave = if balance > mean_packets { 1.0 / balance } else { 1.0 / mean_packets };
        Self::GilbertElliott { enter: (leave * balance).min(1.0), leave, good: 0.0, bad: 1.0 }
    }
}

/// Where the model stands on one link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Loss {
    in_bad_state: bool,
}

impl Loss {
    /// Whether the next packet is lost.
    pub fn strikes(&mut self, model: &LossModel, random: &mut Random) -> bool {
        match *model {
            LossModel::Uniform { probability } => random.chance(probability),
            LossModel::GilbertElliott { enter, leave, good, bad } => {
                self.in_bad_state = match self.in_bad_state {
                    true => !random.chance(leave),
                    false => random.chance(enter),
                };
                random.chance(if self.in_bad_state { bad } else { good })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKETS: u32 = 200_000;

    /// Share of losses, and mean length of a run of them.
    fn measure(model: LossModel) -> (f64, f64) {
        let (mut loss, mut random) = (Loss::default(), Random::new(5, 0));
        let (mut lost, mut runs, mut before) = (0, 0, false);
        for _ in 0..PACKETS {
            let strikes = loss.strikes(&model, &mut random);
            lost += u32::from(strikes);
            runs += u32::from(strikes && !before);
            before = strikes;
        }
        (f64::from(lost) / f64::from(PACKETS), f64::from(lost) / f64::from(runs.max(1)))
    }

    #[test]
    fn uniform_loss_has_its_share_and_no_bursts() {
        let (share, run) = measure(LossModel::Uniform { probability: 0.02 });
        assert!((share - 0.02).abs() < 0.002, "{share}");
        assert!((run - 1.0 / 0.98).abs() < 0.05, "{run}");
    }

    #[test]
    fn bursts_have_their_share_and_their_length() {
        let (share, run) = measure(LossModel::bursts(0.02, 8.0));
        assert!((share - 0.02).abs() < 0.004, "{share}");
        assert!((run - 8.0).abs() < 0.8, "{run}");
    }

    #[test]
    fn bursts_are_as_long_as_their_share_needs() {
        for (share, mean) in [(0.95, 2.0), (0.5, 1.0), (0.6, 1.0), (0.75, 3.0)] {
            let (measured, run) = measure(LossModel::bursts(share, mean));
            assert!((measured - share).abs() < 0.01, "{measured} is not {share}");
            assert!(run > mean * 0.95, "{run}");
        }
    }

    // The share of time in the bad state is enter / (enter + leave) = 1 / 11.
    #[test]
    fn elliotts_states_lose_each_their_part() {
        let (share, _) = measure(LossModel::GilbertElliott { enter: 0.01, leave: 0.1, good: 0.001, bad: 0.5 });
        let expected = (0.5 + 10.0 * 0.001) / 11.0;
        assert!((share - expected).abs() < 0.005, "{share} is not {expected}");
    }

    #[test]
    fn nothing_and_everything_are_exact() {
        assert_eq!(measure(LossModel::default()).0, 0.0);
        assert_eq!(measure(LossModel::bursts(1.0, 4.0)).0, 1.0);
    }
}
