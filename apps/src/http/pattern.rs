//! Bytes that are made, not stored: what `/bytes/N` serves. A byte follows from its offset alone, so that a body of any
//! size needs no memory, and any part of it can be made again.
//!
//! The eight bytes from offset 8 n on are splitmix64's output for n, little endian (Steele, Lea and Flood, "Fast
//! splittable pseudorandom number generators", OOPSLA 2014).

/// Bytes that one number gives.
const WORD: u64 = 8;

/// Writes the bytes from `offset` on.
pub(crate) fn fill(offset: u64, room: &mut [u8]) {
    let lead = ((WORD - offset % WORD) % WORD).min(room.len() as u64) as usize;
    let (lead, rest) = room.split_at_mut(lead);
    copy_from(offset, lead);
    let mut n = offset.div_ceil(WORD);
    let mut words = rest.chunks_exact_mut(WORD as usize);
    for out in &mut words {
        out.copy_from_slice(&word(n).to_le_bytes());
        n += 1;
    }
    copy_from(n * WORD, words.into_remainder());
}

/// Less than a word.
fn copy_from(offset: u64, room: &mut [u8]) {
    let bytes = word(offset / WORD).to_le_bytes();
    room.iter_mut().zip(bytes.iter().skip((offset % WORD) as usize)).for_each(|(out, byte)| *out = *byte);
}

#[inline]
fn word(n: u64) -> u64 {
    let z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_a_part_of_the_whole() {
        let mut whole = [0; 100];
        fill(0, &mut whole);
        for from in 0..50 {
            for len in 0..40 {
                let mut part = vec![0; len];
                fill(from as u64, &mut part);
                assert_eq!(part, whole[from..from + len], "{len} bytes from {from}");
            }
        }
    }

    #[test]
    fn numbers_are_those_of_splitmix64_from_seed_0() {
        let mut bytes = [0; 16];
        fill(0, &mut bytes);
        assert_eq!(bytes[..8], 0xe220_a839_7b1d_cdaf_u64.to_le_bytes());
        assert_eq!(bytes[8..], 0x6e78_9e6a_a1b9_65f4_u64.to_le_bytes());
    }
}
