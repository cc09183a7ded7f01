//! Tables of the kernel which must be listed anew, because it changes them without saying so.

use std::ops::BitOr;

/// Which of the kernel's tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Stale {
    pub(crate) links: bool,
    pub(crate) addresses: bool,
    pub(crate) neighbours: bool,
    pub(crate) nexthops: bool,
    pub(crate) ipv4_routes: bool,
    pub(crate) ipv6_routes: bool,
}

impl Stale {
    pub(crate) const NOTHING: Self = Self {
        links: false,
        addresses: false,
        neighbours: false,
        nexthops: false,
        ipv4_routes: false,
        ipv6_routes: false,
    };
    pub(crate) const EVERYTHING: Self =
        Self { links: true, addresses: true, neighbours: true, nexthops: true, ipv4_routes: true, ipv6_routes: true };

    pub(crate) fn routes(&self, ipv4: bool) -> bool {
        if ipv4 { self.ipv4_routes } else { self.ipv6_routes }
    }
}

impl BitOr for Stale {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self {
            links: self.links | other.links,
            addresses: self.addresses | other.addresses,
            neighbours: self.neighbours | other.neighbours,
            nexthops: self.nexthops | other.nexthops,
            ipv4_routes: self.ipv4_routes | other.ipv4_routes,
            ipv6_routes: self.ipv6_routes | other.ipv6_routes,
        }
    }
}
