//! Bounds of the stack's TCP, and choices per connection.

use core::time::Duration;

use super::congestion::{CONTROLS, Control};
use crate::rate_limit::RateLimit;

/// Bounds and defaults of TCP in one [`Stack`](crate::Stack).
#[derive(Clone, Copy, Debug)]
pub struct TcpConfig {
    /// Connections at the same time, in all states.
    pub connections_max: usize,
    /// Of these, in TIME-WAIT: more are forgotten at once (RFC 9293 §3.6.1 does not allow it; a host
    /// that runs out of memory is worse).
    pub time_wait_max: usize,
    /// Listeners at the same time.
    pub listeners_max: usize,
    /// Buffers that all connections together hold, to be sent or received. One connection has no more waiting to be sent
    /// than are free, twice as many that were received, or a few.
    pub buffers_max: usize,
    pub syn_cookies: SynCookies,
    /// Challenge ACKs of all connections (RFC 5961 §7), at most: each second from half of it on is drawn, so that nobody learns
    /// how many others were challenged. A connection sends one in 100 ms.
    pub challenge_acks: RateLimit,
    /// Resets for segments to no connection.
    pub resets: RateLimit,
    /// Maximum segment lifetime; half of the time in TIME-WAIT (RFC 9293 §3.4.2 has 2 minutes).
    pub msl: Duration,
    /// What connections start with.
    pub connection: ConnectionOptions,
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            connections_max: 65_536,
            time_wait_max: 16_384,
            listeners_max: 1_024,
            buffers_max: 65_536,
            syn_cookies: SynCookies::WhenFull,
            challenge_acks: RateLimit { rate_per_second: 1_000, burst: 100 },
            resets: RateLimit { rate_per_second: 10_000, burst: 1_000 },
            msl: Duration::from_secs(30),
            connection: ConnectionOptions::default(),
        }
    }
}

/// When a SYN is answered without keeping anything of it (RFC 4987 §3.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SynCookies {
    Never,
    /// When a listener's backlog of half-open connections is full.
    WhenFull,
    Always,
}

/// Choices of one connection; a listener's go to those it accepts.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionOptions {
    /// Hold back small segments while others are unacknowledged (RFC 9293 §3.7.4).
    pub nagle: bool,
    /// RFC 2018.
    pub sack: bool,
    /// RFC 7323 §3.
    pub timestamps: bool,
    /// RFC 7323 §2.
    pub window_scaling: bool,
    /// RFC 3168: ask for it when connecting, grant it when asked.
    pub ecn: bool,
    pub congestion_control: &'static Control,
    /// Spread segments over the round trip even if the congestion control does not ask for it.
    pub pacing: bool,
    /// Bytes that wait to be sent or acknowledged.
    pub send_buffer_max: u32,
    /// Of them, bytes that wait to be sent beyond what the windows let go: the application is told when there is room for more,
    /// and what it writes is sent while it is in the cache. A segment at least; [`u32::MAX`]: as many as there are.
    pub unsent_max: u32,
    /// Bytes received that wait for the application, to begin with.
    pub receive_buffer: u32,
    /// As far as the receive buffer grows by itself.
    pub receive_buffer_max: u32,
    /// Longest an acknowledgement waits (RFC 9293 §3.8.6.3: under 500 ms).
    pub delayed_ack: Duration,
    /// Bytes of payload per segment at most, whatever the path carries.
    pub mss_max: u16,
    pub mtu_probing: MtuProbing,
    /// RFC 9293 §3.8.4; `None`: no probes.
    pub keep_alive: Option<KeepAlive>,
    /// Longest that data stays unacknowledged before the connection is given up (RFC 5482); `None`:
    /// fifteen retransmissions.
    pub user_timeout: Option<Duration>,
    /// Tell the peer of it, and follow what it tells, in the bounds of RFC 5482 §3.1.
    pub user_timeout_option: bool,
    /// DSCP of what is sent: the upper six bits of the traffic class.
    pub dscp: u8,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            nagle: true,
            sack: true,
            timestamps: true,
            window_scaling: true,
            ecn: true,
            congestion_control: default_control(),
            pacing: false,
            send_buffer_max: 4 << 20,
            unsent_max: u32::MAX,
            receive_buffer: 256 << 10,
            receive_buffer_max: 6 << 20,
            delayed_ack: Duration::from_millis(40),
            mss_max: u16::MAX,
            mtu_probing: MtuProbing::AfterBlackHole,
            keep_alive: None,
            user_timeout: None,
            user_timeout_option: false,
            dscp: 0,
        }
    }
}

/// When larger segments are tried than are known to arrive (RFC 8899 §5, RFC 4821 §7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MtuProbing {
    /// Never: segments that became smaller stay so.
    Off,
    /// Where they vanished without a word, or ten minutes after a router refused them.
    AfterBlackHole,
    /// From the start: segments fit into packets of 1280 bytes until larger ones have arrived.
    FromBase,
}

/// RFC 9293 §3.8.4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeepAlive {
    /// Silence before the first probe; at least two hours by default (MUST-28).
    pub idle: Duration,
    /// Between probes.
    pub interval: Duration,
    /// Probes without an answer before the connection is given up.
    pub probes_max: u8,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(7_200), interval: Duration::from_secs(75), probes_max: 9 }
    }
}

/// The first of [`CONTROLS`], which is never empty.
fn default_control() -> &'static Control {
    &CONTROLS[0]
}
