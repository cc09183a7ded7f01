//! One slot of a table, in 32 bits.

use crate::next_hop::NextHop;
use crate::node::STRIDE;

/// ```text
///    31  30        24 23                            0
///   +---+------------+-------------------------------+
///   | 0 | length - 1 | next hop, 0 = no route        |   leaf: length of the prefix it comes from, 1 to 128
///   +---+------------+-------------------------------+
///   | 1 | S | first unit of a node                   |   child: a level down, or (S = 1) its lower storey
///   +---+---+----------------------------------------+
/// ```
/// All zero, as fresh memory is, means no route. The default route is kept outside, see `trie`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct Entry(pub(crate) u32);

const CHILD: u32 = 1 << 31;
const LOWER: u32 = 1 << 30;
/// Units that a child can name.
pub(crate) const UNITS_MAX: u32 = 1 << 30;

impl Entry {
    pub(crate) const EMPTY: Self = Self(0);

    pub(crate) fn leaf(next_hop: NextHop, prefix_len: u8) -> Self {
        debug_assert!((1..=128).contains(&prefix_len) && !next_hop.is_none());
        Self(u32::from(prefix_len - 1) << 24 | next_hop.value())
    }

    pub(crate) fn child(unit: u32) -> Self {
        debug_assert!((1..UNITS_MAX).contains(&unit));
        Self(CHILD | unit)
    }

    /// A child that decides the same bits again, within its group of slots.
    pub(crate) fn lower_storey(unit: u32) -> Self {
        Self(Self::child(unit).0 | LOWER)
    }

    #[inline]
    pub(crate) fn is_child(self) -> bool {
        self.0 & CHILD != 0
    }

    #[inline]
    pub(crate) fn is_lower_storey(self) -> bool {
        self.0 & (CHILD | LOWER) == CHILD | LOWER
    }

    /// Bits that the way to this child has decided; anything for a leaf.
    #[inline]
    pub(crate) fn bits_decided(self) -> u8 {
        if self.0 & LOWER == 0 { STRIDE } else { 0 }
    }

    /// Where the child lies, if this is one.
    #[inline]
    pub(crate) fn unit(self) -> u32 {
        self.0 & (UNITS_MAX - 1)
    }

    /// Length of the prefix behind a leaf; 1 where there is none, which any route may overwrite.
    #[inline]
    pub(crate) fn prefix_len(self) -> u8 {
        ((self.0 >> 24) & 0x7f) as u8 + 1
    }

    #[inline]
    pub(crate) fn next_hop(self) -> NextHop {
        NextHop::from_low_bits(self.0)
    }
}
