//! What a process did between two snapshots: the source of every rate that is shown.

use crate::snapshot::Snapshot;

/// Two snapshots of one process, the later one and what it has more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    /// The later snapshot.
    pub(crate) now: Snapshot,
    /// What has been counted in between.
    pub(crate) delta: Snapshot,
    /// Length in seconds, above 0.
    pub(crate) secs: f64,
}

impl Window {
    /// From `earlier` to `now`; since the start of the process where there is no earlier one.
    pub(crate) fn between(earlier: Option<&Snapshot>, now: Snapshot) -> Self {
        let delta = match earlier {
            Some(earlier) => now.since(earlier),
            None => now.clone(),
        };
        let secs = delta.uptime_ms.max(1) as f64 / 1000.0;
        Self { now, delta, secs }
    }

    /// `n` events in this window, as events per second.
    pub(crate) fn rate(&self, n: u64) -> f64 {
        n as f64 / self.secs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Totals;

    fn snapshot(uptime_ms: u64, received: u64) -> Snapshot {
        Snapshot { uptime_ms, totals: Totals { received, ..Totals::default() }, ..Snapshot::default() }
    }

    #[test]
    fn rates_are_differences_over_the_time_in_between() {
        let window = Window::between(Some(&snapshot(1000, 100)), snapshot(1500, 600));
        assert_eq!((window.secs, window.rate(window.delta.totals.received)), (0.5, 1000.0));
    }

    #[test]
    fn the_first_window_reaches_back_to_the_start() {
        let window = Window::between(None, snapshot(2000, 600));
        assert_eq!(window.rate(window.delta.totals.received), 300.0);
    }
}
