//! RACK: loss by time (RFC 8985 §6). A segment is lost if one that was sent sufficiently later has
//! arrived, whatever lies between them in the sequence space.

use core::time::Duration;

use super::send_queue::{Run, Segment, SendQueue};
use super::seq::SeqNum;
use crate::buffer::Buffer;
use crate::time::Instant;

/// RFC 8985 §6.2 step 4: round trips that a window widened by D-SACK stays so.
const REO_WND_PERSIST: u8 = 16;
/// RFC 8985 §6.2 step 4: without reordering seen, so many segments SACKed stand for a loss.
const DUP_THRESH: u32 = 3;

#[derive(Clone, Copy, Debug)]
pub(super) struct Rack {
    /// Of the segment sent last among those that have arrived: when, up to where, how long it took.
    xmit_ts: Instant,
    end_seq: SeqNum,
    rtt_ns: u64,
    /// When that was learnt.
    learnt_at: Instant,
    /// The highest sequence number that has arrived.
    fack: SeqNum,
    reordering_seen: bool,
    /// Quarters of the least round-trip time that reordering is given.
    reo_wnd_mult: u8,
    /// By how much a segment came behind one sent later, in microseconds; 0: by nothing.
    lateness_us: u32,
    /// Recoveries for which both of these still hold.
    reo_wnd_persist: u8,
    /// End of the round trip in which a D-SACK has had its effect.
    dsack_round: Option<SeqNum>,
}

impl Rack {
    pub(super) fn new(iss: SeqNum) -> Self {
        Self {
            xmit_ts: Instant::ZERO,
            end_seq: iss,
            rtt_ns: 0,
            learnt_at: Instant::ZERO,
            fack: iss,
            reordering_seen: false,
            reo_wnd_mult: 1,
            lateness_us: 0,
            reo_wnd_persist: 0,
            dsack_round: None,
        }
    }

    fn rtt(&self) -> Duration {
        Duration::from_nanos(self.rtt_ns)
    }

    pub(super) fn reordering_seen(&self) -> bool {
        self.reordering_seen
    }

    /// Steps 1 to 3: a segment has arrived. `echo_predates`: the acknowledgement echoes a timestamp
    /// from before its last sending.
    pub(super) fn on_delivered<B>(
        &mut self,
        segment: &Segment<B>,
        now: Instant,
        min_rtt: Option<Duration>,
        echo_predates: bool,
    ) {
        self.detect_reordering(segment);
        let Some(stamp) = segment.stamp else { return };
        let rtt = now.since(stamp.sent_at);
        if !segment.ever_resent() {
            self.note_overtaken(stamp.sent_at, segment.end(), now);
        }
        // Step 2: which of its sendings has arrived? Not the last, if that is too short a time ago.
        if segment.ever_resent() && (echo_predates || min_rtt.is_some_and(|min| rtt < min)) {
            return;
        }
        if sent_after(stamp.sent_at, segment.end(), self.xmit_ts, self.end_seq) {
            self.rtt_ns = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX);
            self.xmit_ts = stamp.sent_at;
            self.end_seq = segment.end();
            self.learnt_at = now;
        }
    }

    /// The same, of segments in a row that were sent once.
    #[inline(always)]
    pub(super) fn on_run_delivered(&mut self, run: &Run, now: Instant) {
        self.reordering_seen |= run.first_end.before(self.fack);
        self.fack = self.fack.later(run.last_end);
        self.note_overtaken(run.first_sent_at, run.first_end, now);
        let sent_at = run.last_sent_at;
        if sent_after(sent_at, run.last_end, self.xmit_ts, self.end_seq) {
            (self.rtt_ns, self.xmit_ts, self.end_seq) = (now.nanos_since(sent_at), sent_at, run.last_end);
            self.learnt_at = now;
        }
    }

    /// A segment that was sent once, up to `end`, has arrived: has one sent later been known to be there before? One
    /// acknowledgement tells of several in any order.
    #[inline]
    fn note_overtaken(&mut self, sent_at: Instant, end: SeqNum, now: Instant) {
        if sent_after(self.xmit_ts, self.end_seq, sent_at, end) && self.learnt_at < now {
            let rtt = now.since(sent_at);
            if rtt > self.rtt() {
                self.on_late(rtt);
            }
        }
    }

    fn detect_reordering<B>(&mut self, segment: &Segment<B>) {
        if segment.end().after(self.fack) {
            self.fack = segment.end();
        } else if segment.end().before(self.fack) && !segment.ever_resent() {
            self.reordering_seen = true;
        }
    }

    /// A segment has arrived as it was sent first, `rtt` ago, behind one sent later: as late is waited for from now on.
    /// D-SACKs would tell as much only after needless retransmissions in several round trips. Those that were not given up
    /// count, too: a window that is wide enough must not be forgotten for lack of mistakes.
    pub(super) fn on_late(&mut self, rtt: Duration) {
        let lateness_us = u32::try_from(rtt.saturating_sub(self.rtt()).as_micros()).unwrap_or(u32::MAX);
        self.lateness_us = self.lateness_us.max(lateness_us);
        self.reo_wnd_persist = REO_WND_PERSIST;
        self.reordering_seen = true;
    }

    /// Step 4: a D-SACK says that a retransmission was needless, so reordering is given more time.
    pub(super) fn on_dsack(&mut self, snd_una: SeqNum, snd_nxt: SeqNum) {
        if self.dsack_round.is_some_and(|round| snd_una.before(round)) {
            return;
        }
        self.dsack_round = Some(snd_nxt);
        self.reo_wnd_mult = self.reo_wnd_mult.saturating_add(1);
        self.reo_wnd_persist = REO_WND_PERSIST;
    }

    /// Forgets the end of a round trip that has come.
    pub(super) fn pass(&mut self, snd_una: SeqNum) {
        self.dsack_round = self.dsack_round.filter(|&round| snd_una.before(round));
    }

    /// Step 4: an episode of recovery is over.
    pub(super) fn on_recovered(&mut self) {
        self.reo_wnd_persist = self.reo_wnd_persist.saturating_sub(1);
        if self.reo_wnd_persist == 0 {
            (self.reo_wnd_mult, self.lateness_us) = (1, 0);
        }
    }

    fn reo_wnd(&self, timing: &Timing) -> Duration {
        if !self.reordering_seen && (timing.recovering || timing.sacked >= DUP_THRESH * timing.smss) {
            return Duration::ZERO;
        }
        let quarter = timing.min_rtt.unwrap_or_default() / 4;
        let seen = Duration::from_micros(self.lateness_us.into());
        let wnd = (quarter * u32::from(self.reo_wnd_mult)).max(quarter + seen);
        wnd.min(timing.srtt.unwrap_or(quarter))
    }

    /// Step 5: the next segment from `at` on that is to be judged lost. `wait` becomes how long the
    /// last of the others has still to be waited for.
    pub(super) fn next_loss<B: Buffer>(
        &self,
        queue: &SendQueue<B>,
        timing: &Timing,
        at: &mut usize,
        wait: &mut Option<Duration>,
    ) -> Option<usize> {
        let reo_wnd = self.reo_wnd(timing);
        for (here, segment) in queue.missing_from(*at) {
            *at = here + 1;
            let Some(stamp) = segment.stamp else { continue };
            if !sent_after(self.xmit_ts, self.end_seq, stamp.sent_at, segment.end()) {
                // Segments sent once lie in the order of their sending: none behind is earlier.
                if !segment.ever_resent() {
                    return None;
                }
                continue;
            }
            if segment.lost && !segment.resent {
                continue;
            }
            let deadline = stamp.sent_at + self.rtt() + reo_wnd;
            if deadline <= timing.now {
                return Some(here);
            }
            let remaining = deadline.since(timing.now);
            *wait = Some(wait.map_or(remaining, |longest| longest.max(remaining)));
        }
        None
    }

    /// RFC 8985 §6.3: at a time-out, whether a segment has been out for longer than reordering
    /// would explain.
    pub(super) fn is_overdue<B>(&self, segment: &Segment<B>, timing: &Timing) -> bool {
        let deadline = |sent_at: Instant| sent_at + self.rtt() + self.reo_wnd(timing);
        segment.stamp.is_none_or(|stamp| deadline(stamp.sent_at) <= timing.now)
    }
}

/// What the connection knows when losses are looked for.
pub(super) struct Timing {
    pub(super) now: Instant,
    pub(super) srtt: Option<Duration>,
    pub(super) min_rtt: Option<Duration>,
    /// Bytes SACKed.
    pub(super) sacked: u32,
    pub(super) smss: u32,
    /// In fast recovery, or after a time-out.
    pub(super) recovering: bool,
}

/// RFC 8985 §5.2: by time, then by sequence number.
fn sent_after(time: Instant, end: SeqNum, other_time: Instant, other_end: SeqNum) -> bool {
    time > other_time || (time == other_time && end.after(other_end))
}
