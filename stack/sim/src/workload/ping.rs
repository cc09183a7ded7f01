//! ICMP echo requests.

use std::net::IpAddr;
use std::time::Duration;

use tailwater_stack::{ECHO_IDENTS_MAX, EchoReply, EchoRequest, Env, Event, Instant, Stack};

use super::Workload;
use super::sequence;
use super::udp::payload;
use crate::buffer::SimBuffer;
use crate::flow::{Delays, Flow};
use crate::host::HostContext;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pings {
    pub to: IpAddr,
    pub count: u64,
    pub interval: Duration,
    /// Bytes of data, at least 16.
    pub size: usize,
    /// Since the beginning of the simulation.
    pub start: Duration,
    /// TTL or hop limit; `None`: the stack's.
    pub hop_limit: Option<u8>,
}

impl Pings {
    /// One a second, without end, of 56 bytes.
    pub fn to(to: impl Into<IpAddr>) -> Self {
        Self {
            to: to.into(),
            count: u64::MAX,
            interval: Duration::from_secs(1),
            size: 56,
            start: Duration::ZERO,
            hop_limit: None,
        }
    }
}

pub struct Ping {
    flow: String,
    config: Pings,
    ident: Option<u16>,
    sent: u64,
    received: u64,
    /// Refused by the stack, or reported by ICMP.
    failed: u64,
    due: Instant,
    rtt: Delays,
}

impl Ping {
    pub fn new(flow: impl Into<String>, config: Pings) -> Self {
        Self {
            flow: flow.into(),
            config,
            ident: None,
            sent: 0,
            received: 0,
            failed: 0,
            due: Instant::ZERO + config.start,
            rtt: Delays::default(),
        }
    }
}

impl Workload for Ping {
    fn start(&mut self, host: &mut HostContext<'_, '_>) {
        let first = host.env.random() as u16;
        // Of so many in a row one is free, unless the host has all that it can.
        self.ident =
            (0..=ECHO_IDENTS_MAX as u16).map(|n| first.wrapping_add(n)).find(|&ident| host.stack.echo_open(ident));
    }

    fn has_ident(&self, ident: u16) -> bool {
        Some(ident) == self.ident
    }

    fn on_echo_reply(&mut self, reply: EchoReply<SimBuffer>, host: &mut HostContext<'_, '_>) {
        if let Some((_, sent_at)) = sequence::read(reply.payload()) {
            self.received += 1;
            self.rtt.add(host.now().since(sent_at));
        }
        host.env.release(reply.into_buffer());
    }

    fn on_event(&mut self, event: &Event, _host: &mut HostContext<'_, '_>) {
        if let Event::EchoUndelivered { ident, .. } = event
            && Some(*ident) == self.ident
        {
            self.failed += 1;
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.ident?;
        (self.sent < self.config.count).then_some(self.due)
    }

    fn on_timeout(&mut self, host: &mut HostContext<'_, '_>) {
        let Some(ident) = self.ident else { return };
        self.due = host.now() + self.config.interval.max(Duration::from_nanos(1));
        let Pings { to: destination, hop_limit, .. } = self.config;
        let request = EchoRequest { destination, interface: None, ident, sequence: self.sent as u16, hop_limit };
        let data = payload(self.config.size, self.sent, host);
        self.sent += 1;
        let left = data.is_some_and(|data| host.stack.echo_request(&request, data, host.env).is_ok());
        self.failed += u64::from(!left);
    }

    fn flow(&self) -> &str {
        &self.flow
    }

    fn report(&self, flow: &mut Flow, _stack: &Stack<SimBuffer>, _now: Instant) {
        let size = self.config.size.max(sequence::LEN_MIN) as u64;
        flow.sent_packets += self.sent;
        flow.sent_bytes += self.sent * size;
        flow.received_packets += self.received;
        flow.received_bytes += self.received * size;
        flow.failed += self.failed;
        flow.rtt.merge(&self.rtt);
    }
}
