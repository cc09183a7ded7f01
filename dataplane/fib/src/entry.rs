//! One slot of a table, in 32 bits.

use crate::next_hop::NextHop;

/// ```text
///    31  30        24 23                            0
///   +---+------------+-------------------------------+
///   | 0 | length - 1 | next hop, 0 = no route        |   leaf: length of the prefix it comes from, 1 to 128
///   +---+------------+-------------------------------+
///   | 1 | first unit of the node one level down      |   child
///   +---+--------------------------------------------+
/// ```
/// All zero, as fresh memory is, means no route. The default route is kept outside, see `trie`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct Entry(pub(crate) u32);

const CHILD: u32 = 1 << 31;

impl Entry {
    pub(crate) const EMPTY: Self = Self(0);

    pub(crate) fn leaf(next_hop: NextHop, prefix_len: u8) -> Self {
        debug_assert!((1..=128).contains(&prefix_len) && !next_hop.is_none());
        Self(u32::from(prefix_len - 1) << 24 | next_hop.value())
    }

    pub(crate) fn child(unit: u32) -> Self {
        debug_assert!((1..CHILD).contains(&unit));
        Self(CHILD | unit)
    }

    #[inline]
    pub(crate) fn is_child(self) -> bool {
        self.0 & CHILD != 0
    }

    /// A word whose top bit is set if this is a child or empty; no child lies at unit 0.
    #[inline]
    pub(crate) fn undecided(self) -> u32 {
        self.0.wrapping_sub(1)
    }

    /// Where the child lies, if this is one.
    #[inline]
    pub(crate) fn unit(self) -> u32 {
        self.0 & !CHILD
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
