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
    reserved: Vec<Reserved>,
    /// What readers get.
    shown: Arc<Vec<PortEntry>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Reserved {
    kind: &'static str,
    port: Option<u16>,
    bytes: u32,
    holders: usize,
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
    pub(super) fn reserve(&self, kind: &'static str, port: Option<u16>, bytes: u32) {
        self.change(|table| {
            let same = |one: &&mut Reserved| (one.kind, one.port, one.bytes) == (kind, port, bytes);
            match table.reserved.iter_mut().find(same) {
                Some(one) => one.holders += 1,
                None => table.reserved.push(Reserved { kind, port, bytes, holders: 1 }),
            }
        });
    }

    /// Counts a holder out.
    pub(super) fn release(&self, kind: &'static str, port: Option<u16>, bytes: u32) {
        self.change(|table| {
            table.reserved.retain_mut(|one| {
                one.holders -= usize::from((one.kind, one.port, one.bytes) == (kind, port, bytes));
                one.holders > 0
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
        let reserved = |at: usize| {
            let here = |one: &&Reserved| one.port.is_none_or(|port| usize::from(port) == at);
            self.reserved.iter().filter(here).map(|one| one.bytes).sum::<u32>()
        };
        let entry = |(at, link): (usize, &PortEntry)| PortEntry {
            mtu: link.mtu.saturating_sub(reserved(at)),
            link_mtu: link.mtu,
            ..link.clone()
        };
        self.shown = Arc::new(self.links.iter().enumerate().map(entry).collect());
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
        let ports = [1500, 1540, 0].map(|mtu| PortEntry { mtu, ..PortEntry::default() });
        let links = Links::new(ports.to_vec());
        for _ in 0..2 {
            links.reserve("encrypt", Some(1), 40);
        }
        links.reserve("compress", None, 10);
        assert_eq!(mtus(&links), [(1490, 1500), (1490, 1540), (0, 0)]);
        links.release("encrypt", Some(1), 40);
        assert_eq!(mtus(&links)[1], (1490, 1540), "one holder is left");
        links.release("encrypt", Some(1), 40);
        assert_eq!(mtus(&links)[1], (1530, 1540));
        links.publish(ports.map(|entry| PortEntry { mtu: 9000, ..entry }).to_vec());
        assert_eq!(mtus(&links), [(8990, 9000); 3]);
        links.release("compress", None, 10);
        assert_eq!(mtus(&links), [(9000, 9000); 3]);
        assert_eq!(links.version(), 7);
    }
}
