//! Segments to no connection: CLOSED (RFC 9293 §3.10.7.1), and resets (§3.5.2).

use super::seg::Seg;
use crate::buffer::Buffer;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::output::Outgoing;
use crate::stack::Stack;
use crate::verdict::Verdict;
use crate::wire::protocol;
use crate::wire::tcp::{TcpSend, flag};

impl<B: Buffer> Stack<B> {
    /// No connection has these sockets: a listener's business, or nobody's.
    pub(super) fn on_segment_closed<E: Env<Buffer = B>>(&mut self, seg: &Seg, buffer: B, env: &mut E) -> Verdict<B> {
        if let Some(listener) = self.tcp.listeners.find(seg) {
            return self.on_segment_listen(listener, seg, buffer, env);
        }
        self.refuse_unknown(seg, buffer, DropReason::TcpPortClosed, env)
    }

    /// RFC 9293 §3.10.7.1: everything but a reset is answered by one, unless the host's own stack
    /// speaks for this address too.
    pub(super) fn refuse_unknown<E: Env<Buffer = B>>(
        &mut self,
        seg: &Seg,
        buffer: B,
        reason: DropReason,
        env: &mut E,
    ) -> Verdict<B> {
        let speaks = self.interface(seg.packet.interface).is_some_and(|i| i.station.config.answers);
        let ours = speaks || self.tcp.listeners.has_port(seg.flow.local_port);
        if seg.rst() || !ours {
            return self.drop_packet(buffer, reason, env);
        }
        self.reset_in_answer(seg, buffer, reason, env)
    }

    /// Turns a segment into the reset that answers it.
    pub(super) fn reset_in_answer<E: Env<Buffer = B>>(
        &mut self,
        seg: &Seg,
        buffer: B,
        reason: DropReason,
        env: &mut E,
    ) -> Verdict<B> {
        if seg.rst() || !self.tcp.resets.take(env.now()) {
            return self.drop_packet(buffer, reason, env);
        }
        self.tcp.counters.resets_out += 1;
        // With an ACK the reset takes its place in what the peer expects, else it acknowledges.
        let (seq, ack, flags) = match seg.acks() {
            true => (seg.ack.0, 0, flag::RST),
            false => (0, seg.end().0, flag::RST | flag::ACK),
        };
        self.answer_tcp(seg, TcpSend { seq, ack, flags, window: 0, ..seg.reply() }, &[], buffer, env)
    }

    /// Turns a segment into one that answers it, in its own buffer.
    pub(super) fn answer_tcp<E: Env<Buffer = B>>(
        &mut self,
        seg: &Seg,
        header: TcpSend,
        options: &[u8],
        mut buffer: B,
        env: &mut E,
    ) -> Verdict<B> {
        let out = Outgoing {
            source: seg.flow.local,
            destination: seg.flow.remote,
            protocol: protocol::TCP,
            hop_limit: self.config.hop_limit,
            traffic_class: 0,
        };
        self.tcp.counters.segments_out += 1;
        let at = seg.packet.payload_offset;
        buffer.truncate(at);
        let len = crate::wire::tcp::HEADER_LEN + options.len();
        let written = buffer.append(len).is_ok() && write_answer(&mut buffer, at, &header, options, &out).is_some();
        if !written {
            return self.drop_packet(buffer, DropReason::NoBuffer, env);
        }
        self.answer(&seg.packet, &out, buffer, env)
    }
}

impl Seg {
    /// A header with the ports the other way round.
    pub(super) fn reply(&self) -> TcpSend {
        TcpSend {
            source_port: self.flow.local_port,
            destination_port: self.flow.remote_port,
            seq: 0,
            ack: 0,
            flags: 0,
            window: 0,
            options_len: 0,
        }
    }
}

/// Writes header and options at `at`, where there is room for just these.
fn write_answer<B: Buffer>(buffer: &mut B, at: usize, header: &TcpSend, options: &[u8], out: &Outgoing) -> Option<()> {
    use zerocopy::IntoBytes;
    let len = buffer.len().checked_sub(at)?;
    let (fixed, rest) = buffer.bytes_mut().get_mut(at..)?.split_at_mut_checked(crate::wire::tcp::HEADER_LEN)?;
    header.header().write_to(fixed).ok()?;
    rest.get_mut(..options.len())?.copy_from_slice(options);
    let pseudo = crate::packet::pseudo_header(out.source, out.destination, out.protocol, len);
    let checksum = crate::packet::sum_pieces(pseudo, buffer, at, len).checksum();
    let field = at + crate::wire::tcp::CHECKSUM_OFFSET;
    buffer.bytes_mut().get_mut(field..field + 2)?.copy_from_slice(&checksum);
    Some(())
}
