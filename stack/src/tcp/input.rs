//! A segment for a connection: RFC 9293 §3.10.7.3 and §3.10.7.4, step by step.
//!
//! Each step either lets the segment pass to the next, or refuses it, with the reason and with what
//! goes back ([`Refusal`]).

use super::acceptability::{Answer, Refusal};
use super::ecn::Ecn;
use super::event::CloseReason;
use super::extension::{Ruling, SegmentView};
use super::seg::Seg;
use super::state::State;
use super::tcb::{Cx, Tcb};
use crate::buffer::Buffer;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::verdict::Verdict;

impl<B: Buffer> Tcb<B> {
    /// A segment arrives.
    pub(super) fn on_segment<E: Env<Buffer = B>>(&mut self, seg: &Seg, buffer: B, cx: &mut Cx<'_, B, E>) -> Verdict<B> {
        let calm = self.is_calm();
        let judged = match self.state {
            State::SynSent => self.on_segment_syn_sent(seg, &buffer, cx),
            _ => self.on_segment_otherwise(seg, &buffer, cx),
        };
        let verdict = match judged {
            // Seventh, process the segment text; eighth, check the FIN bit.
            Ok(()) => self.on_text(seg, buffer, cx),
            Err(refusal) => self.refuse(seg, refusal, buffer, cx),
        };
        if calm && self.is_calm() {
            self.output_soon(cx)
        } else {
            self.output(cx)
        }
        verdict
    }

    /// RFC 9293 §3.10.7.3: SYN-SENT.
    fn on_segment_syn_sent<E: Env<Buffer = B>>(
        &mut self,
        seg: &Seg,
        buffer: &B,
        cx: &mut Cx<'_, B, E>,
    ) -> Result<(), Refusal> {
        // First, check the ACK bit.
        let acceptable = seg.ack == self.iss + 1;
        if seg.acks() && !acceptable {
            let answer = if seg.rst() { Answer::Nothing } else { Answer::Reset };
            return Err(Refusal::with(DropReason::TcpAckUnacceptable, answer));
        }
        // Second, check the RST bit; RFC 5961 §3.2 takes one only with the right acknowledgement.
        if seg.rst() {
            if seg.acks() {
                self.fail(CloseReason::Refused, cx);
            }
            return Err(Refusal::silent(DropReason::TcpReset));
        }
        // Third, check the security: there is none.
        // Fourth, check the SYN bit.
        if !seg.syn() {
            return Err(Refusal::silent(DropReason::TcpAckMissing));
        }
        match self.extension_rules(seg, buffer, cx) {
            Ruling::Go => {}
            Ruling::Drop => return Err(Refusal::silent(DropReason::TcpExtensionRefused)),
            Ruling::Reset => return Err(Refusal::with(DropReason::TcpExtensionRefused, Answer::Reset)),
        }
        self.take_syn(seg, cx.now);
        self.ecn.ok = self.options.ecn && seg.acks() && Ecn::is_granted(seg);
        if seg.acks() {
            self.establish(seg, cx);
            self.ack_now = true;
        } else {
            // Simultaneous open (§3.5, figure 8).
            self.state = State::SynReceived;
            self.send_syn(cx);
            self.arm_syn_timer(cx.now);
        }
        Ok(())
    }

    /// RFC 9293 §3.10.7.4: all other states.
    fn on_segment_otherwise<E: Env<Buffer = B>>(
        &mut self,
        seg: &Seg,
        buffer: &B,
        cx: &mut Cx<'_, B, E>,
    ) -> Result<(), Refusal> {
        // First, check the sequence number; before it, PAWS (RFC 7323 §5.3).
        self.check_timestamps(seg, cx.now)?;
        self.check_sequence(seg)?;
        self.last_heard_at = cx.now;
        self.probes_out = 0;
        // Second, check the RST bit.
        self.on_rst(seg, cx)?;
        // Third, check the security: there is none.
        // Fourth, check the SYN bit.
        self.on_syn(seg)?;
        if self.extension_rules(seg, buffer, cx) != Ruling::Go {
            return Err(Refusal::silent(DropReason::TcpExtensionRefused));
        }
        // Fifth, check the ACK field.
        self.on_ack_field(seg, cx)?;
        self.note_timestamp(seg, cx.now);
        // Sixth, check the URG bit: urgent text is text (RFC 6093 §6).
        Ok(())
    }

    /// Second: RFC 9293 §3.10.7.4 with RFC 5961 §3.2.
    fn on_rst<E: Env<Buffer = B>>(&mut self, seg: &Seg, cx: &mut Cx<'_, B, E>) -> Result<(), Refusal> {
        if !seg.rst() {
            return Ok(());
        }
        // RFC 1337 §3, fix F1.
        if self.state == State::TimeWait {
            return Err(Refusal::silent(DropReason::TcpReset));
        }
        if seg.seq != self.rcv_nxt {
            return Err(Refusal::with(DropReason::TcpResetUnacceptable, Answer::ChallengeAck));
        }
        let refused = self.state == State::SynReceived && !self.passive;
        self.fail(if refused { CloseReason::Refused } else { CloseReason::Reset }, cx);
        Err(Refusal::silent(DropReason::TcpReset))
    }

    /// Fourth: RFC 9293 §3.10.7.4 with RFC 5961 §4.2.
    fn on_syn(&mut self, seg: &Seg) -> Result<(), Refusal> {
        let repeated = self.state == State::SynReceived && seg.seq == self.irs;
        if !seg.syn() || repeated {
            return Ok(());
        }
        Err(Refusal::with(DropReason::TcpSynUnexpected, Answer::ChallengeAck))
    }

    /// Fifth: RFC 9293 §3.10.7.4 with RFC 5961 §5.2.
    fn on_ack_field<E: Env<Buffer = B>>(&mut self, seg: &Seg, cx: &mut Cx<'_, B, E>) -> Result<(), Refusal> {
        if !seg.acks() {
            return Err(Refusal::silent(DropReason::TcpAckMissing));
        }
        if self.state == State::SynReceived {
            self.on_ack_of_syn(seg, cx)?;
        }
        self.check_ack(seg)?;
        self.on_ack(seg, cx);
        let fin_acked = self.queue.has_fin() && self.queue.is_empty();
        match self.state {
            State::FinWait1 if fin_acked => self.enter_fin_wait_2(cx.now),
            State::Closing if fin_acked => self.enter_time_wait(cx),
            State::LastAck if fin_acked => self.close(CloseReason::Finished),
            _ => {}
        }
        Ok(())
    }

    /// In SYN-RECEIVED: the handshake is complete.
    fn on_ack_of_syn<E: Env<Buffer = B>>(&mut self, seg: &Seg, cx: &mut Cx<'_, B, E>) -> Result<(), Refusal> {
        if !(seg.ack.after(self.snd_una) && seg.ack.at_or_before(self.snd_nxt)) {
            return Err(Refusal::with(DropReason::TcpAckUnacceptable, Answer::Reset));
        }
        if self.listener.is_some_and(|listener| cx.stack.tcp.listeners.refuses(listener)) {
            self.fail(CloseReason::Refused, cx);
            return Err(Refusal::with(DropReason::TcpPortClosed, Answer::Reset));
        }
        if !self.has_place_to_go(cx) {
            return Err(Refusal::silent(DropReason::TcpAcceptQueueFull));
        }
        self.establish(seg, cx);
        Ok(())
    }

    /// What a layer above says to a segment.
    fn extension_rules<E: Env<Buffer = B>>(&mut self, seg: &Seg, buffer: &B, cx: &mut Cx<'_, B, E>) -> Ruling {
        let Some(extension) = &mut self.extension else { return Ruling::Go };
        let options = buffer.bytes().get(seg.options_at.clone()).unwrap_or_default();
        let arrived = SegmentView {
            offset: if seg.syn() { 0 } else { seg.seq.since(self.irs + 1) },
            len: seg.text_len,
            syn: seg.syn(),
            ack: seg.acks(),
            fin: seg.fin(),
            rst: seg.rst(),
            acked: seg.ack.since(self.iss + 1),
            options,
        };
        let ruling = extension.on_segment(&arrived, cx.now);
        if ruling == Ruling::Reset {
            self.give_up(CloseReason::Reset, cx);
        }
        ruling
    }

    /// The segment ends here, named; what goes back for it is sent.
    fn refuse<E: Env<Buffer = B>>(
        &mut self,
        seg: &Seg,
        refusal: Refusal,
        buffer: B,
        cx: &mut Cx<'_, B, E>,
    ) -> Verdict<B> {
        if refusal.answer == Answer::Reset {
            return cx.stack.reset_in_answer(seg, buffer, refusal.reason, cx.env);
        }
        // The peer's FIN again lies right before the window: our acknowledgement of it was lost.
        let again = refusal.reason == DropReason::TcpOutOfWindow && seg.fin() && seg.end() == self.rcv_nxt;
        if self.state == State::TimeWait && again {
            self.linger_again(cx);
        }
        self.answer_refused(seg, refusal.answer, cx);
        cx.stack.drop_packet(buffer, refusal.reason, cx.env)
    }
}
