//! Frames that are sent and kept at once: TCP's retransmission queue is the frames that left.
//!
//! ```text
//!  chunk        kept: payload, read-only while the other is out
//! | header | headroom . . . . . . .|PPPPPPPPPPPPPPP| |
//!              |HHHHHHHHHHHHHHHHHHH PPPPPPPPPPPPPPP|
//!               lent: writes headers in front of the payload, and only there
//! ```
//! One handle writes: the lent one. Who gets that, in the same process, may lend it on in turn ([`Frame::lend`]): then it only
//! reads, and the next one writes. A count behind the chunk's header says how many handles there are beyond the first; the one
//! that goes last frees the chunk. Wherever a chunk would become free, [`Region::retire`] is asked first; a region in which
//! nothing was ever shared, a forwarder's, answers without looking at the chunk.
//!
//! The lent handle on a packet in several chunks starts with a chunk of its own, which takes the headers; all others are
//! shared and read-only:
//!
//! ```text
//!  kept:        | payload | --> | payload | --> | payload |       its chunks' links lead from chunk to chunk, so that
//!  lent: |HHHH| ----^                                             they are good for both
//! ```
//! Nobody writes the links, lengths and bytes of shared chunks: where the lent handle's packet is shorter than what its chunks
//! hold, only the total length in its own chunk says so.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use tailwater_stack::HEADROOM;

use super::layout::{CHAINED, LENT, SHARED};
use super::{ChunkHeader, Frame, Pool, Region, region};

/// Lies behind [`ChunkHeader`](super::ChunkHeader), and is only ever touched as atomics, by either handle.
#[repr(C)]
struct Sharing {
    /// Handles on the chunk beyond the first.
    further: AtomicU16,
    /// Offset in the chunk from which on it is read-only.
    read_only_from: AtomicU16,
}

impl Sharing {
    #[inline]
    fn add_handle(&self) {
        // A handle that is alone has nobody beside it who could change the count.
        match self.further.load(Ordering::Acquire) {
            0 => self.further.store(1, Ordering::Release),
            _ => _ = self.further.fetch_add(1, Ordering::AcqRel),
        }
    }
}

/// Where it lies in the chunk.
const OFFSET: usize = 32;
const _: () =
    assert!(size_of::<region::ChunkHeader>() <= OFFSET && OFFSET + size_of::<Sharing>() <= region::HEADER_LEN);

/// # Safety
/// `chunk` is the first byte of a chunk of a live region.
#[allow(unsafe_code)]
unsafe fn sharing<'a>(chunk: NonNull<u8>) -> &'a Sharing {
    // SAFETY: the bytes lie in the chunk, are aligned with it, and everybody uses them as these atomics.
    unsafe { chunk.add(OFFSET).cast().as_ref() }
}

impl Frame {
    fn sharing(&self) -> &Sharing {
        // SAFETY: this frame's chunk; the region outlives its frames.
        #[allow(unsafe_code)]
        unsafe {
            sharing(self.chunk_start())
        }
    }

    /// Whether another handle is on the chunk, or any of the chunks.
    #[inline]
    pub(crate) fn is_shared(&self) -> bool {
        self.layout.flags() & SHARED != 0 && self.has_further_handle()
    }

    /// Whether another handle is or was on a chunk of it.
    #[inline]
    pub(super) fn was_shared(&self) -> bool {
        self.layout.flags() & (SHARED | LENT) != 0
    }

    fn has_further_handle(&self) -> bool {
        let is_shared = |chunk: NonNull<u8>| {
            // SAFETY: a chunk of this frame; the region outlives its frames.
            #[allow(unsafe_code)]
            let sharing = unsafe { sharing(chunk) };
            sharing.further.load(Ordering::Acquire) > 0
        };
        // Those of a chain may come home one by one.
        is_shared(self.chunk_start()) || self.chunks_behind().any(|chunk| is_shared(chunk.cast()))
    }

    /// Bytes at the front that may be written.
    #[inline]
    pub(super) fn writable_len(&self) -> usize {
        if self.layout.flags() & SHARED == 0 { self.layout.len() } else { self.shared_writable_len() }
    }

    fn shared_writable_len(&self) -> usize {
        if !self.is_lent() && !self.is_shared() {
            return self.layout.len();
        }
        self.read_only_from().saturating_sub(self.layout.head()).min(self.layout.len())
    }

    /// Bytes in front of the packet that this handle may claim: none for the one that is kept.
    #[inline]
    pub(super) fn claimable(&self) -> usize {
        let is_kept = !self.is_lent() && self.is_shared();
        if is_kept { 0 } else { self.layout.head() - region::HEADER_LEN }
    }

    /// Of the bytes in front of the packet, those that may be written: none where a lent packet was cut off, for its other
    /// handle's lie there, and none for the one that is kept.
    #[inline(always)]
    pub(super) fn writable_in_front(&self) -> usize {
        let is_own = match self.layout.flags() & (SHARED | LENT) {
            SHARED => !self.has_further_handle(),
            // The first chunk of a lent chain is its own.
            0 | LENT => true,
            _ => self.layout.head() <= self.read_only_from(),
        };
        if is_own { self.layout.head() - region::HEADER_LEN } else { 0 }
    }

    #[inline]
    fn read_only_from(&self) -> usize {
        self.sharing().read_only_from.load(Ordering::Relaxed).into()
    }

    /// Whether this is the handle that is sent, while another is kept by who made the packet.
    #[inline]
    pub(crate) fn is_lent(&self) -> bool {
        self.layout.flags() & LENT != 0
    }

    /// A further handle, to be sent while this one stays, with room in front for all headers. `None` if one is out already, or
    /// there is no such room: for a packet in several chunks, no chunk.
    #[inline(always)]
    pub(super) fn lend(&mut self, pool: &mut Pool) -> Option<Self> {
        if self.is_chained() {
            return self.lend_chain(pool);
        }
        let head = self.layout.head();
        let is_ours = pool.region().chunk_of(self.data).is_some();
        if head < region::HEADER_LEN + HEADROOM || !is_ours || !self.may_lend_chunk() {
            return None;
        }
        pool.region().note_sharing();
        let sharing = self.sharing();
        sharing.read_only_from.store(head as u16, Ordering::Relaxed);
        sharing.add_handle();
        self.layout = self.layout.with(SHARED).without(LENT);
        Some(Self { data: self.data, layout: self.layout.with(LENT) })
    }

    /// Whether nobody else would write headers in front of it. A handle that was lent itself may be kept and another one sent,
    /// unless it was cut off: then its headers would meet the other handle's bytes.
    #[inline(always)]
    fn may_lend_chunk(&self) -> bool {
        match self.layout.flags() & (SHARED | LENT) {
            0 => true,
            flags if flags & LENT != 0 && self.read_only_from() == self.layout.head() => true,
            _ => !self.has_further_handle(),
        }
    }

    #[inline(never)]
    fn lend_chain(&mut self, pool: &mut Pool) -> Option<Self> {
        // Its links say where a lent one ends, if it was not cut off.
        let is_free = self.is_lent() || !self.is_shared();
        let may_lend = is_free && self.is_of(pool.region()) && (!self.was_shared() || self.is_as_long_as_chunks());
        let front = if may_lend { pool.allocate()? } else { return None };
        pool.region().note_sharing();
        let flags = self.layout.flags() & !LENT;
        let lent = self.lend_chain_behind(front);
        self.layout.set_flags(flags | SHARED);
        Some(lent)
    }

    /// `front` with this packet's chunks behind it.
    fn lend_chain_behind(&mut self, mut front: Frame) -> Self {
        let first = self.chunk_start().cast::<ChunkHeader>();
        let (head, len, total) = (self.layout.head(), self.len(), self.total_len());
        // SAFETY: this frame's first chunk; its head and length lie in the layout, and here for the other handle.
        #[allow(unsafe_code)]
        unsafe {
            ((*first.as_ptr()).len, (*first.as_ptr()).head) = (len as u16, head as u16);
        }
        for chunk in std::iter::once(first).chain(self.chunks_behind()) {
            // SAFETY: a chunk of this frame's chain.
            #[allow(unsafe_code)]
            let sharing = unsafe { sharing(chunk.cast()) };
            sharing.read_only_from.store(0, Ordering::Relaxed);
            sharing.add_handle();
        }
        let distance = (first.as_ptr() as isize - front.chunk_start().as_ptr() as isize) / self.chunk_len() as isize;
        let total = front.len() + total;
        let header = front.header_mut();
        (header.next, header.total_len) = (distance as i32 as u32, total as u32);
        front.layout.set_port(self.port());
        front.mark_like(self);
        front.layout.set_flags(front.layout.flags() | CHAINED | LENT);
        front
    }
}

impl Region {
    /// Whether the chunk is free now that one of its handles goes.
    #[inline]
    pub(crate) fn retire(&self, chunk: u32) -> bool {
        !self.shares() || self.retire_shared(chunk)
    }

    fn retire_shared(&self, chunk: u32) -> bool {
        // SAFETY: a chunk of this region, of which the caller gives up a handle.
        #[allow(unsafe_code)]
        let sharing = unsafe { sharing(self.chunk_ptr(chunk)) };
        // The last one finds nobody else.
        sharing.further.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1)).is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Pool, RegionConfig};
    use super::*;

    fn pool() -> (std::sync::Arc<Region>, Pool) {
        let region =
            Region::in_process(RegionConfig { chunks: 64, huge_pages: false, ..RegionConfig::default() }).unwrap();
        (std::sync::Arc::clone(&region), Pool::new(region))
    }

    fn home(region: &Region, pool: Pool) {
        drop(pool);
        assert_eq!((region.at_home(), region.strayed()), (region.chunks(), 0));
    }

    #[test]
    fn a_chunk_is_free_when_the_last_of_its_handles_goes_whichever_that_is() {
        for kept_goes_first in [false, true] {
            let (region, mut pool) = pool();
            let mut kept = pool.allocate_copy(b"payload").unwrap();
            let lent = pool.share(&mut kept).unwrap();
            assert!(kept.is_shared() && pool.share(&mut kept).is_none(), "two handles, not three");
            let before = pool.cached();
            let (first, second) = if kept_goes_first { (kept, lent) } else { (lent, kept) };
            pool.release(first);
            assert_eq!(pool.cached(), before);
            assert!(!second.is_shared());
            pool.release(second);
            assert_eq!(pool.cached(), before + 1);
            home(&region, pool);
        }
    }

    #[test]
    fn the_lent_handle_writes_headers_and_nothing_else_and_the_kept_one_nothing() {
        let (region, mut pool) = pool();
        let mut kept = pool.allocate_copy(b"payload").unwrap();
        let mut lent = pool.share(&mut kept).unwrap();
        lent.prepend(3).unwrap();
        assert_eq!(lent.bytes_mut().len(), 3);
        lent.bytes_mut().copy_from_slice(b"hdr");
        assert_eq!((lent.bytes(), kept.bytes()), (&b"hdrpayload"[..], &b"payload"[..]));
        assert!(
            kept.bytes_mut().is_empty() && kept.prepend(1).is_err() && kept.tailroom() == 0 && lent.tailroom() == 0
        );
        pool.release(lent);
        // Alone again, it may do as it likes.
        kept.prepend(1).unwrap();
        assert_eq!(kept.bytes_mut().len(), 8);
        pool.release(kept);
        home(&region, pool);
    }

    #[test]
    fn room_in_front_is_given_where_headers_meet_nobodys_bytes() {
        use tailwater_stack::Buffer;
        let (region, mut pool) = pool();
        for text in [&[7; 100][..], &[7; 5_000]] {
            let mut kept = pool.allocate_copy(text).unwrap();
            assert_eq!(Buffer::prepend(&mut kept, 3).map(|room| room.len()), Ok(3));
            // A first chunk of a chain must not be told by what an earlier use has left in it.
            let mut lent = pool.share(&mut kept).unwrap();
            assert_eq!(Buffer::prepend(&mut lent, 54).map(|room| room.len()), Ok(54));
            assert!(Buffer::prepend(&mut kept, 1).is_err(), "{} bytes: the kept one has none", text.len());
            pool.release(lent);
            assert!(Buffer::prepend(&mut kept, 1).is_ok());
            pool.release(kept);
        }
        let mut kept = pool.allocate_copy(b"payload").unwrap();
        let mut lent = pool.share(&mut kept).unwrap();
        lent.trim_front(2).unwrap();
        assert!(Buffer::prepend(&mut lent, 1).is_err(), "text that the kept one has lies there");
        pool.release(lent);
        pool.release(kept);
        home(&region, pool);
    }

    #[test]
    fn a_handle_that_strays_comes_home_once() {
        let (region, mut pool) = pool();
        let mut kept = pool.allocate_copy(b"payload").unwrap();
        drop(pool.share(&mut kept).unwrap());
        pool.release(kept);
        drop(pool);
        assert_eq!((region.at_home(), region.strayed()), (region.chunks(), 1));
    }

    #[test]
    fn a_chain_is_lent_behind_headers_of_its_own_and_goes_home_whichever_handle_goes_first() {
        for kept_goes_first in [false, true] {
            let (region, mut pool) = pool();
            let text: Vec<u8> = (0..5_000u32).map(|n| n as u8).collect();
            let mut kept = pool.allocate_copy(&text).unwrap();
            let chunks = kept.segment_count();
            let mut lent = pool.share(&mut kept).unwrap();
            assert!(pool.share(&mut kept).is_none(), "two handles, not three");
            lent.prepend(54).unwrap();
            lent.bytes_mut().fill(7);
            let whole = |frame: &Frame| frame.segments().collect::<Vec<_>>().concat();
            assert_eq!((lent.total_len(), lent.segment_count(), lent.len()), (5_054, chunks + 1, 54));
            assert_eq!((&whole(&lent)[..54], &whole(&lent)[54..]), (&[7; 54][..], &text[..]));
            assert_eq!(lent.write_at(50, &[9; 10]), 4, "the text is the other handle's");
            assert!(kept.bytes_mut().is_empty() && kept.write_at(3_000, b"x") == 0);
            let more = pool.allocate_copy(b"more").unwrap();
            let more = lent.append(more).unwrap_err();
            let more = kept.append(more).unwrap_err();
            pool.release(more);
            kept.trim_front(100).unwrap();
            assert_eq!((kept.total_len(), &whole(&kept)[..]), (4_900, &text[100..]));
            assert_eq!(&whole(&lent)[54..], &text[..], "what is on its way stays whole");
            if kept_goes_first {
                pool.release(kept);
                assert_eq!(&whole(&lent)[54..], &text[..]);
                pool.release(lent);
            } else {
                pool.release(lent);
                assert!(!kept.is_shared() && pool.share(&mut kept).map(|lent| pool.release(lent)).is_some());
                pool.release(kept);
            }
            home(&region, pool);
        }
    }

    #[test]
    fn a_kept_chain_is_cut_without_touching_what_is_on_its_way() {
        let text: Vec<u8> = (0..5_000u32).map(|n| n as u8).collect();
        let whole = |frame: &Frame| frame.segments().collect::<Vec<_>>().concat();
        for (len, kept_goes_first) in [(10, false), (10, true), (3_000, false), (3_000, true)] {
            let (region, mut pool) = pool();
            let mut kept = pool.allocate_copy(&text).unwrap();
            let lent = pool.share(&mut kept).unwrap();
            kept.truncate(len);
            assert_eq!((kept.total_len(), &whole(&kept)[..], &whole(&lent)[..]), (len, &text[..len], &text[..]));
            if kept_goes_first {
                pool.release(kept);
                assert_eq!(whole(&lent), text);
                pool.release(lent);
            } else {
                pool.release(lent);
                assert_eq!((kept.is_shared(), &whole(&kept)[..]), (false, &text[..len]));
                let more = pool.allocate_copy(b"more").unwrap();
                let more = kept.append(more).unwrap_err();
                assert!(pool.share(&mut kept).is_none(), "its links lead further than it does");
                let mut came = 0;
                kept.into_descriptors(&region, |addr, len| {
                    came += len as usize;
                    pool.put_chunk(region.chunk_at(addr as usize).unwrap());
                });
                assert_eq!(came, len);
                pool.release(more);
            }
            home(&region, pool);
        }
    }

    #[test]
    fn a_chain_whose_headers_find_no_chunk_is_not_lent() {
        let (region, mut pool) = pool();
        let mut kept = pool.allocate_copy(&[7; 5_000]).unwrap();
        let others: Vec<Frame> = std::iter::from_fn(|| pool.allocate()).collect();
        assert!(pool.share(&mut kept).is_none() && !kept.is_shared());
        others.into_iter().chain([kept]).for_each(|frame| pool.release(frame));
        home(&region, pool);
    }
}
