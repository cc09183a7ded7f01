//! The kernel's links, addresses, routes and neighbours, followed live over rtnetlink, and the few
//! commands a forwarder has for the kernel. Synchronous, one thread, no unsafe code.
//!
//! - [`Mirror`] yields the present state and then every difference, as [`Event`]s.
//! - [`Control`] lists links, asks the kernel to resolve neighbours, changes links and whole groups of links.
//! - [`LinkWatch`] rings when links have changed.
//! - [`rib`] is the merge of the kernel's routes into one best route per prefix, free of I/O.
//!
//! ```no_run
//! use tailwater_netlink::{Event, Limits, Mirror};
//!
//! let mut mirror = Mirror::open(Limits::default())?;
//! while let Some(event) = mirror.next(None)? {
//!     match event {
//!         Event::RouteChanged(route) => println!("{} -> {:?}", route.prefix, route.path.next_hops),
//!         Event::Resynchronised => println!("up to date"),
//!         _ => {}
//!     }
//! }
//! # Ok::<(), tailwater_netlink::Error>(())
//! ```
//!
//! What is left out on purpose: policy rules and VRFs (only the tables in [`Limits::tables`] are
//! mirrored, main and local by default, and each stands for itself), source-specific routes, routes for
//! a non-zero type of service (kept, never the best), MPLS, multicast forwarding entries, cached
//! clones and redirects, expiry times (the kernel says when a route has expired).

mod address;
mod control;
mod doubt;
mod error;
mod event;
mod group;
mod link;
mod mirror;
mod names;
mod neighbour;
mod paths;
mod prefix;
mod queues;
mod request;
pub mod rib;
mod route;
mod route_count;
mod route_message;
mod siblings;
mod slot;
mod socket;
mod stale;
mod tables;
mod watch;

pub use address::Address;
pub use control::Control;
pub use error::{Error, Result};
pub use event::Event;
pub use group::{AddressChange, Group, LinkChange};
pub use link::{Link, LinkStats, XdpAttachment, XdpMode};
pub use mirror::{Counters, Limits, Mirror};
pub use names::{group_by_name, group_names};
pub use neighbour::{Neighbour, NeighbourState};
pub use prefix::Prefix;
pub use queues::Queues;
pub use route::{
    Candidate, NextHop, Nexthop, NexthopTarget, Path, Placement, Route, RouteKind, TABLE_LOCAL, TABLE_MAIN,
};
pub use watch::LinkWatch;
