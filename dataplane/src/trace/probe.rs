//! The worker's side of a trace: slots for the packets under way, and what was seen of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::blocks::bpf::Filter;
use crate::frame::{Batch, Frame, TRACE_SLOT_MAX};
use crate::ledger::Ledger;

/// Steps that a worker writes down in one trace.
const RECORDS_MAX: usize = 8192;
/// Bytes kept of a packet at each step: the longest usual headers, from Ethernet to TCP with options.
const HEADER_MAX: usize = 96;

/// The front of a packet at some moment.
#[derive(Clone, Copy)]
pub(crate) struct Snap {
    /// Bytes of the whole packet.
    pub(crate) len: u32,
    kept: u8,
    bytes: [u8; HEADER_MAX],
}

impl Snap {
    pub(crate) const NOTHING: Self = Self { len: 0, kept: 0, bytes: [0; HEADER_MAX] };

    pub(crate) fn of(frame: &Frame) -> Self {
        let mut snap = Self { len: frame.total_len() as u32, ..Self::NOTHING };
        snap.kept = frame.read_at(0, &mut snap.bytes) as u8;
        snap
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.kept)]
    }
}

/// What happened; outputs by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Received,
    Made(usize),
    Passed(usize),
    Copied(usize),
    Held,
    Delivered,
    Dropped(&'static str),
    Sent,
}

/// Where it happened, by place in the graph or number of the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Block(usize),
    Port(usize),
}

pub(super) struct Record {
    /// Number of the packet among those of this worker.
    pub(super) packet: u32,
    pub(super) at_ns: u64,
    pub(super) place: Place,
    pub(super) event: Event,
    pub(super) cycles: u64,
    pub(super) before: Snap,
    pub(super) after: Snap,
}

/// A packet under way.
#[derive(Clone, Copy)]
struct Slot {
    packet: u32,
    /// Frames that carry the mark: the packet and its copies. 0: the slot is free.
    frames: u32,
    /// The block that one of them was last seen to stay in.
    holder: Option<usize>,
    last: Snap,
}

/// Follows packets through one worker.
pub(crate) struct Probe {
    filter: Option<Filter>,
    /// Packets still to choose, of all workers.
    left: Arc<AtomicU32>,
    slots: Vec<Slot>,
    pub(super) records: Vec<Record>,
    /// Packets chosen here.
    pub(super) packets: u32,
    pub(super) passed_by: u64,
    pub(super) records_lost: u64,
    /// Marks that frames inside blocks may still carry from an earlier trace, by bit.
    stale: u64,
    /// Packets of a batch that wait for a marked one before them.
    pub(crate) waiting: Batch,
    /// Frames in each place before a step, and packets sent by each output.
    pub(crate) counted: Vec<u64>,
    /// Marked frames among those handed to a port: place in the batch and slot.
    leaving: Vec<(usize, u8, Snap)>,
}

impl Probe {
    /// Chooses packets that pass `filter` as long as there are any `left`. `places` is how many blocks, ports and outputs
    /// there are: what memory is needed for.
    pub(super) fn new(filter: Option<Filter>, left: Arc<AtomicU32>, places: usize) -> Self {
        let free = Slot { packet: 0, frames: 0, holder: None, last: Snap::NOTHING };
        Self {
            filter,
            left,
            slots: vec![free; usize::from(TRACE_SLOT_MAX) + 1],
            records: Vec::with_capacity(RECORDS_MAX),
            packets: 0,
            passed_by: 0,
            records_lost: 0,
            stale: 0,
            waiting: Batch::with_capacity(512),
            counted: Vec::with_capacity(places),
            leaving: Vec::with_capacity(usize::from(TRACE_SLOT_MAX) * 4),
        }
    }

    /// Avoids marks that an earlier trace has left on frames; all of them, and there would be none to use.
    pub(crate) fn avoid(&mut self, stale: u64) {
        self.stale = if stale.count_ones() < u32::from(TRACE_SLOT_MAX) { stale } else { 0 };
    }

    /// Marks that frames inside blocks carry on.
    pub(crate) fn left_behind(&self) -> u64 {
        let used = self.slots.iter().enumerate().filter(|(_, slot)| slot.frames > 0);
        used.fold(self.stale, |stale, (slot, _)| stale | 1 << slot)
    }

    /// Whether everything has been seen.
    pub(crate) fn is_done(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0 && !self.follows()
    }

    /// Whether a packet is under way.
    pub(crate) fn follows(&self) -> bool {
        self.slots.iter().any(|slot| slot.frames > 0)
    }

    /// Whether packets are still to be chosen.
    pub(crate) fn seeks(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0
    }

    /// Marks a packet if it is wanted.
    pub(crate) fn choose(&mut self, frame: &mut Frame, at_ns: u64, place: Place, event: Event) {
        if !self.seeks() || self.filter.as_ref().is_some_and(|filter| !filter.matches(frame)) {
            return;
        }
        let free = (1..self.slots.len()).find(|&slot| self.slots[slot].frames == 0 && self.stale & 1 << slot == 0);
        let Some(slot) = free else {
            self.passed_by += 1;
            return;
        };
        // Another worker may have chosen the last one in between.
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err() {
            return;
        }
        let last = Snap::of(frame);
        self.slots[slot] = Slot { packet: self.packets, frames: 1, holder: None, last };
        self.packets += 1;
        frame.set_trace_slot(slot as u8);
        self.write(slot as u8, at_ns, place, event, 0, (last, last));
    }

    /// The slot of a marked frame; a mark of an earlier trace is taken off.
    pub(crate) fn slot_of(&mut self, frame: &mut Frame) -> Option<u8> {
        let slot = frame.trace_slot();
        if slot == 0 {
            return None;
        }
        if self.slots[usize::from(slot)].frames == 0 {
            self.stale &= !(1 << slot);
            frame.set_trace_slot(0);
            return None;
        }
        Some(slot)
    }

    /// What was last seen of a packet.
    pub(crate) fn last(&self, slot: u8) -> Snap {
        self.slots[usize::from(slot)].last
    }

    /// One more frame carries the mark.
    pub(crate) fn add_frame(&mut self, slot: u8) {
        self.slots[usize::from(slot)].frames += 1;
    }

    /// One frame fewer carries the mark.
    pub(crate) fn end_frame(&mut self, slot: u8) {
        let slot = &mut self.slots[usize::from(slot)];
        slot.frames = slot.frames.saturating_sub(1);
    }

    /// Notes that a block keeps the packet, or none does.
    pub(crate) fn set_holder(&mut self, slot: u8, holder: Option<usize>) {
        self.slots[usize::from(slot)].holder = holder;
    }

    /// Numbers of the packets whose end has not been seen.
    pub(super) fn under_way(&self) -> Vec<u32> {
        self.slots.iter().filter(|slot| slot.frames > 0).map(|slot| slot.packet).collect()
    }

    /// A packet that this block was seen to keep.
    pub(crate) fn held_by(&self, at: usize) -> Option<u8> {
        let held = self.slots.iter().position(|slot| slot.frames > 0 && slot.holder == Some(at));
        held.map(|slot| slot as u8)
    }

    /// Writes down what happened.
    pub(crate) fn write(
        &mut self,
        slot: u8,
        at_ns: u64,
        place: Place,
        event: Event,
        cycles: u64,
        (before, after): (Snap, Snap),
    ) {
        let known = &mut self.slots[usize::from(slot)];
        known.last = after;
        if self.records.len() == RECORDS_MAX {
            self.records_lost += 1;
            return;
        }
        self.records.push(Record { packet: known.packet, at_ns, place, event, cycles, before, after });
    }

    /// Notes the marked frames of a batch that a port is about to be given.
    pub(crate) fn leaving(&mut self, batch: &mut Batch) -> usize {
        let mut leaving = std::mem::take(&mut self.leaving);
        leaving.clear();
        for (at, frame) in batch.iter_mut().enumerate() {
            if let Some(slot) = self.slot_of(frame) {
                leaving.push((at, slot, Snap::of(frame)));
            }
        }
        self.leaving = leaving;
        batch.len()
    }

    /// The port took the first `taken` frames; those behind are dropped for a reason, or wait for the next turn.
    pub(crate) fn left(
        &mut self,
        port: usize,
        taken: usize,
        reason: impl Fn(usize) -> Option<&'static str>,
        at_ns: u64,
    ) {
        for at in 0..self.leaving.len() {
            let (place, slot, snap) = self.leaving[at];
            let event = match place < taken {
                true => Event::Sent,
                false => match reason(place) {
                    Some(reason) => Event::Dropped(reason),
                    None => continue,
                },
            };
            self.write(slot, at_ns, Place::Port(port), event, 0, (snap, snap));
            self.end_frame(slot);
        }
    }
}

/// The first reason for which more packets have been discarded than before.
pub(crate) fn reason_since(before: &Ledger, now: &Ledger) -> Option<&'static str> {
    let earlier = |name: &str| before.entries().find(|(known, _)| *known == name).map_or(0, |(_, n)| n);
    now.entries().find(|&(name, n)| earlier(name) < n).map(|(name, _)| name)
}
