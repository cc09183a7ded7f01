//! What a forwarder of ours tells of itself, and what the kernel's accounts say about its process.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tailwater_lab::Program;

use crate::interrupt;

const ANSWER: Duration = Duration::from_secs(10);

/// Counters since the start of a process, from `tailwater stats`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Totals {
    /// Packets that came in.
    received: u64,
    /// Packets that left.
    sent: u64,
    /// Of its workers.
    system_calls: u64,
}

#[derive(Deserialize)]
struct Stats {
    totals: Totals,
}

impl Totals {
    pub(crate) fn read(tailwater: &Path, pid: u32) -> Result<Self> {
        let json = Program::new(tailwater).args(["stats", "-j", "--pid", &pid.to_string()]).run(ANSWER)?;
        Self::parse(&json)
    }

    fn parse(json: &str) -> Result<Self> {
        let stats: Stats = serde_json::from_str(json).context("tailwater stats -j")?;
        Ok(stats.totals)
    }

    /// Packets received and packets sent, together, for each system call since `earlier`.
    pub(crate) fn packets_per_call_since(&self, earlier: &Self) -> f64 {
        let packets = self.received + self.sent - earlier.received - earlier.sent;
        packets as f64 / (self.system_calls - earlier.system_calls).max(1) as f64
    }
}

/// Share of one CPU that all threads of a process take in this time.
pub(crate) fn cpu_share(pid: u32, time: Duration) -> Result<f64> {
    let (started, before) = (Instant::now(), cpu_ns(pid)?);
    interrupt::sleep(time)?;
    let spent_ns = cpu_ns(pid)?.saturating_sub(before);
    Ok(spent_ns as f64 / started.elapsed().as_nanos() as f64)
}

/// Time that the threads of a process have had on CPUs: the first number of each one's `schedstat`.
fn cpu_ns(pid: u32) -> Result<u64> {
    let folder = format!("/proc/{pid}/task");
    let threads = std::fs::read_dir(&folder).with_context(|| folder.clone())?;
    threads.map(|thread| run_ns(&std::fs::read_to_string(thread?.path().join("schedstat"))?)).sum()
}

fn run_ns(schedstat: &str) -> Result<u64> {
    let first = schedstat.split_ascii_whitespace().next().context("an empty schedstat")?;
    first.parse().with_context(|| format!("schedstat {schedstat:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_both_ways_are_told_for_each_call_of_the_time_between() {
        let json = |received, calls| {
            format!(r#"{{"totals":{{"received":{received},"sent":100,"dropped":3,"system_calls":{calls}}}}}"#)
        };
        let [before, after] = [json(100, 10), json(740, 20)].map(|json| Totals::parse(&json).unwrap());
        assert!((after.packets_per_call_since(&before) - 64.0).abs() < f64::EPSILON);
        assert!(after.packets_per_call_since(&after).abs() < f64::EPSILON);
    }

    #[test]
    fn time_on_a_cpu_is_the_first_number() {
        assert_eq!(run_ns("41569248 53823411 41\n").unwrap(), 41_569_248);
        assert!(run_ns("").is_err());
    }
}
