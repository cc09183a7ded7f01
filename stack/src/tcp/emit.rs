//! One segment on its way out: options, header, checksum, IP.

use zerocopy::IntoBytes;

use super::ecn::Ecn;
use super::extension::SegmentView;
use super::path_mtu::mss_option;
use super::seq::SeqNum;
use super::state::State;
use super::tcb::{Cx, Tcb};
use crate::buffer::Buffer;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::output::{Outgoing, prepend};
use crate::packet::{pseudo_header, sum_pieces};
use crate::route::Hop;
use crate::verdict::Sent;
use crate::wire::protocol;
use crate::wire::tcp::{CHECKSUM_OFFSET, HEADER_LEN, HEADER_LEN_MAX, TcpSend, flag};
use crate::wire::tcp_option::{OPTIONS_LEN_MAX, OptionsWriter, SackBlocks, TIMESTAMPS_LEN, TcpOptions, Timestamps};

/// Bytes of SACK option in front of its blocks, padded.
const SACK_HEAD_LEN: usize = 4;
const SACK_BLOCK_LEN: usize = 8;

/// What leaves.
pub(super) struct Leaving<B> {
    pub(super) seq: SeqNum,
    pub(super) flags: u8,
    /// Only the text, with room in front.
    pub(super) text: Option<B>,
    /// Of the text, if it is known.
    pub(super) sum: Option<u16>,
    /// Text that was never sent before.
    pub(super) fresh: bool,
}

impl<B: Buffer> Tcb<B> {
    /// SYN or SYN,ACK (RFC 9293 §3.5).
    pub(super) fn send_syn<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        let ack = if self.state == State::SynReceived { flag::ACK } else { 0 };
        let ecn = match (ack, self.options.ecn, self.ecn.ok) {
            // RFC 3168 §6.1.1: a SYN that was lost may have been lost for asking.
            (0, true, _) if self.syn_transmits == 0 => Ecn::ASK,
            (flag::ACK, _, true) => Ecn::GRANT,
            _ => 0,
        };
        self.syn_transmits = self.syn_transmits.saturating_add(1);
        self.snd_nxt = self.snd_nxt.later(self.iss + 1);
        self.last_sent_at = cx.now;
        self.emit(Leaving { seq: self.iss, flags: flag::SYN | ack | ecn, text: None, sum: None, fresh: false }, cx);
    }

    /// An acknowledgement with nothing else (RFC 9293 §3.10.7.4).
    pub(super) fn send_ack<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        let flags = flag::ACK | self.ecn.flags_out(false);
        if !self.emit(Leaving { seq: self.snd_nxt, flags, text: None, sum: None, fresh: false }, cx) {
            // No buffer: again soon.
            self.timers.arm(super::timers::Timer::DelayedAck, cx.now + self.options.delayed_ack);
        }
    }

    /// Sends one segment; whether a buffer for it could be had.
    pub(super) fn emit<E: Env<Buffer = B>>(&mut self, leaving: Leaving<B>, cx: &mut Cx<'_, B, E>) -> bool {
        if self.is_plain(&leaving, cx) { self.emit_plain(leaving, cx) } else { self.emit_any(leaving, cx) }
    }

    /// Sends a segment of any kind.
    #[inline(never)]
    fn emit_any<E: Env<Buffer = B>>(&mut self, leaving: Leaving<B>, cx: &mut Cx<'_, B, E>) -> bool {
        let Leaving { seq, flags, text, sum: _, fresh } = leaving;
        let text_len = text.as_ref().map_or(0, |text| text.len() as u32);
        let Some(mut buffer) = text.or_else(|| cx.allocate()) else { return false };
        let options = self.options_out(seq, flags, text_len, cx);
        // A layer above may grant another window at any time.
        self.wnd_stale |= self.extension.is_some();
        let acks = flags & flag::ACK != 0;
        let header = TcpSend {
            source_port: self.flow.local_port,
            destination_port: self.flow.remote_port,
            seq: seq.0,
            ack: if acks { self.rcv_nxt.0 } else { 0 },
            flags,
            window: if flags & flag::SYN != 0 { self.window_of_syn(cx) } else { self.window_out(cx) },
            options_len: options.as_bytes().len(),
        };
        let out = Outgoing {
            source: self.flow.local,
            destination: self.flow.remote,
            protocol: protocol::TCP,
            hop_limit: cx.stack.config.hop_limit,
            traffic_class: self.options.dscp << 2 | self.ecn.field_out(fresh && text_len > 0),
        };
        let written = write_header(&mut buffer, &header, options.as_bytes(), &out);
        if acks {
            self.on_ack_sent();
        }
        cx.stack.tcp.counters.segments_out += 1;
        let hop = written.and_then(|()| self.next_hop(cx));
        // What does not leave is discarded and named; what matters of it is sent again.
        match hop {
            Ok(hop) => {
                if cx.stack.send_ip(&out, hop, buffer, cx.env) == Ok(Sent::Transmitted) {
                    self.learn_way(hop, cx);
                }
            }
            Err(reason) => cx.stack.ledger.discard(cx.env, buffer, reason),
        }
        true
    }

    fn options_out<E: Env<Buffer = B>>(
        &mut self,
        seq: SeqNum,
        flags: u8,
        text_len: u32,
        cx: &mut Cx<'_, B, E>,
    ) -> OptionsWriter {
        let syn = flags & flag::SYN != 0;
        let answers = syn && flags & flag::ACK != 0;
        // What a full segment leaves free; pure acknowledgements have all the room there is.
        let free = (self.smss.saturating_sub(text_len)) as usize + self.options_len();
        let mut writer = OptionsWriter::new(if text_len == 0 { OPTIONS_LEN_MAX } else { free });
        let mut options = TcpOptions::default();
        if syn {
            let link_mtu = self.link_mtu(cx);
            let wanted = &self.options;
            options.mss = Some(mss_option(link_mtu, &self.flow).min(wanted.mss_max));
            // RFC 7323 §1.3, RFC 2018 §2: a SYN,ACK only answers what was asked for.
            options.window_scale =
                (if answers { self.wscale_ok } else { wanted.window_scaling }).then_some(self.rcv_wscale);
            options.sack_permitted = if answers { self.sack_ok } else { wanted.sack };
            options.user_timeout_s = self.user_timeout_option();
        }
        if self.timestamps_ok || (syn && !answers && self.options.timestamps) {
            let echo = if flags & flag::ACK != 0 { self.ts_recent } else { 0 };
            options.timestamps = Some(Timestamps { value: self.now_ts(cx), echo });
        }
        if self.sack_ok && !syn {
            options.sack = self.sack_out(writer.room());
        }
        options.write(&mut writer);
        if let Some(extension) = &mut self.extension {
            let leaving = SegmentView {
                offset: if syn { 0 } else { seq.since(self.iss + 1) },
                len: text_len,
                syn,
                ack: flags & flag::ACK != 0,
                fin: flags & flag::FIN != 0,
                rst: flags & flag::RST != 0,
                acked: self.rcv_nxt.since(self.irs + 1),
                options: &[],
            };
            extension.write_options(&leaving, &mut writer);
        }
        writer
    }

    /// The report, as far as it fits into `room` bytes beside the other options.
    fn sack_out(&mut self, room: usize) -> SackBlocks {
        let taken = self.options_len() + SACK_HEAD_LEN;
        let Some(report) = &mut self.sack_report else { return SackBlocks::default() };
        let blocks = report.take(room.saturating_sub(taken) / SACK_BLOCK_LEN);
        if report.is_empty() {
            self.sack_report = None;
        }
        blocks
    }

    /// Bytes of options in every segment.
    pub(super) fn options_len(&self) -> usize {
        let timestamps = if self.timestamps_ok { TIMESTAMPS_LEN } else { 0 };
        timestamps + self.extension_len()
    }

    fn extension_len(&self) -> usize {
        self.extension.as_ref().map_or(0, |extension| extension.options_len_max())
    }

    /// The first hop to the peer.
    pub(super) fn next_hop<E: Env<Buffer = B>>(&self, cx: &Cx<'_, B, E>) -> Result<Hop, DropReason> {
        cx.stack.routes.lookup(self.flow.remote, self.flow.zone()).ok_or(DropReason::NoRoute)
    }

    /// MTU of the interface towards the peer.
    pub(super) fn link_mtu<E: Env<Buffer = B>>(&self, cx: &Cx<'_, B, E>) -> usize {
        let hop = self.next_hop(cx).ok();
        let interface = hop.and_then(|hop| cx.stack.interface(hop.interface));
        interface.map_or(self.path_mtu.mtu as usize, |interface| interface.station.config.mtu)
    }

    /// RFC 4861 §7.3.1: progress shows that the neighbour hears us.
    #[inline]
    pub(super) fn confirm_neighbour<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        if !self.neighbour_confirmed {
            self.confirm_next_hop(cx);
        }
    }

    #[inline(never)]
    fn confirm_next_hop<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        if let Ok(hop) = self.next_hop(cx) {
            self.neighbour_confirmed = true;
            cx.stack.confirm_neighbour(hop.interface, hop.next, cx.env);
        }
    }
}

/// Puts header, options and checksum in front of the text.
pub(super) fn write_header<B: Buffer>(
    buffer: &mut B,
    header: &TcpSend,
    options: &[u8],
    out: &Outgoing,
) -> Result<(), DropReason> {
    let mut bytes = [0; HEADER_LEN_MAX];
    let len = HEADER_LEN + options.len();
    let (fixed, rest) = bytes.split_at_mut_checked(HEADER_LEN).ok_or(DropReason::NoHeadroom)?;
    fixed.copy_from_slice(header.header().as_bytes());
    rest.get_mut(..options.len()).ok_or(DropReason::NoHeadroom)?.copy_from_slice(options);
    prepend(buffer, bytes.get(..len).ok_or(DropReason::NoHeadroom)?)?;
    let total = buffer.len();
    let pseudo = pseudo_header(out.source, out.destination, protocol::TCP, total);
    let checksum = sum_pieces(pseudo, buffer, 0, total).checksum();
    let field = buffer.bytes_mut().get_mut(CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2);
    field.ok_or(DropReason::NoHeadroom)?.copy_from_slice(&checksum);
    Ok(())
}
