//! Explicit congestion notification (RFC 3168 §6.1).

use super::congestion::{Cause, Congestion};
use super::seg::{ECT0, Seg};
use super::seq::SeqNum;
use super::tcb::Tcb;
use crate::buffer::Buffer;
use crate::time::Instant;
use crate::wire::tcp::flag;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ecn {
    /// Both ends agreed.
    pub(super) ok: bool,
    /// RFC 3168 §6.1.3: a mark arrived, and the peer has not said that it slowed down.
    echo: bool,
    /// RFC 3168 §6.1.2: we slowed down, and have not said so.
    cwr: bool,
    /// No second reduction before this is acknowledged.
    pub(super) reacted_until: Option<SeqNum>,
}

impl Ecn {
    /// RFC 3168 §6.1.1: flags of a SYN that asks for it.
    pub(super) const ASK: u8 = flag::ECE | flag::CWR;
    /// Of a SYN,ACK that grants it.
    pub(super) const GRANT: u8 = flag::ECE;

    /// Whether the peer's SYN asks for it.
    pub(super) fn is_asked(seg: &Seg) -> bool {
        seg.flags & (flag::ECE | flag::CWR) == Self::ASK
    }

    /// Whether the peer's SYN,ACK grants it.
    pub(super) fn is_granted(seg: &Seg) -> bool {
        seg.flags & (flag::ECE | flag::CWR) == Self::GRANT
    }

    /// A segment of the peer's with text arrived, marked or not.
    pub(super) fn on_text(&mut self, seg: &Seg) {
        if !self.ok {
            return;
        }
        // RFC 3168 §6.1.3: a new mark counts also where the peer has just reduced.
        if seg.has(flag::CWR) {
            self.echo = false;
        }
        if seg.congestion_experienced() {
            self.echo = true;
        }
    }

    /// ECN bits of the flags of what leaves now; `fresh`: text that was never sent before.
    pub(super) fn flags_out(&mut self, fresh: bool) -> u8 {
        if !self.ok {
            return 0;
        }
        let echo = if self.echo { flag::ECE } else { 0 };
        let reduced = if fresh && core::mem::take(&mut self.cwr) { flag::CWR } else { 0 };
        echo | reduced
    }

    /// Forgets how far a reaction goes, once everything up to there is acknowledged.
    pub(super) fn pass(&mut self, snd_una: SeqNum) {
        self.reacted_until = self.reacted_until.filter(|&until| !snd_una.after(until));
    }

    /// ECN field of the IP header (RFC 3168 §6.1.4, §6.1.5: neither pure acknowledgements nor
    /// retransmissions may be marked).
    pub(super) fn field_out(&self, fresh: bool) -> u8 {
        if self.ok && fresh { ECT0 } else { 0 }
    }
}

impl<B: Buffer> Tcb<B> {
    /// RFC 3168 §6.1.2: an echo is as good as a loss, once per window.
    pub(super) fn on_ecn_echo(&mut self, now: Instant) {
        // What says that we slowed down begins at that number: acknowledgements up to it are of the same mark.
        let reacted = self.ecn.reacted_until.is_some_and(|until| !self.snd_una.after(until));
        if reacted || self.recovery.is_active() {
            return;
        }
        self.ecn.reacted_until = Some(self.snd_nxt);
        self.ecn.cwr = true;
        let (flight_size, in_flight) = (self.flight_size_unsacked(), self.in_flight());
        let congestion = Congestion { now, cause: Cause::Ecn, flight_size, in_flight, reduced_already: false };
        self.congestion.on_congestion(&congestion);
    }

    /// RFC 3168 §6.1.2: a loss in a window that was reduced for a mark, up to `end`, is of the same congestion.
    pub(super) fn on_loss(&mut self, end: SeqNum, flight_size: u32, now: Instant) {
        let reduced_already = self.ecn.reacted_until.is_some_and(|until| end.at_or_before(until));
        let in_flight = self.in_flight();
        let congestion = Congestion { now, cause: Cause::Loss, flight_size, in_flight, reduced_already };
        self.congestion.on_congestion(&congestion);
        if !reduced_already {
            self.note_reduction();
        }
    }

    /// How far the last reaction goes; before what is unacknowledged, if everything up to there is acknowledged.
    pub(super) fn reacted_until(&self) -> SeqNum {
        self.ecn.reacted_until.unwrap_or(self.snd_una - 1)
    }

    /// Losses reduce as well, and say so (RFC 3168 §6.1.2).
    pub(super) fn note_reduction(&mut self) {
        if self.ecn.ok {
            self.ecn.cwr = true;
            self.ecn.reacted_until = Some(self.snd_nxt);
        }
    }
}
