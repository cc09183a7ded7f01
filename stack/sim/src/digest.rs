//! One number for all that was delivered: when, where, and every byte.
//!
//! Each path has one of its own; that of the whole network joins them by place, so it does not matter which of two
//! paths was worked on first.

use core::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;

#[derive(Clone, Debug)]
pub(crate) struct Digest {
    state: u64,
    hasher: FixedState,
}

impl Digest {
    pub(crate) fn new() -> Self {
        Self { state: 0, hasher: FixedState::with_seed(0) }
    }

    /// A frame was delivered.
    pub(crate) fn add<'a>(&mut self, now_ns: u64, segments: impl Iterator<Item = &'a [u8]>) {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(self.state);
        hasher.write_u64(now_ns);
        for segment in segments {
            hasher.write(segment);
        }
        self.state = hasher.finish();
    }

    /// What was delivered at a place, all of it.
    pub(crate) fn join(&mut self, place: u64, there: &Self) {
        let mut hasher = self.hasher.build_hasher();
        for word in [self.state, place, there.state] {
            hasher.write_u64(word);
        }
        self.state = hasher.finish();
    }

    pub(crate) fn value(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(frames: &[(u64, usize, &[u8])]) -> u64 {
        let mut places = [Digest::new(), Digest::new()];
        for &(now_ns, place, frame) in frames {
            places[place].add(now_ns, std::iter::once(frame));
        }
        let mut all = Digest::new();
        places.iter().zip(0..).for_each(|(there, place)| all.join(place, there));
        all.value()
    }

    #[test]
    fn time_place_and_each_byte_count_and_so_does_order_at_a_place() {
        let frames: [(u64, usize, &[u8]); 2] = [(1, 0, b"abc"), (2, 1, b"xyz")];
        let all = of(&frames);
        assert_eq!(all, of(&frames));
        assert_ne!(all, of(&[(1, 0, b"abc"), (3, 1, b"xyz")]));
        assert_ne!(all, of(&[(1, 0, b"abc"), (2, 0, b"xyz")]));
        assert_ne!(all, of(&[(1, 1, b"abc"), (2, 0, b"xyz")]));
        assert_ne!(all, of(&[(1, 0, b"abc"), (2, 1, b"xyy")]));
        assert_eq!(all, of(&[(2, 1, b"xyz"), (1, 0, b"abc")]));
        assert_ne!(of(&[(1, 0, b"abc"), (1, 0, b"xyz")]), of(&[(1, 0, b"xyz"), (1, 0, b"abc")]));
    }
}
