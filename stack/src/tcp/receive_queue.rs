//! What has arrived and waits for the application, in the buffers it arrived in.
//!
//! ```text
//!    read      ready                            early
//!  --------|-----+-----+-----|........|-----+-----|......|-----|
//!              in order      ^ rcv_nxt    text that arrived before what precedes it
//! ```
//! Early text is held within the receive window and within a number of buffers; where it overlaps,
//! what came first stays.

use alloc::collections::VecDeque;

use super::seq::SeqNum;
use crate::buffer::Buffer;

/// Text that arrived too early.
#[derive(Debug)]
pub(super) struct Early<B> {
    pub(super) seq: SeqNum,
    pub(super) len: u32,
    pub(super) fin: bool,
    /// `None`: only a FIN.
    pub(super) text: Option<B>,
}

impl<B> Early<B> {
    pub(super) fn end(&self) -> SeqNum {
        self.seq + self.len + u32::from(self.fin)
    }
}

#[derive(Debug)]
pub(super) struct ReceiveQueue<B> {
    ready: VecDeque<B>,
    ready_bytes: u32,
    /// Bytes of the first text that are read but still there: they end in a further segment of its buffer.
    begun: u32,
    /// By sequence number, without overlaps.
    early: VecDeque<Early<B>>,
}

impl<B: Buffer> ReceiveQueue<B> {
    pub(super) const fn new() -> Self {
        Self { ready: VecDeque::new(), ready_bytes: 0, begun: 0, early: VecDeque::new() }
    }

    pub(super) fn ready_bytes(&self) -> u32 {
        self.ready_bytes
    }

    pub(super) fn buffers(&self) -> usize {
        self.ready.len() + self.early.len()
    }

    pub(super) fn has_early(&self) -> bool {
        !self.early.is_empty()
    }

    /// Nothing comes any more: gives back the memory that nothing lies in.
    pub(super) fn shrink(&mut self) {
        self.ready.shrink_to_fit();
        self.early.shrink_to_fit();
    }

    /// Text in order.
    #[inline(always)]
    pub(super) fn push(&mut self, text: B) {
        self.ready_bytes += text.len() as u32;
        self.ready.push_back(text);
    }

    /// The last text in order, if short text may be added to its buffer.
    pub(super) fn last_with_room(&mut self, n: usize) -> Option<&mut B> {
        self.ready.back_mut().filter(|last| last.tailroom() >= n)
    }

    /// `n` bytes were added to the last text in order.
    pub(super) fn grew(&mut self, n: u32) {
        self.ready_bytes += n;
    }

    /// The first text, with what was read of it and is still there ([`begun`](Self::begun)).
    pub(super) fn pop(&mut self) -> Option<B> {
        let text = self.ready.pop_front()?;
        self.ready_bytes -= text.len() as u32 - core::mem::take(&mut self.begun);
        Some(text)
    }

    #[inline]
    pub(super) fn begun(&self) -> usize {
        self.begun as usize
    }

    pub(super) fn front(&self) -> Option<&B> {
        self.ready.front()
    }

    /// The application has read `n` bytes more of the first text, and not all of it.
    pub(super) fn note_read(&mut self, n: u32) {
        let Some(text) = self.ready.front_mut() else { return };
        let read = self.begun + n;
        self.begun = if text.trim_front(read as usize).is_ok() { 0 } else { read };
        self.ready_bytes -= n;
    }

    /// Early text that the sequence numbers from `seq` on would meet first: the index where they go,
    /// and how much of `len` is not there yet, from which number on.
    pub(super) fn gap(&self, seq: SeqNum, end: SeqNum) -> Gap {
        let at = self.early.partition_point(|early| early.seq.at_or_before(seq));
        let before = at.checked_sub(1).and_then(|before| self.early.get(before));
        let from = before.map_or(seq, |before| before.end().later(seq));
        let to = self.early.get(at).map_or(end, |after| after.seq.earlier(end));
        Gap { at, from, to }
    }

    /// Puts text into a gap.
    pub(super) fn insert(&mut self, at: usize, early: Early<B>) {
        self.early.insert(at, early);
    }

    /// Early text whose turn has come, now that everything before `rcv_nxt` is there.
    pub(super) fn next_in_turn(&mut self, rcv_nxt: SeqNum) -> Option<Early<B>> {
        self.early.pop_front_if(|early| early.seq.at_or_before(rcv_nxt))
    }

    /// Gives up the early text that would be needed last; memory is short.
    pub(super) fn pop_early(&mut self) -> Option<Early<B>> {
        self.early.pop_back()
    }

    /// Everything, for whoever takes the connection apart.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = B> {
        (self.ready_bytes, self.begun) = (0, 0);
        let early = core::mem::take(&mut self.early).into_iter().filter_map(|early| early.text);
        core::mem::take(&mut self.ready).into_iter().chain(early)
    }
}

/// A place between early texts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    pub(super) at: usize,
    pub(super) from: SeqNum,
    pub(super) to: SeqNum,
}
