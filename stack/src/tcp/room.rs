//! Room below: text that could not leave waits in its connection, and not in a queue that would lose it.
//!
//! The surroundings tell how many packets may leave by an interface ([`Env::room`]). A connection sends no more text at a time
//! than that, nor more than [`TURN_MAX`] segments while others wait, but what it has begun it may end where there is more
//! ([`Env::spare_room`]); with more to send it stands in line for another turn.
//! Those that were lost go first. Linux does likewise with the queue of a device (TCP small queues, and a queue for each flow).
//!
//! ```text
//!   output --- room ---> way out
//!        \--- none ---> line: turn by turn, at the end of each burst
//! ```

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::Tcp;
use super::tcb::{Cx, Tcb};
use crate::buffer::Buffer;
use crate::env::Env;
use crate::stack::Stack;

/// Segments of one connection in a turn: as many as leave as one packet that the kernel cuts, and some of what an answer
/// has besides.
const TURN_MAX: u32 = 64;
/// Connections in line that are passed over in one burst because the interface of each has no room, while another has some.
const PASSED_MAX: usize = 64;

/// Connections that wait for room, each once: no more than there are.
#[derive(Debug, Default)]
pub(super) struct Line {
    queue: VecDeque<u32>,
    /// By the connections' numbers.
    stands: Vec<bool>,
}

impl Line {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether it did not stand there already.
    fn join(&mut self, index: u32, in_front: bool) -> bool {
        let at = index as usize;
        if at >= self.stands.len() {
            self.stands.resize(at + 1, false);
        }
        let Some(stands) = self.stands.get_mut(at).filter(|stands| !**stands) else { return false };
        *stands = true;
        if in_front {
            self.queue.push_front(index)
        } else {
            self.queue.push_back(index)
        }
        true
    }

    fn next(&mut self) -> Option<u32> {
        let index = self.queue.pop_front()?;
        if let Some(stands) = self.stands.get_mut(index as usize) {
            *stands = false;
        }
        Some(index)
    }
}

impl<B: Buffer> Stack<B> {
    /// Lets those who wait for room have their turns, as long as there is some.
    #[inline]
    pub(super) fn serve_line<E: Env<Buffer = B>>(&mut self, env: &mut E) {
        if !self.tcp.line.is_empty() {
            self.serve(env);
        }
    }

    fn serve<E: Env<Buffer = B>>(&mut self, env: &mut E) {
        let mut passed = 0;
        // Each pass takes room, or passes somebody over.
        while passed < PASSED_MAX && self.has_room(env) {
            let Some(index) = self.tcp.line.next() else { return };
            let before = self.tcp.counters.segments_out;
            // Another may have its place by now, and has nothing to send then, or may send it.
            self.along(index, env, |tcb, cx| tcb.output(cx));
            passed += usize::from(self.tcp.counters.segments_out == before);
        }
    }

    /// Whether anything may leave by any interface.
    fn has_room<E: Env<Buffer = B>>(&self, env: &E) -> bool {
        self.interfaces.iter().flatten().any(|interface| env.room(interface.station.id) > 0)
    }
}

impl<B> Tcp<B> {
    fn wait_for_room(&mut self, index: u32, in_front: bool) {
        self.counters.room_waits += u64::from(self.line.join(index, in_front));
    }
}

impl<B: Buffer> Tcb<B> {
    /// Segments of text that may leave in this turn.
    #[inline]
    pub(super) fn room_below<E: Env<Buffer = B>>(&self, cx: &Cx<'_, B, E>) -> u32 {
        let interface = match self.way.mtu {
            0 => self.next_hop(cx).ok().map(|hop| hop.interface),
            _ => Some(self.way.interface()),
        };
        match interface.map(|interface| (cx.env.room(interface), interface)) {
            // Nobody waits where there is always room; what has no way is discarded, and named.
            None | Some((usize::MAX, _)) => u32::MAX,
            Some((0, _)) => 0,
            Some((room, _)) if room >= TURN_MAX as usize => TURN_MAX,
            Some((room, interface)) => room.saturating_add(cx.env.spare_room(interface)).min(TURN_MAX as usize) as u32,
        }
    }

    /// The turn is over: with more to send, there is another. Whether there is: a window that has closed is waited for otherwise.
    #[cold]
    pub(super) fn waits_for_room<E: Env<Buffer = B>>(&mut self, cx: &mut Cx<'_, B, E>) -> bool {
        let waits = self.may_send();
        if waits {
            cx.stack.tcp.wait_for_room(self.id.index, self.queue.to_resend() > 0);
        }
        waits
    }
}
