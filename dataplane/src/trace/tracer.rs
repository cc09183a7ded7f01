//! The control thread's side of a trace: probes out, records in, and names for what they say.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::probe::{Event, Place, Probe, Record, Snap};
use super::{Did, PACKETS_MAX, Packet, Step, Trace, TraceConfig, TraceError};
use crate::blocks::bpf::Filter;
use crate::graph::Wiring;
use crate::live::Live;
use crate::worker::Control;

/// A trace that nobody asks about for so long is given up.
const LEASE: Duration = Duration::from_secs(10);
/// How long workers may take to give their probes back.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(1);

/// A trace under way. [`Runtime`](crate::runtime::Runtime) keeps one; whoever has workers of their own can, too.
pub struct Tracer {
    controls: Vec<Arc<Control>>,
    wiring: Wiring,
    ports: Vec<String>,
    left: Arc<AtomicU32>,
    /// Workers that have a probe.
    armed: Vec<usize>,
    trace: Trace,
    asked: Instant,
}

impl Tracer {
    /// Sends a probe to every worker of the graph that `live` has.
    pub fn begin(config: &TraceConfig, controls: Vec<Arc<Control>>, live: &Live) -> Result<Self, TraceError> {
        let (wiring, ports) = (live.wiring().clone(), live.ports().to_vec());
        if !(1..=PACKETS_MAX).contains(&config.count) {
            return Err(TraceError::Count(config.count));
        }
        let left = Arc::new(AtomicU32::new(config.count));
        let mut probes = Vec::new();
        for _ in &controls {
            let filter = match config.filter.as_str() {
                "" => None,
                text => Some(Filter::compile("filter", text).map_err(|error| TraceError::Filter(error.to_string()))?),
            };
            let probe = Probe::new(filter, Arc::clone(&left), wiring.size() + ports.len());
            probes.push(Box::new(probe));
        }
        let trace = Trace::default();
        let mut tracer = Self { controls, wiring, ports, left, armed: Vec::new(), trace, asked: Instant::now() };
        for (worker, probe) in probes.into_iter().enumerate() {
            if tracer.controls[worker].arm(probe).is_err() {
                tracer.end();
                return Err(TraceError::Unresponsive { worker });
            }
            tracer.armed.push(worker);
        }
        Ok(tracer)
    }

    /// Whether nobody asks for it any more; then it is ended.
    pub fn is_over(&mut self) -> bool {
        let is_forgotten = self.asked.elapsed() > LEASE;
        if is_forgotten {
            self.end();
        }
        is_forgotten
    }

    /// What is known by now; after an `end` nothing is followed any further.
    pub fn look(&mut self, end: bool) -> Trace {
        self.asked = Instant::now();
        self.collect();
        if end {
            self.end();
        } else if self.left.load(Ordering::Relaxed) == 0 {
            // A worker that sleeps does not notice that the others have found enough.
            self.armed.iter().for_each(|&worker| self.controls[worker].nudge());
        }
        self.trace.done = self.armed.is_empty();
        self.trace.clone()
    }

    /// Takes the probes back, as far as the workers answer.
    pub fn end(&mut self) {
        self.armed.iter().for_each(|&worker| self.controls[worker].disarm());
        let until = Instant::now() + PATIENCE;
        while !self.armed.is_empty() && Instant::now() < until {
            std::thread::sleep(LOOK);
            self.collect();
        }
        if !self.armed.is_empty() {
            tracing::warn!(workers = ?self.armed, "workers did not end a trace");
        }
        self.armed.clear();
    }

    fn collect(&mut self) {
        let mut returned = Vec::new();
        let Self { armed, controls, .. } = self;
        armed.retain(|&worker| match controls[worker].traced() {
            Some(probe) => {
                returned.push((worker, probe));
                false
            }
            None => true,
        });
        returned.into_iter().for_each(|(worker, probe)| self.take_in(worker, &probe));
        self.trace.packets.sort_by_key(|packet| packet.steps.first().map_or(0, |step| step.at_ns));
    }

    fn take_in(&mut self, worker: usize, probe: &Probe) {
        self.trace.passed_by += probe.passed_by;
        self.trace.steps_lost += probe.records_lost;
        let mut packets: BTreeMap<u32, Packet> = BTreeMap::new();
        for record in &probe.records {
            let packet = packets.entry(record.packet).or_insert_with(|| Packet { worker, ..Packet::default() });
            packet.steps.push(self.step(record));
        }
        let under_way = probe.under_way();
        for (number, mut packet) in packets {
            packet.complete = !under_way.contains(&number);
            self.trace.packets.push(packet);
        }
    }

    fn step(&self, record: &Record) -> Step {
        let Record { at_ns, place, event, cycles, before, after, .. } = record;
        let (at, kind) = match *place {
            Place::Port(port) => (self.ports.get(port).map_or("", String::as_str), "port"),
            Place::Block(at) => (self.wiring.name(at), self.wiring.kind_name(at)),
        };
        let output = |output: usize| match *place {
            Place::Block(at) => self.wiring.output(at, output).to_owned(),
            Place::Port(_) => String::new(),
        };
        let did = match *event {
            Event::Received => Did::Received,
            Event::Made(number) => Did::Made { output: output(number) },
            Event::Passed(number) => Did::Passed { output: output(number) },
            Event::Copied(number) => Did::Copied { output: output(number) },
            Event::Held => Did::Held,
            Event::Delivered => Did::Delivered,
            Event::Dropped(reason) => Did::Dropped { reason: reason.to_owned() },
            Event::Sent => Did::Sent,
        };
        Step {
            at_ns: *at_ns,
            at: at.to_owned(),
            kind: kind.to_owned(),
            did,
            cycles: *cycles,
            len: [before.len, after.len],
            bytes: [hexadecimal(before), hexadecimal(after)],
        }
    }
}

fn hexadecimal(snap: &Snap) -> String {
    snap.bytes().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
