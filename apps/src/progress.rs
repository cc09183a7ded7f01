//! The line that shows that a long run is alive: rewritten on a terminal, appended elsewhere, an object in JSON.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::output;
use crate::snapshot::{Snapshot, Totals};
use crate::table::short;

/// Packets per second since the line before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Rates {
    pub(crate) in_pps: f64,
    pub(crate) out_pps: f64,
    pub(crate) kernel_pps: f64,
    pub(crate) dropped_pps: f64,
}

impl Rates {
    fn between(before: &Totals, now: &Totals, elapsed: Duration) -> Self {
        let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / elapsed.as_secs_f64().max(1e-9);
        Self {
            in_pps: rate(before.received, now.received),
            out_pps: rate(before.sent, now.sent),
            kernel_pps: rate(before.sent_by_kernel, now.sent_by_kernel),
            dropped_pps: rate(before.dropped + before.shed, now.dropped + now.shed),
        }
    }

    fn line(&self) -> String {
        let Self { in_pps, out_pps, kernel_pps, dropped_pps } = *self;
        let kernel = if kernel_pps > 0.0 { format!(", in the kernel {}pps", short(kernel_pps)) } else { String::new() };
        format!("in {}pps, out {}pps{kernel}, dropped {}pps", short(in_pps), short(out_pps), short(dropped_pps))
    }
}

enum Display {
    Bar(ProgressBar),
    Lines,
    Json,
}

/// Shows progress of one run.
pub(crate) struct Progress {
    display: Display,
    command: &'static str,
    started: Instant,
    before: (Instant, Totals),
}

impl Progress {
    /// Starts at zero.
    pub(crate) fn start(command: &'static str, json: bool) -> Self {
        let display = if json {
            Display::Json
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            bar.set_style(
                ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            Display::Bar(bar)
        } else {
            Display::Lines
        };
        let now = Instant::now();
        Self { display, command, started: now, before: (now, Totals::default()) }
    }

    /// Shows what has happened since the last time.
    pub(crate) fn show(&mut self, snapshot: &Snapshot) {
        let now = Instant::now();
        let rates = Rates::between(&self.before.1, &snapshot.totals, now - self.before.0);
        self.before = (now, snapshot.totals);
        let secs = (now - self.started).as_secs_f64();
        let line = format!("{} {secs:.0} s: {}", self.command, rates.line());
        match &self.display {
            Display::Bar(bar) => {
                bar.set_message(line);
                bar.tick();
            }
            Display::Lines => output::note(line),
            Display::Json => {
                let totals = &snapshot.totals;
                let event = serde_json::json!({ "event": "progress", "secs": secs, "rates": rates, "totals": totals });
                output::line(&event);
            }
        }
    }

    /// Leaves the last line alone.
    pub(crate) fn finish(self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences_over_time() {
        let before = Totals { received: 100, sent: 50, ..Totals::default() };
        let now = Totals { received: 1100, sent: 550, dropped: 20, shed: 30, ..Totals::default() };
        let rates = Rates::between(&before, &now, Duration::from_millis(500));
        assert_eq!((rates.in_pps, rates.out_pps, rates.dropped_pps), (2000.0, 1000.0, 100.0));
        assert_eq!(rates.line(), "in 2000pps, out 1000pps, dropped 100pps");
    }
}
