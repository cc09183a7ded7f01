//! What a mirror tells its reader.

use std::net::IpAddr;

use crate::address::Address;
use crate::link::Link;
use crate::neighbour::Neighbour;
use crate::prefix::Prefix;
use crate::route::Route;

/// A difference between what the reader knows and what the kernel has. A reader who applies all
/// events up to [`Event::Resynchronised`] has exactly the kernel's state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// New, or any field is different. Renaming keeps `ifindex`.
    LinkChanged(Box<Link>),
    LinkRemoved {
        ifindex: u32,
        name: String,
    },
    /// New, or its flags are different (duplicate address detection finished, for one).
    AddressAdded(Address),
    AddressRemoved(Address),
    /// The best route for this prefix is new or leads elsewhere.
    RouteChanged(Route),
    /// The prefix has no usable route left.
    RouteRemoved {
        table: u32,
        prefix: Prefix,
    },
    NeighbourChanged(Neighbour),
    NeighbourRemoved {
        ifindex: u32,
        ip: IpAddr,
    },
    /// All differences found by listing the kernel's tables anew have been told: first after
    /// [`crate::Mirror::open`], again after each overflow or interface change that called for it.
    Resynchronised,
}
