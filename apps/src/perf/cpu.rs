//! What a test cost this process, as iperf3 reports it: percent of one CPU.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// CPU time up to one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct CpuTime {
    at: Instant,
    total_ns: u64,
    /// In the kernel's coarse ticks.
    user: u64,
    system: u64,
}

/// Percent of one CPU; several workers may use more than 100.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct CpuUse {
    pub(super) total: f64,
    pub(super) user: f64,
    pub(super) system: f64,
}

impl CpuTime {
    pub(super) fn now() -> Self {
        let total = clock_gettime(ClockId::ProcessCPUTime);
        let (user, system) = std::fs::read_to_string("/proc/self/stat").ok().and_then(|s| ticks(&s)).unwrap_or((0, 0));
        Self { at: Instant::now(), total_ns: total.tv_sec as u64 * 1_000_000_000 + total.tv_nsec as u64, user, system }
    }

    /// From `self` to `later`. The whole is exact; its parts are as the ticks divide it.
    pub(super) fn until(&self, later: &Self) -> CpuUse {
        let elapsed = later.at.duration_since(self.at).as_nanos().max(1) as f64;
        let total = later.total_ns.saturating_sub(self.total_ns) as f64 / elapsed * 100.0;
        let (user, system) = (later.user.saturating_sub(self.user), later.system.saturating_sub(self.system));
        let share = if user + system == 0 { 1.0 } else { user as f64 / (user + system) as f64 };
        CpuUse { total, user: total * share, system: total * (1.0 - share) }
    }
}

/// `utime` and `stime` of proc_pid_stat(5), behind the name, which may hold anything.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 1 2 3 4 55 66 0 0 20 0 3 0 1 2 3";
        assert_eq!(ticks(stat), Some((55, 66)));
        assert_eq!(ticks("7 (x) S 1"), None);
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let at = Instant::now();
        let before = CpuTime { at, total_ns: 0, user: 10, system: 10 };
        let later = CpuTime { at: at + std::time::Duration::from_secs(1), total_ns: 500_000_000, user: 40, system: 20 };
        assert_eq!(before.until(&later), CpuUse { total: 50.0, user: 37.5, system: 12.5 });
    }
}
