//! The service of one worker, at either end: newcomers, the control connection, the worker's part in the test.
//!
//! ```text
//!   accepted --> newcomer --cookie--> stream of the test under way
//!                  |   |
//!                  |   +-----------> control connection of a new session, if there is none
//!                  +---------------> turned away: ACCESS_DENIED           (`newcomer`)
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use tailwater_dataplane::frame::Frame;
use tailwater_dataplane::service::{After, Datagram, Io, Service};
use tailwater_stack::SocketId;
use tailwater_stack::tcp::{CloseReason, Connect, ConnectionId, ConnectionOptions};

use super::control::Control;
use super::desk::{Desk, Event, Met, Order};
use super::newcomer::{NEWCOMERS_MAX, Newcomer};
use super::part::{Part, basis, why};
use super::settings::End;
use super::stream::{Carrier, Payload, Stream};
use super::transact::{Answerer, Caller};

/// How often a worker with business looks at the test and for orders, in ns.
const TICK_NS: u64 = 1_000_000;
/// The same while streams are being opened, which takes a tick each.
const TICK_OPENING_NS: u64 = 100_000;

/// Whom a connection belongs to.
pub(super) enum Peer {
    Newcomer(Newcomer),
    Control,
    /// A stream of the test, by its place in the worker's part.
    Stream(usize),
    /// One of the caller's connections, by its place there.
    Caller(usize),
    Answerer(Answerer),
}

#[derive(Default)]
pub(super) struct Tally {
    pub(super) newcomers: usize,
    pub(super) newcomers_refused: u64,
    pub(super) newcomers_expired: u64,
    pub(super) turned_away: u64,
    pub(super) streams: u64,
}

pub(super) struct Worker {
    pub(super) desk: Arc<Desk>,
    number: usize,
    pub(super) payload: Payload,
    pub(super) peers: HashMap<ConnectionId, Peer, foldhash::fast::RandomState>,
    /// UDP streams.
    pub(super) flows: HashMap<(SocketId, SocketAddr), usize, foldhash::fast::RandomState>,
    pub(super) control: Option<Control>,
    pub(super) part: Option<Part>,
    caller: Option<Caller>,
    pub(super) tick_ns: u64,
    /// The next moment to be called at; [`u64::MAX`] if there is nothing to do.
    wake_ns: u64,
    pub(super) tally: Tally,
}

impl Worker {
    pub(super) fn new(desk: Arc<Desk>, number: usize) -> Self {
        Self {
            desk,
            number,
            payload: Payload::new(),
            peers: HashMap::default(),
            flows: HashMap::default(),
            control: None,
            part: None,
            caller: None,
            tick_ns: 0,
            wake_ns: u64::MAX,
            tally: Tally::default(),
        }
    }

    /// Whether there is anything to look after. A client's workers wait for orders from the start.
    fn has_business(&self) -> bool {
        self.desk.end == End::Client || self.control.is_some() || self.part.is_some() || self.tally.newcomers > 0
    }

    /// Sets the alarm.
    fn settle(&mut self) {
        self.wake_ns = match self.has_business() {
            true => {
                let part = self.part.as_ref().map_or(u64::MAX, Part::next_ns);
                self.tick_ns.min(part).min(self.caller.as_ref().map_or(u64::MAX, Caller::next_ns))
            }
            false => u64::MAX,
        };
    }

    fn tick(&mut self, io: &mut Io<'_, '_>) {
        while let Some(order) = self.desk.next_order(io.worker()) {
            self.obey(order, io);
        }
        self.expire_newcomers(io);
        if let Some(control) = &mut self.control {
            control.flush(io);
            control.hear(&self.desk, io);
        }
        let mut opening = false;
        if let Some(part) = &mut self.part {
            part.follow(&self.desk, io);
            match part.open(io) {
                Ok(Some(connection)) => {
                    let at = part.streams().len() - 1;
                    self.peers.insert(connection, Peer::Stream(at));
                }
                Ok(None) => {}
                Err(why) => self.desk.tell(Event::StreamLost { session: part.test.number, why }),
            }
            if let Some(Stream { carrier: Carrier::Udp(flow), .. }) = part.streams().last() {
                self.flows.insert((flow.socket, flow.remote), part.streams().len() - 1);
            }
            opening = part.test.end == End::Client && part.test.started_ns().is_none();
            part.tend(&self.desk, &self.payload, io);
        }
        if let Some(caller) = &mut self.caller {
            caller.tend(&mut self.peers, &self.desk, &self.payload, io);
        }
        self.tick_ns = io.now_ns() + if opening { TICK_OPENING_NS } else { TICK_NS };
    }

    // ---- orders -----------------------------------------------------------------------------

    fn obey(&mut self, order: Order, io: &mut Io<'_, '_>) {
        match order {
            Order::Call(session, to) => match io.connect(control_to(to)) {
                Ok(connection) => {
                    self.peers.insert(connection, Peer::Control);
                    self.control = Some(Control::new(connection, session));
                }
                Err(error) => self.desk.tell(Event::NotConnected { session, why: why(error) }),
            },
            Order::Say(session, bytes) => {
                if let Some(control) = self.control.as_mut().filter(|control| control.session == session) {
                    control.say(&bytes, io);
                }
            }
            Order::Begin(test) if test.settings.transactions.is_some() => {
                self.caller = Caller::new(test, io.worker(), self.desk.workers());
            }
            Order::Begin(test) => self.part = Some(Part::new(test)),
            Order::Disband { session, reset, release } => {
                self.disband(session, reset, io);
                if release {
                    self.desk.release();
                }
            }
        }
    }

    /// Closes what belongs to a session.
    pub(super) fn disband(&mut self, session: u64, reset: bool, io: &mut Io<'_, '_>) {
        if let Some(part) = self.part.take_if(|part| part.test.number == session) {
            part.streams().iter().for_each(|stream| self.close(stream, io));
        }
        if let Some(caller) = self.caller.take_if(|caller| caller.test.number == session) {
            for connection in caller.connections() {
                self.peers.remove(&connection);
                let _ = io.abort(connection);
            }
        }
        self.peers.retain(|&connection, peer| {
            let ours = matches!(peer, Peer::Answerer(answerer) if answerer.session == session);
            // Its client has ended the test, or is gone.
            let _ = if ours { io.abort(connection) } else { Ok(()) };
            !ours
        });
        if let Some(control) = self.control.take_if(|control| control.session == session) {
            self.peers.remove(&control.connection);
            let _ = if reset { io.abort(control.connection) } else { io.close(control.connection) };
        }
    }

    /// A connection that still has something to send has nobody to send it to.
    fn close(&mut self, stream: &Stream, io: &mut Io<'_, '_>) {
        match &stream.carrier {
            Carrier::Tcp(connection) => {
                self.peers.remove(connection);
                let unsent = io.snapshot(*connection).is_some_and(|snapshot| snapshot.send_queue > 0);
                // An unknown connection is closed already.
                let _ = if unsent { io.abort(*connection) } else { io.close(*connection) };
            }
            Carrier::Udp(flow) => {
                self.flows.remove(&(flow.socket, flow.remote));
                io.close_udp(flow.socket);
            }
        }
    }
}

/// A control connection: words of a byte follow each other.
fn control_to(to: SocketAddr) -> Connect<Frame> {
    let options = ConnectionOptions { nagle: false, ..basis() };
    Connect { connection: Some(options), ..Connect::to(to) }
}

impl Service for Worker {
    fn on_start(&mut self, io: &mut Io<'_, '_>) {
        self.tick_ns = io.now_ns();
        self.settle();
    }

    fn on_accepted(&mut self, connection: ConnectionId, remote: SocketAddr, io: &mut Io<'_, '_>) {
        if self.tally.newcomers >= NEWCOMERS_MAX {
            self.tally.newcomers_refused += 1;
            let _ = io.abort(connection);
            return;
        }
        let busy = self.has_business();
        self.tally.newcomers += 1;
        self.peers.insert(connection, Peer::Newcomer(Newcomer::new(remote, io.now_ns())));
        if !busy {
            self.tick_ns = io.now_ns();
            self.settle();
        }
    }

    fn on_connected(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        match (self.peers.get(&connection), &self.control, &mut self.part) {
            (Some(Peer::Control), Some(control), _) => {
                let Some(snapshot) = io.snapshot(connection) else { return };
                let (remote, smss) = (snapshot.remote, snapshot.smss);
                let (session, worker) = (control.session, io.worker());
                let control = Met { remote, cookie: None, smss };
                self.desk.tell(Event::Control { session, worker, control });
            }
            (Some(Peer::Stream(_)), _, Some(part)) => part.introduce(io),
            (Some(&Peer::Caller(at)), ..) => {
                if let Some(caller) = &mut self.caller {
                    caller.on_connected(at, &self.payload, io);
                }
            }
            _ => {}
        }
    }

    #[inline]
    fn on_readable(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        match (self.peers.get(&connection), &mut self.part, &mut self.control) {
            (Some(&Peer::Stream(at)), Some(part), _) => {
                if let Some(stream) = part.stream_mut(at) {
                    stream.drain(io);
                }
            }
            (Some(&Peer::Caller(at)), ..) => {
                if let Some(caller) = &mut self.caller {
                    caller.on_readable(at, &mut self.peers, &self.desk, &self.payload, io);
                }
            }
            (Some(Peer::Answerer(_)), ..) => self.answer(connection, io),
            (Some(Peer::Control), _, Some(control)) => control.hear(&self.desk, io),
            (Some(Peer::Newcomer(_)), ..) => {
                self.meet(connection, io);
                self.settle();
            }
            _ => {}
        }
    }

    #[inline]
    fn on_writable(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        match (self.peers.get(&connection), &mut self.part, &mut self.control) {
            (Some(&Peer::Stream(at)), Some(part), _) => {
                if let Some(stream) = part.stream_mut(at) {
                    stream.fill(&self.payload, io);
                    self.wake_ns = self.wake_ns.min(stream.next_ns());
                }
            }
            (Some(&Peer::Caller(at)), ..) => {
                if let Some(caller) = &mut self.caller {
                    caller.on_writable(at, &self.payload, io);
                }
            }
            (Some(Peer::Answerer(_)), ..) => self.answer(connection, io),
            (Some(Peer::Control), _, Some(control)) => control.flush(io),
            _ => {}
        }
    }

    fn on_closed(&mut self, connection: ConnectionId, reason: CloseReason, io: &mut Io<'_, '_>) {
        match (self.peers.remove(&connection), &self.part, &mut self.control) {
            (Some(Peer::Newcomer(_)), _, _) => self.tally.newcomers -= 1,
            (Some(Peer::Control), _, Some(control)) => {
                // It stays until the director has taken its leave.
                control.hang_up(reason, &self.desk);
            }
            (Some(Peer::Caller(at)), ..) => {
                if let Some(caller) = &mut self.caller {
                    caller.on_closed(at, reason, &mut self.peers, &self.desk, io);
                }
            }
            (Some(Peer::Stream(_)), Some(part), _) if !part.is_over() => {
                self.desk.tell(Event::StreamLost { session: part.test.number, why: told(reason).to_owned() });
            }
            _ => {}
        }
        self.settle();
    }

    #[inline]
    fn on_datagram(&mut self, datagram: &mut Datagram, io: &mut Io<'_, '_>) -> After {
        let at = self.flows.get(&(datagram.socket, datagram.source)).copied();
        let Some(at) = at else {
            self.on_stranger(datagram, io);
            self.settle();
            return After::Release;
        };
        let stream = self.part.as_mut().and_then(|part| part.stream_mut(at));
        if !stream.is_some_and(|stream| stream.take(datagram, io.now_ns())) {
            self.on_greeting(at, datagram, io);
        }
        After::Release
    }

    fn deadline_ns(&self) -> Option<u64> {
        Some(self.wake_ns).filter(|&wake_ns| wake_ns != u64::MAX)
    }

    fn on_deadline(&mut self, io: &mut Io<'_, '_>) {
        if io.now_ns() >= self.tick_ns {
            self.tick(io);
        }
        if let Some(part) = &mut self.part {
            part.advance(&self.desk, &self.payload, io);
            part.push(&self.payload, io);
        }
        if let Some(caller) = &mut self.caller {
            caller.advance(&mut self.peers, &self.desk, io);
        }
        self.settle();
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        report("perf_streams", self.tally.streams);
        report("perf_turned_away", self.tally.turned_away);
        report("perf_newcomers_refused", self.tally.newcomers_refused);
        report("perf_newcomers_expired", self.tally.newcomers_expired);
        // All workers have one desk.
        report("perf_events_lost", if self.number == 0 { self.desk.events_lost() } else { 0 });
    }
}

/// How a connection ended, for people.
pub(super) fn told(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Finished => "the other end closed the connection",
        CloseReason::Reset => "the other end reset the connection",
        CloseReason::Refused => "nobody listens there",
        CloseReason::TimedOut => "the other end does not answer",
        CloseReason::Unreachable => "the other end cannot be reached",
    }
}
