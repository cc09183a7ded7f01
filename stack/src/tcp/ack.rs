//! Acknowledgements: what they say of our segments (RFC 9293 §3.10.7.4, fifth; RFC 2018 §5;
//! RFC 2883 §4), of the round trip (RFC 6298) and of the peer's window.

use core::time::Duration;

use super::congestion::{Ack, pacing};
use super::event::Piece;
use super::isn::timestamp;
use super::recovery::Phase;
use super::seg::Seg;
use super::seq::SeqNum;
use super::tcb::{Cx, Tcb};
use super::timers::Timer;
use crate::buffer::Buffer;
use crate::env::Env;
use crate::time::Instant;
use crate::wire::tcp::flag;
use crate::wire::tcp_option::SackBlock;

/// Marks are taken along whenever `snd_una` comes into another sixteenth of the circle. An acknowledgement passes a quarter of it
/// at most (RFC 7323 §2.3), so that no mark lies half of it behind.
const SECTOR_BITS: u32 = 28;

/// What one acknowledgement brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivery {
    /// Bytes by which `snd_una` moved.
    pub(super) acked: u32,
    /// Bytes newly known to have arrived.
    pub(super) delivered: u32,
    /// Round-trip times in nanoseconds of the segments sent first and last, among those sent once; the last among those that
    /// nothing is missing before.
    pub(super) oldest: Option<u64>,
    pub(super) newest: Option<u64>,
    /// Something that was sent once has arrived, of what was sent before the time-out.
    pub(super) original: bool,
    /// Something that was sent again is acknowledged.
    pub(super) resent_acked: bool,
    /// The peer reports text that came twice.
    pub(super) dsack: bool,
    pub(super) window_moved: bool,
}

impl<B: Buffer> Tcb<B> {
    /// An acceptable acknowledgement, between `snd_una` and `snd_nxt`, or an old one.
    pub(super) fn on_ack<E: Env<Buffer = B>>(&mut self, seg: &Seg, cx: &mut Cx<'_, B, E>) {
        let in_flight_before = self.in_flight();
        let mut delivery = Delivery { window_moved: self.update_send_window(seg), ..Delivery::default() };
        self.take_acknowledged(seg, &mut delivery, cx);
        self.take_sacked(seg, &mut delivery, cx);
        // What had waited behind a hole that was filled again has waited for that, not for the path.
        if delivery.resent_acked {
            (delivery.oldest, delivery.newest) = (None, None);
        }
        self.sample_round_trip(seg, &delivery, cx);
        self.on_probe_ack(seg, &delivery, cx);
        if self.queue.sent_count() == 0 && delivery.acked == 0 && !seg.has(flag::ECE) {
            return;
        }
        self.recover(seg, &delivery, cx);
        let ecn_echo = self.ecn.ok && seg.has(flag::ECE);
        if ecn_echo {
            self.on_ecn_echo(cx.now);
        }
        self.tell_congestion_control(&delivery, in_flight_before, ecn_echo, cx);
        if delivery.acked > 0 {
            self.on_progress(cx);
        }
        self.rearm_after_ack(&delivery, cx.now);
    }

    /// SND.UNA moves on, and what lies before it is forgotten.
    fn take_acknowledged<E: Env<Buffer = B>>(&mut self, seg: &Seg, delivery: &mut Delivery, cx: &mut Cx<'_, B, E>) {
        if !seg.ack.after(self.snd_una) {
            return;
        }
        delivery.acked = seg.ack.since(self.snd_una);
        self.advance_una(seg.ack);
        self.note_lateness(seg, cx);
        self.take_run(seg.ack, delivery, cx);
        // What was sent again, or SACKed.
        while let Some(segment) = self.queue.pop_acknowledged(seg.ack) {
            if !segment.sacked {
                self.deliver(seg, &segment, segment.seq_len(), delivery, cx.now);
            }
            delivery.resent_acked |= segment.ever_resent();
            if let Some(payload) = segment.payload {
                cx.release(payload);
            }
        }
        delivery.delivered += self.take_part(seg.ack, cx);
    }

    /// Of the segments acknowledged those at the front that were sent once and are nothing special; whether there are any.
    #[inline(never)]
    pub(super) fn take_run<E: Env<Buffer = B>>(
        &mut self,
        ack: SeqNum,
        delivery: &mut Delivery,
        cx: &mut Cx<'_, B, E>,
    ) -> bool {
        let Some(run) = self.queue.plain_run(ack) else { return false };
        // Of the stamps, which are large, only the last is copied, and from where it lies.
        if let Some(last) = self.queue.stamp(run.count - 1) {
            self.sampler.on_delivered(cx.now, last, run.len);
        }
        for _ in 0..run.count {
            if let Some(payload) = self.queue.pop_plain() {
                cx.release(payload);
            }
        }
        delivery.delivered += run.len;
        delivery.original |= self.recovery_covers(run.first_end);
        self.rack.on_run_delivered(&run, cx.now);
        let (oldest, newest) = (cx.now.nanos_since(run.first_sent_at), cx.now.nanos_since(run.last_sent_at));
        delivery.oldest = Some(delivery.oldest.map_or(oldest, |other| other.max(oldest)));
        delivery.newest = Some(delivery.newest.map_or(newest, |other| other.min(newest)));
        true
    }

    /// The first segment was sent again, and the echo is from before that: it was late, and not lost.
    fn note_lateness<E: Env<Buffer = B>>(&mut self, seg: &Seg, cx: &Cx<'_, B, E>) {
        let resent = self.queue.get(0).filter(|first| first.ever_resent() && !first.sacked);
        let Some(stamp) = resent.and_then(|first| first.stamp) else { return };
        let echo = seg.options.timestamps.map_or(0, |timestamps| timestamps.echo);
        if echo != 0 && self.echo_predates(seg, stamp.sent_at) {
            self.rack.on_late(Duration::from_millis(self.now_ts(cx).wrapping_sub(echo).into()));
        }
    }

    /// Cuts off what is acknowledged of the first segment; how much that is.
    #[inline(never)]
    pub(super) fn take_part<E: Env<Buffer = B>>(&mut self, ack: SeqNum, cx: &mut Cx<'_, B, E>) -> u32 {
        let cut = self.queue.trim_acknowledged(ack);
        if cut > 0 {
            self.sampler.on_part_delivered(cx.now, cut);
            self.cut_first(cut, cx);
        }
        cut
    }

    /// Part of a segment was acknowledged.
    fn cut_first<E: Env<Buffer = B>>(&mut self, n: u32, cx: &mut Cx<'_, B, E>) {
        let Some(payload) = self.queue.get_mut(0).and_then(|first| first.payload.take()) else { return };
        // Only the FIN is left, which needs no buffer.
        if payload.len() == n as usize {
            return cx.release(payload);
        }
        let cut = cx.cut_front(payload, n as usize);
        let lost = cut.is_none();
        if let Some(first) = self.queue.get_mut(0) {
            first.payload = cut;
        }
        // Without its bytes the connection cannot go on.
        if lost {
            self.give_up(super::event::CloseReason::TimedOut, cx);
        }
    }

    /// A segment has arrived, for all that is known.
    fn deliver(
        &mut self,
        seg: &Seg,
        segment: &super::send_queue::Segment<B>,
        len: u32,
        delivery: &mut Delivery,
        now: Instant,
    ) {
        delivery.delivered += len;
        let Some(stamp) = segment.stamp else { return };
        self.sampler.on_delivered(now, &stamp, len);
        self.rack.on_delivered(segment, now, self.rtt.min(), self.echo_predates(seg, stamp.sent_at));
        if segment.probe {
            self.on_mtu_probe_arrived();
        }
        if segment.ever_resent() {
            return;
        }
        delivery.original |= self.recovery_covers(segment.end());
        let rtt = now.nanos_since(stamp.sent_at);
        delivery.oldest = Some(delivery.oldest.map_or(rtt, |oldest| oldest.max(rtt)));
        // What overtakes others has come a shorter way than they: it does not tell how long the path is.
        if segment.end().at_or_before(seg.ack) {
            delivery.newest = Some(delivery.newest.map_or(rtt, |newest| newest.min(rtt)));
        }
    }

    /// Whether the echoed timestamp is from before `sent_at`.
    fn echo_predates(&self, seg: &Seg, sent_at: Instant) -> bool {
        let sent_ts = timestamp(self.ts_offset, sent_at);
        let echo = seg.options.timestamps.filter(|_| self.timestamps_ok).map(|ts| ts.echo);
        echo.is_some_and(|echo| SeqNum(echo).before(SeqNum(sent_ts)))
    }

    /// RFC 2018 §5, RFC 2883 §4.
    fn take_sacked<E: Env<Buffer = B>>(&mut self, seg: &Seg, delivery: &mut Delivery, cx: &mut Cx<'_, B, E>) {
        if !self.sack_ok || seg.options.sack.is_empty() {
            return;
        }
        let blocks = seg.options.sack.as_slice();
        let duplicate = is_dsack(seg.ack, blocks);
        if duplicate {
            delivery.dsack = true;
            self.rack.on_dsack(self.snd_una, self.snd_nxt);
            self.on_needless_resend();
        }
        for block in blocks.iter().skip(usize::from(duplicate)) {
            self.take_block(seg, *block, delivery, cx.now);
        }
    }

    fn take_block(&mut self, seg: &Seg, block: SackBlock, delivery: &mut Delivery, now: Instant) {
        let (left, right) = (SeqNum(block.left), SeqNum(block.right));
        // What lies outside of what is sent and unacknowledged is old, or made up.
        let sane = left.before(right) && left.at_or_after(self.snd_una) && right.at_or_before(self.snd_nxt);
        if !sane {
            return;
        }
        let mut at = self.queue.pass_sacked(self.queue.first_from(left));
        while let Some(segment) = self.queue.sent_at(at).filter(|segment| segment.end().at_or_before(right)) {
            let seq_len = segment.seq_len();
            // Out of the queue for the moment, for its marks and the connection's both change.
            let view = segment.without_payload();
            at = self.queue.mark_sacked(at);
            self.deliver(seg, &view, seq_len, delivery, now);
        }
    }

    /// RFC 9293 §3.10.7.4: SND.WND, SND.WL1, SND.WL2. Whether the window changed.
    fn update_send_window(&mut self, seg: &Seg) -> bool {
        !seg.ack.before(self.snd_una) && self.take_send_window(seg.seq, seg.ack, seg.wnd)
    }

    /// The same, of an acknowledgement that is not old.
    #[inline]
    pub(super) fn take_send_window(&mut self, seq: SeqNum, ack: SeqNum, wnd: u16) -> bool {
        let newer = self.snd_wl1.before(seq) || (self.snd_wl1 == seq && self.snd_wl2.at_or_before(ack));
        if !newer {
            return false;
        }
        let window = u32::from(wnd) << self.snd_wscale;
        let (moved, opened) = (window != self.snd_wnd, window > self.snd_wnd);
        (self.snd_wnd, self.snd_wl1, self.snd_wl2) = (window, seq, ack);
        self.snd_wnd_max = self.snd_wnd_max.max(window);
        // Nothing is in flight while it runs; a window that stays does not put the override off (RFC 9293 §3.8.6.2.1).
        if opened && self.timers.is_armed(Timer::Persist) {
            self.rtt.reset();
            self.timers.disarm(Timer::Persist);
        }
        moved
    }

    /// RFC 6298 §3 (Karn): of what was sent once; by timestamps of what was sent again (RFC 7323 §4).
    fn sample_round_trip<E: Env<Buffer = B>>(&mut self, seg: &Seg, delivery: &Delivery, cx: &Cx<'_, B, E>) {
        if self.sample_delivered(delivery) {
            return;
        }
        let echo = seg.options.timestamps.filter(|_| self.timestamps_ok && delivery.acked > 0).map(|ts| ts.echo);
        if let Some(echo) = echo.filter(|&echo| echo != 0) {
            let ticks = self.now_ts(cx).wrapping_sub(echo);
            // More than a minute is no echo of ours, less than a tick no measure.
            if (1..60_000).contains(&ticks) {
                self.rtt.on_sample(Duration::from_millis(ticks.into()));
            }
        }
    }

    /// Of segments that were sent once; whether there were any.
    #[inline]
    pub(super) fn sample_delivered(&mut self, delivery: &Delivery) -> bool {
        if let Some(oldest) = delivery.oldest {
            self.rtt.on_sample_ns(oldest.max(1));
        }
        if let Some(newest) = delivery.newest {
            self.rtt.on_least_ns(newest.max(1));
        }
        delivery.oldest.is_some()
    }

    #[inline]
    pub(super) fn tell_congestion_control<E: Env<Buffer = B>>(
        &mut self,
        delivery: &Delivery,
        in_flight_before: u32,
        ecn_echo: bool,
        cx: &Cx<'_, B, E>,
    ) {
        let rate = if self.congestion.wants_rate() { self.sampler.sample(self.rtt.min()) } else { None };
        let round_start = rate.map_or_else(|| self.sampler.pass(), |rate| rate.round_start);
        if delivery.delivered == 0 && !ecn_echo {
            return;
        }
        let in_flight = self.in_flight();
        let mut ack = Ack {
            now: cx.now,
            acked: delivery.acked,
            delivered: delivery.delivered,
            delivered_total: self.sampler.delivered(),
            rtt_ns: delivery.newest.map_or(0, |newest| newest.max(1)),
            srtt_ns: self.rtt.srtt_ns(),
            in_flight_before,
            in_flight,
            cwnd_limited: false,
            ecn_echo,
            in_recovery: self.recovery.phase == Phase::Recovery,
            round_start,
            rate,
        };
        self.congestion.on_ack_within(&mut ack, &self.usage);
        if round_start {
            self.usage.on_round_start(in_flight);
        }
        self.set_pace();
    }

    /// Has segments leave at the rate that the control names, or that spreads the window.
    pub(super) fn set_pace(&mut self) {
        let own = self.congestion.pacing_rate();
        self.pacer.set_rate(own.unwrap_or_else(|| self.window_rate()), own.is_some());
    }

    /// All before `una` is acknowledged.
    #[inline(always)]
    pub(super) fn advance_una(&mut self, una: SeqNum) {
        let in_other_sector = (una.0 ^ self.snd_una.0) >> SECTOR_BITS != 0;
        self.snd_una = una;
        if in_other_sector {
            self.pass_marks();
        }
    }

    /// RFC 9293 §3.4: half a circle behind, a mark that nobody moves would lie ahead.
    #[inline(never)]
    fn pass_marks(&mut self) {
        self.small_end = self.small_end.later(self.snd_una);
        self.recovery.pass(self.snd_una);
        self.rack.pass(self.snd_una);
        self.ecn.pass(self.snd_una);
    }

    /// Bytes per second; 0: unlimited.
    pub(super) fn pacing_rate(&self) -> u64 {
        self.congestion.pacing_rate().unwrap_or_else(|| self.window_rate())
    }

    /// Where the control names none.
    #[inline]
    fn window_rate(&self) -> u64 {
        if !self.options.pacing {
            return 0;
        }
        pacing::window_rate(self.congestion.cwnd(), self.congestion.ssthresh(), self.rtt.srtt())
    }

    /// New data is acknowledged: the path is alive.
    #[inline(always)]
    pub(super) fn on_progress<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        self.rtt.on_progress();
        self.waiting_since = if self.queue.sent_count() > 0 { cx.now } else { Instant::ZERO };
        self.confirm_neighbour(cx);
        if self.write_blocked {
            self.unblock_writer();
        }
    }

    #[inline(never)]
    fn unblock_writer(&mut self) {
        let few = self.waiting() <= self.options.send_buffer_max / 3 * 2;
        if few && self.write_room() > 0 {
            self.write_blocked = false;
            self.news.add(Piece::Writable);
        }
    }

    /// RFC 6298 §5.2, §5.3; RFC 8985 §7.2.
    #[inline]
    pub(super) fn rearm_after_ack(&mut self, delivery: &Delivery, now: Instant) {
        if self.queue.sent_count() == 0 {
            self.timers.disarm(Timer::Reorder);
            return self.rearm_after_progress(now);
        }
        if delivery.acked > 0 || !self.timers.is_armed(Timer::Retransmit) {
            self.timers.arm(Timer::Retransmit, now.plus_nanos(self.rtt.rto_ns()));
        }
        if delivery.delivered > 0 {
            self.schedule_probe(now);
        }
    }

    /// The same where new data is acknowledged, and all of it known to have arrived.
    #[inline]
    pub(super) fn rearm_after_progress(&mut self, now: Instant) {
        if self.queue.sent_count() == 0 {
            self.timers.disarm(Timer::Retransmit);
            self.timers.disarm(Timer::LossProbe);
            return;
        }
        self.timers.arm(Timer::Retransmit, now.plus_nanos(self.rtt.rto_ns()));
        self.schedule_probe(now);
    }
}

/// RFC 2883 §4: the first block is below the acknowledgement, or within the second.
fn is_dsack(ack: SeqNum, blocks: &[SackBlock]) -> bool {
    match blocks {
        [first, ..] if SeqNum(first.right).at_or_before(ack) => true,
        [first, second, ..] => {
            SeqNum(first.left).at_or_after(SeqNum(second.left))
                && SeqNum(first.right).at_or_before(SeqNum(second.right))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
