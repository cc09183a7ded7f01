//! Ports that join and leave: routes over them become ours, or the kernel's again.

use std::collections::HashMap;
use std::sync::Arc;

use tailwater_netlink::{Link, Path, Prefix};

use super::Follower;
use crate::forwarding::PortEntry;
use crate::runtime::PortChange;

impl Follower {
    /// Ports that have joined, and such that are about to leave.
    pub(super) fn take_up_ports(&mut self) {
        let plane = Arc::clone(&self.plane);
        while let Some(change) = plane.changes.next() {
            match change {
                PortChange::Joined { port, link } => self.on_port(port, &link),
                PortChange::Leaving { port, ifindex } => self.on_port_gone(port, ifindex),
            }
            plane.changes.done();
        }
    }

    fn on_port(&mut self, port: u16, link: &Link) {
        let ifindex = link.ifindex;
        self.ports.insert(ifindex, port);
        if let Some(entry) = self.entries.get_mut(usize::from(port)) {
            *entry = PortEntry { ifindex, ..PortEntry::default() };
        }
        // What has been heard of it before there was a port for it.
        let link = self.mirror.link(ifindex).unwrap_or(link).clone();
        self.on_link(&link);
        self.choose_addresses(ifindex, None);
        let neighbours: Vec<_> = self.mirror.neighbours().filter(|known| known.ifindex == ifindex).cloned().collect();
        neighbours.iter().for_each(|neighbour| self.on_neighbour(neighbour));
        self.install_over(ifindex);
    }

    fn on_port_gone(&mut self, port: u16, ifindex: u32) {
        let neighbours: Vec<_> = self.mirror.neighbours().filter(|known| known.ifindex == ifindex).cloned().collect();
        neighbours.iter().for_each(|neighbour| self.on_neighbour_gone(ifindex, neighbour.ip));
        self.ports.remove(&ifindex);
        self.install_over(ifindex);
        if let Some(entry) = self.entries.get_mut(usize::from(port)) {
            *entry = PortEntry::default();
            self.plane.publish_ports(self.entries.clone());
        }
    }

    /// Brings every prefix up to date that a route leads to over this interface.
    fn install_over(&mut self, ifindex: u32) {
        let over = |path: &Option<Arc<Path>>| {
            path.as_ref().is_some_and(|path| path.next_hops.iter().any(|hop| hop.ifindex == ifindex))
        };
        let prefixes = self.known.iter().filter(|(_, known)| over(&known.local) || over(&known.main));
        let prefixes: Vec<Prefix> = prefixes.map(|(prefix, _)| *prefix).collect();
        prefixes.into_iter().for_each(|prefix| self.install(prefix));
    }
}

/// Places by the kernel index of the interface that has them.
pub(super) fn by_ifindex(ifindexes: &[u32]) -> HashMap<u32, u16> {
    let taken = ifindexes.iter().enumerate().filter(|&(_, &ifindex)| ifindex != 0);
    taken.map(|(at, &ifindex)| (ifindex, at as u16)).collect()
}
