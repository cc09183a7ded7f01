//! What a frame knows about its packet, in one word.
//!
//! ```text
//!  63     56 55      48 47        32 31  30    16 15         0
//! +---------+----------+------------+---+--------+------------+
//! |  flags  |    l3    |    port    | u |  head  |    len     |
//! +---------+----------+------------+---+--------+------------+
//!                                     unsummed
//! ```
//!
//! A frame is then a pointer and a word, which travel in two registers. As separate fields they were assembled by small
//! stores and fetched by one wide load, which stalls the store buffer at every hand-over.

/// The packet goes on in further chunks.
pub(super) const CHAINED: u8 = 1;
/// The chunk has 4096 bytes, not 2048.
pub(super) const LARGE_CHUNK: u8 = 2;
/// One of two handles on the chunk: see [`sharing`](super::sharing).
pub(super) const SHARED: u8 = 4;
/// Of the two, the one that is sent.
pub(super) const LENT: u8 = 8;
/// The number of a slot in a trace; 0 while the packet is not traced.
pub(super) const TRACE_SLOT: u8 = 0b1111_0000;
pub(super) const TRACE_SHIFT: u32 = 4;

const HEAD_SHIFT: u32 = 16;
const HEAD_MASK: u64 = 0x7fff;
const UNSUMMED: u64 = 1 << 31;
const PORT_SHIFT: u32 = 32;
const L3_SHIFT: u32 = 48;
const FLAGS_SHIFT: u32 = 56;

/// What a packet keeps wherever it is taken: length, headroom, and what it consists of.
const OF_PACKET: u64 =
    0xffff | HEAD_MASK << HEAD_SHIFT | ((CHAINED | LARGE_CHUNK | SHARED | LENT) as u64) << FLAGS_SHIFT;

#[derive(Clone, Copy, Default)]
pub(super) struct Layout(u64);

impl Layout {
    #[inline]
    pub(super) fn new(head: usize, len: usize, flags: u8) -> Self {
        debug_assert!(head <= 4096 && len <= 4096);
        Self(len as u64 | (head as u64) << HEAD_SHIFT | u64::from(flags) << FLAGS_SHIFT)
    }

    /// Without what was noted about the packet here.
    #[inline]
    pub(super) fn of_packet(self) -> Self {
        Self(self.0 & OF_PACKET)
    }

    /// The bits in which two differ.
    #[inline]
    pub(super) fn xor(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }

    /// The bits of both.
    #[inline]
    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Bytes of the first segment.
    #[inline]
    pub(super) fn len(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    /// Offset of the packet in its chunk.
    #[inline]
    pub(super) fn head(self) -> usize {
        (self.0 >> HEAD_SHIFT & HEAD_MASK) as usize
    }

    #[inline]
    pub(super) fn port(self) -> u16 {
        (self.0 >> PORT_SHIFT) as u16
    }

    /// Offset of the network header in the packet.
    #[inline]
    pub(super) fn l3(self) -> usize {
        (self.0 >> L3_SHIFT & 0xff) as usize
    }

    #[inline]
    pub(super) fn flags(self) -> u8 {
        (self.0 >> FLAGS_SHIFT) as u8
    }

    /// The checksum of the TCP segment was left undone.
    #[inline]
    pub(super) fn is_unsummed(self) -> bool {
        self.0 & UNSUMMED != 0
    }

    #[inline]
    pub(super) fn set_unsummed(&mut self, unsummed: bool) {
        self.0 = self.0 & !UNSUMMED | if unsummed { UNSUMMED } else { 0 };
    }

    #[inline]
    pub(super) fn set_len(&mut self, len: usize) {
        self.0 = self.0 & !0xffff | (len as u64 & 0xffff);
    }

    /// With `n` bytes more in front of the packet, for which there must be room.
    #[inline]
    pub(super) fn grown_in_front(self, n: usize) -> Self {
        debug_assert!(n <= self.head() && self.len() + n <= 4096);
        Self(self.0 + n as u64 - ((n as u64) << HEAD_SHIFT))
    }

    /// With `n` bytes less at the front, which the packet must have.
    #[inline]
    pub(super) fn cut_in_front(self, n: usize) -> Self {
        debug_assert!(n <= self.len() && self.head() + n <= 4096);
        Self(self.0 - n as u64 + ((n as u64) << HEAD_SHIFT))
    }

    #[inline]
    pub(super) fn set_port(&mut self, port: u16) {
        self.0 = self.0 & !(0xffff << PORT_SHIFT) | u64::from(port) << PORT_SHIFT;
    }

    #[inline]
    pub(super) fn set_l3(&mut self, offset: u8) {
        self.0 = self.0 & !(0xff << L3_SHIFT) | u64::from(offset) << L3_SHIFT;
    }

    #[inline]
    pub(super) fn with(self, flags: u8) -> Self {
        Self(self.0 | u64::from(flags) << FLAGS_SHIFT)
    }

    #[inline]
    pub(super) fn without(self, flags: u8) -> Self {
        Self(self.0 & !(u64::from(flags) << FLAGS_SHIFT))
    }

    #[inline]
    pub(super) fn set_flags(&mut self, flags: u8) {
        self.0 = self.0 & !(0xff << FLAGS_SHIFT) | u64::from(flags) << FLAGS_SHIFT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_touch_each_other() {
        let mut layout = Layout::new(320, 60, LARGE_CHUNK);
        layout.set_port(0xfffe);
        layout.set_l3(255);
        layout.set_len(3840);
        layout.set_unsummed(true);
        layout = layout.cut_in_front(44).grown_in_front(300);
        layout.set_flags(CHAINED);
        assert_eq!((layout.len(), layout.head(), layout.port()), (4096, 64, 0xfffe));
        assert_eq!((layout.l3(), layout.flags()), (255, CHAINED));
        assert!(layout.is_unsummed());
        layout.set_port(0);
        layout.set_unsummed(false);
        assert_eq!((layout.len(), layout.head(), layout.l3(), layout.flags()), (4096, 64, 255, CHAINED));
        assert!(!layout.is_unsummed());
        layout.set_unsummed(true);
        layout.set_port(9);
        let elsewhere = layout.of_packet();
        assert_eq!((elsewhere.len(), elsewhere.head(), elsewhere.flags()), (4096, 64, CHAINED));
        assert_eq!((elsewhere.port(), elsewhere.l3(), elsewhere.is_unsummed()), (0, 0, false));
    }
}
