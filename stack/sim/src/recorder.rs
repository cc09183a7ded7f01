//! Figures over time.

use std::collections::BTreeMap;
use std::time::Duration;

use tailwater_stack::Instant;

use crate::network::Stalled;
use crate::simulation::Simulation;

/// Points kept per flow; a longer run needs a longer interval.
pub const POINTS_MAX: usize = 100_000;

/// One flow at one moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    /// Since the beginning.
    pub at: Duration,
    /// Bits per second received since the point before.
    pub goodput_bps: f64,
    /// The latest round-trip time, or one-way delay where there is none.
    pub delay: Option<Duration>,
    /// Bytes.
    pub cwnd: Option<u32>,
}

/// Runs a simulation and looks at its flows at even intervals.
#[derive(Clone, Debug)]
pub struct Recorder {
    interval: Duration,
    last_at: Instant,
    received: BTreeMap<String, u64>,
    points: BTreeMap<String, Vec<Point>>,
    /// Points that [`POINTS_MAX`] left no room for.
    missed: u64,
}

impl Recorder {
    /// `interval`: virtual time between two points, at least a microsecond.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval: interval.max(Duration::from_micros(1)),
            last_at: Instant::ZERO,
            received: BTreeMap::new(),
            points: BTreeMap::new(),
            missed: 0,
        }
    }

    /// Runs until `until`; `progress` is called after each interval and ends the run by `false`.
    pub fn run(
        &mut self,
        simulation: &mut Simulation,
        until: Instant,
        mut progress: impl FnMut(&Simulation) -> bool,
    ) -> Result<(), Stalled> {
        while simulation.now() < until {
            simulation.run_until((simulation.now() + self.interval).min(until))?;
            self.sample(simulation);
            if !progress(simulation) {
                break;
            }
        }
        Ok(())
    }

    /// Adds a point to every flow.
    pub fn sample(&mut self, simulation: &Simulation) {
        let now = simulation.now();
        let elapsed = now.since(self.last_at).as_secs_f64().max(f64::MIN_POSITIVE);
        self.last_at = now;
        for (name, flow) in simulation.flows_now() {
            let before = self.received.insert(name.clone(), flow.received_bytes).unwrap_or(0);
            let goodput_bps = flow.received_bytes.saturating_sub(before) as f64 * 8.0 / elapsed;
            let delay = flow.srtt.or(flow.rtt.last()).or(flow.one_way.last());
            let points = self.points.entry(name).or_default();
            if points.len() < POINTS_MAX {
                points.push(Point { at: now.since(Instant::ZERO), goodput_bps, delay, cwnd: flow.cwnd });
            } else {
                self.missed += 1;
            }
        }
    }

    /// Every flow's points, by name.
    pub fn points(&self) -> &BTreeMap<String, Vec<Point>> {
        &self.points
    }

    pub fn missed(&self) -> u64 {
        self.missed
    }
}
