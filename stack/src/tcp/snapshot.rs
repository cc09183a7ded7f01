//! What a connection can tell about itself, as `TCP_INFO` does.

use core::net::SocketAddr;
use core::time::Duration;

use super::congestion;
use super::event::ConnectionId;
use super::state::State;
use super::tcb::Tcb;
use crate::buffer::Buffer;
use crate::time::Instant;

/// A connection at one moment. Sizes in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpSnapshot {
    pub id: ConnectionId,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub state: State,
    /// Opened by the peer.
    pub passive: bool,
    /// Complete, and not accepted yet.
    pub waiting: bool,
    /// The application has let go of it.
    pub orphan: bool,
    /// Since the first SYN.
    pub age: Duration,
    /// Since something with text, SYN or FIN was sent.
    pub since_sent: Duration,
    /// Since an acceptable segment arrived.
    pub since_heard: Duration,
    pub smss: u32,
    pub path_mtu: u32,
    pub srtt: Option<Duration>,
    pub rttvar: Duration,
    pub min_rtt: Option<Duration>,
    pub rto: Duration,
    /// Expiries of the retransmission timer since the last progress.
    pub backoff: u8,
    /// Window or keep-alive probes that were not answered.
    pub probes_out: u8,
    /// The timer that is due next, and in what time.
    pub timer: Option<(&'static str, Duration)>,
    pub congestion: congestion::Snapshot,
    /// As it holds now, PRR included.
    pub cwnd: u32,
    pub in_flight: u32,
    /// Judged lost and SACKed, of what is unacknowledged.
    pub lost: u32,
    pub sacked: u32,
    pub in_recovery: bool,
    pub reordering_seen: bool,
    pub snd_wnd: u32,
    pub rcv_wnd: u32,
    /// Written and not acknowledged; of it, never sent.
    pub send_queue: u32,
    pub unsent: u32,
    /// Received and not read.
    pub receive_queue: u32,
    pub receive_buffer: u32,
    /// Known to have arrived.
    pub delivered: u64,
    /// Sent again.
    pub retransmitted: u64,
    pub segments_resent: u32,
    /// Judged lost, rightly or not.
    pub lost_total: u64,
    /// Received in order (RFC 4898: tcpEStatsPerfHCThruOctetsReceived).
    pub received: u64,
    pub sack: bool,
    pub timestamps: bool,
    pub ecn: bool,
    /// Ours and theirs.
    pub window_scale: Option<(u8, u8)>,
}

impl<B: Buffer> Tcb<B> {
    pub(super) fn snapshot(&self, scope_id: u32, now: Instant) -> TcpSnapshot {
        TcpSnapshot {
            id: self.id,
            local: self.flow.local_addr(scope_id),
            remote: self.flow.remote_addr(scope_id),
            state: self.state,
            passive: self.passive,
            waiting: self.listener.is_some() && self.state.is_synchronized(),
            orphan: self.orphan,
            age: now.since(self.opened_at),
            since_sent: now.since(self.last_sent_at),
            since_heard: now.since(self.last_heard_at),
            smss: self.smss,
            path_mtu: self.path_mtu.mtu,
            srtt: self.rtt.srtt(),
            rttvar: self.rtt.rttvar(),
            min_rtt: self.rtt.min(),
            rto: self.rtt.rto(),
            backoff: self.rtt.expiries(),
            probes_out: self.probes_out,
            timer: self.timers.next_timer().map(|(timer, at)| (timer.name(), at.since(now))),
            congestion: self.congestion.snapshot(),
            cwnd: self.cwnd(),
            in_flight: self.in_flight(),
            lost: self.queue.lost(),
            sacked: self.queue.sacked(),
            in_recovery: self.recovery.is_active(),
            reordering_seen: self.rack.reordering_seen(),
            snd_wnd: self.snd_wnd,
            rcv_wnd: self.rcv_wnd(),
            send_queue: self.queue.bytes(),
            unsent: self.queue.unsent_bytes(self.snd_nxt),
            receive_queue: self.received.ready_bytes(),
            receive_buffer: self.receive_buffer,
            delivered: self.sampler.delivered(),
            retransmitted: self.retransmitted_bytes,
            segments_resent: self.segments_resent,
            lost_total: self.sampler.lost(),
            received: self.received_bytes(),
            sack: self.sack_ok,
            timestamps: self.timestamps_ok,
            ecn: self.ecn.ok,
            window_scale: self.wscale_ok.then_some((self.rcv_wscale, self.snd_wscale)),
        }
    }

    /// Text that came in order: what `rcv_nxt` says, without SYN and FIN.
    fn received_bytes(&self) -> u64 {
        if !self.state.is_synchronized() && self.state != State::SynReceived {
            return 0;
        }
        let passed = u64::from(self.irs_passed) + u64::from(self.comes_by_irs());
        let numbers = passed << 32 | u64::from(self.rcv_nxt.since(self.irs));
        numbers.saturating_sub(1 + u64::from(self.peer_finished))
    }

    /// Whether the peer's first number lies between what was acknowledged last and what will be next. Less than a window,
    /// and so less than 2^30, comes between two acknowledgements.
    pub(super) fn comes_by_irs(&self) -> bool {
        self.rcv_nxt.since(self.irs) < self.last_ack_sent.since(self.irs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::config::ConnectionOptions;
    use crate::tcp::flow::Flow;
    use crate::tcp::path_mtu::PathMtu;
    use crate::tcp::seq::SeqNum;
    use crate::tcp::tcb::Opening;
    use crate::testing::VecBuffer;

    fn connection(irs: u32) -> Tcb<VecBuffer> {
        let (local, remote) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let mut tcb = Tcb::new(Opening {
            id: ConnectionId { index: 0, generation: 0 },
            flow: Flow { local, remote, local_port: 1, remote_port: 2, zone: None },
            state: State::Established,
            options: ConnectionOptions::default().into(),
            iss: SeqNum(0),
            ts_offset: 0,
            path_mtu: PathMtu::new(1500),
            now: Instant::ZERO,
            seed: 0,
        });
        (tcb.irs, tcb.rcv_nxt, tcb.last_ack_sent) = (SeqNum(irs), SeqNum(irs) + 1, SeqNum(irs) + 1);
        tcb
    }

    #[test]
    fn what_is_received_is_counted_beyond_4_gibibytes() {
        for irs in [0, 1, 5_000, u32::MAX - 5, u32::MAX] {
            let mut tcb = connection(irs);
            let step = (1 << 30) - 1;
            for n in 1..=40u64 {
                tcb.rcv_nxt += step;
                assert_eq!(tcb.received_bytes(), n * u64::from(step), "before it is acknowledged");
                tcb.on_ack_sent();
                assert_eq!(tcb.received_bytes(), n * u64::from(step), "and after");
            }
            tcb.rcv_nxt += 1;
            tcb.peer_finished = true;
            assert_eq!(tcb.received_bytes(), 40 * u64::from(step), "a FIN is no text");
        }
    }
}
