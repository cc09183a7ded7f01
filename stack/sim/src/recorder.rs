//! Figures over time.

use std::collections::BTreeMap;
use std::time::Duration;

use tailwater_stack::Instant;

use crate::network::Stalled;
use crate::simulation::Simulation;

/// Points kept per flow; a longer run needs a longer interval.
pub const POINTS_MAX: usize = 100_000;

/// Virtual time after which a run can first be ended, and the least between two such times.
const FIRST_STEP: Duration = Duration::from_micros(100);
/// Events between these times, about: tens of milliseconds of work.
const FEW: u64 = 10_000;
const MANY: u64 = 40_000;

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

    /// Runs until `until`; `progress` is called after each interval, and within it after some thousand events, and ends the run
    /// by `false`.
    pub fn run(
        &mut self,
        simulation: &mut Simulation,
        until: Instant,
        mut progress: impl FnMut(&Simulation) -> bool,
    ) -> Result<(), Stalled> {
        let mut step = FIRST_STEP;
        while simulation.now() < until {
            let interval_end = (simulation.now() + self.interval).min(until);
            let mut goes_on = true;
            while goes_on && simulation.now() < interval_end {
                let before = simulation.counters().events;
                simulation.run_until((simulation.now() + step).min(interval_end))?;
                step = match simulation.counters().events - before {
                    0..FEW => (step * 2).min(self.interval),
                    MANY.. => (step / 2).max(FIRST_STEP),
                    _ => step,
                };
                goes_on = progress(simulation);
            }
            self.sample(simulation);
            if !goes_on {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LinkConfig;
    use crate::workload::{UdpSink, UdpSource, UdpSourceConfig};

    #[test]
    fn a_run_ends_within_an_interval_and_keeps_what_there_is() {
        let mut simulation = Simulation::new(1);
        let (a, b) = (simulation.add_host("a"), simulation.add_host("b"));
        let (from, to) = ((a, "10.0.0.1/24"), (b, "10.0.0.2/24"));
        simulation.connect(from, to, LinkConfig::default()).unwrap();
        let to = "10.0.0.2:7000".parse().unwrap();
        let config = UdpSourceConfig { to, rate_bps: 80_000_000, size: 1_000, start: Duration::ZERO, stop: None };
        simulation.add_workload(b, UdpSink::new("flow", to));
        simulation.add_workload(a, UdpSource::new("flow", config));
        let mut recorder = Recorder::new(Duration::from_secs(20));
        let mut calls = 0;
        let goes_on = |simulation: &Simulation| {
            calls += 1;
            simulation.now() < Instant::from_millis(100)
        };
        recorder.run(&mut simulation, Instant::from_millis(20_000), goes_on).unwrap();
        assert!(simulation.now() < Instant::from_millis(2_000), "{:?}", simulation.now());
        assert!((2..50).contains(&calls), "{calls}");
        let [point] = recorder.points()["flow"][..] else { panic!("{:?}", recorder.points()) };
        assert!(point.goodput_bps > 70e6, "{point:?}");
        recorder.run(&mut simulation, Instant::from_millis(4_000), |_| true).unwrap();
        assert_eq!(recorder.points()["flow"].last().unwrap().at, Duration::from_secs(4));
    }
}
