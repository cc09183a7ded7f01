//! One number for all that was delivered: when, where, and every byte.

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

    pub(crate) fn add<'a>(&mut self, now_ns: u64, place: usize, segments: impl Iterator<Item = &'a [u8]>) {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(self.state);
        hasher.write_u64(now_ns);
        hasher.write_u64(place as u64);
        for segment in segments {
            hasher.write(segment);
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
        let mut digest = Digest::new();
        for &(now_ns, place, frame) in frames {
            digest.add(now_ns, place, std::iter::once(frame));
        }
        digest.value()
    }

    #[test]
    fn time_place_order_and_each_byte_count() {
        let frames: [(u64, usize, &[u8]); 2] = [(1, 0, b"abc"), (2, 1, b"xyz")];
        let all = of(&frames);
        assert_eq!(all, of(&frames));
        assert_ne!(all, of(&[(1, 0, b"abc"), (3, 1, b"xyz")]));
        assert_ne!(all, of(&[(1, 0, b"abc"), (2, 0, b"xyz")]));
        assert_ne!(all, of(&[(1, 0, b"abc"), (2, 1, b"xyy")]));
        assert_ne!(all, of(&[(2, 1, b"xyz"), (1, 0, b"abc")]));
    }
}
