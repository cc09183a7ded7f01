//! What one test does, checked: made of a command line or of a client's parameters, and turned into such.

use std::net::SocketAddr;
use std::time::Duration;

use tailwater_stack::tcp::congestion::{self, CONTROLS, Control};

use super::protocol::{Fault, Parameters, STREAMS_MAX, Transactions};

/// Bytes that a TCP sender hands over at a time unless told otherwise, as in iperf3.
pub(super) const TCP_LEN: usize = 128 << 10;
/// The same at most.
pub(super) const TCP_LEN_MAX: usize = 1 << 20;
/// Bytes of a datagram's payload: room for the header, and no more than UDP carries over IPv4.
pub(super) const UDP_LEN_MIN: usize = 16;
pub(super) const UDP_LEN_MAX: usize = 65_507;
/// Longest test and longest omission, in seconds.
pub(super) const TIME_MAX_S: u64 = 86_400;
pub(super) const OMIT_MAX_S: u64 = 600;
/// Largest socket buffer that is granted, in bytes.
pub(super) const WINDOW_MAX: u64 = 512 << 20;
/// Frames that a worker's connections keep, to be sent or received; all of them fit into them, whatever their streams do.
pub(super) const FRAMES_KEPT: usize = 16_384;
/// Bytes that all send buffers of a worker have: half of these frames, with the least text in each that is usual.
const SEND_BUFFERS: usize = FRAMES_KEPT / 2 * 1_400;
const SEND_BUFFER_MIN: usize = 64 << 10;
const SEND_BUFFER_MAX: usize = 4 << 20;
/// Largest request or response, in bytes.
pub(super) const MESSAGE_MAX: u32 = 1 << 20;
/// Blocks sent at once by a sender with a rate.
const BURST_MAX: u64 = 1_000;
/// What clients call themselves: the release of iperf3 whose protocol this is.
pub(super) const VERSION: &str = "3.12";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

/// Which way the data goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    /// From the client to the server.
    Forward,
    Reverse,
    Both,
}

/// Which end of the test this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Client,
    Server,
}

/// One test.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) transport: Transport,
    pub(super) direction: Direction,
    /// Streams in each direction, 1 to [`STREAMS_MAX`].
    pub(super) parallel: usize,
    /// Bytes handed over at a time, or of a datagram.
    pub(super) len: usize,
    /// Not counted, from the beginning.
    pub(super) omit: Duration,
    /// Zero: until `bytes` or `blocks` are through.
    pub(super) time: Duration,
    /// All streams together; 0: no such end.
    pub(super) bytes: u64,
    pub(super) blocks: u64,
    /// Bits per second of each stream; 0: as many as go.
    pub(super) rate: u64,
    /// Blocks sent at once when the rate allows one.
    pub(super) burst: u32,
    /// Bytes of payload per segment at most; 0: what the path takes.
    pub(super) mss: u16,
    pub(super) nodelay: bool,
    /// Bytes of socket buffers; 0: the stack's.
    pub(super) window: u32,
    pub(super) tos: u8,
    pub(super) congestion: Option<&'static Control>,
    pub(super) counters_64bit: bool,
    pub(super) server_output: bool,
    pub(super) title: Option<String>,
    pub(super) transactions: Option<Transactions>,
    /// The other end knows nothing of this protocol, and sends back what it gets. At the client only.
    pub(super) echo: bool,
}

/// Why a server does not take parameters: what it tells the client, and its own user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) fault: Fault,
    pub(super) message: String,
}

impl Settings {
    /// Streams in all; where requests are answered, there are none.
    pub(super) fn streams(&self) -> usize {
        if self.transactions.is_some() {
            return 0;
        }
        if self.direction == Direction::Both { 2 * self.parallel } else { self.parallel }
    }

    /// Bytes that a stream's send buffer has: what is asked for, or a share of what a worker keeps.
    pub(super) fn send_buffer(&self) -> u32 {
        let share = SEND_BUFFERS / self.parallel.max(1);
        if self.window > 0 { self.window } else { share.clamp(SEND_BUFFER_MIN, SEND_BUFFER_MAX) as u32 }
    }

    /// Whether this end sends on the stream opened at `place`. The client opens those first that it sends on.
    pub(super) fn sends(&self, end: End, place: usize) -> bool {
        let client_sends = match self.direction {
            Direction::Forward => true,
            Direction::Reverse => false,
            Direction::Both => place < self.parallel,
        };
        client_sends == (end == End::Client)
    }

    /// DSCP of what is sent.
    pub(super) fn dscp(&self) -> u8 {
        self.tos >> 2
    }

    /// Bytes after which the test ends; `None`: it ends by the clock.
    pub(super) fn volume(&self) -> Option<u64> {
        match (self.bytes, self.blocks) {
            (0, 0) => None,
            (0, blocks) => Some(blocks.saturating_mul(self.len as u64)),
            (bytes, _) => Some(bytes),
        }
    }

    /// What a client tells the server.
    pub(super) fn to_parameters(&self) -> Parameters {
        Parameters {
            tcp: self.transport == Transport::Tcp,
            udp: self.transport == Transport::Udp,
            omit: self.omit.as_secs(),
            time: self.time.as_secs(),
            num: self.bytes,
            blockcount: self.blocks,
            mss: self.mss.into(),
            nodelay: self.nodelay,
            parallel: self.parallel as u64,
            reverse: self.direction == Direction::Reverse,
            bidirectional: self.direction == Direction::Both,
            window: self.window.into(),
            len: self.len as u64,
            bandwidth: self.rate,
            burst: if self.burst > 1 { self.burst.into() } else { 0 },
            pacing_timer: 1_000,
            tos: self.tos.into(),
            title: self.title.clone(),
            congestion: self.congestion.map(|control| control.name.to_owned()),
            get_server_output: self.server_output.into(),
            udp_counters_64bit: self.counters_64bit.into(),
            client_version: VERSION.to_owned(),
            tailwater_transactions: self.transactions,
            ..Parameters::default()
        }
    }

    /// What a server makes of them.
    pub(super) fn of(asked: &Parameters) -> Result<Self, Refusal> {
        let refuse = |message: String| Refusal { fault: Fault::Parameters, message };
        let within = |what: &str, value: u64, max: u64| match value {
            value if value <= max => Ok(value),
            value => Err(refuse(format!("{what} of {value} is more than {max}"))),
        };
        if asked.sctp {
            return Err(refuse("SCTP was asked for, which there is not".into()));
        }
        let transport = if asked.udp { Transport::Udp } else { Transport::Tcp };
        let direction = match (asked.bidirectional, asked.reverse) {
            (true, _) => Direction::Both,
            (false, true) => Direction::Reverse,
            (false, false) => Direction::Forward,
        };
        let len = match (transport, asked.len) {
            (Transport::Tcp, 0) => TCP_LEN,
            (Transport::Tcp, len) => within("a length", len, TCP_LEN_MAX as u64)? as usize,
            (Transport::Udp, len) if len < UDP_LEN_MIN as u64 => {
                return Err(refuse(format!("datagrams of {len} bytes have no room for their header")));
            }
            (Transport::Udp, len) => within("a length", len, UDP_LEN_MAX as u64)? as usize,
        };
        Ok(Self {
            transport,
            direction,
            parallel: within("a number of streams", asked.parallel.max(1), STREAMS_MAX as u64)? as usize,
            len,
            omit: Duration::from_secs(within("an omission", asked.omit, OMIT_MAX_S)?),
            time: Duration::from_secs(within("a duration", asked.time, TIME_MAX_S)?),
            bytes: asked.num,
            blocks: asked.blockcount,
            rate: asked.bandwidth,
            burst: within("a burst", asked.burst.max(1), BURST_MAX)? as u32,
            mss: within("an MSS", asked.mss, u16::MAX.into())? as u16,
            nodelay: asked.nodelay,
            window: within("a window", asked.window, WINDOW_MAX)? as u32,
            tos: within("a TOS", asked.tos, u8::MAX.into())? as u8,
            congestion: asked
                .congestion
                .as_deref()
                .map(control)
                .transpose()
                .map_err(|message| Refusal { fault: Fault::CongestionControl, message })?,
            counters_64bit: asked.udp_counters_64bit != 0,
            server_output: asked.get_server_output != 0,
            title: asked.title.clone(),
            transactions: asked.tailwater_transactions.map(|asked| checked(asked, refuse)).transpose()?,
            echo: false,
        })
    }
}

fn checked(asked: Transactions, refuse: impl Fn(String) -> Refusal) -> Result<Transactions, Refusal> {
    let fits = |bytes: u32| (1..=MESSAGE_MAX).contains(&bytes);
    if fits(asked.request) && fits(asked.response) {
        return Ok(asked);
    }
    Err(refuse(format!("requests and responses have 1 to {MESSAGE_MAX} bytes")))
}

/// The stack's congestion control of this name.
pub(super) fn control(name: &str) -> Result<&'static Control, String> {
    congestion::control(name).ok_or_else(|| {
        let names: Vec<&str> = CONTROLS.iter().map(|control| control.name).collect();
        format!("there is no congestion control {name}, but {}", names.join(", "))
    })
}

/// An address and port as a URL has it.
pub(super) fn shown(at: SocketAddr) -> String {
    match at {
        SocketAddr::V4(at) => at.ip().to_string(),
        SocketAddr::V6(at) => at.ip().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Parameters {
        Parameters { tcp: true, time: 10, parallel: 1, len: 131_072, ..Parameters::default() }
    }

    #[test]
    fn parameters_outside_their_range_are_refused_with_a_reason() {
        let refused = |parameters: Parameters| Settings::of(&parameters).unwrap_err();
        assert!(refused(Parameters { parallel: 129, ..asked() }).message.contains("129 is more than 128"));
        assert!(refused(Parameters { len: 1 << 30, ..asked() }).message.contains("length"));
        assert!(refused(Parameters { udp: true, len: 15, ..asked() }).message.contains("header"));
        assert!(refused(Parameters { sctp: true, ..asked() }).message.contains("SCTP"));
        assert!(refused(Parameters { time: 1 << 40, ..asked() }).message.contains("duration"));
        let unknown = refused(Parameters { congestion: Some("vegas".into()), ..asked() });
        assert_eq!(unknown.fault, Fault::CongestionControl);
        assert!(unknown.message.contains("cubic"), "{unknown:?}");
        let empty = Transactions { request: 0, response: 1, close: false };
        assert!(refused(Parameters { tailwater_transactions: Some(empty), ..asked() }).message.contains("requests"));
    }

    #[test]
    fn what_a_client_asks_for_is_what_the_server_understands() {
        let settings = Settings {
            direction: Direction::Both,
            parallel: 3,
            rate: 5_000_000,
            blocks: 7,
            congestion: congestion::control("reno"),
            ..Settings::of(&asked()).unwrap()
        };
        let there = Settings::of(&settings.to_parameters()).unwrap();
        assert_eq!(there.to_parameters(), settings.to_parameters());
        assert_eq!((there.streams(), there.volume()), (6, Some(7 * 131_072)));
    }

    #[test]
    fn one_end_sends_on_each_stream_and_the_client_on_the_first_ones() {
        for direction in [Direction::Forward, Direction::Reverse, Direction::Both] {
            let settings = Settings { direction, parallel: 2, ..Settings::of(&asked()).unwrap() };
            let client: Vec<bool> = (0..settings.streams()).map(|place| settings.sends(End::Client, place)).collect();
            let server: Vec<bool> = (0..settings.streams()).map(|place| !settings.sends(End::Server, place)).collect();
            assert_eq!(client, server);
            assert_eq!(client[0], direction != Direction::Reverse);
        }
    }
}
