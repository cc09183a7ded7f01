//! New text straight to the way out: what `output` does with it on a connection without trouble, in the steps that it has for
//! just this. It is to what leaves as `prediction` is to what arrives.
//!
//! What holds for all segments that leave together is found out once: the way, the windows, what their headers have in common.
//! A segment that is to be cut, that ends the stream or finds no room is left to `output`, which looks at everything.

use super::plain::{Common, Plain};
use super::rto;
use super::send_queue::Segment;
use super::tcb::{Cx, Tcb};
use crate::buffer::Buffer;
use crate::env::Env;
use crate::wire::tcp::flag;

/// No RTO is shorter.
const IDLE_MIN_NS: u64 = rto::MIN.as_nanos() as u64;

impl<B: Buffer> Tcb<B> {
    /// Whether all that is queued was sent once or never, and nothing but the windows holds back the rest.
    #[inline]
    pub(super) fn goes_straight<E: Env<Buffer = B>>(&self, cx: &Cx<'_, B, E>) -> bool {
        self.course.is_straight() && self.knows_way(cx)
    }

    /// Sends new text; whether any has left.
    #[inline]
    pub(super) fn send_straight<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) -> bool {
        let room = self.room_below(cx);
        if cx.now.nanos_since(self.last_sent_at) > IDLE_MIN_NS && room > 0 {
            self.restart_if_idle(cx);
        }
        let cwnd = self.congestion.cwnd();
        let sent = self.send_run(room, cwnd, cx);
        if sent > 0 {
            self.on_new_sent(cx.now);
        }
        if sent == room && self.waits_for_room(cx) {
            return sent > 0;
        }
        if self.has_unsent() {
            return self.send_text(cx) || sent > 0;
        }
        if sent < room {
            self.on_all_sent(cwnd);
        }
        sent > 0
    }

    /// RFC 5681 §4.1: a control that wants no rate has nothing to do before the RTO has gone by.
    #[inline(never)]
    fn restart_if_idle<E: Env<Buffer = B>>(&mut self, cx: &Cx<'_, B, E>) {
        let next = self.queue.next_unsent();
        if self.flight_size() == 0 && next.is_some_and(|next| self.leaves_whole(next)) {
            self.restart_after_idle(cx);
        }
    }

    /// There is room for more than the application has written.
    #[inline]
    fn on_all_sent(&mut self, cwnd: u32) {
        let in_flight = self.flight_size();
        if (in_flight < cwnd && !self.writer_waits()) || self.congestion.holds_back() {
            self.sampler.mark_app_limited(in_flight);
        }
    }

    /// Sends at most `room` segments as they are queued; how many.
    #[inline]
    fn send_run<E: Env<Buffer = B>>(&mut self, room: u32, cwnd: u32, cx: &mut Cx<'_, B, E>) -> u32 {
        let start = self.snd_nxt;
        let mut sent = 0;
        let mut common: Option<Common> = None;
        while sent < room
            && let Some(segment) = self.take_whole(cwnd, cx)
        {
            // Only what leaves acknowledges what has arrived.
            let common = match &common {
                Some(common) => common,
                None => common.insert(self.common(cx)),
            };
            common.send(segment, &self.flow, &self.way, cx);
            sent += 1;
        }
        self.usage.on_send(self.flight_size(), false);
        cx.stack.tcp.counters.bytes_out += u64::from(self.snd_nxt.since(start));
        cx.stack.tcp.counters.segments_out += u64::from(sent);
        sent
    }

    /// Whether all of the segment may leave as it is: RFC 9293 §3.8.6.2.1 (silly windows), §3.7.4 (Nagle).
    #[inline(always)]
    fn leaves_whole(&self, next: &Segment<B>) -> bool {
        let usable = (self.snd_una + self.snd_wnd).distance(next.seq).max(0) as u32;
        let fits = next.len <= self.smss && next.len <= self.way.text_max.into() && next.len <= usable;
        let waits = self.options.nagle && self.waits_for_small(next);
        fits && !next.fin && !next.probe && !waits
    }

    /// Whether it is a small one, and so is one in flight.
    #[inline(always)]
    fn waits_for_small(&self, next: &Segment<B>) -> bool {
        next.len < self.smss && self.small_end.after(self.snd_una) && self.queue.is_last(next)
    }

    /// Takes the next segment to be sent, if all of it may leave and a buffer can be had.
    #[inline(always)]
    fn take_whole<E: Env<Buffer = B>>(&mut self, cwnd: u32, cx: &mut Cx<'_, B, E>) -> Option<Plain<B>> {
        let next = self.queue.next_unsent().filter(|next| self.leaves_whole(next))?;
        let in_flight = self.flight_size();
        if in_flight > 0 && in_flight + next.len > cwnd {
            return None;
        }
        let next = self.queue.next_unsent_mut()?;
        let buffer = cx.lend(next.payload.as_mut()?)?;
        let (seq, len, sum) = (next.seq, next.len, next.sum);
        let flags = flag::ACK | self.ecn.flags_out(true) | if next.push { flag::PSH } else { 0 };
        // As in `transmit`: what leaves together has different times.
        let sent_at = cx.now.max(self.last_sent_at.plus_nanos(1));
        next.note_first_sent(self.sampler.on_send(sent_at, seq.since(self.snd_una), len));
        self.queue.take_unsent();
        self.last_sent_at = sent_at;
        self.snd_nxt = seq + len;
        if len < self.smss && !self.has_unsent() {
            self.small_end = self.snd_nxt;
        }
        Some(Plain { seq, flags, len: len as usize, sum, buffer })
    }
}
