//! The Internet checksum (RFC 1071), its pseudo headers and its incremental update (RFC 1624).
//!
//! A checksum is `[u8; 2]` in memory order: what lies in the packet. One's-complement addition does
//! not care about byte order (RFC 1071 §2(B)), so sums are taken over native words and never
//! swapped; only values given as numbers are brought into memory order first.

use core::net::{Ipv4Addr, Ipv6Addr};

/// A one's-complement sum in progress, over pieces of any length.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sum {
    /// Sum of native 32-bit words, not folded; 2^32 of them fit.
    words: u64,
    /// An odd number of bytes came before: the next piece counts with its bytes swapped.
    odd: bool,
}

impl Sum {
    pub const fn new() -> Self {
        Self { words: 0, odd: false }
    }

    #[must_use]
    #[inline]
    pub fn with(self, bytes: &[u8]) -> Self {
        let mut sum = fold(sum_native(bytes));
        // RFC 1071 §2(B): the sum of swapped words is the swapped sum.
        if self.odd {
            sum = sum.swap_bytes();
        }
        Self { words: u64::from(fold(self.words)) + u64::from(sum), odd: self.odd != (bytes.len() % 2 == 1) }
    }

    /// As [`with`](Self::with), for whole words behind an even number of bytes: headers.
    #[must_use]
    #[inline]
    pub fn with_words(self, bytes: &[u8]) -> Self {
        debug_assert!(!self.odd && bytes.len().is_multiple_of(4));
        let (words, _) = bytes.as_chunks::<4>();
        let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
        Self { words: self.words + sum, odd: false }
    }

    /// With header words, behind an even number of bytes, as numbers in memory order.
    #[must_use]
    #[inline]
    pub fn with_native<const N: usize>(self, words: [u32; N]) -> Self {
        debug_assert!(!self.odd);
        let sum: u64 = words.into_iter().map(u64::from).sum();
        Self { words: self.words + sum, odd: false }
    }

    /// With what `later` sums up, of the bytes that follow.
    #[must_use]
    #[inline]
    pub fn and(self, later: Self) -> Self {
        // Headers come before nearly all that is added: nothing is swapped, and need not be folded.
        let sum = if self.odd { u64::from(fold(later.words).swap_bytes()) } else { later.words };
        Self { words: self.words + sum, odd: self.odd != later.odd }
    }

    /// Of `len` bytes, of which those at even offsets add up to `even`, the others to `odd`.
    #[inline]
    pub fn of_addresses(even: u32, odd: u32, len: usize) -> Self {
        let (first, second) = if cfg!(target_endian = "little") { (even, odd) } else { (odd, even) };
        Self { words: u64::from(first) + (u64::from(second) << 8), odd: len % 2 == 1 }
    }

    /// The sum in 16 bits, in memory order, to be kept: of bytes that begin at an even offset.
    #[inline]
    pub fn folded(self) -> u16 {
        fold(self.words)
    }

    /// With a sum that was kept, of the bytes that follow to the end.
    #[must_use]
    #[inline]
    pub fn with_folded(self, sum: u16) -> Self {
        self.and(Self { words: sum.into(), odd: false })
    }

    /// Adds a 16-bit number at an even offset.
    #[must_use]
    pub fn with_u16(self, value: u16) -> Self {
        debug_assert!(!self.odd);
        Self { words: self.words + u64::from(value.to_be()), ..self }
    }

    /// RFC 768: source, destination, zero, protocol, length of the upper-layer packet.
    #[must_use]
    #[inline]
    pub fn pseudo_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, len: usize) -> Self {
        Self {
            words: u64::from(u32::from_ne_bytes(source.octets()))
                + u64::from(u32::from_ne_bytes(destination.octets()))
                + u64::from(u16::from(protocol).to_be())
                + u64::from((len as u16).to_be()),
            odd: false,
        }
    }

    /// RFC 8200 §8.1: source, destination, length of the upper-layer packet, zero, next header.
    #[must_use]
    #[inline]
    pub fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, len: usize) -> Self {
        let words = sum_native(&source.octets())
            + sum_native(&destination.octets())
            + u64::from((len as u32).to_be())
            + u64::from(u16::from(protocol).to_be());
        Self { words, odd: false }
    }

    /// The checksum to be stored: the complement of the sum.
    #[inline]
    pub fn checksum(self) -> [u8; 2] {
        (!fold(self.words)).to_ne_bytes()
    }

    /// Whether what was added includes a right checksum.
    #[inline]
    pub fn is_valid(self) -> bool {
        fold(self.words) == 0xffff
    }
}

/// The sum of `bytes`: as [`Sum::with`] of a new one, and less to do.
#[inline(always)]
pub fn sum(bytes: &[u8]) -> Sum {
    Sum { words: sum_native(bytes), odd: bytes.len() % 2 == 1 }
}

/// Copies `from` to `to`, which is as long, and sums it up on the way.
#[inline]
pub fn copy(to: &mut [u8], from: &[u8]) -> Sum {
    debug_assert_eq!(to.len(), from.len());
    if from.len() < LANES_MIN {
        to.copy_from_slice(from);
        return Sum { words: sum_words(from), odd: from.len() % 2 == 1 };
    }
    let (to_blocks, to_rest) = to.as_chunks_mut::<32>();
    let (from_blocks, from_rest) = from.as_chunks::<32>();
    let mut words = 0;
    for (to, from) in to_blocks.chunks_mut(BLOCKS_MAX).zip(from_blocks.chunks(BLOCKS_MAX)) {
        let mut lanes = Lanes::default();
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
            lanes.add(from);
        }
        words += lanes.sum();
    }
    to_rest.copy_from_slice(from_rest);
    Sum { words: words + sum_words(from_rest), odd: from.len() % 2 == 1 }
}

/// The checksum of `bytes`, whose checksum field is zero.
#[inline]
pub fn of(bytes: &[u8]) -> [u8; 2] {
    Sum::new().with(bytes).checksum()
}

/// Whether `bytes`, checksum included, sum up right.
#[inline]
pub fn is_valid(bytes: &[u8]) -> bool {
    Sum::new().with(bytes).is_valid()
}

/// Checksum after a 16-bit field changed. `old` and `new` in memory order.
#[inline]
pub fn update_u16(checksum: [u8; 2], old: [u8; 2], new: [u8; 2]) -> [u8; 2] {
    // RFC 1624 §3, eqn. 3: HC' = ~(~HC + ~m + m').
    let sum = u64::from(!u16::from_ne_bytes(checksum))
        + u64::from(!u16::from_ne_bytes(old))
        + u64::from(u16::from_ne_bytes(new));
    (!fold(sum)).to_ne_bytes()
}

/// Checksum after an aligned 32-bit field (an IPv4 address) changed.
#[inline]
pub fn update_u32(checksum: [u8; 2], old: [u8; 4], new: [u8; 4]) -> [u8; 2] {
    let sum = u64::from(!u16::from_ne_bytes(checksum))
        + u64::from(!u32::from_ne_bytes(old))
        + u64::from(u32::from_ne_bytes(new));
    (!fold(sum)).to_ne_bytes()
}

/// IPv4 header checksum after the TTL, which shares a word with `protocol`, became `new`.
#[inline]
pub fn update_ttl(checksum: [u8; 2], protocol: u8, old: u8, new: u8) -> [u8; 2] {
    update_u16(checksum, [old, protocol], [new, protocol])
}

/// Shorter pieces take no longer in words of 64 bits than lanes take to be added up in the end.
const LANES_MIN: usize = 192;

/// Sum of the native 32-bit words, the last one filled up with zeros. Headers of known length
/// become a few additions where this is called.
#[inline(always)]
fn sum_native(bytes: &[u8]) -> u64 {
    let (blocks, rest) = if bytes.len() < LANES_MIN { (&[][..], bytes) } else { bytes.as_chunks::<32>() };
    let sum = if blocks.is_empty() { 0 } else { sum_blocks(blocks) };
    sum + sum_words(rest)
}

/// The same, of a few words, two at a time. What they carry counts: 2^64 is 1 in one's complement.
#[inline(always)]
fn sum_words(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<32>();
    let (words, rest) = rest.as_chunks::<8>();
    let (mut sum, mut carries) = (0_u64, 0);
    // A loop costs as much as the word that it adds, and a carry that goes on with the next word nothing.
    for block in blocks {
        let mut carry = false;
        for word in block.as_chunks::<8>().0 {
            (sum, carry) = sum.carrying_add(u64::from_ne_bytes(*word), carry);
        }
        carries += u64::from(carry);
    }
    for word in words {
        let (added, carry) = sum.overflowing_add(u64::from_ne_bytes(*word));
        (sum, carries) = (added, carries + u64::from(carry));
    }
    (sum & 0xffff_ffff) + (sum >> 32) + carries + last_words(rest)
}

/// Of less than eight bytes.
#[inline]
fn last_words(bytes: &[u8]) -> u64 {
    // Most text ends with a word.
    if bytes.is_empty() {
        return 0;
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(bytes) {
        *to = *from;
    }
    let last = u64::from_ne_bytes(last);
    (last & 0xffff_ffff) + (last >> 32)
}

/// Blocks that lanes of 32 bits take: as many lower halves of words do not carry beyond.
const BLOCKS_MAX: usize = 1 << 16;

fn sum_blocks(blocks: &[[u8; 32]]) -> u64 {
    let sum_few = |blocks: &[[u8; 32]]| {
        let mut lanes = Lanes::default();
        blocks.iter().for_each(|block| lanes.add(block));
        lanes.sum()
    };
    blocks.chunks(BLOCKS_MAX).map(sum_few).sum()
}

/// Eight independent lanes, which the compiler turns into vector additions: sums of words, modulo 2^32, and of their upper
/// halves. The lower halves are what is left. To widen each word would take more than to add its half up twice.
#[derive(Default)]
struct Lanes {
    words: [u32; 8],
    upper: [u32; 8],
}

impl Lanes {
    #[inline(always)]
    fn add(&mut self, block: &[u8; 32]) {
        let (words, _) = block.as_chunks::<4>();
        for ((sum, upper), word) in self.words.iter_mut().zip(&mut self.upper).zip(words) {
            let word = u32::from_ne_bytes(*word);
            *sum = sum.wrapping_add(word);
            *upper = upper.wrapping_add(word >> 16);
        }
    }

    fn sum(&self) -> u64 {
        let word_sum = |(words, upper): (&u32, &u32)| {
            let lower = words.wrapping_sub(upper << 16);
            u64::from(lower) + (u64::from(*upper) << 16)
        };
        self.words.iter().zip(&self.upper).map(word_sum).sum()
    }
}

/// Folds carries until 16 bits remain. Zero only if every word was zero.
#[inline]
fn fold(sum: u64) -> u16 {
    // The upper half of a number plus itself turned around is both halves with the carry of the lower one.
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}
