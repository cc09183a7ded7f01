//! What the kernel says of an interface.

use std::fs;

use crate::error::{Error, Result};
use crate::sys::Asker;

/// Facts about one interface, in the network namespace of the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) driver: String,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    pub(crate) rx_queues: u32,
    pub(crate) tx_queues: u32,
    pub(crate) tx_checksum: bool,
    pub(crate) tso: bool,
}

impl Interface {
    pub(crate) fn ask(ifindex: u32) -> Result<Self> {
        let asker = Asker::new().map_err(|error| Error::system("socket", error))?;
        let name = asker.name(ifindex).ok_or(Error::NoInterface { ifindex })?;
        let (rx_queues, tx_queues) = asker.queues(&name).unwrap_or_else(|| sysfs_queues(&name));
        Ok(Self {
            driver: asker.driver(&name).unwrap_or_else(|| "unknown".into()),
            mac: asker.mac(&name).map_err(|error| Error::system("SIOCGIFHWADDR", error))?,
            mtu: asker.mtu(&name).map_err(|error| Error::system("SIOCGIFMTU", error))?,
            up: asker.is_up(&name).map_err(|error| Error::system("SIOCGIFFLAGS", error))?,
            rx_queues,
            tx_queues,
            tx_checksum: asker.tx_checksum(&name).unwrap_or(false),
            // Whoever cannot be asked is taken to have it: then nothing is longer than a device may be told.
            tso: asker.tso(&name).unwrap_or(true),
            name,
        })
    }
}

/// Drivers without `ethtool -l`. sysfs shows the namespace it was mounted in, so this may know nothing.
fn sysfs_queues(name: &str) -> (u32, u32) {
    let count = |prefix: &str| {
        let entries = fs::read_dir(format!("/sys/class/net/{name}/queues")).ok()?;
        let names = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        u32::try_from(names.count()).ok()
    };
    (count("rx-").unwrap_or(1).max(1), count("tx-").unwrap_or(1).max(1))
}
