//! UDP: datagrams come from any worker, in the frames they arrived in, and leave by one of them.

use std::io::IoSlice;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use tailwater_stack::udp::PAYLOAD_MAX;

use super::config::SocketConfig;
use super::connection::Manners;
use super::error;
use super::event::{Event, Readiness};
use super::gate::Gate;
use super::lane::{Asks, Errand, Lane, Seat};
use super::opening::Opening;
use super::shared::{Name, Shared};
use super::writer::{Source, fill};
use crate::frame::Frame;
use crate::service::Transport;

/// What a socket may want of a worker.
pub(super) mod ask {
    /// Take its datagrams.
    pub(in super::super) const OPEN: u32 = 1;
    /// There is something in the outbox.
    pub(in super::super) const SEND: u32 = 1 << 1;
    /// A writer found no blank frame.
    pub(in super::super) const BLANKS: u32 = 1 << 2;
    /// No more.
    pub(in super::super) const CLOSE: u32 = 1 << 3;
    /// There is a (new) peer.
    pub(in super::super) const PEER: u32 = 1 << 4;
}

/// A datagram that has arrived: its payload.
pub(super) struct Received {
    pub(super) frame: Frame,
    pub(super) source: SocketAddr,
    /// Whose frame it is.
    pub(super) worker: usize,
}

/// A datagram that is to leave.
pub(super) struct Leaving {
    pub(super) payload: Frame,
    pub(super) to: SocketAddr,
}

/// A UDP socket between its application and the workers.
pub(super) struct Endpoint {
    /// Those that serve it: all, or for a socket that was opened to a peer one.
    lanes: Vec<Arc<Lane>>,
    _seats: Vec<Seat>,
    /// As `lanes`.
    asks: Box<[Asks]>,
    /// Where it was opened to.
    pub(super) opened_to: Option<SocketAddr>,
    pub(super) local: OnceLock<SocketAddr>,
    pub(super) opening: Opening,
    manners: Manners,
    inbox: ArrayQueue<Received>,
    /// A reader has found nothing there.
    demanded: AtomicBool,
    /// Datagrams that found no place there.
    overflows: AtomicU64,
    outbox: ArrayQueue<Leaving>,
    pub(super) starved: AtomicBool,
    /// Blank frames that the writer who is starved waits for.
    wanted: AtomicUsize,
    over: AtomicBool,
    /// Workers that have not closed their part.
    serving: AtomicUsize,
    error: AtomicI32,
    /// The only peer, if there is one; for threads.
    peer: Mutex<Option<SocketAddr>>,
    /// The same on its way to the workers, as `lanes`.
    peers: Box<[ArrayQueue<SocketAddr>]>,
    /// Held to take or to put datagrams: when the workers have gone nobody does so any more.
    reader: Mutex<()>,
    writer: Mutex<()>,
    read_gate: Gate,
    write_gate: Gate,
    event: Event,
}

impl Endpoint {
    fn new(
        lanes: Vec<Arc<Lane>>,
        local: Option<SocketAddr>,
        peer: Option<SocketAddr>,
        config: &SocketConfig,
    ) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            _seats: lanes.iter().map(Lane::enter).collect::<Result<_, _>>()?,
            asks: lanes.iter().map(|_| Asks::default()).collect(),
            peers: lanes.iter().map(|_| ArrayQueue::new(1)).collect(),
            opened_to: peer,
            local: local.map_or_else(OnceLock::new, OnceLock::from),
            opening: Opening::of(lanes.len()),
            serving: AtomicUsize::new(lanes.len()),
            lanes,
            manners: Manners::new(config),
            inbox: ArrayQueue::new(config.inbox_max.max(2)),
            demanded: AtomicBool::new(false),
            overflows: AtomicU64::new(0),
            outbox: ArrayQueue::new(config.outbox_max.max(2)),
            starved: AtomicBool::new(false),
            wanted: AtomicUsize::new(1),
            over: AtomicBool::new(false),
            error: AtomicI32::new(0),
            peer: Mutex::new(peer),
            reader: Mutex::new(()),
            writer: Mutex::new(()),
            read_gate: Gate::default(),
            write_gate: Gate::default(),
            event: Event::new()?,
        }))
    }

    // ---- threads ----------------------------------------------------------------------------

    fn ask(self: &Arc<Self>, at: usize, asks: u32) {
        if self.asks[at].put(asks) {
            self.lanes[at].submit(Errand::Datagram(Arc::clone(self)));
        }
    }

    fn ask_all(self: &Arc<Self>, asks: u32) {
        (0..self.lanes.len()).for_each(|at| self.ask(at, asks));
    }

    fn readiness(&self) -> Readiness {
        let over = self.is_over() || self.error.load(Ordering::Relaxed) != 0;
        let room = self.outbox.len() * 2 <= self.outbox_max() && !self.starved.load(Ordering::Relaxed);
        Readiness { readable: over || !self.inbox.is_empty(), writable: over || room }
    }

    /// What is written leaves at once, so that it does no harm where memory is short.
    fn outbox_max(&self) -> usize {
        self.lanes[0].share.outbox_max().max(1)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// What went wrong; told once, but for the end.
    fn check(&self) -> std::io::Result<()> {
        if self.is_over() {
            return Err(error::of(error::STOPPED));
        }
        match self.error.load(Ordering::Relaxed) {
            0 => Ok(()),
            _ => match self.error.swap(0, Ordering::AcqRel) {
                0 => Ok(()),
                number => {
                    self.settle();
                    Err(error::of(number))
                }
            },
        }
    }

    fn settle(&self) {
        self.event.settle(|| self.readiness());
    }

    fn receive(&self, to: &mut [u8]) -> std::io::Result<(usize, SocketAddr)> {
        let until = Manners::deadline(&self.manners.read_timeout_ns);
        loop {
            let taken = self.take(to);
            self.settle();
            if let Some(taken) = taken {
                return Ok(taken);
            }
            self.check()?;
            let waits = !self.manners.nonblocking.load(Ordering::Relaxed);
            // As for streams: the level has not fallen, and tells nothing.
            if !waits && self.readiness().readable {
                continue;
            }
            if !waits || !self.read_gate.wait(self.manners.spin, until, || self.readiness().readable) {
                return Err(error::would_block());
            }
        }
    }

    /// The next datagram of the peer's; what does not fit is lost.
    fn take(&self, to: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let peer = self.peer();
        let _reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_over() {
            return None;
        }
        // Each pass takes one out.
        while let Some(Received { frame, source, worker }) = self.inbox.pop() {
            let wanted = peer.is_none_or(|peer| peer == source);
            let n = if wanted { frame.read_at(0, to) } else { 0 };
            self.lane_of(worker).give_back(frame);
            if wanted {
                return Some((n, source));
            }
        }
        self.demanded.store(true, Ordering::Relaxed);
        None
    }

    fn lane_of(&self, worker: usize) -> &Lane {
        self.lanes.iter().find(|lane| lane.worker == worker).unwrap_or(&self.lanes[0])
    }

    fn peer(&self) -> Option<SocketAddr> {
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(self: &Arc<Self>, payload: &[u8], to: SocketAddr) -> std::io::Result<usize> {
        let chunks = self.lanes[0].chunks_for(payload.len());
        if payload.len() > PAYLOAD_MAX || chunks > self.lanes[0].blanks_max() {
            return Err(error::of(libc::EMSGSIZE));
        }
        let until = Manners::deadline(&self.manners.write_timeout_ns);
        loop {
            self.check()?;
            if self.lanes[0].is_gone() {
                return Err(error::of(error::STOPPED));
            }
            if self.put(payload, to, chunks) {
                self.settle();
                return Ok(payload.len());
            }
            self.settle();
            // Others may take the blanks again and again.
            let has_time = until.is_none_or(|until| Instant::now() < until);
            let nonblocking = self.manners.nonblocking.load(Ordering::Relaxed);
            // As for streams: the level has not fallen, and tells nothing.
            if nonblocking && self.readiness().writable {
                continue;
            }
            if nonblocking || !has_time || !self.write_gate.wait(self.manners.spin, until, || self.readiness().writable)
            {
                return Err(error::would_block());
            }
        }
    }

    /// Whether there was room, in so many chunks.
    fn put(self: &Arc<Self>, payload: &[u8], to: SocketAddr, chunks: usize) -> bool {
        let put = {
            let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            // Who is starved has asked already.
            if self.outbox.len() >= self.outbox_max() || self.starved.load(Ordering::Acquire) {
                return false;
            }
            let slices = [IoSlice::new(payload)];
            let enough = self.lanes[0].blanks_len() >= chunks;
            match enough.then(|| fill(&self.lanes[0], payload.len(), &mut Source::new(&slices))).flatten() {
                Some(frame) if frame.total_len() == payload.len() => {
                    let pushed = self.outbox.push(Leaving { payload: frame, to });
                    debug_assert!(pushed.is_ok(), "only who holds the lock adds");
                    true
                }
                partly => {
                    partly.into_iter().for_each(|frame| self.lanes[0].give_back(frame));
                    self.wanted.store(chunks, Ordering::Relaxed);
                    self.starved.store(true, Ordering::SeqCst);
                    false
                }
            }
        };
        self.ask(0, if put { ask::SEND } else { ask::BLANKS });
        put
    }

    // ---- the workers ------------------------------------------------------------------------

    pub(super) fn take_asks(&self, worker: usize) -> u32 {
        let at = self.lanes.iter().position(|lane| lane.worker == worker);
        at.and_then(|at| self.asks.get(at)).map_or(0, Asks::take)
    }

    /// Whether this worker is the one that its datagrams leave by.
    pub(super) fn sends_by(&self, lane: &Lane) -> bool {
        self.lanes[0].worker == lane.worker
    }

    /// A datagram has come. It comes back if the inbox is full, or memory short.
    pub(super) fn arrive(&self, received: Received, lane: &Lane) -> Result<(), Received> {
        let own = self.inbox.len();
        let may_hold = || lane.share.may_hold(own) || own == 0 && self.may_have_last(lane);
        if own >= self.inbox.capacity() || !may_hold() {
            self.overflows.fetch_add(1, Ordering::Relaxed);
            return Err(received);
        }
        lane.share.hold(&received.frame);
        if let Err(received) = self.inbox.push(received) {
            // Another worker was faster.
            lane.share.let_go(&received.frame);
            self.overflows.fetch_add(1, Ordering::Relaxed);
            return Err(received);
        }
        fence(Ordering::SeqCst);
        self.read_gate.open();
        self.event.raise(|| self.readiness());
        Ok(())
    }

    /// One for each time that a reader found nothing, who may have gone away since.
    #[cold]
    fn may_have_last(&self, lane: &Lane) -> bool {
        lane.share.has_last_for_datagrams() && self.demanded.swap(false, Ordering::Relaxed)
    }

    pub(super) fn outbox_len(&self) -> usize {
        self.outbox.len()
    }

    pub(super) fn next_leaving(&self) -> Option<Leaving> {
        self.outbox.pop()
    }

    pub(super) fn signal_writer(&self) {
        fence(Ordering::SeqCst);
        if self.readiness().writable {
            self.write_gate.open();
        }
        self.event.raise(|| self.readiness());
    }

    /// There are blank frames again.
    pub(super) fn feed(&self) {
        self.starved.store(false, Ordering::Relaxed);
        self.signal_writer();
    }

    /// Blank frames that a writer waits for.
    pub(super) fn wanted(&self) -> usize {
        self.wanted.load(Ordering::Relaxed)
    }

    /// The only peer from now on, as [`ask::PEER`] tells a worker.
    pub(super) fn next_peer(&self, worker: usize) -> Option<SocketAddr> {
        let at = self.lanes.iter().position(|lane| lane.worker == worker)?;
        self.peers.get(at)?.pop()
    }

    /// A worker serves it no longer; the last brings its frames home.
    pub(super) fn leave(&self) {
        if self.serving.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.clear();
        }
    }

    /// A datagram did not arrive.
    pub(super) fn fail(&self, number: i32) {
        self.error.store(number, Ordering::Release);
        self.signal_all();
    }

    /// A worker has ended.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.opening.answer(error::STOPPED);
        self.signal_all();
    }

    fn signal_all(&self) {
        fence(Ordering::SeqCst);
        self.read_gate.open();
        self.write_gate.open();
        self.event.raise(|| self.readiness());
    }

    /// Brings home all frames: nobody takes or puts any after.
    pub(super) fn clear(&self) {
        let _reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let unread = std::iter::from_fn(|| self.inbox.pop());
        unread.for_each(|received| self.lane_of(received.worker).share.send_home(received.frame));
        let unsent = std::iter::from_fn(|| self.outbox.pop());
        unsent.for_each(|leaving| self.lanes[0].share.send_home(leaving.payload));
    }
}

/// A UDP socket, as [`std::net::UdpSocket`] is one. Its descriptor works as that of
/// [`TcpStream`](super::TcpStream#waiting-for-several). Closed when dropped.
pub struct UdpSocket {
    endpoint: Arc<Endpoint>,
    name: Option<Arc<Name>>,
}

impl UdpSocket {
    /// At this address, in all workers.
    pub(super) fn bind(shared: &Arc<Shared>, at: SocketAddr) -> std::io::Result<Self> {
        let lanes = shared.lanes_in_turn()?;
        let name = shared.name(Transport::Udp, at)?;
        let endpoint = Endpoint::new(lanes, Some(name.at()), None, &shared.config).inspect_err(|_| name.unbind())?;
        let socket = Self { endpoint, name: Some(name) };
        socket.endpoint.ask_all(ask::OPEN);
        socket.endpoint.opening.wait()?;
        socket.name.as_deref().map_or(Ok(()), Name::register)?;
        Ok(socket)
    }

    /// At a local port of the host's, to this peer only.
    pub(super) fn to(shared: &Arc<Shared>, peer: SocketAddr) -> std::io::Result<Self> {
        let endpoint = Endpoint::new(vec![shared.next_lane()?], None, Some(peer), &shared.config)?;
        let socket = Self { endpoint, name: None };
        socket.endpoint.ask_all(ask::OPEN);
        socket.endpoint.opening.wait()?;
        Ok(socket)
    }

    /// Sends a datagram; returns its length. Waits while as many wait to leave as may, and for memory. What would take more
    /// than all of [`blanks_max`](super::SocketConfig::blanks_max) is too long (`EMSGSIZE`).
    pub fn send_to(&self, payload: &[u8], to: impl ToSocketAddrs) -> std::io::Result<usize> {
        let to = to.to_socket_addrs()?.next().ok_or_else(|| error::of(libc::EINVAL))?;
        self.endpoint.send(payload, to)
    }

    /// Receives a datagram, and from whom; what is longer than the room is lost.
    pub fn recv_from(&self, to: &mut [u8]) -> std::io::Result<(usize, SocketAddr)> {
        self.endpoint.receive(to)
    }

    /// From now on [`send`](Self::send) sends there, and what others send is ignored.
    pub fn connect(&self, peer: SocketAddr) -> std::io::Result<()> {
        if self.endpoint.opened_to.is_some_and(|only| only != peer) {
            return Err(error::of(libc::EISCONN));
        }
        let mut current = self.endpoint.peer.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Some(peer);
        // Under the lock, so that all workers have the same in the end.
        for peers in &self.endpoint.peers {
            let _ = peers.force_push(peer);
        }
        drop(current);
        self.endpoint.ask_all(ask::PEER);
        Ok(())
    }

    /// Sends a datagram to the peer.
    pub fn send(&self, payload: &[u8]) -> std::io::Result<usize> {
        self.endpoint.send(payload, self.peer_addr()?)
    }

    /// Receives a datagram of the peer's.
    pub fn recv(&self, to: &mut [u8]) -> std::io::Result<usize> {
        self.endpoint.receive(to).map(|(n, _)| n)
    }

    /// The peer, once there is one.
    pub fn peer_addr(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.peer().ok_or_else(|| error::of(libc::ENOTCONN))
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local.get().copied().ok_or_else(|| error::of(libc::ENOTCONN))
    }

    /// Datagrams that were dropped because nobody took those before them.
    pub fn overflows(&self) -> u64 {
        self.endpoint.overflows.load(Ordering::Relaxed)
    }

    /// Whether calls fail with [`WouldBlock`](std::io::ErrorKind::WouldBlock) instead of waiting.
    pub fn set_nonblocking(&self, nonblocking: bool) -> std::io::Result<()> {
        self.endpoint.manners.nonblocking.store(nonblocking, Ordering::Relaxed);
        Ok(())
    }

    /// Longest wait to receive, which then fails with [`WouldBlock`](std::io::ErrorKind::WouldBlock); `None`: for ever.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> std::io::Result<()> {
        Manners::set_timeout(&self.endpoint.manners.read_timeout_ns, timeout)
    }

    /// The same for sending.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> std::io::Result<()> {
        Manners::set_timeout(&self.endpoint.manners.write_timeout_ns, timeout)
    }

    /// What it is ready for now.
    pub fn readiness(&self) -> Readiness {
        self.endpoint.readiness()
    }

    /// What the descriptor is readable for from now on.
    pub fn watch_for(&self, interest: Readiness) {
        self.endpoint.event.set_interest(interest, || self.endpoint.readiness());
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.endpoint.ask_all(ask::CLOSE);
        if let Some(name) = &self.name {
            name.unbind();
        }
        if self.endpoint.is_over() {
            self.endpoint.clear();
        }
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.endpoint.event.watch(|| self.endpoint.readiness())
    }
}
