//! One number for all that was delivered: when, where, and every byte.
//!
//! Each path has one of its own; that of the whole network joins them by place, so it does not matter which of two
//! paths was worked on first. A frame's bytes go in as sums, and sums of sums, of their words, as Fletcher's checksum has
//! them: what changes, moves or is missing shows, but for changes that cancel each other out in both, and to read a frame takes no
//! longer than to sum it up. It is proof against accidents, not against somebody who makes up frames for it.

#[derive(Clone, Debug)]
pub(crate) struct Digest {
    state: u64,
}

/// Bytes that are read at a time.
const BLOCK: usize = 32;

impl Digest {
    pub(crate) fn new() -> Self {
        Self { state: 0 }
    }

    /// A frame was delivered.
    #[inline]
    pub(crate) fn add<'a>(&mut self, now_ns: u64, segments: impl Iterator<Item = &'a [u8]>) {
        let mut time = now_ns;
        for segment in segments {
            let [sums, sums_of_sums] = match segment.last_chunk() {
                Some(last) => sums(segment, last),
                None => {
                    let mut last = [0; BLOCK];
                    last.iter_mut().zip(segment).for_each(|(to, from)| *to = *from);
                    sums(&[], &last)
                }
            };
            self.mix(time, segment.len() as u64);
            for (sum, sum_of_sums) in sums.into_iter().zip(sums_of_sums) {
                self.mix(sum, sum_of_sums);
            }
            time = 0;
        }
    }

    /// What was delivered at a place, all of it.
    pub(crate) fn join(&mut self, place: u64, there: &Self) {
        self.mix(place, there.state);
    }

    pub(crate) fn value(&self) -> u64 {
        self.state
    }

    /// Takes in two words by their product, whose halves depend on all bits of both; constants (of pi) keep zeros from being lost.
    #[inline(always)]
    fn mix(&mut self, a: u64, b: u64) {
        let product = u128::from(self.state ^ a ^ 0x243f_6a88_85a3_08d3) * u128::from(b ^ 0x1319_8a2e_0370_7345);
        self.state = product as u64 ^ (product >> 64) as u64 ^ self.state.rotate_left(32);
    }
}

/// Sums of words in four independent lanes, which the compiler turns into vector additions, and sums of these sums, which
/// tell how far from the end each word lies. The last block overlaps the one before where the bytes do not come out even.
// Where it is inlined nothing is stored, and the compiler adds word by word.
#[inline(never)]
fn sums(bytes: &[u8], last: &[u8; BLOCK]) -> [[u64; 4]; 2] {
    let add = |[sums, sums_of_sums]: [[u64; 4]; 2], block: &[u8; BLOCK]| {
        let (words, _) = block.as_chunks();
        let sums: [u64; 4] = std::array::from_fn(|lane| sums[lane].wrapping_add(u64::from_le_bytes(words[lane])));
        [sums, std::array::from_fn(|lane| sums_of_sums[lane].wrapping_add(sums[lane]))]
    };
    let mut all = [[0; 4]; 2];
    for block in bytes.as_chunks().0 {
        all = add(all, block);
    }
    add(all, last)
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

    #[test]
    fn each_byte_of_a_frame_counts_and_so_does_where_it_is() {
        let long: Vec<u8> = (0..1_514_u32).map(|n| (n * n % 251) as u8).collect();
        for len in [1, 14, 31, 32, 33, 60, 64, 1_472, 1_505, 1_514] {
            let frame = &long[..len];
            let all = of(&[(1, 0, frame)]);
            for at in 0..len {
                let mut other = frame.to_vec();
                other[at] ^= 0x80;
                assert_ne!(all, of(&[(1, 0, &other)]), "byte {at} of {len}");
            }
            assert_ne!(all, of(&[(1, 0, &frame[..len - 1])]), "the last of {len} bytes");
        }
        let all = of(&[(1, 0, &long)]);
        for (one, other) in [(0, 8), (0, 32), (4, 1_476), (8, 1_496)] {
            let mut swapped = long.clone();
            (0..8).for_each(|at| swapped.swap(one + at, other + at));
            assert_ne!(all, of(&[(1, 0, &swapped)]), "words at {one} and {other}");
        }
        assert_ne!(of(&[(1, 0, &[0; 64])]), of(&[(1, 0, &[0; 96])]), "zeros count too");
    }
}
