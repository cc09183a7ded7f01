//! The serving part inside a worker: its connections, who is next, and who has been silent for too long.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use tailwater_dataplane::service::{Io, Service};
use tailwater_stack::tcp::{CloseReason, ConnectionId, ListenerId};

use super::connection::{Connection, Next};
use super::content::Content;
use super::response::Date;
use super::status::Status;

/// Connections that have a turn in one call; the others wait for the next. What they write, 64 KiB each, is to leave soon.
const TURNS_MAX: usize = 8;
/// Connections that a listener lets wait to be accepted, where there are places.
const BACKLOG_MAX: usize = 4_096;
/// Places looked at in one call for connections that have been silent.
const SWEPT_MAX: usize = 64;
/// All places are looked at in so many ns.
const SWEEP_NS: u64 = 1_000_000_000;
/// Pause before another try where there were no frames to send with, in ns.
const STARVED_NS: u64 = 1_000_000;
/// Room for the head of an answer, in bytes; a larger one grows it once.
const HEAD_LEN: usize = 512;

/// Bounds of the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections of one worker at a time.
    pub(super) connections_max: usize,
    /// Silence after which a connection is given up, in ns.
    pub(super) idle_ns: u64,
}

/// What a worker's connections share.
pub(super) struct Desk {
    pub(super) content: Arc<Content>,
    pub(super) date: Date,
    /// Head of the answer that is being made.
    pub(super) head: Vec<u8>,
    pub(super) tally: Tally,
}

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    connections: u64,
    /// Times that there were [`Limits::connections_max`].
    max_hit: u64,
    timed_out: u64,
    /// Ended while an answer was under way.
    cut_short: u64,
    /// Ended by a reset, a time-out or an unreachable peer.
    failed: u64,
    requests: u64,
    errors: u64,
    /// Times that there were no frames to send with.
    starved: u64,
    pub(super) body_bytes: u64,
}

impl Tally {
    pub(super) fn count(&mut self, status: Status) {
        self.requests += 1;
        self.errors += u64::from(status.is_error());
    }
}

/// The server of one worker.
pub(super) struct Server {
    limits: Limits,
    /// Where it listens.
    addresses: Arc<[SocketAddr]>,
    listeners: Vec<ListenerId>,
    /// By the connection's place.
    places: Vec<Option<Connection>>,
    open: usize,
    desk: Desk,
    /// Who goes on next; each once.
    line: VecDeque<ConnectionId>,
    /// Not before this, in ns, because frames had run out.
    not_before_ns: u64,
    /// Where the next sweep begins, and when it is due.
    hand: usize,
    sweep_ns: u64,
}

impl Server {
    pub(super) fn new(content: Arc<Content>, limits: Limits, addresses: Arc<[SocketAddr]>) -> Self {
        let desk = Desk { content, date: Date::default(), head: Vec::with_capacity(HEAD_LEN), tally: Tally::default() };
        let (listeners, places, line) = (Vec::new(), Vec::new(), VecDeque::new());
        Self { limits, addresses, listeners, places, open: 0, desk, line, not_before_ns: 0, hand: 0, sweep_ns: 0 }
    }

    fn proceed(&mut self, id: ConnectionId, io: &mut Io<'_, '_>) {
        let Self { places, desk, line, not_before_ns, .. } = self;
        let Some(connection) = places.get_mut(id.place()).and_then(Option::as_mut).filter(|held| held.id == id) else {
            return;
        };
        let next = connection.proceed(desk, io);
        if next == Next::Starved {
            desk.tally.starved += 1;
            *not_before_ns = io.now_ns() + STARVED_NS;
        }
        if next != Next::Wait && !connection.queued {
            connection.queued = true;
            line.push_back(id);
        }
    }

    /// Lets those who stand in line go on.
    fn serve_line(&mut self, io: &mut Io<'_, '_>) {
        for _ in 0..self.line.len().min(TURNS_MAX) {
            let Some(id) = self.line.pop_front() else { return };
            if let Some(connection) = self.places.get_mut(id.place()).and_then(Option::as_mut) {
                connection.queued &= connection.id != id;
            }
            self.proceed(id, io);
        }
    }

    /// Gives up connections that have been silent for too long, a few places at a time.
    fn sweep(&mut self, io: &mut Io<'_, '_>) {
        let now_ns = io.now_ns();
        let swept = self.places.len().min(SWEPT_MAX);
        for _ in 0..swept {
            self.hand = if self.hand + 1 < self.places.len() { self.hand + 1 } else { 0 };
            let silent = |held: &&Connection| now_ns.saturating_sub(held.active_ns) >= self.limits.idle_ns;
            let Some(connection) = self.places.get(self.hand).and_then(Option::as_ref).filter(silent) else { continue };
            // Half an answer must not look like a whole one.
            let _ = if connection.is_answering() { io.abort(connection.id) } else { io.close(connection.id) };
            self.desk.tally.timed_out += 1;
            self.vacate(self.hand, io);
        }
        self.sweep_ns = now_ns + SWEEP_NS / self.places.len().div_ceil(SWEPT_MAX).max(1) as u64;
    }

    fn vacate(&mut self, place: usize, io: &mut Io<'_, '_>) {
        let Some(connection) = self.places.get_mut(place).and_then(Option::take) else { return };
        self.open -= 1;
        self.desk.tally.cut_short += u64::from(connection.is_answering());
        self.limit_backlogs(io);
    }

    /// Lets the listeners take no more than there are places for: further SYNs are not answered, as where an application
    /// does not accept.
    fn limit_backlogs(&self, io: &mut Io<'_, '_>) {
        let left = self.limits.connections_max.saturating_sub(self.open);
        for &listener in &self.listeners {
            io.set_backlog(listener, left.div_ceil(self.listeners.len()).min(BACKLOG_MAX));
        }
    }
}

impl Service for Server {
    fn on_start(&mut self, io: &mut Io<'_, '_>) {
        self.listeners = self.addresses.iter().filter_map(|&at| io.listener_at(at)).collect();
        self.limit_backlogs(io);
    }

    fn on_accepted(&mut self, id: ConnectionId, _remote: SocketAddr, io: &mut Io<'_, '_>) {
        self.desk.tally.connections += 1;
        let place = id.place();
        if place >= self.places.len() {
            self.places.resize_with(place + 1, || None);
        }
        self.places[place] = Some(Connection::new(id, io.now_ns()));
        self.open += 1;
        self.desk.tally.max_hit += u64::from(self.open == self.limits.connections_max);
        self.limit_backlogs(io);
    }

    fn on_readable(&mut self, id: ConnectionId, io: &mut Io<'_, '_>) {
        self.proceed(id, io);
    }

    fn on_writable(&mut self, id: ConnectionId, io: &mut Io<'_, '_>) {
        self.proceed(id, io);
    }

    fn on_closed(&mut self, id: ConnectionId, reason: CloseReason, io: &mut Io<'_, '_>) {
        self.desk.tally.failed += u64::from(reason != CloseReason::Finished);
        if self.places.get(id.place()).and_then(Option::as_ref).is_some_and(|held| held.id == id) {
            self.vacate(id.place(), io);
        }
    }

    fn deadline_ns(&self) -> Option<u64> {
        let line = (!self.line.is_empty()).then_some(self.not_before_ns);
        let sweep = (self.open > 0).then_some(self.sweep_ns);
        [line, sweep].into_iter().flatten().min()
    }

    fn on_deadline(&mut self, io: &mut Io<'_, '_>) {
        let now_ns = io.now_ns();
        if now_ns >= self.not_before_ns {
            self.serve_line(io);
        }
        if self.open > 0 && now_ns >= self.sweep_ns {
            self.sweep(io);
        }
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        let Tally { connections, max_hit, timed_out, cut_short, failed, requests, errors, starved, body_bytes } =
            self.desk.tally;
        report("http_connections", connections);
        report("http_connections_open", self.open as u64);
        report("http_connections_max_hit", max_hit);
        report("http_connections_timed_out", timed_out);
        report("http_connections_failed", failed);
        report("http_answers_cut_short", cut_short);
        report("http_requests", requests);
        report("http_errors", errors);
        report("http_body_bytes", body_bytes);
        report("http_starved", starved);
    }
}
