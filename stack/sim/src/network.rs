//! Nodes and paths at work: the event loop.
//!
//! Parts of a network between which no frame can pass never meet, so each runs by itself up to the time asked for. Within a
//! part the node with the earliest deadline goes ahead of the others for as long as nothing that they do can reach it: for
//! the shortest delay of the part's links. Either way each node meets the same events in the same order, and what it needs
//! stays in the caches meanwhile.

use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use tailwater_stack::{Buffer, Instant};
use thiserror::Error;

use crate::buffer::{Pool, SimBuffer};
use crate::capture::{Captures, Direction};
use crate::host::Host;
use crate::path::{Path, Port};
use crate::router::{Directory, Outbox, Router};
use crate::schedule::Schedule;
use crate::simulation::Counters;
use crate::slots::Slots;
use crate::switch::{Forward, Switch};

/// Frames in use at the same time, in all links and stacks together; where groups of a network's parts run beside each
/// other, each has an even share.
pub const FRAMES_MAX: usize = 1 << 21;
/// Events of one instant. No network comes near that by itself: each frame would have to reach thousands of nodes at once.
const INSTANT_EVENTS_MAX: u64 = 10_000_000;
/// Link header, with a tag.
pub(crate) const LINK_HEADER_MAX: usize = 18;
/// A node's own deadline, in its schedule.
const OWN: usize = 0;

/// Time stands still: nodes go on sending to each other without any of it taking time.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error(
    "time stands still at {:.9} s, with ever more to do at '{node}': give its links a delay or a rate, and what runs there a pause",
    .at.as_secs_f64()
)]
pub struct Stalled {
    /// One of the nodes.
    pub node: String,
    /// Since the beginning.
    pub at: Duration,
}

pub(crate) enum Kind {
    Host(Box<Host>),
    Router(Box<Router>),
    Switch(Switch),
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Its number within its part.
    pub(crate) place: usize,
    /// What it waits for: first a deadline of its own, then each path that leads to it.
    turns: Schedule,
    /// These paths.
    incoming: Vec<usize>,
    /// The path that leads out of each port.
    pub(crate) ports: Vec<usize>,
}

impl Node {
    pub(crate) fn new(name: String, kind: Kind) -> Self {
        let mut turns = Schedule::default();
        turns.add();
        Self { name, kind, place: 0, turns, incoming: Vec::new(), ports: Vec::new() }
    }
}

/// All nodes and paths, or a group of them while the others are elsewhere. Counts with each event, and has its cache lines to
/// itself: its neighbour works on another core.
#[repr(align(128))]
pub(crate) struct Network {
    pub(crate) now: Instant,
    /// Events at `now`, and how many there may be.
    instant_events: u64,
    pub(crate) instant_events_max: u64,
    pub(crate) nodes: Slots<Node>,
    pub(crate) paths: Slots<Path>,
    /// Of the nodes of the part that runs, by their place in it.
    schedule: Schedule,
    pub(crate) pool: Pool,
    pub(crate) outbox: Outbox,
    pub(crate) directory: Arc<Directory>,
    pub(crate) counters: Counters,
    pub(crate) captures: Captures,
}

impl Network {
    /// With frames of `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            now: Instant::ZERO,
            instant_events: 0,
            instant_events_max: INSTANT_EVENTS_MAX,
            nodes: Slots::default(),
            paths: Slots::default(),
            schedule: Schedule::default(),
            pool: Pool::new(capacity, FRAMES_MAX),
            outbox: Vec::new(),
            directory: Arc::new(Directory::with_hasher(FixedState::with_seed(0))),
            counters: Counters::default(),
            captures: Captures::default(),
        }
    }

    pub(crate) fn add_path(&mut self, mut path: Path) -> usize {
        let number = self.paths.len();
        if let Some(node) = self.nodes.get_mut(path.to.node) {
            path.turn = node.turns.add();
            node.incoming.push(number);
        }
        self.paths.push(path);
        number
    }

    // ---- groups ---------------------------------------------------------------------------------------------------

    /// Moves the nodes of these parts, the paths out of them and what is captured there elsewhere.
    pub(crate) fn lend(&mut self, parts: &[Vec<usize>], other: &mut Self) {
        other.now = self.now;
        other.directory = Arc::clone(&self.directory);
        for &number in parts.iter().flatten() {
            let Some(node) = self.nodes.take(number) else { continue };
            for &path in &node.ports {
                if let Some(moved) = self.paths.take(path) {
                    other.paths.put(path, moved);
                }
            }
            self.captures.lend(number, &mut other.captures);
            other.nodes.put(number, node);
        }
    }

    // ---- running --------------------------------------------------------------------------------------------------

    /// Runs every event of these parts up to and at `until`.
    pub(crate) fn run(&mut self, parts: &[Vec<usize>], until: Instant) -> Result<(), Stalled> {
        let (from_ns, end_ns) = (self.now.as_nanos(), until.as_nanos().saturating_add(1));
        for part in parts {
            self.run_part(part, from_ns, end_ns)?;
        }
        self.now = Instant::from_nanos(from_ns.max(until.as_nanos()));
        Ok(())
    }

    fn run_part(&mut self, part: &[usize], from_ns: u64, end_ns: u64) -> Result<(), Stalled> {
        let mut ahead_ns = u64::MAX;
        self.schedule.reset(part.len());
        for &node in part {
            self.await_node(node);
            let ports = self.nodes.get(node).map_or(&[][..], |node| &node.ports);
            let paths = ports.iter().filter_map(|&path| self.paths.get(path));
            ahead_ns = paths.map(Path::ahead_ns).fold(ahead_ns, u64::min);
        }
        // Whatever another node sends arrives no earlier than this after the first of all deadlines.
        let ahead_ns = ahead_ns.max(1);
        self.instant_events = 0;
        while let Some((place, due_ns)) = self.schedule.next().filter(|&(_, due_ns)| due_ns < end_ns) {
            let Some(&node) = part.get(place) else { break };
            self.run_node(node, from_ns, end_ns.min(due_ns.saturating_add(ahead_ns)))?;
        }
        Ok(())
    }

    /// Runs what a node has to do before `end_ns`.
    fn run_node(&mut self, node: usize, from_ns: u64, end_ns: u64) -> Result<(), Stalled> {
        loop {
            let Some(Node { name, turns, incoming, .. }) = self.nodes.get_mut(node) else { return Ok(()) };
            let Some((turn, due_ns)) = turns.next() else { break };
            if due_ns >= end_ns {
                break;
            }
            let now = Instant::from_nanos(due_ns.max(from_ns));
            self.instant_events = if now == self.now { self.instant_events + 1 } else { 0 };
            self.now = now;
            if self.instant_events > self.instant_events_max {
                return Err(Stalled { node: name.clone(), at: now.since(Instant::ZERO) });
            }
            self.counters.events += 1;
            match turn.checked_sub(OWN + 1).and_then(|at| incoming.get(at)) {
                Some(&path) => self.on_arrival(path),
                None => self.after_node(node),
            }
        }
        self.await_node(node);
        Ok(())
    }

    fn on_arrival(&mut self, path: usize) {
        let now_ns = self.now.as_nanos();
        let Some((frame, to)) = self.paths.get_mut(path).and_then(|path| Some((path.arrive(now_ns)?, path.to))) else {
            return;
        };
        self.counters.frames += 1;
        self.captures.record(to, Direction::In, now_ns, &frame);
        self.await_path(path);
        let Self { nodes, now, pool, outbox, directory, .. } = self;
        match nodes.get_mut(to.node).map(|node| &mut node.kind) {
            Some(Kind::Host(host)) => host.on_frame(to.port, frame, *now, pool, outbox),
            Some(Kind::Router(router)) => router.on_frame(to.port, frame, *now, directory, pool, outbox),
            Some(Kind::Switch(switch)) => {
                let forward = switch.on_frame(to.port, frame.bytes());
                return self.switch_frame(to, forward, frame);
            }
            None => {}
        }
        self.after_node(to.node);
    }

    fn switch_frame(&mut self, at: Port, forward: Forward, frame: SimBuffer) {
        match forward {
            Forward::To(port) => return self.send(at.node, port, frame),
            Forward::Flood => {
                let ports = self.nodes.get(at.node).map_or(0, |node| node.ports.len());
                for port in (0..ports).filter(|&port| port != at.port) {
                    if let Some(copy) = self.pool.copy(&frame) {
                        self.send(at.node, port, copy);
                    }
                }
            }
            Forward::Nowhere => {}
        }
        self.pool.give(frame);
    }

    /// Lets a node do what is due, sends what it has sent, and notes when it is to be woken.
    pub(crate) fn after_node(&mut self, node: usize) {
        let Self { nodes, now, pool, outbox, .. } = self;
        let Some(Node { kind, turns, .. }) = nodes.get_mut(node) else { return };
        let due = match kind {
            Kind::Host(host) => host.settle(*now, pool, outbox),
            Kind::Router(router) => router.settle(*now, pool, outbox),
            Kind::Switch(_) => None,
        };
        turns.set(OWN, due.map(Instant::as_nanos));
        self.send_outbox(node);
    }

    /// Lets a node have its turn before time passes.
    pub(crate) fn wake(&mut self, node: usize) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.turns.set(OWN, Some(self.now.as_nanos()));
        }
    }

    pub(crate) fn send_outbox(&mut self, node: usize) {
        if self.outbox.is_empty() {
            return;
        }
        let mut outbox = std::mem::take(&mut self.outbox);
        for (interface, frame) in outbox.drain(..) {
            self.send(node, interface.0 as usize, frame);
        }
        self.outbox = outbox;
    }

    fn send(&mut self, node: usize, port: usize, frame: SimBuffer) {
        let Some(&path_number) = self.nodes.get(node).and_then(|node| node.ports.get(port)) else {
            return self.pool.give(frame);
        };
        let now_ns = self.now.as_nanos();
        self.captures.record(Port { node, port }, Direction::Out, now_ns, &frame);
        if let Some(path) = self.paths.get_mut(path_number) {
            path.offer(frame, now_ns, &mut self.pool);
            let to = path.to.node;
            if self.await_path(path_number) {
                self.await_node(to);
            }
        }
    }

    /// Notes when the next frame arrives; whether that is another time than before.
    fn await_path(&mut self, path: usize) -> bool {
        let Some(path) = self.paths.get(path) else { return false };
        let Some(node) = self.nodes.get_mut(path.to.node) else { return false };
        node.turns.set(path.turn, path.next_due_ns())
    }

    /// Notes when a node's next turn is.
    fn await_node(&mut self, node: usize) {
        if let Some(Node { place, turns, .. }) = self.nodes.get(node) {
            self.schedule.set(*place, turns.next().map(|(_, due_ns)| due_ns));
        }
    }
}
