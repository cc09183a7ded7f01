//! Loss recovery: from the judgement that something is lost to its repair (RFC 5681 §3.2, RFC 6582,
//! RFC 8985), after a time-out (RFC 6298 §5, RFC 5682), and when it was a mistake (RFC 3522, RFC 3708).
//!
//! ```text
//!            lost (RACK, 3 duplicate ACKs)             snd_una reaches the point
//!    Open ------------------------------> Recovery ------------------------------> Open
//!      |                                      |
//!      +------------- time-out ---------------+--> Loss --- likewise, or spurious --> Open
//! ```

use super::ack::Delivery;
use super::congestion::Timeout;
use super::event::CloseReason;
use super::isn::timestamp;
use super::prr::Prr;
use super::rack::Timing;
use super::rto::RETRANSMITS_MAX;
use super::seg::Seg;
use super::seq::SeqNum;
use super::tcb::{Cx, Tcb};
use super::timers::Timer;
use crate::buffer::Buffer;
use crate::env::Env;

/// RFC 5681 §3.2: of peers without SACK.
const DUPLICATE_ACKS: u8 = 3;
/// RFC 5682 §2.1 step 2: new segments sent to find out whether a time-out was a mistake.
const FRTO_SEGMENTS: u8 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Open,
    /// Fast recovery.
    Recovery,
    /// After a time-out.
    Loss,
}

/// RFC 5682 §2.1: finding out whether a time-out was a mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Frto {
    Off,
    /// The first segment was sent again; step 2 awaits an acknowledgement.
    Waiting,
    /// So many new segments may be sent; step 3 awaits what they bring.
    Probing {
        left: u8,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Recovery {
    pub(super) phase: Phase,
    /// RecoveryPoint: `snd_nxt` when it began.
    point: SeqNum,
    pub(super) prr: Prr,
    /// Without SACK: each stands for a segment that has arrived.
    duplicate_acks: u8,
    /// Our clock at the first retransmission of the episode (RFC 3522 §3.2).
    resent_ts: Option<u32>,
    /// Retransmissions of the episode that no D-SACK has told to be needless; `None`: one could not
    /// tell any more.
    undecided: Option<u16>,
    /// `snd_nxt` when the last episode ended: D-SACKs may be about its retransmissions until that is acknowledged.
    past: SeqNum,
    frto: Frto,
    /// How far a reaction to congestion went before the episode; before what was unacknowledged then, if nowhere.
    reacted_before: SeqNum,
}

impl Recovery {
    pub(super) fn new(iss: SeqNum) -> Self {
        Self {
            phase: Phase::Open,
            point: iss,
            prr: Prr::default(),
            duplicate_acks: 0,
            resent_ts: None,
            undecided: None,
            past: iss,
            frto: Frto::Off,
            reacted_before: iss,
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.phase != Phase::Open
    }

    /// No duplicate acknowledgement stands for a segment.
    pub(super) fn counts_none(&self) -> bool {
        self.duplicate_acks == 0
    }

    /// Takes off what duplicate acknowledgements tell to have arrived.
    pub(super) fn in_flight(&self, pipe: u32, smss: u32) -> u32 {
        pipe.saturating_sub(u32::from(self.duplicate_acks).saturating_mul(smss))
    }

    pub(super) fn on_resent(&mut self, now_ts: u32) {
        self.resent_ts.get_or_insert(now_ts);
        if let Some(undecided) = &mut self.undecided {
            *undecided = undecided.saturating_add(1);
        }
    }

    /// RFC 5682: whether the next segment is to be a new one, though others are judged lost.
    pub(super) fn takes_frto_segment(&mut self) -> bool {
        match &mut self.frto {
            Frto::Probing { left } if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }

    /// Takes along what lies behind `snd_una`.
    pub(super) fn pass(&mut self, snd_una: SeqNum) {
        (self.point, self.past) = (self.point.later(snd_una), self.past.later(snd_una));
        self.reacted_before = self.reacted_before.later(snd_una - 1);
    }

    fn begin(&mut self, phase: Phase, point: SeqNum, reacted_until: SeqNum) {
        // Of several time-outs in a row only the first reduces what a mistake would restore.
        if (self.phase, phase) != (Phase::Loss, Phase::Loss) {
            self.reacted_before = reacted_until;
        }
        self.phase = phase;
        self.point = point;
        self.resent_ts = None;
        self.undecided = Some(0);
        self.frto = Frto::Off;
    }
}

impl<B: Buffer> Tcb<B> {
    /// What an acknowledgement means for the recovery under way, or begins one.
    pub(super) fn recover<E: Env<Buffer = B>>(&mut self, seg: &Seg, delivery: &Delivery, cx: &mut Cx<'_, B, E>) {
        let delivered = self.count_duplicate(seg, delivery);
        if self.recovery.is_active() && self.was_spurious(seg, delivery) {
            self.undo(cx);
        }
        if self.recovery.is_active() && self.snd_una.at_or_after(self.recovery.point) {
            self.end_recovery(cx);
        }
        // What was sent again and is lost again counts, too.
        let lost_before = self.queue.to_resend();
        if !self.frto_holds(delivery) {
            self.judge_losses(delivery, cx);
        }
        let lost_more = self.queue.to_resend() > lost_before;
        if self.recovery.phase == Phase::Open && self.queue.to_resend() > 0 && !self.only_mtu_probe_lost() {
            self.begin_recovery(delivery.delivered, cx);
        }
        if self.recovery.phase == Phase::Recovery {
            let (in_flight, ssthresh) = (self.in_flight(), self.congestion.ssthresh());
            let safe = delivery.acked > 0 && !lost_more;
            self.recovery.prr.on_ack(delivered, in_flight, ssthresh, self.smss, safe);
        }
    }

    /// RFC 5681 §2, definition of a duplicate acknowledgement; only of use without SACK. Returns the bytes that have newly arrived:
    /// a segment for each duplicate, which is taken off again when it is acknowledged (RFC 9937 §5, DeliveredData).
    fn count_duplicate(&mut self, seg: &Seg, delivery: &Delivery) -> u32 {
        if self.sack_ok {
            return delivery.delivered;
        }
        let in_doubt = match self.recovery.phase {
            Phase::Open => self.flight_size(),
            _ => self.recovery.point.since(self.snd_una),
        };
        let recovery = &mut self.recovery;
        if delivery.acked > 0 {
            let segments = u8::try_from(delivery.acked.div_ceil(self.smss)).unwrap_or(u8::MAX);
            // The first of them was missing, and caused none.
            let counted = recovery.duplicate_acks.min(segments.saturating_sub(1));
            recovery.duplicate_acks = if recovery.phase == Phase::Open { 0 } else { recovery.duplicate_acks - counted };
            return delivery.delivered.saturating_sub(u32::from(counted) * self.smss);
        }
        if seg.len() > 0 || delivery.window_moved || self.queue.sent_count() == 0 {
            return 0;
        }
        // RFC 5681 §3.2 step 4: in recovery those that no segment in doubt can have caused are of no use to a peer that makes them up.
        let caused = u32::from(recovery.duplicate_acks) * self.smss < in_doubt && recovery.duplicate_acks < u8::MAX;
        let counts = caused || recovery.phase == Phase::Open;
        recovery.duplicate_acks = recovery.duplicate_acks.saturating_add(u8::from(counts));
        if caused { self.smss } else { 0 }
    }

    fn judge_losses<E: Env<Buffer = B>>(&mut self, delivery: &Delivery, cx: &mut Cx<'_, B, E>) {
        if self.sack_ok {
            self.judge_by_time(cx);
        } else {
            self.judge_by_duplicates(delivery, cx);
        }
    }

    /// RFC 8985 §6.2 step 5.
    pub(super) fn judge_by_time<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        // Nothing out of order, nothing sent twice: nothing older than what has arrived is out there.
        if self.queue.sacked() == 0 && self.queue.lost() == 0 && !self.probe.is_out() {
            self.timers.disarm(Timer::Reorder);
            return;
        }
        let timing = self.timing(cx);
        let mut at = 0;
        let mut wait = None;
        let mut range_start = true;
        let mut previous: Option<usize> = None;
        while let Some(found) = self.rack.next_loss(&self.queue, &timing, &mut at, &mut wait) {
            range_start |= previous.is_none_or(|previous| previous + 1 != found);
            self.lose(found, range_start, cx);
            previous = Some(found);
            range_start = false;
        }
        match wait {
            Some(wait) => self.timers.arm(Timer::Reorder, cx.now + wait),
            None => self.timers.disarm(Timer::Reorder),
        }
    }

    /// RFC 6582 §3.2: the first segment is lost after three duplicates, and after each partial
    /// acknowledgement.
    fn judge_by_duplicates<E: Env<Buffer = B>>(&mut self, delivery: &Delivery, cx: &mut Cx<'_, B, E>) {
        let begins = self.recovery.phase == Phase::Open
            && self.recovery.duplicate_acks >= DUPLICATE_ACKS
            && self.snd_una.at_or_after(self.recovery.point);
        let partial = self.recovery.phase == Phase::Recovery && delivery.acked > 0;
        let fresh = self.queue.get(0).is_some_and(|first| !first.lost);
        if (begins || partial) && fresh && self.queue.sent_count() > 0 {
            self.lose(0, true, cx);
        }
    }

    fn timing<E: Env<Buffer = B>>(&self, cx: &Cx<'_, B, E>) -> Timing {
        Timing {
            now: cx.now,
            srtt: self.rtt.srtt(),
            min_rtt: self.rtt.min(),
            sacked: self.queue.sacked(),
            smss: self.smss,
            recovering: self.recovery.is_active(),
        }
    }

    /// Judges a segment lost, and tells congestion control.
    pub(super) fn lose<E: Env<Buffer = B>>(&mut self, at: usize, range_start: bool, cx: &mut Cx<'_, B, E>) {
        self.queue.mark_lost(at);
        let Some(segment) = self.queue.get(at) else { return };
        if segment.probe {
            self.queue.forget_probe(at);
            return self.on_mtu_probe_lost();
        }
        let len = segment.seq_len();
        if let Some(stamp) = segment.stamp {
            let lost = self.sampler.on_lost(cx.now, &stamp, len, range_start);
            self.congestion.on_lost(&lost);
        }
    }

    /// Something was judged lost without an acknowledgement coming.
    pub(super) fn begin_recovery_if_lost<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        if self.recovery.phase == Phase::Open && self.queue.to_resend() > 0 && !self.only_mtu_probe_lost() {
            self.begin_recovery(0, cx);
        }
        if self.recovery.phase == Phase::Recovery {
            let (in_flight, ssthresh) = (self.in_flight(), self.congestion.ssthresh());
            self.recovery.prr.on_ack(0, in_flight, ssthresh, self.smss, false);
        }
    }

    fn begin_recovery<E: Env<Buffer = B>>(&mut self, delivered: u32, cx: &mut Cx<'_, B, E>) {
        // Before this acknowledgement. RFC 9937 §6.1: what was SACKed before will not be delivered in this recovery.
        let flight_size = self.flight_size_unsacked().saturating_add(delivered);
        let first_lost = self.queue.next_to_resend().and_then(|at| self.queue.get(at));
        let end = first_lost.map_or(self.snd_nxt, |lost| lost.end());
        self.recovery.begin(Phase::Recovery, self.snd_nxt, self.reacted_until());
        self.on_loss(end, flight_size, cx.now);
        self.recovery.prr = Prr::begin(flight_size, self.smss);
        self.timers.disarm(Timer::LossProbe);
        cx.stack.tcp.counters.recoveries += 1;
    }

    fn end_recovery<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        self.recovery.phase = Phase::Open;
        self.recovery.past = self.snd_nxt;
        self.recovery.frto = Frto::Off;
        self.recovery.duplicate_acks = 0;
        self.rack.on_recovered();
        self.congestion.on_recovered(cx.now);
    }

    // ---- time-out ---------------------------------------------------------------------------

    /// RFC 6298 §5.4 to §5.7.
    pub(super) fn on_retransmit_timeout<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        if self.queue.sent_count() == 0 {
            return;
        }
        if self.has_stalled(cx) {
            self.give_up(CloseReason::TimedOut, cx);
            return;
        }
        cx.stack.tcp.counters.timeouts += 1;
        self.suspect_black_hole(cx);
        let flight_size = self.flight_size();
        self.mark_timed_out(cx);
        let again = self.recovery.phase == Phase::Loss;
        let (in_flight, backoff) = (self.in_flight(), self.rtt.expiries().into());
        self.congestion.on_rto(&Timeout { now: cx.now, flight_size, in_flight, backoff });
        self.rtt.back_off();
        self.recovery.begin(Phase::Loss, self.snd_nxt, self.reacted_until());
        self.note_reduction();
        // RFC 5682 §2.1 step 1: not for a time-out of what was sent again.
        self.recovery.frto = if again { Frto::Off } else { Frto::Waiting };
        self.recovery.duplicate_acks = 0;
        self.probe.end();
        self.timers.disarm(Timer::Reorder);
        self.timers.disarm(Timer::LossProbe);
        self.resend(0, cx);
        self.timers.arm(Timer::Retransmit, cx.now.plus_nanos(self.rtt.rto_ns()));
    }

    /// RFC 8985 §6.3: the first segment, and what has been out for as long. Without SACK: all.
    fn mark_timed_out<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        // RFC 2018 §8: a peer that has the first segment would have acknowledged it.
        if self.queue.get(0).is_some_and(|first| first.sacked) {
            self.queue.forget_sacks();
        }
        let timing = self.timing(cx);
        let mut range_start = true;
        for at in 0..self.queue.sent_count() {
            let Some(segment) = self.queue.get(at) else { break };
            let missing = !segment.sacked && (!segment.lost || segment.resent);
            let overdue = at == 0 || !self.sack_ok || self.rack.is_overdue(segment, &timing);
            if missing && overdue {
                self.lose(at, range_start, cx);
            }
            range_start = !(missing && overdue);
        }
    }

    /// Something is unacknowledged from now on, if not since before.
    #[inline]
    pub(super) fn begin_waiting(&mut self, now: crate::time::Instant) {
        if self.waiting_since == crate::time::Instant::ZERO {
            self.waiting_since = now;
        }
    }

    /// RFC 9293 §3.8.3, RFC 5482: whether it is time to give up.
    fn has_stalled<E: Env<Buffer = B>>(&mut self, cx: &Cx<'_, B, E>) -> bool {
        self.begin_waiting(cx.now);
        let since = self.waiting_since;
        // RFC 9293 §3.8.6.1: a peer that closes its window, and says so, is alive.
        if self.snd_wnd == 0 && cx.now.since(self.last_heard_at) < 2 * super::rto::MAX {
            return self.is_forlorn();
        }
        match self.user_timeout() {
            Some(timeout) => cx.now.since(since) >= timeout,
            None => self.rtt.expiries() >= RETRANSMITS_MAX,
        }
    }

    // ---- mistakes ---------------------------------------------------------------------------

    fn was_spurious(&self, seg: &Seg, delivery: &Delivery) -> bool {
        // RFC 3522 §3.2 (Eifel): what was sent again is acknowledged for what was sent before. Acknowledgements of what lies
        // below it say nothing: RACK sends again what is not the first.
        let echo = seg.options.timestamps.filter(|_| self.timestamps_ok && delivery.resent_acked).map(|ts| ts.echo);
        let earlier = |echo: u32| self.recovery.resent_ts.is_some_and(|resent| SeqNum(echo).before(SeqNum(resent)));
        if echo.is_some_and(earlier) {
            return true;
        }
        // RFC 3708 §3: the peer had everything that was sent again.
        let all_needless = self.recovery.resent_ts.is_some() && self.recovery.undecided == Some(0);
        if delivery.dsack && all_needless {
            return true;
        }
        // RFC 5682 §3.1 step 3b, §2.1 step 3b: what was never sent again has arrived.
        let certain = self.sack_ok || !delivery.resent_acked;
        self.recovery.frto != Frto::Off && delivery.original && certain
    }

    /// Whether what ends at `end` was sent before the episode began.
    pub(super) fn recovery_covers(&self, end: SeqNum) -> bool {
        end.at_or_before(self.recovery.point)
    }

    /// A D-SACK tells of a retransmission that was needless: of this episode, if those of the last are through.
    pub(super) fn on_needless_resend(&mut self) {
        let past = self.snd_una.before(self.recovery.past);
        if let Some(undecided) = self.recovery.undecided.as_mut().filter(|_| !past) {
            *undecided = undecided.saturating_sub(1);
        }
    }

    fn undo<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        self.queue.forget_losses();
        self.recovery.phase = Phase::Open;
        self.recovery.past = self.snd_nxt;
        self.recovery.frto = Frto::Off;
        self.recovery.undecided = None;
        self.recovery.resent_ts = None;
        self.recovery.duplicate_acks = 0;
        self.ecn.reacted_until = Some(self.recovery.reacted_before);
        self.ecn.pass(self.snd_una);
        self.congestion.on_spurious(cx.now);
        cx.stack.tcp.counters.spurious += 1;
    }

    /// RFC 5682 §2.1 step 2: after the first acknowledgement of the retransmission, new data is sent
    /// instead of judging the rest lost; what comes back decides.
    fn frto_holds(&mut self, delivery: &Delivery) -> bool {
        let first = self.recovery.frto == Frto::Waiting && delivery.acked > 0;
        // Whatever the congestion window: it has room for them after a time-out.
        if first && self.may_send_next(0).is_ok() {
            self.recovery.frto = Frto::Probing { left: FRTO_SEGMENTS };
            return true;
        }
        if self.recovery.frto == Frto::Off {
            return false;
        }
        self.recovery.frto = Frto::Off;
        // Step 3a: conventional recovery, everything sent before the time-out is in doubt.
        false
    }

    /// Our clock, as timestamps tell it.
    pub(super) fn now_ts<E: Env<Buffer = B>>(&self, cx: &Cx<'_, B, E>) -> u32 {
        timestamp(self.ts_offset, cx.now)
    }
}
