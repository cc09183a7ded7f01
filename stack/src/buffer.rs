//! What a frame looks like to the stack.

use crate::checksum::{self, Sum};

/// The buffer has not as many bytes, or not as much room, as were asked for. Nothing changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRoom;

/// Bytes the stack may put in front of a payload: Ethernet 14, VLAN 4, IPv6 40, fragment 8,
/// TCP with all options 60. What [`Env::allocate`](crate::Env::allocate) gives must have as much.
pub const HEADROOM: usize = 128;

/// An owned frame: move-only, always in exactly one place.
///
/// ```text
///   |<- headroom ->|<------- bytes ------->|<- tailroom ->|   first segment
///                  |<------------- segment -------------->|   further segments (jumbo, reassembled)
/// ```
/// All headers lie in the first segment, and only that can grow. Frames of one segment are the
/// rule; everything but [`chain`](Buffer::chain) and the copy helpers works on the first.
pub trait Buffer: Sized {
    /// The first segment.
    fn bytes(&self) -> &[u8];

    /// The first segment.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Length of all segments.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is one segment only.
    fn contiguous(&self) -> bool {
        self.bytes().len() == self.len()
    }

    /// Every segment, the first included, in order.
    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        core::iter::once(self.bytes())
    }

    /// Bytes that [`prepend`](Buffer::prepend) can give.
    fn headroom(&self) -> usize;

    /// Bytes that [`append`](Buffer::append) can give; 0 if there are several segments.
    fn tailroom(&self) -> usize;

    /// Grows the front by `n` bytes of any content and returns these.
    fn prepend(&mut self, n: usize) -> Result<&mut [u8], NoRoom>;

    /// Grows the end by `n` bytes of any content and returns these.
    fn append(&mut self, n: usize) -> Result<&mut [u8], NoRoom>;

    /// Takes `n` bytes off the front; they must lie in the first segment, and become headroom.
    fn trim_front(&mut self, n: usize) -> Result<(), NoRoom>;

    /// Shortens to `len` bytes in all, giving up segments that are then empty. Never grows.
    fn truncate(&mut self, len: usize);

    /// Makes the segments of `tail` this frame's last ones, or gives `tail` back if frames of this
    /// kind, or with this many segments, cannot.
    fn chain(&mut self, tail: Self) -> Result<(), Self> {
        Err(tail)
    }

    /// The sum of `bytes` for a checksum, where there is a faster way than [`Sum::with`](checksum::Sum::with).
    #[inline]
    fn sum(bytes: &[u8]) -> Sum {
        checksum::sum(bytes)
    }

    /// Likewise for [`checksum::copy`].
    #[inline]
    fn copy(to: &mut [u8], from: &[u8]) -> Sum {
        checksum::copy(to, from)
    }

    /// Copies `to.len()` bytes from `offset` on, over segment borders.
    fn read_at(&self, offset: usize, to: &mut [u8]) -> Result<(), NoRoom> {
        if offset.checked_add(to.len()).is_none_or(|end| end > self.len()) {
            return Err(NoRoom);
        }
        let mut skip = offset;
        let mut to = to;
        for segment in self.segments() {
            let Some(from) = segment.get(skip..) else {
                skip -= segment.len();
                continue;
            };
            skip = 0;
            let n = from.len().min(to.len());
            let (now, later) = to.split_at_mut(n);
            now.copy_from_slice(from.get(..n).ok_or(NoRoom)?);
            to = later;
            if to.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// The pieces of the `len` bytes from `offset` on, one per segment they touch.
    fn pieces(&self, offset: usize, len: usize) -> impl Iterator<Item = &[u8]> {
        let mut skip = offset;
        let mut left = len;
        self.segments().map_while(move |segment| {
            if left == 0 {
                return None;
            }
            let from = skip.min(segment.len());
            skip -= from;
            let rest = segment.get(from..)?;
            let piece = rest.get(..left.min(rest.len()))?;
            left -= piece.len();
            Some(piece)
        })
    }
}
