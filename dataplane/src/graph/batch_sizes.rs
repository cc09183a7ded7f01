//! A histogram of batch sizes in powers of two: small enough to keep one for every vertex.

/// Classes: 1, 2, 3-4, 5-8, ... 65-128, and more.
const CLASSES: usize = 9;

/// Batches by their number of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct BatchSizes([u64; CLASSES]);

impl BatchSizes {
    /// Largest number of packets in each class but the last, which has no bound.
    pub const UPPER: [usize; CLASSES - 1] = [1, 2, 4, 8, 16, 32, 64, 128];

    /// Counts a batch of `n` packets, 1 or more.
    #[inline]
    pub fn count(&mut self, n: usize) {
        // Mostly one where time counts: its class needs no working out.
        let class = if n == 1 { 0 } else { class(n) };
        self.0[class] += 1;
    }

    /// Batches in each class, the smallest first.
    pub fn classes(&self) -> &[u64] {
        &self.0
    }
}

#[inline]
fn class(n: usize) -> usize {
    (usize::BITS - n.saturating_sub(1).leading_zeros()).min(CLASSES as u32 - 1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_powers_of_two_and_the_last_takes_the_rest() {
        let classes: Vec<_> = [1, 2, 3, 4, 5, 8, 9, 128, 129, 256, 4000].iter().map(|&n| class(n)).collect();
        assert_eq!(classes, [0, 1, 2, 2, 3, 3, 4, 7, 8, 8, 8]);
        for (at, &upper) in BatchSizes::UPPER.iter().enumerate() {
            assert_eq!((class(upper), class(upper + 1)), (at, at + 1));
        }
    }
}
