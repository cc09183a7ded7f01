//! Listening: each worker puts what has connected to it into a queue of its own, and `accept` takes from any.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use tailwater_stack::tcp::ConnectionId;

use super::config::SocketConfig;
use super::connection::{Connection, ask as stream_ask};
use super::error;
use super::event::{Event, Readiness};
use super::gate::Gate;
use super::lane::{Asks, Errand, Lane, Seat};
use super::opening::Opening;
use super::shared::{Name, Shared};
use super::stream::TcpStream;
use crate::service::Transport;

/// What a listener may want of a worker.
pub(super) mod ask {
    /// Listen.
    pub(in super::super) const OPEN: u32 = 1;
    /// No more.
    pub(in super::super) const CLOSE: u32 = 1 << 1;
}

/// A connection that nobody has accepted yet.
pub(super) struct Arrival {
    pub(super) id: ConnectionId,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// A listener between its application and the workers.
pub(super) struct Acceptor {
    pub(super) at: SocketAddr,
    pub(super) backlog_max: usize,
    lanes: Arc<[Arc<Lane>]>,
    _seats: Vec<Seat>,
    asks: Box<[Asks]>,
    /// By worker.
    arrivals: Box<[ArrayQueue<Arrival>]>,
    /// Which queue is looked into first, so that none starves.
    turn: AtomicUsize,
    pub(super) opening: Opening,
    over: AtomicBool,
    nonblocking: AtomicBool,
    spin: Duration,
    gate: Gate,
    event: Event,
}

impl Acceptor {
    fn new(at: SocketAddr, lanes: Arc<[Arc<Lane>]>, config: &SocketConfig) -> std::io::Result<Arc<Self>> {
        let backlog_max = config.backlog_max.max(1);
        Ok(Arc::new(Self {
            at,
            backlog_max,
            _seats: lanes.iter().map(Lane::enter).collect::<Result<_, _>>()?,
            asks: lanes.iter().map(|_| Asks::default()).collect(),
            arrivals: lanes.iter().map(|_| ArrayQueue::new(backlog_max)).collect(),
            turn: AtomicUsize::new(0),
            opening: Opening::of(lanes.len()),
            lanes,
            over: AtomicBool::new(false),
            nonblocking: AtomicBool::new(false),
            spin: config.spin,
            gate: Gate::default(),
            event: Event::new()?,
        }))
    }

    /// Has every worker do something.
    fn ask_all(self: &Arc<Self>, asks: u32) {
        for (lane, own) in self.lanes.iter().zip(&self.asks) {
            if own.put(asks) {
                lane.submit(Errand::Listen(Arc::clone(self)));
            }
        }
    }

    fn readiness(&self) -> Readiness {
        let readable = self.arrivals.iter().any(|arrivals| !arrivals.is_empty()) || self.over.load(Ordering::Acquire);
        Readiness { readable, writable: false }
    }

    fn signal(&self) {
        fence(Ordering::SeqCst);
        self.gate.open();
        self.event.raise(|| self.readiness());
    }

    /// The next connection of any worker, and a stream for it.
    fn take(&self, config: &SocketConfig, name: &Arc<Name>) -> std::io::Result<Option<Arc<Connection>>> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        for step in 0..self.lanes.len() {
            let at = (first + step) % self.lanes.len();
            if self.arrivals[at].is_empty() {
                continue;
            }
            // Before the arrival is taken: it would be lost if there were no descriptor for it.
            let blank = Connection::blank(&self.lanes[at], config)?;
            let Some(Arrival { id, local, remote }) = self.arrivals[at].pop() else { continue };
            return Ok(Some(blank.accepted(id, local, remote, name)));
        }
        Ok(None)
    }

    // ---- the worker -------------------------------------------------------------------------

    pub(super) fn take_asks(&self, worker: usize) -> u32 {
        self.asks.get(worker).map_or(0, Asks::take)
    }

    /// A peer has connected. It comes back if as many wait as may.
    pub(super) fn arrive(&self, worker: usize, arrival: Arrival) -> Result<(), Arrival> {
        match self.arrivals.get(worker) {
            Some(arrivals) => arrivals.push(arrival)?,
            None => return Err(arrival),
        }
        self.signal();
        Ok(())
    }

    /// Connections that may come before as many wait as may.
    pub(super) fn places(&self, worker: usize) -> usize {
        self.arrivals.get(worker).map_or(0, |arrivals| arrivals.capacity() - arrivals.len())
    }

    /// Takes back what nobody will accept.
    pub(super) fn next_arrival(&self, worker: usize) -> Option<Arrival> {
        self.arrivals.get(worker)?.pop()
    }

    /// Nobody will connect any more: a worker has ended.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.opening.answer(error::STOPPED);
        self.signal();
    }
}

/// A TCP socket that listens, in all workers at once. Closed when dropped: connections that nobody has accepted are reset,
/// and further ones refused.
///
/// Its descriptor ([`AsFd`]) is readable while a connection waits to be accepted.
pub struct TcpListener {
    acceptor: Arc<Acceptor>,
    shared: Arc<Shared>,
    name: Arc<Name>,
}

impl TcpListener {
    pub(super) fn open(shared: &Arc<Shared>, at: SocketAddr) -> std::io::Result<Self> {
        let lanes = shared.lanes()?;
        let name = shared.name(Transport::Tcp, at)?;
        let acceptor = Acceptor::new(name.at(), lanes, &shared.config).inspect_err(|_| name.unbind())?;
        // From here on dropping it undoes everything.
        let listener = Self { acceptor, shared: Arc::clone(shared), name };
        listener.acceptor.ask_all(ask::OPEN);
        listener.acceptor.opening.wait()?;
        listener.name.register()?;
        Ok(listener)
    }

    /// Waits for a connection. It may belong to any worker, and stays there.
    pub fn accept(&self) -> std::io::Result<(TcpStream, SocketAddr)> {
        loop {
            if let Some(connection) = self.acceptor.take(&self.shared.config, &self.name)? {
                self.acceptor.event.settle(|| self.acceptor.readiness());
                let remote = connection.remote;
                connection.ask(stream_ask::ADOPT);
                return Ok((TcpStream::of(connection), remote));
            }
            if self.acceptor.over.load(Ordering::Acquire) {
                return Err(error::of(error::STOPPED));
            }
            self.acceptor.event.settle(|| self.acceptor.readiness());
            if self.acceptor.nonblocking.load(Ordering::Relaxed) {
                return Err(error::would_block());
            }
            self.acceptor.gate.wait(self.acceptor.spin, None, || self.acceptor.readiness().readable);
        }
    }

    /// The connections one after another; ends with the first error.
    pub fn incoming(&self) -> impl Iterator<Item = TcpStream> + '_ {
        std::iter::from_fn(|| self.accept().ok().map(|(stream, _)| stream))
    }

    /// Where it listens.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.acceptor.at)
    }

    /// Whether `accept` fails with [`WouldBlock`](std::io::ErrorKind::WouldBlock) instead of waiting.
    pub fn set_nonblocking(&self, nonblocking: bool) -> std::io::Result<()> {
        self.acceptor.nonblocking.store(nonblocking, Ordering::Relaxed);
        Ok(())
    }

    /// Whether a connection waits.
    pub fn readiness(&self) -> Readiness {
        self.acceptor.readiness()
    }

    /// Listens no longer, as dropping it does.
    pub fn close(self) {}
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.acceptor.ask_all(ask::CLOSE);
        self.name.unbind();
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.acceptor.event.watch(|| self.acceptor.readiness())
    }
}
