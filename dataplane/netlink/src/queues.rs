//! What only sysfs tells about a link: queues in use, and the driver.

use std::fs;
use std::path::{Path, PathBuf};

use crate::link::Link;

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

/// The link's directory, if it is this link's: sysfs shows the network namespace of whoever mounted
/// it, where another interface may have the same name.
fn own_directory(link: &Link) -> Option<PathBuf> {
    let directory = directory(&link.name)?;
    let ifindex = fs::read_to_string(directory.join("ifindex")).ok()?;
    let mac = fs::read_to_string(directory.join("address")).ok()?;
    let own_mac: Vec<String> = link.mac.iter().map(|byte| format!("{byte:02x}")).collect();
    (ifindex.trim().parse() == Ok(link.ifindex) && mac.trim() == own_mac.join(":")).then_some(directory)
}

/// Counts the queues of a link. `None` where sysfs does not show it: `ip netns exec` mounts the right
/// sysfs, a bare setns does not.
pub(crate) fn queues(link: &Link) -> Option<Queues> {
    let entries = fs::read_dir(own_directory(link)?.join("queues")).ok()?;
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
pub(crate) fn driver(link: &Link) -> Option<String> {
    let target = fs::read_link(own_directory(link)?.join("device/driver")).ok()?;
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
        let links = crate::Control::open().and_then(|mut control| control.links()).unwrap_or_default();
        let loopback = links.iter().find(|link| link.loopback);
        assert!(loopback.and_then(queues).is_some_and(|q| q.rx >= 1 && q.tx >= 1));
        assert_eq!(loopback.and_then(driver), None);
    }
}
