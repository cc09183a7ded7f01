//! Routes of the kernel, reduced to the effective best one per (table, prefix). No I/O.
//!
//! The kernel may hold several routes for one prefix. This module keeps all of them, in the order in
//! which the kernel looks at them, and tells only when the answer for a prefix changes:
//!
//! ```text
//!   insert / remove / dumped ----> slot (table, prefix): [candidate, candidate, ...] --+
//!   set_link ----------+                                                               |
//!   set_nexthop -------+--> paths: as told -> with links and nexthop objects applied --+--> dirty queue
//!                                                                                            |
//!   poll_change <--- effective best, compared with what was announced before <---------------+
//! ```
//!
//! Invariants: a slot is in the dirty queue exactly when `dirty` is set; every candidate's path is in
//! `paths`; a slot without candidates and without announcement does not exist after `poll_change`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub use crate::paths::LinkState;
use crate::paths::{ChangedPaths, Paths};
use crate::prefix::Prefix;
use crate::route::{Candidate, Nexthop, Path, Placement, Route};
use crate::slot::{Kept, Shared, Slot};

/// Room for changes to tell that is kept while there are none.
const IDLE_CHANGES_MAX: usize = 1024;

type Key = (u32, Prefix);

/// A difference in what a lookup of exactly this prefix finds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouteChange {
    /// The best route is new or leads elsewhere than before.
    Changed(Route),
    /// No usable route is left.
    Removed { table: u32, prefix: Prefix },
}

/// What became of a route handed to [`Rib::insert`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// Known already, or placed where nothing else had to go.
    Placed,
    /// Took the place of another route.
    Displaced,
    /// Took the place of another route, but perhaps not of the one the kernel replaced: list the family again.
    Doubtful,
    /// Not kept: [`Rib::new`]'s limit is reached.
    OverLimit,
}

/// What became of the rest when [`Rib::remove`] took a route away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removed {
    /// It is as in the kernel.
    Done,
    /// The route stood for more in the listing than its message tells: list the family again.
    Doubtful,
}

/// Events in: `insert`, `remove`, `set_link`, `set_nexthop`, `remove_nexthop`, and for a whole table
/// `begin_dump`, `dumped` for each route, `end_dump`. Output: `poll_change`, until it returns `None`.
pub struct Rib {
    slots: BTreeMap<Key, Slot>,
    dirty: VecDeque<Key>,
    paths: Paths,
    routes: usize,
    routes_max: usize,
    generation: u32,
    /// Of the listing's last route.
    dumped: Option<Key>,
    /// The listing had that one's prefix before, and others since: the table changed and the kernel lists parts again.
    repeats: bool,
    /// The kernel may have IPv6 routes which the last listing left out, see `siblings`.
    listing_hides: bool,
}

impl Rib {
    /// Keeps at most `routes_max` routes; further ones are refused, never evict others.
    pub fn new(routes_max: usize) -> Self {
        Self {
            slots: BTreeMap::new(),
            dirty: VecDeque::new(),
            paths: Paths::new(),
            routes: 0,
            routes_max,
            generation: 0,
            dumped: None,
            repeats: false,
            listing_hides: true,
        }
    }

    /// Number of routes kept, all candidates counted; next hops of one IPv6 route that lie together count once.
    pub fn len(&self) -> usize {
        self.routes
    }

    pub fn is_empty(&self) -> bool {
        self.routes == 0
    }

    /// The kernel added or replaced a route.
    pub fn insert(&mut self, table: u32, prefix: Prefix, route: Candidate, placement: Placement) -> Inserted {
        self.change((table, prefix), |slot, shared| {
            if prefix.is_ipv4() {
                slot.place_ipv4(Kept::new(route, shared.paths), placement, shared.may_grow)
            } else {
                slot.place_ipv6(route, placement, shared)
            }
        })
    }

    /// The kernel removed a route. Unknown ones are ignored.
    pub fn remove(&mut self, table: u32, prefix: Prefix, route: &Candidate) -> Removed {
        if !self.slots.contains_key(&(table, prefix)) {
            return Removed::Done;
        }
        self.change((table, prefix), |slot, shared| {
            if prefix.is_ipv4() { slot.remove(route) } else { slot.remove_ipv6(route, shared) }
        })
    }

    /// Does `change` to a slot, new if need be, and keeps account of it.
    fn change<T>(&mut self, key: Key, change: impl FnOnce(&mut Slot, &mut Shared<'_>) -> T) -> T {
        let generation = self.generation;
        let slot = self.slots.entry(key).or_insert_with(|| Slot { generation, ..Slot::default() });
        let before = slot.kept.len();
        let (may_grow, listing_hides) = (self.routes < self.routes_max, self.listing_hides);
        let outcome = change(slot, &mut Shared { paths: &mut self.paths, may_grow, listing_hides });
        self.routes = self.routes + slot.kept.len() - before;
        mark(&mut self.dirty, key, slot);
        outcome
    }

    /// A full listing of the routes of one family starts. What it does not name goes at `end_dump`.
    pub fn begin_dump(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.dumped = None;
    }

    /// One route of the listing, in the kernel's order.
    pub fn dumped(&mut self, table: u32, prefix: Prefix, route: Candidate) -> Inserted {
        let key = (table, prefix);
        let known = self.slots.get_mut(&key);
        if self.dumped.replace(key) != Some(key) {
            self.repeats = known.as_ref().is_some_and(|slot| slot.generation == self.generation);
        }
        if let Some(slot) = known
            && slot.generation != self.generation
        {
            slot.generation = self.generation;
            self.routes -= slot.kept.len();
            slot.kept.clear();
        }
        let repeats = self.repeats;
        self.change(key, |slot, shared| {
            if prefix.is_ipv4() {
                slot.place_ipv4(Kept::new(route, shared.paths), Placement::Append, shared.may_grow)
            } else {
                slot.list_ipv6(route, repeats, shared)
            }
        })
    }

    /// Whether the last listing of IPv6 routes is known to have left out none. Holds until told otherwise.
    pub fn set_listing_whole(&mut self, whole: bool) {
        self.listing_hides = !whole;
    }

    /// The listing of all routes of the family is complete.
    pub fn end_dump(&mut self, ipv4: bool) {
        for (key, slot) in &mut self.slots {
            if key.1.is_ipv4() == ipv4 && slot.generation != self.generation {
                slot.generation = self.generation;
                self.routes -= slot.kept.len();
                slot.kept.clear();
                mark(&mut self.dirty, *key, slot);
            }
        }
    }

    /// A link changed (`Some`) or is gone (`None`).
    pub fn set_link(&mut self, ifindex: u32, state: Option<LinkState>) {
        let changed = self.paths.set_link(ifindex, state);
        self.mark_users(&changed);
    }

    /// A nexthop object is new or changed.
    pub fn set_nexthop(&mut self, nexthop: Nexthop) {
        let changed = self.paths.set_nexthop(nexthop);
        self.mark_users(&changed);
    }

    /// A nexthop object is gone, and with it, without further notice, every route which used it.
    pub fn remove_nexthop(&mut self, id: u32) {
        if !self.paths.knows_nexthop(id) {
            return;
        }
        let doomed = |path: &Path| path.nexthop_id == Some(id);
        if self.paths.is_used(doomed) {
            for (key, slot) in &mut self.slots {
                let before = slot.kept.len();
                slot.kept.retain(|kept| !doomed(&kept.path));
                if slot.kept.len() != before {
                    self.routes -= before - slot.kept.len();
                    mark(&mut self.dirty, *key, slot);
                }
            }
        }
        let changed = self.paths.remove_nexthop(id);
        self.mark_users(&changed);
    }

    /// Whether the kernel told of a dead next hop over this link. It tells of the death of a next hop,
    /// and of its return, only when asked for the route.
    pub fn has_dead_next_hop(&self, ifindex: u32) -> bool {
        self.paths.is_used(|path| path.next_hops.iter().any(|hop| hop.dead && hop.ifindex == ifindex))
    }

    /// Ids of all nexthop objects known.
    pub fn nexthop_ids(&self) -> Vec<u32> {
        self.paths.nexthop_ids()
    }

    /// The next difference since the last call, or `None` when all have been told.
    pub fn poll_change(&mut self) -> Option<RouteChange> {
        while let Some(key) = self.dirty.pop_front() {
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            slot.dirty = false;
            let best = slot.best(&self.paths);
            let now = best.as_ref().map(|(kept, path)| (kept.metric, Arc::clone(path)));
            let change = (slot.announced != now).then(|| best.map_or(removed(key), |best| changed(key, best)));
            slot.announced = now;
            if slot.kept.is_empty() && slot.announced.is_none() {
                self.slots.remove(&key);
            }
            if change.is_some() {
                return change;
            }
        }
        self.dirty.shrink_to(IDLE_CHANGES_MAX);
        None
    }

    /// The effective best route of every prefix, in order of table and prefix.
    pub fn routes(&self) -> impl Iterator<Item = Route> {
        self.slots.iter().filter_map(|(key, slot)| {
            let (kept, path) = slot.best(&self.paths)?;
            Some(Route { table: key.0, prefix: key.1, metric: kept.metric, protocol: kept.protocol, path })
        })
    }

    /// Paths are few, routes many: routes are walked only when a path in use changed.
    fn mark_users(&mut self, changed: &ChangedPaths) {
        if changed.is_empty() {
            return;
        }
        for (key, slot) in &mut self.slots {
            if slot.kept.iter().any(|kept| changed.contains(&Arc::as_ptr(&kept.path))) {
                mark(&mut self.dirty, *key, slot);
            }
        }
    }
}

fn mark(dirty: &mut VecDeque<Key>, key: Key, slot: &mut Slot) {
    if !slot.dirty {
        slot.dirty = true;
        dirty.push_back(key);
    }
}

fn changed(key: Key, (kept, path): (&Kept, Arc<Path>)) -> RouteChange {
    RouteChange::Changed(Route { table: key.0, prefix: key.1, metric: kept.metric, protocol: kept.protocol, path })
}

fn removed(key: Key) -> RouteChange {
    RouteChange::Removed { table: key.0, prefix: key.1 }
}
