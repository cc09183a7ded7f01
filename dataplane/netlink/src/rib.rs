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

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::prefix::Prefix;
use crate::route::{Candidate, NextHop, Nexthop, NexthopTarget, Path, Placement, Route, RouteKind};

/// `RTPROT_RA`: IPv6 routes learnt from router advertisements never join a multipath route.
const PROTOCOL_RA: u8 = 9;
/// Nesting of groups which is followed; the kernel allows none within a group.
const GROUP_DEPTH_MAX: usize = 2;
/// Unused paths which may pile up before they are swept out.
const IDLE_PATHS_MAX: usize = 1024;

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
    /// Not kept: [`Rib::new`]'s limit is reached.
    OverLimit,
}

/// State of a link as far as routes care.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkState {
    pub up: bool,
    pub carrier: bool,
}

struct Kept {
    metric: u32,
    tos: u8,
    protocol: u8,
    path: Arc<Path>,
}

#[derive(Default)]
struct Slot {
    kept: Vec<Kept>,
    announced: Option<(u32, Arc<Path>)>,
    generation: u32,
    dirty: bool,
}

/// Events in: `insert`, `remove`, `set_link`, `set_nexthop`, `remove_nexthop`, and for a whole table
/// `begin_dump`, `dumped` for each route, `end_dump`. Output: `poll_change`, until it returns `None`.
pub struct Rib {
    slots: BTreeMap<Key, Slot>,
    dirty: VecDeque<Key>,
    /// Path as told by the kernel -> path with link states and nexthop objects applied.
    paths: HashMap<Arc<Path>, Arc<Path>>,
    paths_sweep_at: usize,
    links: HashMap<u32, LinkState>,
    nexthops: HashMap<u32, NexthopTarget>,
    routes: usize,
    routes_max: usize,
    generation: u32,
}

impl Rib {
    /// Keeps at most `routes_max` routes; further ones are refused, never evict others.
    pub fn new(routes_max: usize) -> Self {
        Self {
            slots: BTreeMap::new(),
            dirty: VecDeque::new(),
            paths: HashMap::new(),
            paths_sweep_at: IDLE_PATHS_MAX,
            links: HashMap::new(),
            nexthops: HashMap::new(),
            routes: 0,
            routes_max,
            generation: 0,
        }
    }

    /// Number of routes kept, all candidates counted.
    pub fn len(&self) -> usize {
        self.routes
    }

    pub fn is_empty(&self) -> bool {
        self.routes == 0
    }

    /// The kernel added or replaced a route.
    pub fn insert(&mut self, table: u32, prefix: Prefix, route: Candidate, placement: Placement) -> Inserted {
        let kept =
            Kept { metric: route.metric, tos: route.tos, protocol: route.protocol, path: self.intern(route.path) };
        let key = (table, prefix);
        let generation = self.generation;
        let slot = self.slots.entry(key).or_insert_with(|| Slot { generation, ..Slot::default() });
        let before = slot.kept.len();
        let may_grow = self.routes < self.routes_max;
        let inserted = if prefix.is_ipv4() {
            slot.place_ipv4(kept, placement, may_grow)
        } else {
            slot.place_ipv6(kept, placement, may_grow)
        };
        self.routes = self.routes + slot.kept.len() - before;
        mark(&mut self.dirty, key, slot);
        inserted
    }

    /// The kernel removed a route. Unknown ones are ignored.
    pub fn remove(&mut self, table: u32, prefix: Prefix, route: &Candidate) {
        let key = (table, prefix);
        let Some(slot) = self.slots.get(&key) else { return };
        let (index, rest) = if !prefix.is_ipv4() && joins_multipath(route.protocol, &route.path) {
            let Some((index, rest)) = slot.without_siblings(route) else { return };
            (index, rest.map(|path| self.intern(path)))
        } else {
            let Some(index) = slot.kept.iter().position(|kept| kept.is(route)) else { return };
            (index, None)
        };
        let Some(slot) = self.slots.get_mut(&key) else { return };
        match (rest, slot.kept.get_mut(index)) {
            (Some(path), Some(kept)) => kept.path = path,
            _ => {
                slot.kept.remove(index);
                self.routes -= 1;
            }
        }
        mark(&mut self.dirty, key, slot);
    }

    /// A full listing of the routes of one family starts. What it does not name goes at `end_dump`.
    pub fn begin_dump(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// One route of the listing, in the kernel's order.
    pub fn dumped(&mut self, table: u32, prefix: Prefix, route: Candidate) -> Inserted {
        if let Some(slot) = self.slots.get_mut(&(table, prefix))
            && slot.generation != self.generation
        {
            slot.generation = self.generation;
            self.routes -= slot.kept.len();
            slot.kept.clear();
        }
        self.insert(table, prefix, route, Placement::Append)
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
        let before = match state {
            Some(state) => self.links.insert(ifindex, state),
            None => self.links.remove(&ifindex),
        };
        if before != state {
            self.resolve_again();
        }
    }

    /// A nexthop object is new or changed.
    pub fn set_nexthop(&mut self, nexthop: Nexthop) {
        let target = nexthop.target.clone();
        if self.nexthops.insert(nexthop.id, nexthop.target) != Some(target) {
            self.resolve_again();
        }
    }

    /// A nexthop object is gone, and with it, without further notice, every route which used it.
    pub fn remove_nexthop(&mut self, id: u32) {
        if self.nexthops.remove(&id).is_none() {
            return;
        }
        let doomed = |path: &Path| path.nexthop_id == Some(id);
        if self.paths.iter().any(|(path, _)| doomed(path) && Arc::strong_count(path) > 1) {
            for (key, slot) in &mut self.slots {
                let before = slot.kept.len();
                slot.kept.retain(|kept| !doomed(&kept.path));
                if slot.kept.len() != before {
                    self.routes -= before - slot.kept.len();
                    mark(&mut self.dirty, *key, slot);
                }
            }
        }
        self.resolve_again();
    }

    /// Whether the kernel told of a dead next hop over this link. It tells of the death of a next hop,
    /// and of its return, only when asked for the route.
    pub fn has_dead_next_hop(&self, ifindex: u32) -> bool {
        self.paths.keys().any(|path| {
            path.next_hops.iter().any(|hop| hop.dead && hop.ifindex == ifindex) && Arc::strong_count(path) > 1
        })
    }

    /// Ids of all nexthop objects known.
    pub fn nexthop_ids(&self) -> Vec<u32> {
        self.nexthops.keys().copied().collect()
    }

    /// The next difference since the last call, or `None` when all have been told.
    pub fn poll_change(&mut self) -> Option<RouteChange> {
        while let Some(key) = self.dirty.pop_front() {
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            slot.dirty = false;
            let best = best(&self.paths, slot);
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
        self.dirty.shrink_to(IDLE_PATHS_MAX);
        None
    }

    /// The effective best route of every prefix, in order of table and prefix.
    pub fn routes(&self) -> impl Iterator<Item = Route> {
        self.slots.iter().filter_map(|(key, slot)| {
            let (kept, path) = best(&self.paths, slot)?;
            Some(Route { table: key.0, prefix: key.1, metric: kept.metric, protocol: kept.protocol, path })
        })
    }

    fn intern(&mut self, path: Path) -> Arc<Path> {
        if let Some((known, _)) = self.paths.get_key_value(&path) {
            return Arc::clone(known);
        }
        if self.paths.len() >= self.paths_sweep_at {
            self.paths.retain(|path, _| Arc::strong_count(path) > 1);
            self.paths_sweep_at = 2 * self.paths.len() + IDLE_PATHS_MAX;
        }
        let path = Arc::new(path);
        let resolved = Arc::new(resolve(&path, &self.links, &self.nexthops));
        self.paths.insert(Arc::clone(&path), resolved);
        path
    }

    /// Applies links and nexthop objects to every path again and marks the routes whose path is
    /// not what it was. Paths are few, routes many: routes are walked only when a path in use changed.
    fn resolve_again(&mut self) {
        let mut changed = HashSet::new();
        for (path, resolved) in &mut self.paths {
            let now = resolve(path, &self.links, &self.nexthops);
            if **resolved != now {
                *resolved = Arc::new(now);
                if Arc::strong_count(path) > 1 {
                    changed.insert(Arc::as_ptr(path));
                }
            }
        }
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

/// The first candidate a packet without type of service can use.
fn best<'a>(paths: &HashMap<Arc<Path>, Arc<Path>>, slot: &'a Slot) -> Option<(&'a Kept, Arc<Path>)> {
    slot.kept
        .iter()
        .filter(|kept| kept.tos == 0)
        .filter_map(|kept| Some((kept, paths.get(&kept.path)?)))
        .find(|(_, path)| path.is_usable())
        .map(|(kept, path)| (kept, Arc::clone(path)))
}

/// Fills in what the kernel does not say with a route: the next hops behind a nexthop object, and
/// which of them are dead or without carrier.
fn resolve(told: &Path, links: &HashMap<u32, LinkState>, nexthops: &HashMap<u32, NexthopTarget>) -> Path {
    let mut path = told.clone();
    if let Some(id) = told.nexthop_id {
        let mut blackhole = false;
        collect_hops(id, 1, GROUP_DEPTH_MAX, nexthops, &mut path.next_hops, &mut blackhole);
        if blackhole && path.next_hops.is_empty() {
            path.kind = RouteKind::Blackhole;
        }
    }
    // A host's own address answers even while its link is down; the kernel keeps such routes.
    if path.kind != RouteKind::Local {
        for hop in path.next_hops.iter_mut().filter(|hop| hop.ifindex != 0) {
            let link = links.get(&hop.ifindex);
            hop.dead |= !link.is_some_and(|link| link.up);
            hop.linkdown = !link.is_some_and(|link| link.carrier);
        }
    }
    path
}

fn collect_hops(
    id: u32,
    weight: u32,
    depth_left: usize,
    nexthops: &HashMap<u32, NexthopTarget>,
    into: &mut Vec<NextHop>,
    blackhole: &mut bool,
) {
    match nexthops.get(&id) {
        None => {}
        Some(NexthopTarget::Hop(hop)) => into.push(NextHop { weight, ..*hop }),
        Some(NexthopTarget::Blackhole) => *blackhole = true,
        Some(NexthopTarget::Group(members)) if depth_left > 0 => {
            for (member, weight) in members {
                collect_hops(*member, *weight, depth_left - 1, nexthops, into, blackhole);
            }
        }
        Some(NexthopTarget::Group(_)) => {}
    }
}

/// Whether the kernel makes an IPv6 route one with others of its metric (`rt6_qualify_for_ecmp`).
fn joins_multipath(protocol: u8, path: &Path) -> bool {
    path.nexthop_id.is_none()
        && protocol != PROTOCOL_RA
        && !path.next_hops.is_empty()
        && path.next_hops.iter().all(|hop| hop.gateway.is_some())
}

fn same_way(a: &NextHop, b: &NextHop) -> bool {
    a.ifindex == b.ifindex && a.gateway == b.gateway
}

impl Kept {
    fn is(&self, route: &Candidate) -> bool {
        self.tos == route.tos && self.metric == route.metric && self.path.is_same_way(&route.path)
    }

    fn joins_multipath(&self) -> bool {
        joins_multipath(self.protocol, &self.path)
    }
}

impl Slot {
    /// Range of candidates with the type of service and metric of `kept`; empty, but at the right
    /// place, where there is none. Order of the list: type of service falling, metric rising.
    fn group(&self, kept: &Kept) -> std::ops::Range<usize> {
        let rank = |k: &Kept| (std::cmp::Reverse(k.tos), k.metric);
        let start = self.kept.partition_point(|k| rank(k) < rank(kept));
        let end = self.kept.partition_point(|k| rank(k) <= rank(kept));
        start..end
    }

    /// As `fib_table_insert` in the kernel: routes of one type of service and metric form a list; an
    /// appended one goes behind it, a replacing one takes the place of its first, any other goes in front.
    fn place_ipv4(&mut self, kept: Kept, placement: Placement, may_grow: bool) -> Inserted {
        if let Some(index) = self
            .kept
            .iter()
            .position(|k| k.tos == kept.tos && k.metric == kept.metric && k.path.is_same_way(&kept.path))
        {
            let group = self.group(&kept);
            let target = match placement {
                Placement::Append => group.end.saturating_sub(1),
                Placement::Replace => index,
                Placement::Prepend => group.start,
            };
            self.kept.remove(index);
            self.kept.insert(target.min(self.kept.len()), kept);
            return Inserted::Placed;
        }
        let group = self.group(&kept);
        match placement {
            Placement::Replace if !group.is_empty() => {
                if let Some(first) = self.kept.get_mut(group.start) {
                    *first = kept;
                }
                return Inserted::Displaced;
            }
            _ if !may_grow => return Inserted::OverLimit,
            Placement::Append => self.kept.insert(group.end, kept),
            Placement::Replace | Placement::Prepend => self.kept.insert(group.start, kept),
        }
        Inserted::Placed
    }

    /// As `fib6_add_rt2node` in the kernel. Routes with a gateway and the same metric are one multipath
    /// route, and each message about it names all its next hops; other routes stand alone behind it.
    fn place_ipv6(&mut self, kept: Kept, placement: Placement, may_grow: bool) -> Inserted {
        let group = self.group(&kept);
        let multipath = kept.joins_multipath();
        let mut members = group.clone().zip(self.kept.get(group.clone()).unwrap_or_default());
        let alike = |k: &Kept| k.joins_multipath() == multipath;
        let known = members.clone().find(|(_, k)| if multipath { alike(k) } else { k.path.is_same_way(&kept.path) });
        if let Some((index, _)) = known {
            if let Some(place) = self.kept.get_mut(index) {
                *place = kept;
            }
            return Inserted::Placed;
        }
        let first_alike = members.find(|(_, k)| alike(k)).map(|(index, _)| index);
        match placement {
            Placement::Replace if !group.is_empty() => {
                if let Some(place) = self.kept.get_mut(first_alike.unwrap_or(group.start)) {
                    *place = kept;
                }
                Inserted::Displaced
            }
            _ if !may_grow => Inserted::OverLimit,
            _ => {
                self.kept.insert(group.end, kept);
                Inserted::Placed
            }
        }
    }

    /// The multipath route of `route`'s metric with `route`'s next hops taken out: its index, and what
    /// is left of its path, if anything.
    fn without_siblings(&self, route: &Candidate) -> Option<(usize, Option<Path>)> {
        let (index, kept) =
            self.kept.iter().enumerate().find(|(_, k)| k.metric == route.metric && k.joins_multipath())?;
        let mut path = Path::clone(&kept.path);
        path.next_hops.retain(|hop| !route.path.next_hops.iter().any(|gone| same_way(hop, gone)));
        Some((index, (!path.next_hops.is_empty()).then_some(path)))
    }
}
