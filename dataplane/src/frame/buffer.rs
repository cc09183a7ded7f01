//! A frame as the stack sees it.

use tailwater_stack::checksum::Sum;
use tailwater_stack::{Buffer, NoRoom};

use super::{CHAIN_MAX, Frame};

impl Buffer for Frame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        Frame::bytes(self)
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        Frame::bytes_mut(self)
    }

    #[inline]
    fn len(&self) -> usize {
        self.total_len()
    }

    #[inline]
    fn contiguous(&self) -> bool {
        !self.is_chained()
    }

    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        Frame::segments(self)
    }

    #[inline]
    fn headroom(&self) -> usize {
        Frame::headroom(self)
    }

    #[inline]
    fn tailroom(&self) -> usize {
        if self.is_chained() { 0 } else { Frame::tailroom(self) }
    }

    #[inline]
    fn prepend(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        self.claim(n).ok_or(NoRoom)
    }

    #[inline]
    fn append(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        self.extend(n).ok_or(NoRoom)
    }

    #[inline]
    fn trim_front(&mut self, n: usize) -> Result<(), NoRoom> {
        Frame::trim_front(self, n).map_err(|_| NoRoom)
    }

    #[inline(always)]
    fn sum(bytes: &[u8]) -> Sum {
        super::sum::sum(bytes)
    }

    #[inline]
    fn copy(to: &mut [u8], from: &[u8]) -> Sum {
        super::sum::copy(to, from)
    }

    fn truncate(&mut self, len: usize) {
        Frame::truncate(self, len);
    }

    fn chain(&mut self, tail: Self) -> Result<(), Self> {
        self.append_within(CHAIN_MAX, tail)
    }
}
