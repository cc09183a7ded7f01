//! Putting bytes into the frames that they leave from: one copy, by the thread that writes.

use std::io::IoSlice;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tailwater_stack::Buffer;

use super::connection::{Connection, Manners, ask};
use super::error;
use super::lane::Lane;
use crate::frame::{CHAIN_MAX, Frame};

impl Connection {
    /// Writes as much as there is room for. Waits for some, unless the stream does not block.
    pub(super) fn write(self: &Arc<Self>, from: &[IoSlice<'_>]) -> std::io::Result<usize> {
        let mut until = None;
        loop {
            if let Some(n) = self.try_write(from)? {
                return Ok(n);
            }
            if self.manners.nonblocking.load(Ordering::Relaxed) {
                // Blanks that the worker brought before the level could fall, which tells nothing then.
                if self.is_writable() {
                    continue;
                }
                return Err(error::would_block());
            }
            let until = until.get_or_insert_with(|| Manners::deadline(&self.manners.write_timeout_ns));
            if !self.await_writable(*until) {
                return Err(error::would_block());
            }
        }
    }

    /// `None`: no room now.
    fn try_write(self: &Arc<Self>, from: &[IoSlice<'_>]) -> std::io::Result<Option<usize>> {
        if self.is_opening() {
            return Ok(None);
        }
        let mut source = Source::new(from);
        let (written, asks) = {
            let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            if self.is_over() || self.lane.is_gone() || self.is_write_shut() {
                return Err(self.take_error().unwrap_or_else(|| error::of(libc::EPIPE)));
            }
            self.fill_outbox(&mut source)
        };
        // Not under the lock: if the worker has gone meanwhile, whoever asks brings the frames home, which takes it.
        if asks != 0 {
            self.ask(asks);
        }
        self.settle();
        Ok(Some(written).filter(|&n| n > 0 || source.is_at_end()))
    }

    /// Only whoever holds the writer's lock adds to the outbox, so there is a place for each frame, as far as memory allows. How
    /// much was written, and what the worker is to be asked for: where memory is short, for a frame at a time.
    fn fill_outbox(&self, source: &mut Source<'_>) -> (usize, u32) {
        let segment_len = self.segment_len();
        let (mut written, mut asks) = (0, 0);
        // Who is starved asks already.
        while !source.is_at_end() && !self.starved.load(Ordering::Acquire) {
            let text = match self.take_place() {
                true => fill(&self.lane, segment_len, source),
                false if self.outbox.is_empty() => None,
                false => break,
            };
            let Some(text) = text else {
                self.starved.store(true, Ordering::SeqCst);
                asks |= ask::BLANKS;
                break;
            };
            (written, asks) = (written + text.total_len(), ask::SEND);
            if let Err(text) = self.outbox.push(text) {
                self.lane.give_back(text);
                break;
            }
        }
        (written, asks)
    }
}

/// A frame with up to `len` bytes of the source, of several chunks where one is too small. `None`: no frame is blank.
pub(super) fn fill(lane: &Lane, len: usize, source: &mut Source<'_>) -> Option<Frame> {
    let mut whole = fill_chunk(lane, len, source)?;
    for _ in 1..CHAIN_MAX {
        let left = len - whole.total_len().min(len);
        if left == 0 || source.is_at_end() {
            break;
        }
        let Some(part) = fill_chunk(lane, left, source) else { break };
        if let Err(part) = whole.append_within(CHAIN_MAX, part) {
            debug_assert!(false, "as many chunks as a packet may have");
            lane.give_back(part);
            break;
        }
    }
    Some(whole)
}

fn fill_chunk(lane: &Lane, len: usize, source: &mut Source<'_>) -> Option<Frame> {
    let mut chunk = lane.blank()?;
    let n = len.min(source.len()).min(chunk.tailroom());
    match Buffer::append(&mut chunk, n) {
        Ok(room) => source.copy_to(room),
        Err(_) => debug_assert!(false, "a blank frame has room"),
    }
    Some(chunk)
}

/// Bytes to be written, from several places.
pub(super) struct Source<'a> {
    slices: &'a [IoSlice<'a>],
    /// Of the first slice, what was taken.
    offset: usize,
    len: usize,
}

impl<'a> Source<'a> {
    pub(super) fn new(slices: &'a [IoSlice<'a>]) -> Self {
        Self { slices, offset: 0, len: slices.iter().map(|slice| slice.len()).sum() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.len == 0
    }

    /// Fills the room, which is no larger than what is left.
    fn copy_to(&mut self, mut room: &mut [u8]) {
        while let Some((slice, further)) = self.slices.split_first().filter(|_| !room.is_empty()) {
            let rest = &slice[self.offset..];
            let n = rest.len().min(room.len());
            let (now, later) = room.split_at_mut(n);
            now.copy_from_slice(&rest[..n]);
            room = later;
            self.len -= n;
            self.offset += n;
            if self.offset == slice.len() {
                (self.slices, self.offset) = (further, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_gives_its_slices_in_order_whatever_the_rooms() {
        let text: Vec<u8> = (0..100).collect();
        for room_len in [1, 7, 50, 100] {
            let slices = [IoSlice::new(&text[..10]), IoSlice::new(&[]), IoSlice::new(&text[10..])];
            let mut source = Source::new(&slices);
            let mut got = Vec::new();
            while !source.is_at_end() {
                let mut room = vec![0; room_len.min(source.len())];
                source.copy_to(&mut room);
                got.extend(room);
            }
            assert_eq!(got, text);
        }
    }
}
