//! Header prediction (Jacobson, "4BSD TCP header prediction", ACM CCR 1990): the segment that was to come next, on a
//! connection without trouble, in the steps that RFC 9293 §3.10.7.4 has for just this one.
//!
//! 1. [`Recognized`] names a connection by a glance at the frame, or its flow does. It is the one if link and IP headers are as
//!    in its last segment that came the long way ([`Heard`]), apart from what may differ: then all that was found out about
//!    them still holds.
//! 2. [`Tcb::expects`]: it begins at RCV.NXT, acknowledges what is in flight, has timestamps or no options, and nothing is
//!    missing in either direction.
//! 3. [`Tcb::take_expected`] does the steps.
//!
//! Whatever is not so goes the long way, from the beginning, and nothing has happened to it here.

mod front;

use alloc::boxed::Box;

use zerocopy::IntoBytes;

use self::front::{Candidate, Front};
use super::ack::Delivery;
use super::congestion::Ack;
use super::event::Piece;
use super::flow::Flow;
use super::seq::SeqNum;
use super::state::State;
use super::tcb::{Cx, Tcb};
use super::timers::Timer;
use super::{Tcp, text};
use crate::buffer::Buffer;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::interface::InterfaceId;
use crate::packet::Packet;
use crate::stack::Stack;
use crate::verdict::Verdict;
use crate::wire::ethernet::HEADER_LEN as LINK_LEN;
use crate::wire::ipv4;

/// Numbers of connections at hand; others take their places, and are then found by their flows.
const PLACES: usize = 1_024;

/// What was in front of a connection's last segment that came the long way, untagged and to us alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Heard {
    /// 0: there is none.
    epoch: u16,
    interface: u16,
    /// Destination and source of the link header.
    stations: [u8; STATIONS_LEN],
}

const STATIONS_LEN: usize = 12;

impl Heard {
    /// Whether the frame is from the same station to the same, and holds what is admitted still.
    #[inline(always)]
    fn is(&self, front: &Front<'_>, id: InterfaceId, epoch: u16) -> bool {
        self.epoch == epoch
            && u32::from(self.interface) == id.0
            && front.link.as_bytes().starts_with(&self.stations)
            && front.link.ethertype == front.addresses.ethertype()
    }
}

/// Connections by a few bits of their flows.
#[derive(Debug)]
pub(super) struct Recognized {
    /// Their numbers plus one; 0: there is none.
    places: [u32; PLACES],
    /// The configuration of the interfaces admits what is in front of the segments that were heard in it: a change begins
    /// another. Never 0.
    epoch: u16,
}

impl Default for Recognized {
    fn default() -> Self {
        Self { places: [0; PLACES], epoch: 1 }
    }
}

impl Recognized {
    /// A guess will do: who is found is compared.
    #[inline]
    fn place_of(front: &Front<'_>) -> usize {
        let ports = u32::from(front.tcp.source_port.get()) << 16 | u32::from(front.tcp.destination_port.get());
        // Fibonacci hashing: the upper bits depend on all.
        ((front.addresses.low_bits() ^ ports).wrapping_mul(0x9e37_79b1) >> 22) as usize % PLACES
    }
}

impl<B> Tcp<B> {
    /// What frames are admitted for another reason from now on.
    pub(crate) fn forget_recognized(&mut self) {
        self.recognized.epoch = match self.recognized.epoch.checked_add(1) {
            Some(epoch) => epoch,
            // The first epochs come again: what was heard in them is not to be taken for heard now.
            None => {
                self.table.iter_mut().for_each(|tcb| tcb.heard = Heard::default());
                1
            }
        };
    }
}

/// What became of an expected segment. A [`Verdict`] has room for whole datagrams, and is not to be handed on from hand to hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    Held,
    Consumed,
    Discarded(DropReason),
}

impl<B> From<Taken> for Verdict<B> {
    #[inline]
    fn from(taken: Taken) -> Self {
        match taken {
            Taken::Held => Self::Held,
            Taken::Consumed => Self::Consumed,
            Taken::Discarded(reason) => Self::Discarded(reason),
        }
    }
}

impl<B: Buffer> Stack<B> {
    /// Takes in a frame that brings a connection the segment it expects; others go the long way.
    #[inline(always)]
    pub(crate) fn on_expected<E: Env<Buffer = B>>(&mut self, id: InterfaceId, buffer: B, env: &mut E) -> Verdict<B> {
        // Each kind of addresses has a way of its own, where they are compared as they lie.
        match buffer.bytes().get(LINK_LEN) {
            Some(&ipv4::VERSION_IHL) => self.on_expected_behind(|buffer| Front::of_ipv4(buffer), id, buffer, env),
            Some(first) if first >> 4 == 6 => self.on_expected_ipv6(id, buffer, env),
            _ => self.on_frame(id, buffer, env),
        }
    }

    #[inline(never)]
    fn on_expected_ipv6<E: Env<Buffer = B>>(&mut self, id: InterfaceId, buffer: B, env: &mut E) -> Verdict<B> {
        self.on_expected_behind(|buffer| Front::of_ipv6(buffer), id, buffer, env)
    }

    #[inline(always)]
    fn on_expected_behind<E: Env<Buffer = B>>(
        &mut self,
        read: impl Fn(&B) -> Option<Front<'_>>,
        id: InterfaceId,
        mut buffer: B,
        env: &mut E,
    ) -> Verdict<B> {
        let recognized = match read(&buffer) {
            Some(front) => self.recognize(&front, id, &buffer),
            None => None,
        };
        let Some((index, mut tcb, segment)) = recognized else { return self.on_frame(id, buffer, env) };
        if segment.end < buffer.len() {
            buffer.truncate(segment.end);
        }
        self.tcp.counters.segments_in += 1;
        let now = env.now();
        let taken = tcb.take_expected(&segment, buffer, &mut Cx { stack: self, env, now });
        self.put_down(index, tcb, State::Established, env);
        taken.into()
    }

    /// Takes out the connection that expects the segment behind these headers.
    #[inline(always)]
    fn recognize(&mut self, front: &Front<'_>, id: InterfaceId, buffer: &B) -> Option<(u32, Box<Tcb<B>>, Candidate)> {
        let segment = Candidate::read(front, buffer.bytes())?;
        let index = self.whose(front, id)?;
        let Tcp { table, recognized, config, held, .. } = &mut self.tcp;
        let place = table.place_mut(index)?;
        let tcb = place.as_deref()?;
        let is_next = tcb.heard.is(front, id, recognized.epoch)
            && tcb.expects(&segment)
            && config.may_keep(tcb.received.buffers(), *held)
            && front.is_summed_right(buffer);
        if !is_next {
            return None;
        }
        place.take().map(|tcb| (index, tcb, segment))
    }

    /// The connection that a frame is of.
    #[inline(always)]
    fn whose(&mut self, front: &Front<'_>, id: InterfaceId) -> Option<u32> {
        let place = Recognized::place_of(front);
        let index = self.tcp.recognized.places.get(place)?.wrapping_sub(1);
        match self.tcp.table.peek(index) {
            Some(tcb) if tcb.is_from(front) => Some(index),
            _ => self.look_up(&front.flow(id), place),
        }
    }

    /// It is not in its place, and put there.
    #[inline(never)]
    fn look_up(&mut self, flow: &Flow, place: usize) -> Option<u32> {
        let index = self.tcp.table.find(flow)?;
        if let Some(place) = self.tcp.recognized.places.get_mut(place) {
            *place = index + 1;
        }
        Some(index)
    }

    /// A segment for an established connection has come the long way: the next is recognized.
    pub(super) fn note_heard(&mut self, index: u32, packet: &Packet, buffer: &B) {
        let Ok(interface) = u16::try_from(packet.interface.0) else { return };
        let Some(&stations) = buffer.bytes().first_chunk() else { return };
        let as_usual = packet.plain && packet.ip_offset == LINK_LEN && !packet.link_group;
        let epoch = self.tcp.recognized.epoch;
        if let Some(tcb) = self.tcp.table.peek_mut(index).filter(|tcb| as_usual && tcb.state == State::Established) {
            tcb.heard = Heard { epoch, interface, stations };
        }
    }
}

impl<B: Buffer> Tcb<B> {
    /// Whether the frame is from the connection's peer.
    #[inline(always)]
    fn is_from(&self, front: &Front<'_>) -> bool {
        let flow = &self.flow;
        front.tcp.source_port.get() == flow.remote_port
            && front.tcp.destination_port.get() == flow.local_port
            && front.addresses.are(flow.remote, flow.local)
    }

    /// Whether the segment is what comes next where all is well.
    #[inline(always)]
    fn expects(&self, segment: &Candidate) -> bool {
        self.course.expects()
            && segment.seq == self.rcv_nxt
            && segment.text_len <= self.rcv_wnd()
            && self.received.buffers() < text::BUFFERS_MAX
            && self.expects_ack(segment)
            && self.expects_stamps(segment)
    }

    /// Whole segments are acknowledged, or nothing new by something that is no duplicate acknowledgement to be counted.
    #[inline(always)]
    fn expects_ack(&self, segment: &Candidate) -> bool {
        let acked = segment.ack.since(self.snd_una);
        if acked == 0 {
            return segment.text_len > 0 || self.sack_ok || self.queue.sent_count() == 0;
        }
        acked <= self.flight_size() && self.queue.get(0).is_some_and(|first| !first.end().after(segment.ack))
    }

    /// RFC 7323 §5.3, R1.
    #[inline]
    fn expects_stamps(&self, segment: &Candidate) -> bool {
        match segment.stamps {
            Some(stamps) => self.timestamps_ok && SeqNum(stamps.value).at_or_after(SeqNum(self.ts_recent)),
            None => !self.timestamps_ok,
        }
    }

    /// RFC 9293 §3.10.7.4, of which [`expects`](Self::expects) has done the first (sequence number), second (RST), fourth (SYN)
    /// and sixth (URG).
    #[inline(always)]
    fn take_expected<E: Env<Buffer = B>>(&mut self, segment: &Candidate, buffer: B, cx: &mut Cx<'_, B, E>) -> Taken {
        self.last_heard_at = cx.now;
        self.probes_out = 0;
        // Fifth, check the ACK field.
        self.take_send_window(segment.seq, segment.ack, segment.wnd);
        if segment.ack != self.snd_una {
            self.take_expected_ack(segment.ack, cx);
            // It has lost what it would have to send again.
            if self.state == State::Closed {
                cx.stack.ledger.discard(cx.env, buffer, DropReason::TcpClosed);
                return Taken::Discarded(DropReason::TcpClosed);
            }
        }
        // RFC 7323 §4.3.
        if let Some(stamps) = segment.stamps.filter(|_| segment.seq.at_or_before(self.last_ack_sent)) {
            (self.ts_recent, self.ts_recent_at) = (stamps.value, cx.now);
        }
        // Seventh, process the segment text.
        let taken = match segment.text_len {
            0 => {
                cx.stack.ledger.release(cx.env, buffer);
                Taken::Consumed
            }
            _ => self.take_expected_text(segment, buffer, cx),
        };
        self.output_soon(cx);
        taken
    }

    /// Of segments that were sent once, whole ones.
    #[inline(always)]
    fn take_expected_ack<E: Env<Buffer = B>>(&mut self, ack: SeqNum, cx: &mut Cx<'_, B, E>) {
        let taken =
            if self.course.is_straight() { self.take_ack_unpaced(ack, cx) } else { self.take_ack_paced(ack, cx) };
        if !taken {
            return;
        }
        self.on_progress(cx);
        self.timers.disarm(Timer::Reorder);
        self.rearm_after_progress(cx.now);
    }

    /// What it says of the round trip and to the control; whether it could be taken.
    #[inline(never)]
    fn take_ack_paced<E: Env<Buffer = B>>(&mut self, ack: SeqNum, cx: &mut Cx<'_, B, E>) -> bool {
        let in_flight_before = self.flight_size();
        let mut delivery = Delivery { acked: ack.since(self.snd_una), ..Delivery::default() };
        if !self.take_run(ack, &mut delivery, cx) {
            return false;
        }
        self.advance_una(ack);
        delivery.delivered += self.take_part(ack, cx);
        self.sample_delivered(&delivery);
        self.tell_congestion_control(&delivery, in_flight_before, false, cx);
        true
    }

    /// The same where there is no rate to be told or to be set: in one go, of which nothing is kept but what the control is told.
    #[inline(always)]
    fn take_ack_unpaced<E: Env<Buffer = B>>(&mut self, ack: SeqNum, cx: &mut Cx<'_, B, E>) -> bool {
        let in_flight_before = self.flight_size();
        let acked = ack.since(self.snd_una);
        let Some(run) = self.queue.pop_run(ack, |payload| cx.release(payload)) else { return false };
        self.rack.on_run_delivered(&run, cx.now);
        self.advance_una(ack);
        let part = if self.queue.sent_count() > 0 { self.take_part(ack, cx) } else { 0 };
        let round_start = self.sampler.pass_run(cx.now, run.last_sent_at, run.last_delivered, run.len);
        let rtt_ns = cx.now.nanos_since(run.last_sent_at).max(1);
        self.rtt.on_sample_ns(cx.now.nanos_since(run.first_sent_at).max(1));
        self.rtt.on_least_ns(rtt_ns);
        let in_flight = self.flight_size();
        let mut told = Ack {
            now: cx.now,
            acked,
            delivered: run.len + part,
            delivered_total: self.sampler.delivered(),
            rtt_ns,
            srtt_ns: self.rtt.srtt_ns(),
            in_flight_before,
            in_flight,
            cwnd_limited: false,
            ecn_echo: false,
            in_recovery: false,
            round_start,
            rate: None,
        };
        self.congestion.on_ack_within(&mut told, &self.usage);
        if round_start {
            self.usage.on_round_start(in_flight);
        }
        true
    }

    #[inline(always)]
    fn take_expected_text<E: Env<Buffer = B>>(
        &mut self,
        segment: &Candidate,
        buffer: B,
        cx: &mut Cx<'_, B, E>,
    ) -> Taken {
        cx.hold();
        let Some(text) = cx.cut_front(buffer, segment.text_at) else {
            self.ack_now = true;
            return Taken::Discarded(DropReason::NoBuffer);
        };
        self.rcv_nxt += segment.text_len;
        self.store(text, cx);
        self.news.add(Piece::Readable);
        self.on_in_order(segment.text_len, cx.now);
        cx.stack.tcp.counters.bytes_in += u64::from(segment.text_len);
        Taken::Held
    }
}
