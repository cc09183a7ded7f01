//! What an application does with TCP: methods of [`Stack`].

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::net::SocketAddr;

use super::congestion::{Control, Start, exchange};
use super::counters::TcpCounters;
use super::course::Course;
use super::event::{CloseReason, ConnectionId, ListenerId, News, Piece, TcpEvent};
use super::extension::Extend;
use super::listen::{Listen, ListenError};
use super::snapshot::TcpSnapshot;
use super::state::State;

use crate::buffer::Buffer;
use crate::env::Env;
use crate::stack::Stack;

/// Bytes that a connection may have waiting in each direction, however little memory there is.
const SHARE_BYTES_MIN: u32 = 64 << 10;

/// Why a connection does not do what it is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TcpError {
    /// There is no such connection (any more).
    Unknown,
    /// It was shut down for sending.
    Shutdown,
    /// The peer has closed: everything was read.
    Finished,
    /// The send buffer is full; [`TcpEvent::Writable`] follows.
    Blocked,
}

impl<B: Buffer> Stack<B> {
    // ---- listening --------------------------------------------------------------------------

    /// Takes connections at `at` (address or unspecified for any of its family).
    pub fn tcp_listen(&mut self, at: SocketAddr, how: Listen) -> Result<ListenerId, ListenError> {
        self.tcp.listeners.open(at, how)
    }

    /// Puts a layer above the connections that the listener takes from now on, but for those that come
    /// back by a cookie: of these nothing was kept.
    pub fn tcp_extend(&mut self, listener: ListenerId, extend: Box<Extend<B>>) {
        self.tcp.extenders.retain(|(of, _)| *of != listener);
        self.tcp.extenders.push((listener, extend));
    }

    /// Refuses connections from now on, as if nobody listened, or takes them again. Whether there is such
    /// a listener.
    pub fn tcp_refuse(&mut self, listener: ListenerId, refuses: bool) -> bool {
        self.tcp.listeners.refuse(listener, refuses)
    }

    /// How many connections may wait to be accepted from now on; what comes beyond them is dropped, so that the peer tries
    /// again. An application that lets those wait which it was told of takes their number off. Whether there is such a
    /// listener.
    pub fn tcp_set_backlog(&mut self, listener: ListenerId, backlog_max: usize) -> bool {
        self.tcp.listeners.set_backlog(listener, backlog_max)
    }

    /// Takes no more; connections that were not accepted are reset. Whether there was one.
    pub fn tcp_unlisten<E: Env<Buffer = B>>(&mut self, listener: ListenerId, env: &mut E) -> bool {
        let closed = self.tcp.listeners.close(listener);
        self.tcp.extenders.retain(|(of, _)| *of != listener);
        for index in 0..self.tcp.table.slots_len() {
            if self.tcp.table.peek(index).is_some_and(|tcb| tcb.listener == Some(listener)) {
                self.with(index, env, |tcb, cx| {
                    tcb.orphan();
                    tcb.give_up(CloseReason::Reset, cx);
                });
            }
        }
        closed
    }

    // ---- sending ----------------------------------------------------------------------------

    /// Takes bytes to be sent, as many as the send buffer has room for; returns how many. If not all,
    /// [`TcpEvent::Writable`] follows. They are copied once, into the buffers that they leave from.
    pub fn tcp_send<E: Env<Buffer = B>>(
        &mut self,
        id: ConnectionId,
        bytes: &[u8],
        env: &mut E,
    ) -> Result<usize, TcpError> {
        let copy = |at: usize, room: &mut [u8]| Some(B::copy(room, &bytes[at..at + room.len()]));
        self.along_id(id, env, |tcb, cx| tcb.write(bytes.len(), copy, cx)).unwrap_or(Err(TcpError::Unknown))
    }

    /// As [`tcp_send`](Self::tcp_send), with `write` called with offset and room of each piece, in
    /// order.
    pub fn tcp_send_with<E: Env<Buffer = B>>(
        &mut self,
        id: ConnectionId,
        len: usize,
        mut write: impl FnMut(usize, &mut [u8]),
        env: &mut E,
    ) -> Result<usize, TcpError> {
        let write = |at: usize, room: &mut [u8]| {
            write(at, room);
            None
        };
        self.along_id(id, env, |tcb, cx| tcb.write(len, write, cx)).unwrap_or(Err(TcpError::Unknown))
    }

    /// Sends what lies in a buffer, nothing but text: without a copy if it has
    /// [`HEADROOM`](crate::HEADROOM) and is no longer than a segment. A received buffer can be sent
    /// on so. It comes back with the error.
    pub fn tcp_send_buffer<E: Env<Buffer = B>>(
        &mut self,
        id: ConnectionId,
        text: B,
        env: &mut E,
    ) -> Result<(), (TcpError, Option<B>)> {
        let mut given = Some(text);
        let sent = self.along_id(id, env, |tcb, cx| match given.take() {
            Some(text) => tcb.write_buffer(text, cx),
            None => Ok(()),
        });
        sent.unwrap_or_else(|| Err((TcpError::Unknown, given)))
    }

    /// Sends what lies in the buffers that `next` gives, each as
    /// [`tcp_send_buffer`](Self::tcp_send_buffer) does, while there is room; returns how many. They
    /// leave together. If room is what ended it, [`TcpEvent::Writable`] follows.
    pub fn tcp_send_buffers<E: Env<Buffer = B>>(
        &mut self,
        id: ConnectionId,
        mut next: impl FnMut() -> Option<B>,
        env: &mut E,
    ) -> Result<usize, TcpError> {
        self.along_id(id, env, |tcb, cx| tcb.write_buffers(&mut next, cx)).unwrap_or(Err(TcpError::Unknown))
    }

    /// Bytes of payload in a full segment, as it is now.
    pub fn tcp_segment_len(&self, id: ConnectionId) -> Option<usize> {
        self.tcp.table.get(id).map(|tcb| tcb.smss as usize)
    }

    /// The connection's own address and the peer's.
    pub fn tcp_addresses(&self, id: ConnectionId) -> Option<(SocketAddr, SocketAddr)> {
        let flow = self.tcp.table.get(id)?.flow;
        let scope = flow.zone().map_or(0, |zone| self.scope_of(zone));
        Some((flow.local_addr(scope), flow.remote_addr(scope)))
    }

    /// Bytes that [`tcp_send`](Self::tcp_send) would take; after a 0, [`TcpEvent::Writable`] follows
    /// when there is room.
    pub fn tcp_send_room(&mut self, id: ConnectionId) -> usize {
        let Some(own) = self.tcp.table.get_mut(id).map(|tcb| tcb.queue.len()) else { return 0 };
        // With nothing on its way no acknowledgement would tell of room.
        let held_up = own > 0 && !self.tcp.may_hold(own);
        let Some(tcb) = self.tcp.table.get_mut(id) else { return 0 };
        let room = if held_up { 0 } else { tcb.write_room() as usize };
        tcb.write_blocked |= room == 0;
        room
    }

    /// Ends our side, behind everything written: the peer reads the end. Reading goes on.
    pub fn tcp_shutdown<E: Env<Buffer = B>>(&mut self, id: ConnectionId, env: &mut E) -> Result<(), TcpError> {
        self.with_id(id, env, |tcb, cx| tcb.shutdown(cx)).ok_or(TcpError::Unknown)
    }

    // ---- receiving --------------------------------------------------------------------------

    /// The next text, in the buffer that it arrived in, with what was in front of it as headroom; the
    /// buffer is the caller's to give back to the pool. `None`: nothing has arrived, or no buffer is free for what
    /// [`tcp_read`](Self::tcp_read) has left of a text in several segments (no event tells when one is: ask again).
    #[inline(always)]
    pub fn tcp_receive<E: Env<Buffer = B>>(&mut self, id: ConnectionId, env: &mut E) -> Result<Option<B>, TcpError> {
        let tcb = self.tcp.table.get_mut(id).filter(|tcb| !tcb.orphan && tcb.listener.is_none());
        let tcb = tcb.ok_or(TcpError::Unknown)?;
        if tcb.received.begun() > 0 {
            return self.receive_rest(id, env);
        }
        let Some(text) = tcb.received.pop() else {
            return if tcb.peer_finished { self.receive_end(id, env) } else { Ok(None) };
        };
        tcb.note_read(text.len() as u32);
        let has_a_turn = self.tcp.burst.is_on && tcb.unfinished && tcb.state.takes_text();
        self.tcp.held = self.tcp.held.saturating_sub(1);
        self.ledger.delivered += 1;
        if !has_a_turn {
            self.consider_read(id, env);
        }
        Ok(Some(text))
    }

    /// The next text was read in part.
    #[cold]
    fn receive_rest<E: Env<Buffer = B>>(&mut self, id: ConnectionId, env: &mut E) -> Result<Option<B>, TcpError> {
        self.with_id(id, env, |tcb, cx| tcb.receive_rest(cx)).ok_or(TcpError::Unknown)
    }

    /// All has been read that the peer sent before its end.
    #[cold]
    fn receive_end<E: Env<Buffer = B>>(&mut self, id: ConnectionId, env: &mut E) -> Result<Option<B>, TcpError> {
        self.with_id(id, env, |tcb, _| tcb.nothing_to_read()).unwrap_or(Err(TcpError::Unknown))
    }

    /// The application has read something outside of a burst.
    #[inline(never)]
    fn consider_read<E: Env<Buffer = B>>(&mut self, id: ConnectionId, env: &mut E) {
        self.along_id(id, env, |tcb, cx| tcb.on_read(0, cx));
    }

    /// Copies what has arrived; returns how many bytes. 0: nothing has arrived, or no room is given.
    pub fn tcp_read<E: Env<Buffer = B>>(
        &mut self,
        id: ConnectionId,
        to: &mut [u8],
        env: &mut E,
    ) -> Result<usize, TcpError> {
        self.along_id(id, env, |tcb, cx| tcb.read(to, cx)).unwrap_or(Err(TcpError::Unknown))
    }

    /// Bytes that wait to be read.
    pub fn tcp_readable(&self, id: ConnectionId) -> usize {
        self.tcp.table.get(id).map_or(0, |tcb| tcb.received.ready_bytes() as usize)
    }

    // ---- the end ----------------------------------------------------------------------------

    /// Lets go of a connection: what was written is still sent, what arrives from now on makes it be
    /// reset. It has no more events.
    pub fn tcp_close<E: Env<Buffer = B>>(&mut self, id: ConnectionId, env: &mut E) -> Result<(), TcpError> {
        self.with_id(id, env, |tcb, cx| tcb.let_go(cx)).ok_or(TcpError::Unknown)
    }

    /// Ends a connection at once, by a reset (RFC 9293 §3.10.5). It has no more events.
    pub fn tcp_abort<E: Env<Buffer = B>>(&mut self, id: ConnectionId, env: &mut E) -> Result<(), TcpError> {
        let aborted = self.with_id(id, env, |tcb, cx| {
            tcb.orphan();
            tcb.give_up(CloseReason::Reset, cx);
        });
        aborted.ok_or(TcpError::Unknown)
    }

    // ---- events and state -------------------------------------------------------------------

    /// Whether [`tcp_poll`](Self::tcp_poll) has something to tell.
    #[inline]
    pub fn tcp_has_news(&self) -> bool {
        !self.tcp.news.is_empty()
    }

    /// What else there is to tell; ask until there is none.
    #[inline]
    pub fn tcp_poll(&mut self) -> Option<TcpEvent> {
        match self.tcp_poll_readable() {
            Some(id) => Some(TcpEvent::Readable(id)),
            None => self.first_event(),
        }
    }

    /// The next to tell of, if all there is to tell is that it has something to read ([`TcpEvent::Readable`]), as mostly. `None`:
    /// [`tcp_poll`](Self::tcp_poll) may have something else.
    #[inline]
    pub fn tcp_poll_readable(&mut self) -> Option<ConnectionId> {
        let id = self.tcp.news.front()?;
        let tcb = self.tcp.table.get_mut(id).filter(|tcb| tcb.news.is_readable_only())?;
        tcb.news = News::default();
        self.tcp.news.pop_front();
        Some(id)
    }

    #[inline(never)]
    fn first_event(&mut self) -> Option<TcpEvent> {
        while let Some(id) = self.tcp.news.front() {
            let event = self.next_event(id);
            match self.tcp.table.get_mut(id) {
                Some(tcb) if tcb.news.any() => {}
                Some(tcb) => {
                    tcb.news.take(Piece::Queued);
                    self.tcp.news.pop_front();
                }
                None => self.tcp.news.pop_front(),
            }
            if event.is_some() {
                return event;
            }
        }
        None
    }

    fn next_event(&mut self, id: ConnectionId) -> Option<TcpEvent> {
        let tcb = self.tcp.table.get_mut(id)?;
        if tcb.news.take(Piece::Accepted) {
            let (listener, flow) = (tcb.listener.take()?, tcb.flow);
            self.tcp.listeners.on_accepted(listener);
            let remote = flow.remote_addr(flow.zone().map_or(0, |zone| self.scope_of(zone)));
            return Some(TcpEvent::Accepted { listener, connection: id, remote });
        }
        let news = &mut tcb.news;
        if news.take(Piece::Connected) {
            return Some(TcpEvent::Connected(id));
        }
        if news.take(Piece::Readable) && news.closed.is_none_or(|reason| reason == CloseReason::Finished) {
            return Some(TcpEvent::Readable(id));
        }
        if news.take(Piece::Writable) && news.closed.is_none() {
            return Some(TcpEvent::Writable(id));
        }
        let reason = news.closed.take()?;
        self.forget(id);
        Some(TcpEvent::Closed(id, reason))
    }

    /// The application knows of the end.
    fn forget(&mut self, id: ConnectionId) {
        let Some(tcb) = self.tcp.table.get_mut(id) else { return };
        tcb.orphan();
        tcb.course = Course::default();
        if tcb.state == State::Closed && self.tcp.table.take(id.index).is_some() {
            self.tcp.table.vacate(id.index);
        }
    }

    /// Everything about a connection.
    pub fn tcp_snapshot(&self, id: ConnectionId, now: crate::Instant) -> Option<TcpSnapshot> {
        let tcb = self.tcp.table.get(id)?;
        Some(tcb.snapshot(tcb.flow.zone().map_or(0, |zone| self.scope_of(zone)), now))
    }

    /// Forgets every connection without a word to its peer, and gives their buffers back.
    pub fn tcp_forget_all<E: Env<Buffer = B>>(&mut self, env: &mut E) {
        for index in 0..self.tcp.table.slots_len() {
            self.with(index, env, |tcb, cx| {
                tcb.orphan();
                tcb.fail(CloseReason::Reset, cx);
            });
        }
    }

    /// Every connection, in no order.
    pub fn tcp_connections(&self, now: crate::Instant) -> impl Iterator<Item = TcpSnapshot> {
        self.tcp.table.iter().map(move |tcb| tcb.snapshot(tcb.flow.zone().map_or(0, |zone| self.scope_of(zone)), now))
    }

    /// Places for connections that there have been so far; see [`ConnectionId::place`].
    pub fn tcp_places(&self) -> usize {
        self.tcp.table.slots_len() as usize
    }

    /// The connections at these places that `wanted` takes, by state, local and remote address: for
    /// those who look at many connections, a few at a time.
    pub fn tcp_connections_at(
        &self,
        places: core::ops::Range<usize>,
        now: crate::Instant,
        wanted: impl Fn(State, SocketAddr, SocketAddr) -> bool,
    ) -> impl Iterator<Item = TcpSnapshot> {
        let tcbs = places.filter_map(|place| self.tcp.table.peek(u32::try_from(place).ok()?));
        let wanted = tcbs.filter(move |tcb| wanted(tcb.state, tcb.flow.local_addr(0), tcb.flow.remote_addr(0)));
        wanted.map(move |tcb| tcb.snapshot(tcb.flow.zone().map_or(0, |zone| self.scope_of(zone)), now))
    }

    /// Every listener: where, and how many connections are half open and wait.
    pub fn tcp_listeners(&self) -> impl Iterator<Item = (ListenerId, SocketAddr, usize, usize)> {
        self.tcp.listeners.iter().map(|listener| (listener.id, listener.at(), listener.half_open(), listener.waiting()))
    }

    /// Bounds the buffers that all connections together hold, for whoever knows how many there are: at
    /// most [`TcpConfig::buffers_max`](super::TcpConfig::buffers_max). By default a connection that is
    /// opened from now on sends and receives into a quarter of them each, if these are full segments of
    /// `segment` bytes: a window larger than the memory behind it only makes the peer lose segments.
    pub fn tcp_bound_buffers(&mut self, buffers_max: usize, segment: usize) {
        let bound = &mut self.tcp.config.buffers_max;
        *bound = buffers_max.min(*bound);
        let share = u32::try_from(*bound / 4 * segment).unwrap_or(u32::MAX).max(SHARE_BYTES_MIN);
        let options = Arc::make_mut(&mut self.tcp.defaults);
        options.send_buffer_max = options.send_buffer_max.min(share);
        options.receive_buffer_max = options.receive_buffer_max.min(share);
        options.receive_buffer = options.receive_buffer.min(share);
    }

    pub fn tcp_counters(&self) -> &TcpCounters {
        &self.tcp.counters
    }

    /// Holds small segments back, or not (RFC 9293 §3.7.4).
    pub fn tcp_set_nagle<E: Env<Buffer = B>>(
        &mut self,
        id: ConnectionId,
        nagle: bool,
        env: &mut E,
    ) -> Result<(), TcpError> {
        let set = self.with_id(id, env, |tcb, cx| {
            Arc::make_mut(&mut tcb.options).nagle = nagle;
            tcb.output(cx);
        });
        set.ok_or(TcpError::Unknown)
    }

    /// Gives what is sent from now on this DSCP: the upper six bits of the traffic class.
    pub fn tcp_set_dscp<E: Env<Buffer = B>>(
        &mut self,
        id: ConnectionId,
        dscp: u8,
        env: &mut E,
    ) -> Result<(), TcpError> {
        let set = self.with_id(id, env, |tcb, _| Arc::make_mut(&mut tcb.options).dscp = dscp);
        set.ok_or(TcpError::Unknown)
    }

    /// Bytes that may wait to be sent or acknowledged from now on; what waits already stays.
    pub fn tcp_set_send_buffer<E: Env<Buffer = B>>(
        &mut self,
        id: ConnectionId,
        bytes: u32,
        env: &mut E,
    ) -> Result<(), TcpError> {
        let set = self.with_id(id, env, |tcb, _| Arc::make_mut(&mut tcb.options).send_buffer_max = bytes);
        set.ok_or(TcpError::Unknown)
    }

    /// Puts another congestion control in place of the connection's.
    pub fn tcp_set_congestion_control<E: Env<Buffer = B>>(
        &mut self,
        id: ConnectionId,
        control: &'static Control,
        env: &mut E,
    ) -> Result<(), TcpError> {
        let set = self.with_id(id, env, |tcb, cx| {
            let path = Start {
                srtt: tcb.rtt.srtt(),
                min_rtt: tcb.rtt.min(),
                delivered: tcb.sampler.delivered(),
                ..Start::new(cx.now, tcb.smss, cx.env.random())
            };
            exchange(&mut tcb.congestion, control, &path);
            tcb.set_pace();
            Arc::make_mut(&mut tcb.options).congestion_control = control;
            tcb.output(cx);
        });
        set.ok_or(TcpError::Unknown)
    }

    fn scope_of(&self, zone: crate::InterfaceId) -> u32 {
        self.interface(zone).map_or(0, |interface| interface.station.config.scope_id)
    }
}
