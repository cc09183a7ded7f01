//! RFC 9293 §3.10.7.4, seventh and eighth: the text of a segment, and its FIN.

use super::event::Piece;
use super::extension::Placement;
use super::receive_queue::Early;
use super::seg::Seg;
use super::seq::SeqNum;
use super::state::State;
use super::tcb::{Cx, Tcb};
use crate::buffer::Buffer;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::verdict::Verdict;

/// Text up to this long is added to the buffer before it where many are held already: small segments
/// would use up the buffers long before the window.
const COALESCE_MAX: usize = 512;
/// Buffers of one connection from which on that is done.
const COALESCE_FROM: usize = 64;
/// Buffers of one connection at most, whatever its window.
pub(super) const BUFFERS_MAX: usize = 8_192;

impl<B: Buffer> Tcb<B> {
    /// Takes in what of the segment is new and in the window.
    pub(super) fn on_text<E: Env<Buffer = B>>(&mut self, seg: &Seg, buffer: B, cx: &mut Cx<'_, B, E>) -> Verdict<B> {
        if seg.text_len == 0 && !seg.fin() {
            cx.stack.ledger.release(cx.env, buffer);
            return Verdict::Consumed;
        }
        if !self.state.takes_text() {
            return self.on_text_too_late(seg, buffer, cx);
        }
        self.ecn.on_text(seg);
        if self.orphan && seg.text_len > 0 {
            // RFC 9293 §3.10.7.4 with RFC 2525 §2.17: nobody will read it, and the peer should know.
            self.give_up(super::event::CloseReason::Reset, cx);
            return cx.stack.drop_packet(buffer, DropReason::TcpClosed, cx.env);
        }
        let in_order = seg.seq.at_or_before(self.rcv_nxt);
        // An early FIN takes a place, too; of what comes into a closed window nothing is kept.
        let keeps = self.rcv_wnd() > 0 && (seg.text_len > 0 || !in_order);
        if keeps && !self.may_keep(in_order, seg.text_len, cx) {
            // RFC 9293 §3.8.6.1: who hears nothing takes us for dead.
            self.ack_now = true;
            return cx.stack.drop_packet(buffer, DropReason::TcpMemory, cx.env);
        }
        match self.cut_to_window(seg, buffer, cx) {
            Ok((seq, fin, text)) if seq == self.rcv_nxt => self.take_in_order(seq, fin, text, cx),
            Ok((seq, fin, text)) => self.take_early(seq, fin, text, cx),
            Err((buffer, reason)) => {
                self.ack_now = true;
                // A probe of a closed window, perhaps: others may have left memory since.
                self.wnd_stale = true;
                match buffer {
                    Some(buffer) => cx.stack.drop_packet(buffer, reason, cx.env),
                    None => Verdict::Discarded(reason),
                }
            }
        }
    }

    /// The peer has sent its FIN: text after it cannot be.
    fn on_text_too_late<E: Env<Buffer = B>>(&mut self, seg: &Seg, buffer: B, cx: &mut Cx<'_, B, E>) -> Verdict<B> {
        self.ack_now |= seg.len() > 0 && self.state.is_synchronized();
        cx.stack.drop_packet(buffer, DropReason::TcpDuplicate, cx.env)
    }

    /// The text alone, without what lies outside of the window: where it begins, whether a FIN ends it.
    #[allow(clippy::type_complexity, reason = "named in one place, used in one place")]
    fn cut_to_window<E: Env<Buffer = B>>(
        &mut self,
        seg: &Seg,
        mut buffer: B,
        cx: &mut Cx<'_, B, E>,
    ) -> Result<(SeqNum, bool, Option<B>), (Option<B>, DropReason)> {
        // The SYN of a repeated SYN takes the first number.
        let start = seg.seq + u32::from(seg.syn());
        let old = self.rcv_nxt.distance(start).max(0) as u32;
        if old > 0 && self.sack_ok {
            self.report().on_duplicate(start, start + old.min(seg.text_len));
        }
        if old > seg.text_len || (old == seg.text_len && !seg.fin()) {
            return Err((Some(buffer), DropReason::TcpDuplicate));
        }
        let seq = start + old;
        let end = start + seg.text_len;
        let beyond = end.distance(self.rcv_adv).max(0) as u32;
        let len = (seg.text_len - old).saturating_sub(beyond);
        let fin = seg.fin() && beyond == 0;
        if len == 0 && !fin {
            return Err((Some(buffer), DropReason::TcpOutOfWindow));
        }
        if len == 0 {
            cx.stack.ledger.release(cx.env, buffer);
            return Ok((seq, fin, None));
        }
        buffer.truncate(seg.text_at + (old + len) as usize);
        cx.hold();
        match cx.cut_front(buffer, seg.text_at + old as usize) {
            Some(text) => Ok((seq, fin, Some(text))),
            None => Err((None, DropReason::NoBuffer)),
        }
    }

    /// Text at `rcv_nxt`, and whatever early text follows on it.
    fn take_in_order<E: Env<Buffer = B>>(
        &mut self,
        seq: SeqNum,
        fin: bool,
        text: Option<B>,
        cx: &mut Cx<'_, B, E>,
    ) -> Verdict<B> {
        let filled_gap = self.received.has_early();
        let before = self.rcv_nxt;
        let own_len = text.as_ref().map_or(0, |text| text.len() as u32);
        self.append(Early { seq, len: own_len, fin, text }, cx);
        // Each pass takes one early text out.
        while let Some(early) = self.received.next_in_turn(self.rcv_nxt) {
            self.append_overlapping(early, cx);
        }
        if let Some(report) = &mut self.sack_report {
            report.on_advance(self.rcv_nxt);
        }
        let len = self.rcv_nxt.since(before);
        // In TIME-WAIT the FIN has been acknowledged already.
        if !matches!(self.state, State::TimeWait | State::Closed) {
            // What had come before tells nothing of the peer's segments, and is acknowledged at once.
            self.on_in_order(own_len, cx.now);
            // RFC 5681 §4.2: at once when a gap is filled, all or in part.
            self.ack_now |= filled_gap || self.peer_finished;
        }
        cx.stack.tcp.counters.bytes_in += u64::from(len);
        Verdict::Held
    }

    /// Early text, of which some may have come in order since.
    fn append_overlapping<E: Env<Buffer = B>>(&mut self, mut early: Early<B>, cx: &mut Cx<'_, B, E>) {
        let before_len = early.len;
        let old = self.rcv_nxt.since(early.seq).min(before_len);
        if let Some(text) = early.text.take() {
            if old == before_len {
                cx.discard(text, DropReason::TcpDuplicate);
            } else {
                early.text = cx.cut_front(text, old as usize);
            }
        }
        // Nothing new; or no buffer, and it is as if it had never come.
        if early.text.is_none() && !early.fin {
            return;
        }
        early.seq = self.rcv_nxt;
        early.len = early.text.as_ref().map_or(0, |text| text.len() as u32);
        early.fin &= early.len + old == before_len;
        self.append(early, cx);
    }

    /// Puts text behind what is ready, for the application or the layer above.
    fn append<E: Env<Buffer = B>>(&mut self, early: Early<B>, cx: &mut Cx<'_, B, E>) {
        let Early { seq, len, fin, text } = early;
        self.rcv_nxt = seq + len;
        if let Some(text) = text {
            self.place(seq, text, cx);
        }
        if fin {
            self.on_fin(cx);
        }
    }

    fn place<E: Env<Buffer = B>>(&mut self, seq: SeqNum, text: B, cx: &mut Cx<'_, B, E>) {
        let placement = match &mut self.extension {
            Some(extension) => extension.place(seq.since(self.irs + 1), text),
            None => Placement::Own(text),
        };
        match placement {
            Placement::Own(text) => {
                // Its own is among those that all keep.
                let has_buffer =
                    cx.stack.tcp.config.may_keep(self.received.buffers(), cx.stack.tcp.held.saturating_sub(1));
                match !has_buffer && self.coalesce(&text, cx) {
                    true => cx.release(text),
                    false => self.store(text, cx),
                }
                self.news.add(Piece::Readable);
            }
            Placement::Taken => {
                cx.let_go();
                cx.stack.ledger.delivered += 1;
            }
        }
    }

    #[inline(always)]
    pub(super) fn store<E: Env<Buffer = B>>(&mut self, text: B, cx: &mut Cx<'_, B, E>) {
        if self.received.buffers() >= COALESCE_FROM && self.coalesce(&text, cx) {
            return cx.release(text);
        }
        self.received.push(text);
    }

    /// Adds text that is short, or longer where memory is, to the buffer before it; whether it could.
    #[inline(never)]
    fn coalesce<E: Env<Buffer = B>>(&mut self, text: &B, cx: &Cx<'_, B, E>) -> bool {
        let (n, own) = (text.len(), self.received.buffers());
        if let Some(last) = self.received.last_with_room(n)
            && (n <= COALESCE_MAX || cx.may_still_keep(own) < own)
            && let Ok(room) = last.append(n)
            && text.read_at(0, room).is_ok()
        {
            self.received.grew(n as u32);
            return true;
        }
        false
    }

    /// Eighth: everything before the FIN has been taken.
    fn on_fin<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        self.rcv_nxt += 1;
        self.rcv_adv = self.rcv_adv.later(self.rcv_nxt);
        self.peer_finished = true;
        self.ack_now = true;
        self.tell(Piece::Readable);
        while let Some(beyond) = self.received.pop_early() {
            if let Some(text) = beyond.text {
                cx.discard(text, DropReason::TcpOutOfWindow);
            }
        }
        if let Some(extension) = &mut self.extension {
            extension.on_finished();
        }
        match self.state {
            State::Established => self.state = State::CloseWait,
            State::FinWait1 => self.state = State::Closing,
            State::FinWait2 => {
                // The acknowledgement leaves first: TIME-WAIT may be forgotten at once.
                self.send_ack(cx);
                self.enter_time_wait(cx);
            }
            _ => {}
        }
    }

    /// Text that arrived before what precedes it: RFC 5681 §4.2, acknowledged at once.
    fn take_early<E: Env<Buffer = B>>(
        &mut self,
        seq: SeqNum,
        fin: bool,
        text: Option<B>,
        cx: &mut Cx<'_, B, E>,
    ) -> Verdict<B> {
        self.ack_now = true;
        let len = text.as_ref().map_or(0, |text| text.len() as u32);
        let mut rest = text;
        let mut verdict = Verdict::Consumed;
        let mut from = seq;
        let end = seq + len;
        let mut new = false;
        // Each pass fills one gap between early texts, of which there are finitely many.
        loop {
            let gap = self.received.gap(from, end + u32::from(fin));
            let skip = gap.from.since(from).min(end.since(from));
            let to = gap.to.earlier(end).later(gap.from.earlier(end));
            let piece_len = to.since(from + skip);
            let at_end = to == end;
            let piece_fin = fin && at_end && gap.to.after(end) && !gap.from.after(end);
            let (piece, tail) = match rest.take() {
                Some(text) => self.cut_piece(text, skip, piece_len, at_end, cx),
                None => (None, None),
            };
            if piece.is_some() || piece_fin {
                let len = piece.as_ref().map_or(0, |piece| piece.len() as u32);
                let early = Early { seq: from + skip, len, fin: piece_fin, text: piece };
                if self.sack_ok {
                    self.report().on_early(early.seq, early.end());
                }
                self.received.insert(gap.at, early);
                (new, verdict) = (true, Verdict::Held);
            }
            rest = tail;
            if at_end || rest.is_none() {
                break;
            }
            // Behind the early text that ends the gap.
            from = to;
        }
        if !new && len > 0 {
            if self.sack_ok {
                self.report().on_duplicate(seq, end);
            }
            return Verdict::Discarded(DropReason::TcpDuplicate);
        }
        verdict
    }

    /// Of `text`, the `len` bytes behind `skip`, and what lies behind them unless that was the end.
    fn cut_piece<E: Env<Buffer = B>>(
        &mut self,
        text: B,
        skip: u32,
        len: u32,
        at_end: bool,
        cx: &mut Cx<'_, B, E>,
    ) -> (Option<B>, Option<B>) {
        let (skip, len) = (skip as usize, len as usize);
        let behind = skip + len;
        let tail = if at_end || behind >= text.len() { None } else { cx.copy(&text, behind, text.len() - behind) };
        if tail.is_some() {
            cx.hold();
        }
        if len == 0 {
            cx.discard(text, DropReason::TcpDuplicate);
            return (None, tail);
        }
        let mut text = text;
        text.truncate(behind);
        (cx.cut_front(text, skip), tail)
    }

    /// Whether another text may be kept; text in order has precedence over early text.
    fn may_keep<E: Env<Buffer = B>>(&mut self, in_order: bool, len: u32, cx: &mut Cx<'_, B, E>) -> bool {
        let own = self.received.buffers();
        let granted = own < BUFFERS_MAX && cx.may_keep(own);
        // What fits behind the last needs no buffer.
        if granted || !in_order || self.received.last_with_room(len as usize).is_some() {
            return granted || in_order;
        }
        // RFC 2018 §8 allows to take back what was only selectively acknowledged.
        while let Some(given_up) = self.received.pop_early() {
            self.sack_report = None;
            // A FIN alone has no buffer.
            if let Some(text) = given_up.text {
                cx.discard(text, DropReason::TcpMemory);
                return true;
            }
        }
        false
    }
}
