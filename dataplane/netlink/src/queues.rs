//! What only sysfs tells about a link: queues in use, and the driver.

use std::fs;
use std::path::{Path, PathBuf};

/// Queues of a device which are in use now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Queues {
    pub rx: u32,
    pub tx: u32,
}

/// A name of the kernel's is at most 15 bytes and holds neither `/` nor white space, and is no `.` or
/// `..`; any other must not become part of a path.
fn directory(name: &str) -> Option<PathBuf> {
    let plain = !name.is_empty() && name.len() < 16 && !name.contains('/') && name != "." && name != "..";
    plain.then(|| Path::new("/sys/class/net").join(name))
}

/// Counts the queues of interface `name`. `None` where sysfs does not show the interface: it belongs
/// to the network namespace which mounted it, so `ip netns exec` is right and a bare setns is not.
pub(crate) fn queues(name: &str) -> Option<Queues> {
    let entries = fs::read_dir(directory(name)?.join("queues")).ok()?;
    let mut queues = Queues { rx: 0, tx: 0 };
    for entry in entries.flatten() {
        let entry = entry.file_name();
        let entry = entry.to_string_lossy();
        queues.rx += u32::from(entry.starts_with("rx-"));
        queues.tx += u32::from(entry.starts_with("tx-"));
    }
    Some(queues)
}

/// Name of the driver of a device with a bus behind it.
pub(crate) fn driver(name: &str) -> Option<String> {
    let target = fs::read_link(directory(name)?.join("device/driver")).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_climb_out_of_sysfs() {
        assert_eq!(directory("../../etc"), None);
        assert_eq!(directory(".."), None);
        assert_eq!(directory(""), None);
        assert_eq!(directory("sixteen-bytes-xx"), None);
    }

    #[test]
    fn loopback_has_a_queue_each_way_and_no_driver() {
        assert!(queues("lo").is_some_and(|q| q.rx >= 1 && q.tx >= 1));
        assert_eq!(driver("lo"), None);
    }
}
