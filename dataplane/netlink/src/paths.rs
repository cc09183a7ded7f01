//! Paths of routes, each kept once, and what links and nexthop objects make of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::route::{NextHop, Nexthop, NexthopTarget, Path, RouteKind};

/// Nesting of groups which is followed; the kernel allows none within a group.
const GROUP_DEPTH_MAX: usize = 2;
/// Unused paths which may pile up before they are swept out.
const IDLE_PATHS_MAX: usize = 1024;

/// State of a link as far as routes care.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkState {
    pub up: bool,
    pub carrier: bool,
}

/// Paths in use which lead elsewhere than before.
pub(crate) type ChangedPaths = HashSet<*const Path>;

/// Whoever holds an `Arc` which [`Paths::intern`] returned uses that path.
pub(crate) struct Paths {
    /// Path as told by the kernel -> path with link states and nexthop objects applied.
    resolved: HashMap<Arc<Path>, Arc<Path>>,
    sweep_at: usize,
    links: HashMap<u32, LinkState>,
    nexthops: HashMap<u32, NexthopTarget>,
}

impl Paths {
    pub(crate) fn new() -> Self {
        Self { resolved: HashMap::new(), sweep_at: IDLE_PATHS_MAX, links: HashMap::new(), nexthops: HashMap::new() }
    }

    pub(crate) fn intern(&mut self, path: Path) -> Arc<Path> {
        if let Some((known, _)) = self.resolved.get_key_value(&path) {
            return Arc::clone(known);
        }
        if self.resolved.len() >= self.sweep_at {
            self.resolved.retain(|path, _| Arc::strong_count(path) > 1);
            self.sweep_at = 2 * self.resolved.len() + IDLE_PATHS_MAX;
        }
        let path = Arc::new(path);
        let resolved = Arc::new(resolve(&path, &self.links, &self.nexthops));
        self.resolved.insert(Arc::clone(&path), resolved);
        path
    }

    /// An interned path with links and nexthop objects applied.
    pub(crate) fn resolved(&self, path: &Arc<Path>) -> Option<&Arc<Path>> {
        self.resolved.get(path)
    }

    /// Whether a path which `matches` is in use.
    pub(crate) fn is_used(&self, matches: impl Fn(&Path) -> bool) -> bool {
        self.resolved.keys().any(|path| matches(path) && Arc::strong_count(path) > 1)
    }

    pub(crate) fn nexthop_ids(&self) -> Vec<u32> {
        self.nexthops.keys().copied().collect()
    }

    pub(crate) fn knows_nexthop(&self, id: u32) -> bool {
        self.nexthops.contains_key(&id)
    }

    /// A link changed (`Some`) or is gone (`None`).
    pub(crate) fn set_link(&mut self, ifindex: u32, state: Option<LinkState>) -> ChangedPaths {
        let before = match state {
            Some(state) => self.links.insert(ifindex, state),
            None => self.links.remove(&ifindex),
        };
        if before == state { ChangedPaths::new() } else { self.resolve_again() }
    }

    /// A nexthop object is new or changed.
    pub(crate) fn set_nexthop(&mut self, nexthop: Nexthop) -> ChangedPaths {
        let target = nexthop.target.clone();
        let before = self.nexthops.insert(nexthop.id, nexthop.target);
        if before == Some(target) { ChangedPaths::new() } else { self.resolve_again() }
    }

    pub(crate) fn remove_nexthop(&mut self, id: u32) -> ChangedPaths {
        if self.nexthops.remove(&id).is_none() { ChangedPaths::new() } else { self.resolve_again() }
    }

    fn resolve_again(&mut self) -> ChangedPaths {
        let mut changed = ChangedPaths::new();
        for (path, resolved) in &mut self.resolved {
            let now = resolve(path, &self.links, &self.nexthops);
            if **resolved != now {
                *resolved = Arc::new(now);
                if Arc::strong_count(path) > 1 {
                    changed.insert(Arc::as_ptr(path));
                }
            }
        }
        changed
    }
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
