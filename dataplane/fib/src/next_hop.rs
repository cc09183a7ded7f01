//! What a prefix points to.

/// Index of an adjacency or of a next hop group: 24 bits, zero reserved.
///
/// ```text
///    23  22                                   0
///   +---+--------------------------------------+
///   | G | index of an adjacency (G = 0)        |
///   |   | or of a next hop group (G = 1)       |
///   +---+--------------------------------------+
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[repr(transparent)]
pub struct NextHop(u32);

impl NextHop {
    /// No route. The one value that no prefix can point to.
    pub const NONE: Self = Self(0);
    /// Largest value; the smallest a prefix can point to is 1.
    pub const MAX: u32 = (1 << 24) - 1;

    /// For this host: always leads to [`crate::Adjacency::Local`].
    pub const LOCAL: Self = Self(1);
    /// Always leads to [`crate::Adjacency::Blackhole`].
    pub const BLACKHOLE: Self = Self(2);
    /// Always leads to [`crate::Adjacency::Unreachable`].
    pub const UNREACHABLE: Self = Self(3);
    /// Always leads to [`crate::Adjacency::Prohibit`].
    pub const PROHIBIT: Self = Self(4);
    /// First index for adjacencies of neighbours.
    pub(crate) const FIRST_FREE: u32 = 5;
    /// Set in the next hops that are groups; also the number of each kind there can be.
    pub(crate) const GROUP: u32 = 1 << 23;

    pub(crate) const fn group(index: u32) -> Self {
        Self((Self::GROUP | index) & Self::MAX)
    }

    /// Whether this is a group of adjacencies.
    #[inline]
    pub const fn is_group(self) -> bool {
        self.0 & Self::GROUP != 0
    }

    /// Index of the group, if this is one.
    #[inline]
    pub(crate) const fn group_index(self) -> Option<u32> {
        if self.0 & Self::GROUP != 0 { Some(self.0 & !Self::GROUP) } else { None }
    }

    /// One of the four that are always there.
    pub(crate) const fn is_fixed(self) -> bool {
        self.0 >= Self::LOCAL.0 && self.0 < Self::FIRST_FREE
    }

    /// `None` if `value` is above [`Self::MAX`].
    pub const fn new(value: u32) -> Option<Self> {
        if value <= Self::MAX { Some(Self(value)) } else { None }
    }

    #[inline]
    pub(crate) const fn from_low_bits(word: u32) -> Self {
        Self(word & Self::MAX)
    }

    #[inline]
    pub const fn value(self) -> u32 {
        self.0
    }

    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}
