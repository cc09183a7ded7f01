//! A worker's part in a test: the streams that came to it, or that it opened.

use std::sync::Arc;

use tailwater_dataplane::service::Io;
use tailwater_stack::tcp::{Connect, ConnectError, ConnectionId, ConnectionOptions, TcpSnapshot};

use super::desk::{Desk, Event, Opened};
use super::protocol::{COOKIE_LEN, Cookie};
use super::settings::{End, Settings, Transport};
use super::stream::{Carrier, Payload, Stream};
use super::test::{Mark, Schedule, Test};
use super::udp::Flow;
use crate::hosting::KEEP_ALIVE;

/// Nanoseconds after which the first datagram of a stream is sent again.
const HELLO_AGAIN_NS: u64 = 500_000_000;

/// A stream on its way to the server.
struct Opening {
    /// Its place among the streams.
    at: usize,
    /// Of UDP: when the first datagram goes out once more.
    again_ns: u64,
    /// Of TCP: bytes of the cookie that have yet to be sent; `None`: it is not connected.
    cookie_left: Option<usize>,
}

pub(super) struct Part {
    pub(super) test: Arc<Test>,
    streams: Vec<Stream>,
    /// The stream whose turn is next.
    next: usize,
    opening: Option<Opening>,
    /// Once the test runs.
    schedule: Option<Schedule>,
    over: bool,
    /// Bytes received that the test knows of.
    reported: u64,
    /// The same of bytes either way.
    moved: u64,
}

impl Part {
    pub(super) fn new(test: Arc<Test>) -> Self {
        Self { test, streams: Vec::new(), next: 0, opening: None, schedule: None, over: false, reported: 0, moved: 0 }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn streams(&self) -> &[Stream] {
        &self.streams
    }

    pub(super) fn stream_mut(&mut self, at: usize) -> Option<&mut Stream> {
        self.streams.get_mut(at)
    }

    /// Takes a stream in; its place.
    pub(super) fn add(&mut self, stream: Stream) -> usize {
        self.streams.push(stream);
        self.streams.len() - 1
    }

    /// When it wants to be asked besides the ticks.
    pub(super) fn next_ns(&self) -> u64 {
        if self.over {
            return u64::MAX;
        }
        let streams = self.streams.iter().map(Stream::next_ns).min().unwrap_or(u64::MAX);
        let Some(schedule) = &self.schedule else { return u64::MAX };
        streams.min(schedule.next_ns()).min(self.test.ended_ns())
    }

    /// Senders that stopped for the turn, or for their rate, go on, until one has used up this turn.
    pub(super) fn push(&mut self, payload: &Payload, io: &mut Io<'_, '_>) {
        let now_ns = io.now_ns();
        if self.schedule.is_none() || self.over || now_ns >= self.test.ended_ns() {
            return;
        }
        let first = self.next.min(self.streams.len());
        let turns = (first..self.streams.len()).chain(0..first);
        for at in turns {
            let stream = &mut self.streams[at];
            if stream.next_ns() <= now_ns && stream.fill(payload, io) {
                self.next = at + 1;
                break;
            }
        }
    }

    /// Begins, takes samples, ends.
    pub(super) fn advance(&mut self, desk: &Desk, payload: &Payload, io: &mut Io<'_, '_>) {
        if self.over {
            return;
        }
        if self.schedule.is_none() {
            let Some(started_ns) = self.test.started_ns() else { return };
            let omit_ns = self.test.settings.omit.as_nanos() as u64;
            self.schedule = Some(Schedule::new(started_ns, desk.interval_ns, omit_ns));
            self.streams.iter_mut().for_each(|stream| stream.begin(&self.test, payload, io));
            self.test.on_begun(self.streams.len());
            desk.tell(Event::Begun);
        }
        if self.test.lasts().is_none() {
            self.account(io.now_ns());
        }
        let ended = io.now_ns() >= self.test.ended_ns();
        while let Some(mark) = self.schedule.as_mut().and_then(|schedule| schedule.due(io.now_ns())) {
            // The last interval ends with the test.
            if !ended || mark == Mark::OmitEnd {
                self.sample(mark, desk, io);
            }
        }
        if ended {
            self.sample(Mark::Final, desk, io);
            self.streams.iter_mut().for_each(|stream| stream.finish(self.test.end, io));
            self.over = true;
        }
    }

    /// Once a tick.
    pub(super) fn tend(&mut self, desk: &Desk, payload: &Payload, io: &mut Io<'_, '_>) {
        if self.schedule.is_none() || self.over {
            return;
        }
        self.account(io.now_ns());
        for stream in &mut self.streams {
            stream.nudge(payload, io);
            if stream.has_sent_all(io) {
                desk.tell(Event::Sent { session: self.test.number });
            }
        }
    }

    fn sample(&mut self, mark: Mark, desk: &Desk, io: &Io<'_, '_>) {
        for stream in &mut self.streams {
            let sample = stream.sample(mark, self.test.settings.volume().is_some(), io);
            desk.tell(Event::Sample { session: self.test.number, sample });
            if mark == Mark::OmitEnd {
                stream.omit();
            }
        }
    }

    /// The workers tell each other what they have received, and the director that they move.
    fn account(&mut self, now_ns: u64) {
        let moved: u64 = self.streams.iter().map(Stream::moved).sum();
        self.test.on_moved(moved - std::mem::replace(&mut self.moved, moved));
        let received: u64 = self.streams.iter().map(Stream::received).sum();
        let all = self.test.on_received(received - std::mem::replace(&mut self.reported, received));
        // At the client; at the server the client has the say.
        if self.test.end == End::Client && self.test.settings.volume().is_some_and(|volume| all >= volume) {
            self.test.end_at(now_ns);
        }
    }

    // ---- opening streams, at the client -----------------------------------------------------

    /// Opens the next stream if it is this worker's turn: one after the other, so that the server sees them in order.
    /// The new connection is the caller's to remember.
    pub(super) fn open(&mut self, io: &mut Io<'_, '_>) -> Result<Option<ConnectionId>, String> {
        let test = &self.test;
        let (joined, worker) = (test.joined(), io.worker());
        let turn = joined == test.greeted() && joined < test.settings.streams();
        if test.end != End::Client || !turn || self.opening.is_some() || !test.is_turn_of(joined, worker) {
            return Ok(None);
        }
        let Some(ticket) = test.join() else { return Ok(None) };
        let carrier = match test.settings.transport {
            Transport::Tcp => {
                let connect = Connect { connection: Some(options(&test.settings)), ..Connect::to(test.remote) };
                Carrier::Tcp(io.connect(connect).map_err(why)?)
            }
            Transport::Udp => {
                let socket = io.open_udp(test.remote).map_err(|error| format!("no socket: {error:?}"))?;
                io.set_udp_dscp(socket, test.settings.dscp());
                let flow = Flow::new(socket, test.remote);
                flow.say_hello(io);
                Carrier::Udp(flow)
            }
        };
        let connection = if let Carrier::Tcp(connection) = carrier { Some(connection) } else { None };
        let at = self.add(Stream::new(ticket, carrier));
        self.opening = Some(Opening { at, again_ns: io.now_ns() + HELLO_AGAIN_NS, cookie_left: None });
        Ok(connection)
    }

    /// A connection of ours is there: it begins with the cookie.
    pub(super) fn introduce(&mut self, io: &mut Io<'_, '_>) {
        let Some(opening) = &mut self.opening else { return };
        let Some(Stream { carrier: Carrier::Tcp(connection), .. }) = self.streams.get(opening.at) else { return };
        opening.cookie_left = Some(self.test.cookie.say(COOKIE_LEN, *connection, io));
    }

    /// Once a tick: whether the server knows of the stream by now.
    pub(super) fn follow(&mut self, desk: &Desk, io: &mut Io<'_, '_>) {
        let Some(opening) = &mut self.opening else { return };
        let Some(stream) = self.streams.get(opening.at) else { return };
        match &stream.carrier {
            Carrier::Tcp(connection) => {
                let Some(left) = &mut opening.cookie_left else { return };
                *left = self.test.cookie.say(*left, *connection, io);
                let acknowledged = io.snapshot(*connection).is_some_and(|snapshot| snapshot.send_queue == 0);
                if *left == 0 && acknowledged {
                    self.greeted(desk, io);
                }
            }
            Carrier::Udp(flow) if io.now_ns() >= opening.again_ns => {
                opening.again_ns = io.now_ns() + HELLO_AGAIN_NS;
                flow.say_hello(io);
            }
            Carrier::Udp(_) => {}
        }
    }

    /// The answer to the first datagram of a stream has come.
    pub(super) fn on_answer(&mut self, at: usize, desk: &Desk, io: &Io<'_, '_>) {
        if self.opening.as_ref().is_some_and(|opening| opening.at == at) {
            self.greeted(desk, io);
        }
    }

    /// The stream that was being opened is there.
    fn greeted(&mut self, desk: &Desk, io: &Io<'_, '_>) {
        let Some(opening) = self.opening.take() else { return };
        let Some(stream) = self.streams.get_mut(opening.at) else { return };
        stream.expect(&self.test);
        if let Some(stream) = describe(stream, io) {
            desk.tell(Event::Opened { session: self.test.number, stream });
        }
        self.test.greet();
    }
}

impl Cookie {
    /// Sends its last `left` bytes. A new connection has room for them, but there may be no memory; how many are left then.
    pub(super) fn say(&self, left: usize, connection: ConnectionId, io: &mut Io<'_, '_>) -> usize {
        if left == 0 {
            return 0;
        }
        // An error means that it is over, which is told otherwise.
        left - io.send(connection, &self.0[COOKIE_LEN - left..]).unwrap_or(0)
    }
}

/// A stream, for the director.
pub(super) fn describe(stream: &Stream, io: &Io<'_, '_>) -> Option<Opened> {
    let ticket = stream.ticket;
    match &stream.carrier {
        Carrier::Tcp(connection) => {
            let TcpSnapshot { local, remote, age, congestion, .. } = io.snapshot(*connection)?;
            let opened_ns = io.now_ns().saturating_sub(age.as_nanos() as u64);
            Some(Opened { ticket, opened_ns, local, remote, congestion: Some(congestion.name) })
        }
        Carrier::Udp(flow) => {
            let local = io.udp_local(flow.socket)?;
            Some(Opened { ticket, opened_ns: io.now_ns(), local, remote: flow.remote, congestion: None })
        }
    }
}

/// What all connections start with.
pub(super) fn basis() -> ConnectionOptions {
    ConnectionOptions { keep_alive: Some(KEEP_ALIVE), ..ConnectionOptions::default() }
}

/// What the streams of a client start with.
pub(super) fn options(settings: &Settings) -> ConnectionOptions {
    let mut options = ConnectionOptions { nagle: !settings.nodelay, dscp: settings.dscp(), ..basis() };
    if settings.mss > 0 {
        options.mss_max = settings.mss;
    }
    options.send_buffer_max = settings.send_buffer();
    if settings.window > 0 {
        options.receive_buffer = settings.window;
        options.receive_buffer_max = settings.window;
    }
    if let Some(control) = settings.congestion {
        options.congestion_control = control;
    }
    options
}

/// Why a connection cannot be opened.
pub(super) fn why(error: ConnectError) -> String {
    match error {
        ConnectError::NoRoute => "no route to the server from this interface",
        ConnectError::Address => "the server's address is none that a single host has",
        ConnectError::InUse | ConnectError::NoPort => "no local port is free for it",
        ConnectError::Full => "the stack has as many connections as it may have",
    }
    .to_owned()
}
