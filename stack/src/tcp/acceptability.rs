//! Whether a segment is to be believed: sequence number (RFC 9293 §3.4), timestamps (RFC 7323 §5),
//! resets, SYNs and acknowledgements of attackers (RFC 5961).

use core::time::Duration;

use super::seg::Seg;
use super::seq::SeqNum;
use super::state::State;
use super::tcb::{Cx, Tcb};
use crate::buffer::Buffer;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::time::Instant;
use crate::wire::tcp_option::Timestamps;

/// RFC 7323 §5.5: timestamps older than 24 days say nothing.
const PAWS_IDLE_MAX: Duration = Duration::from_secs(24 * 24 * 3_600);
/// Between two answers of a connection to segments without text that lie outside of the window, or are to be challenged: enough
/// for probes, too few for a loop of acknowledgements.
const ANSWER_INTERVAL: Duration = Duration::from_millis(100);

/// A segment is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    pub(super) reason: DropReason,
    pub(super) answer: Answer,
}

/// What goes back for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Nothing,
    /// An acknowledgement of what has been received (RFC 9293 §3.10.7.4, first).
    Ack,
    /// Likewise, at a limited rate for the connection and the whole stack (RFC 5961 §7).
    ChallengeAck,
    /// A reset that the peer will believe.
    Reset,
    /// The SYN,ACK once more.
    SynAck,
}

impl Refusal {
    pub(super) const fn silent(reason: DropReason) -> Self {
        Self { reason, answer: Answer::Nothing }
    }

    pub(super) const fn with(reason: DropReason, answer: Answer) -> Self {
        Self { reason, answer }
    }
}

impl<B: Buffer> Tcb<B> {
    /// RFC 7323 §5.3, R1: protection against wrapped sequence numbers.
    pub(super) fn check_timestamps(&self, seg: &Seg, now: Instant) -> Result<(), Refusal> {
        if !self.timestamps_ok {
            return Ok(());
        }
        let Some(Timestamps { value, .. }) = seg.options.timestamps else {
            // RFC 7323 §3.2: once agreed, every segment but a reset must have them.
            return if seg.rst() { Ok(()) } else { Err(Refusal::silent(DropReason::TcpTimestampMissing)) };
        };
        if seg.rst() || !self.is_stale(value, now) {
            return Ok(());
        }
        Err(Refusal::with(DropReason::TcpPaws, Answer::Ack))
    }

    /// RFC 7323 §5.5: older than TS.Recent, which is not too old itself to tell.
    fn is_stale(&self, value: u32, now: Instant) -> bool {
        SeqNum(value).before(SeqNum(self.ts_recent)) && now.since(self.ts_recent_at) < PAWS_IDLE_MAX
    }

    /// RFC 9293 §3.10.7.4, first: something of the segment lies in the window.
    pub(super) fn check_sequence(&self, seg: &Seg) -> Result<(), Refusal> {
        let (len, window) = (seg.len(), self.rcv_wnd());
        let inside = |seq: SeqNum| seq.within(self.rcv_nxt, window);
        let acceptable = match (len, window) {
            (0, 0) => seg.seq == self.rcv_nxt,
            (0, _) => inside(seg.seq),
            // A closed window takes no text, but what the segment acknowledges counts (§3.10.7.4).
            (_, 0) => seg.seq == self.rcv_nxt,
            (_, _) => inside(seg.seq) || inside(seg.seq + (len - 1)) || self.spans_window(seg),
        };
        if acceptable {
            return Ok(());
        }
        if self.state == State::SynReceived && seg.syn() && seg.seq == self.irs {
            return self.check_repeated_syn(seg);
        }
        let answer = if seg.rst() { Answer::Nothing } else { Answer::Ack };
        Err(Refusal::with(DropReason::TcpOutOfWindow, answer))
    }

    /// Begins before the window and ends behind it.
    fn spans_window(&self, seg: &Seg) -> bool {
        seg.seq.before(self.rcv_nxt) && seg.end().after(self.rcv_adv)
    }

    /// In SYN-RECEIVED the peer's SYN comes again: with an acknowledgement it is the other half of a
    /// simultaneous open (RFC 9293 §3.5, figure 8), without one our SYN,ACK was lost.
    fn check_repeated_syn(&self, seg: &Seg) -> Result<(), Refusal> {
        if seg.acks() && !seg.rst() {
            return Ok(());
        }
        let answer = if seg.rst() { Answer::Nothing } else { Answer::SynAck };
        Err(Refusal::with(DropReason::TcpDuplicate, answer))
    }

    /// RFC 7323 §4.3: which timestamp is to be echoed.
    pub(super) fn note_timestamp(&mut self, seg: &Seg, now: Instant) {
        let Some(Timestamps { value, .. }) = seg.options.timestamps.filter(|_| self.timestamps_ok) else { return };
        if !self.is_stale(value, now) && seg.seq.at_or_before(self.last_ack_sent) {
            self.ts_recent = value;
            self.ts_recent_at = now;
        }
    }

    /// RFC 5961 §5.2: acknowledgements of what was never sent, or so old that nobody sends them.
    pub(super) fn check_ack(&self, seg: &Seg) -> Result<(), Refusal> {
        let too_old = seg.ack.before(self.snd_una - self.snd_wnd_max.max(1));
        if too_old || seg.ack.after(self.snd_nxt) {
            return Err(Refusal::with(DropReason::TcpAckUnacceptable, Answer::ChallengeAck));
        }
        Ok(())
    }

    /// Answers a refused segment.
    pub(super) fn answer_refused<E: Env<Buffer = B>>(&mut self, seg: &Seg, answer: Answer, cx: &mut Cx<'_, B, E>) {
        match answer {
            Answer::Nothing | Answer::Reset => {}
            Answer::Ack => {
                self.report_duplicate(seg);
                // A probe of a closed window, perhaps: others may have left memory since.
                self.wnd_stale = true;
                if seg.text_len > 0 || self.may_answer(cx.now) {
                    self.ack_now = true;
                }
            }
            Answer::ChallengeAck => {
                let (tcp, env) = (&mut cx.stack.tcp, &mut *cx.env);
                // Its own limit first: a single connection does not use up what others need.
                if self.may_answer(cx.now) && tcp.challenges.take(cx.now, || env.random()) {
                    tcp.counters.challenge_acks += 1;
                    self.send_ack(cx);
                } else {
                    tcp.counters.challenge_acks_withheld += 1;
                }
            }
            Answer::SynAck => self.send_syn(cx),
        }
    }

    /// Whether the last answer is long enough ago for another.
    pub(super) fn may_answer(&mut self, now: Instant) -> bool {
        let granted = now.since(self.answered_at) >= ANSWER_INTERVAL;
        if granted {
            self.answered_at = now;
        }
        granted
    }

    /// RFC 2883 §4: tells the peer of text that came twice.
    fn report_duplicate(&mut self, seg: &Seg) {
        let end = seg.end();
        if self.sack_ok && seg.text_len > 0 && end.at_or_before(self.rcv_nxt) {
            self.report().on_duplicate(seg.seq, end);
        }
    }
}
