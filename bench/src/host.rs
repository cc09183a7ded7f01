//! What a figure depends on and what must be told with it: the machine, its kernel, and whether it was quiet.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;
use tailwater_lab::{CpuTimes, Program};

use crate::interrupt;

/// A CPU is quiet below this share of busy time.
const QUIET_SHARE: f64 = 0.05;
/// How long each look at the CPUs takes.
const LOOK: Duration = Duration::from_millis(200);

/// The machine a report was made on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Host {
    pub kernel: String,
    pub cpu_model: String,
    pub cpus: usize,
    pub hypervisor: String,
    pub dpdk: Option<String>,
    /// Seconds since 1970, UTC.
    pub started_unix_secs: u64,
}

impl Host {
    pub(crate) fn read() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let line = |key: &str| {
            let found = cpuinfo.lines().find(|line| line.starts_with(key))?;
            Some(found.split_once(':')?.1.trim().to_owned())
        };
        let version = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let virtual_machine = cpuinfo.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor"));
        Self {
            kernel: version.trim().to_owned(),
            cpu_model: line("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cpus: std::thread::available_parallelism().map_or(1, Into::into),
            hypervisor: if virtual_machine { "virtual machine" } else { "bare metal" }.to_owned(),
            dpdk: dpdk_version(),
            started_unix_secs: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        }
    }
}

fn dpdk_version() -> Option<String> {
    let words = ["-W", "-f=${Version}", "dpdk"];
    let version = Program::new("dpkg-query").args(words).run(Duration::from_secs(5)).ok()?;
    Some(version.trim().to_owned()).filter(|version| !version.is_empty())
}

/// Waits up to `patience` until nothing else uses these CPUs; returns the share they were busy at the last look.
pub(crate) fn wait_until_quiet(cpus: &[usize], patience: Duration) -> Result<f64> {
    let end = Instant::now() + patience;
    loop {
        let before = cpus.iter().map(|&cpu| CpuTimes::read(cpu)).collect::<Result<Vec<_>, _>>()?;
        interrupt::sleep(LOOK)?;
        let mut busiest: f64 = 0.0;
        for (&cpu, &earlier) in cpus.iter().zip(&before) {
            busiest = busiest.max(CpuTimes::read(cpu)?.busy_since(earlier));
        }
        if busiest <= QUIET_SHARE || Instant::now() >= end {
            return Ok(busiest);
        }
    }
}

/// Whether a machine this busy counts as quiet.
pub(crate) fn is_quiet(busy_share: f64) -> bool {
    busy_share <= QUIET_SHARE
}

/// Huge pages for DPDK, and for us: reserved while this exists, given back afterwards. What a killed run left reserved
/// is given back by the next; of runs side by side the first one gives back.
#[derive(Debug)]
pub(crate) struct HugePages {
    /// How many there were before; None if another run looks after them.
    before: Option<u64>,
}

const HUGE_PAGES: &str = "/proc/sys/vm/nr_hugepages";
/// Process id of the run that holds pages, and how many there were before it. Gone after a reboot, as the pages are.
const HUGE_PAGES_HELD: &str = "/run/tailwater-bench-hugepages";

/// Attempts to reserve pages; each compacts memory.
const TOP_UPS_MAX: usize = 5;

/// Who holds pages already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Nobody,
    /// By a run that has ended; there were this many before it.
    Dead(u64),
    Living,
}

impl HugePages {
    /// Has at least this many pages reserved machine-wide; already enough is left alone.
    pub(crate) fn reserve(pages: u64) -> Result<Self> {
        let now = reserved_huge_pages()?;
        let before = match held(&fs::read_to_string(HUGE_PAGES_HELD).unwrap_or_default()) {
            Held::Nobody => Some(now),
            Held::Dead(before) => Some(before),
            Held::Living => None,
        };
        if let Some(before) = before {
            fs::write(HUGE_PAGES_HELD, format!("{} {before}\n", std::process::id()))?;
        }
        let held = Self { before };
        top_up_huge_pages(pages)?;
        Ok(held)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            let _ = fs::write(HUGE_PAGES, before.to_string());
            let _ = fs::remove_file(HUGE_PAGES_HELD);
        }
    }
}

/// Reserves huge pages until there are this many, as far as memory allows: free memory may have to be compacted first, and
/// another run that ends takes its pages away.
pub(crate) fn top_up_huge_pages(pages: u64) -> Result<()> {
    for _ in 0..TOP_UPS_MAX {
        if reserved_huge_pages()? >= pages {
            break;
        }
        fs::write(HUGE_PAGES, pages.to_string())?;
        if reserved_huge_pages()? < pages {
            fs::write("/proc/sys/vm/compact_memory", "1")?;
        }
    }
    Ok(())
}

fn reserved_huge_pages() -> Result<u64> {
    Ok(fs::read_to_string(HUGE_PAGES)?.trim().parse()?)
}

fn held(text: &str) -> Held {
    let Some((pid, before)) = text.trim().split_once(' ') else { return Held::Nobody };
    match before.parse() {
        Ok(_) if std::path::Path::new("/proc").join(pid).exists() => Held::Living,
        Ok(before) => Held::Dead(before),
        Err(_) => Held::Nobody,
    }
}

/// The first of these names that is an executable on the PATH.
pub(crate) fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(extra).map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_a_dead_run_are_given_back_and_those_of_a_living_one_are_not() {
        assert_eq!(held("4294967295 7\n"), Held::Dead(7));
        assert_eq!(held(&format!("{} 7\n", std::process::id())), Held::Living);
        assert_eq!(held(""), Held::Nobody);
        assert_eq!(held("1 nonsense"), Held::Nobody);
    }

    #[test]
    fn program_is_found_by_its_name() {
        assert!(find_program("sh").is_some_and(|path| path.ends_with("sh")));
        assert!(find_program("no-such-program-here").is_none());
    }
}
