//! Several segments at once: what they make a connection send leaves when all of them were worked on, and whoever
//! reads them has answered. Acknowledgements, windows and answers then go out together, and timers move once.
//!
//! An application that is told of something answers at once: what it has written leaves while it is at hand, and those who
//! are told later find out whether there is still room (`room`).
//!
//! A connection that meets trouble in a burst (a gap, a loss) does not wait: what it has to say then, each segment says.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::event::ConnectionId;
use super::tcb::{Cx, Tcb};
use crate::buffer::Buffer;
use crate::env::Env;
use crate::stack::Stack;

/// The burst under way, if there is one.
#[derive(Debug, Default)]
pub(super) struct Burst {
    pub(super) is_on: bool,
    /// Connections that were worked on in it, each once; no more than there are.
    pub(super) unfinished: Vec<u32>,
    /// How many of them have had their turn already: mostly all, when they answered.
    answered: usize,
}

impl Burst {
    /// A connection, whose mark this is, has its turn at the end.
    #[inline]
    pub(super) fn add(&mut self, index: u32, unfinished: &mut bool) {
        if !core::mem::replace(unfinished, true) {
            self.unfinished.push(index);
        }
    }
}

impl<B: Buffer> Stack<B> {
    /// From now on until [`end_burst`](Self::end_burst), which must follow before time goes on, connections without
    /// trouble keep what they have to send.
    #[inline]
    pub fn begin_burst(&mut self) {
        self.tcp.burst.is_on = true;
    }

    /// Sends what waits for [room](Env::room) since earlier bursts: before applications are told of anything, as these would
    /// take the room with what they answer.
    #[inline]
    pub fn tcp_go_on<E: Env<Buffer = B>>(&mut self, env: &mut E) {
        if self.tcp.line.is_empty() {
            return;
        }
        let is_on = core::mem::replace(&mut self.tcp.burst.is_on, false);
        self.serve_line(env);
        self.tcp.burst.is_on = is_on;
    }

    /// Sends what connections have kept since [`begin_burst`](Self::begin_burst). Where there is too little
    /// [room](Env::room), [`is_quiet`](Self::is_quiet) says so, and another burst goes on.
    #[inline]
    pub fn end_burst<E: Env<Buffer = B>>(&mut self, env: &mut E) {
        self.tcp.burst.is_on = false;
        self.serve_line(env);
        if self.tcp.burst.answered < self.tcp.burst.unfinished.len() {
            self.finish_all(env);
        }
        self.tcp.burst.unfinished.clear();
        self.tcp.burst.answered = 0;
    }

    #[inline(never)]
    fn finish_all<E: Env<Buffer = B>>(&mut self, env: &mut E) {
        // Nothing is added to the list outside of a burst.
        for at in 0..self.tcp.burst.unfinished.len() {
            if let Some(&index) = self.tcp.burst.unfinished.get(at)
                // Another may have its place by now.
                && self.tcp.table.peek(index).is_some_and(|tcb| tcb.unfinished)
                && let Some(tcb) = self.tcp.table.take(index)
            {
                self.finish(index, tcb, env);
            }
        }
        self.serve_line(env);
    }

    /// Sends what one connection has kept, if nothing else is to be told of it: its application has answered.
    #[inline]
    pub fn tcp_answered<E: Env<Buffer = B>>(&mut self, id: ConnectionId, env: &mut E) {
        if let Some(tcb) = self.tcp.table.take_if(id, |tcb| tcb.unfinished && !tcb.news.any()) {
            let burst = &mut self.tcp.burst;
            burst.answered += 1;
            let is_on = core::mem::replace(&mut burst.is_on, false);
            self.finish(id.index, tcb, env);
            self.tcp.burst.is_on = is_on;
        }
    }

    #[inline]
    fn finish<E: Env<Buffer = B>>(&mut self, index: u32, tcb: Box<Tcb<B>>, env: &mut E) {
        self.work_on(index, tcb, env, |tcb, cx| {
            tcb.unfinished = false;
            tcb.output(cx);
        });
    }
}

impl<B: Buffer> Tcb<B> {
    /// Sends whatever may leave, at the burst's end if there is one.
    #[inline]
    pub(super) fn output_soon<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) {
        if !cx.stack.tcp.burst.is_on {
            self.output(cx);
        }
    }

    /// Nothing is missing in either direction, nor reported to be.
    #[inline]
    pub(super) fn is_calm(&self) -> bool {
        !self.received.has_early() && self.sack_report.is_none() && !self.recovery.is_active()
    }
}
