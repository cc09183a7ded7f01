//! Several segments at once: what they make a connection send leaves when all of them were worked on, and whoever
//! reads them has answered. Acknowledgements, windows and answers then go out together, and timers move once.
//!
//! A connection that meets trouble in a burst (a gap, a loss) does not wait: what it has to say then, each segment says.

use alloc::vec::Vec;

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
}

impl<B: Buffer> Stack<B> {
    /// From now on until [`end_burst`](Self::end_burst), which must follow before time goes on, connections without
    /// trouble keep what they have to send.
    #[inline]
    pub fn begin_burst(&mut self) {
        self.tcp.burst.is_on = true;
    }

    /// Sends what connections have kept since [`begin_burst`](Self::begin_burst).
    #[inline]
    pub fn end_burst<E: Env<Buffer = B>>(&mut self, env: &mut E) {
        self.tcp.burst.is_on = false;
        // Nothing is added to the list outside of a burst.
        while let Some(index) = self.tcp.burst.unfinished.pop() {
            self.finish(index, env);
        }
    }

    fn finish<E: Env<Buffer = B>>(&mut self, index: u32, env: &mut E) {
        // Another may have its place by now.
        if self.tcp.table.peek(index).is_none_or(|tcb| !tcb.unfinished) {
            return;
        }
        self.with(index, env, |tcb, cx| {
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
