//! The Internet checksum's sum over many bytes, and over bytes that are copied, with what the CPU has for it.
//!
//! AVX-512 VNNI adds products of bytes to 32-bit lanes: with ones and zeros as the other factors it adds up the bytes at even
//! and at odd addresses, 64 in two instructions. Elsewhere the stack's own loop does it.

use tailwater_stack::checksum::{self, Sum};

/// Shorter pieces take no longer in words than lanes take to be added up in the end.
const WIDE_MIN: usize = 192;

/// As [`Sum::with`] of a new sum.
#[inline(always)]
pub(super) fn sum(bytes: &[u8]) -> Sum {
    if bytes.len() >= WIDE_MIN { sum_long(bytes) } else { checksum::sum(bytes) }
}

/// Not where it is called, so that short pieces can be summed up there.
#[inline(never)]
fn sum_long(bytes: &[u8]) -> Sum {
    #[cfg(target_arch = "x86_64")]
    if wide::is_there() {
        return wide::sum(bytes);
    }
    checksum::sum(bytes)
}

/// As [`checksum::copy`].
#[inline]
pub(super) fn copy(to: &mut [u8], from: &[u8]) -> Sum {
    #[cfg(target_arch = "x86_64")]
    if from.len() >= WIDE_MIN && wide::is_there() {
        return wide::copy(to, from);
    }
    checksum::copy(to, from)
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod wide {
    use std::arch::x86_64::{
        __m512i, _mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_mask_storeu_epi8,
        _mm512_maskz_loadu_epi8, _mm512_reduce_add_epi32, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_storeu_si512,
    };

    use tailwater_stack::checksum::Sum;

    const BLOCK: usize = 64;
    /// Lanes of 32 bits take 510 for each block, and all sixteen are added up in 32 bits: more is taken in pieces.
    const PIECE_MAX: usize = 1 << 20;

    #[inline]
    pub(super) fn is_there() -> bool {
        is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw")
    }

    pub(super) fn sum(bytes: &[u8]) -> Sum {
        let piece = |bytes: &[u8]| {
            // SAFETY: the caller has seen that the CPU can; nothing is written.
            let lanes = unsafe { add_up(bytes.as_ptr(), std::ptr::null_mut(), bytes.len()) };
            Sum::of_addresses(lanes.0, lanes.1, bytes.len())
        };
        if bytes.len() <= PIECE_MAX {
            return piece(bytes);
        }
        bytes.chunks(PIECE_MAX).map(piece).fold(Sum::new(), Sum::and)
    }

    pub(super) fn copy(to: &mut [u8], from: &[u8]) -> Sum {
        let piece = |(to, from): (&mut [u8], &[u8])| {
            let len = to.len().min(from.len());
            // SAFETY: the caller has seen that the CPU can; both slices have `len` bytes, and `to` is exclusive.
            let lanes = unsafe { add_up(from.as_ptr(), to.as_mut_ptr(), len) };
            Sum::of_addresses(lanes.0, lanes.1, len)
        };
        if from.len() <= PIECE_MAX {
            return piece((to, from));
        }
        to.chunks_mut(PIECE_MAX).zip(from.chunks(PIECE_MAX)).map(piece).fold(Sum::new(), Sum::and)
    }

    /// Sums of the bytes at even and at odd offsets, in 32-bit lanes.
    type Lanes = [__m512i; 2];

    /// Blocks whose sums do not wait for each other: an addition of products takes five cycles, a block is there in less.
    const ABREAST: usize = 4;

    /// The sums of the bytes at even and at odd offsets; copies them to `to`, unless that is null.
    ///
    /// # Safety
    /// `from` is valid for reading, `to` null or valid for writing `len` bytes, and they do not overlap.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    unsafe fn add_up(from: *const u8, to: *mut u8, len: usize) -> (u32, u32) {
        let mut lanes: [Lanes; ABREAST] = [[_mm512_setzero_si512(); 2]; ABREAST];
        let mut at = 0;
        while at + ABREAST * BLOCK <= len {
            for (n, lanes) in lanes.iter_mut().enumerate() {
                // SAFETY: `at + ABREAST * BLOCK` bytes lie within both.
                unsafe { add_block(from, to, at + n * BLOCK, lanes) };
            }
            at += ABREAST * BLOCK;
        }
        for lanes in &mut lanes {
            if at + BLOCK > len {
                break;
            }
            // SAFETY: `at + BLOCK` bytes lie within both.
            unsafe { add_block(from, to, at, lanes) };
            at += BLOCK;
        }
        if at < len {
            let mask = u64::MAX >> (BLOCK - (len - at));
            // SAFETY: the mask leaves out what lies behind `len`.
            let block = unsafe { _mm512_maskz_loadu_epi8(mask, from.add(at).cast()) };
            add(&mut lanes[0], block);
            if !to.is_null() {
                // SAFETY: as above.
                unsafe { _mm512_mask_storeu_epi8(to.add(at).cast(), mask, block) };
            }
        }
        let sum = |which: usize| {
            let [a, b, c, d] = lanes.map(|lanes| lanes[which]);
            _mm512_reduce_add_epi32(_mm512_add_epi32(_mm512_add_epi32(a, b), _mm512_add_epi32(c, d))) as u32
        };
        (sum(0), sum(1))
    }

    /// Adds, and copies unless `to` is null, a whole block.
    ///
    /// # Safety
    /// As for [`add_up`], up to the block's end.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    unsafe fn add_block(from: *const u8, to: *mut u8, at: usize, lanes: &mut Lanes) {
        // SAFETY: passed on from the caller.
        let block = unsafe { _mm512_loadu_si512(from.add(at).cast()) };
        add(lanes, block);
        if !to.is_null() {
            // SAFETY: passed on from the caller.
            unsafe { _mm512_storeu_si512(to.add(at).cast(), block) };
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn add(lanes: &mut Lanes, block: __m512i) {
        lanes[0] = _mm512_dpbusd_epi32(lanes[0], block, _mm512_set1_epi32(0x0001_0001));
        lanes[1] = _mm512_dpbusd_epi32(lanes[1], block, _mm512_set1_epi32(0x0100_0100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_copies_are_the_same_as_the_stacks_own_at_every_length_and_place() {
        let bytes: Vec<u8> = (0..5_000u32).map(|at| (at * 31 + at / 251) as u8).collect();
        for from in [0, 1, 7] {
            for len in (0..400).chain([1_447, 1_448, 1_460, 4_096]) {
                let piece = &bytes[from..from + len];
                let mut to = vec![0; len + 2];
                assert_eq!(sum(piece).checksum(), checksum::of(piece), "{len} bytes from {from}");
                assert_eq!(copy(&mut to[1..=len], piece).checksum(), checksum::of(piece), "{len} bytes from {from}");
                assert_eq!((&to[1..=len], to[0], to[len + 1]), (piece, 0, 0));
            }
        }
    }

    #[test]
    fn the_largest_bytes_do_not_overflow() {
        let bytes = vec![0xff; 3 << 20];
        assert_eq!(sum(&bytes).checksum(), checksum::of(&bytes));
        assert_eq!(copy(&mut vec![0; bytes.len()], &bytes).folded(), Sum::new().with(&bytes).folded());
    }
}
