//! Frames of the simulated hosts, from a pool that hands them out again.

use tailwater_stack::{Buffer, HEADROOM, NoRoom};

/// A frame. Several segments come only from reassembly.
#[derive(Debug)]
pub struct SimBuffer {
    bytes: Box<[u8]>,
    start: u32,
    end: u32,
    /// Behind a pointer, for hardly a frame has them and each is moved several times on its way.
    further: Option<Box<Further>>,
}

#[derive(Debug, Default)]
struct Further {
    segments: Vec<SimBuffer>,
}

/// Of a segment. No packet is as long.
const CAPACITY_MAX: usize = u32::MAX as usize - HEADROOM;

impl SimBuffer {
    fn new(capacity: usize) -> Self {
        let (start, end) = (HEADROOM as u32, HEADROOM as u32);
        Self { bytes: vec![0; HEADROOM + capacity].into(), start, end, further: None }
    }

    fn reset(&mut self) {
        self.start = HEADROOM as u32;
        self.end = HEADROOM as u32;
    }

    /// Of the first segment.
    fn first_len(&self) -> usize {
        (self.end - self.start) as usize
    }

    fn further(&self) -> &[Self] {
        self.further.as_ref().map_or(&[], |further| &further.segments)
    }
}

impl Buffer for SimBuffer {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start as usize..self.end as usize).unwrap_or_default()
    }

    #[inline]
    fn len(&self) -> usize {
        let further = self.further.as_ref();
        self.first_len() + further.map_or(0, |further| further.segments.iter().map(Self::first_len).sum())
    }

    #[inline]
    fn contiguous(&self) -> bool {
        self.further.is_none()
    }

    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.bytes()).chain(self.further().iter().map(Self::bytes))
    }

    #[inline]
    fn headroom(&self) -> usize {
        self.start as usize
    }

    #[inline]
    fn tailroom(&self) -> usize {
        if self.contiguous() { self.bytes.len() - self.end as usize } else { 0 }
    }

    #[inline]
    fn prepend(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        self.start = self.start.checked_sub(u32::try_from(n).map_err(|_| NoRoom)?).ok_or(NoRoom)?;
        self.bytes_mut().get_mut(..n).ok_or(NoRoom)
    }

    #[inline]
    fn append(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        if n > self.tailroom() {
            return Err(NoRoom);
        }
        let at = self.end as usize;
        self.end += n as u32;
        self.bytes.get_mut(at..at + n).ok_or(NoRoom)
    }

    fn trim_front(&mut self, n: usize) -> Result<(), NoRoom> {
        if n > self.first_len() {
            return Err(NoRoom);
        }
        self.start += n as u32;
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        let kept = len.min(self.first_len());
        self.end = self.start + kept as u32;
        let Some(further) = &mut self.further else { return };
        let mut left = len - kept;
        further.segments.retain_mut(|segment| {
            segment.truncate(left);
            left -= segment.first_len();
            !segment.is_empty()
        });
        if further.segments.is_empty() {
            self.further = None;
        }
    }

    fn chain(&mut self, mut tail: Self) -> Result<(), Self> {
        let later = tail.further.take();
        let further = self.further.get_or_insert_default();
        further.segments.push(tail);
        further.segments.extend(later.into_iter().flat_map(|later| later.segments));
        Ok(())
    }
}

/// Where frames come from and go back to. What is in use is bounded, and so is the memory of a simulation.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Vec<SimBuffer>,
    capacity: usize,
    frames_max: usize,
    /// Less those that came from another pool than they went to.
    made: isize,
    /// Times that a frame was asked for and all were in use.
    pub(crate) exhausted: u64,
}

impl Pool {
    /// Frames of `capacity` bytes besides their headroom.
    pub(crate) fn new(capacity: usize, frames_max: usize) -> Self {
        Self { free: Vec::new(), capacity: capacity.min(CAPACITY_MAX), frames_max, made: 0, exhausted: 0 }
    }

    /// Later frames hold `capacity` bytes at least.
    pub(crate) fn grow(&mut self, capacity: usize) {
        let capacity = capacity.min(CAPACITY_MAX);
        if capacity > self.capacity {
            self.capacity = capacity;
            self.made -= self.free.len() as isize;
            self.free.clear();
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn take(&mut self) -> Option<SimBuffer> {
        if let Some(buffer) = self.free.pop() {
            return Some(buffer);
        }
        if self.made >= self.frames_max as isize {
            self.exhausted += 1;
            return None;
        }
        self.made += 1;
        Some(SimBuffer::new(self.capacity))
    }

    pub(crate) fn give(&mut self, mut buffer: SimBuffer) {
        if let Some(further) = buffer.further.take() {
            further.segments.into_iter().for_each(|segment| self.give(segment));
        }
        if buffer.bytes.len() < HEADROOM + self.capacity {
            self.made -= 1;
            return;
        }
        buffer.reset();
        self.free.push(buffer);
    }

    /// A second frame with the same bytes; `None` if all are in use.
    pub(crate) fn copy(&mut self, of: &SimBuffer) -> Option<SimBuffer> {
        let mut copy = self.take()?;
        for segment in of.segments() {
            match copy.append(segment.len()) {
                Ok(room) => room.copy_from_slice(segment),
                Err(NoRoom) => {
                    self.give(copy);
                    return None;
                }
            }
        }
        Some(copy)
    }

    /// Frames in use; negative if some came back that another pool made.
    pub(crate) fn in_use(&self) -> isize {
        self.made - self.free.len() as isize
    }

    pub(crate) fn set_max(&mut self, frames_max: usize) {
        self.frames_max = frames_max;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_comes_back_with_its_segments() {
        let mut pool = Pool::new(100, 3);
        let mut frames: Vec<SimBuffer> = (0..3).map(|_| pool.take().unwrap()).collect();
        assert!(pool.take().is_none());
        assert_eq!((pool.in_use(), pool.exhausted), (3, 1));
        for frame in &mut frames {
            frame.append(40).unwrap().fill(7);
        }
        let mut first = frames.remove(0);
        for frame in frames {
            first.chain(frame).unwrap();
        }
        assert_eq!((first.len(), first.contiguous(), first.tailroom()), (120, false, 0));
        first.truncate(60);
        assert_eq!(first.segments().map(<[u8]>::len).collect::<Vec<_>>(), [40, 20]);
        pool.give(first);
        // The segment that the cut left empty was thrown away, with its place in the pool.
        assert_eq!(pool.free.len(), 2);
    }

    #[test]
    fn growing_replaces_what_is_too_small() {
        let mut pool = Pool::new(100, 2);
        let small = pool.take().unwrap();
        pool.grow(200);
        pool.give(small);
        assert_eq!(pool.in_use(), 0);
        assert_eq!(pool.take().unwrap().tailroom(), 200);
    }
}
