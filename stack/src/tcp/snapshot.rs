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
    /// Since the first SYN.
    pub age: Duration,
    pub smss: u32,
    pub path_mtu: u32,
    pub srtt: Option<Duration>,
    pub rttvar: Duration,
    pub min_rtt: Option<Duration>,
    pub rto: Duration,
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
    pub delivered: u64,
    pub retransmitted: u64,
    pub segments_resent: u32,
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
            age: now.since(self.opened_at),
            smss: self.smss,
            path_mtu: self.path_mtu.mtu,
            srtt: self.rtt.srtt(),
            rttvar: self.rtt.rttvar(),
            min_rtt: self.rtt.min(),
            rto: self.rtt.rto(),
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
            sack: self.sack_ok,
            timestamps: self.timestamps_ok,
            ecn: self.ecn.ok,
            window_scale: self.wscale_ok.then_some((self.rcv_wscale, self.snd_wscale)),
        }
    }
}
