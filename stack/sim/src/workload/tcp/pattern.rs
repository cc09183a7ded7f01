//! What streams consist of: byte n is n modulo a prime, so that no shift by segments or windows goes unnoticed.

const PERIOD: usize = 251;
/// Whole periods, and more than a segment.
const TABLE_LEN: usize = PERIOD * 40;

static TABLE: [u8; TABLE_LEN] = {
    let mut table = [0; TABLE_LEN];
    let mut at = 0;
    while at < TABLE_LEN {
        table[at] = (at % PERIOD) as u8;
        at += 1;
    }
    table
};

/// The pattern from `offset` on, in pieces that add up to `len`.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = &'static [u8]> {
    let (mut offset, mut left) = (offset, len);
    std::iter::from_fn(move || {
        let start = (offset % PERIOD as u64) as usize;
        let piece = TABLE.get(start..(start + left).min(TABLE_LEN)).filter(|piece| !piece.is_empty())?;
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
        for (offset, len) in [(0, 10), (250, 3), (7, 20_000), (1 << 40, 1_448)] {
            let mut bytes = vec![0; len];
            fill(offset, &mut bytes);
            assert_eq!(differences(offset, &bytes), 0);
            assert_eq!(differences(offset + 1_448, &bytes), len as u64);
            bytes[len / 2] ^= 1;
            assert_eq!(differences(offset, &bytes), 1);
        }
    }
}
