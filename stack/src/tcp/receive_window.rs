//! The window offered to the peer: never taken back, never in small pieces (RFC 9293 §3.8.6.2.2), and
//! as large as the path needs (dynamic right-sizing, Fisk and Feng 2001; RFC 7323 §2).

use super::tcb::{Cx, Tcb};
use crate::buffer::Buffer;
use crate::env::Env;
use crate::time::Instant;
use crate::wire::tcp_option::WINDOW_SCALE_MAX;

/// Taken for a round trip before one is measured, and at least.
const ROUND_TRIP_DEFAULT_NS: u64 = 100_000_000;
const ROUND_TRIP_MIN_NS: u64 = 1_000_000;

/// How fast the application reads.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tuning {
    /// Bytes read since the round trip began.
    read: u32,
    /// Most bytes read in a round trip so far.
    read_max: u32,
    /// `ZERO`: nothing was read yet.
    began_at: Instant,
}

/// RFC 7323 §2.3: the least shift with which the whole buffer can be offered.
pub(super) fn scale_for(buffer_max: u32) -> u8 {
    (0..WINDOW_SCALE_MAX).find(|&shift| buffer_max >> shift <= u32::from(u16::MAX)).unwrap_or(WINDOW_SCALE_MAX)
}

fn count(buffers: usize) -> u32 {
    u32::try_from(buffers).unwrap_or(u32::MAX)
}

impl<B: Buffer> Tcb<B> {
    /// RCV.WND: what the peer may still send.
    #[inline]
    pub(super) fn rcv_wnd(&self) -> u32 {
        self.rcv_adv.distance(self.rcv_nxt).max(0) as u32
    }

    /// Bytes for which there is room from `rcv_nxt` on. Early text lies among them.
    fn room(&self) -> u32 {
        let limit = self.extension.as_ref().and_then(|extension| extension.receive_window());
        let room = limit.unwrap_or_else(|| self.receive_buffer.saturating_sub(self.received.ready_bytes()));
        room.min(u32::from(u16::MAX) << self.rcv_wscale)
    }

    /// Bytes for which there is memory, in segments as the peer has sent them, but room for a full one if for any.
    #[inline(never)]
    fn memory<E: Env<Buffer = B>>(&self, cx: &Cx<'_, B, E>) -> u32 {
        let buffers = count(cx.may_still_keep(self.received.buffers()));
        buffers.saturating_mul(self.rcv_mss).max(buffers.min(1) * self.smss)
    }

    /// By how much the right edge could move on, if that is worth telling.
    #[inline]
    fn window_gain<E: Env<Buffer = B>>(&self, cx: &Cx<'_, B, E>) -> u32 {
        let room = self.room();
        let edge = self.rcv_nxt + if cx.has_memory() { room } else { room.min(self.memory(cx)) };
        let gain = edge.distance(self.rcv_adv).max(0) as u32;
        // RFC 9293 §3.8.6.2.2: at least half of the buffer, or a full segment; or as much as makes one of what is left.
        let window = self.rcv_wnd();
        let makes_one = window < self.rcv_mss && window + gain >= self.rcv_mss;
        if gain >= (self.receive_buffer / 2).min(self.rcv_mss) || makes_one { gain } else { 0 }
    }

    /// The window field of a segment that leaves now.
    #[inline]
    pub(super) fn window_out<E: Env<Buffer = B>>(&mut self, cx: &Cx<'_, B, E>) -> u16 {
        // Whoever only sends tells the same again and again.
        if self.rcv_nxt != self.last_ack_sent || self.wnd_stale {
            self.wnd_told = self.window_anew(cx);
            self.wnd_stale = false;
        }
        self.wnd_told
    }

    #[inline]
    fn window_anew<E: Env<Buffer = B>>(&mut self, cx: &Cx<'_, B, E>) -> u16 {
        self.rcv_adv += self.window_gain(cx);
        // RFC 7323 §2.3: rounded up, for the edge must not move back.
        let unit_max = (1 << self.rcv_wscale) - 1;
        let units = ((self.rcv_wnd() + unit_max) >> self.rcv_wscale).min(u16::MAX.into());
        self.rcv_adv = self.rcv_adv.later(self.rcv_nxt + (units << self.rcv_wscale));
        units as u16
    }

    /// The window field of a SYN is not scaled (RFC 7323 §2.2).
    pub(super) fn window_of_syn<E: Env<Buffer = B>>(&mut self, cx: &Cx<'_, B, E>) -> u16 {
        self.offer_first(self.room().min(self.memory(cx)))
    }

    /// The SYN was answered by a cookie, which offers the whole buffer.
    pub(super) fn offer_by_cookie(&mut self) {
        self.offer_first(self.room());
    }

    fn offer_first(&mut self, window: u32) -> u16 {
        // A SYN that is sent again may find less memory.
        self.rcv_adv = self.rcv_adv.later(self.rcv_nxt + window.min(u16::MAX.into()));
        self.rcv_wnd().min(u16::MAX.into()) as u16
    }

    /// The application has read `n` bytes: what that means is considered later.
    #[inline]
    pub(super) fn note_read(&mut self, n: u32) {
        self.tuning.read = self.tuning.read.saturating_add(n);
        self.has_read |= n > 0;
        self.wnd_stale = true;
    }

    /// The application has read `n` bytes.
    pub(super) fn on_read<E: Env<Buffer = B>>(&mut self, n: u32, cx: &mut Cx<'_, B, E>) {
        self.note_read(n);
        self.end();
        self.output_soon(cx);
    }

    /// Tells the peer of the window if it opens noticeably.
    pub(super) fn consider_window<E: Env<Buffer = B>>(&mut self, cx: &Cx<'_, B, E>) {
        if !self.state.takes_text() {
            return;
        }
        let (gain, window) = (self.window_gain(cx), self.rcv_wnd());
        // A peer that waits is told of the first segment that it may send.
        let noticeable = if window < self.rcv_mss { self.rcv_mss - window } else { (2 * self.rcv_mss).max(window) };
        self.ack_now |= gain >= noticeable.min(self.receive_buffer / 2).max(1);
    }

    /// Lets the buffer grow with the pace at which the application has read: to twice of what it reads in a round trip, so
    /// that the peer can double its rate in the next.
    #[inline]
    pub(super) fn tune<E: Env<Buffer = B>>(&mut self, cx: &Cx<'_, B, E>) {
        let now = cx.now;
        let read_for_ns = now.nanos_since(self.tuning.began_at);
        if read_for_ns >= ROUND_TRIP_MIN_NS && read_for_ns >= self.round_trip_ns() {
            self.tune_anew(cx);
        }
    }

    fn round_trip_ns(&self) -> u64 {
        match self.rtt.srtt_ns() {
            0 => ROUND_TRIP_DEFAULT_NS,
            srtt_ns => srtt_ns,
        }
    }

    /// A round trip is over, or the first has begun.
    #[inline(never)]
    fn tune_anew<E: Env<Buffer = B>>(&mut self, cx: &Cx<'_, B, E>) {
        // What was read before the first begins is of none.
        let read = core::mem::take(&mut self.tuning.read);
        let is_over = core::mem::replace(&mut self.tuning.began_at, cx.now) != Instant::ZERO;
        if is_over && read > self.tuning.read_max {
            self.tuning.read_max = read;
            let wanted = read.saturating_mul(2).saturating_add(16 * self.rcv_mss);
            let max = self.options.receive_buffer_max.max(self.options.receive_buffer);
            let memory = count(cx.stack.tcp.config.buffers_max / 2).saturating_mul(self.rcv_mss);
            self.receive_buffer = self.receive_buffer.max(wanted.min(max).min(memory));
            self.wnd_stale = true;
        }
    }
}
