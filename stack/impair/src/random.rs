//! Random numbers for what must happen again with the same seed.

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// One of the sequences of `seed`: each worker, link or host has one of its own.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self { state: seed };
        let mixed = random.next() ^ stream;
        Self { state: mixed }
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait, reason = "it never ends, so it is no iterator")]
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `bound` - 1, or 0 for a bound of 0; uneven by less than `bound` / 2^64.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from 0 to `most`; draws none for 0.
    pub fn up_to(&mut self, most: u64) -> u64 {
        match most {
            0 => 0,
            u64::MAX => self.next(),
            _ => self.below(most + 1),
        }
    }

    /// True with this probability; draws no number where it is certain.
    pub fn chance(&mut self, probability: f64) -> bool {
        if probability <= 0.0 || probability >= 1.0 {
            return probability > 0.0;
        }
        // 53 random bits, all that an f64 holds, make a number from 0 to just under 1.
        ((self.next() >> 11) as f64) * (1.0 / (1u64 << 53) as f64) < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn sequence_is_that_of_the_published_algorithm() {
        let mut random = Random { state: 1_234_567 };
        let first: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn streams_differ_and_seeds_repeat() {
        assert_eq!(Random::new(7, 1).next(), Random::new(7, 1).next());
        assert_ne!(Random::new(7, 1).next(), Random::new(7, 2).next());
    }

    #[test]
    fn certain_and_impossible_are_exact() {
        let mut random = Random::new(3, 0);
        assert!((0..1000).all(|_| random.chance(1.0)));
        assert!((0..1000).all(|_| !random.chance(0.0)));
        assert!((0..1000).all(|_| random.below(10) < 10));
        assert_eq!(random.below(0), 0);
        assert_eq!(random.up_to(0), 0);
        assert!((0..1000).all(|_| random.up_to(3) <= 3));
    }
}
