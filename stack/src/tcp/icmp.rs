//! ICMP errors about our segments, and how little they may do (RFC 5927, RFC 9293 §3.9.2.2).

use super::event::CloseReason;
use super::flow::Flow;
use super::seq::SeqNum;
use super::state::State;
use crate::buffer::Buffer;
use crate::env::Env;
use crate::event::Undelivered;
use crate::stack::Stack;

/// A segment of ours, as an error quotes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuotedSegment {
    pub(crate) local: core::net::IpAddr,
    pub(crate) remote: core::net::IpAddr,
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    pub(crate) seq: u32,
    pub(crate) total_len: usize,
}

impl<B: Buffer> Stack<B> {
    /// An error quotes a segment; `false` if it can be none of ours.
    pub(crate) fn on_tcp_undelivered<E: Env<Buffer = B>>(
        &mut self,
        quoted: &QuotedSegment,
        interface: crate::interface::InterfaceId,
        why: Undelivered,
        env: &mut E,
    ) -> bool {
        let QuotedSegment { local, remote, local_port, remote_port, seq, total_len } = *quoted;
        let flow = Flow::on(interface, local, remote, local_port, remote_port);
        let Some(index) = self.tcp.table.find(&flow) else { return false };
        // RFC 5927 §4.1: what is quoted must be in flight, or an attacker guessed the ports only.
        let in_flight = |tcb: &super::tcb::Tcb<B>| SeqNum(seq).within(tcb.snd_una, tcb.flight_size().max(1));
        if !self.tcp.table.peek(index).is_some_and(in_flight) {
            return false;
        }
        if let Undelivered::TooBig { mtu } = why {
            let link_mtu = self.interface(interface).map_or(0, |i| i.station.config.mtu);
            let now = env.now();
            let reported = self.path_mtus.reported(remote, mtu, total_len, link_mtu, now);
            // What another connection was told before is no news for the path, but for this one.
            let mtu = reported.unwrap_or_else(|| self.path_mtus.get(remote, usize::MAX, now));
            self.with(index, env, |tcb, cx| tcb.on_path_mtu(mtu, cx));
            return true;
        }
        self.with(index, env, |tcb, cx| {
            // RFC 5927 §5.2, RFC 9293 §3.9.2.2: a hard error ends only what is not yet connected; any
            // other waits for the timer.
            let opening = matches!(tcb.state, State::SynSent | State::SynReceived);
            let hard = matches!(why, Undelivered::PortUnreachable | Undelivered::Prohibited);
            if opening && hard {
                tcb.fail(CloseReason::Unreachable, cx);
            }
        });
        true
    }
}
