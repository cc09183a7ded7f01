//! Frames of the simulated hosts, from a pool that hands them out again.

use tailwater_stack::{Buffer, HEADROOM, NoRoom};

/// A frame. Several segments come only from reassembly.
#[derive(Debug)]
pub struct SimBuffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    further: Vec<SimBuffer>,
}

impl SimBuffer {
    fn new(capacity: usize) -> Self {
        Self { bytes: vec![0; HEADROOM + capacity].into(), start: HEADROOM, end: HEADROOM, further: Vec::new() }
    }

    fn reset(&mut self) {
        self.start = HEADROOM;
        self.end = HEADROOM;
    }
}

impl Buffer for SimBuffer {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    #[inline]
    fn len(&self) -> usize {
        let first = self.end - self.start;
        if self.contiguous() { first } else { first + self.further.iter().map(Self::len).sum::<usize>() }
    }

    #[inline]
    fn contiguous(&self) -> bool {
        self.further.is_empty()
    }

    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.bytes()).chain(self.further.iter().map(Self::bytes))
    }

    #[inline]
    fn headroom(&self) -> usize {
        self.start
    }

    #[inline]
    fn tailroom(&self) -> usize {
        if self.further.is_empty() { self.bytes.len() - self.end } else { 0 }
    }

    #[inline]
    fn prepend(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        self.start = self.start.checked_sub(n).ok_or(NoRoom)?;
        self.bytes_mut().get_mut(..n).ok_or(NoRoom)
    }

    #[inline]
    fn append(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        if n > self.tailroom() {
            return Err(NoRoom);
        }
        let at = self.end;
        self.end += n;
        self.bytes.get_mut(at..self.end).ok_or(NoRoom)
    }

    fn trim_front(&mut self, n: usize) -> Result<(), NoRoom> {
        if n > self.end - self.start {
            return Err(NoRoom);
        }
        self.start += n;
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        let mut left = len;
        self.end = self.end.min(self.start.saturating_add(left));
        left -= self.end - self.start;
        self.further.retain_mut(|segment| {
            segment.truncate(left);
            left -= segment.len();
            !segment.is_empty()
        });
    }

    fn chain(&mut self, mut tail: Self) -> Result<(), Self> {
        let further = std::mem::take(&mut tail.further);
        self.further.push(tail);
        self.further.extend(further);
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
        Self { free: Vec::new(), capacity, frames_max, made: 0, exhausted: 0 }
    }

    /// Later frames hold `capacity` bytes at least.
    pub(crate) fn grow(&mut self, capacity: usize) {
        if capacity > self.capacity {
            self.capacity = capacity;
            self.made -= self.free.len() as isize;
            self.free.clear();
        }
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
        for segment in std::mem::take(&mut buffer.further) {
            self.give(segment);
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
