//! How connections come up and go down (RFC 9293 §3.5, §3.6).

use core::num::NonZeroU32;
use core::time::Duration;

use super::congestion::Start;
use super::event::{CloseReason, Piece};
use super::receive_window::scale_for;
use super::seg::Seg;
use super::state::State;
use super::tcb::{Cx, Tcb};
use super::timers::Timer;
use crate::buffer::Buffer;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::time::Instant;
use crate::wire::tcp::flag;

/// In FIN-WAIT-2 without an application: the peer need not close, but we need not wait
/// (RFC 1122 §4.2.2.20 (h)).
const FIN_WAIT_2_MAX: Duration = Duration::from_secs(60);

impl<B: Buffer> Tcb<B> {
    /// The peer's SYN: its numbers, and what its options agree to.
    pub(super) fn take_syn(&mut self, seg: &Seg, now: Instant) {
        self.irs = seg.seq;
        self.rcv_nxt = seg.seq + 1;
        self.rcv_adv = self.rcv_nxt;
        self.last_ack_sent = self.rcv_nxt;
        self.last_heard_at = now;
        let (asked, wanted) = (&seg.options, &self.options);
        self.sack_ok = asked.sack_permitted && wanted.sack;
        self.timestamps_ok = asked.timestamps.is_some() && wanted.timestamps;
        self.wscale_ok = asked.window_scale.is_some() && wanted.window_scaling;
        if let Some(timestamps) = asked.timestamps.filter(|_| wanted.timestamps) {
            self.ts_recent = timestamps.value;
            self.ts_recent_at = now;
        }
        // RFC 7323 §2.2: both ends scale, or neither.
        self.snd_wscale = asked.window_scale.filter(|_| self.wscale_ok).unwrap_or(0);
        self.rcv_wscale = if self.wscale_ok { scale_for(wanted.receive_buffer_max) } else { 0 };
        let timeout_s = asked.user_timeout_s.filter(|_| wanted.user_timeout_option);
        self.user_timeout_s = timeout_s.and_then(NonZeroU32::new);
        self.path_mtu.on_syn(asked.mss, &self.flow);
        self.start_at_base(now);
        self.update_smss();
    }

    /// Both SYNs are acknowledged.
    pub(super) fn establish<E: Env<Buffer = B>>(&mut self, seg: &Seg, cx: &mut Cx<'_, B, E>) {
        self.state = if self.queue.has_fin() { State::FinWait1 } else { State::Established };
        self.snd_una = self.iss + 1;
        // RFC 7323 §2.2: the window of a SYN is not scaled.
        let scale = if seg.syn() { 0 } else { self.snd_wscale };
        self.snd_wnd = u32::from(seg.wnd) << scale;
        self.snd_wnd_max = self.snd_wnd;
        (self.snd_wl1, self.snd_wl2) = (seg.seq, seg.ack);
        self.timers.disarm(Timer::Retransmit);
        self.rtt.reset();
        self.begin_congestion_control(cx);
        // RFC 6298 §3: not of a SYN that was sent twice, after which the timer is less eager (§5.7).
        if self.syn_transmits == 1 {
            self.rtt.on_sample(cx.now.since(self.last_sent_at));
        } else if self.syn_transmits > 1 {
            self.rtt.fall_back();
        }
        self.confirm_neighbour(cx);
        self.arm_keep_alive(cx.now);
        match self.listener {
            Some(_) => self.tell(Piece::Accepted),
            None => self.tell(Piece::Connected),
        }
        cx.stack.tcp.on_established(self.listener);
    }

    /// Now that the segment size is known. RFC 5681 §3.1: from one segment if the SYN was lost.
    fn begin_congestion_control<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        let mut start = Start::new(cx.now, self.smss, cx.env.random());
        if self.syn_transmits > 1 {
            start.cwnd = self.smss;
        }
        self.congestion = (self.options.congestion_control.build)(&start);
    }

    /// Whether somebody will accept the connection that is about to be complete.
    pub(super) fn has_place_to_go<E: Env<Buffer = B>>(&self, cx: &Cx<'_, B, E>) -> bool {
        self.listener.is_none_or(|listener| cx.stack.tcp.listeners.has_place(listener))
    }

    /// The application will write no more.
    pub(super) fn shutdown<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        match self.state {
            State::Established => self.state = State::FinWait1,
            State::CloseWait => self.state = State::LastAck,
            // Goes out once the handshake is complete.
            State::SynSent | State::SynReceived if !self.queue.has_fin() => {}
            _ => return,
        }
        self.queue.mark_push();
        self.queue.push_fin();
        self.output(cx);
    }

    pub(super) fn enter_fin_wait_2(&mut self, now: Instant) {
        self.state = State::FinWait2;
        if self.orphan {
            self.timers.arm(Timer::Linger, now + FIN_WAIT_2_MAX);
        }
    }

    /// RFC 9293 §3.10.7.4, eighth, TIME-WAIT: acknowledged, and the time starts again.
    pub(super) fn linger_again<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        self.ack_now = true;
        self.timers.arm(Timer::Linger, cx.now + cx.stack.tcp.config.msl * 2);
    }

    /// The peer, or the network, has ended the connection.
    pub(super) fn fail<E: Env<Buffer = B>>(&mut self, reason: CloseReason, cx: &mut Cx<'_, B, E>) {
        cx.stack.tcp.counters.failed += 1;
        if let Some(extension) = &mut self.extension {
            extension.on_closed(reason);
        }
        self.close(reason);
        self.forget_buffers(cx);
    }

    /// We end the connection: a reset tells the peer (RFC 9293 §3.10.5).
    pub(super) fn give_up<E: Env<Buffer = B>>(&mut self, reason: CloseReason, cx: &mut Cx<'_, B, E>) {
        let tells = self.state.is_synchronized() && self.state != State::TimeWait || self.state == State::SynReceived;
        if tells {
            cx.stack.tcp.counters.resets_out += 1;
            let leaving = super::emit::Leaving {
                seq: self.snd_nxt,
                flags: flag::RST | flag::ACK,
                text: None,
                sum: None,
                fresh: false,
            };
            self.emit(leaving, cx);
        }
        self.fail(reason, cx);
    }

    /// Gives every buffer back, by what becomes of its bytes.
    pub(super) fn forget_buffers<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        self.forget_unsent(cx);
        for text in self.received.drain() {
            cx.discard(text, DropReason::TcpUnread);
        }
    }

    /// Gives the send queue's buffers back.
    fn forget_unsent<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        for (payload, was_sent) in self.queue.drain() {
            if was_sent {
                cx.release(payload);
            } else {
                cx.discard(payload, DropReason::TcpUnsent);
            }
        }
    }

    /// The connection has closed: what remains is what the application still has to read.
    pub(super) fn on_closed<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        if self.orphan {
            self.forget_buffers(cx);
        } else {
            self.forget_unsent(cx);
        }
    }
}
