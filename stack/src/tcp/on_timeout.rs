//! A connection's timers expire: RFC 9293 §3.10.8, and the probes of §3.8.4 and §3.8.6.1.

use super::emit::Leaving;
use super::event::CloseReason;
use super::rto::{SYN_ACK_RETRANSMITS_MAX, SYN_RETRANSMITS_MAX};
use super::state::State;
use super::tcb::{Cx, Tcb};
use super::timers::Timer;
use crate::buffer::Buffer;
use crate::env::Env;
use crate::time::Instant;
use crate::wire::tcp::flag;

/// Window probes without any answer before the peer is given up for dead (RFC 9293 §3.8.6.1).
const WINDOW_PROBES_MAX: u8 = 15;
/// Pauses between window probes, or what is sent again into a closed window, each twice the last, that a connection without
/// an application gets, answered or not: a peer that never opens its window would keep it for ever.
const ORPHAN_PAUSES_MAX: u8 = 8;

impl<B: Buffer> Tcb<B> {
    /// Does what is due.
    pub(super) fn on_timeout<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        for timer in Timer::ALL {
            if self.state != State::Closed && self.timers.expire(timer, cx.now) {
                self.on_timer(timer, cx);
            }
        }
        self.output(cx);
    }

    fn on_timer<E: Env<Buffer = B>>(&mut self, timer: Timer, cx: &mut Cx<'_, B, E>) {
        match timer {
            Timer::Retransmit if !self.state.is_synchronized() => self.on_syn_timeout(cx),
            Timer::Retransmit => self.on_retransmit_timeout(cx),
            Timer::LossProbe => self.on_probe_timeout(cx),
            Timer::Reorder => self.on_reorder_timeout(cx),
            Timer::Persist => self.on_persist_timeout(cx),
            Timer::DelayedAck => self.ack_now = true,
            Timer::KeepAlive => self.on_keep_alive_timeout(cx),
            Timer::Linger => self.close(CloseReason::Finished),
            // Output does the rest.
            Timer::Pace => self.let_write_again(),
        }
    }

    /// RFC 9293 §3.8.1 for SYN and SYN,ACK.
    fn on_syn_timeout<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        let max = if self.passive { SYN_ACK_RETRANSMITS_MAX } else { SYN_RETRANSMITS_MAX };
        let over = self.user_timeout().is_some_and(|timeout| cx.now.since(self.opened_at) >= timeout);
        if self.syn_transmits > max || (over && !self.passive) {
            self.fail(CloseReason::TimedOut, cx);
            return;
        }
        self.rtt.back_off();
        self.send_syn(cx);
        self.arm_syn_timer(cx.now);
    }

    pub(super) fn arm_syn_timer(&mut self, now: Instant) {
        self.timers.arm(Timer::Retransmit, now.plus_nanos(self.rtt.rto_ns()));
    }

    /// RFC 8985 §6.2 step 5: what could have been reordered was not.
    fn on_reorder_timeout<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        self.judge_by_time(cx);
        self.begin_recovery_if_lost(cx);
    }

    // ---- closed windows ---------------------------------------------------------------------

    /// Nothing is in flight, and the window lets nothing go.
    pub(super) fn arm_persist(&mut self, now: Instant) {
        if !self.has_unsent() || self.timers.is_armed(Timer::Persist) || self.timers.is_armed(Timer::Pace) {
            return;
        }
        self.timers.arm(Timer::Persist, now.plus_nanos(self.rtt.rto_ns()));
    }

    /// RFC 9293 §3.8.6.1, §3.8.6.2.1 (override timeout).
    fn on_persist_timeout<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        let usable = self.snd_wnd.saturating_sub(self.flight_size());
        if !self.has_unsent() || self.queue.sent_count() > 0 {
            return;
        }
        if usable > 0 && self.send_override(usable, cx) {
            return;
        }
        let gone = self.user_timeout().is_some_and(|timeout| cx.now.since(self.last_heard_at) >= timeout);
        if self.probes_out >= WINDOW_PROBES_MAX || (gone && self.probes_out > 0) || self.is_forlorn() {
            self.give_up(CloseReason::TimedOut, cx);
            return;
        }
        cx.stack.tcp.counters.window_probes += 1;
        self.send_probe(cx);
        self.rtt.back_off();
        self.timers.arm(Timer::Persist, cx.now.plus_nanos(self.rtt.rto_ns()));
    }

    /// Nobody waits any more for a window that does not open.
    pub(super) fn is_forlorn(&self) -> bool {
        self.orphan && self.rtt.expiries() >= ORPHAN_PAUSES_MAX
    }

    /// A segment that lies before the window, and is answered by what the peer expects.
    fn send_probe<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        self.probes_out = self.probes_out.saturating_add(1);
        self.emit(Leaving { seq: self.snd_una - 1, flags: flag::ACK, text: None, sum: None, fresh: false }, cx);
    }

    // ---- keep-alive -------------------------------------------------------------------------

    pub(super) fn arm_keep_alive(&mut self, now: Instant) {
        if let Some(keep_alive) = self.options.keep_alive {
            self.timers.arm(Timer::KeepAlive, now + keep_alive.idle);
        }
    }

    /// RFC 9293 §3.8.4: only where nothing has been heard, and nothing is on its way.
    fn on_keep_alive_timeout<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        let Some(keep_alive) = self.options.keep_alive else { return };
        let quiet_until = self.last_heard_at + keep_alive.idle;
        if self.queue.sent_count() > 0 || self.timers.is_armed(Timer::Persist) {
            self.arm_keep_alive(cx.now);
        } else if quiet_until > cx.now {
            self.timers.arm(Timer::KeepAlive, quiet_until);
        } else if self.probes_out >= keep_alive.probes_max {
            self.give_up(CloseReason::TimedOut, cx);
        } else {
            cx.stack.tcp.counters.keep_alive_probes += 1;
            self.send_probe(cx);
            self.timers.arm(Timer::KeepAlive, cx.now + keep_alive.interval);
        }
    }
}
