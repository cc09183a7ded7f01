//! New text straight to the way out: what `output` does with it on a connection without trouble, in the steps that it has for
//! just this. It is to what leaves as `prediction` is to what arrives.
//!
//! What holds for all segments that leave together is found out once: the way, the windows, what their headers have in common.
//! A segment that is to be cut, that ends the stream or finds no room is left to `output`, which looks at everything.

use super::plain::Common;
use super::tcb::{Cx, Tcb};
use crate::buffer::Buffer;
use crate::env::Env;
use crate::wire::tcp::flag;

impl<B: Buffer> Tcb<B> {
    /// Whether all that is queued was sent once or never, and nothing but the windows holds back the rest.
    #[inline]
    pub(super) fn goes_straight<E: Env<Buffer = B>>(&self, cx: &Cx<'_, B, E>) -> bool {
        self.course.is_straight() && self.knows_way(cx)
    }

    /// Sends new text; whether any has left.
    pub(super) fn send_straight<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) -> bool {
        let room = self.room_below(cx);
        let (sent, cwnd) = self.send_run(room, cx);
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

    /// There is room for more than the application has written.
    #[inline]
    fn on_all_sent(&mut self, cwnd: u32) {
        let in_flight = self.flight_size();
        if (in_flight < cwnd && !self.writer_waits()) || self.congestion.holds_back() {
            self.sampler.mark_app_limited(in_flight);
        }
    }

    /// Sends at most `room` segments as they are queued; how many, and the congestion window.
    #[inline]
    fn send_run<E: Env<Buffer = B>>(&mut self, room: u32, cx: &mut Cx<'_, B, E>) -> (u32, u32) {
        let mut in_flight = self.flight_size();
        let len_max = self.smss.min(self.plain_len_max());
        let (mut sent, mut bytes, mut last_len) = (0, 0, 0);
        let mut common: Option<Common> = None;
        let mut next = self.next_whole(len_max).filter(|_| room > 0);
        if in_flight == 0 && next.is_some() {
            self.restart_after_idle(cx);
        }
        let cwnd = self.congestion.cwnd();
        while let Some(len) = next
            && (in_flight == 0 || in_flight + len <= cwnd)
            && self.send_whole(len, in_flight, &mut common, cx)
        {
            (sent, bytes, last_len, in_flight) = (sent + 1, bytes + u64::from(len), len, in_flight + len);
            next = if sent < room { self.next_whole(len_max) } else { None };
        }
        self.usage.on_send(in_flight, false);
        if sent > 0 {
            cx.stack.tcp.counters.bytes_out += bytes;
            cx.stack.tcp.counters.segments_out += u64::from(sent);
            if last_len < self.smss && !self.has_unsent() {
                self.small_end = self.snd_nxt;
            }
        }
        (sent, cwnd)
    }

    /// Length of the next segment, if all of it may leave as it is, no longer than `len_max`: RFC 9293 §3.8.6.2.1 (silly windows), §3.7.4 (Nagle).
    #[inline]
    fn next_whole(&self, len_max: u32) -> Option<u32> {
        let next = self.queue.next_unsent()?;
        let len = next.len;
        let usable = (self.snd_una + self.snd_wnd).distance(next.seq).max(0) as u32;
        if len > len_max || len > usable || next.fin || next.probe {
            return None;
        }
        let waits =
            len < self.smss && self.options.nagle && self.small_end.after(self.snd_una) && self.queue.is_last(next);
        (!waits).then_some(len)
    }

    /// Sends it; whether a buffer could be had. Only then it acknowledges what has arrived, with what is put into `common`.
    #[inline(always)]
    fn send_whole<E: Env<Buffer = B>>(
        &mut self,
        len: u32,
        in_flight: u32,
        common: &mut Option<Common>,
        cx: &mut Cx<'_, B, E>,
    ) -> bool {
        // As in `transmit`: what leaves together has different times.
        let sent_at = cx.now.max(self.last_sent_at.plus_nanos(1));
        let at = self.queue.sent_count();
        let Some(segment) = self.queue.get_mut(at) else { return false };
        let (sum, push) = (segment.sum, segment.push);
        let Some(text) = segment.payload.as_mut().and_then(|payload| cx.lend(payload)) else { return false };
        let common = match common {
            Some(common) => common,
            None => common.insert(self.common(cx)),
        };
        let flags = flag::ACK | self.ecn.flags_out(true) | if push { flag::PSH } else { 0 };
        common.send(self.snd_nxt, flags, sum, text, &self.flow, &self.way, cx);
        self.queue.note_first_sent(at, self.sampler.on_send(sent_at, in_flight, len));
        self.last_sent_at = sent_at;
        self.snd_nxt += len;
        true
    }
}
