//! Removing namespaces: our own at the end, and those that a killed process left behind.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::namespace::{CONFIGURE, NETNS_DIR};
use crate::{LabError, Program};

/// Names are `twlab-<process id>-<number>-<role>`.
pub(crate) const PREFIX: &str = "twlab";

/// Rounds of ending the programs in a namespace before it is removed.
const ROUNDS_MAX: usize = 20;

/// Removes the labs of processes that no longer exist, with the programs left in them, and returns their names.
pub fn sweep() -> Result<Vec<String>, LabError> {
    let entries = match fs::read_dir(NETNS_DIR) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(LabError::system(format!("listing {NETNS_DIR}"), source)),
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let stale: Vec<String> = names.filter(|name| owner(name).is_some_and(|pid| !is_alive(pid))).collect();
    for name in &stale {
        remove(name);
    }
    Ok(stale)
}

/// Ends what still runs in the namespace and removes it. Its interfaces go with it.
pub(crate) fn remove(name: &str) {
    for round in 0..ROUNDS_MAX {
        let Ok(listing) = Program::new("ip").args(["netns", "pids", name]).run(CONFIGURE) else {
            break;
        };
        let pids: Vec<Pid> = listing.lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?)).collect();
        if pids.is_empty() {
            break;
        }
        let signal = if round < ROUNDS_MAX / 2 { Signal::TERM } else { Signal::KILL };
        for pid in pids {
            // A process that ended meanwhile is what we wanted.
            let _ = kill_process(pid, signal);
        }
        thread::sleep(Duration::from_millis(50));
    }
    // Nobody can act on a failure here; the next sweep tries again.
    let _ = Program::new("ip").args(["netns", "del", name]).run(CONFIGURE);
}

/// The process that made the namespace of this name, if it is one of ours.
fn owner(name: &str) -> Option<u32> {
    let mut parts = name.split('-');
    if parts.next() != Some(PREFIX) {
        return None;
    }
    let pid = parts.next()?.parse().ok()?;
    parts.next()?.parse::<u32>().ok()?;
    parts.next().map(|_| pid)
}

fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_labs_have_an_owner() {
        assert_eq!(owner("twlab-4711-3-dut"), Some(4711));
        for foreign in
            ["default", "twlab", "twlab-x-3-dut", "twlab-4711", "twlab-4711-3", "twlabs-1-1-dut", "vpn-1-1-dut"]
        {
            assert_eq!(owner(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn this_process_is_alive_and_an_impossible_one_is_not() {
        assert!(is_alive(std::process::id()));
        assert!(!is_alive(u32::MAX));
    }
}
