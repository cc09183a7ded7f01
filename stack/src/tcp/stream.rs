//! Between the application and the queues: what it writes, reads, and lets go of.

use core::time::Duration;

use super::api::TcpError;
use super::event::{CloseReason, Piece};
use super::state::State;
use super::tcb::{Cx, Tcb};
use super::timers::Timer;
use crate::buffer::Buffer;
use crate::checksum::Sum;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::time::Instant;

/// Text up to this long is added to a segment that waits: small writes would go out as small segments.
const JOIN_MAX: usize = 512;
/// Segments in the queue, beyond which each counts as a full one against what may wait: it takes as much memory.
const SMALL_MAX: usize = 64;
/// After which memory that was short is asked for again, where no acknowledgement will come that tells of room.
const MEMORY_PAUSE: Duration = Duration::from_millis(10);

impl<B: Buffer> Tcb<B> {
    fn may_write(&self) -> Result<(), TcpError> {
        if self.state.may_send() && !self.queue.has_fin() { Ok(()) } else { Err(TcpError::Shutdown) }
    }

    /// Bytes that the application may write: of what would wait to be sent, whole segments.
    #[inline]
    pub(super) fn write_room(&self) -> u32 {
        let room = self.options.send_buffer_max.saturating_sub(self.waiting());
        if self.options.unsent_max == u32::MAX { room } else { room.min(self.room_unsent()) }
    }

    /// Bytes that count as waiting.
    #[inline]
    pub(super) fn waiting(&self) -> u32 {
        let full = self.queue.len().saturating_sub(SMALL_MAX) as u32;
        self.queue.bytes().max(full.saturating_mul(self.smss))
    }

    /// Of them, those that may wait beyond what the windows let go.
    fn room_unsent(&self) -> u32 {
        let unsent_max = self.options.unsent_max.max(self.smss);
        let unsent = self.queue.unsent_bytes(self.snd_nxt);
        let room = self.sendable().saturating_add(unsent_max).saturating_sub(unsent);
        room - room % self.smss
    }

    /// New bytes that the windows let go now.
    fn sendable(&self) -> u32 {
        let in_window = (self.snd_una + self.snd_wnd).distance(self.snd_nxt).max(0) as u32;
        self.cwnd().saturating_sub(self.in_flight()).min(in_window)
    }

    /// Queues text in segments as large as the path takes, and sends what may leave. `write` puts in a piece, and sums it up
    /// if that costs it little.
    pub(super) fn write<E: Env<Buffer = B>>(
        &mut self,
        len: usize,
        mut write: impl FnMut(usize, &mut [u8]) -> Option<Sum>,
        cx: &mut Cx<'_, B, E>,
    ) -> Result<usize, TcpError> {
        self.may_write()?;
        let granted = len.min(self.write_room() as usize);
        let mut done = self.grow_last(granted, &mut write, cx);
        while done < granted && cx.may_hold(self.queue.len()) {
            let n = (granted - done).min(self.smss as usize);
            let mut sum = Some(Sum::new());
            let filled = cx.fill(n, |at, room| {
                let piece = write(done + at, room);
                sum = sum.zip(piece).map(|(sum, piece)| sum.and(piece));
                true
            });
            let Some(text) = filled else { break };
            cx.hold();
            self.queue.push(text, sum.map(Sum::folded));
            done += n;
        }
        if done > 0 {
            self.queue.mark_push();
        }
        if done < len {
            self.block_writer(cx.now);
        }
        self.output_soon(cx);
        Ok(done)
    }

    /// Adds to the last segment, if that is not full and not sent.
    fn grow_last<E: Env<Buffer = B>>(
        &mut self,
        granted: usize,
        write: &mut impl FnMut(usize, &mut [u8]) -> Option<Sum>,
        cx: &mut Cx<'_, B, E>,
    ) -> usize {
        let smss = self.smss;
        let Some(last) = self.queue.growing() else { return 0 };
        let wanted = (smss.saturating_sub(last.len) as usize).min(granted);
        let Some(payload) = last.payload.as_mut().filter(|payload| !cx.env.is_shared(payload)) else { return 0 };
        let mut n = wanted.min(payload.tailroom());
        match payload.append(n) {
            Ok(room) if n > 0 => {
                write(0, room);
            }
            _ => n = 0,
        }
        n += cx.extend(payload, wanted - n, |at, room| {
            write(n + at, room);
        });
        self.queue.grew(n as u32);
        n
    }

    pub(super) fn write_buffer<E: Env<Buffer = B>>(
        &mut self,
        text: B,
        cx: &mut Cx<'_, B, E>,
    ) -> Result<(), (TcpError, Option<B>)> {
        if let Err(error) = self.may_write() {
            return Err((error, Some(text)));
        }
        if !self.has_room(cx) {
            return Err((TcpError::Blocked, Some(text)));
        }
        self.enqueue(text, cx);
        self.queue.mark_push();
        self.output_soon(cx);
        Ok(())
    }

    pub(super) fn write_buffers<E: Env<Buffer = B>>(
        &mut self,
        next: &mut impl FnMut() -> Option<B>,
        cx: &mut Cx<'_, B, E>,
    ) -> Result<usize, TcpError> {
        self.may_write()?;
        let mut count = 0;
        while self.has_room(cx) {
            let Some(text) = next() else { break };
            self.enqueue(text, cx);
            count += 1;
        }
        if count > 0 {
            self.queue.mark_push();
            self.output_soon(cx);
        }
        Ok(count)
    }

    /// Whether another buffer may be queued. If not, it is told when there is room again.
    fn has_room<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) -> bool {
        let full = self.write_room() == 0 || !cx.may_hold(self.queue.len());
        if full {
            self.block_writer(cx.now);
        }
        !full
    }

    /// The application could not write all it has, and is told when there is room again: acknowledgements tell of it, but
    /// with nothing queued it is memory that was short, and only time can tell.
    fn block_writer(&mut self, now: Instant) {
        self.write_blocked = true;
        if self.queue.is_empty() && self.write_room() > 0 {
            self.timers.arm(Timer::Pace, now + MEMORY_PAUSE);
        }
    }

    /// There may be memory again.
    pub(super) fn let_write_again(&mut self) {
        if self.write_blocked && self.queue.is_empty() {
            self.write_blocked = false;
            self.news.add(Piece::Writable);
        }
    }

    #[inline(always)]
    fn enqueue<E: Env<Buffer = B>>(&mut self, text: B, cx: &mut Cx<'_, B, E>) {
        cx.stack.ledger.originated += 1;
        if text.is_empty() || self.join_last(&text, cx) {
            cx.stack.ledger.release(cx.env, text);
            return;
        }
        // What is longer than a segment is cut as it leaves.
        cx.hold();
        self.queue.push(text, None);
    }

    /// Adds short text to the last segment, if all of it fits there and that was not sent.
    fn join_last<E: Env<Buffer = B>>(&mut self, text: &B, cx: &mut Cx<'_, B, E>) -> bool {
        let (n, smss) = (text.len(), self.smss);
        let Some(last) = self.queue.growing().filter(|_| n <= JOIN_MAX) else { return false };
        let fits = smss.saturating_sub(last.len) as usize >= n;
        let Some(payload) = last.payload.as_mut().filter(|payload| fits && payload.tailroom() >= n) else {
            return false;
        };
        if cx.env.is_shared(payload) || !payload.append(n).is_ok_and(|room| text.read_at(0, room).is_ok()) {
            return false;
        }
        self.queue.grew(n as u32);
        true
    }

    pub(super) fn nothing_to_read<T>(&mut self) -> Result<Option<T>, TcpError> {
        if !self.peer_finished {
            return Ok(None);
        }
        self.end();
        Err(TcpError::Finished)
    }

    pub(super) fn read<E: Env<Buffer = B>>(&mut self, to: &mut [u8], cx: &mut Cx<'_, B, E>) -> Result<usize, TcpError> {
        if self.received.ready_bytes() == 0 {
            return self.nothing_to_read::<B>().map(|_| 0);
        }
        let mut done = 0;
        // Each pass fills the room, or takes a text out.
        while let Some(text) = self.received.front().filter(|_| done < to.len()) {
            let begun = self.received.begun();
            let left = text.len() - begun;
            let n = left.min(to.len() - done);
            let Some(room) = to.get_mut(done..done + n) else { break };
            if text.read_at(begun, room).is_err() {
                break;
            }
            done += n;
            if n < left {
                self.received.note_read(n as u32);
            } else if let Some(text) = self.received.pop() {
                cx.let_go();
                cx.stack.ledger.delivered += 1;
                cx.env.release(text);
            }
        }
        self.on_read(done as u32, cx);
        Ok(done)
    }

    /// What is left of a text that was read in part, in a buffer of its own; `None` if none was free.
    pub(super) fn receive_rest<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) -> Option<B> {
        let begun = self.received.begun();
        let text = self.received.front()?;
        let rest = cx.copy(text, begun, text.len() - begun)?;
        let spent = self.received.pop()?;
        cx.release(spent);
        cx.stack.ledger.delivered += 1;
        self.on_read(rest.len() as u32, cx);
        Some(rest)
    }

    /// There is no application any more, nor anybody to be told.
    pub(super) fn orphan(&mut self) {
        self.orphan = true;
        self.write_blocked = false;
        self.news.clear();
    }

    /// The application is gone.
    pub(super) fn let_go<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        self.orphan();
        let unread = self.received.ready_bytes() > 0;
        match self.state {
            // RFC 9293 §3.10.4, RFC 2525 §2.17: data that nobody will read is told by a reset.
            _ if unread && self.state != State::TimeWait => self.give_up(CloseReason::Reset, cx),
            State::SynSent => self.fail(CloseReason::Reset, cx),
            State::FinWait2 => self.enter_fin_wait_2(cx.now),
            _ => self.shutdown(cx),
        }
        for text in self.received.drain() {
            cx.discard(text, DropReason::TcpUnread);
        }
    }
}
