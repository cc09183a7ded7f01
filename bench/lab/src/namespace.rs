//! One network namespace: made, used, removed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{LabError, Program, pin_thread};

/// Longest time any of the short configuration commands may take on a loaded machine.
pub(crate) const CONFIGURE: Duration = Duration::from_secs(30);

/// A link is looked at this often until it is up, ten seconds in all.
const UP_POLL: Duration = Duration::from_millis(20);
const UP_POLLS_MAX: usize = 500;

/// Where iproute2 keeps its named network namespaces.
pub(crate) const NETNS_DIR: &str = "/run/netns";

/// A network namespace which is removed with this value.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// NAPI threads found so far, by interface.
    napi_threads: Mutex<BTreeMap<String, BTreeSet<u32>>>,
}

/// Counters of one interface since it was made (the driver's own, as `ip -s link` shows them).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

impl Namespace {
    pub(crate) fn create(name: String) -> Result<Self, LabError> {
        if !rustix::process::geteuid().is_root() {
            return Err(LabError::Privileges);
        }
        Program::new("ip").args(["netns", "add", &name]).run(CONFIGURE)?;
        let namespace = Self { name, napi_threads: Mutex::default() };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The name under which `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A program to be run inside.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Program {
        Program::inside(&self.name, program)
    }

    /// Runs `ip` inside with these words, split at blanks: `namespace.ip("route add default via 10.1.0.1")`.
    pub fn ip(&self, words: &str) -> Result<String, LabError> {
        Program::new("ip").args(["-n", &self.name]).args(words.split_ascii_whitespace()).run(CONFIGURE)
    }

    /// Runs many `ip` commands in one go, one a line without the word `ip`: thousands of routes in a second.
    pub fn ip_batch(&self, lines: &str) -> Result<(), LabError> {
        let file = std::env::temp_dir().join(format!("tailwater-lab-{}-{}", self.name, std::process::id()));
        fs::write(&file, lines).map_err(|source| LabError::system(format!("writing {}", file.display()), source))?;
        let result = Program::new("ip").args(["-n", &self.name, "-batch"]).arg(&file).run(CONFIGURE);
        let _ = fs::remove_file(&file);
        result.map(drop)
    }

    /// Waits until the kernel has noticed that the interface's other end is there too. Until then, for up to a second
    /// after `up`, it answers no neighbour discovery.
    pub fn wait_until_up(&self, interface: &str) -> Result<(), LabError> {
        for _ in 0..UP_POLLS_MAX {
            let line = self.ip(&format!("-br link show dev {interface}"))?;
            if line.split_ascii_whitespace().nth(1) == Some("UP") {
                return Ok(());
            }
            thread::sleep(UP_POLL);
        }
        Err(LabError::NotUp { namespace: self.name.clone(), interface: interface.to_owned() })
    }

    /// Sets one sysctl of this namespace.
    pub fn sysctl(&self, key: &str, value: impl std::fmt::Display) -> Result<(), LabError> {
        self.program("sysctl").args(["-qw", &format!("{key}={value}")]).run(CONFIGURE).map(drop)
    }

    /// Switches off-loads: `namespace.offload("c0", &["tx", "tso", "gso"], false)`.
    pub fn offload(&self, interface: &str, features: &[&str], on: bool) -> Result<(), LabError> {
        let mut program = self.program("ethtool").args(["-K", interface]);
        for feature in features {
            program = program.args([*feature, if on { "on" } else { "off" }]);
        }
        program.run(CONFIGURE).map(drop)
    }

    /// Runs a closure on a fresh thread inside the namespace and returns what it returns: sockets it opens live here.
    ///
    /// Files below `/sys` are those of the caller's namespace even there; run a program to reach the others.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let path = format!("{NETNS_DIR}/{}", self.name);
        let file = fs::File::open(&path).map_err(|source| LabError::system(format!("opening {path}"), source))?;
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                use std::os::fd::AsFd;
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .map_err(|source| LabError::system(format!("entering namespace {}", self.name), source))?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The interface's index in this namespace.
    pub fn interface_index(&self, interface: &str) -> Result<u32, LabError> {
        let text = self.program("cat").arg(format!("/sys/class/net/{interface}/ifindex")).run(CONFIGURE)?;
        text.trim().parse().map_err(|_| self.no_interface(interface))
    }

    /// The interface's counters now.
    pub fn counters(&self, interface: &str) -> Result<LinkCounters, LabError> {
        // /proc/net is that of the process's first thread; this one has moved.
        let table = self
            .enter(|| fs::read_to_string("/proc/thread-self/net/dev"))?
            .map_err(|source| LabError::system("reading /proc/thread-self/net/dev", source))?;
        LinkCounters::parse(&table, interface).ok_or_else(|| self.no_interface(interface))
    }

    /// The driver's counters now (`ethtool -S`).
    pub fn driver_counters(&self, interface: &str) -> Result<BTreeMap<String, u64>, LabError> {
        let text = self.program("ethtool").args(["-S", interface]).run(CONFIGURE)?;
        Ok(text
            .lines()
            .filter_map(|line| line.rsplit_once(':'))
            .filter_map(|(name, value)| Some((name.trim().to_owned(), value.trim().parse().ok()?)))
            .collect())
    }

    /// Gives the interface's receive work to kernel threads of its own (threaded NAPI), pins them to `cpu`, and returns
    /// their thread ids.
    ///
    /// Without it a veth's receive work runs in a softirq on the CPU of whoever *sends*. A veth has a NAPI only while
    /// XDP is attached or gro is on: do that first.
    pub fn napi_thread(&self, interface: &str, cpu: usize) -> Result<Vec<u32>, LabError> {
        self.counters(interface)?;
        let none = || LabError::NoNapiThread { namespace: self.name.clone(), interface: interface.to_owned() };
        let before = napi_threads(interface);
        let script = format!("echo 1 > /sys/class/net/{interface}/threaded");
        // The kernel refuses this for a device that has no NAPI at all.
        self.program("sh").args(["-c", &script]).run(CONFIGURE).map_err(|_| none())?;
        let after = napi_threads(interface);
        // Names of threads are machine-wide and other labs have a d0 too: only those that have just appeared are ours,
        // and those that had appeared when this was asked before.
        let mut known = self.napi_threads.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = known.entry(interface.to_owned()).or_default();
        ours.retain(|thread| after.contains(thread));
        ours.extend(after.difference(&before));
        let threads: Vec<u32> = ours.iter().copied().collect();
        if threads.is_empty() {
            return Err(none());
        }
        for &thread in &threads {
            pin_thread(thread, cpu)?;
        }
        Ok(threads)
    }

    /// Gives receive work back to softirqs.
    pub fn napi_softirq(&self, interface: &str) -> Result<(), LabError> {
        let script = format!("echo 0 > /sys/class/net/{interface}/threaded");
        self.program("sh").args(["-c", &script]).run(CONFIGURE).map(drop)
    }

    fn no_interface(&self, interface: &str) -> LabError {
        LabError::NoInterface { namespace: self.name.clone(), interface: interface.to_owned() }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        crate::sweep::remove(&self.name);
    }
}

impl LinkCounters {
    /// A line is `name: bytes packets errs drop fifo frame compressed multicast`, then the same for transmit.
    fn parse(table: &str, interface: &str) -> Option<Self> {
        let fields = table
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.trim() == interface)
            .map(|(_, fields)| fields)?;
        let fields: Vec<u64> = fields.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
        let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..] =
            fields[..]
        else {
            return None;
        };
        Some(Self { rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped })
    }
}

/// Kernel threads `napi/<interface>-<id>` of the whole machine.
fn napi_threads(interface: &str) -> BTreeSet<u32> {
    let start = format!("napi/{interface}-");
    let Ok(entries) = fs::read_dir("/proc") else {
        return BTreeSet::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with(&start)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_whole_name() {
        let table = "Inter-| Receive\n face |bytes\n  d0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n d01:9 9 9 9 0 0 0 0 9 9 9 9 0 0 0 0\n";
        let expected = LinkCounters {
            rx_bytes: 1,
            rx_packets: 2,
            rx_errors: 3,
            rx_dropped: 4,
            tx_bytes: 5,
            tx_packets: 6,
            tx_errors: 7,
            tx_dropped: 8,
        };
        assert_eq!(LinkCounters::parse(table, "d0"), Some(expected));
        assert_eq!(LinkCounters::parse(table, "d01").map(|counters| counters.tx_dropped), Some(9));
        assert_eq!(LinkCounters::parse(table, "d"), None);
    }
}
