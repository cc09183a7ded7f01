//! Datagrams at an even rate, one way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tailwater_stack::{Buffer, Datagram, Env, Instant, SocketId, Stack};

use super::Workload;
use super::sequence::{self, Arrivals};
use crate::buffer::SimBuffer;
use crate::flow::{Delays, Flow};
use crate::host::HostContext;

/// Datagrams sent in one call, so that a rate too high for the interval does not starve the rest.
const BURST_MAX: u64 = 1_024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UdpSourceConfig {
    pub to: SocketAddr,
    /// Bits of payload per second.
    pub rate_bps: u64,
    /// Bytes of payload, 16 to 65507.
    pub size: usize,
    /// Since the beginning of the simulation.
    pub start: Duration,
    /// `None`: never.
    pub stop: Option<Duration>,
}

/// The sending end.
pub struct UdpSource {
    flow: String,
    config: UdpSourceConfig,
    socket: Option<SocketId>,
    sent: u64,
    /// Refused by the stack.
    failed: u64,
    pace: Pace,
}

/// When datagrams are due: exactly at the rate, without a remainder lost.
#[derive(Clone, Copy, Debug)]
struct Pace {
    due: Instant,
    /// Whole nanoseconds from one to the next, and what is left, in `rate_bps`ths of one.
    step_ns: u64,
    step_rest: u64,
    rest: u64,
    rate_bps: u64,
}

impl Pace {
    fn new(config: &UdpSourceConfig) -> Self {
        let rate_bps = config.rate_bps.max(1);
        let nanos = (config.size as u64).saturating_mul(8_000_000_000);
        let due = Instant::ZERO + config.start;
        Self { due, step_ns: nanos / rate_bps, step_rest: nanos % rate_bps, rest: 0, rate_bps }
    }

    fn advance(&mut self) {
        self.rest += self.step_rest;
        let carry = u64::from(self.rest >= self.rate_bps);
        self.rest -= carry * self.rate_bps;
        self.due = self.due + Duration::from_nanos(self.step_ns + carry);
    }
}

impl UdpSource {
    pub fn new(flow: impl Into<String>, config: UdpSourceConfig) -> Self {
        Self { flow: flow.into(), config, socket: None, sent: 0, failed: 0, pace: Pace::new(&config) }
    }

    fn send(&mut self, socket: SocketId, host: &mut HostContext<'_, '_>) -> Option<()> {
        let payload = payload(self.config.size, self.sent, host)?;
        host.stack.udp_send(socket, self.config.to, payload, host.env).ok().map(|_| ())
    }
}

/// A payload with the number and the time in it, in as many frames as it needs; `None` if there are not as many.
pub(super) fn payload(len: usize, number: u64, host: &mut HostContext<'_, '_>) -> Option<SimBuffer> {
    let now = host.now();
    let mut left = len.max(sequence::LEN_MIN);
    let mut payload = host.env.allocate()?;
    if let Ok(room) = payload.append(take(&mut left, &payload)) {
        sequence::write(room, number, now);
    }
    while left > 0 {
        let Some(mut further) = host.env.allocate() else {
            host.env.release(payload);
            return None;
        };
        if let Ok(room) = further.append(take(&mut left, &further)) {
            room.fill(0);
        }
        if let Err(further) = payload.chain(further) {
            host.env.release(further);
        }
    }
    Some(payload)
}

/// Of the bytes that are left those that a new frame has room for.
fn take(left: &mut usize, frame: &SimBuffer) -> usize {
    let taken = (*left).min(frame.tailroom());
    *left -= taken;
    taken
}

/// The unspecified address of the same family.
pub(crate) fn any_of(other: IpAddr) -> IpAddr {
    match other {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

impl Workload for UdpSource {
    fn start(&mut self, host: &mut HostContext<'_, '_>) {
        let any = any_of(self.config.to.ip());
        let random = host.env.random();
        self.socket = host.stack.udp_bind_ephemeral(any, None, random, |_| true).ok();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.socket?;
        let due = self.pace.due;
        let ended = self.config.stop.is_some_and(|stop| due >= Instant::ZERO + stop);
        (!ended).then_some(due)
    }

    fn on_timeout(&mut self, host: &mut HostContext<'_, '_>) {
        let Some(socket) = self.socket else { return };
        for _ in 0..BURST_MAX {
            if self.poll_timeout().is_none_or(|due| due > host.now()) {
                break;
            }
            self.pace.advance();
            match self.send(socket, host) {
                Some(()) => self.sent += 1,
                None => self.failed += 1,
            }
        }
    }

    fn flow(&self) -> &str {
        &self.flow
    }

    fn report(&self, flow: &mut Flow, _stack: &Stack<SimBuffer>, _now: Instant) {
        flow.sent_packets += self.sent;
        flow.sent_bytes += self.sent * self.config.size as u64;
        flow.failed += self.failed;
    }
}

/// The receiving end.
pub struct UdpSink {
    flow: String,
    at: SocketAddr,
    socket: Option<SocketId>,
    arrivals: Arrivals,
    bytes: u64,
    malformed: u64,
    delays: Delays,
}

impl UdpSink {
    /// `at`: an address of the host, or the unspecified one.
    pub fn new(flow: impl Into<String>, at: SocketAddr) -> Self {
        Self {
            flow: flow.into(),
            at,
            socket: None,
            arrivals: Arrivals::default(),
            bytes: 0,
            malformed: 0,
            delays: Delays::default(),
        }
    }
}

impl Workload for UdpSink {
    fn start(&mut self, host: &mut HostContext<'_, '_>) {
        self.socket = host.stack.udp_bind(self.at, None).ok();
    }

    fn has_socket(&self, socket: SocketId) -> bool {
        Some(socket) == self.socket
    }

    fn on_datagram(&mut self, datagram: Datagram<SimBuffer>, host: &mut HostContext<'_, '_>) {
        if let Some((number, sent_at)) = sequence::read(datagram.payload()) {
            self.arrivals.on_packet(number);
            self.bytes += datagram.payload_len() as u64;
            self.delays.add(sequence::one_way(sent_at, host.now()));
        } else {
            self.malformed += 1;
        }
        host.env.release(datagram.into_buffer());
    }

    fn flow(&self) -> &str {
        &self.flow
    }

    fn report(&self, flow: &mut Flow, _stack: &Stack<SimBuffer>, _now: Instant) {
        flow.received_packets += self.arrivals.packets;
        flow.received_bytes += self.bytes;
        flow.duplicates += self.arrivals.duplicates;
        flow.reordered += self.arrivals.reordered;
        flow.failed += self.malformed + self.arrivals.too_late;
        flow.one_way.merge(&self.delays);
    }
}
