//! One direction of a link at work.

use std::collections::VecDeque;

use tailwater_impair::{Delay, Departures, Loss, Random, flip_bit, serialisation_ns};
use tailwater_stack::Buffer;

use crate::buffer::{Pool, SimBuffer};
use crate::digest::Digest;
use crate::ecn;
use crate::link::{IN_TRANSIT_MAX, LinkConfig, LinkCounters};
use crate::red::RedState;

/// Where frames arrive: a node's port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Port {
    pub(crate) node: usize,
    pub(crate) port: usize,
}

struct InTransit {
    due_ns: u64,
    frame: SimBuffer,
}

pub(crate) struct Path {
    pub(crate) to: Port,
    /// Its place in the schedule of the node it leads to.
    pub(crate) turn: usize,
    pub(crate) up: bool,
    /// Of what was delivered.
    pub(crate) digest: Digest,
    config: LinkConfig,
    delay: Delay,
    random: Random,
    departures: Departures,
    loss: Loss,
    red: RedState,
    /// In the order of arrival.
    in_transit: VecDeque<InTransit>,
    pub(crate) counters: LinkCounters,
}

impl Path {
    pub(crate) fn new(to: Port, config: LinkConfig, random: Random) -> Self {
        Self {
            to,
            turn: 0,
            up: true,
            digest: Digest::new(),
            config,
            delay: config.delay_model(),
            random,
            departures: Departures::default(),
            loss: Loss::default(),
            red: RedState::default(),
            in_transit: VecDeque::new(),
            counters: LinkCounters::default(),
        }
    }

    pub(crate) fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// From the next frame on.
    pub(crate) fn set(&mut self, config: LinkConfig, now_ns: u64) {
        self.departures.change_rate(self.config.rate_bps, config.rate_bps, now_ns);
        self.config = config;
        self.delay = config.delay_model();
    }

    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        self.in_transit.front().map(|first| first.due_ns)
    }

    /// Nanoseconds that every frame takes at least.
    pub(crate) fn ahead_ns(&self) -> u64 {
        if self.delay.reorder > 0.0 { 0 } else { self.delay.delay_ns.saturating_sub(self.delay.jitter_ns) }
    }

    pub(crate) fn in_transit(&self) -> usize {
        self.in_transit.len()
    }

    /// The frame that has arrived by now.
    pub(crate) fn arrive(&mut self, now_ns: u64) -> Option<SimBuffer> {
        let arrived = self.in_transit.pop_front_if(|first| first.due_ns <= now_ns)?;
        self.digest.add(now_ns, arrived.frame.segments());
        self.counters.delivered += 1;
        self.counters.delivered_bytes += arrived.frame.len() as u64;
        Some(arrived.frame)
    }

    /// Takes a frame in; it arrives later, or never.
    pub(crate) fn offer(&mut self, mut frame: SimBuffer, now_ns: u64, pool: &mut Pool) {
        self.counters.offered += 1;
        let took_ns = serialisation_ns(frame.len(), self.config.rate_bps);
        if !self.admits(&mut frame, took_ns, now_ns) {
            return pool.give(frame);
        }
        let departure = self.departures.next(&self.delay, took_ns, now_ns, &mut self.random);
        if !self.up || self.loss.strikes(&self.config.loss, &mut self.random) {
            self.counters.lost += 1;
            return pool.give(frame);
        }
        self.counters.reordered += u64::from(departure.overtakes);
        if self.random.chance(self.config.corrupt) {
            self.counters.corrupted += 1;
            flip_bit(frame.bytes_mut(), &mut self.random);
        }
        if self.random.chance(self.config.duplicate)
            && let Some(copy) = pool.copy(&frame)
        {
            self.counters.duplicated += 1;
            self.send(departure.due_ns, copy, pool);
        }
        self.send(departure.due_ns, frame, pool);
    }

    /// Whether the queue takes the frame, perhaps with a mark.
    fn admits(&mut self, frame: &mut SimBuffer, took_ns: u64, now_ns: u64) -> bool {
        let backlog_ns = self.departures.backlog_ns(now_ns);
        let queued = (u128::from(backlog_ns) * u128::from(self.config.rate_bps) / 8_000_000_000) as u64;
        self.counters.queue_bytes_max = self.counters.queue_bytes_max.max(queued);
        let queue = &self.config.queue;
        if queue.red.is_some() {
            self.red.on_arrival(queued, self.departures.idle_ns(now_ns), took_ns);
        }
        if queued + frame.len() as u64 > queue.bytes_max && queued > 0 {
            self.counters.queue_full += 1;
            return false;
        }
        let Some(red) = &queue.red else { return true };
        if !self.red.strikes(red, &mut self.random) {
            return true;
        }
        if queue.ecn && ecn::mark(frame.bytes_mut()) {
            self.counters.marked += 1;
            return true;
        }
        self.counters.early_dropped += 1;
        false
    }

    fn send(&mut self, due_ns: u64, frame: SimBuffer, pool: &mut Pool) {
        if self.in_transit.len() >= IN_TRANSIT_MAX {
            self.counters.pipe_full += 1;
            return pool.give(frame);
        }
        let later = self.in_transit.iter().rev().take_while(|other| other.due_ns > due_ns).count();
        self.in_transit.insert(self.in_transit.len() - later, InTransit { due_ns, frame });
    }
}
