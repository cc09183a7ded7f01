//! Tail loss probe (RFC 8985 §7): where no acknowledgements come that could show a loss, one segment
//! is sent to draw one, well before the retransmission timer.

use core::time::Duration;

use super::ack::Delivery;
use super::recovery::Phase;
use super::rto::{INITIAL, MIN};
use super::seg::Seg;
use super::seq::SeqNum;
use super::tcb::{Cx, Tcb};
use super::timers::Timer;
use crate::buffer::Buffer;
use crate::env::Env;
use crate::time::Instant;

/// RFC 8985 §7.2, TLP.max_ack_delay: as long as a peer delays the acknowledgement of one segment.
const MAX_ACK_DELAY: Duration = MIN;
/// Timers of a worker are not finer than this.
const GRANULARITY: Duration = Duration::from_millis(2);

/// TLP.end_seq and TLP.is_retrans.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LossProbe {
    out: Option<Out>,
}

#[derive(Clone, Copy, Debug)]
struct Out {
    end_seq: SeqNum,
    resent: bool,
    /// What was in flight with it: the window that met the loss, if it repairs one.
    flight_size: u32,
}

impl LossProbe {
    pub(super) fn is_out(&self) -> bool {
        self.out.is_some()
    }

    pub(super) fn end(&mut self) {
        self.out = None;
    }
}

impl<B: Buffer> Tcb<B> {
    /// RFC 8985 §7.2: after new data or an acknowledgement.
    #[inline]
    pub(super) fn schedule_probe(&mut self, now: Instant) {
        let open = || self.recovery.phase == Phase::Open && self.queue.sacked() == 0 && self.queue.lost() == 0;
        let wanted =
            self.sack_ok && (self.course.is_smooth() || open()) && self.queue.sent_count() > 0 && !self.probe.is_out();
        if !wanted {
            self.timers.disarm(Timer::LossProbe);
            return;
        }
        let pto_ns = self.probe_timeout_ns();
        match self.timers.get(Timer::Retransmit) {
            Some(rto) if rto <= now.plus_nanos(pto_ns) => self.timers.disarm(Timer::LossProbe),
            _ => self.timers.arm(Timer::LossProbe, now.plus_nanos(pto_ns)),
        }
    }

    fn probe_timeout_ns(&self) -> u64 {
        let lone = self.queue.sent_count() == 1;
        let waiting = if lone { MAX_ACK_DELAY } else { GRANULARITY };
        match self.rtt.srtt_ns() {
            0 => INITIAL.as_nanos() as u64,
            srtt_ns => srtt_ns * 2 + waiting.as_nanos() as u64,
        }
    }

    /// RFC 8985 §7.3: the probe timer expired.
    pub(super) fn on_probe_timeout<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        let Some(last) = self.queue.sent_count().checked_sub(1) else { return };
        if self.probe.is_out() {
            return;
        }
        self.timers.arm(Timer::Retransmit, cx.now.plus_nanos(self.rtt.rto_ns()));
        let fresh = self.send_beyond_cwnd(cx);
        // Without a buffer nothing has left that could repair a loss.
        if !fresh && self.resend(last, cx).is_none() {
            return;
        }
        self.probe.out = Some(Out { end_seq: self.snd_nxt, resent: !fresh, flight_size: self.flight_size_unsacked() });
        cx.stack.tcp.counters.loss_probes += 1;
    }

    /// RFC 8985 §7.4: what an acknowledgement tells of the probe.
    pub(super) fn on_probe_ack<E: Env<Buffer = B>>(&mut self, seg: &Seg, delivery: &Delivery, cx: &Cx<'_, B, E>) {
        let Some(out) = self.probe.out else { return };
        if seg.ack.before(out.end_seq) {
            return;
        }
        let repeated = delivery.acked == 0 && !delivery.window_moved && seg.len() == 0 && seg.options.sack.is_empty();
        if !out.resent || (seg.ack == out.end_seq && delivery.dsack) {
            self.probe.end();
        } else if seg.ack.after(out.end_seq) {
            // The probe repaired a loss that nothing else would have shown: the window shrinks as for
            // any other.
            self.probe.end();
            if self.recovery.phase == Phase::Open {
                let flight_size = self.flight_size_unsacked().saturating_add(delivery.delivered).max(out.flight_size);
                self.on_loss(out.end_seq, flight_size, cx.now);
                self.congestion.on_recovered(cx.now);
            }
        } else if repeated {
            // Both the segment and the probe have arrived. The acknowledgement of what was repaired is none, for it moves on.
            self.probe.end();
        }
    }
}
