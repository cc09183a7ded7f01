//! Who comes to a server: a connection says by its cookie what it is, a UDP flow by where it comes from.

use std::net::SocketAddr;
use std::sync::Arc;

use tailwater_dataplane::service::{Datagram, Io};
use tailwater_stack::SocketId;
use tailwater_stack::tcp::ConnectionId;

use super::control::Control;
use super::desk::{Event, Met};
use super::part::{Part, describe};
use super::protocol::{COOKIE_LEN, Cookie, State};
use super::settings::{End, Transport};
use super::stream::{Carrier, Stream};
use super::test::Test;
use super::transact::{Answerer, Next};
use super::udp::{Flow, answer_to, is_answer};
use super::worker::{Peer, Worker};

/// Connections that have not shown their cookie, per worker; more are reset.
pub(super) const NEWCOMERS_MAX: usize = 256;
/// How long they may take for it.
const NEWCOMER_NS: u64 = 10_000_000_000;

/// A connection that has not shown its cookie.
pub(super) struct Newcomer {
    cookie: [u8; COOKIE_LEN],
    have: usize,
    since_ns: u64,
    remote: SocketAddr,
}

impl Newcomer {
    pub(super) fn new(remote: SocketAddr, now_ns: u64) -> Self {
        Self { cookie: [0; COOKIE_LEN], have: 0, since_ns: now_ns, remote }
    }
}

impl Worker {
    /// Those that have shown no cookie in time.
    pub(super) fn expire_newcomers(&mut self, io: &mut Io<'_, '_>) {
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
    pub(super) fn meet(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
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
            self.turn_away(connection, io);
        }
    }

    /// Takes the connection as a stream, if it is one of the test under way.
    fn join(&mut self, connection: ConnectionId, cookie: Cookie, io: &mut Io<'_, '_>) -> bool {
        let Some(test) = self.joinable(cookie) else { return false };
        // An error would mean that the connection is over, which is told otherwise.
        let _ = io.set_nagle(connection, !test.settings.nodelay);
        let _ = io.set_dscp(connection, test.settings.dscp());
        if let Some(answerer) = Answerer::new(&test) {
            self.keep_part(test, io);
            self.peers.insert(connection, Peer::Answerer(answerer));
            self.answer(connection, io);
            return true;
        }
        let Some(ticket) = Some(&test).filter(|t| t.settings.transport == Transport::Tcp).and_then(|t| t.join()) else {
            return false;
        };
        let _ = io.set_send_buffer(connection, test.settings.send_buffer());
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
        self.keep_part(test, io).add(stream)
    }

    /// This worker's part in the test.
    fn keep_part(&mut self, test: Arc<Test>, io: &mut Io<'_, '_>) -> &mut Part {
        if let Some(left) = self.part.as_ref().map(|part| part.test.number).filter(|&number| number != test.number) {
            // What is left of a session that ended badly.
            self.disband(left, true, io);
        }
        self.part.get_or_insert_with(|| Part::new(test))
    }

    /// Answers what a client asks.
    pub(super) fn answer(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        let Some(Peer::Answerer(answerer)) = self.peers.get_mut(&connection) else { return };
        if answerer.serve(connection, &self.payload, io) == Next::Done {
            self.peers.remove(&connection);
            // What was sent still arrives, and the end behind it.
            let _ = io.close(connection);
        }
    }

    /// Makes the connection the control connection of a new session, if there is none.
    fn serve(&mut self, connection: ConnectionId, cookie: Cookie, remote: SocketAddr, io: &mut Io<'_, '_>) -> bool {
        // One that is gone is nobody to be turned away.
        let Some(snapshot) = io.snapshot(connection) else { return true };
        let met = Met { remote, cookie: Some(cookie), smss: snapshot.smss };
        let Some(session) = self.desk.take(io.worker(), met) else { return false };
        self.peers.insert(connection, Peer::Control);
        self.control = Some(Control::new(connection, session));
        // Words of a byte follow each other.
        let _ = io.set_nagle(connection, false);
        true
    }

    fn turn_away(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        self.tally.turned_away += 1;
        self.desk.on_turned_away();
        let _ = io.send(connection, &[State::AccessDenied.byte()]);
        let _ = io.close(connection);
    }

    // ---- UDP --------------------------------------------------------------------------------

    /// The first datagram of a flow, perhaps.
    #[cold]
    pub(super) fn on_stranger(&mut self, datagram: &Datagram, io: &mut Io<'_, '_>) {
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
        io.set_udp_dscp(socket, test.settings.dscp());
        let flow = Flow::new(socket, datagram.source);
        let at = self.take_in(Stream::new(ticket, Carrier::Udp(flow)), test, io);
        self.flows.insert((socket, datagram.source), at);
        say(socket, datagram.source, answer, io);
        self.tick_ns = io.now_ns();
    }

    /// A datagram of a flow before the test runs: the greeting again, or its answer.
    #[cold]
    pub(super) fn on_greeting(&mut self, at: usize, datagram: &Datagram, io: &mut Io<'_, '_>) {
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

/// Sends four bytes.
fn say(socket: SocketId, to: SocketAddr, bytes: [u8; 4], io: &mut Io<'_, '_>) {
    // If it is lost, the client asks again.
    let _ = io.send_udp(socket, to, bytes.len(), |at, room| room.copy_from_slice(&bytes[at..at + room.len()]));
}
