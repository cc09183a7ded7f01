//! One connection, as the threads of the application and its worker share it.
//!
//! ```text
//!            writer                                  worker                          peer
//!   write --copy--> blank --> outbox --------------> send queue of the stack ------->
//!   read  <--copy-- frame <-- inbox <--------------- receive queue of the stack <----
//!            reader     \---> returned ------------> pool
//! ```
//! Every queue is bounded: a reader who stays away fills the inbox, then the stack's receive buffer, and then the peer
//! may send no more; a peer who stays away fills the stack's send buffer, then the outbox, and then writers wait. Where
//! the sockets of the worker hold much together the queues of each are shorter (`share.rs`).
//!
//! The worker writes `stage` and `finished`; a thread who sees the end in them looks into the inbox once more
//! before it believes it, for what was put there came first.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use tailwater_stack::tcp::{ConnectionId, TcpSnapshot};

use super::answer::Answer;
use super::config::SocketConfig;
use super::error;
use super::event::{Event, Readiness};
use super::gate::Gate;
use super::lane::{Asks, Errand, Lane, Seat};
use super::reader::Reader;
use super::shared::Name;
use super::stage::Stage;
use crate::frame::Frame;

/// What a thread may want of the worker.
pub(super) mod ask {
    /// Open the connection.
    pub(in super::super) const CONNECT: u32 = 1;
    /// It was accepted: begin to fill its inbox.
    pub(in super::super) const ADOPT: u32 = 1 << 1;
    /// There is something in the outbox.
    pub(in super::super) const SEND: u32 = 1 << 2;
    /// There is room in the inbox again.
    pub(in super::super) const RECEIVE: u32 = 1 << 3;
    /// A writer found no blank frame.
    pub(in super::super) const BLANKS: u32 = 1 << 4;
    /// Nothing more will be written.
    pub(in super::super) const SHUTDOWN: u32 = 1 << 5;
    /// An option has changed.
    pub(in super::super) const OPTIONS: u32 = 1 << 6;
    /// Somebody wants a snapshot.
    pub(in super::super) const SNAPSHOT: u32 = 1 << 7;
    /// The application has let go.
    pub(in super::super) const CLOSE: u32 = 1 << 8;
}

/// Payload of a segment before the worker has told: the least that every path takes (RFC 9293 §3.7.1).
const SEGMENT_LEN_FIRST: u32 = 536;

/// Threads that wait for a snapshot of one connection at the same time.
const QUESTIONS_MAX: usize = 4;

/// Options that the threads choose and the worker applies.
#[derive(Default)]
pub(super) struct Options {
    pub(super) nodelay: AtomicBool,
    /// Index among the stack's congestion controls, plus 1; 0: as it is.
    pub(super) congestion_control: AtomicU8,
}

/// How the calls of the threads behave; the same for all clones of a stream.
pub(super) struct Manners {
    pub(super) nonblocking: AtomicBool,
    /// Longest wait of a read and a write, in ns; 0: for ever.
    pub(super) read_timeout_ns: AtomicU64,
    pub(super) write_timeout_ns: AtomicU64,
    pub(super) spin: Duration,
}

impl Manners {
    pub(super) fn new(config: &SocketConfig) -> Self {
        Self {
            nonblocking: AtomicBool::new(false),
            read_timeout_ns: AtomicU64::new(0),
            write_timeout_ns: AtomicU64::new(0),
            spin: config.spin,
        }
    }

    /// When a call that begins now gives up.
    pub(super) fn deadline(timeout_ns: &AtomicU64) -> Option<Instant> {
        match timeout_ns.load(Ordering::Relaxed) {
            0 => None,
            ns => Some(Instant::now() + Duration::from_nanos(ns)),
        }
    }

    /// RFC-less, as std has it: `None` for ever, zero refused.
    pub(super) fn set_timeout(timeout_ns: &AtomicU64, timeout: Option<Duration>) -> std::io::Result<()> {
        let ns = match timeout {
            None => 0,
            Some(Duration::ZERO) => return Err(error::of(libc::EINVAL)),
            Some(timeout) => u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX),
        };
        timeout_ns.store(ns, Ordering::Relaxed);
        Ok(())
    }

    /// What `set_timeout` was last given.
    pub(super) fn timeout(timeout_ns: &AtomicU64) -> Option<Duration> {
        Some(timeout_ns.load(Ordering::Relaxed)).filter(|&ns| ns > 0).map(Duration::from_nanos)
    }
}

/// A connection between its application and its worker.
pub(super) struct Connection {
    pub(super) lane: Arc<Lane>,
    _seat: Seat,
    /// The listener's address, which must stay ours.
    _name: Option<Arc<Name>>,
    pub(super) manners: Manners,
    pub(super) options: Options,
    asks: Asks,
    id: OnceLock<ConnectionId>,
    /// Place in the worker's table.
    slot: OnceLock<u32>,
    /// Whom to connect to; for the accepted, who has connected.
    pub(super) remote: SocketAddr,
    local: OnceLock<SocketAddr>,

    // From the worker.
    pub(super) inbox: ArrayQueue<Frame>,
    /// The stack has more than the inbox takes.
    inbox_blocked: AtomicBool,
    /// The stack has text, and there is no memory for it but on demand.
    offered: AtomicBool,
    /// A reader has found nothing, and takes that.
    demanded: AtomicBool,
    stage: Stage,
    /// The peer has ended its side, behind what is in the inbox.
    finished: AtomicBool,
    segment_len: AtomicU32,

    // To the worker.
    pub(super) outbox: ArrayQueue<Frame>,
    /// A writer found no blank frame, and there are none yet; or no memory for one in the outbox.
    pub(super) starved: AtomicBool,
    /// There is memory for one frame whatever the bound of the outbox is: it may leave at once.
    granted: AtomicBool,
    write_shut: AtomicBool,
    read_shut: AtomicBool,
    /// Who waits for a snapshot.
    questions: ArrayQueue<Arc<Answer<Option<TcpSnapshot>>>>,

    // Of the threads.
    pub(super) reader: Mutex<Reader>,
    /// The reader has a frame that it has read a part of.
    pub(super) leftover: AtomicBool,
    pub(super) writer: Mutex<()>,
    read_gate: Gate,
    write_gate: Gate,
    event: Event,
}

/// Everything that a connection needs, before it is known which one it is.
pub(super) struct Blank {
    seat: Seat,
    lane: Arc<Lane>,
    config: SocketConfig,
    event: Event,
}

impl Blank {
    /// To be opened.
    pub(super) fn to(self, remote: SocketAddr) -> Arc<Connection> {
        Arc::new(self.fill(remote, None))
    }

    /// One that has come in by a listener.
    pub(super) fn accepted(
        self,
        id: ConnectionId,
        local: SocketAddr,
        remote: SocketAddr,
        name: &Arc<Name>,
    ) -> Arc<Connection> {
        let connection = self.fill(remote, Some(Arc::clone(name)));
        connection.introduce(id);
        let _ = connection.local.set(local);
        Arc::new(connection)
    }

    fn fill(self, remote: SocketAddr, name: Option<Arc<Name>>) -> Connection {
        let Self { seat, lane, config, event } = self;
        Connection {
            _seat: seat,
            _name: name,
            lane,
            manners: Manners::new(&config),
            options: Options::default(),
            asks: Asks::default(),
            id: OnceLock::new(),
            slot: OnceLock::new(),
            remote,
            local: OnceLock::new(),
            inbox: ArrayQueue::new(config.inbox_max.max(2)),
            inbox_blocked: AtomicBool::new(false),
            offered: AtomicBool::new(false),
            demanded: AtomicBool::new(false),
            stage: Stage::new(),
            finished: AtomicBool::new(false),
            segment_len: AtomicU32::new(SEGMENT_LEN_FIRST),
            outbox: ArrayQueue::new(config.outbox_max.max(2)),
            starved: AtomicBool::new(false),
            granted: AtomicBool::new(false),
            write_shut: AtomicBool::new(false),
            read_shut: AtomicBool::new(false),
            questions: ArrayQueue::new(QUESTIONS_MAX),
            reader: Mutex::default(),
            leftover: AtomicBool::new(false),
            writer: Mutex::new(()),
            read_gate: Gate::default(),
            write_gate: Gate::default(),
            event,
        }
    }
}

impl Connection {
    pub(super) fn blank(lane: &Arc<Lane>, config: &SocketConfig) -> std::io::Result<Blank> {
        Ok(Blank { seat: lane.enter()?, lane: Arc::clone(lane), config: *config, event: Event::new()? })
    }

    // ---- threads ----------------------------------------------------------------------------

    /// Has the worker do something.
    #[inline]
    pub(super) fn ask(self: &Arc<Self>, asks: u32) {
        if self.asks.put(asks) {
            self.lane.submit(Errand::Stream(Arc::clone(self)));
        }
    }

    pub(super) fn readiness(&self) -> Readiness {
        Readiness { readable: self.is_readable(), writable: self.is_writable() }
    }

    #[inline]
    pub(super) fn is_readable(&self) -> bool {
        let has_text = self.leftover.load(Ordering::Relaxed) || !self.inbox.is_empty();
        has_text || self.offered.load(Ordering::Relaxed) || self.is_at_end()
    }

    /// Whether nothing more will come into the inbox.
    #[inline]
    pub(super) fn is_at_end(&self) -> bool {
        self.finished.load(Ordering::Acquire) || self.is_over() || self.read_shut.load(Ordering::Relaxed)
    }

    /// Not before half of the outbox is free, so that a writer is not woken for each frame.
    #[inline]
    pub(super) fn is_writable(&self) -> bool {
        if self.is_over() || self.is_write_shut() {
            return true;
        }
        let has_room = self.outbox.len() * 2 <= self.lane.share.outbox_max() && !self.starved.load(Ordering::Relaxed);
        has_room && !self.is_opening()
    }

    pub(super) fn is_opening(&self) -> bool {
        self.stage.is_opening()
    }

    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.stage.is_over()
    }

    #[inline]
    pub(super) fn is_write_shut(&self) -> bool {
        self.write_shut.load(Ordering::Relaxed)
    }

    /// What went wrong, told once.
    pub(super) fn take_error(&self) -> Option<std::io::Error> {
        self.stage.take_error().map(error::of)
    }

    pub(super) fn await_readable(&self, until: Option<Instant>) -> bool {
        self.read_gate.wait(self.manners.spin, until, || self.is_readable())
    }

    pub(super) fn await_writable(&self, until: Option<Instant>) -> bool {
        self.write_gate.wait(self.manners.spin, until, || self.is_writable())
    }

    pub(super) fn watch(&self) -> BorrowedFd<'_> {
        self.event.watch(|| self.readiness())
    }

    pub(super) fn set_interest(&self, interest: Readiness) {
        self.event.set_interest(interest, || self.readiness());
    }

    /// Something was taken or put in: the descriptor's level follows.
    #[inline]
    pub(super) fn settle(&self) {
        self.event.settle(|| self.readiness());
    }

    /// Tells the worker that the inbox has room, if it waits for that and the room is worth it.
    #[inline]
    pub(super) fn make_room(self: &Arc<Self>) {
        fence(Ordering::SeqCst);
        let has_room = self.inbox.len() * 2 <= self.inbox.capacity();
        if has_room && self.inbox_blocked.load(Ordering::Relaxed) && self.inbox_blocked.swap(false, Ordering::AcqRel) {
            self.ask(ask::RECEIVE);
        }
    }

    /// Who has found nothing takes what the stack has, if there is no memory for it otherwise.
    #[inline]
    pub(super) fn demand(self: &Arc<Self>) {
        if self.offered.load(Ordering::Relaxed) && self.offered.swap(false, Ordering::AcqRel) {
            self.demanded.store(true, Ordering::Release);
            self.ask(ask::RECEIVE);
        }
    }

    /// Whether there is a place for a frame in the outbox, which is taken with that.
    #[inline]
    pub(super) fn take_place(&self) -> bool {
        let own = self.outbox.len();
        own < self.lane.share.outbox_max() || own == 0 && self.granted.swap(false, Ordering::Relaxed)
    }

    /// Tells other readers of what this one has left: who looked while it had that in hand saw nothing. Behind the fence of
    /// [`make_room`](Self::make_room).
    #[inline]
    pub(super) fn pass_on(&self) {
        if self.leftover.load(Ordering::Relaxed) {
            self.read_gate.open();
        }
    }

    pub(super) fn shut_reading(&self) {
        self.read_shut.store(true, Ordering::SeqCst);
        self.signal_reader();
    }

    /// No more is written from here on.
    pub(super) fn shut_writing(self: &Arc<Self>) {
        {
            let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            self.write_shut.store(true, Ordering::SeqCst);
        }
        self.ask(ask::SHUTDOWN);
        self.signal_writer();
    }

    pub(super) fn segment_len(&self) -> usize {
        self.segment_len.load(Ordering::Relaxed) as usize
    }

    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.local.get().copied()
    }

    /// Waits for the worker to look at the connection. `None`: it is over, or too many wait.
    pub(super) fn snapshot(self: &Arc<Self>) -> Option<TcpSnapshot> {
        if self.is_over() {
            return None;
        }
        let answer = Arc::new(Answer::default());
        self.questions.push(Arc::clone(&answer)).ok()?;
        self.ask(ask::SNAPSHOT);
        answer.wait().flatten()
    }

    // ---- the worker -------------------------------------------------------------------------

    pub(super) fn take_asks(&self) -> u32 {
        self.asks.take()
    }

    pub(super) fn id(&self) -> Option<ConnectionId> {
        self.id.get().copied()
    }

    /// The stack knows the connection by this number, which it keeps.
    pub(super) fn introduce(&self, id: ConnectionId) {
        let set = self.id.set(id);
        debug_assert!(set.is_ok(), "a connection has one number");
    }

    /// Where the worker has it, for as long as it does.
    pub(super) fn slot(&self) -> Option<u32> {
        self.slot.get().copied()
    }

    pub(super) fn note_slot(&self, slot: u32) {
        let set = self.slot.set(slot);
        debug_assert!(set.is_ok(), "a connection is taken in once");
    }

    /// The handshake is complete.
    pub(super) fn open(&self, local: SocketAddr, segment_len: usize) {
        let _ = self.local.set(local);
        self.note_segment_len(segment_len);
        self.stage.open();
        self.signal_writer();
    }

    pub(super) fn note_segment_len(&self, segment_len: usize) {
        self.segment_len.store(segment_len as u32, Ordering::Relaxed);
    }

    /// Whether the inbox takes another frame. If not, [`ask::RECEIVE`] comes when some were read, of an inbox that has any.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        if self.takes_another() {
            return true;
        }
        self.inbox_blocked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.takes_another()
    }

    #[inline]
    fn takes_another(&self) -> bool {
        let own = self.inbox.len();
        own < self.inbox.capacity() && (self.lane.share.may_hold(own) || own == 0 && self.may_have_last())
    }

    #[cold]
    fn may_have_last(&self) -> bool {
        self.demanded.load(Ordering::Acquire) && self.lane.share.has_last()
    }

    /// The stack's text found no memory: whoever wants to read is told that there is some, unless they know.
    pub(super) fn offer(&self) {
        if !self.demanded.load(Ordering::Acquire) && !self.offered.swap(true, Ordering::AcqRel) {
            self.signal_reader();
        }
    }

    /// What was demanded is there, or there is nothing.
    pub(super) fn note_served(&self) {
        if self.demanded.load(Ordering::Relaxed) || self.offered.load(Ordering::Relaxed) {
            self.demanded.store(false, Ordering::Relaxed);
            self.offered.store(false, Ordering::Relaxed);
        }
    }

    /// There are blank frames again.
    pub(super) fn feed(&self) {
        self.granted.store(self.lane.share.is_short(), Ordering::Relaxed);
        self.starved.store(false, Ordering::Relaxed);
        self.signal_writer();
    }

    pub(super) fn finish(&self) {
        self.finished.store(true, Ordering::Release);
    }

    /// The connection is over; with an error, or 0.
    pub(super) fn end(&self, error: i32) {
        if self.stage.end(error) {
            self.signal_reader();
            self.signal_writer();
            self.answer(|| None);
        }
    }

    /// There is something to read.
    pub(super) fn signal_reader(&self) {
        fence(Ordering::SeqCst);
        self.read_gate.open();
        self.event.raise(|| self.readiness());
    }

    /// There may be room to write.
    pub(super) fn signal_writer(&self) {
        fence(Ordering::SeqCst);
        if self.is_writable() {
            self.write_gate.open();
        }
        self.event.raise(|| self.readiness());
    }

    /// Answers everybody who asked for a snapshot, by one that is taken after the question was put.
    pub(super) fn answer(&self, snapshot: impl Fn() -> Option<TcpSnapshot>) {
        for _ in 0..self.questions.len() {
            let Some(question) = self.questions.pop() else { break };
            question.give(snapshot());
        }
    }

    /// Whether the application left something unread.
    pub(super) fn has_unread(&self) -> bool {
        self.leftover.load(Ordering::Acquire) || !self.inbox.is_empty()
    }

    /// Brings home all frames, once the connection is over: nobody takes or adds any after.
    pub(super) fn clear(&self) {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let unread = std::iter::from_fn(|| reader.take_frame().or_else(|| self.inbox.pop()));
        unread.for_each(|frame| self.lane.share.send_home(frame));
        self.leftover.store(false, Ordering::Relaxed);
        drop(reader);
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| self.outbox.pop()).for_each(|frame| self.lane.share.send_home(frame));
    }
}
