//! The service of one worker, at either end: newcomers, the control connection, the worker's part in the test.
//!
//! ```text
//!   accepted --> newcomer --cookie--> stream of the test under way
//!                  |   |
//!                  |   +-----------> control connection of a new session, if there is none
//!                  +---------------> turned away: ACCESS_DENIED
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
use super::part::{Part, describe, why};
use super::protocol::{COOKIE_LEN, Cookie, State};
use super::settings::{End, Transport};
use super::stream::{Carrier, Payload, Stream};
use super::test::Test;
use super::udp::{Flow, answer_to, is_answer};

/// How often a worker with business looks at the test and for orders, in ns.
const TICK_NS: u64 = 1_000_000;
/// The same while streams are being opened, which takes a tick each.
const TICK_OPENING_NS: u64 = 100_000;
/// Connections that have not shown their cookie, per worker; more are reset.
const NEWCOMERS_MAX: usize = 256;
/// How long they may take for it.
const NEWCOMER_NS: u64 = 10_000_000_000;

/// Whom a connection belongs to.
enum Peer {
    Newcomer(Newcomer),
    Control,
    /// A stream of the test, by its place in the worker's part.
    Stream(usize),
}

struct Newcomer {
    cookie: [u8; COOKIE_LEN],
    have: usize,
    since_ns: u64,
    remote: SocketAddr,
}

#[derive(Default)]
struct Tally {
    newcomers: usize,
    newcomers_refused: u64,
    newcomers_expired: u64,
    turned_away: u64,
    streams: u64,
}

pub(super) struct Worker {
    desk: Arc<Desk>,
    payload: Payload,
    peers: HashMap<ConnectionId, Peer, foldhash::fast::RandomState>,
    /// UDP streams.
    flows: HashMap<(SocketId, SocketAddr), usize, foldhash::fast::RandomState>,
    control: Option<Control>,
    part: Option<Part>,
    tick_ns: u64,
    /// The next moment to be called at; [`u64::MAX`] if there is nothing to do.
    wake_ns: u64,
    tally: Tally,
}

impl Worker {
    pub(super) fn new(desk: Arc<Desk>) -> Self {
        Self {
            desk,
            payload: Payload::new(),
            peers: HashMap::default(),
            flows: HashMap::default(),
            control: None,
            part: None,
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
            true => self.tick_ns.min(self.part.as_ref().map_or(u64::MAX, Part::next_ns)),
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
    fn disband(&mut self, session: u64, reset: bool, io: &mut Io<'_, '_>) {
        if let Some(part) = self.part.take_if(|part| part.test.number == session) {
            part.streams().iter().for_each(|stream| self.close(stream, io));
        }
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

    // ---- newcomers --------------------------------------------------------------------------

    fn expire_newcomers(&mut self, io: &mut Io<'_, '_>) {
        if self.tally.newcomers == 0 {
            return;
        }
        let now_ns = io.now_ns();
        let late = |peer: &Peer| matches!(peer, Peer::Newcomer(newcomer) if now_ns - newcomer.since_ns > NEWCOMER_NS);
        let tally = &mut self.tally;
        self.peers.retain(|&connection, peer| {
            let late = late(peer);
            if late {
                tally.newcomers -= 1;
                tally.newcomers_expired += 1;
                let _ = io.abort(connection);
            }
            !late
        });
    }

    /// Reads on at the cookie.
    fn meet(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        let Some(Peer::Newcomer(newcomer)) = self.peers.get_mut(&connection) else { return };
        let read = io.read(connection, &mut newcomer.cookie[newcomer.have..]);
        newcomer.have += read.unwrap_or(0);
        if read.is_ok() && newcomer.have < COOKIE_LEN {
            return;
        }
        let (cookie, remote, complete) = (Cookie(newcomer.cookie), newcomer.remote, read.is_ok());
        self.peers.remove(&connection);
        self.tally.newcomers -= 1;
        if !complete {
            // It left without a word.
            let _ = io.close(connection);
            return;
        }
        if !self.join(connection, cookie, io) && !self.serve(connection, cookie, remote, io) {
            self.turn_away(connection, remote, io);
        }
    }

    /// Takes the connection as a stream, if it is one of the test under way.
    fn join(&mut self, connection: ConnectionId, cookie: Cookie, io: &mut Io<'_, '_>) -> bool {
        let Some(test) = self.joinable(cookie) else { return false };
        let Some(ticket) = Some(&test).filter(|t| t.settings.transport == Transport::Tcp).and_then(|t| t.join()) else {
            return false;
        };
        // Errors would mean that the connection is over, which is told otherwise.
        let _ = io.set_nagle(connection, !test.settings.nodelay);
        if let Some(control) = test.settings.congestion {
            let _ = io.set_congestion_control(connection, control);
        }
        let at = self.take_in(Stream::new(ticket, Carrier::Tcp(connection)), test, io);
        self.peers.insert(connection, Peer::Stream(at));
        true
    }

    /// The test with this cookie, if there is one.
    fn joinable(&self, cookie: Cookie) -> Option<Arc<Test>> {
        let own = self.part.as_ref().map(|part| &part.test).filter(|test| test.cookie == cookie);
        own.cloned().or_else(|| self.desk.test().filter(|test| test.cookie == cookie))
    }

    fn take_in(&mut self, stream: Stream, test: Arc<Test>, io: &mut Io<'_, '_>) -> usize {
        if let Some(stream) = describe(&stream, io) {
            self.desk.tell(Event::Opened { session: test.number, stream });
        }
        self.tally.streams += 1;
        if self.part.as_ref().is_some_and(|part| part.test.number != test.number) {
            // What is left of a session that ended badly.
            let number = self.part.as_ref().map_or(0, |part| part.test.number);
            self.disband(number, true, io);
        }
        self.part.get_or_insert_with(|| Part::new(test)).add(stream)
    }

    /// Makes the connection the control connection of a new session, if there is none.
    fn serve(&mut self, connection: ConnectionId, cookie: Cookie, remote: SocketAddr, io: &mut Io<'_, '_>) -> bool {
        let Some(session) = self.desk.take() else { return false };
        let Some(snapshot) = io.snapshot(connection) else {
            self.desk.release();
            return true;
        };
        self.peers.insert(connection, Peer::Control);
        self.control = Some(Control::new(connection, session));
        // Words of a byte follow each other.
        let _ = io.set_nagle(connection, false);
        let control = Met { remote, cookie: Some(cookie), smss: snapshot.smss };
        self.desk.tell(Event::Control { session, worker: io.worker(), control });
        true
    }

    fn turn_away(&mut self, connection: ConnectionId, remote: SocketAddr, io: &mut Io<'_, '_>) {
        self.tally.turned_away += 1;
        let _ = io.send(connection, &[State::AccessDenied.byte()]);
        let _ = io.close(connection);
        self.desk.tell(Event::TurnedAway(remote));
    }

    // ---- UDP --------------------------------------------------------------------------------

    /// The first datagram of a flow, perhaps.
    #[cold]
    fn on_stranger(&mut self, datagram: &Datagram, io: &mut Io<'_, '_>) {
        let Some(answer) = answer_to(datagram.payload()).filter(|_| self.desk.admits_udp()) else { return };
        let Some(test) = self.desk.test() else { return };
        // The flow has no cookie: it comes from where the control connection does.
        if test.remote.ip() != datagram.source.ip() || test.started_ns().is_some() {
            return;
        }
        let Ok(socket) = io.bind_udp(datagram.destination, Some(datagram.source)) else { return };
        let Some(ticket) = test.join() else {
            io.close_udp(socket);
            return;
        };
        let flow = Flow::new(socket, datagram.source);
        let at = self.take_in(Stream::new(ticket, Carrier::Udp(flow)), test, io);
        self.flows.insert((socket, datagram.source), at);
        say(socket, datagram.source, answer, io);
        self.tick_ns = io.now_ns();
    }

    /// A datagram of a flow before the test runs: the greeting again, or its answer.
    #[cold]
    fn on_greeting(&mut self, at: usize, datagram: &Datagram, io: &mut Io<'_, '_>) {
        let Some(part) = &mut self.part else { return };
        match part.test.end {
            End::Client if is_answer(datagram.payload()) => part.on_answer(at, &self.desk, io),
            End::Client => {}
            End::Server => {
                answer_to(datagram.payload()).into_iter().for_each(|answer| {
                    say(datagram.socket, datagram.source, answer, io);
                });
            }
        }
    }
}

/// A control connection: words of a byte follow each other.
fn control_to(to: SocketAddr) -> Connect<Frame> {
    let options = ConnectionOptions { nagle: false, ..ConnectionOptions::default() };
    Connect { connection: Some(options), ..Connect::to(to) }
}

/// Sends four bytes.
fn say(socket: SocketId, to: SocketAddr, bytes: [u8; 4], io: &mut Io<'_, '_>) {
    // If it is lost, the client asks again.
    let _ = io.send_udp(socket, to, bytes.len(), |at, room| room.copy_from_slice(&bytes[at..at + room.len()]));
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
        self.tally.newcomers += 1;
        let newcomer = Newcomer { cookie: [0; COOKIE_LEN], have: 0, since_ns: io.now_ns(), remote };
        self.peers.insert(connection, Peer::Newcomer(newcomer));
        self.tick_ns = io.now_ns();
        self.settle();
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
            (Some(Peer::Control), _, Some(control)) => control.hear(&self.desk, io),
            (Some(Peer::Newcomer(_)), _, _) => {
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
            (Some(Peer::Control), _, Some(control)) => control.flush(io),
            _ => {}
        }
    }

    fn on_closed(&mut self, connection: ConnectionId, reason: CloseReason, _io: &mut Io<'_, '_>) {
        match (self.peers.remove(&connection), &self.part, &self.control) {
            (Some(Peer::Newcomer(_)), _, _) => self.tally.newcomers -= 1,
            (Some(Peer::Control), _, Some(control)) => {
                // It stays until the director has taken its leave.
                self.desk.tell(Event::HungUp { session: control.session, reason });
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
        self.settle();
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        report("perf_streams", self.tally.streams);
        report("perf_turned_away", self.tally.turned_away);
        report("perf_newcomers_refused", self.tally.newcomers_refused);
        report("perf_newcomers_expired", self.tally.newcomers_expired);
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
