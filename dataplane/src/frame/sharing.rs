//! Frames that are sent and kept at once: TCP's retransmission queue is the frames that left.
//!
//! ```text
//!  chunk        kept: payload, read-only while the other is out
//! | header | headroom . . . . . . .|PPPPPPPPPPPPPPP| |
//!              |HHHHHHHHHHHHHHHHHHH PPPPPPPPPPPPPPP|
//!               lent: writes headers in front of the payload, and only there
//! ```
//! At most two handles are on a chunk. A count behind the chunk's header says whether there is a second; the one that goes
//! last frees the chunk. Wherever a chunk would become free, [`Region::retire`] is asked first; a region in which nothing
//! was ever shared, a forwarder's, answers without looking at the chunk.
//!
//! Only packets in one chunk are shared: a chain's lengths lie in the chunk's header, which both handles would write.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use super::layout::SHARED;
use super::{Frame, Region, region};

/// Lies behind [`ChunkHeader`](super::ChunkHeader), and is only ever touched as atomics, by either handle.
#[repr(C)]
struct Sharing {
    /// Handles on the chunk beyond the first.
    further: AtomicU16,
    /// Offset in the chunk from which on it is read-only.
    read_only_from: AtomicU16,
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

    /// Whether another handle is on the chunk.
    #[inline]
    pub(crate) fn is_shared(&self) -> bool {
        self.layout.flags() & SHARED != 0 && self.sharing().further.load(Ordering::Acquire) > 0
    }

    /// Bytes at the front that may be written.
    #[inline]
    pub(super) fn writable_len(&self) -> usize {
        if self.layout.flags() & SHARED == 0 { self.layout.len() } else { self.shared_writable_len() }
    }

    #[cold]
    fn shared_writable_len(&self) -> usize {
        if !self.is_shared() {
            return self.layout.len();
        }
        let from = usize::from(self.sharing().read_only_from.load(Ordering::Relaxed));
        from.saturating_sub(self.layout.head()).min(self.layout.len())
    }

    /// Bytes in front of the packet that this handle may claim: none for the one that is kept.
    #[inline]
    pub(super) fn claimable(&self) -> usize {
        let headroom = self.layout.head() - region::HEADER_LEN;
        let kept = || self.is_shared() && !self.is_lent();
        if self.layout.flags() & SHARED != 0 && kept() { 0 } else { headroom }
    }

    fn is_lent(&self) -> bool {
        self.layout.flags() & super::layout::LENT != 0
    }

    /// A second handle, to be sent while this one stays. `None` if there is one already, or the packet is in several
    /// chunks.
    pub(super) fn lend(&mut self, region: &Region) -> Option<Self> {
        if self.is_chained() || self.is_shared() {
            return None;
        }
        region.note_sharing();
        let head = u16::try_from(self.layout.head()).ok()?;
        self.sharing().read_only_from.store(head, Ordering::Relaxed);
        self.sharing().further.store(1, Ordering::Release);
        let flags = self.layout.flags() & !super::layout::LENT;
        self.layout.set_flags(flags | SHARED);
        let mut lent = Self { data: self.data, layout: self.layout };
        lent.layout.set_flags(flags | SHARED | super::layout::LENT);
        Some(lent)
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
    fn a_handle_that_strays_comes_home_once() {
        let (region, mut pool) = pool();
        let mut kept = pool.allocate_copy(b"payload").unwrap();
        drop(pool.share(&mut kept).unwrap());
        pool.release(kept);
        drop(pool);
        assert_eq!((region.at_home(), region.strayed()), (region.chunks(), 1));
    }

    #[test]
    fn chains_are_not_shared() {
        let (region, mut pool) = pool();
        let mut long = pool.allocate_copy(&[7; 5_000]).unwrap();
        assert!(pool.share(&mut long).is_none());
        pool.release(long);
        home(&region, pool);
    }
}
