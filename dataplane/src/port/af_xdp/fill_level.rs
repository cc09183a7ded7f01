//! How many free chunks lie in a fill ring.
//!
//! A ring is a queue: each chunk in it is written once before the first one is written again. As many as the ring holds (8 MiB by
//! default) are in no cache of a core any more when their turn comes, and where the kernel copies every received packet is a miss
//! for the core that copies it and for the one that reads it. So under steady traffic there are few, and twice as many as soon as half
//! of them was used between two looks. All lie there before the worker sleeps, for whatever comes until it is awake, and always where
//! the device takes the chunks ahead (zero-copy).

/// Least chunks: what arrives during a turn or a nap, and half of a core's cache of 2 MiB.
pub(super) const FILL_MIN: u32 = 256;
/// Free places that are worth a refill.
const REFILL_MIN: u32 = 32;
/// Refills that must have found less than an eighth used before half of the chunks stay away: about a tenth of a second of bulk traffic.
const CALM_REFILLS: u32 = 2_048;

/// The level of one ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct FillLevel {
    /// Chunks to keep there now; from `min` to `max`.
    target: u32,
    min: u32,
    max: u32,
    /// Chunks that the last refill left there.
    left: u32,
    /// Refills since more than an eighth was used.
    calm: u32,
}

impl FillLevel {
    /// At most `max` chunks; always so many if the level is not to follow the traffic.
    pub(super) fn new(max: u32, follows: bool) -> Self {
        let min = if follows { FILL_MIN.min(max) } else { max };
        Self { target: max, min, max, left: 0, calm: 0 }
    }

    /// Nobody looks until a packet has come: all are to lie there.
    pub(super) fn rest(&mut self) {
        (self.target, self.calm) = (self.max, 0);
    }

    /// Least chunks that it may keep.
    pub(super) fn min(&self) -> u32 {
        self.min
    }

    /// Chunks to put in, where `pending` still lie: none while it is too few to bother.
    #[inline]
    pub(super) fn room(&mut self, pending: u32) -> u32 {
        let used = self.left.saturating_sub(pending);
        if used > self.target / 2 {
            (self.target, self.calm) = ((self.target * 2).min(self.max), 0);
        }
        let room = self.target.saturating_sub(pending);
        if room < REFILL_MIN.min(self.target) {
            // What lies above a level that has just fallen is used up bit by bit, which is no burst.
            self.left = if pending > self.target { pending } else { self.left };
            return 0;
        }
        self.calm = if used > self.target / 8 { 0 } else { self.calm.saturating_add(1) };
        if self.calm >= CALM_REFILLS && self.target > self.min {
            (self.target, self.calm) = ((self.target / 2).max(self.min), 0);
        }
        room
    }

    /// So many lie there after a refill.
    #[inline]
    pub(super) fn filled(&mut self, pending: u32) {
        self.left = pending;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills up, then `used` are taken; what is there afterwards.
    fn round(level: &mut FillLevel, pending: u32, used: u32) -> u32 {
        let filled = pending + level.room(pending);
        if filled > pending {
            level.filled(filled);
        }
        filled - used.min(filled)
    }

    #[test]
    fn few_chunks_lie_in_a_ring_until_half_of_them_are_used_at_once() {
        let mut level = FillLevel { target: FILL_MIN, ..FillLevel::new(2_048, true) };
        assert_eq!(level.room(0), 256);
        level.filled(256);
        assert_eq!(level.room(128), 128, "half is not more than half");
        level.filled(256);
        for expected in [512, 1_024, 2_048, 2_048] {
            let room = level.room(0);
            assert_eq!(room, expected);
            level.filled(room);
        }
    }

    #[test]
    fn a_long_calm_halves_what_lies_there_and_a_burst_ends_the_calm() {
        let mut level = FillLevel { target: 1_024, ..FillLevel::new(2_048, true) };
        let mut pending = 0;
        for _ in 2..CALM_REFILLS {
            pending = round(&mut level, pending, 64);
        }
        assert_eq!(level.target, 1_024);
        pending = round(&mut level, pending, 400);
        for _ in 0..CALM_REFILLS {
            pending = round(&mut level, pending, 64);
        }
        assert_eq!(level.target, 1_024, "a burst in between");
        for _ in 0..2 * CALM_REFILLS {
            pending = round(&mut level, pending, 32);
        }
        assert_eq!(level.target, FILL_MIN);
        for _ in 0..2 * CALM_REFILLS {
            pending = round(&mut level, pending, 32);
        }
        assert_eq!(level.target, FILL_MIN);
        level.rest();
        assert_eq!(level.room(pending), 2_048 - pending, "all, for whatever comes while the worker sleeps");
    }

    #[test]
    fn where_the_device_takes_chunks_ahead_all_of_them_lie_there() {
        let mut level = FillLevel::new(2_048, false);
        assert_eq!((level.room(0), level.room(2_040), level.min()), (2_048, 0, 2_048));
        let mut pending = 0;
        for _ in 0..2 * CALM_REFILLS {
            pending = round(&mut level, pending, 32);
        }
        assert_eq!(level.target, 2_048, "also after a long calm");
        assert_eq!(FillLevel::new(64, true).room(0), 64);
    }
}
