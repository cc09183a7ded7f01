//! Path MTUs learnt from ICMP (RFC 1191, RFC 8201): bounded in number and time.

use core::net::IpAddr;
use core::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::time::Instant;
use crate::wire::{ipv4, ipv6};

/// RFC 1191 §6.3, RFC 8201 §4: try larger packets again after ten minutes.
const LIFETIME: Duration = Duration::from_secs(600);
/// Lowest value believed for IPv4: less is only of use to an attacker (RFC 5927 §7.2).
const IPV4_FLOOR: usize = 552;

#[derive(Clone, Copy)]
struct Known {
    mtu: usize,
    until: Instant,
}

pub(crate) struct PathMtus {
    paths: HashMap<IpAddr, Known, FixedState>,
    paths_max: usize,
    /// Counts what was learnt.
    version: u32,
}

impl PathMtus {
    pub(crate) fn new(paths_max: usize, seed: u64) -> Self {
        Self { paths: HashMap::with_hasher(FixedState::with_seed(seed)), paths_max, version: 0 }
    }

    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// Largest packet to `destination`, at most `link_mtu`.
    pub(crate) fn get(&self, destination: IpAddr, link_mtu: usize, now: Instant) -> usize {
        // RFC 8201 §4 needs no entry for most paths.
        if self.paths.is_empty() {
            return link_mtu;
        }
        match self.paths.get(&destination) {
            Some(known) if known.until > now => known.mtu.min(link_mtu),
            _ => link_mtu,
        }
    }

    /// Takes in what a router reported for a packet of `packet_len` bytes; returns the new path
    /// MTU if that makes a difference.
    pub(crate) fn reported(
        &mut self,
        destination: IpAddr,
        reported: usize,
        packet_len: usize,
        link_mtu: usize,
        now: Instant,
    ) -> Option<usize> {
        let mtu = match destination {
            // RFC 1191 §5: routers of old report 0; take the next plateau below the packet.
            IpAddr::V4(_) if reported < ipv4::MTU_MIN => plateau_below(packet_len),
            IpAddr::V4(_) => reported,
            // RFC 8201 §4: a report below 1280 is ignored.
            IpAddr::V6(_) if reported < ipv6::MTU_MIN => return None,
            IpAddr::V6(_) => reported,
        };
        let mtu = if destination.is_ipv4() { mtu.max(IPV4_FLOOR) } else { mtu };
        // RFC 1191 §6.3, RFC 8201 §4: a report never raises the estimate.
        if mtu >= self.get(destination, link_mtu, now) {
            return None;
        }
        if self.paths.len() >= self.paths_max && !self.paths.contains_key(&destination) {
            let oldest = self.paths.iter().min_by_key(|(_, known)| known.until).map(|(&a, _)| a);
            self.paths.remove(&oldest?);
        }
        self.version = self.version.wrapping_add(1);
        self.paths.insert(destination, Known { mtu, until: now + LIFETIME });
        Some(mtu)
    }
}

/// RFC 1191 §7.1, table 7-1.
fn plateau_below(packet_len: usize) -> usize {
    const PLATEAUS: [usize; 10] = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296, 68];
    PLATEAUS.into_iter().find(|&plateau| plateau < packet_len).unwrap_or(ipv4::MTU_MIN)
}
