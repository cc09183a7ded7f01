//! Routes for the stack's own output: longest prefix over a short list.

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::address::Cidr;
use crate::interface::InterfaceId;

/// Routes held; a host needs few, and forwarding has a table of its own.
pub const ROUTES_MAX: usize = 1_024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    pub prefix: Cidr,
    /// `None`: the destination itself is on the link.
    pub gateway: Option<IpAddr>,
    pub interface: InterfaceId,
}

/// The list holds [`ROUTES_MAX`] routes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoutesFull;

/// Where a packet goes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hop {
    pub(crate) interface: InterfaceId,
    pub(crate) next: IpAddr,
}

#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    /// Longest prefix first, so that the first match is the best.
    routes: Vec<Route>,
    /// Counts changes: what was looked up before one may be out of date.
    version: u32,
}

impl RouteTable {
    /// A route to the same prefix over the same interface is replaced.
    pub(crate) fn add(&mut self, route: Route) -> Result<(), RoutesFull> {
        self.version = self.version.wrapping_add(1);
        let route = Route { prefix: route.prefix.network(), ..route };
        self.remove(route.prefix, route.interface);
        if self.routes.len() >= ROUTES_MAX {
            return Err(RoutesFull);
        }
        let len = route.prefix.prefix_len();
        let at = self.routes.partition_point(|other| other.prefix.prefix_len() > len);
        self.routes.insert(at, route);
        Ok(())
    }

    pub(crate) fn remove(&mut self, prefix: Cidr, interface: InterfaceId) -> bool {
        self.version = self.version.wrapping_add(1);
        let prefix = prefix.network();
        let before = self.routes.len();
        self.routes.retain(|route| route.prefix != prefix || route.interface != interface);
        self.routes.len() != before
    }

    pub(crate) fn remove_interface(&mut self, interface: InterfaceId) {
        self.version = self.version.wrapping_add(1);
        self.routes.retain(|route| route.interface != interface);
    }

    /// `only`: the interface that a scoped destination names.
    pub(crate) fn lookup(&self, destination: IpAddr, only: Option<InterfaceId>) -> Option<Hop> {
        self.routes
            .iter()
            .find(|route| route.prefix.contains(destination) && only.is_none_or(|id| id == route.interface))
            .map(|route| Hop { interface: route.interface, next: route.gateway.unwrap_or(destination) })
    }

    /// What was looked up is out of date, for another reason than a route.
    pub(crate) fn outdate(&mut self) {
        self.version = self.version.wrapping_add(1);
    }

    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }
}
