//! Models of bad links, for the `impair` block and for the simulator: who is lost, when the others arrive, which bit
//! flips. The same seed meets the same packets with the same fate.
//!
//! Nothing here holds a packet or knows a clock: a model is told what comes by, and says what becomes of it. A random
//! number is drawn only where the outcome is open, so that switching one model on does not disturb the others.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod departure;
mod loss;
mod random;

pub use departure::{Delay, Departure, Departures, serialisation_ns};
pub use loss::{Loss, LossModel};
pub use random::Random;

/// Flips one bit of `bytes`, if there is any.
pub fn flip_bit(bytes: &mut [u8], random: &mut Random) {
    let bit = random.below(bytes.len() as u64 * 8);
    if let Some(byte) = bytes.get_mut((bit / 8) as usize) {
        *byte ^= 1 << (bit % 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_flips_wherever_it_is() {
        let mut random = Random::new(1, 0);
        let mut seen = [false; 32];
        for _ in 0..1_000 {
            let mut bytes = [0_u8; 4];
            flip_bit(&mut bytes, &mut random);
            let flipped = u32::from_le_bytes(bytes);
            assert_eq!(flipped.count_ones(), 1);
            seen[flipped.trailing_zeros() as usize] = true;
        }
        assert!(seen.iter().all(|&seen| seen));
        flip_bit(&mut [], &mut random);
    }
}
