//! Between the director, a thread that may wait, and the workers, which must not: bounded queues both ways, and the test
//! that newcomers may join.
//!
//! ```text
//!               Order: say this, open streams, hang up         looked at once a tick by workers that have business
//!   director  ------------------------------------------>  worker
//!   (thread)  <------------------------------------------
//!               Event: a client is there, bytes came, a sample
//! ```
//!
//! What is shared is touched when connections come and go and once a tick, never for a packet.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_queue::ArrayQueue;
use tailwater_stack::tcp::CloseReason;

use super::meter::Sample;
use super::rr::News;
use super::settings::End;
use super::test::Test;

/// Orders that wait for one worker. A conversation is a dozen.
const ORDERS_MAX: usize = 64;
/// Events that wait for the director: samples of 256 streams, several times over.
const EVENTS_MAX: usize = 4_096;

/// What the director wants of a worker.
pub(super) enum Order {
    /// Connect to the server, for the control connection of this session.
    Call(u64, SocketAddr),
    /// Send this on the control connection.
    Say(u64, Vec<u8>),
    /// Take part: open streams.
    Begin(Arc<Test>),
    /// The session is over: close what belongs to it, and then let the next client come, if that is this worker's to do.
    Disband { session: u64, reset: bool, release: bool },
}

/// What happened in a worker; the number is the session's.
pub(super) enum Event {
    /// The control connection is there.
    Control {
        session: u64,
        worker: usize,
        control: Met,
    },
    /// It could not be opened.
    NotConnected {
        session: u64,
        why: String,
    },
    /// Bytes came on it.
    Heard {
        session: u64,
        bytes: Vec<u8>,
    },
    /// It is over.
    HungUp {
        session: u64,
        reason: CloseReason,
    },
    /// A stream is there.
    Opened {
        session: u64,
        stream: Opened,
    },
    /// A worker's streams take data, or send it: the test itself knows.
    Begun,
    /// A stream ended that should not have.
    StreamLost {
        session: u64,
        why: String,
    },
    /// A stream has sent all that it had to, and the peer has it.
    Sent {
        session: u64,
    },
    Sample {
        session: u64,
        sample: Sample,
    },
    /// Requests and responses.
    Transacted {
        session: u64,
        news: News,
    },
}

/// A control connection.
#[derive(Clone, Debug)]
pub(super) struct Met {
    pub(super) remote: SocketAddr,
    /// The cookie that a client came with.
    pub(super) cookie: Option<super::protocol::Cookie>,
    /// Bytes of payload per segment.
    pub(super) smss: u32,
}

/// A stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    pub(super) ticket: usize,
    /// When its first packet came or went: in this order the client has opened them.
    pub(super) opened_ns: u64,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// Its congestion control, for TCP.
    pub(super) congestion: Option<&'static str>,
}

/// What they share.
pub(super) struct Desk {
    pub(super) end: End,
    /// By worker.
    orders: Vec<ArrayQueue<Order>>,
    events: SyncSender<Event>,
    events_lost: AtomicU64,
    test: Mutex<Option<Arc<Test>>>,
    /// There is a session: further clients are turned away.
    taken: AtomicBool,
    /// How many were, since somebody last asked.
    turned_away: AtomicU64,
    /// UDP flows may join.
    admits_udp: AtomicBool,
    sessions: AtomicU64,
    stopping: AtomicBool,
    /// Nanoseconds between samples; 0: none but the last.
    pub(super) interval_ns: u64,
}

impl Desk {
    pub(super) fn new(end: End, workers: usize, interval_ns: u64) -> (Arc<Self>, Receiver<Event>) {
        let (events, receiver) = sync_channel(EVENTS_MAX);
        let desk = Self {
            end,
            orders: (0..workers).map(|_| ArrayQueue::new(ORDERS_MAX)).collect(),
            events,
            events_lost: AtomicU64::new(0),
            test: Mutex::new(None),
            taken: AtomicBool::new(false),
            turned_away: AtomicU64::new(0),
            admits_udp: AtomicBool::new(false),
            sessions: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            interval_ns,
        };
        (Arc::new(desk), receiver)
    }

    pub(super) fn workers(&self) -> usize {
        self.orders.len()
    }

    // ---- the director's ---------------------------------------------------------------------

    /// Whether there was room for it: a worker without business does not look, and has nothing to do with it.
    pub(super) fn order(&self, worker: usize, order: Order) -> bool {
        self.orders.get(worker).is_some_and(|orders| orders.push(order).is_ok())
    }

    /// Whom newcomers may join; `None`: nobody.
    pub(super) fn set_test(&self, test: Option<Arc<Test>>) {
        let udp = test.as_ref().is_some_and(|test| test.settings.transport == super::settings::Transport::Udp);
        *self.test.lock().unwrap_or_else(PoisonError::into_inner) = test;
        self.admits_udp.store(udp, Ordering::Release);
    }

    /// The next client may come.
    pub(super) fn release(&self) {
        self.set_test(None);
        self.taken.store(false, Ordering::Release);
    }

    /// How many were turned away since this was last asked.
    pub(super) fn take_turned_away(&self) -> u64 {
        self.turned_away.swap(0, Ordering::Relaxed)
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(super) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(super) fn events_lost(&self) -> u64 {
        self.events_lost.load(Ordering::Relaxed)
    }

    // ---- the workers' -----------------------------------------------------------------------

    pub(super) fn next_order(&self, worker: usize) -> Option<Order> {
        self.orders.get(worker)?.pop()
    }

    /// Gives it back if there is no room.
    pub(super) fn try_tell(&self, event: Event) -> Result<(), Event> {
        self.events.try_send(event).map_err(|refused| match refused {
            std::sync::mpsc::TrySendError::Full(event) | std::sync::mpsc::TrySendError::Disconnected(event) => event,
        })
    }

    /// Counts it if there is no room.
    pub(super) fn tell(&self, event: Event) {
        if self.try_tell(event).is_err() {
            self.events_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn test(&self) -> Option<Arc<Test>> {
        self.test.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn admits_udp(&self) -> bool {
        self.admits_udp.load(Ordering::Acquire)
    }

    /// A number for a new session, if there is none under way and the director hears of it.
    pub(super) fn take(&self, worker: usize, control: Met) -> Option<u64> {
        self.taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire).ok()?;
        let session = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let told = self.try_tell(Event::Control { session, worker, control });
        if told.is_err() {
            self.release();
        }
        told.is_ok().then_some(session)
    }

    pub(super) fn on_turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(desk: &Desk) -> Option<u64> {
        let remote = "192.0.2.1:40000".parse().unwrap();
        desk.take(0, Met { remote, cookie: None, smss: 1_448 })
    }

    #[test]
    fn one_session_at_a_time() {
        let (desk, _events) = Desk::new(End::Server, 1, 0);
        assert_eq!((take(&desk), take(&desk)), (Some(1), None));
        desk.release();
        assert_eq!(take(&desk), Some(2));
    }

    #[test]
    fn a_session_that_the_director_cannot_hear_of_is_none() {
        let (desk, events) = Desk::new(End::Server, 1, 0);
        (0..EVENTS_MAX).for_each(|_| desk.tell(Event::Begun));
        assert_eq!((take(&desk), take(&desk)), (None, None));
        assert_eq!(events.try_iter().count(), EVENTS_MAX);
        assert!(take(&desk).is_some(), "the next one is served");
        assert!(matches!(events.try_recv(), Ok(Event::Control { .. })));
    }

    #[test]
    fn events_beyond_the_bound_are_counted_and_nothing_waits() {
        let (desk, events) = Desk::new(End::Server, 1, 0);
        for _ in 0..EVENTS_MAX + 3 {
            desk.tell(Event::Sent { session: 1 });
        }
        assert_eq!((desk.events_lost(), events.try_iter().count()), (3, EVENTS_MAX));
    }
}
