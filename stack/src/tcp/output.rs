//! What leaves now: what was lost, then new text as windows, Nagle and pacing allow (RFC 9293 §3.8),
//! then an acknowledgement if one is due.

use super::congestion::Restart;
use super::emit::Leaving;
use super::event::Piece;
use super::recovery::Phase;
use super::tcb::{Cx, Tcb};
use super::timers::Timer;
use crate::buffer::Buffer;
use crate::env::Env;
use crate::time::Instant;
use crate::wire::tcp::flag;

/// Why the next new segment stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hold {
    /// There is none.
    Nothing,
    /// The peer's window.
    Window,
    /// The congestion window.
    Congestion,
    /// It is small, and so is one in flight.
    Nagle,
}

impl<B: Buffer> Tcb<B> {
    /// Sends whatever may leave.
    pub(super) fn output<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        let has_read = core::mem::take(&mut self.has_read);
        if has_read {
            self.tune(cx);
        }
        let sent = if self.queue.is_empty() {
            false
        } else if self.goes_straight(cx) {
            self.send_straight(cx)
        } else {
            self.state.transmits() && self.send_text(cx)
        };
        // Text that leaves tells the window.
        if has_read && !sent {
            self.consider_window(cx);
        }
        if self.ack_now && self.state.acknowledges() {
            self.send_ack(cx);
        }
    }

    /// Whether any has left.
    #[inline(never)]
    pub(super) fn send_text<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) -> bool {
        let mut any = false;
        let mut budget = self.pacing_budget(cx);
        let snd_nxt = self.snd_nxt;
        let mut room = self.room_below(cx);
        // Ends: each pass sends bytes, which the windows bound.
        while budget > 0 && room > 0 {
            let sent = if self.recovery.takes_frto_segment() { None } else { self.resend_next(cx) };
            let Some(len) = sent.or_else(|| self.send_next(cx)) else { break };
            any = true;
            self.pacer.on_send(cx.now, len);
            room -= 1;
            budget = budget.saturating_sub(len);
            if budget == 0 && self.pacer.release_at() <= cx.now {
                budget = self.pacer.quantum(self.smss);
            }
        }
        if self.snd_nxt != snd_nxt {
            self.on_new_sent(cx.now);
        }
        if budget == 0 && self.pacer.release_at() > cx.now {
            self.timers.arm(Timer::Pace, self.pacer.release_at());
        } else if room == 0 && self.waits_for_room(cx) {
            return any;
        }
        if !self.timers.is_armed(Timer::Retransmit) && self.queue.sent_count() == 0 {
            self.arm_persist(cx.now);
        }
        any
    }

    /// Bytes that the pacer lets go at once.
    fn pacing_budget<E: Env<Buffer = B>>(&mut self, cx: &Cx<'_, B, E>) -> u32 {
        if self.pacing_rate() == 0 {
            return u32::MAX;
        }
        let release_at = self.pacer.release_at();
        if release_at > cx.now {
            self.timers.arm(Timer::Pace, release_at);
            return 0;
        }
        self.pacer.quantum(self.smss)
    }

    /// The window that congestion control, or PRR in recovery, grants.
    pub(super) fn cwnd(&self) -> u32 {
        match self.recovery.phase {
            Phase::Recovery if !self.congestion.governs_recovery() => self.recovery.prr.cwnd(),
            _ => self.congestion.cwnd(),
        }
    }

    #[inline]
    fn fits_cwnd(&self, in_flight: u32, len: u32) -> bool {
        in_flight == 0 || in_flight + len <= self.cwnd()
    }

    /// Whether the windows let another segment go.
    pub(super) fn may_send(&self) -> bool {
        let in_flight = self.in_flight();
        let lost = self.queue.next_to_resend().and_then(|at| self.queue.get(at));
        lost.is_some_and(|lost| self.fits_cwnd(in_flight, lost.seq_len().min(self.smss)))
            || self.may_send_next(in_flight).is_ok()
    }

    /// Sends the first lost segment again; bytes sent.
    fn resend_next<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) -> Option<u32> {
        let at = self.queue.next_to_resend()?;
        let len = self.queue.get(at)?.seq_len().min(self.smss);
        if !self.fits_cwnd(self.in_flight(), len) {
            return None;
        }
        self.resend(at, cx)
    }

    /// Sends a segment again, whatever the window; bytes sent.
    pub(super) fn resend<E: Env<Buffer = B>>(&mut self, at: usize, cx: &mut Cx<'_, B, E>) -> Option<u32> {
        let len = self.transmit(at, cx)?;
        cx.stack.tcp.counters.segments_resent += 1;
        self.retransmitted_bytes += u64::from(len);
        self.segments_resent += 1;
        let now_ts = self.now_ts(cx);
        self.recovery.on_resent(now_ts);
        Some(len)
    }

    /// Sends the next new segment if it may leave; bytes sent.
    fn send_next<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) -> Option<u32> {
        if self.mtu_search.is_some()
            && let Some(sent) = self.send_mtu_probe(cx)
        {
            return sent;
        }
        let in_flight = self.in_flight();
        match self.may_send_next(in_flight) {
            Ok(len) => self.send_new(len, cx),
            Err(hold) => {
                self.usage.on_send(in_flight, hold == Hold::Congestion);
                let idle = hold == Hold::Nothing && self.queue.to_resend() == 0 && in_flight < self.cwnd();
                if (idle && !self.writer_waits()) || self.congestion.holds_back() {
                    self.sampler.mark_app_limited(in_flight);
                }
                None
            }
        }
    }

    /// The application would have written more, had the send buffer had room: it is not what limits. Above a hole whose
    /// retransmission was lost as well the buffer fills with what has arrived, while the path is as full as ever.
    pub(super) fn writer_waits(&self) -> bool {
        self.write_blocked || self.news.has(Piece::Writable)
    }

    /// RFC 9293 §3.8.6.2.1 (silly windows), §3.7.4 (Nagle): bytes of the next new segment that may
    /// leave now.
    pub(super) fn may_send_next(&self, in_flight: u32) -> Result<u32, Hold> {
        let next = self.queue.next_unsent().ok_or(Hold::Nothing)?;
        let len = next.len.min(self.smss);
        let usable = (self.snd_una + self.snd_wnd).distance(next.seq).max(0) as u32;
        if usable == 0 || (usable < len && usable < self.snd_wnd_max / 2) {
            return Err(Hold::Window);
        }
        let len = len.min(usable);
        if !self.fits_cwnd(in_flight, len) {
            return Err(Hold::Congestion);
        }
        // A small segment waits for another small one, not for full ones (Minshall).
        let small = len < self.smss && self.queue.is_last(next) && !next.fin;
        if small && self.options.nagle && self.small_end.after(self.snd_una) {
            return Err(Hold::Nagle);
        }
        Ok(len)
    }

    /// Sends the next new segment, cut to `len` bytes; bytes sent. [`on_new_sent`](Self::on_new_sent) follows.
    pub(super) fn send_new<E: Env<Buffer = B>>(&mut self, len: u32, cx: &mut Cx<'_, B, E>) -> Option<u32> {
        let at = self.queue.sent_count();
        if self.queue.get(at)?.len > len && !self.split(at, len, cx) {
            return None;
        }
        // RFC 9293 §3.4: a FIN takes a number, and text may have filled the window.
        if len > 0 && self.queue.get(at)?.end().after(self.snd_una + self.snd_wnd) {
            self.queue.part_fin(at);
        }
        if self.flight_size() == 0 {
            self.restart_after_idle(cx);
        }
        let sent = self.transmit(at, cx)?;
        self.queue.take_unsent();
        self.snd_nxt += sent;
        debug_assert!(self.queue.get(at).is_some_and(|segment| segment.end() == self.snd_nxt));
        let last = !self.has_unsent();
        let len = sent - u32::from(last && self.queue.has_fin());
        if last && len < self.smss {
            self.small_end = self.snd_nxt;
        }
        cx.stack.tcp.counters.bytes_out += u64::from(len);
        self.usage.on_send(self.in_flight(), false);
        Some(sent)
    }

    /// New segments have left, one or several at once: what that means for the timers.
    #[inline(always)]
    pub(super) fn on_new_sent(&mut self, now: Instant) {
        self.begin_waiting(now);
        if !self.timers.is_armed(Timer::Retransmit) {
            self.timers.arm(Timer::Retransmit, now.plus_nanos(self.rtt.rto_ns()));
        }
        self.timers.disarm(Timer::Persist);
        self.schedule_probe(now);
    }

    /// A new segment in place of the loss probe, although the congestion window has no room.
    pub(super) fn send_beyond_cwnd<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) -> bool {
        let Some(next) = self.queue.next_unsent() else { return false };
        let len = next.len.min(self.smss);
        let usable = (self.snd_una + self.snd_wnd).distance(next.seq).max(0) as u32;
        let sent = usable >= len.max(1) && self.send_new(len, cx).is_some();
        if sent {
            self.on_new_sent(cx.now);
        }
        sent
    }

    /// RFC 9293 §3.8.6.2.1: what the window takes, though it is little; the override timeout is over.
    pub(super) fn send_override<E: Env<Buffer = B>>(&mut self, usable: u32, cx: &mut Cx<'_, B, E>) -> bool {
        let Some(next) = self.queue.next_unsent() else { return false };
        let len = next.len.min(self.smss).min(usable);
        let sent = self.send_new(len, cx).is_some();
        if sent {
            self.on_new_sent(cx.now);
        }
        sent
    }

    /// RFC 5681 §4.1.
    pub(super) fn restart_after_idle<E: Env<Buffer = B>>(&mut self, cx: &Cx<'_, B, E>) {
        let idle_ns = cx.now.nanos_since(self.last_sent_at);
        let app_limited = self.sampler.app_limited();
        self.congestion.on_idle_restart(&Restart { now: cx.now, idle_ns, rto_ns: self.rtt.rto_ns(), app_limited });
    }

    /// Cuts a segment behind `len` bytes; `false` if no buffer was free for the rest.
    pub(super) fn split<E: Env<Buffer = B>>(&mut self, at: usize, len: u32, cx: &mut Cx<'_, B, E>) -> bool {
        let Some(segment) = self.queue.get_mut(at) else { return false };
        let (whole, rest) = (segment.len, segment.len.saturating_sub(len) as usize);
        let Some(payload) = segment.payload.take() else { return false };
        // What is being read below is left alone.
        let front = if cx.env.is_shared(&payload) { cx.copy(&payload, 0, len as usize) } else { None };
        let tail = cx.copy(&payload, len as usize, rest);
        let shared = cx.env.is_shared(&payload);
        let (kept, spent) = match (front, tail) {
            (Some(front), Some(tail)) => {
                cx.hold();
                self.put_back(at, front);
                self.queue.split(at, len, tail);
                (true, Some(payload))
            }
            (None, Some(tail)) if !shared => {
                cx.hold();
                self.put_back(at, payload);
                self.queue.split(at, len, tail);
                (true, None)
            }
            (front, tail) => {
                self.put_back(at, payload);
                for copy in front.into_iter().chain(tail) {
                    cx.stack.ledger.release(cx.env, copy);
                }
                (false, None)
            }
        };
        if let Some(spent) = spent {
            cx.stack.ledger.release(cx.env, spent);
        }
        debug_assert!(kept || self.queue.get(at).is_some_and(|segment| segment.len == whole));
        kept
    }

    fn put_back(&mut self, at: usize, payload: B) {
        if let Some(segment) = self.queue.get_mut(at) {
            segment.payload = Some(payload);
        }
    }

    /// Sends a queued segment, for the first time or again; bytes sent, or `None` without a buffer.
    fn transmit<E: Env<Buffer = B>>(&mut self, at: usize, cx: &mut Cx<'_, B, E>) -> Option<u32> {
        if !self.knows_way(cx) {
            self.follow_path_mtu(cx);
        }
        let in_flight = self.in_flight();
        let mut segment = self.queue.get_mut(at)?;
        // The path may carry less than when it was written.
        if segment.len > self.smss && !segment.probe {
            if !self.split(at, self.smss, cx) {
                return None;
            }
            segment = self.queue.get_mut(at)?;
        }
        let (seq, len, fin, fresh, sum) =
            (segment.seq, segment.seq_len(), segment.fin, segment.transmits == 0, segment.sum);
        let push = segment.push || fin;
        let text = match &mut segment.payload {
            Some(payload) => Some(cx.lend(payload)?),
            None => None,
        };
        // RFC 8985 §5.2 tells what was sent first by time: a burst with one time for all must not put new text before what
        // was sent again.
        let sent_at = cx.now.max(self.last_sent_at.plus_nanos(1));
        let mut flags = flag::ACK | self.ecn.flags_out(fresh);
        flags |= if fin { flag::FIN } else { 0 } | if push { flag::PSH } else { 0 };
        if !self.emit(Leaving { seq, flags, text, sum, fresh }, cx) {
            return None;
        }
        self.queue.note_sent(at, self.sampler.on_send(sent_at, in_flight, len));
        self.last_sent_at = sent_at;
        if self.recovery.phase == Phase::Recovery {
            self.recovery.prr.on_send(len);
        }
        Some(len)
    }
}
