//! Threaded NAPI: kernel threads that do an interface's receive work on cores of our choice.
//!
//! Without them the receive work of a veth runs on the core of whoever sends, that of a card on the core which takes its
//! interrupt. The kernel makes the threads when `/sys/class/net/IF/threaded` is set, which needs a NAPI: on a veth after
//! the XDP program is attached. They are named `napi/IF-ID`, with ids in the order of the queues.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::failure::Failure;

/// Interfaces switched to threaded NAPI; back to what they were when dropped.
#[derive(Debug, Default)]
pub(crate) struct NapiThreads {
    restore: Vec<(PathBuf, String)>,
    /// What was done, in words.
    pub(crate) notes: Vec<String>,
}

impl NapiThreads {
    /// Switches interfaces over and pins the thread of queue q to the core of the worker that owns it.
    pub(crate) fn start<'a>(
        interfaces: impl Iterator<Item = (&'a str, u32)>,
        cores: &[usize],
        nice: i32,
    ) -> anyhow::Result<Self> {
        let mut threads = Self::default();
        for (interface, ifindex) in interfaces {
            threads.switch(interface, ifindex, cores, nice)?;
        }
        Ok(threads)
    }

    fn switch(&mut self, interface: &str, ifindex: u32, cores: &[usize], nice: i32) -> anyhow::Result<()> {
        let folder = PathBuf::from("/sys/class/net").join(interface);
        let shown = fs::read_to_string(folder.join("ifindex")).unwrap_or_default();
        if shown.trim() != ifindex.to_string() {
            let hint =
                "enter the namespace with `ip netns exec`, which mounts the right /sys, or leave --napi-thread out";
            return Err(Failure::new(format!("/sys shows another namespace's {interface}"), hint).into());
        }
        let file = folder.join("threaded");
        let was = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let before = find(interface);
        if was.trim() == "1" {
            self.notes.push(format!("{interface}: NAPI was threaded already; its threads are pinned, and left so"));
            return self.pin(interface, &before, cores, nice);
        }
        fs::write(&file, "1").map_err(|error| {
            let hint = "the driver has no NAPI that can run in a thread; leave --napi-thread out";
            Failure::new(format!("cannot switch {interface} to threaded NAPI: {error}"), hint)
        })?;
        self.restore.push((file, was.trim().to_owned()));
        // Other namespaces may have an interface of this name: only what has just appeared is ours.
        let ours = find(interface).into_iter().filter(|(id, _)| !before.contains_key(id)).collect();
        self.pin(interface, &ours, cores, nice)
    }

    fn pin(&mut self, interface: &str, threads: &BTreeMap<u32, Pid>, cores: &[usize], nice: i32) -> anyhow::Result<()> {
        let mut pinned = Vec::new();
        for ((id, thread), core) in threads.iter().zip(cores.iter().cycle()) {
            let mut set = CpuSet::new();
            set.set(*core);
            sched_setaffinity(Some(*thread), &set)
                .with_context(|| format!("cannot pin napi/{interface}-{id} to core {core}"))?;
            rustix::process::setpriority_process(Some(*thread), nice)
                .with_context(|| format!("cannot set the nice value of napi/{interface}-{id}"))?;
            pinned.push(format!("napi/{interface}-{id} on core {core}"));
        }
        self.notes.push(match pinned.is_empty() {
            true => format!("{interface}: the driver made no NAPI thread"),
            false => format!("{interface}: receive work in {}", pinned.join(", ")),
        });
        Ok(())
    }
}

impl Drop for NapiThreads {
    fn drop(&mut self) {
        for (file, was) in &self.restore {
            // The interface may be gone, and its threads with it.
            if let Err(error) = fs::write(file, was) {
                tracing::debug!(file = %file.display(), %error, "could not switch threaded NAPI back");
            }
        }
    }
}

/// Kernel threads of an interface, by NAPI id.
fn find(interface: &str) -> BTreeMap<u32, Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let threads = entries.filter_map(|entry| {
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        // Of kernel threads this is the full name, longer than the 15 bytes that others have.
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        Some((napi_id(name.trim_end(), interface)?, pid))
    });
    threads.collect()
}

/// The id in `napi/IF-ID`, if it is that interface's.
fn napi_id(comm: &str, interface: &str) -> Option<u32> {
    comm.strip_prefix("napi/")?.strip_prefix(interface)?.strip_prefix('-')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_belongs_to_the_interface_of_exactly_that_name() {
        assert_eq!(napi_id("napi/d0-8193", "d0"), Some(8193));
        assert_eq!(napi_id("napi/d01-8193", "d0"), None);
        assert_eq!(napi_id("napi/d0-x", "d0"), None);
        assert_eq!(napi_id("kworker/0", "d0"), None);
        assert_eq!(napi_id("napi/d0-1-7", "d0-1"), Some(7));
    }
}
