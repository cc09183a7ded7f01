//! What has been measured of requests and responses: intervals as they end, and the latencies of all workers.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};

use super::protocol::Transactions;
use super::settings::Settings;
use super::test::Mark;
use super::transact::Transacted;

/// All connections in one interval; times in seconds, since the test began or its omission ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Beat {
    pub(super) start: f64,
    pub(super) end: f64,
    pub(super) count: u64,
    pub(super) omitted: bool,
}

impl Beat {
    pub(super) fn per_second(&self) -> f64 {
        self.count as f64 / (self.end - self.start).max(1e-9)
    }
}

/// News of one worker.
pub(super) struct News {
    pub(super) worker: usize,
    pub(super) mark: Mark,
    pub(super) at_ns: u64,
    pub(super) count: u64,
    pub(super) whole: Option<Box<Transacted>>,
}

struct Entry {
    beats: VecDeque<Beat>,
    base_ns: u64,
    last: (u64, u64),
    omitting: bool,
}

/// Of one test.
pub(super) struct Tally {
    workers: Vec<Entry>,
    pub(super) beats: Vec<Beat>,
    total: Option<Transacted>,
    ended: usize,
    seconds: f64,
}

impl Tally {
    pub(super) fn new(workers: usize, settings: &Settings, started_ns: u64) -> Self {
        let entry = || Entry {
            beats: VecDeque::new(),
            base_ns: started_ns,
            last: (started_ns, 0),
            omitting: settings.omit > Duration::ZERO,
        };
        let workers = (0..workers).map(|_| entry()).collect();
        Self { workers, beats: Vec::new(), total: None, ended: 0, seconds: 0.0 }
    }

    /// The interval that this completes, if it does.
    pub(super) fn note(&mut self, news: News) -> Option<Beat> {
        let entry = self.workers.get_mut(news.worker)?;
        let seconds = |at_ns: u64| at_ns.saturating_sub(entry.base_ns) as f64 * 1e-9;
        let (start, end) = (seconds(entry.last.0), seconds(news.at_ns));
        let count = news.count.saturating_sub(entry.last.1);
        entry.beats.push_back(Beat { start, end, count, omitted: entry.omitting });
        entry.last = (news.at_ns, news.count);
        match news.mark {
            Mark::Interval => {}
            Mark::OmitEnd => {
                (entry.base_ns, entry.last, entry.omitting) = (news.at_ns, (news.at_ns, 0), false);
            }
            Mark::Final => {
                self.ended += 1;
                self.seconds = self.seconds.max(end);
            }
        }
        if let Some(whole) = news.whole {
            match &mut self.total {
                Some(total) => total.add(&whole),
                None => self.total = Some(*whole),
            }
        }
        self.next_beat()
    }

    fn next_beat(&mut self) -> Option<Beat> {
        if self.workers.iter().any(|entry| entry.beats.is_empty()) {
            return None;
        }
        let beats = self.workers.iter_mut().filter_map(|entry| entry.beats.pop_front());
        let beat =
            beats.reduce(|sum, beat| Beat { end: sum.end.max(beat.end), count: sum.count + beat.count, ..sum })?;
        self.beats.push(beat);
        Some(beat)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.ended >= self.workers.len()
    }

    /// What all workers found, once they are through.
    pub(super) fn total(&self) -> Option<Measured> {
        Some(Measured { transacted: self.total.clone()?, seconds: self.seconds })
    }
}

/// A test's outcome.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) transacted: Transacted,
    pub(super) seconds: f64,
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

impl Measured {
    fn per_second(&self) -> f64 {
        self.transacted.count as f64 / self.seconds.max(1e-9)
    }

    pub(super) fn lines(&self, settings: &Settings) -> Vec<String> {
        let Transacted { count, failed, latency } = &self.transacted;
        let mut lines = Vec::new();
        if let Some(Transactions { request, response, close }) = settings.transactions {
            let what = if close { "connect, request, response, close" } else { "request, response" };
            let (parallel, s) = (settings.parallel, if settings.parallel == 1 { "" } else { "s" });
            lines.push(format!("{what}: {request} B for {response} B over {parallel} connection{s}"));
        }
        let failed = if *failed > 0 { format!(", {failed} failed") } else { String::new() };
        lines.push(format!("{count} in {:.2} s: {:.1} per second{failed}", self.seconds, self.per_second()));
        let shown = |ns: u64| format!("{:.1}", ns as f64 * 1e-3);
        let quantiles = QUANTILES.map(|(name, at)| format!("{name} {}", shown(latency.value_at_quantile(at))));
        let max = shown(latency.max());
        lines.push(format!("latency, us: min {}  {}  max {max}", shown(latency.min()), quantiles.join("  ")));
        lines
    }

    pub(super) fn to_json(&self, settings: &Settings) -> Value {
        let Transacted { count, failed, latency } = &self.transacted;
        let us = |ns: f64| json!(ns * 1e-3);
        let mut latencies = json!({
            "min": us(latency.min() as f64), "mean": us(latency.mean()), "max": us(latency.max() as f64),
        });
        for (name, at) in QUANTILES {
            latencies[name] = us(latency.value_at_quantile(at) as f64);
        }
        let asked = settings.transactions.unwrap_or_default();
        json!({
            "mode": if asked.close { "crr" } else { "rr" },
            "peer": if settings.echo { "echo" } else { "perf" },
            "request_bytes": asked.request, "response_bytes": asked.response, "connections": settings.parallel,
            "count": count, "failed": failed, "seconds": self.seconds, "per_second": self.per_second(),
            "latency_us": latencies,
        })
    }
}

impl Beat {
    pub(super) fn line(&self) -> String {
        let omitted = if self.omitted { "  (omitted)" } else { "" };
        let Self { start, end, count, .. } = self;
        format!("{start:6.2}-{end:<6.2} sec  {count:9}  {:10.1} per second{omitted}", self.per_second())
    }

    pub(super) fn to_json(self) -> Value {
        json!({
            "start": self.start, "end": self.end, "seconds": self.end - self.start,
            "transactions": self.count, "per_second": self.per_second(), "omitted": self.omitted,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Parameters;
    use super::*;

    #[test]
    fn an_interval_is_complete_when_every_worker_has_ended_it() {
        let settings = Settings::of(&Parameters { omit: 1, ..Parameters::default() }).unwrap();
        let mut tally = Tally::new(2, &settings, 0);
        let news = |worker, mark, at_ns, count| News { worker, mark, at_ns, count, whole: None };
        assert_eq!(tally.note(news(0, Mark::OmitEnd, 1_000_000_000, 7)), None);
        let first = tally.note(news(1, Mark::OmitEnd, 1_000_000_000, 5));
        assert_eq!(first, Some(Beat { start: 0.0, end: 1.0, count: 12, omitted: true }));
        assert_eq!(tally.note(news(1, Mark::Final, 3_000_000_000, 30)), None);
        let last = tally.note(news(0, Mark::Final, 3_000_000_000, 10));
        assert_eq!(last, Some(Beat { start: 0.0, end: 2.0, count: 40, omitted: false }));
        assert!(tally.is_complete());
    }
}
