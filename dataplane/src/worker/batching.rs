//! The adaptive batch bound: take what is there, never wait for more.
//!
//! The bound is how much one port may bring into a turn. While a queue is no longer than the bound, latency is that of
//! the packets there are. When a burst fills the bound, the queue is longer: the bound doubles, and the cost of a turn is
//! shared by more packets. When bursts fall below a quarter, it halves. A queue that is empty says nothing about bursts.

/// Smallest bound, in packets: what an unloaded port may bring at once.
pub(super) const BATCH_MIN: usize = 32;
/// Largest bound, in packets: more would only lengthen a turn without making a packet cheaper.
pub(super) const BATCH_MAX: usize = 256;

/// Most packets that a port may bring into the next turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchBound(usize);

impl Default for BatchBound {
    fn default() -> Self {
        Self(BATCH_MIN)
    }
}

impl BatchBound {
    #[inline]
    pub(super) fn get(self) -> usize {
        self.0
    }

    /// Learns from a burst of `received` packets.
    #[inline]
    pub(super) fn observe(&mut self, received: usize) {
        if received >= self.0 {
            self.0 = (self.0 * 2).min(BATCH_MAX);
        } else if received > 0 && received < self.0 / 4 {
            self.0 = (self.0 / 2).max(BATCH_MIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_grows_with_the_queue_and_shrinks_when_it_is_gone() {
        let mut bound = BatchBound::default();
        for expected in [64, 128, 256, 256] {
            bound.observe(bound.get());
            assert_eq!(bound.get(), expected);
        }
        bound.observe(0);
        assert_eq!(bound.get(), 256, "between two bursts it waits");
        bound.observe(64);
        assert_eq!(bound.get(), 256, "a quarter is still worth it");
        for expected in [128, 64, 32, 32] {
            bound.observe(1);
            assert_eq!(bound.get(), expected);
        }
    }
}
