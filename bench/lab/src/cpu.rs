//! CPU pinning and CPU time, by process and by CPU.

use std::fs;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::LabError;

/// Pins every thread that process `pid` has now to `cpu`.
pub fn pin_process(pid: u32, cpu: usize) -> Result<(), LabError> {
    let tasks = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&tasks).map_err(|source| LabError::system(format!("listing {tasks}"), source))?;
    for task in entries.flatten() {
        if let Some(tid) = task.file_name().to_str().and_then(|name| name.parse().ok()) {
            pin_thread(tid, cpu)?;
        }
    }
    Ok(())
}

/// Pins one thread to `cpu`; thread 0 is the calling one.
pub fn pin_thread(tid: u32, cpu: usize) -> Result<(), LabError> {
    let mut set = CpuSet::new();
    set.set(cpu);
    let pid = i32::try_from(tid).ok().and_then(Pid::from_raw);
    sched_setaffinity(pid, &set)
        .map_err(|source| LabError::system(format!("pinning thread {tid} to CPU {cpu}"), source))
}

/// Time one CPU has spent since boot, in clock ticks (10 ms on every common kernel).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    pub busy_ticks: u64,
    pub idle_ticks: u64,
}

impl CpuTimes {
    /// Reads `/proc/stat` for `cpu`.
    pub fn read(cpu: usize) -> Result<Self, LabError> {
        let stat = fs::read_to_string("/proc/stat").map_err(|source| LabError::system("reading /proc/stat", source))?;
        Self::parse(&stat, cpu).ok_or_else(|| {
            LabError::system(format!("CPU {cpu} in /proc/stat"), std::io::Error::from(std::io::ErrorKind::NotFound))
        })
    }

    /// The fields after the name are user, nice, system, idle, iowait, irq, softirq, steal (proc(5)).
    fn parse(stat: &str, cpu: usize) -> Option<Self> {
        let name = format!("cpu{cpu}");
        let line = stat.lines().find(|line| line.split_ascii_whitespace().next() == Some(&name))?;
        let mut times = Self::default();
        for (position, field) in line.split_ascii_whitespace().skip(1).take(8).enumerate() {
            let ticks: u64 = field.parse().ok()?;
            match position {
                3 | 4 => times.idle_ticks += ticks,
                _ => times.busy_ticks += ticks,
            }
        }
        Some(times)
    }

    /// Share of the time from `earlier` to `self` in which the CPU was busy, 0 to 1.
    pub fn busy_since(self, earlier: Self) -> f64 {
        let busy = self.busy_ticks.saturating_sub(earlier.busy_ticks) as f64;
        let idle = self.idle_ticks.saturating_sub(earlier.idle_ticks) as f64;
        if busy + idle > 0.0 { busy / (busy + idle) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_iowait_are_the_idle_part_of_a_cpu_line() {
        let stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu1 9 0 0 0 0 0 0 0 0 0\ncpu0 1 2 3 400 50 6 7 8 0 0\n";
        assert_eq!(CpuTimes::parse(stat, 0), Some(CpuTimes { busy_ticks: 27, idle_ticks: 450 }));
        assert_eq!(CpuTimes::parse(stat, 7), None);
    }

    #[test]
    fn busy_share_is_of_the_interval_and_not_of_all_time() {
        let earlier = CpuTimes { busy_ticks: 1000, idle_ticks: 1000 };
        let later = CpuTimes { busy_ticks: 1075, idle_ticks: 1025 };
        assert!((later.busy_since(earlier) - 0.75).abs() < 1e-9);
        assert_eq!(earlier.busy_since(earlier), 0.0);
    }
}
