//! What a block may reach while it works: time, free frames, its outputs, the drop ledger.

use crate::frame::{Batch, Frame, Pool};
use crate::ledger::{DropReason, Ledger};

/// Packets made in blocks that may still leave by a port in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) left: usize,
    /// Beyond them, for what has been begun.
    pub(crate) spare: usize,
}

impl Room {
    /// Any number.
    pub(crate) const ENDLESS: Self = Self { left: usize::MAX, spare: 0 };
}

/// Which ports complete checksums, as far as a block may count on it.
#[derive(Clone, Copy)]
pub(crate) enum Completes<'a> {
    /// Output 0 leads to the port that a packet names; by port.
    ByPort(&'a [bool]),
    /// Output 0 leads to one place, whatever port a packet names.
    Fixed(bool),
}

/// Passed to every call of a block.
pub struct Context<'a> {
    /// Nanoseconds of the monotonic clock, read once per turn.
    pub now_ns: u64,
    /// The worker's free frames.
    pub pool: &'a mut Pool,
    /// Where discarded packets are counted.
    pub ledger: &'a mut Ledger,
    /// Packets that blocks made: copies, answers, errors.
    pub originated: &'a mut u64,
    /// Packets that ended well inside a block: answered in another form, delivered, recorded.
    pub delivered: &'a mut u64,
    /// Packets of its own that a worker may still send by each port in this turn.
    pub(crate) rooms: &'a mut [Room],
    pub(crate) outputs: &'a mut [Batch],
    pub(crate) completes: Completes<'a>,
}

impl Context<'_> {
    /// Sends a frame to output `output` of this block. Frames to one output keep their order.
    #[inline]
    pub fn emit(&mut self, output: usize, frame: Frame) {
        match self.outputs.get_mut(output) {
            Some(batch) => batch.push(frame),
            None => self.discard(frame, DropReason::UnboundOutput),
        }
    }

    /// Packets made here that may still leave by a port in this turn. More find no room, or only add to a queue.
    #[inline]
    pub fn room(&self, port: usize) -> usize {
        self.rooms.get(port).map_or(0, |room| room.left)
    }

    /// Packets beyond [`room`](Self::room) that may leave of what has been begun.
    #[inline]
    pub fn spare_room(&self, port: usize) -> usize {
        self.rooms.get(port).map_or(0, |room| room.spare)
    }

    /// Whether there is room at any port.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.rooms.iter().any(|room| room.left > 0)
    }

    /// A packet for a port was made.
    #[inline]
    pub(crate) fn take_room(&mut self, port: usize) {
        if let Some(room) = self.rooms.get_mut(port) {
            match room.left {
                0 => room.spare = room.spare.saturating_sub(1),
                left => room.left = left - 1,
            }
        }
    }

    /// Whether checksums of TCP segments for `port` may be left undone, to be completed where output 0 leads.
    #[inline]
    pub(crate) fn completes_sums(&self, port: usize) -> bool {
        match self.completes {
            Completes::ByPort(completes) => completes.get(port).is_some_and(|&completes| completes),
            Completes::Fixed(completes) => completes,
        }
    }

    /// Sends a whole batch to output `output`, in order.
    #[inline]
    pub fn emit_batch(&mut self, output: usize, batch: &mut Batch) {
        match self.outputs.get_mut(output) {
            Some(out) => out.append(batch),
            None => batch.drain().for_each(|frame| self.discard(frame, DropReason::UnboundOutput)),
        }
    }

    /// Lets go of a packet, for a reason.
    #[inline]
    pub fn discard(&mut self, frame: Frame, reason: DropReason) {
        self.ledger.count(reason);
        self.pool.release(frame);
    }

    /// The packet to be changed anywhere, not only in its headers: of one that the stack keeps for retransmission, a copy.
    /// `None` (discarded as [`DropReason::NoFrame`]) when no frame is free for that.
    #[inline]
    pub fn unshare(&mut self, frame: Frame) -> Option<Frame> {
        self.pool.unshare(frame).map_err(|frame| self.discard(frame, DropReason::NoFrame)).ok()
    }

    /// Ends a packet that reached its destination inside the block.
    #[inline]
    pub fn deliver(&mut self, frame: Frame) {
        *self.delivered += 1;
        self.pool.release(frame);
    }

    /// A copy of a packet, counted as originated; `None` (counted as [`DropReason::NoFrame`] for a packet originated and
    /// lost) when no frame is free.
    pub fn duplicate(&mut self, frame: &Frame) -> Option<Frame> {
        *self.originated += 1;
        let copy = self.pool.duplicate(frame);
        if copy.is_none() {
            self.ledger.count(DropReason::NoFrame);
        }
        copy
    }

    /// An empty frame for a new packet, counted as originated; `None`, counted, when no frame is free.
    pub fn originate(&mut self) -> Option<Frame> {
        *self.originated += 1;
        let frame = self.pool.allocate();
        if frame.is_none() {
            self.ledger.count(DropReason::NoFrame);
        }
        frame
    }
}
