//! A worker's own store of free frames: a stack of chunks in front of the region's shared depot.
//!
//! Chunks move between pool and depot in magazines of up to 63, so that a worker which only receives and one which only
//! transmits balance out through a lock-free queue at a small fraction of an atomic operation per frame
//! (Bonwick and Adams, "Magazines and Vmem", USENIX 2001).

use std::sync::Arc;

use super::region::{DATA_OFFSET, MAGAZINE_MAX};
use super::{CHAIN_MAX, Frame, Region};

/// Free chunks that a pool keeps before it gives a magazine back: as many as some turns take and acknowledgements give back.
/// They are used again in the reverse order, so that those in use are few and stay in caches; the depot has them go round.
const CACHE_MAX: usize = 24 * MAGAZINE_MAX;
/// The same of a region that has few.
const CACHE_MIN: usize = 4 * MAGAZINE_MAX;
/// A pool keeps no more than this part of a region's chunks from other workers.
const CACHE_PART: usize = 8;

/// Free frames of one worker.
pub struct Pool {
    region: Arc<Region>,
    cache: Vec<u32>,
    cache_max: usize,
}

impl Pool {
    /// An empty pool over `region`; it fills itself as frames are asked for.
    pub fn new(region: Arc<Region>) -> Self {
        let cache_max = (region.chunks() / CACHE_PART).clamp(CACHE_MIN, CACHE_MAX);
        Self { region, cache: Vec::with_capacity(cache_max + MAGAZINE_MAX), cache_max }
    }

    /// The region that the frames come from.
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// An empty frame with the standard headroom, or `None` when every frame is in use.
    #[inline]
    pub fn allocate(&mut self) -> Option<Frame> {
        let chunk = self.take_chunk()?;
        // SAFETY: the pool owned the chunk and gives it up here; DATA_OFFSET lies within every chunk.
        #[allow(unsafe_code)]
        let frame = unsafe { Frame::from_chunk(&self.region, chunk, DATA_OFFSET, 0) };
        Some(frame)
    }

    /// A frame that holds a copy of `bytes` (chained if they fill more than one chunk), or `None` when frames run out.
    pub fn allocate_copy(&mut self, bytes: &[u8]) -> Option<Frame> {
        self.allocate_with(bytes.len(), |offset, out| out.copy_from_slice(&bytes[offset..offset + out.len()]))
    }

    /// A frame with the same packet, port, offsets and mark as `frame`, or `None` when frames run out.
    pub fn duplicate(&mut self, frame: &Frame) -> Option<Frame> {
        let mut copy = self.allocate_with(frame.total_len(), |offset, out| {
            frame.read_at(offset, out);
        })?;
        copy.set_port(frame.port());
        copy.set_l3_offset(frame.l3_offset() as u8);
        copy.mark_like(frame);
        Some(copy)
    }

    /// A frame of `len` bytes (chained if they fill more than one chunk), or `None` when frames run out. `write` is called
    /// with the offset and the room of each piece, in order.
    pub fn allocate_with(&mut self, len: usize, mut write: impl FnMut(usize, &mut [u8])) -> Option<Frame> {
        let segment_max = self.region.segment_max();
        let mut whole: Option<Frame> = None;
        let mut offset = 0;
        while whole.is_none() || offset < len {
            let n = (len - offset).min(segment_max);
            let Some(mut part) = self.allocate() else {
                whole.into_iter().for_each(|frame| self.release(frame));
                return None;
            };
            if part.set_len(n).is_ok() {
                write(offset, part.bytes_mut());
            }
            offset += n;
            match &mut whole {
                None => whole = Some(part),
                Some(first) => {
                    if let Err(part) = first.append_within(CHAIN_MAX, part) {
                        self.release(part);
                        whole.into_iter().for_each(|frame| self.release(frame));
                        return None;
                    }
                }
            }
        }
        whole
    }

    /// Takes a frame back; one of another region goes home there. The packet is gone: account for it before.
    #[inline]
    pub fn release(&mut self, frame: Frame) {
        if frame.is_chained() {
            return self.release_chain(frame);
        }
        let Some(chunk) = self.region.chunk_of(frame.data_ptr()) else { return frame.send_home() };
        std::mem::forget(frame);
        self.put_chunk(chunk);
    }

    #[inline(never)]
    fn release_chain(&mut self, frame: Frame) {
        frame.for_each_chunk(|chunk| match self.region.chunk_of(chunk) {
            Some(chunk) => self.put_chunk(chunk),
            None => Region::bring_home(chunk),
        });
        std::mem::forget(frame);
    }

    /// For those who give the pool chunks by their numbers, or take some.
    ///
    /// # Panics
    /// If it is another region's.
    #[inline]
    pub(crate) fn check(&self, region: &Region) {
        assert!(std::ptr::eq(&*self.region, region), "a port and its worker's pool have one region");
    }

    /// Free frames at hand without asking the depot.
    pub fn cached(&self) -> usize {
        self.cache.len()
    }

    /// Takes ownership of one free chunk.
    #[inline]
    pub(crate) fn take_chunk(&mut self) -> Option<u32> {
        match self.cache.pop() {
            Some(chunk) => Some(chunk),
            None => self.refill(),
        }
    }

    /// A second handle on a frame's packet, to be sent while `kept` stays. `None` if there is one already, no frame for
    /// the headers of a packet in several chunks, or the frame is another region's. While both live, only what is in front of the packet can be written,
    /// through the second.
    #[inline(always)]
    pub fn share(&mut self, kept: &mut Frame) -> Option<Frame> {
        kept.lend(self)
    }

    /// The packet to be changed anywhere: a copy, if another handle holds its payload. Gives it back when frames run out.
    pub fn unshare(&mut self, frame: Frame) -> Result<Frame, Frame> {
        if !frame.is_lent() {
            return Ok(frame);
        }
        match self.duplicate(&frame) {
            Some(copy) => {
                self.release(frame);
                Ok(copy)
            }
            None => Err(frame),
        }
    }

    /// Gives ownership of a chunk to the pool; or one of two handles on it up.
    #[inline]
    pub(crate) fn put_chunk(&mut self, chunk: u32) {
        if !self.region.retire(chunk) {
            return;
        }
        // There is memory for more than may stay; that none is asked for here spares this way the care for it.
        if self.cache.len() >= self.cache_max || self.cache.len() == self.cache.capacity() {
            return self.put_beside(chunk);
        }
        self.cache.push(chunk);
    }

    /// As many are there as may stay.
    #[cold]
    #[inline(never)]
    fn put_beside(&mut self, chunk: u32) {
        self.spill();
        self.cache.push(chunk);
    }

    #[cold]
    fn refill(&mut self) -> Option<u32> {
        let magazine = self.region.withdraw()?;
        self.cache.extend_from_slice(&magazine.chunks[..magazine.len]);
        self.cache.pop()
    }

    fn spill(&mut self) {
        let keep = self.cache.len() - MAGAZINE_MAX;
        self.region.deposit(&self.cache[keep..]);
        self.cache.truncate(keep);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.region.deposit(&self.cache);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::RegionConfig;

    fn region(chunk_len: usize) -> (Arc<Region>, Pool) {
        let config = RegionConfig { chunk_len, chunks: 64, huge_pages: false, ..RegionConfig::default() };
        let region = Region::in_process(config).unwrap();
        (Arc::clone(&region), Pool::new(region))
    }

    fn all_home(regions: [(Arc<Region>, Pool); 2]) {
        for (region, pool) in regions {
            drop(pool);
            assert_eq!((region.at_home(), region.strayed()), (region.chunks(), 0));
        }
    }

    #[test]
    fn frames_of_another_region_go_home_and_are_not_shared() {
        for (theirs, ours) in [(2048, 2048), (4096, 2048), (2048, 4096)] {
            let (mut theirs, mut ours) = (region(theirs), region(ours));
            for len in [100, 5_000] {
                let mut frame = theirs.1.allocate_copy(&vec![7; len]).unwrap();
                assert!(ours.1.share(&mut frame).is_none() && !frame.is_shared());
                let mut copy = ours.1.duplicate(&frame).unwrap();
                assert_eq!(copy.segments().collect::<Vec<_>>().concat(), vec![7; len]);
                let (lent, at_hand) = (theirs.1.share(&mut frame).unwrap(), ours.1.cached());
                ours.1.release(lent);
                ours.1.release(frame);
                assert_eq!(ours.1.cached(), at_hand);
                let lent = ours.1.share(&mut copy).unwrap();
                theirs.1.release(copy);
                theirs.1.release(lent);
            }
            // None is given out twice.
            let mut all: Vec<Frame> = std::iter::from_fn(|| ours.1.allocate()).collect();
            all.extend(std::iter::from_fn(|| theirs.1.allocate()));
            let starts: std::collections::BTreeSet<_> = all.iter().map(Frame::data_ptr).collect();
            assert_eq!((all.len(), starts.len()), (128, 128));
            all.into_iter().for_each(|frame| ours.1.release(frame));
            all_home([theirs, ours]);
        }
    }

    #[test]
    fn a_packet_that_lies_in_two_regions_is_whole_and_goes_home_to_both() {
        let (mut near, mut far) = (region(2048), region(2048));
        for ends_far in [false, true] {
            let mut frame = near.1.allocate_copy(&[1; 3_000]).unwrap();
            let behind = far.1.allocate_copy(&[2; 3_000]).unwrap();
            match frame.append(behind) {
                Ok(()) => {
                    assert!(near.1.share(&mut frame).is_none(), "no one pool knows what is shared");
                    assert_eq!(frame.segments().collect::<Vec<_>>().concat(), [[1; 3_000], [2; 3_000]].concat());
                }
                // Too far away.
                Err(behind) => near.1.release(behind),
            }
            if ends_far { far.1.release(frame) } else { near.1.release(frame) }
        }
        all_home([near, far]);
        let (mut small, mut large) = (region(2048), region(4096));
        let mut frame = small.1.allocate_copy(&[1; 100]).unwrap();
        let behind = frame.append(large.1.allocate_copy(&[2; 100]).unwrap()).unwrap_err();
        assert_eq!((frame.total_len(), behind.total_len()), (100, 100));
        [frame, behind].into_iter().for_each(|frame| large.1.release(frame));
        all_home([small, large]);
    }

    #[test]
    #[should_panic(expected = "one region")]
    fn a_port_of_another_region_gets_no_chunks() {
        let ((_, pool), (other, _)) = (region(2048), region(2048));
        pool.check(&other);
    }

    #[test]
    fn a_region_of_more_chunks_than_can_be_told_apart_is_refused() {
        let config = RegionConfig { chunks: 1 << 33, ..RegionConfig::default() };
        assert!(Region::in_process(config).is_err_and(|error| error.to_string().contains("8589934592 frames")));
    }
}
