//! What leaves at the end of a turn, and what becomes of packets that find no room.
//!
//! Packets that came in and only go on are dropped: a queue here would only add delay to an overload. The text of our own TCP
//! is not: it would have to be sent again. Its stack is told how much room there is (`Graph::set_room`) and keeps the rest,
//! and what a port leaves all the same waits for the next turn.

use super::batching::BATCH_MAX;
use super::{Tally, Worker};
use crate::block::Room;
use crate::frame::{Batch, Frame, Pool};
use crate::ledger::DropReason;
use crate::port::Port;
use crate::trace::Probe;

/// Packets made in blocks that leave by a port in a turn: what comes back because of them, an acknowledgement for each at
/// most, is no more than is received in a turn. It also is what is still in the cache when the port reads it.
const ROOM_MAX: usize = BATCH_MAX;
/// Besides, packets of a connection that has begun: the stack's bound for the turn of one.
const SPARE_MAX: usize = 64;
/// Part of the free places in a transmit ring that is for what only answers: acknowledgements, resets, echoes.
const ANSWERS_PART: usize = 4;
/// Packets of our own TCP that wait for a port at most. The stack sends nothing as long as as many wait as have room; blocks
/// that delay packets may let go more at once.
const KEPT_MAX: usize = 2 * ROOM_MAX;

impl Worker {
    /// Says how much may leave by each port in the turn that begins.
    #[inline(always)]
    pub(super) fn look_for_room(&mut self, places: usize) {
        let Self { ports, graph, .. } = self;
        if !graph.asks_for_room() {
            return;
        }
        for (at, port) in ports[..places].iter_mut().enumerate() {
            let waiting = graph.sink(at).map_or(0, |sink| sink.len());
            graph.set_room(at, room(port.as_mut(), waiting));
        }
    }

    /// Sends what waits for the ports; returns how many packets left, in one way or another.
    #[inline(always)]
    pub(super) fn send(&mut self, places: usize, now_ns: u64) -> usize {
        let Self { ports, graph, pool, tally, releasing, probe, .. } = self;
        let mut left = 0;
        for (at, port) in ports[..places].iter_mut().enumerate() {
            let port = port.as_mut();
            if let Some(waiting) = graph.sink(at).filter(|waiting| !waiting.is_empty()) {
                left += waiting.len();
                match probe {
                    None => transmit(port, waiting, pool),
                    Some(probe) => transmit_traced(at, port, waiting, pool, *releasing, probe, now_ns),
                }
                if !waiting.is_empty() {
                    Remains::of(port, *releasing).discard(waiting, pool, tally);
                    left -= waiting.len();
                }
            }
            port.flush(pool);
            let completes = port.capabilities().segmentation;
            if completes != graph.completes_sums(at) {
                graph.set_completes_sums(at, completes);
            }
        }
        *releasing = releasing.saturating_sub(1);
        left
    }
}

/// How many packets made in blocks may leave by a port for which `waiting` packets wait already.
#[inline]
fn room(port: &mut dyn Port, waiting: usize) -> Room {
    let free = port.tx_room(2 * ROOM_MAX);
    let free = (free - free / ANSWERS_PART).saturating_sub(waiting);
    let left = free.min(ROOM_MAX);
    Room { left, spare: (free - left).min(SPARE_MAX) }
}

/// Hands a port its packets. When its ring is full the kernel gets one chance to make room.
#[inline]
fn transmit(port: &mut dyn Port, waiting: &mut Batch, pool: &mut Pool) {
    port.transmit(pool, waiting);
    if !waiting.is_empty() {
        port.flush(pool);
        port.transmit(pool, waiting);
    }
}

/// As [`transmit`], and writes down what became of marked packets.
#[cold]
#[inline(never)]
fn transmit_traced(
    at: usize,
    port: &mut dyn Port,
    waiting: &mut Batch,
    pool: &mut Pool,
    releasing: u32,
    probe: &mut Probe,
    now_ns: u64,
) {
    let leaving = probe.leaving(waiting);
    transmit(port, waiting, pool);
    let remains = Remains::of(port, releasing);
    let taken = leaving - waiting.len();
    let frames = waiting.iter().as_slice();
    let fate = |place: usize| remains.fate(place - taken, frames.get(place - taken)?);
    probe.left(at, taken, |place| fate(place).map(DropReason::name), now_ns);
}

/// What becomes of packets that a port leaves.
#[derive(Clone, Copy)]
enum Remains {
    /// All wait for the next turn.
    Waits,
    /// All are dropped.
    Down,
    /// What can be sent again waits.
    Full,
}

impl Remains {
    /// `releasing`: turns left in which everything waits.
    fn of(port: &dyn Port, releasing: u32) -> Self {
        match releasing {
            0 if port.is_down() => Self::Down,
            0 => Self::Full,
            _ => Self::Waits,
        }
    }

    /// Why the packet in this place of those that a port leaves is dropped; `None`: it is not.
    fn fate(self, place: usize, frame: &Frame) -> Option<DropReason> {
        match self {
            Self::Waits => None,
            Self::Down => Some(DropReason::PortDown),
            Self::Full if frame.is_lent() && place < KEPT_MAX => None,
            Self::Full => Some(DropReason::TxRingFull),
        }
    }

    #[cold]
    fn discard(self, waiting: &mut Batch, pool: &mut Pool, tally: &mut Tally) {
        let mut places = 0..;
        let dropped = waiting.extract(|frame| {
            let reason = places.next().and_then(|place| self.fate(place, frame));
            reason.inspect(|&reason| tally.ledger.count(reason)).is_some()
        });
        dropped.for_each(|frame| pool.release(frame));
        tally.kept_back += waiting.len() as u64;
    }
}
