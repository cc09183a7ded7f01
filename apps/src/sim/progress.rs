//! How far virtual time has come: a bar on a terminal, lines elsewhere, objects in JSON.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tailwater_sim::Simulation;

use crate::output;

/// Between two lines, where there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(2);
const TEMPLATE: &str = "{bar:30} {msg} (left: {eta})";

enum Display {
    Bar(ProgressBar),
    Lines,
    Json,
}

pub(super) struct Progress {
    display: Display,
    duration: Duration,
    started: Instant,
    last: Instant,
}

impl Progress {
    /// Of `duration` of virtual time.
    pub(super) fn start(duration: Duration, json: bool) -> Self {
        let display = if json {
            Display::Json
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(millis(duration));
            bar.set_style(ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar()));
            Display::Bar(bar)
        } else {
            Display::Lines
        };
        let now = Instant::now();
        Self { display, duration, started: now, last: now }
    }

    pub(super) fn show(&mut self, simulation: &Simulation) {
        let done = simulation.now().since(tailwater_stack::Instant::ZERO);
        let speed = done.as_secs_f64() / self.started.elapsed().as_secs_f64().max(1e-9);
        let (done_secs, duration_secs) = (done.as_secs_f64(), self.duration.as_secs_f64());
        let line = format!("{done_secs:.1} of {duration_secs:.1} s virtual time, {speed:.0} times real time");
        if let Display::Bar(bar) = &self.display {
            bar.set_position(millis(done));
            bar.set_message(line);
            return;
        }
        if self.last.elapsed() < LINE_EVERY {
            return;
        }
        self.last = Instant::now();
        match &self.display {
            Display::Json => output::line(serde_json::json!({
                "event": "progress", "virtual_secs": done_secs, "of_secs": duration_secs, "speed": speed,
            })),
            Display::Lines | Display::Bar(_) => output::note(line),
        }
    }

    pub(super) fn finish(self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
