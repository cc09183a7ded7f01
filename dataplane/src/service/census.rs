//! A list of the workers' connections, page by page, for whoever asks from outside.
//!
//! ```text
//!   asker --- empty page, what is wanted ---> mailbox --> worker: a few places each turn, until the page is full
//!         <-- full page, where to go on -----
//! ```
//! The worker looks at [`PLACES_PER_TURN`] places of its table in a turn, and writes into memory that the asker brought
//! and frees. A connection that stays where it is is on one page; those that come and go meanwhile may be missed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use tailwater_stack::Stack;
use tailwater_stack::tcp::{State, TcpSnapshot};

use super::mailbox::Mailbox;
use crate::frame::Frame;
use crate::worker::Control;

/// Places of the table that a worker looks at in a turn: some microseconds.
const PLACES_PER_TURN: usize = 64;
/// Connections on a page at most.
pub const CENSUS_PAGE_MAX: usize = 8_192;
/// Time that a worker may take for a page.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_micros(200);

/// Which connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CensusFilter {
    /// In one of these states, as a set of bits: [`CensusFilter::state`]. Empty: in any.
    pub states: u16,
    /// With this port at either end.
    pub port: Option<u16>,
    /// IPv4 (`Some(true)`) or IPv6 only.
    pub ipv4: Option<bool>,
}

impl CensusFilter {
    /// A state's bit.
    pub fn state(state: State) -> u16 {
        1 << state as u16
    }

    fn takes(&self, state: State, local: SocketAddr, remote: SocketAddr) -> bool {
        (self.states == 0 || self.states & Self::state(state) != 0)
            && self.port.is_none_or(|port| local.port() == port || remote.port() == port)
            && self.ipv4.is_none_or(|ipv4| local.is_ipv4() == ipv4)
    }
}

/// Which page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CensusQuery {
    /// Number of the worker.
    pub worker: usize,
    /// Place to go on from: 0, or the last page's [`next`](CensusPage::next).
    pub from: usize,
    /// Connections at most, up to [`CENSUS_PAGE_MAX`]; 0: only listeners are wanted.
    pub limit: usize,
    pub filter: CensusFilter,
}

/// A listener of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CensusListener {
    pub at: SocketAddr,
    /// Connections whose handshake is not complete, and those that are not accepted yet.
    pub half_open: usize,
    pub waiting: usize,
}

/// A part of the list.
#[derive(Clone, Debug)]
pub struct CensusPage {
    number: u64,
    query: CensusQuery,
    at: usize,
    pub connections: Vec<TcpSnapshot>,
    /// On a worker's first page, whatever the filter.
    pub listeners: Vec<CensusListener>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<usize>,
}

/// Why there is no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum CensusError {
    #[error("there is no worker {0}")]
    NoWorker(usize),
    #[error("worker {0} does not answer; it may have stopped")]
    Unresponsive(usize),
}

impl CensusPage {
    fn new(number: u64, query: CensusQuery, listeners_max: usize) -> Self {
        let query = CensusQuery { limit: query.limit.min(CENSUS_PAGE_MAX), ..query };
        let listeners = Vec::with_capacity(if query.from == 0 { listeners_max } else { 0 });
        let connections = Vec::with_capacity(query.limit);
        Self { number, query, at: query.from, connections, listeners, next: None }
    }

    /// In the worker: looks at some more places; whether the page is done. Allocates nothing.
    pub(super) fn fill(&mut self, stack: &Stack<Frame>, now: tailwater_stack::Instant) -> bool {
        let Self { query: CensusQuery { from, limit, filter, .. }, at, connections, listeners, next, .. } = self;
        if *at == *from {
            let room = listeners.capacity() - listeners.len();
            let known = stack.tcp_listeners().take(room);
            listeners.extend(known.map(|(_, at, half_open, waiting)| CensusListener { at, half_open, waiting }));
        }
        let places = if *limit > 0 { stack.tcp_places() } else { 0 };
        let end = (*at + PLACES_PER_TURN.min(*limit - connections.len())).min(places);
        let wanted = |state, local, remote| filter.takes(state, local, remote);
        connections.extend(stack.tcp_connections_at(*at..end.max(*at), now, wanted));
        *at = end.max(*at);
        *next = (*at < places).then_some(*at);
        next.is_none() || connections.len() >= *limit
    }
}

/// Asks workers for their connections; among the services of a host's dataplane.
pub struct Census {
    mailboxes: Arc<[Mailbox]>,
    listeners_max: usize,
    /// The number of the last page. One page is under way at a time.
    asking: Mutex<u64>,
}

impl Census {
    pub(super) fn new(mailboxes: Arc<[Mailbox]>, listeners_max: usize) -> Self {
        Self { mailboxes, listeners_max, asking: Mutex::new(0) }
    }

    /// Workers that can be asked.
    pub fn workers(&self) -> usize {
        self.mailboxes.len()
    }

    /// One page of one worker; `controls` are the runtime's, to wake it. Waits for the worker, some seconds at most.
    pub fn page(&self, controls: &[Arc<Control>], query: CensusQuery) -> Result<CensusPage, CensusError> {
        let worker = query.worker;
        let (Some(mailbox), Some(control)) = (self.mailboxes.get(worker), controls.get(worker)) else {
            return Err(CensusError::NoWorker(worker));
        };
        let mut number = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        *number += 1;
        let Pages { blank, full } = &mailbox.census;
        // One that the worker has not taken up belongs to an asker who has gone.
        drop(blank.force_push(Box::new(CensusPage::new(*number, query, self.listeners_max))));
        mailbox.note_mail();
        control.wake();
        let end = Instant::now() + PATIENCE;
        loop {
            match full.pop() {
                Some(page) if page.number == *number => return Ok(*page),
                // Likewise.
                Some(_) => continue,
                None if Instant::now() >= end => break,
                None => std::thread::sleep(LOOK),
            }
        }
        drop(blank.pop());
        Err(CensusError::Unresponsive(worker))
    }
}

/// The way of pages to one worker and back.
pub(super) struct Pages {
    blank: ArrayQueue<Box<CensusPage>>,
    full: ArrayQueue<Box<CensusPage>>,
}

impl Pages {
    pub(super) fn new() -> Self {
        // Beside the page that is waited for come those that were given up, which each asker clears away.
        Self { blank: ArrayQueue::new(1), full: ArrayQueue::new(4) }
    }

    /// Whether no page waits to be filled.
    pub(super) fn is_empty(&self) -> bool {
        self.blank.is_empty()
    }

    /// In the worker: a page to be filled.
    pub(super) fn take(&self) -> Option<Box<CensusPage>> {
        self.blank.pop()
    }

    /// In the worker: a page that is done, or nobody's any more. There is room: askers clear it.
    pub(super) fn give_back(&self, page: Box<CensusPage>) {
        let given = self.full.push(page);
        debug_assert!(given.is_ok(), "more pages came back than were asked for");
    }
}
