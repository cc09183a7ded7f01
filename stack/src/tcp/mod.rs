//! TCP (RFC 9293). Each file is one concept; this one holds what a stack has once.
//!
//! Of a connection:
//! - [`state`], `tcb`: what it is. `seq`, `flow`: what it is known by.
//! - `connect`, `listen`, `syn_cookie`, `close`: how it comes up and goes down.
//! - `demux`, `seg`, `input`, `acceptability`, `challenge`, `text`: a segment's way in, as RFC 9293 §3.10.7 has it. `prediction`:
//!   the same for the segment that was to come next. `burst`: several at once.
//! - `ack`, `send_queue`, `output`, `emit`, `way`: what is sent, kept, acknowledged. `straight`, `plain`: most segments,
//!   and their headers. `room`: what waits because nothing may leave now.
//! - `course`: whether what comes and goes is all there is to look at.
//! - `receive_queue`, `receive_window`, `delayed_ack`, `sack`: what is received, and reported.
//! - `stream`: what the application writes and reads.
//! - `recovery`, `rack`, `loss_probe`, `prr`, `rto`: what is lost, and repaired.
//! - [`congestion`]: how much may be in flight, and how fast it leaves. `ecn`, `path_mtu`, `mtu_search`.
//! - `on_timeout`, `timers`, `wheel`, `user_timeout`: what happens when nothing happens.
//! - `extension`: what a layer above may do.
//!
//! Of the stack: `table`, `isn`, `ports`, `reset`, `icmp`, [`config`], [`counters`], and `api`, which
//! has the methods of [`Stack`](crate::Stack).
//!
//! A connection is taken out of the table while it works, so that it and the stack around it
//! (`tcb::Cx`) can both be changed; `demux` puts it back, and arms its timers.

mod acceptability;
mod ack;
mod api;
mod burst;
mod challenge;
mod close;
pub mod config;
pub mod congestion;
mod connect;
pub mod counters;
mod course;
mod cx;
mod delayed_ack;
mod demux;
mod ecn;
mod emit;
mod event;
pub mod extension;
mod flow;
mod icmp;
mod input;
mod isn;
mod listen;
mod loss_probe;
mod mtu_search;
mod on_timeout;
mod output;
mod path_mtu;
mod plain;
mod ports;
mod prediction;
mod prr;
mod rack;
mod receive_queue;
mod receive_window;
mod recovery;
mod reset;
mod room;
mod rto;
mod sack;
mod seg;
mod send_queue;
pub mod seq;
mod snapshot;
pub mod state;
mod straight;
mod stream;
mod syn_cookie;
mod table;
mod tcb;
mod text;
mod timers;
mod user_timeout;
mod way;
mod wheel;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

pub use api::TcpError;
pub use config::{ConnectionOptions, KeepAlive, MtuProbing, SynCookies, TcpConfig};
pub use connect::{Connect, ConnectError};
pub use counters::TcpCounters;
pub use event::{CloseReason, ConnectionId, ListenerId, TcpEvent};
pub(crate) use icmp::QuotedSegment;
pub use listen::{Listen, ListenError};
pub use snapshot::TcpSnapshot;
pub use state::State;

use crate::rate_limit::TokenBucket;
use crate::time::Instant;
use burst::Burst;
use challenge::Challenges;
use event::NewsQueue;
use extension::Extend;
use isn::Secret;
use listen::Listeners;
use prediction::Recognized;
use room::Line;
use table::Table;
use wheel::Wheel;

/// What a stack has of TCP.
pub(crate) struct Tcp<B> {
    config: TcpConfig,
    /// What connections start with that say nothing else.
    defaults: Arc<ConnectionOptions>,
    table: Table<B>,
    listeners: Listeners,
    wheel: Wheel,
    secret: Secret,
    /// Connections that have news, each once.
    news: NewsQueue,
    /// Connections that have text to send, and no room for it.
    line: Line,
    burst: Burst,
    recognized: Recognized,
    counters: TcpCounters,
    challenges: Challenges,
    resets: TokenBucket,
    /// Buffers that connections keep.
    held: usize,
    time_waits: usize,
    /// Counts up with each port chosen (RFC 6056 §3.3.3).
    port_counter: u16,
    /// When the last SYN cookie was sent.
    cookie_at: Option<Instant>,
    /// Layers above the connections of some listeners.
    extenders: Vec<(ListenerId, Box<Extend<B>>)>,
}

impl<B> Tcp<B> {
    pub(crate) fn new(config: TcpConfig, seed: u64) -> Self {
        Self {
            config,
            defaults: Arc::new(config.connection),
            table: Table::new(config.connections_max, seed),
            listeners: Listeners::new(config.listeners_max),
            wheel: Wheel::new(),
            secret: Secret::new(seed),
            news: NewsQueue::default(),
            line: Line::default(),
            burst: Burst::default(),
            recognized: Recognized::default(),
            counters: TcpCounters::default(),
            challenges: Challenges::new(config.challenge_acks),
            resets: TokenBucket::new(config.resets),
            held: 0,
            time_waits: 0,
            port_counter: seed as u16,
            cookie_at: None,
            extenders: Vec::new(),
        }
    }

    /// Buffers inside.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Whether there is nothing to tell, and nothing to send at the end of a burst.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.news.is_empty() && self.line.is_empty() && self.burst.unfinished.is_empty()
    }

    #[inline]
    pub(crate) fn may_be_due(&self, now: Instant) -> bool {
        self.wheel.may_be_due(now)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.wheel.next()
    }

    /// A handshake is complete.
    fn on_established(&mut self, listener: Option<ListenerId>) {
        match listener {
            Some(listener) => {
                self.listeners.on_established(listener);
                self.counters.passive_opens += 1;
            }
            None => self.counters.active_opens += 1,
        }
    }
}
