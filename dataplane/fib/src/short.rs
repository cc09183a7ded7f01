//! A root slot in 16 bits: half the memory to miss in, where nearly all matches end at the root.

use crate::entry::Entry;
use crate::next_hop::NextHop;

/// ```text
///    15  14  13                0
///   +---+---+-------------------+
///   | G | 1 | index             |   leaf: an adjacency (G = 0) or a next hop group (G = 1)
///   +---+---+-------------------+
///   | 0 | 0 | first unit        |   child
///   +---+---+-------------------+
/// ```
/// All zero: the root slot itself must be asked. It is empty, or its index or unit is too large for this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct Short(pub(crate) u16);

const GROUP: u16 = 1 << 15;
const LEAF: u16 = 1 << 14;
const NUMBER: u16 = LEAF - 1;
/// Bit 23 of a next hop comes to bit 15.
const GROUP_SHIFT: u32 = NextHop::GROUP.trailing_zeros() - GROUP.trailing_zeros();

impl Short {
    pub(crate) fn of(entry: Entry) -> Self {
        if entry.is_child() {
            return Self(u16::try_from(entry.unit()).ok().filter(|&unit| unit <= NUMBER).unwrap_or(0));
        }
        let value = entry.next_hop().value();
        let short = Self(LEAF | value as u16 & NUMBER | (value >> GROUP_SHIFT) as u16 & GROUP);
        if value != 0 && short.next_hop().value() == value { short } else { Self(0) }
    }

    /// Whether the match ends here.
    #[inline(always)]
    pub(crate) fn is_leaf(self) -> bool {
        self.0 & LEAF != 0
    }

    /// The next hop of a leaf.
    #[inline(always)]
    pub(crate) fn next_hop(self) -> NextHop {
        NextHop::from_low_bits(u32::from(self.0 & NUMBER) | u32::from(self.0 & GROUP) << GROUP_SHIFT)
    }

    /// Where the child lies, unless this is a leaf or the root slot must be asked.
    #[inline(always)]
    pub(crate) fn unit(self) -> Option<u32> {
        (self.0 != 0 && !self.is_leaf()).then_some(u32::from(self.0))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_is_told_rightly_or_left_to_the_root() {
        for value in (1..=NextHop::MAX).step_by(0x77).chain(1..0x4010).chain(0x7f_fff0..0x80_4010) {
            let next_hop = NextHop::new(value).unwrap();
            let short = Short::of(Entry::leaf(next_hop, 24));
            assert_eq!(short.is_leaf(), value & 0x7f_c000 == 0, "{value:#x}");
            assert!(!short.is_leaf() || short.next_hop() == next_hop, "{value:#x}");
            assert_eq!(short.unit(), None);
        }
    }

    #[test]
    fn children_are_found_or_left_to_the_root() {
        for unit in [1, 2, 0x3fff, 0x4000, 0x4001, 0xffff, 0x1_0001, 0x3fff_ffff] {
            let short = Short::of(Entry::child(unit));
            assert_eq!(short.unit(), (unit <= 0x3fff).then_some(unit));
            assert!(!short.is_leaf());
        }
        assert_eq!(Short::of(Entry::EMPTY), Short(0));
    }
}
