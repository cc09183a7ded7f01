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
