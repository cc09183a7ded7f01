//! A vector of frames: what blocks, ports and workers hand on.

use super::Frame;

/// Frames that walk together. Grows on demand; a worker reuses its batches, so that it stops growing after warm-up.
#[derive(Default, Debug)]
pub struct Batch {
    frames: Vec<Frame>,
}

impl Batch {
    /// An empty batch with room for `capacity` frames.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { frames: Vec::with_capacity(capacity) }
    }

    /// Number of frames.
    #[inline]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is no frame.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Adds a frame at the end.
    #[inline]
    pub fn push(&mut self, frame: Frame) {
        self.frames.push(frame);
    }

    /// Removes the last frame.
    #[inline]
    pub fn pop(&mut self) -> Option<Frame> {
        self.frames.pop()
    }

    /// The frames in order.
    #[inline]
    pub fn iter(&self) -> std::slice::Iter<'_, Frame> {
        self.frames.iter()
    }

    /// The frames in order, to change.
    #[inline]
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Frame> {
        self.frames.iter_mut()
    }

    /// The frames as a slice, to change.
    #[inline]
    pub fn frames_mut(&mut self) -> &mut [Frame] {
        &mut self.frames
    }

    /// The port that all frames name, if they name the same one.
    #[inline]
    pub fn common_port(&self) -> Option<u16> {
        let (first, others) = self.frames.split_first()?;
        let first = first.layout;
        // Whole words, and no way out of the loop: the compiler then compares several frames at a time.
        let any = others.iter().fold(first.xor(first), |any, frame| any.or(first.xor(frame.layout)));
        (any.port() == 0).then_some(first.port())
    }

    /// Takes all frames out, in order.
    #[inline]
    pub fn drain(&mut self) -> std::vec::Drain<'_, Frame> {
        self.frames.drain(..)
    }

    /// Takes all frames out, in order, and gives each to `take`: without the care that [`drain`](Self::drain) has for what it
    /// might leave behind, which costs as much as a packet that comes alone. Should `take` panic, the others do not come home.
    #[inline]
    pub(crate) fn take_each(&mut self, mut take: impl FnMut(Frame)) {
        let len = self.frames.len();
        // SAFETY: no element is exposed; each is moved out below.
        #[allow(unsafe_code)]
        unsafe {
            self.frames.set_len(0);
        }
        for at in 0..len {
            // SAFETY: `at` is below the length that the vector had. It is borrowed by this call, so the frame is where it was,
            // and it is moved out once.
            #[allow(unsafe_code)]
            take(unsafe { self.frames.as_ptr().add(at).read() });
        }
    }

    /// Takes the first `n` frames out, in order (all, if there are fewer).
    #[inline]
    pub fn drain_front(&mut self, n: usize) -> std::vec::Drain<'_, Frame> {
        let n = n.min(self.frames.len());
        self.frames.drain(..n)
    }

    /// Adds the frames that `make` makes of `items`, until it makes none; returns how many.
    #[inline]
    pub(crate) fn extend_while<T>(&mut self, items: &[T], mut make: impl FnMut(&T) -> Option<Frame>) -> usize {
        self.frames.reserve(items.len());
        let mut made = 0;
        for (slot, item) in self.frames.spare_capacity_mut().iter_mut().zip(items) {
            let Some(frame) = make(item) else { break };
            slot.write(frame);
            made += 1;
        }
        // SAFETY: the loop initialised the `made` slots behind the current end.
        #[allow(unsafe_code)]
        unsafe {
            self.frames.set_len(self.frames.len() + made);
        }
        made
    }

    /// Forgets the first `n` frames, whose chunks have new owners (all, if there are fewer).
    #[inline]
    pub(crate) fn forget_front(&mut self, n: usize) {
        if n < self.frames.len() {
            self.frames.drain(..n).for_each(std::mem::forget);
            return;
        }
        // SAFETY: no element is exposed; dropping none of them is what is wanted.
        #[allow(unsafe_code)]
        unsafe {
            self.frames.set_len(0);
        }
    }

    /// Takes out, in order, the frames for which `wanted` is true; the others stay, in order.
    #[inline]
    pub fn extract<'a>(&'a mut self, wanted: impl FnMut(&mut Frame) -> bool + 'a) -> impl Iterator<Item = Frame> + 'a {
        self.frames.extract_if(.., wanted)
    }

    /// Moves all of `other`'s frames to the end of this batch; for an empty batch this only exchanges the two.
    #[inline]
    pub fn append(&mut self, other: &mut Batch) {
        if self.frames.is_empty() {
            std::mem::swap(&mut self.frames, &mut other.frames);
        } else {
            self.frames.append(&mut other.frames);
        }
    }
}

impl Extend<Frame> for Batch {
    fn extend<T: IntoIterator<Item = Frame>>(&mut self, frames: T) {
        self.frames.extend(frames);
    }
}

impl<'a> IntoIterator for &'a mut Batch {
    type Item = &'a mut Frame;
    type IntoIter = std::slice::IterMut<'a, Frame>;

    fn into_iter(self) -> Self::IntoIter {
        self.frames.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::Batch;
    use crate::frame::{Pool, Region, RegionConfig};

    #[test]
    fn each_frame_is_taken_once_in_order_and_the_batch_takes_others_afterwards() {
        let config = RegionConfig { chunks: 64, huge_pages: false, ..RegionConfig::default() };
        let region = Region::in_process(config).unwrap();
        let mut pool = Pool::new(std::sync::Arc::clone(&region));
        let mut batch = Batch::default();
        for lens in [vec![], vec![60], vec![60, 61, 62, 63, 64]] {
            batch.extend(lens.iter().map(|&len| pool.allocate_copy(&vec![0; len]).unwrap()));
            let mut taken = Vec::new();
            batch.take_each(|frame| {
                taken.push(frame.len());
                pool.release(frame);
            });
            assert_eq!((taken, batch.is_empty()), (lens, true));
        }
        drop((batch, pool));
        assert_eq!((region.at_home(), region.strayed()), (region.chunks(), 0));
    }
}
