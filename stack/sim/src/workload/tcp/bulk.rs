//! A stream one way: as much as the path carries.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tailwater_stack::tcp::{CloseReason, Connect, ConnectionId, ConnectionOptions, Listen, ListenerId, TcpEvent};
use tailwater_stack::{Instant, Stack};

use super::{Received, Rests, Sitting, write};
use crate::buffer::SimBuffer;
use crate::flow::Flow;
use crate::host::HostContext;
use crate::workload::Workload;

#[derive(Clone, Copy, Debug)]
pub struct TcpSourceConfig {
    pub to: SocketAddr,
    /// To be sent; `None`: until `stop`.
    pub bytes: Option<u64>,
    /// Since the beginning of the simulation.
    pub start: Duration,
    /// `None`: never.
    pub stop: Option<Duration>,
    pub options: ConnectionOptions,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Waiting,
    Open(ConnectionId),
    /// Everything is written, and our side is closed.
    Shut(ConnectionId),
    Over,
}

/// The sending end: connects, writes, closes.
pub struct TcpSource {
    flow: String,
    config: TcpSourceConfig,
    stage: Stage,
    written: u64,
    sitting: Sitting,
    ended: Option<CloseReason>,
    retransmitted: u64,
}

impl TcpSource {
    pub fn new(flow: impl Into<String>, config: TcpSourceConfig) -> Self {
        let (stage, sitting) = (Stage::Waiting, Sitting::new(None));
        Self { flow: flow.into(), config, stage, written: 0, sitting, ended: None, retransmitted: 0 }
    }

    /// Rests between writes.
    pub fn with_rests(self, rests: Rests) -> Self {
        Self { sitting: Sitting::new(Some(rests)), ..self }
    }

    fn open(&mut self, host: &mut HostContext<'_, '_>) {
        let connect = Connect { connection: Some(self.config.options), ..Connect::to(self.config.to) };
        match host.stack.tcp_connect(connect, |_| true, host.env) {
            Ok(id) => self.stage = Stage::Open(id),
            Err(_) => (self.stage, self.ended) = (Stage::Over, Some(CloseReason::Unreachable)),
        }
    }

    fn write(&mut self, id: ConnectionId, host: &mut HostContext<'_, '_>) {
        let Some(sitting_end) = self.sitting.end() else { return };
        let end = self.config.bytes.unwrap_or(u64::MAX);
        self.written = write(id, self.written, end.min(sitting_end), host);
        if self.written >= end {
            self.shut(id, host);
        } else {
            self.sitting.rest_if_due(self.written, host.now());
        }
    }

    fn shut(&mut self, id: ConnectionId, host: &mut HostContext<'_, '_>) {
        self.stage = Stage::Shut(id);
        // A connection that is gone has told so, or will.
        let _ = host.stack.tcp_shutdown(id, host.env);
    }

    fn id(&self) -> Option<ConnectionId> {
        match self.stage {
            Stage::Open(id) | Stage::Shut(id) => Some(id),
            Stage::Waiting | Stage::Over => None,
        }
    }
}

impl Workload for TcpSource {
    fn start(&mut self, _host: &mut HostContext<'_, '_>) {}

    fn on_tcp(&mut self, event: &TcpEvent, host: &mut HostContext<'_, '_>) {
        match *event {
            TcpEvent::Connected(id) | TcpEvent::Writable(id) if self.stage == Stage::Open(id) => self.write(id, host),
            TcpEvent::Readable(id) if self.id() == Some(id) => Received::default().read(id, host),
            TcpEvent::Closed(id, reason) if self.id() == Some(id) => {
                (self.stage, self.ended) = (Stage::Over, Some(reason));
            }
            _ => {}
        }
        if let Some(snapshot) = self.id().and_then(|id| host.stack.tcp_snapshot(id, host.env.now)) {
            self.retransmitted = snapshot.retransmitted;
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Waiting => Some(Instant::ZERO + self.config.start),
            Stage::Open(_) => {
                self.config.stop.map(|stop| Instant::ZERO + stop).into_iter().chain(self.sitting.until).min()
            }
            Stage::Shut(_) | Stage::Over => None,
        }
    }

    fn on_timeout(&mut self, host: &mut HostContext<'_, '_>) {
        match self.stage {
            Stage::Waiting => self.open(host),
            Stage::Open(id) if self.config.stop.is_some_and(|stop| Instant::ZERO + stop <= host.now()) => {
                self.shut(id, host);
            }
            Stage::Open(id) => {
                if self.sitting.go_on(host.now()) {
                    self.write(id, host);
                }
            }
            Stage::Shut(_) | Stage::Over => {}
        }
    }

    fn flow(&self) -> &str {
        &self.flow
    }

    fn report(&self, flow: &mut Flow, stack: &Stack<SimBuffer>, now: Instant) {
        flow.sent_bytes += self.written;
        flow.opened += u64::from(self.stage != Stage::Waiting);
        count_end(flow, self.ended);
        flow.retransmitted_bytes += self.retransmitted;
        if let Some(snapshot) = self.id().and_then(|id| stack.tcp_snapshot(id, now)) {
            flow.retransmitted_bytes += snapshot.retransmitted.saturating_sub(self.retransmitted);
            flow.cwnd = Some(snapshot.cwnd);
            flow.srtt = snapshot.srtt;
        }
    }
}

fn count_end(flow: &mut Flow, ended: Option<CloseReason>) {
    match ended {
        Some(CloseReason::Finished) => flow.ended_well += 1,
        Some(_) => flow.ended_badly += 1,
        None => {}
    }
}

#[derive(Clone, Copy, Debug)]
struct Reader {
    received: Received,
    sitting: Sitting,
}

/// The receiving end: accepts every connection, reads, compares, closes after the peer.
pub struct TcpSink {
    flow: String,
    at: SocketAddr,
    options: ConnectionOptions,
    listener: Option<ListenerId>,
    rests: Option<Rests>,
    connections: BTreeMap<ConnectionId, Reader>,
    /// Of connections that are over.
    past: Received,
    accepted: u64,
    ended_well: u64,
    ended_badly: u64,
}

impl TcpSink {
    /// `at`: an address of the host, or the unspecified one.
    pub fn new(flow: impl Into<String>, at: SocketAddr, options: ConnectionOptions) -> Self {
        Self {
            flow: flow.into(),
            at,
            options,
            listener: None,
            rests: None,
            connections: BTreeMap::new(),
            past: Received::default(),
            accepted: 0,
            ended_well: 0,
            ended_badly: 0,
        }
    }

    /// Rests between reads, on each connection.
    pub fn with_rests(self, rests: Rests) -> Self {
        Self { rests: Some(rests), ..self }
    }

    fn read(&mut self, id: ConnectionId, host: &mut HostContext<'_, '_>) {
        let Some(Reader { received, sitting }) = self.connections.get_mut(&id) else { return };
        let Some(end) = sitting.end().filter(|_| !received.finished) else { return };
        received.read_until(end, id, host);
        sitting.rest_if_due(received.bytes, host.now());
        if received.finished {
            // A connection that is gone has told so, or will.
            let _ = host.stack.tcp_shutdown(id, host.env);
        }
    }
}

impl Workload for TcpSink {
    fn start(&mut self, host: &mut HostContext<'_, '_>) {
        let how = Listen { connection: Some(self.options), ..Listen::default() };
        self.listener = host.stack.tcp_listen(self.at, how).ok();
    }

    fn on_tcp(&mut self, event: &TcpEvent, host: &mut HostContext<'_, '_>) {
        match *event {
            TcpEvent::Accepted { listener, connection, .. } if Some(listener) == self.listener => {
                self.accepted += 1;
                let reader = Reader { received: Received::default(), sitting: Sitting::new(self.rests) };
                self.connections.insert(connection, reader);
                self.read(connection, host);
            }
            TcpEvent::Readable(id) => self.read(id, host),
            TcpEvent::Closed(id, reason) => {
                if let Some(Reader { received, .. }) = self.connections.remove(&id) {
                    self.past.bytes += received.bytes;
                    self.past.wrong += received.wrong;
                    let well = reason == CloseReason::Finished;
                    self.ended_well += u64::from(well);
                    self.ended_badly += u64::from(!well);
                }
            }
            _ => {}
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.connections.values().filter_map(|reader| reader.sitting.until).min()
    }

    fn on_timeout(&mut self, host: &mut HostContext<'_, '_>) {
        let now = host.now();
        let rested = |(&id, reader): (&ConnectionId, &mut Reader)| reader.sitting.go_on(now).then_some(id);
        let rested: Vec<_> = self.connections.iter_mut().filter_map(rested).collect();
        rested.into_iter().for_each(|id| self.read(id, host));
    }

    fn flow(&self) -> &str {
        &self.flow
    }

    fn report(&self, flow: &mut Flow, _stack: &Stack<SimBuffer>, _now: Instant) {
        let all = || self.connections.values().map(|reader| &reader.received).chain([&self.past]);
        flow.received_bytes += all().map(|received| received.bytes).sum::<u64>();
        flow.wrong_bytes += all().map(|received| received.wrong).sum::<u64>();
        flow.accepted += self.accepted;
        flow.ended_well += self.ended_well;
        flow.ended_badly += self.ended_badly;
    }
}
