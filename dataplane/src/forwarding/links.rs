//! The port table: what the follower knows of the links, less the room that encapsulating blocks need.
//!
//! A block that makes frames longer on their way out reserves the bytes here. The forwarder then takes the link for that
//! much smaller, so that it fragments, or tells senders (RFC 1191, RFC 8201), as a tunnel's interface would.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::PortEntry;

/// The port table, shared by the follower, which writes it, and blocks.
pub(super) struct Links {
    table: Mutex<Table>,
    version: AtomicU64,
}

struct Table {
    /// As the follower knows them.
    links: Vec<PortEntry>,
    /// With the number of those who hold them.
    reserved: Vec<(Reserved, usize)>,
    /// What readers get.
    shown: Arc<Vec<PortEntry>>,
}

/// Bytes that blocks of a kind add to frames that leave by a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reserved {
    pub(super) kind: &'static str,
    /// Name of the port; empty: any.
    pub(super) port: String,
    pub(super) bytes: u32,
}

impl Links {
    pub(super) fn new(links: Vec<PortEntry>) -> Self {
        let mut table = Table { links, reserved: Vec::new(), shown: Arc::default() };
        table.show();
        Self { table: Mutex::new(table), version: AtomicU64::new(0) }
    }

    #[inline]
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(super) fn shown(&self) -> Arc<Vec<PortEntry>> {
        Arc::clone(&self.lock().shown)
    }

    pub(super) fn publish(&self, links: Vec<PortEntry>) {
        self.change(|table| table.links = links);
    }

    /// Counts a holder in. Blocks of one kind for one port count once: each worker has one, and while a block is replaced
    /// there are two.
    pub(super) fn reserve(&self, reserved: &Reserved) {
        self.change(|table| match table.reserved.iter_mut().find(|(known, _)| known == reserved) {
            Some((_, holders)) => *holders += 1,
            None => table.reserved.push((reserved.clone(), 1)),
        });
    }

    /// Counts a holder out.
    pub(super) fn release(&self, reserved: &Reserved) {
        self.change(|table| {
            table.reserved.retain_mut(|(known, holders)| {
                *holders -= usize::from(known == reserved);
                *holders > 0
            });
        });
    }

    fn change(&self, change: impl FnOnce(&mut Table)) {
        let mut table = self.lock();
        change(&mut table);
        table.show();
        self.version.fetch_add(1, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn show(&mut self) {
        let reserved = |link: &PortEntry| {
            let here = |one: &Reserved| one.port.is_empty() || one.port == link.name;
            self.reserved.iter().filter(|(one, _)| here(one)).map(|(one, _)| one.bytes).sum::<u32>()
        };
        let entry = |link: &PortEntry| PortEntry {
            mtu: link.mtu.saturating_sub(reserved(link)),
            link_mtu: link.mtu,
            ..link.clone()
        };
        self.shown = Arc::new(self.links.iter().map(entry).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mtus(links: &Links) -> Vec<(u32, u32)> {
        links.shown().iter().map(|entry| (entry.mtu, entry.link_mtu)).collect()
    }

    #[test]
    fn reserved_room_is_taken_off_once_for_each_kind_and_port() {
        let port = |(name, mtu): (&str, u32)| PortEntry { name: name.into(), mtu, ..PortEntry::default() };
        let ports = [("a", 1500), ("b", 1540), ("c", 0)].map(port);
        let links = Links::new(ports.to_vec());
        let encrypt = Reserved { kind: "encrypt", port: "b".into(), bytes: 40 };
        let compress = Reserved { kind: "compress", port: String::new(), bytes: 10 };
        links.reserve(&encrypt);
        links.reserve(&encrypt);
        links.reserve(&compress);
        assert_eq!(mtus(&links), [(1490, 1500), (1490, 1540), (0, 0)]);
        links.release(&encrypt);
        assert_eq!(mtus(&links)[1], (1490, 1540), "one holder is left");
        links.release(&encrypt);
        assert_eq!(mtus(&links)[1], (1530, 1540));
        links.publish(ports.map(|entry| PortEntry { mtu: 9000, ..entry }).to_vec());
        assert_eq!(mtus(&links), [(8990, 9000); 3]);
        links.release(&compress);
        assert_eq!(mtus(&links), [(9000, 9000); 3]);
        assert_eq!(links.version(), 7);
    }
}
