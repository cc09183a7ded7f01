//! What TCP counts besides the drops.

/// Totals of one stack since it began, but for `established`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TcpCounters {
    pub active_opens: u64,
    pub passive_opens: u64,
    /// Connections that ended otherwise than [`Finished`](super::CloseReason::Finished).
    pub failed: u64,
    pub segments_in: u64,
    pub segments_out: u64,
    pub segments_resent: u64,
    /// Resets sent.
    pub resets_out: u64,
    /// Bytes of text taken in order, and sent for the first time.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Expiries of the retransmission timer.
    pub timeouts: u64,
    /// Of these and of recoveries, those that were mistakes.
    pub spurious: u64,
    pub recoveries: u64,
    pub loss_probes: u64,
    pub challenge_acks: u64,
    /// Challenge ACKs that the rates did not allow.
    pub challenge_acks_withheld: u64,
    pub syn_cookies_sent: u64,
    pub syn_cookies_accepted: u64,
    /// Connections refused because [`connections_max`](super::TcpConfig::connections_max) were open.
    pub connections_max_hit: u64,
    /// Writes cut short or text dropped because [`buffers_max`](super::TcpConfig::buffers_max) were
    /// held.
    pub buffers_max_hit: u64,
    /// Connections in TIME-WAIT forgotten early.
    pub time_wait_max_hit: u64,
    /// Segments that did not leave because no buffer was free.
    pub no_buffer: u64,
    /// Times that a connection had more to send than might leave.
    pub room_waits: u64,
    pub keep_alive_probes: u64,
    pub window_probes: u64,
    /// Path MTU lowered because full segments vanished.
    pub black_holes: u64,
    /// Larger segments sent to find out whether they arrive (RFC 8899 §5.3).
    pub mtu_probes: u64,
}
