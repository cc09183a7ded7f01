//! The stack's surroundings in a worker: the block's context, seen as an [`Env`].
//!
//! Discarded packets are counted here, one by one, with the stack's reason. What the stack originates, delivers and
//! consumes the block reads off the stack's own ledger once per batch.

use tailwater_stack::{DropReason, Env, Instant, InterfaceId};

use super::entropy::Entropy;
use crate::block::Context;
use crate::frame::{Batch, Frame, Pool, SEGMENTS_MAX};
use crate::ledger;

/// A block's context as the stack sees it.
pub(super) struct WorkerEnv<'a, 'c> {
    pub(super) context: &'a mut Context<'c>,
    pub(super) entropy: &'a mut Entropy,
}

impl Env for WorkerEnv<'_, '_> {
    type Buffer = Frame;

    #[inline]
    fn now(&self) -> Instant {
        Instant::from_nanos(self.context.now_ns)
    }

    fn random(&mut self) -> u64 {
        self.entropy.next()
    }

    #[inline]
    fn allocate(&mut self) -> Option<Frame> {
        self.context.pool.allocate()
    }

    #[inline(always)]
    fn share(&mut self, kept: &mut Frame) -> Option<Frame> {
        self.context.pool.share(kept)
    }

    #[inline]
    fn is_shared(&self, kept: &Frame) -> bool {
        kept.is_shared()
    }

    #[inline]
    fn room(&self, interface: InterfaceId) -> usize {
        self.context.room(interface.0 as usize)
    }

    #[inline]
    fn spare_room(&self, interface: InterfaceId) -> usize {
        self.context.spare_room(interface.0 as usize)
    }

    #[inline(always)]
    fn transmit(&mut self, interface: InterfaceId, frame: Frame) {
        if frame.is_chained() { self.transmit_chained(interface, frame) } else { self.emit(interface, frame) }
    }

    #[inline]
    fn completes_sums(&self, interface: InterfaceId) -> bool {
        self.context.completes_sums(interface.0 as usize)
    }

    #[inline]
    fn transmit_unsummed(&mut self, interface: InterfaceId, mut frame: Frame) {
        frame.leave_sum_undone();
        // Only what is lent can be in a train.
        if !frame.is_lent() {
            frame.complete_sum();
        }
        self.transmit(interface, frame);
    }

    #[inline]
    fn discard(&mut self, frame: Frame, reason: DropReason) {
        self.context.ledger.count_stack(reason);
        self.context.pool.release(frame);
    }

    #[inline]
    fn release(&mut self, frame: Frame) {
        self.context.pool.release(frame);
    }
}

impl WorkerEnv<'_, '_> {
    #[inline(always)]
    fn emit(&mut self, interface: InterfaceId, mut frame: Frame) {
        frame.set_port(interface.0 as u16);
        self.context.take_room(interface.0 as usize);
        self.context.emit(0, frame);
    }

    #[inline(never)]
    fn transmit_chained(&mut self, interface: InterfaceId, frame: Frame) {
        match fit_for_port(frame, self.context.pool) {
            Ok(frame) => self.emit(interface, frame),
            Err(frame) => self.context.discard(frame, ledger::DropReason::NoFrame),
        }
    }
}

/// A packet in as few chunks as it needs: one that was put together from many small fragments has more segments than a
/// port takes, or several where a port without multi-buffer takes one; one that came from another stack of this process, and
/// goes on, may have chunks that it does not fill.
#[cold]
fn fit_for_port(mut frame: Frame, pool: &mut Pool) -> Result<Frame, Frame> {
    let fits = frame.total_len() > pool.region().segment_max() && frame.segment_count() <= SEGMENTS_MAX;
    if fits && frame.fills_chunks() {
        return Ok(frame);
    }
    // A copy is not lent.
    frame.complete_sum();
    match pool.duplicate(&frame) {
        Some(copy) => {
            pool.release(frame);
            Ok(copy)
        }
        None => Err(frame),
    }
}

/// The surroundings of a stack that is being taken apart: whatever it lets go of is collected.
pub(super) struct DrainEnv<'a> {
    pub(super) frames: &'a mut Batch,
}

impl Env for DrainEnv<'_> {
    type Buffer = Frame;

    fn now(&self) -> Instant {
        Instant::ZERO
    }

    fn random(&mut self) -> u64 {
        0
    }

    fn allocate(&mut self) -> Option<Frame> {
        None
    }

    fn transmit(&mut self, _interface: InterfaceId, frame: Frame) {
        self.frames.push(frame);
    }

    fn discard(&mut self, frame: Frame, _reason: DropReason) {
        self.frames.push(frame);
    }

    fn release(&mut self, frame: Frame) {
        self.frames.push(frame);
    }
}
