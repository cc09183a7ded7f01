//! Sequence numbers (RFC 9293 §3.4).

use core::ops::{Add, AddAssign, Sub};

/// Position in TCP's 32-bit circular sequence space. It has no order: compare with
/// [`before`](Self::before) and its like, which hold for positions less than half a circle apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// Bytes from `earlier` to `self`; negative if it is not earlier.
    #[inline]
    pub const fn distance(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }

    /// Bytes from `earlier` to `self`, which is not before it.
    #[inline]
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    #[inline]
    pub const fn before(self, other: Self) -> bool {
        self.distance(other) < 0
    }

    #[inline]
    pub const fn after(self, other: Self) -> bool {
        other.before(self)
    }

    #[inline]
    pub const fn at_or_before(self, other: Self) -> bool {
        !other.before(self)
    }

    #[inline]
    pub const fn at_or_after(self, other: Self) -> bool {
        !self.before(other)
    }

    /// Whether it lies among the `len` positions from `start` on.
    #[inline]
    pub const fn within(self, start: Self, len: u32) -> bool {
        self.since(start) < len
    }

    #[inline]
    pub const fn earlier(self, other: Self) -> Self {
        if self.before(other) { self } else { other }
    }

    #[inline]
    pub const fn later(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }
}

impl Add<u32> for SeqNum {
    type Output = Self;

    #[inline]
    fn add(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }
}

impl AddAssign<u32> for SeqNum {
    #[inline]
    fn add_assign(&mut self, n: u32) {
        *self = *self + n;
    }
}

impl Sub<u32> for SeqNum {
    type Output = Self;

    #[inline]
    fn sub(self, n: u32) -> Self {
        Self(self.0.wrapping_sub(n))
    }
}
