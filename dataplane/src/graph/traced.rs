//! The walk of a graph while packets are traced: the same steps, and a look at what became of marked frames after each.
//!
//! A marked frame walks through a block alone, in its place among the others, so that order is kept. What the block did
//! shows in where marked frames turn up behind it, in the ledger, and in the worker's counters.

use super::wiring::Target;
use super::{Graph, Turn};
use crate::clock;
use crate::frame::{Batch, Frame};
use crate::ledger::Ledger;
use crate::trace::{Event, Place, Probe, Snap, reason_since};

/// What there was before a step.
struct Before {
    ledger: Ledger,
    originated: u64,
    held: usize,
    /// The marked frame that walks alone, if one does.
    traced: Option<(u8, Snap)>,
}

/// A look at what became of it.
struct Look<'a> {
    at: usize,
    now_ns: u64,
    before: &'a Before,
    /// Why packets were discarded, if any were.
    reason: Option<&'static str>,
    /// Packets that the block made and that have not been seen yet.
    made: u64,
    /// Frames seen that carry the walker's mark.
    seen: u32,
    /// The step's cycles, until they are written down.
    cycles: u64,
}

impl Look<'_> {
    /// A frame has come out of an output.
    fn arrival(&mut self, output: usize, frame: &mut Frame, probe: &mut Probe) {
        let (slot, event, start) = match (probe.slot_of(frame), self.before.traced) {
            (Some(slot), Some((traced, start))) if slot == traced => {
                self.seen += 1;
                if self.seen > 1 {
                    probe.add_frame(slot);
                }
                (slot, if self.seen > 1 { Event::Copied(output) } else { Event::Passed(output) }, start)
            }
            // The block had kept it.
            (Some(slot), _) => (slot, Event::Passed(output), probe.last(slot)),
            (None, traced) if self.made > 0 => {
                self.made -= 1;
                let Some((traced, _)) = traced else {
                    return probe.choose(frame, self.now_ns, Place::Block(self.at), Event::Made(output));
                };
                frame.set_trace_slot(traced);
                probe.add_frame(traced);
                (traced, Event::Made(output), Snap::NOTHING)
            }
            (None, _) => return,
        };
        self.write(slot, event, (start, Snap::of(frame)), probe);
        probe.set_holder(slot, None);
    }

    /// All that came out has been seen: where the walker did not, it has ended or stays inside. If something was dropped
    /// although it went on, that was a copy, provided that nothing else was in the block.
    fn remains(&mut self, holds: bool, probe: &mut Probe) {
        let Some((slot, start)) = self.before.traced else { return };
        let went_on = self.seen > 0;
        let event = match self.reason {
            Some(reason) if went_on && self.before.held == 0 => Event::Dropped(reason),
            _ if went_on => return,
            _ if holds => Event::Held,
            Some(reason) => Event::Dropped(reason),
            None => Event::Delivered,
        };
        self.write(slot, event, (start, start), probe);
        match event {
            _ if went_on => {}
            Event::Held => probe.set_holder(slot, Some(self.at)),
            _ => probe.end_frame(slot),
        }
    }

    fn write(&mut self, slot: u8, event: Event, snaps: (Snap, Snap), probe: &mut Probe) {
        let cycles = std::mem::take(&mut self.cycles);
        probe.write(slot, self.now_ns, Place::Block(self.at), event, cycles, snaps);
    }
}

impl Graph {
    /// As [`ingest`](Self::ingest), and marks the packets that are wanted.
    pub(crate) fn ingest_traced(&mut self, probe: &mut Probe, port: usize, batch: &mut Batch, turn: &mut Turn<'_>) {
        for frame in batch.iter_mut() {
            if !probe.seeks() {
                break;
            }
            probe.choose(frame, turn.now_ns, Place::Port(port), Event::Received);
        }
        self.ingest(port, batch, turn);
    }

    /// As [`run`](Self::run).
    pub(crate) fn run_traced(&mut self, probe: &mut Probe, turn: &mut Turn<'_>) {
        for at in 0..self.nodes.len() {
            if self.nodes[at].kind.polled {
                self.step_traced(at, turn, true, probe);
            }
        }
        let mut waiting = std::mem::take(&mut probe.waiting);
        for at in 0..self.nodes.len() {
            std::mem::swap(&mut waiting, &mut self.nodes[at].input);
            while !waiting.is_empty() {
                let marked = |frame: &Frame| frame.trace_slot() != 0;
                let n = match waiting.iter().position(marked) {
                    Some(0) => 1,
                    Some(next) => next,
                    None => waiting.len(),
                };
                let node = &mut self.nodes[at];
                node.input.extend(waiting.drain_front(n));
                node.count_input();
                self.step_traced(at, turn, false, probe);
            }
        }
        probe.waiting = waiting;
    }

    fn step_traced(&mut self, at: usize, turn: &mut Turn<'_>, poll: bool, probe: &mut Probe) {
        let first = if poll { None } else { self.nodes[at].input.iter_mut().next() };
        let traced = first.and_then(|frame| probe.slot_of(frame).map(|slot| (slot, Snap::of(frame))));
        let held = self.nodes[at].block.held();
        let before = Before { ledger: turn.ledger.clone(), originated: *turn.originated, held, traced };
        self.count(at, &mut probe.counted);
        // What is looked at has all its bytes.
        let completes = std::mem::take(&mut self.completes);
        let started = clock::cycles();
        self.step(at, turn, poll, !poll);
        let cycles = clock::cycles().wrapping_sub(started);
        self.completes = completes;
        if !poll {
            self.nodes[at].counters.cycles += cycles;
        }
        let mut look = Look {
            at,
            now_ns: turn.now_ns,
            before: &before,
            reason: reason_since(&before.ledger, turn.ledger),
            made: *turn.originated - before.originated,
            seen: 0,
            cycles,
        };
        let mut counted = std::mem::take(&mut probe.counted);
        self.look_behind(&mut look, &mut counted, probe);
        probe.counted = counted;
        self.look_inside(&look, probe);
    }

    /// Frames in each place behind a block and at each port, and packets that left by each of its outputs.
    fn count(&self, at: usize, counted: &mut Vec<u64>) {
        counted.clear();
        counted.extend(self.nodes.iter().map(|node| node.input.len() as u64));
        counted.extend(self.sinks.iter().map(|sink| sink.len() as u64));
        counted.extend(&self.nodes[at].sent);
    }

    /// Finds what came out of a block: marked frames, and those that belong to a marked one.
    fn look_behind(&mut self, look: &mut Look<'_>, counted: &mut [u64], probe: &mut Probe) {
        let (places, sent_before) = counted.split_at_mut(self.nodes.len() + self.sinks.len());
        for (output, &sent_before) in sent_before.iter().enumerate() {
            let sent = self.nodes[look.at].sent[output] - sent_before;
            if sent == 0 {
                continue;
            }
            let port = |port: usize| self.nodes.len() + port;
            // By frame means: what is new at any port.
            let (behind, most) = match self.nodes[look.at].targets[output] {
                Target::Node(to) => (to..to + 1, sent),
                Target::Port(to) => (port(to)..port(to) + 1, sent),
                Target::Egress => (port(0)..places.len(), u64::MAX),
                Target::Unbound => continue,
            };
            for place in behind {
                let from = places[place] as usize;
                let batch = match place.checked_sub(self.nodes.len()) {
                    Some(port) => &mut self.sinks[port],
                    None => &mut self.nodes[place].input,
                };
                places[place] = (batch.len() as u64).min(places[place].saturating_add(most));
                let new = places[place] as usize - from;
                batch.iter_mut().skip(from).take(new).for_each(|frame| look.arrival(output, frame, probe));
            }
        }
        let holds = self.nodes[look.at].block.held() > look.before.held;
        look.remains(holds, probe);
    }

    /// A block that is empty keeps no packet any more: what it was seen to keep, and did not come out, has ended inside.
    fn look_inside(&self, look: &Look<'_>, probe: &mut Probe) {
        let &Look { at, now_ns, reason, .. } = look;
        if self.nodes[at].block.held() > 0 {
            return;
        }
        while let Some(slot) = probe.held_by(at) {
            let event = reason.map_or(Event::Delivered, Event::Dropped);
            let last = probe.last(slot);
            probe.write(slot, now_ns, Place::Block(at), event, 0, (last, last));
            probe.set_holder(slot, None);
            probe.end_frame(slot);
        }
    }
}
