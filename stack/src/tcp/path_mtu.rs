//! Segment size: what the peer takes (RFC 6691), what the path carries (RFC 1191, RFC 8201), and what
//! still arrives where no router tells (RFC 8899 §4.3).

use super::config::ConnectionOptions;
use super::course::Course;
use super::flow::Flow;
use super::mtu_search::RAISE_AFTER;
use super::tcb::{Cx, Tcb};
use crate::buffer::Buffer;
use crate::env::Env;
use crate::time::Instant;
use crate::wire::{ipv4, ipv6, tcp};

/// RFC 9293 §3.7.1: of a peer that does not say.
const PEER_MSS_DEFAULT_V4: u16 = 536;
const PEER_MSS_DEFAULT_V6: u16 = 1_220;
/// Least payload that we send or let a peer ask for: smaller ones serve only to make work.
const SMSS_MIN: u32 = 88;
/// RFC 8899 §5.1.2, BASE_PLPMTU: packets of this size arrive on any path of today.
pub(super) const BASE_MTU: u32 = 1_280;
/// Time-outs of full segments in a row that mean a black hole (RFC 8899 §4.3; one may be congestion).
const BLACK_HOLE_TIMEOUTS: u8 = 3;

#[derive(Clone, Copy, Debug)]
pub(super) struct PathMtu {
    /// Largest IP packet to the peer.
    pub(super) mtu: u32,
    /// The peer's MSS option.
    pub(super) peer_mss: u16,
    /// Bytes of options in every segment.
    pub(super) options_len: u8,
    /// Probed down to: without a limit it is the interface's.
    pub(super) black_hole: bool,
}

impl PathMtu {
    /// What the peer takes is not known yet.
    pub(super) fn new(mtu: usize) -> Self {
        Self { mtu: u32::try_from(mtu).unwrap_or(u32::MAX), peer_mss: u16::MAX, options_len: 0, black_hole: false }
    }

    /// RFC 9293 §3.7.1, MUST-15: a default where the peer's SYN does not say.
    pub(super) fn on_syn(&mut self, mss: Option<u16>, flow: &Flow) {
        let default = if flow.local.is_ipv4() { PEER_MSS_DEFAULT_V4 } else { PEER_MSS_DEFAULT_V6 };
        self.peer_mss = mss.filter(|&mss| mss > 0).unwrap_or(default);
    }

    /// RFC 6691 §2, RFC 9293 §3.7.1: payload of a full segment, options taken off.
    pub(super) fn smss(&self, flow: &Flow, options: &ConnectionOptions) -> u32 {
        let carried = self.mtu.saturating_sub(headers_len(flow)).min(self.peer_mss.into());
        carried.saturating_sub(self.options_len.into()).min(options.mss_max.into()).max(SMSS_MIN)
    }
}

/// IP and TCP headers without options.
pub(super) fn headers_len(flow: &Flow) -> u32 {
    let ip = if flow.local.is_ipv4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
    (ip + tcp::HEADER_LEN) as u32
}

/// RFC 6691 §2: the MSS option is the interface's MTU without fixed headers, whatever options follow.
pub(super) fn mss_option(link_mtu: usize, flow: &Flow) -> u16 {
    let mss = (link_mtu as u32).saturating_sub(headers_len(flow));
    u16::try_from(mss).unwrap_or(u16::MAX)
}

impl<B: Buffer> Tcb<B> {
    /// Brings the segment size up to date with what is known of peer and path.
    pub(super) fn update_smss(&mut self) {
        self.path_mtu.options_len = self.options_len() as u8;
        let smss = self.path_mtu.smss(&self.flow, &self.options);
        if smss != self.smss {
            self.smss = smss;
            self.congestion.on_smss(smss);
        }
    }

    /// The path carries `mtu` bytes now (RFC 8201 §4). What was sent larger is judged lost at once.
    pub(super) fn on_path_mtu<E: Env<Buffer = B>>(&mut self, mtu: usize, cx: &mut Cx<'_, B, E>) {
        let mtu = u32::try_from(mtu).unwrap_or(u32::MAX);
        if mtu >= self.path_mtu.mtu {
            return self.on_mtu_probe_refused(mtu, cx);
        }
        self.shrink_to(mtu, cx.now);
        self.output(cx);
    }

    /// RFC 1191 §6.2, RFC 8201 §5.2: what the path carries may have been learnt by another connection, or the link have changed.
    /// A way that holds no more is how that shows.
    pub(super) fn follow_path_mtu<E: Env<Buffer = B>>(&mut self, cx: &Cx<'_, B, E>) {
        let mtu = cx.stack.path_mtu(self.flow.remote, self.link_mtu(cx), cx.now);
        let mtu = u32::try_from(mtu).unwrap_or(u32::MAX);
        if mtu < self.path_mtu.mtu {
            self.shrink_to(mtu, cx.now);
        }
    }

    fn shrink_to(&mut self, mtu: u32, now: Instant) {
        self.path_mtu.mtu = mtu;
        self.update_smss();
        self.course = Course::default();
        // RFC 1191 §6.3: the path may carry more again by then.
        self.search_mtu_from(now + RAISE_AFTER);
        let smss = self.smss;
        let oversized = |queue: &super::send_queue::SendQueue<B>| {
            queue.sent_segments().position(|s| s.len > smss && !s.sacked && (!s.lost || s.resent))
        };
        while let Some(at) = oversized(&self.queue) {
            self.queue.mark_lost(at);
            self.queue.forget_probe(at);
        }
    }

    /// The retransmission timer expired: full segments may vanish where small ones arrive.
    pub(super) fn suspect_black_hole<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        let full = self.queue.get(0).is_some_and(|first| first.len + headers_len(&self.flow) > BASE_MTU);
        if !full || self.rtt.expiries() < BLACK_HOLE_TIMEOUTS || self.path_mtu.mtu <= BASE_MTU {
            return;
        }
        cx.stack.tcp.counters.black_holes += 1;
        self.path_mtu.mtu = BASE_MTU;
        self.path_mtu.black_hole = true;
        self.update_smss();
        self.search_mtu_from(cx.now);
    }
}
