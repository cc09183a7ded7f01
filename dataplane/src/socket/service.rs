//! The worker's side: does what the sockets ask for, and tells them what has come.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tailwater_stack::tcp::congestion::CONTROLS;
use tailwater_stack::tcp::{CloseReason, Connect, ConnectionId, ListenerId};
use tailwater_stack::{Event, SocketId, Undelivered};

use super::connection::{Connection, ask};
use super::error;
use super::lane::{Errand, Lane};
use super::listener::{self, Acceptor, Arrival};
use super::pump;
use super::shared::Shared;
use super::table::Table;
use super::udp::{self, Endpoint, Received};
use crate::service::{After, Datagram, Io, Listener, Service, Transport};

/// How long connections are refused where nobody listens any more before the listener goes, in ns.
const REFUSE_NS: u64 = 60_000_000_000;
/// Until connections that are over are freed, where no thread has done so; and pause between two looks, in ns.
const FREE_NS: u64 = 10_000_000;
/// Pause between two looks for free frames, of the pool's and of those that sockets may hold, in ns.
const HUNGER_NS: u64 = 1_000_000;
/// Of those who wait for memory, how many are looked at although there is none.
const WAITING_LOOKED_AT: usize = 16;

/// A connection that its application has closed, and that has not sent everything.
struct Lingering {
    id: ConnectionId,
    /// When to look what has become of it.
    at_ns: u64,
    /// Bytes that had arrived by the last look.
    delivered: u64,
}

/// A UDP socket.
struct Bound {
    endpoint: Arc<Endpoint>,
    /// The only one whose datagrams it takes.
    peer: Option<SocketAddr>,
}

/// What did not go as it should.
#[derive(Default)]
struct Counters {
    accepted: u64,
    backlog_max_hit: u64,
    inbox_max_hit: u64,
    chunks_max_hit: u64,
    starved: u64,
    lingered: u64,
    lingering_max_hit: u64,
}

/// Serves the sockets of one worker.
pub struct SocketService {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    started: bool,
    table: Table,
    acceptors: Vec<Arc<Acceptor>>,
    /// Listeners that the host was given: they stay, and refuse while nobody listens.
    kept: Vec<ListenerId>,
    endpoints: BTreeMap<SocketId, Bound>,
    /// Sockets whose writers wait for blank frames, of which there are too few.
    hungry: VecDeque<Errand>,
    /// Connections with nothing in their inboxes whose text waits for memory; each once.
    waiting: VecDeque<ConnectionId>,
    /// Somebody writes: blank frames are kept ready.
    feeds: bool,
    /// When memory for them all is looked for again.
    look_at_ns: u64,
    linger_ns: u64,
    /// In the order in which they are due, as the next are.
    lingering: VecDeque<Lingering>,
    /// Where nobody listens any more, and until when that is answered.
    refusing: VecDeque<(u64, SocketAddr)>,
    /// When connections that are over are freed; 0 where that is yet to be set.
    free_at_ns: Option<u64>,
    counters: Counters,
}

impl SocketService {
    pub(super) fn new(shared: &Arc<Shared>, worker: usize) -> Self {
        Self {
            shared: Arc::clone(shared),
            lane: shared.lane(worker),
            started: false,
            table: Table::default(),
            acceptors: Vec::new(),
            kept: Vec::new(),
            endpoints: BTreeMap::new(),
            hungry: VecDeque::new(),
            waiting: VecDeque::new(),
            feeds: false,
            look_at_ns: 0,
            linger_ns: u64::try_from(shared.config.linger.as_nanos()).unwrap_or(u64::MAX),
            lingering: VecDeque::new(),
            refusing: VecDeque::new(),
            free_at_ns: None,
            counters: Counters::default(),
        }
    }

    // ---- errands ----------------------------------------------------------------------------

    fn run(&mut self, errand: Errand, io: &mut Io<'_, '_>) {
        match errand {
            Errand::Stream(connection) => self.serve(connection, io),
            Errand::Listen(acceptor) => self.listen(acceptor, io),
            Errand::Datagram(endpoint) => self.serve_datagrams(endpoint, io),
        }
    }

    /// What a connection wants, in the order in which it makes sense.
    fn serve(&mut self, connection: Arc<Connection>, io: &mut Io<'_, '_>) {
        let asks = connection.take_asks();
        if asks & ask::CONNECT != 0 {
            self.connect(&connection, io);
        }
        if asks & ask::ADOPT != 0 {
            self.adopt(&connection, io);
        }
        let Some(id) = connection.id().filter(|_| !connection.is_over()) else {
            connection.answer(|| None);
            return self.dismiss(asks, connection);
        };
        if asks & ask::OPTIONS != 0 {
            apply_options(&connection, id, io);
        }
        if asks & ask::BLANKS != 0 {
            self.feed(Errand::Stream(Arc::clone(&connection)), io);
        }
        if asks & ask::SHUTDOWN != 0
            && let Some(held) = self.table.find(id)
        {
            held.shutting = true;
        }
        if asks & (ask::SEND | ask::SHUTDOWN) != 0 {
            self.send(id, io);
        }
        if asks & ask::RECEIVE != 0 {
            self.receive(&connection, id, io);
        }
        if asks & ask::SNAPSHOT != 0 {
            connection.answer(|| io.snapshot(id));
        }
        if asks & ask::CLOSE != 0 {
            self.close(connection, id, io);
        }
    }

    fn connect(&mut self, connection: &Arc<Connection>, io: &mut Io<'_, '_>) {
        match io.connect(Connect::to(connection.remote)) {
            Ok(id) => {
                connection.introduce(id);
                self.table.insert(id, Arc::clone(connection));
            }
            Err(error) => connection.end(error::of_connect(error)),
        }
    }

    /// Somebody has accepted it: from now on what arrives goes into its inbox.
    fn adopt(&mut self, connection: &Arc<Connection>, io: &mut Io<'_, '_>) {
        if let Some(acceptor) = connection.local().and_then(|local| self.acceptor_for(local)) {
            self.limit_backlog(acceptor, io);
        }
        let Some(id) = connection.id() else { return };
        let (Some((local, _)), Some(segment_len)) = (io.addresses(id), io.segment_len(id)) else {
            // The peer has reset it meanwhile, and another connection may have its place by now.
            return connection.end(libc::ECONNRESET);
        };
        self.table.insert(id, Arc::clone(connection));
        connection.open(local, segment_len);
        self.receive(connection, id, io);
    }

    fn receive(&mut self, connection: &Arc<Connection>, id: ConnectionId, io: &mut Io<'_, '_>) {
        let received = pump::receive(connection, id, io);
        self.note(received, id, io);
    }

    /// What became of text of a connection's.
    #[inline]
    fn note(&mut self, received: pump::Received, id: ConnectionId, io: &Io<'_, '_>) {
        match received {
            pump::Received::All => {}
            pump::Received::Some => self.counters.inbox_max_hit += 1,
            pump::Received::NoMemory => self.wait_for_memory(id, io.now_ns()),
        }
    }

    #[cold]
    fn wait_for_memory(&mut self, id: ConnectionId, now_ns: u64) {
        self.counters.chunks_max_hit += 1;
        let Some(held) = self.table.find(id) else { return };
        if !std::mem::replace(&mut held.waits, true) {
            self.waiting.push_back(id);
        }
        self.look_later(now_ns);
    }

    /// Goes on with those who wait for memory, as far as there is some. Even if not a few are looked at, so that those that
    /// have ended meanwhile do not pile up.
    #[cold]
    fn receive_waiting(&mut self, io: &mut Io<'_, '_>) {
        for looked_at in 0..self.waiting.len() {
            if looked_at >= WAITING_LOOKED_AT && self.lane.share.is_short() {
                break;
            }
            let Some(id) = self.waiting.pop_front() else { break };
            let Some(held) = self.table.find(id) else { continue };
            if held.closing {
                held.waits = false;
                self.refuse_text(id, io);
            } else if pump::receive(&held.connection, id, io) == pump::Received::NoMemory {
                self.waiting.push_back(id);
            } else {
                held.waits = false;
            }
        }
        self.look_later(io.now_ns());
    }

    fn look_later(&mut self, now_ns: u64) {
        if self.look_at_ns <= now_ns {
            self.look_at_ns = now_ns + HUNGER_NS;
        }
    }

    /// One that is over, or never came to be: nothing but its end is left to be done.
    fn dismiss(&mut self, asks: u32, connection: Arc<Connection>) {
        if asks & ask::CLOSE != 0 {
            self.table.remove(&connection);
            connection.clear();
            self.lane.spend(connection);
            self.free_at_ns.get_or_insert(0);
        }
    }

    fn send(&mut self, id: ConnectionId, io: &mut Io<'_, '_>) {
        let Some(held) = self.table.find(id) else { return };
        let sent = pump::send(held, id, io);
        if sent == pump::Sent::All && held.closing {
            let connection = Arc::clone(&held.connection);
            self.part(connection, id, io);
        } else if std::mem::take(&mut held.held_up) {
            let errand = Errand::Stream(Arc::clone(&held.connection));
            self.feed(errand, io);
        }
    }

    /// The application has let go of a connection that is not over.
    fn close(&mut self, connection: Arc<Connection>, id: ConnectionId, io: &mut Io<'_, '_>) {
        // RFC 2525 §2.17: what was sent and is not read is told by a reset. Nobody takes any more from here on.
        if connection.has_unread() || connection.is_opening() {
            return self.abort(connection, id, io);
        }
        let Some(held) = self.table.find(id) else { return };
        held.closing = true;
        match pump::send(held, id, io) {
            pump::Sent::All => self.part(connection, id, io),
            pump::Sent::Some if self.may_linger() => self.linger(id, io),
            pump::Sent::Some => {
                self.counters.lingering_max_hit += 1;
                self.abort(connection, id, io);
            }
        }
    }

    /// Resets a connection that its application has closed.
    fn abort(&mut self, connection: Arc<Connection>, id: ConnectionId, io: &mut Io<'_, '_>) {
        let _ = io.abort(id);
        connection.end(0);
        self.dismiss(ask::CLOSE, connection);
    }

    /// Everything that was written is the stack's by now.
    fn part(&mut self, connection: Arc<Connection>, id: ConnectionId, io: &mut Io<'_, '_>) {
        let _ = io.close(id);
        connection.end(0);
        self.dismiss(ask::CLOSE, connection);
    }

    /// Nobody will read what arrives, and the peer should know (RFC 2525 §2.17); an end alone does no harm.
    fn refuse_text(&mut self, id: ConnectionId, io: &mut Io<'_, '_>) {
        let Ok(Some(text)) = io.receive(id) else { return };
        io.release(text);
        let Some(held) = self.table.find(id) else { return };
        let connection = Arc::clone(&held.connection);
        self.abort(connection, id, io);
    }

    /// A socket found too few blank frames: they are filled up for all such at once.
    fn feed(&mut self, errand: Errand, io: &Io<'_, '_>) {
        self.feeds = true;
        self.counters.starved += 1;
        self.hungry.push_back(errand);
        self.look_at_ns = io.now_ns();
    }

    /// Fills up the blank frames, and tells as many who wait for some as there are enough for.
    fn feed_all(&mut self, io: &mut Io<'_, '_>) {
        let wanted = self.hungry.iter().map(Errand::wanted).max().unwrap_or(1);
        let mut blanks = self.lane.fill_blanks(wanted, || io.allocate());
        for _ in 0..self.hungry.len() {
            // Nor is any looked at for which there is none.
            let Some(errand) = self.hungry.pop_front_if(|_| blanks > 0) else { break };
            if self.lane.share.is_short() && self.is_held_up(&errand, io) {
                continue;
            }
            match blanks.checked_sub(errand.wanted()) {
                Some(left) => {
                    blanks = left;
                    errand.feed();
                }
                None => self.hungry.push_back(errand),
            }
        }
        if !self.hungry.is_empty() {
            self.look_later(io.now_ns());
        }
    }

    /// Whether a writer's text would stay in its outbox now. Then the stack tells when it would not.
    fn is_held_up(&mut self, errand: &Errand, io: &mut Io<'_, '_>) -> bool {
        let Errand::Stream(connection) = errand else { return false };
        let Some((id, held)) = connection.id().and_then(|id| Some((id, self.table.find(id)?))) else { return false };
        held.held_up = io.send_room(id) == 0;
        held.held_up
    }

    // ---- listeners --------------------------------------------------------------------------

    fn listen(&mut self, acceptor: Arc<Acceptor>, io: &mut Io<'_, '_>) {
        let asks = acceptor.take_asks(self.lane.worker);
        if asks & listener::ask::OPEN != 0 {
            let opened = self.open_listener(&acceptor, io);
            acceptor.opening.answer(opened.err().unwrap_or(0));
        }
        if asks & listener::ask::CLOSE != 0 {
            self.close_listener(&acceptor, io);
        }
    }

    fn open_listener(&mut self, acceptor: &Arc<Acceptor>, io: &mut Io<'_, '_>) -> Result<(), i32> {
        match io.listener_at(acceptor.at) {
            Some(listener) => {
                io.refuse(listener, false);
                self.limit_backlog(acceptor, io);
            }
            None => {
                io.listen_tcp(acceptor.at, acceptor.backlog_max).map_err(error::of_listen)?;
            }
        }
        self.acceptors.push(Arc::clone(acceptor));
        self.refuse_no_longer_under(acceptor.at, io);
        Ok(())
    }

    /// What refuses at one address would go before a listener at all.
    fn refuse_no_longer_under(&mut self, any: SocketAddr, io: &mut Io<'_, '_>) {
        let under = |at: SocketAddr| at != any && covers(any, at);
        let refusing = std::mem::take(&mut self.refusing);
        let gone: VecDeque<_>;
        (gone, self.refusing) = refusing.into_iter().partition(|&(_, at)| under(at) && !self.has_acceptor(at));
        for (_, at) in gone {
            io.listener_at(at).map(|listener| io.unlisten(listener));
        }
    }

    /// The stack tells of each connection at once, and forgets that it waits. It takes no more than have a place here.
    fn limit_backlog(&self, acceptor: &Acceptor, io: &mut Io<'_, '_>) {
        if let Some(listener) = io.listener_at(acceptor.at) {
            io.set_backlog(listener, acceptor.places(self.lane.worker));
        }
    }

    fn close_listener(&mut self, acceptor: &Arc<Acceptor>, io: &mut Io<'_, '_>) {
        self.acceptors.retain(|other| !Arc::ptr_eq(other, acceptor));
        while let Some(arrival) = acceptor.next_arrival(self.lane.worker) {
            let _ = io.abort(arrival.id);
        }
        let Some(listener) = io.listener_at(acceptor.at).filter(|_| !self.has_acceptor(acceptor.at)) else { return };
        io.refuse(listener, true);
        if !self.kept.contains(&listener) {
            self.refusing.push_back((io.now_ns() + REFUSE_NS, acceptor.at));
        }
    }

    fn has_acceptor(&self, at: SocketAddr) -> bool {
        self.acceptors.iter().any(|acceptor| acceptor.at == at)
    }

    /// Whose a connection is that came to `local`: the listener's at this very address, before that of all addresses.
    fn acceptor_for(&self, local: SocketAddr) -> Option<&Arc<Acceptor>> {
        let fits = |acceptor: &&Arc<Acceptor>| covers(acceptor.at, local);
        self.acceptors.iter().filter(fits).max_by_key(|acceptor| acceptor.at.ip() == local.ip())
    }

    // ---- datagrams --------------------------------------------------------------------------

    fn serve_datagrams(&mut self, endpoint: Arc<Endpoint>, io: &mut Io<'_, '_>) {
        let asks = endpoint.take_asks(self.lane.worker);
        if asks & udp::ask::OPEN != 0 {
            let opened = self.open_endpoint(&endpoint, io);
            endpoint.opening.answer(opened.err().unwrap_or(0));
        }
        if asks & udp::ask::PEER != 0
            && let Some(peer) = endpoint.next_peer(self.lane.worker)
            && let Some(bound) = self.socket_of(&endpoint).and_then(|socket| self.endpoints.get_mut(&socket))
        {
            bound.peer = Some(peer);
        }
        if asks & udp::ask::BLANKS != 0 {
            self.feed(Errand::Datagram(Arc::clone(&endpoint)), io);
        }
        if asks & (udp::ask::SEND | udp::ask::CLOSE) != 0
            && endpoint.sends_by(&self.lane)
            && let Some(socket) = self.socket_of(&endpoint)
        {
            pump::send_datagrams(&endpoint, socket, &self.lane, io);
        }
        if asks & udp::ask::CLOSE != 0 {
            self.close_endpoint(&endpoint, io);
        }
    }

    fn open_endpoint(&mut self, endpoint: &Arc<Endpoint>, io: &mut Io<'_, '_>) -> Result<(), i32> {
        let socket = match (endpoint.opened_to, endpoint.local.get()) {
            (Some(peer), _) => io.open_udp(peer),
            (None, Some(&local)) => io.udp_at(local).map_or_else(|| io.bind_udp(local, None), Ok),
            (None, None) => return Err(libc::EINVAL),
        };
        let socket = socket.map_err(error::of_bind)?;
        if let Some(local) = io.udp_local(socket) {
            let _ = endpoint.local.set(local);
        }
        self.endpoints.insert(socket, Bound { endpoint: Arc::clone(endpoint), peer: endpoint.opened_to });
        Ok(())
    }

    fn socket_of(&self, endpoint: &Arc<Endpoint>) -> Option<SocketId> {
        self.endpoints.iter().find(|(_, bound)| Arc::ptr_eq(&bound.endpoint, endpoint)).map(|(&socket, _)| socket)
    }

    fn close_endpoint(&mut self, endpoint: &Arc<Endpoint>, io: &mut Io<'_, '_>) {
        if let Some(socket) = self.socket_of(endpoint) {
            self.endpoints.remove(&socket);
            io.close_udp(socket);
        }
        endpoint.leave();
    }

    // ---- time -------------------------------------------------------------------------------

    /// Whether another connection may last beyond its close.
    fn may_linger(&mut self) -> bool {
        let max = self.shared.config.lingering_max;
        if self.lingering.len() >= max {
            let table = &mut self.table;
            // Those that have sent everything are still listed.
            self.lingering.retain(|lingering| table.find(lingering.id).is_some_and(|held| held.closing));
        }
        self.lingering.len() < max
    }

    /// Looks later what has become of a connection.
    fn linger(&mut self, id: ConnectionId, io: &Io<'_, '_>) {
        let delivered = io.snapshot(id).map_or(0, |snapshot| snapshot.delivered);
        self.lingering.push_back(Lingering { id, at_ns: io.now_ns().saturating_add(self.linger_ns), delivered });
    }

    fn ring(&mut self, io: &mut Io<'_, '_>) {
        let now_ns = io.now_ns();
        while let Some(Lingering { id, delivered, .. }) = self.lingering.pop_front_if(|next| next.at_ns <= now_ns) {
            // All of it may have left long ago.
            let Some(held) = self.table.find(id).filter(|held| held.closing) else { continue };
            if io.snapshot(id).is_some_and(|snapshot| snapshot.delivered != delivered) {
                self.linger(id, io);
                continue;
            }
            let connection = Arc::clone(&held.connection);
            self.counters.lingered += 1;
            self.abort(connection, id, io);
        }
        while let Some((_, at)) = self.refusing.pop_front_if(|(at_ns, _)| *at_ns <= now_ns) {
            if !self.has_acceptor(at) {
                io.listener_at(at).map(|listener| io.unlisten(listener));
            }
        }
        if let Some(at_ns) = self.free_at_ns.filter(|&at_ns| at_ns <= now_ns) {
            self.free_at_ns = (at_ns == 0 || self.lane.free_some()).then_some(now_ns + FREE_NS);
        }
    }

    /// Frames that have been read go into the worker's pool.
    fn collect(&self, io: &mut Io<'_, '_>) {
        // No more than there were at first, so that a turn ends.
        for _ in 0..self.lane.returned_len() {
            let Some(frame) = self.lane.next_returned() else { break };
            io.release(frame);
        }
        self.lane.share.publish();
    }
}

/// Whether a listener at `listener` takes what comes to `local`.
fn covers(listener: SocketAddr, local: SocketAddr) -> bool {
    let [listener, local] = [listener, local].map(|at| Listener { transport: Transport::Tcp, at });
    listener.covers(local)
}

fn apply_options(connection: &Connection, id: ConnectionId, io: &mut Io<'_, '_>) {
    let _ = io.set_nagle(id, !connection.options.nodelay.load(Ordering::Relaxed));
    let control = connection.options.congestion_control.swap(0, Ordering::Relaxed);
    if let Some(control) = usize::from(control).checked_sub(1).and_then(|at| CONTROLS.get(at)) {
        let _ = io.set_congestion_control(id, control);
    }
}

impl Service for SocketService {
    fn on_start(&mut self, io: &mut Io<'_, '_>) {
        self.started = true;
        self.kept = io.refuse_all();
        self.lane.share.bound(io.chunks());
        self.lane.begin(io.chunk_room(), io.waker());
        self.shared.start(io.ports());
    }

    fn on_accepted(&mut self, connection: ConnectionId, remote: SocketAddr, io: &mut Io<'_, '_>) {
        let Some((local, _)) = io.addresses(connection) else { return };
        let arrival = Arrival { id: connection, local, remote };
        let worker = self.lane.worker;
        let Some(acceptor) = self.acceptor_for(local).filter(|acceptor| acceptor.arrive(worker, arrival).is_ok())
        else {
            // Nobody listens any more.
            let _ = io.abort(connection);
            return;
        };
        self.limit_backlog(acceptor, io);
        let full = acceptor.places(worker) == 0;
        self.counters.accepted += 1;
        self.counters.backlog_max_hit += u64::from(full);
    }

    fn on_connected(&mut self, id: ConnectionId, io: &mut Io<'_, '_>) {
        let Some(held) = self.table.find(id) else { return };
        if let (Some((local, _)), Some(segment_len)) = (io.addresses(id), io.segment_len(id)) {
            held.connection.open(local, segment_len);
            apply_options(&held.connection, id, io);
        }
    }

    fn on_readable(&mut self, id: ConnectionId, io: &mut Io<'_, '_>) {
        if self.lane.returned_len() > 0 {
            self.collect(io);
        }
        let Some(held) = self.table.find(id) else { return };
        if held.closing {
            return self.refuse_text(id, io);
        }
        let received = pump::receive(&held.connection, id, io);
        self.note(received, id, io);
    }

    fn on_writable(&mut self, id: ConnectionId, io: &mut Io<'_, '_>) {
        self.send(id, io);
    }

    fn on_closed(&mut self, id: ConnectionId, reason: CloseReason, _io: &mut Io<'_, '_>) {
        let Some(held) = self.table.find(id) else { return };
        let (connection, closing) = (Arc::clone(&held.connection), held.closing);
        connection.end(error::of_close(reason));
        if closing {
            self.dismiss(ask::CLOSE, connection);
        }
    }

    fn on_datagram(&mut self, datagram: &mut Datagram, _io: &mut Io<'_, '_>) -> After {
        match self.endpoints.get(&datagram.socket) {
            Some(bound) if bound.peer.is_none_or(|peer| peer == datagram.source) => After::Keep,
            _ => After::Release,
        }
    }

    fn keep_datagram(&mut self, datagram: Datagram, io: &mut Io<'_, '_>) {
        let (socket, source) = (datagram.socket, datagram.source);
        let received = Received { frame: datagram.into_payload(), source, worker: self.lane.worker };
        let kept = match self.endpoints.get(&socket) {
            Some(bound) => bound.endpoint.arrive(received, &self.lane),
            None => Err(received),
        };
        if let Err(received) = kept {
            self.counters.inbox_max_hit += 1;
            io.release(received.frame);
        }
    }

    fn on_event(&mut self, event: &Event, _io: &mut Io<'_, '_>) {
        if let Event::UdpUndelivered { socket, remote, why: Undelivered::PortUnreachable, .. } = event
            && let Some(bound) = self.endpoints.get(socket)
            && bound.peer == Some(*remote)
        {
            bound.endpoint.fail(libc::ECONNREFUSED);
        }
    }

    fn deadline_ns(&self) -> Option<u64> {
        if !self.started {
            return None;
        }
        if self.lane.is_busy() {
            return Some(0);
        }
        let feed = (!self.hungry.is_empty() || !self.waiting.is_empty()).then_some(self.look_at_ns);
        let lingering = self.lingering.front().map(|next| next.at_ns);
        let refusing = self.refusing.front().map(|(at_ns, _)| *at_ns);
        [feed, lingering, refusing, self.free_at_ns].into_iter().flatten().min()
    }

    fn on_deadline(&mut self, io: &mut Io<'_, '_>) {
        self.collect(io);
        // Likewise.
        for _ in 0..self.lane.errands_len() {
            let Some(errand) = self.lane.next_errand() else { break };
            self.run(errand, io);
        }
        if !self.hungry.is_empty() || self.feeds && self.lane.lacks_blanks() {
            self.feed_all(io);
        }
        if !self.waiting.is_empty() {
            self.receive_waiting(io);
        }
        self.ring(io);
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        let Counters { accepted, backlog_max_hit, inbox_max_hit, chunks_max_hit, starved, lingered, lingering_max_hit } =
            self.counters;
        let lane = &self.lane.counters;
        report("sockets_accepted", accepted);
        report("sockets_backlog_max_hit", backlog_max_hit);
        report("sockets_inbox_max_hit", inbox_max_hit);
        report("sockets_chunks_max_hit", chunks_max_hit);
        report("sockets_starved", starved);
        report("sockets_lingered", lingered);
        report("sockets_lingering_max_hit", lingering_max_hit);
        report("sockets_max_hit", lane.sockets_max_hit.load(Ordering::Relaxed));
        report("sockets_returned_max_hit", lane.returned_max_hit.load(Ordering::Relaxed));
        report("sockets_blanks_missed", lane.blanks_missed.load(Ordering::Relaxed));
    }
}

impl Drop for SocketService {
    /// The worker has ended, in order or not: every call on its sockets returns, and their frames come home. A service that
    /// was made and never started only gave its place to another.
    fn drop(&mut self) {
        if !self.started {
            return;
        }
        self.lane.leave();
        self.table.drain().for_each(|connection| Errand::Stream(connection).abandon());
        std::mem::take(&mut self.endpoints).into_values().for_each(|bound| Errand::Datagram(bound.endpoint).abandon());
        self.acceptors.drain(..).for_each(|acceptor| Errand::Listen(acceptor).abandon());
        self.hungry.drain(..).for_each(Errand::abandon);
        std::iter::from_fn(|| self.lane.next_errand()).for_each(Errand::abandon);
        self.lane.clear();
    }
}
