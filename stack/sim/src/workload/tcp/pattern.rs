//! What streams consist of: bytes that look random and come again after a prime number of them, far above any segment, so
//! that no shift by segments or windows goes unnoticed.

const PERIOD: usize = 65_521;

static TABLE: [u8; PERIOD] = {
    let mut table = [0; PERIOD];
    let mut at = 0;
    while at < PERIOD {
        // Knuth's multiplicative hash; its upper bits mix all of the lower ones.
        table[at] = ((at as u32).wrapping_mul(2_654_435_761) >> 24) as u8;
        at += 1;
    }
    table
};

/// The pattern from `offset` on, in pieces that add up to `len`.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = &'static [u8]> {
    let (mut offset, mut left) = (offset, len);
    std::iter::from_fn(move || {
        let start = (offset % PERIOD as u64) as usize;
        let piece = TABLE.get(start..(start + left).min(PERIOD)).filter(|piece| !piece.is_empty())?;
        offset += piece.len() as u64;
        left -= piece.len();
        Some(piece)
    })
}

pub(super) fn fill(offset: u64, room: &mut [u8]) {
    let mut rest = room;
    for piece in pieces(offset, rest.len()) {
        let (now, later) = rest.split_at_mut(piece.len());
        now.copy_from_slice(piece);
        rest = later;
    }
}

/// Bytes that are not what the pattern has there.
pub(super) fn differences(offset: u64, bytes: &[u8]) -> u64 {
    let mut rest = bytes;
    let mut differences = 0;
    for piece in pieces(offset, bytes.len()) {
        let (now, later) = rest.split_at(piece.len());
        if now != piece {
            differences += now.iter().zip(piece).filter(|(is, should)| is != should).count() as u64;
        }
        rest = later;
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_filled_is_right_at_its_place_and_wrong_elsewhere() {
        for (offset, len) in [(0, 10), (65_520, 3), (7, 200_000), (1 << 40, 1_448)] {
            let mut bytes = vec![0; len];
            fill(offset, &mut bytes);
            assert_eq!(differences(offset, &bytes), 0);
            for shift in [1, 251, 536, 1_004, 1_448, 2_048, 65_536] {
                let found = differences(offset + shift, &bytes);
                assert!(found * 10 >= len as u64 * 9, "{found} of {len} differ after {shift}");
            }
            bytes[len / 2] ^= 1;
            assert_eq!(differences(offset, &bytes), 1);
        }
    }
}
