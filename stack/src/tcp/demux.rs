//! From a packet to its connection, and around each piece of work on one.

use alloc::boxed::Box;
use core::time::Duration;

use super::Tcp;
use super::course::Course;
use super::event::{ConnectionId, Piece};
use super::seg::Seg;
use super::state::State;
use super::tcb::{Cx, Tcb};
use crate::buffer::Buffer;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::packet::Packet;
use crate::stack::Stack;
use crate::time::Instant;
use crate::verdict::Verdict;

/// Between two expiries of one connection's timers.
const PAUSE_MIN: Duration = Duration::from_micros(100);

impl<B> Tcp<B> {
    /// Has the application told what it does not know of a connection.
    #[inline(always)]
    fn queue_news(&mut self, tcb: &mut Tcb<B>) {
        if !tcb.news.has(Piece::Queued) && tcb.news.any() && tcb.tells() {
            tcb.news.add(Piece::Queued);
            self.news.push_back(tcb.id);
        }
    }
}

impl<B> Tcb<B> {
    /// Whether there is an application to be told.
    #[inline]
    fn tells(&self) -> bool {
        !self.orphan && (self.listener.is_none() || self.news.has(Piece::Accepted))
    }
}

impl<B: Buffer> Stack<B> {
    pub(crate) fn on_tcp<E: Env<Buffer = B>>(&mut self, packet: Packet, buffer: B, env: &mut E) -> Verdict<B> {
        self.tcp.counters.segments_in += 1;
        // RFC 9293 §3.9.2.3, MUST-57: not to or from a group.
        if !packet.is_unicast() || packet.source.is_unspecified() {
            return self.drop_packet(buffer, DropReason::TcpGroup, env);
        }
        let seg = match Seg::admit(&packet, &buffer) {
            Ok(seg) => seg,
            Err(reason) => return self.drop_packet(buffer, reason, env),
        };
        let Some(index) = self.tcp.table.find(&seg.flow) else {
            return self.on_segment_closed(&seg, buffer, env);
        };
        if self.tcp.table.peek(index).is_some_and(|tcb| tcb.yields_to(&seg)) {
            return self.reopen(index, &seg, buffer, env);
        }
        self.note_heard(index, &packet, &buffer);
        let mut given = Some(buffer);
        let verdict = self.with(index, env, |tcb, cx| given.take().map(|buffer| tcb.on_segment(&seg, buffer, cx)));
        match (verdict.flatten(), given) {
            (Some(verdict), _) => verdict,
            (None, Some(buffer)) => self.drop_packet(buffer, DropReason::TcpClosed, env),
            (None, None) => Verdict::Consumed,
        }
    }

    /// Works on a connection in whatever way, and looks over afterwards how it goes on.
    pub(super) fn with<E: Env<Buffer = B>, R>(
        &mut self,
        index: u32,
        env: &mut E,
        work: impl FnOnce(&mut Tcb<B>, &mut Cx<'_, B, E>) -> R,
    ) -> Option<R> {
        self.along(index, env, |tcb, cx| {
            tcb.course = Course::default();
            let result = work(tcb, cx);
            tcb.look_over();
            result
        })
    }

    /// Works on a connection without bringing it off its course: takes it out, puts it back, arms its timers, queues its news,
    /// forgets it if it is over.
    #[inline]
    pub(super) fn along<E: Env<Buffer = B>, R>(
        &mut self,
        index: u32,
        env: &mut E,
        work: impl FnOnce(&mut Tcb<B>, &mut Cx<'_, B, E>) -> R,
    ) -> Option<R> {
        let tcb = self.tcp.table.take(index)?;
        Some(self.work_on(index, tcb, env, work))
    }

    /// The same with one that was taken out.
    #[inline(always)]
    pub(super) fn work_on<E: Env<Buffer = B>, R>(
        &mut self,
        index: u32,
        mut tcb: Box<Tcb<B>>,
        env: &mut E,
        work: impl FnOnce(&mut Tcb<B>, &mut Cx<'_, B, E>) -> R,
    ) -> R {
        let was = tcb.state;
        let now = env.now();
        let result = work(&mut tcb, &mut Cx { stack: self, env, now });
        self.put_down(index, tcb, was, env);
        result
    }

    /// The work on a connection that `was` in this state is done.
    #[inline(always)]
    pub(super) fn put_down<E: Env<Buffer = B>>(&mut self, index: u32, mut tcb: Box<Tcb<B>>, was: State, env: &mut E) {
        debug_assert!(tcb.is_on_course());
        debug_assert!(!tcb.orphan || !tcb.news.any(), "nobody is there to be told");
        let tcp = &mut self.tcp;
        if tcb.state == State::Closed {
            self.settle_closed(index, tcb, was, env);
        } else if tcp.burst.is_on {
            // It has its turn at the end of the burst.
            tcp.queue_news(&mut tcb);
            tcp.burst.add(index, &mut tcb.unfinished);
            tcp.table.put(index, tcb);
        } else {
            self.settle(index, tcb, env.now());
        }
    }

    /// A connection that `was` in another state is over.
    fn on_closed<E: Env<Buffer = B>>(&mut self, index: u32, tcb: &mut Tcb<B>, was: State, env: &mut E) {
        let now = env.now();
        tcb.on_closed(&mut Cx { stack: self, env, now });
        self.tcp.table.unbind(&tcb.flow, index);
        self.tcp.time_waits -= usize::from(was == State::TimeWait);
        if let Some(listener) = tcb.listener.filter(|_| was == State::SynReceived) {
            self.tcp.listeners.on_half_open_gone(listener);
        }
    }

    /// As [`along`](Self::along), for whoever holds the connection.
    #[inline]
    pub(super) fn along_id<E: Env<Buffer = B>, R>(
        &mut self,
        id: ConnectionId,
        env: &mut E,
        work: impl FnOnce(&mut Tcb<B>, &mut Cx<'_, B, E>) -> R,
    ) -> Option<R> {
        let tcb = self.tcp.table.take_if(id, |tcb| !tcb.orphan && tcb.listener.is_none())?;
        Some(self.work_on(id.index, tcb, env, work))
    }

    /// As [`with`](Self::with), for whoever holds the connection.
    pub(super) fn with_id<E: Env<Buffer = B>, R>(
        &mut self,
        id: ConnectionId,
        env: &mut E,
        work: impl FnOnce(&mut Tcb<B>, &mut Cx<'_, B, E>) -> R,
    ) -> Option<R> {
        self.tcp.table.get(id).filter(|tcb| !tcb.orphan && tcb.listener.is_none())?;
        self.with(id.index, env, work)
    }

    #[inline]
    fn settle(&mut self, index: u32, mut tcb: Box<Tcb<B>>, now: Instant) {
        let tcp = &mut self.tcp;
        tcp.queue_news(&mut tcb);
        let next = tcb.timers.next();
        if !next.is_some_and(|at| tcp.wheel.fires_by(index, at)) {
            // Not at once again, so that a burst of timeouts ends whatever the pauses are configured to.
            tcp.wheel.schedule(index, next.map(|at| at.max(now + PAUSE_MIN)));
        }
        tcp.table.put(index, tcb);
    }

    /// Forgets a connection that is over, once its application knows everything of it.
    #[inline(never)]
    fn settle_closed<E: Env<Buffer = B>>(&mut self, index: u32, mut tcb: Box<Tcb<B>>, was: State, env: &mut E) {
        if was != State::Closed {
            self.on_closed(index, &mut tcb, was, env);
        }
        tcb.course = Course::default();
        let tcp = &mut self.tcp;
        tcp.wheel.schedule(index, None);
        if !tcb.tells() || (tcb.news.closed.is_none() && tcb.received.ready_bytes() == 0) {
            tcp.table.vacate(index);
            return;
        }
        tcp.queue_news(&mut tcb);
        tcp.table.put(index, tcb);
    }

    /// What is due on the wheel.
    pub(crate) fn on_tcp_timeout<E: Env<Buffer = B>>(&mut self, env: &mut E) {
        let now = env.now();
        // Each pass takes an entry off the wheel; those armed on the way are later than now.
        while let Some(index) = self.tcp.wheel.expire(now) {
            self.with(index, env, |tcb, cx| tcb.on_timeout(cx));
        }
    }
}
