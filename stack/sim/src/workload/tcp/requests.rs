//! Requests and responses over TCP: on one connection, or on a new one for each few.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tailwater_stack::tcp::{CloseReason, Connect, ConnectionId, ConnectionOptions, Listen, ListenerId, TcpEvent};
use tailwater_stack::{Instant, Stack};

use super::{Received, write};
use crate::buffer::SimBuffer;
use crate::flow::{Delays, Flow};
use crate::host::HostContext;
use crate::workload::Workload;

#[derive(Clone, Copy, Debug)]
pub struct TcpClientConfig {
    pub to: SocketAddr,
    /// Bytes, at least 1.
    pub request: u64,
    /// Bytes, at least 1.
    pub response: u64,
    /// Requests on a connection before it is closed and the next one opened; at least 1.
    pub per_connection: u64,
    /// Between a response and the next request.
    pub pause: Duration,
    /// Since the beginning of the simulation.
    pub start: Duration,
    /// `None`: never.
    pub stop: Option<Duration>,
    pub options: ConnectionOptions,
}

/// One connection of a client.
#[derive(Clone, Copy, Debug)]
struct Session {
    id: ConnectionId,
    written: u64,
    received: Received,
    /// Requests begun on it.
    asked: u64,
    /// Since when the request is outstanding: with the connecting, if it is the first.
    since: Option<Instant>,
}

/// Asks, waits for the whole answer, asks again.
pub struct TcpClient {
    flow: String,
    config: TcpClientConfig,
    session: Option<Session>,
    /// Closed by us, and not yet over.
    closing: Vec<ConnectionId>,
    due: Instant,
    opened: u64,
    answered: u64,
    wrong: u64,
    ended_well: u64,
    ended_badly: u64,
    rtt: Delays,
}

/// Connections that may be closing at a time before the client waits for them.
const CLOSING_MAX: usize = 1_024;

impl TcpClient {
    pub fn new(flow: impl Into<String>, config: TcpClientConfig) -> Self {
        Self {
            flow: flow.into(),
            config,
            session: None,
            closing: Vec::new(),
            due: Instant::ZERO + config.start,
            opened: 0,
            answered: 0,
            wrong: 0,
            ended_well: 0,
            ended_badly: 0,
            rtt: Delays::default(),
        }
    }

    fn open(&mut self, host: &mut HostContext<'_, '_>) {
        let connect = Connect { connection: Some(self.config.options), ..Connect::to(self.config.to) };
        self.opened += 1;
        match host.stack.tcp_connect(connect, |_| true, host.env) {
            Ok(id) => {
                let since = Some(host.now());
                self.session = Some(Session { id, written: 0, received: Received::default(), asked: 1, since });
            }
            Err(_) => {
                self.ended_badly += 1;
                self.due = host.now() + self.config.pause.max(Duration::from_millis(1));
            }
        }
    }

    /// Writes what of the request is not written yet.
    fn ask(&mut self, host: &mut HostContext<'_, '_>) {
        if let Some(session) = &mut self.session {
            session.written = write(session.id, session.written, session.asked * self.config.request, host);
        }
    }

    fn read(&mut self, host: &mut HostContext<'_, '_>) {
        let Some(session) = &mut self.session else { return };
        session.received.read(session.id, host);
        if session.received.bytes < session.asked * self.config.response {
            return;
        }
        let Some(since) = session.since.take() else { return };
        self.answered += 1;
        self.rtt.add(host.now().since(since));
        self.due = host.now() + self.config.pause;
        if session.asked >= self.config.per_connection {
            self.close(host);
        }
    }

    fn close(&mut self, host: &mut HostContext<'_, '_>) {
        let Some(session) = self.session.take() else { return };
        self.wrong += session.received.wrong;
        self.closing.push(session.id);
        // A connection that is gone has told so, or will.
        let _ = host.stack.tcp_shutdown(session.id, host.env);
    }

    fn on_closed(&mut self, id: ConnectionId, reason: CloseReason, now: Instant) {
        if let Some(session) = self.session.take_if(|session| session.id == id) {
            self.wrong += session.received.wrong;
            self.due = now + self.config.pause.max(Duration::from_millis(1));
        } else if let Some(at) = self.closing.iter().position(|&closing| closing == id) {
            self.closing.swap_remove(at);
        } else {
            return;
        }
        let well = reason == CloseReason::Finished;
        self.ended_well += u64::from(well);
        self.ended_badly += u64::from(!well);
    }
}

impl Workload for TcpClient {
    fn start(&mut self, _host: &mut HostContext<'_, '_>) {}

    fn on_tcp(&mut self, event: &TcpEvent, host: &mut HostContext<'_, '_>) {
        let ours = |id: ConnectionId| self.session.is_some_and(|session| session.id == id);
        match *event {
            TcpEvent::Connected(id) | TcpEvent::Writable(id) if ours(id) => self.ask(host),
            TcpEvent::Readable(id) if ours(id) => self.read(host),
            TcpEvent::Readable(id) if self.closing.contains(&id) => Received::default().read(id, host),
            TcpEvent::Closed(id, reason) => self.on_closed(id, reason, host.now()),
            _ => {}
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let outstanding = self.session.is_some_and(|session| session.since.is_some());
        if outstanding || self.closing.len() >= CLOSING_MAX {
            return None;
        }
        let stop = self.config.stop.map(|stop| Instant::ZERO + stop);
        match (self.session, stop) {
            (None, Some(stop)) if self.due >= stop => None,
            (Some(_), Some(stop)) => Some(self.due.min(stop)),
            _ => Some(self.due),
        }
    }

    fn on_timeout(&mut self, host: &mut HostContext<'_, '_>) {
        let now = host.now();
        let over = self.config.stop.is_some_and(|stop| now >= Instant::ZERO + stop);
        match &mut self.session {
            _ if over => self.close(host),
            None => self.open(host),
            Some(session) => {
                session.asked += 1;
                session.since = Some(now);
                self.ask(host);
            }
        }
    }

    fn flow(&self) -> &str {
        &self.flow
    }

    fn report(&self, flow: &mut Flow, stack: &Stack<SimBuffer>, now: Instant) {
        flow.sent_packets += self.answered + u64::from(self.session.is_some_and(|session| session.since.is_some()));
        flow.sent_bytes += self.answered * self.config.request;
        flow.received_packets += self.answered;
        flow.received_bytes += self.answered * self.config.response;
        flow.opened += self.opened;
        flow.ended_well += self.ended_well;
        flow.ended_badly += self.ended_badly;
        flow.wrong_bytes += self.wrong + self.session.map_or(0, |session| session.received.wrong);
        flow.rtt.merge(&self.rtt);
        if let Some(snapshot) = self.session.and_then(|session| stack.tcp_snapshot(session.id, now)) {
            flow.cwnd = Some(snapshot.cwnd);
        }
    }
}

/// One connection of a responder.
#[derive(Clone, Copy, Default, Debug)]
struct Served {
    received: Received,
    written: u64,
    shut: bool,
}

/// Answers each request in full, and closes after the peer.
pub struct TcpResponder {
    flow: String,
    at: SocketAddr,
    request: u64,
    response: u64,
    options: ConnectionOptions,
    listener: Option<ListenerId>,
    connections: BTreeMap<ConnectionId, Served>,
    accepted: u64,
    wrong: u64,
}

impl TcpResponder {
    /// `request` and `response` in bytes, as the client has them.
    pub fn new(
        flow: impl Into<String>,
        at: SocketAddr,
        request: u64,
        response: u64,
        options: ConnectionOptions,
    ) -> Self {
        let (flow, request) = (flow.into(), request.max(1));
        let connections = BTreeMap::new();
        Self { flow, at, request, response, options, listener: None, connections, accepted: 0, wrong: 0 }
    }

    fn serve(&mut self, id: ConnectionId, host: &mut HostContext<'_, '_>) {
        let Some(served) = self.connections.get_mut(&id) else { return };
        served.received.read(id, host);
        let end = served.received.bytes / self.request * self.response;
        served.written = write(id, served.written, end, host);
        if served.received.finished && served.written >= end && !served.shut {
            served.shut = true;
            // A connection that is gone has told so, or will.
            let _ = host.stack.tcp_shutdown(id, host.env);
        }
    }
}

impl Workload for TcpResponder {
    fn start(&mut self, host: &mut HostContext<'_, '_>) {
        let how = Listen { connection: Some(self.options), ..Listen::default() };
        self.listener = host.stack.tcp_listen(self.at, how).ok();
    }

    fn on_tcp(&mut self, event: &TcpEvent, host: &mut HostContext<'_, '_>) {
        match *event {
            TcpEvent::Accepted { listener, connection, .. } if Some(listener) == self.listener => {
                self.accepted += 1;
                self.connections.insert(connection, Served::default());
                self.serve(connection, host);
            }
            TcpEvent::Readable(id) | TcpEvent::Writable(id) => self.serve(id, host),
            TcpEvent::Closed(id, _) => {
                self.wrong += self.connections.remove(&id).map_or(0, |served| served.received.wrong);
            }
            _ => {}
        }
    }

    fn flow(&self) -> &str {
        &self.flow
    }

    fn report(&self, flow: &mut Flow, _stack: &Stack<SimBuffer>, _now: Instant) {
        flow.accepted += self.accepted;
        let open = self.connections.values().map(|served| served.received.wrong).sum::<u64>();
        flow.wrong_bytes += self.wrong + open;
    }
}
