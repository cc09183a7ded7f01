//! Between the threads of the application and one worker: bounded lock-free queues, and a bell.
//!
//! ```text
//!   threads                                                                worker
//!      --- errands: sockets that want something, each once at a time --->  asks, outbox
//!      <-- blanks: frames to write into --------------------------------
//!      --- returned: frames that have been read ----------------------->   its pool
//!      <-- spent: connections that are over, to be freed by threads -----     those that no thread frees soon it does
//!                each connection: inbox, outbox, state
//! ```

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};

use crossbeam_queue::ArrayQueue;

use super::config::SocketConfig;
use super::connection::Connection;
use super::error;
use super::listener::Acceptor;
use super::share::Share;
use super::udp::Endpoint;
use crate::frame::Frame;
use crate::worker::Waker;

/// Frames on their way back to a worker. A thread that finds no place takes its frame home itself, which needs a lock.
const RETURNED_MAX: usize = 4_096;
/// Frames on their way back that do not make a worker look for them.
const RETURNED_IDLE_MAX: usize = 64;
/// Connections that wait to be freed by a thread, or for a quiet moment of the worker; further ones it frees at once.
const SPENT_MAX: usize = 1_024;
/// Of these, what a thread frees that has business with the worker anyway.
const SPENT_AT_ONCE: usize = 4;
/// And what the worker frees in a turn.
const SPENT_IN_TURN: usize = 16;

/// A socket that wants something of the worker.
pub(super) enum Errand {
    Stream(Arc<Connection>),
    Listen(Arc<Acceptor>),
    Datagram(Arc<Endpoint>),
}

impl Errand {
    /// Blank frames that it takes to go on.
    pub(super) fn wanted(&self) -> usize {
        match self {
            Self::Datagram(endpoint) => endpoint.wanted(),
            Self::Stream(_) | Self::Listen(_) => 1,
        }
    }

    /// There are blank frames again.
    pub(super) fn feed(self) {
        match self {
            Self::Stream(connection) => connection.feed(),
            Self::Datagram(endpoint) => endpoint.feed(),
            Self::Listen(_) => {}
        }
    }

    /// The worker has ended: every call on the socket returns, and its frames come home.
    pub(super) fn abandon(self) {
        match self {
            Self::Stream(connection) => {
                connection.end(error::STOPPED);
                connection.answer(|| None);
                connection.clear();
            }
            Self::Listen(acceptor) => acceptor.end(),
            Self::Datagram(endpoint) => {
                endpoint.end();
                endpoint.clear();
            }
        }
    }
}

/// What a socket wants of one worker, as bits; and whether it stands in that worker's queue.
#[derive(Default)]
pub(super) struct Asks(AtomicU32);

/// Stands in the queue.
const QUEUED: u32 = 1 << 31;

impl Asks {
    /// Notes wishes; whether the socket is to be queued for them.
    #[inline]
    pub(super) fn put(&self, asks: u32) -> bool {
        self.0.fetch_or(asks | QUEUED, Ordering::AcqRel) & QUEUED == 0
    }

    /// The wishes of a socket that was taken out of the queue.
    #[inline]
    pub(super) fn take(&self) -> u32 {
        self.0.swap(0, Ordering::AcqRel) & !QUEUED
    }
}

/// What threads counted that had to do with a lane.
#[derive(Default)]
pub(super) struct LaneCounters {
    pub(super) sockets_max_hit: AtomicU64,
    pub(super) returned_max_hit: AtomicU64,
    pub(super) blanks_missed: AtomicU64,
}

/// Everything that lies between the threads and one worker.
pub(super) struct Lane {
    pub(super) worker: usize,
    errands: ArrayQueue<Errand>,
    blanks: ArrayQueue<Frame>,
    returned: ArrayQueue<Frame>,
    spent: ArrayQueue<Arc<Connection>>,
    sockets_max: usize,
    sockets: AtomicUsize,
    /// What of all this, and of the sockets' queues, lies in packet memory.
    pub(super) share: Share,
    waker: OnceLock<Arc<Waker>>,
    /// Bytes that a blank frame has room for.
    chunk_room: AtomicUsize,
    /// The worker has ended: nothing will be done any more.
    gone: AtomicBool,
    pub(super) counters: LaneCounters,
}

impl Lane {
    pub(super) fn new(worker: usize, config: &SocketConfig) -> Self {
        let sockets_max = config.sockets_max.clamp(1, 1 << 20);
        Self {
            worker,
            // Each socket stands here once at most.
            errands: ArrayQueue::new(sockets_max),
            blanks: ArrayQueue::new(config.blanks_max.max(1)),
            returned: ArrayQueue::new(RETURNED_MAX),
            spent: ArrayQueue::new(SPENT_MAX),
            sockets_max,
            sockets: AtomicUsize::new(0),
            share: Share::new(config),
            waker: OnceLock::new(),
            chunk_room: AtomicUsize::new(1),
            gone: AtomicBool::new(false),
            counters: LaneCounters::default(),
        }
    }

    // ---- threads ----------------------------------------------------------------------------

    /// A place for a socket.
    pub(super) fn enter(self: &Arc<Self>) -> std::io::Result<Seat> {
        self.free_spent(SPENT_AT_ONCE);
        if self.sockets.fetch_add(1, Ordering::Relaxed) >= self.sockets_max {
            self.sockets.fetch_sub(1, Ordering::Relaxed);
            self.counters.sockets_max_hit.fetch_add(1, Ordering::Relaxed);
            return Err(std::io::Error::from_raw_os_error(libc::ENFILE));
        }
        Ok(Seat(Arc::clone(self)))
    }

    /// Sends the worker to a socket; if it has gone, that is the socket's end.
    #[inline]
    pub(super) fn submit(&self, errand: Errand) {
        let pushed = self.errands.push(errand);
        debug_assert!(pushed.is_ok(), "more sockets than have a seat");
        match self.waker.get() {
            Some(waker) => waker.wake(),
            None => self.wake_late(),
        }
        if self.is_gone() {
            std::iter::from_fn(|| self.errands.pop()).for_each(Errand::abandon);
        }
    }

    /// The worker had not started: it looks by itself before it sleeps for the first time.
    #[cold]
    fn wake_late(&self) {
        fence(Ordering::SeqCst);
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }

    #[inline]
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    /// A frame to write into.
    #[inline]
    pub(super) fn blank(&self) -> Option<Frame> {
        let blank = self.blanks.pop();
        if blank.is_none() {
            self.counters.blanks_missed.fetch_add(1, Ordering::Relaxed);
        }
        blank
    }

    /// Takes a frame that has been read, or a blank that was not needed.
    #[inline]
    pub(super) fn give_back(&self, frame: Frame) {
        if let Err(frame) = self.returned.push(frame) {
            self.counters.returned_max_hit.fetch_add(1, Ordering::Relaxed);
            self.share.send_home(frame);
        }
    }

    fn free_spent(&self, most: usize) {
        for _ in 0..most {
            if self.spent.pop().is_none() {
                break;
            }
        }
    }

    // ---- the worker -------------------------------------------------------------------------

    /// The worker has started, and is woken so.
    pub(super) fn begin(&self, chunk_room: usize, waker: Option<Arc<Waker>>) {
        self.chunk_room.store(chunk_room.max(1), Ordering::Relaxed);
        if let Some(waker) = waker {
            // Set already, if another block has taken over.
            let _ = self.waker.set(waker);
        }
        fence(Ordering::SeqCst);
    }

    /// Whether there is something to do.
    #[inline]
    pub(super) fn is_busy(&self) -> bool {
        !self.errands.is_empty() || self.returned.len() > RETURNED_IDLE_MAX
    }

    pub(super) fn errands_len(&self) -> usize {
        self.errands.len()
    }

    pub(super) fn next_errand(&self) -> Option<Errand> {
        self.errands.pop()
    }

    pub(super) fn returned_len(&self) -> usize {
        self.returned.len()
    }

    pub(super) fn next_returned(&self) -> Option<Frame> {
        self.returned.pop().inspect(|frame| self.share.let_go(frame))
    }

    /// Frames that lie ready for writers.
    pub(super) fn blanks_len(&self) -> usize {
        self.blanks.len()
    }

    /// The most that ever do.
    pub(super) fn blanks_max(&self) -> usize {
        self.blanks.capacity().min(self.share.blanks_max())
    }

    /// Chunks that so many bytes take.
    pub(super) fn chunks_for(&self, len: usize) -> usize {
        len.div_ceil(self.chunk_room.load(Ordering::Relaxed)).max(1)
    }

    /// Whether more than half of the blanks are gone.
    pub(super) fn lacks_blanks(&self) -> bool {
        let own = self.blanks.len() * 2;
        own < self.blanks.capacity() && self.share.may_be_blank(own, 1)
    }

    /// Fills up the blanks with what `next` gives, as far as memory allows, or as many as are `wanted` at once; how many there
    /// are.
    pub(super) fn fill_blanks(&self, wanted: usize, mut next: impl FnMut() -> Option<Frame>) -> usize {
        while !self.blanks.is_full() && self.share.may_be_blank(self.blanks.len(), wanted) {
            let Some(frame) = next() else { break };
            self.share.hold(&frame);
            if let Err(frame) = self.blanks.push(frame) {
                self.share.send_home(frame);
                break;
            }
        }
        self.blanks.len()
    }

    /// Frees some connections that no thread has freed; whether there are more.
    pub(super) fn free_some(&self) -> bool {
        self.free_spent(SPENT_IN_TURN);
        !self.spent.is_empty()
    }

    /// Leaves a connection to the threads to be freed: its memory and its descriptor cost a system call.
    pub(super) fn spend(&self, connection: Arc<Connection>) {
        drop(self.spent.push(connection));
    }

    /// The worker ends. What the threads put here from now on nobody takes.
    pub(super) fn leave(&self) {
        self.gone.store(true, Ordering::SeqCst);
    }

    /// Brings home the frames that lie here, after no thread takes or gives any more.
    pub(super) fn clear(&self) {
        let frames = std::iter::from_fn(|| self.blanks.pop().or_else(|| self.returned.pop()));
        frames.for_each(|frame| self.share.send_home(frame));
        self.free_spent(SPENT_MAX);
    }
}

/// A socket's right to be served by a worker, given back with its value.
pub(super) struct Seat(Arc<Lane>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}
