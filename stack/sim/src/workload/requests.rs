//! Requests and responses over UDP: one outstanding at a time.

use std::net::SocketAddr;
use std::time::Duration;

use tailwater_stack::{Datagram, Env, Instant, SocketId, Stack};

use super::Workload;
use super::sequence;
use super::udp::{any_of, payload};
use crate::buffer::SimBuffer;
use crate::flow::{Delays, Flow};
use crate::host::HostContext;

/// Sends every datagram back.
pub struct UdpEcho {
    flow: String,
    at: SocketAddr,
    socket: Option<SocketId>,
    answered: u64,
}

impl UdpEcho {
    /// `at`: an address of the host, or the unspecified one.
    pub fn new(flow: impl Into<String>, at: SocketAddr) -> Self {
        Self { flow: flow.into(), at, socket: None, answered: 0 }
    }
}

impl Workload for UdpEcho {
    fn start(&mut self, host: &mut HostContext<'_, '_>) {
        self.socket = host.stack.udp_bind(self.at, None).ok();
    }

    fn has_socket(&self, socket: SocketId) -> bool {
        Some(socket) == self.socket
    }

    fn on_datagram(&mut self, datagram: Datagram<SimBuffer>, host: &mut HostContext<'_, '_>) {
        self.answered += u64::from(host.stack.udp_reply(datagram, host.env).is_ok());
    }

    fn flow(&self) -> &str {
        &self.flow
    }

    fn report(&self, flow: &mut Flow, _stack: &Stack<SimBuffer>, _now: Instant) {
        flow.answered += self.answered;
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UdpRequestsConfig {
    pub to: SocketAddr,
    /// Bytes of a request, which come back as the response; at least 16.
    pub size: usize,
    /// Since the beginning of the simulation.
    pub start: Duration,
    /// `None`: never.
    pub stop: Option<Duration>,
    /// Between a response and the next request.
    pub pause: Duration,
    /// A request without a response for so long counts as failed, and the next one follows.
    pub timeout: Duration,
}

/// Asks, waits for the answer, asks again.
pub struct UdpRequests {
    flow: String,
    config: UdpRequestsConfig,
    socket: Option<SocketId>,
    number: u64,
    /// When the next request is to be sent, or the outstanding one given up.
    due: Instant,
    outstanding: bool,
    received: u64,
    unanswered: u64,
    rtt: Delays,
}

impl UdpRequests {
    pub fn new(flow: impl Into<String>, config: UdpRequestsConfig) -> Self {
        Self {
            flow: flow.into(),
            config,
            socket: None,
            number: 0,
            due: Instant::ZERO + config.start,
            outstanding: false,
            received: 0,
            unanswered: 0,
            rtt: Delays::default(),
        }
    }
}

impl Workload for UdpRequests {
    fn start(&mut self, host: &mut HostContext<'_, '_>) {
        let any = any_of(self.config.to.ip());
        let random = host.env.random();
        self.socket = host.stack.udp_bind_ephemeral(any, None, random, |_| true).ok();
    }

    fn has_socket(&self, socket: SocketId) -> bool {
        Some(socket) == self.socket
    }

    fn on_datagram(&mut self, datagram: Datagram<SimBuffer>, host: &mut HostContext<'_, '_>) {
        // Answers to requests that were given up come too late to count.
        if let Some((number, sent_at)) = sequence::read(datagram.payload())
            && self.outstanding
            && number + 1 == self.number
        {
            self.outstanding = false;
            self.received += 1;
            self.rtt.add(host.now().since(sent_at));
            self.due = host.now() + self.config.pause;
        }
        host.env.release(datagram.into_buffer());
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.socket?;
        let ended = self.config.stop.is_some_and(|stop| self.due >= Instant::ZERO + stop);
        (!ended).then_some(self.due)
    }

    fn on_timeout(&mut self, host: &mut HostContext<'_, '_>) {
        let Some(socket) = self.socket else { return };
        self.unanswered += u64::from(std::mem::take(&mut self.outstanding));
        self.due = host.now() + self.config.timeout;
        let payload = payload(self.config.size, self.number, host);
        self.number += 1;
        self.outstanding =
            payload.is_some_and(|payload| host.stack.udp_send(socket, self.config.to, payload, host.env).is_ok());
        self.unanswered += u64::from(!self.outstanding);
    }

    fn flow(&self) -> &str {
        &self.flow
    }

    fn report(&self, flow: &mut Flow, _stack: &Stack<SimBuffer>, _now: Instant) {
        let size = self.config.size.max(sequence::LEN_MIN) as u64;
        flow.sent_packets += self.number;
        flow.sent_bytes += self.number * size;
        flow.received_packets += self.received;
        flow.received_bytes += self.received * size;
        flow.failed += self.unanswered;
        flow.rtt.merge(&self.rtt);
    }
}
