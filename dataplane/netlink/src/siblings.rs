//! IPv6 routes of one prefix and metric, as `fib6_add_rt2node` in the kernel orders them. No I/O.
//!
//! A new route goes to the end of its metric. Those with a gateway are siblings, the next hops of one multipath route,
//! wherever they lie in the list; the multipath route stands where the first of them does:
//!
//! ```text
//!   kernel's list      g1 -> g2 -> unreachable -> g3 -> dev va
//!   kept               run g1 g2,  unreachable,   run g3, dev va      best: g1 g2 g3
//!   a listing says     multipath g1 g2 g3, dev va                     runs veil what lies between
//!   without g1, g2     unreachable -> g3 -> dev va                    best: unreachable
//! ```
//!
//! A message about a sibling names all of them, a removal one or all. A listing names all of them, says of the first alone
//! what more a route has than a next hop, and goes on behind the last, so that it leaves out what lies between (seen on
//! Linux 6.18). All of that may show when siblings that were listed with others go, and is asked for then: of a listing that
//! lacked nothing when some of them go, of any other also when all do.
//!
//! A replacing route takes the place of the first of its sort, sibling or not, even where the kernel has its like already.
//! What the kernel says then it says also where a nexthop object was replaced and no route was.

use std::ops::Range;
use std::sync::Arc;

use crate::paths::Paths;
use crate::rib::{Inserted, Removed};
use crate::route::{Candidate, NextHop, Path, Placement};
use crate::slot::{Kept, Shared, Slot};

/// `RTPROT_RA`: the kernel's own routes from router advertisements are no siblings.
const PROTOCOL_RA: u8 = 9;

/// Whether this is a sibling, or several (`rt6_qualify_for_ecmp`). Of one alone from a router advertisement the kernel does
/// not say whether it is its own or a daemon's.
fn is_sibling(route: &Candidate) -> bool {
    has_gateways(&route.path) && (route.protocol != PROTOCOL_RA || route.path.next_hops.len() > 1)
}

fn has_gateways(path: &Path) -> bool {
    path.nexthop_id.is_none() && !path.next_hops.is_empty() && path.next_hops.iter().all(|hop| hop.gateway.is_some())
}

fn same_way(a: &NextHop, b: &NextHop) -> bool {
    a.ifindex == b.ifindex && a.gateway == b.gateway
}

fn find_hop<'a>(hops: &'a [NextHop], wanted: &NextHop) -> Option<&'a NextHop> {
    hops.iter().find(|hop| same_way(hop, wanted))
}

impl Kept {
    /// A run of `hops` which otherwise is as `route`.
    fn run(route: &Candidate, hops: Vec<NextHop>, paths: &mut Paths) -> Self {
        let &Candidate { metric, tos, protocol, ref path } = route;
        Self { metric, tos, protocol, sibling: true, veils: false, path: paths.intern(with_hops(path, hops)) }
    }

    fn is_run_like(&self, route: &Candidate) -> bool {
        let Path { kind, next_hops: _, mtu_bytes, preferred_source, nexthop_id } = &route.path;
        self.sibling
            && self.protocol == route.protocol
            && self.path.kind == *kind
            && self.path.mtu_bytes == *mtu_bytes
            && self.path.preferred_source == *preferred_source
            && self.path.nexthop_id == *nexthop_id
    }

    fn has_hop(&self, hop: &NextHop) -> bool {
        find_hop(&self.path.next_hops, hop).is_some()
    }
}

/// Order among next hops means nothing: the kernel starts the list at whichever it is talking about.
fn with_hops(path: &Path, mut hops: Vec<NextHop>) -> Path {
    let Path { kind, next_hops: _, mtu_bytes, preferred_source, nexthop_id } = *path;
    hops.sort_unstable();
    Path { kind, next_hops: hops, mtu_bytes, preferred_source, nexthop_id }
}

impl Slot {
    pub(crate) fn place_ipv6(&mut self, route: Candidate, placement: Placement, shared: &mut Shared<'_>) -> Inserted {
        let group = self.group(route.tos, route.metric);
        let replaces = placement == Placement::Replace && !group.is_empty();
        match (is_sibling(&route), replaces) {
            (true, true) => self.replace_siblings(group, &route, shared),
            (true, false) => self.place_siblings(&route, shared),
            (false, true) => self.replace_single(group, Kept::new(route, shared.paths), shared),
            (false, false) => self.place_single(Kept::new(route, shared.paths), shared),
        }
    }

    /// As [`Self::place_ipv6`] at the end, for a route of a listing, which may list this prefix for the second time.
    pub(crate) fn list_ipv6(&mut self, route: Candidate, repeats: bool, shared: &mut Shared<'_>) -> Inserted {
        let (tos, metric, several) = (route.tos, route.metric, route.path.next_hops.len() > 1);
        let known = self.find_single(self.group(tos, metric), &route.path);
        if let Some(known) = known.and_then(|index| self.kept.get_mut(index)) {
            // There are two after a replacement.
            known.veils |= !repeats;
            return Inserted::Placed;
        }
        let inserted = self.place_ipv6(route, Placement::Append, shared);
        let group = self.group(tos, metric);
        for run in self.kept.get_mut(group).unwrap_or_default().iter_mut().filter(|kept| kept.sibling) {
            run.veils |= several;
        }
        inserted
    }

    /// Takes `route`'s next hops from the multipath route of its metric, or the route which is just this one.
    pub(crate) fn remove_ipv6(&mut self, route: &Candidate, shared: &mut Shared<'_>) -> Removed {
        let gone = &route.path.next_hops;
        let group = self.group(route.tos, route.metric);
        let members = self.kept.get(group.clone()).unwrap_or_default();
        let of_run = |hop: &NextHop| members.iter().any(|kept| kept.sibling && kept.has_hop(hop));
        if has_gateways(&route.path) && gone.iter().any(of_run) {
            return self.keep_hops(group, |hop| find_hop(gone, hop).is_none().then_some(*hop), shared);
        }
        self.remove(route)
    }

    /// With links and nexthop objects applied; of a sibling, the path of the whole multipath route.
    pub(crate) fn whole_path(&self, kept: &Kept, paths: &Paths) -> Option<Arc<Path>> {
        let group = if kept.sibling { self.group(kept.tos, kept.metric) } else { 0..0 };
        let mut runs = self.kept.get(group).unwrap_or_default().iter().filter(|kept| kept.sibling);
        if runs.clone().count() < 2 {
            return paths.resolved(&kept.path).cloned();
        }
        // As a listing does, what is not a next hop's is taken from the first.
        let first = paths.resolved(&runs.next()?.path)?;
        let rest = runs.filter_map(|run| paths.resolved(&run.path)).flat_map(|path| &path.next_hops);
        Some(Arc::new(with_hops(first, first.next_hops.iter().chain(rest).copied().collect())))
    }

    /// Nobody of its metric is replaced. The kernel refuses what it has: to be told of such a one again means that it went
    /// and came back.
    fn place_single(&mut self, kept: Kept, shared: &Shared<'_>) -> Inserted {
        let group = self.group(kept.tos, kept.metric);
        match self.find_single(group, &kept.path) {
            Some(index) => drop(self.kept.remove(index)),
            None if !shared.may_grow => return Inserted::OverLimit,
            None => {}
        }
        let end = self.group(kept.tos, kept.metric).end;
        self.kept.insert(end, kept);
        Inserted::Placed
    }

    fn find_single(&self, group: Range<usize>, path: &Path) -> Option<usize> {
        let mut members = group.clone().zip(self.kept.get(group).unwrap_or_default());
        members.find(|(_, kept)| !kept.sibling && kept.path.is_same_way(path)).map(|(index, _)| index)
    }

    /// The kernel replaces the first which is no sibling, or the whole multipath route where there is nothing else.
    fn replace_single(&mut self, group: Range<usize>, kept: Kept, shared: &Shared<'_>) -> Inserted {
        let members = self.kept.get(group.clone()).unwrap_or_default();
        let hidden = shared.listing_hides && members.iter().any(|kept| kept.sibling && kept.veils);
        let unclear = kept.protocol == PROTOCOL_RA && has_gateways(&kept.path) && members.len() > 1;
        let place = members.iter().position(|kept| !kept.sibling).map_or(group.start, |offset| group.start + offset);
        let known = self.find_single(group.clone(), &kept.path);
        if kept.path.nexthop_id.is_some() && known.is_some_and(|known| known != place) {
            // More likely it was the object that was replaced.
            return Inserted::Doubtful;
        }
        let Some(place_of) = self.kept.get_mut(place) else { return Inserted::Placed };
        let replaced = std::mem::replace(place_of, kept);
        let same = !replaced.sibling && replaced.path.is_same_way(&place_of.path);
        if replaced.sibling {
            self.remove_runs(place + 1..group.end);
        }
        match (hidden || unclear || !replaced.sibling && replaced.veils, same) {
            (true, _) => Inserted::Doubtful,
            (false, true) => Inserted::Placed,
            (false, false) => Inserted::Displaced,
        }
    }

    /// The first next hop takes the place of the first sibling, or of the first of the metric, the others go to the end.
    fn replace_siblings(&mut self, group: Range<usize>, route: &Candidate, shared: &mut Shared<'_>) -> Inserted {
        let members = self.kept.get(group.clone()).unwrap_or_default();
        let mixed = members.iter().any(|kept| !kept.sibling);
        let place = members.iter().position(|kept| kept.sibling).map_or(group.start, |offset| group.start + offset);
        self.remove_runs(place + 1..group.end);
        let (first, rest) = route.path.next_hops.split_at(1);
        if let Some(replaced) = self.kept.get_mut(place) {
            let veils = replaced.sibling && replaced.veils;
            *replaced = Kept { veils, ..Kept::run(route, first.to_vec(), shared.paths) };
        }
        match self.append_siblings(route, rest.to_vec(), shared) {
            Inserted::Placed if mixed => Inserted::Displaced,
            inserted => inserted,
        }
    }

    /// Those not named are no more, those not known are at the end.
    fn place_siblings(&mut self, route: &Candidate, shared: &mut Shared<'_>) -> Inserted {
        let named = &route.path.next_hops;
        let group = self.group(route.tos, route.metric);
        for kept in self.kept.get_mut(group.clone()).unwrap_or_default() {
            kept.sibling |= has_gateways(&kept.path) && named.iter().any(|hop| kept.has_hop(hop));
        }
        let removed = self.keep_hops(group, |hop| find_hop(named, hop).copied(), shared);
        let members = self.kept.get(self.group(route.tos, route.metric)).unwrap_or_default();
        let is_new = |hop: &&NextHop| !members.iter().any(|kept| kept.sibling && kept.has_hop(hop));
        let new = named.iter().filter(is_new).copied().collect();
        match (self.append_siblings(route, new, shared), removed) {
            (Inserted::Placed, Removed::Doubtful) => Inserted::Doubtful,
            (inserted, _) => inserted,
        }
    }

    fn append_siblings(&mut self, route: &Candidate, hops: Vec<NextHop>, shared: &mut Shared<'_>) -> Inserted {
        if hops.is_empty() {
            return Inserted::Placed;
        }
        let group = self.group(route.tos, route.metric);
        match self.kept.get_mut(group.clone()).and_then(|members| members.last_mut()) {
            Some(last) if last.is_run_like(route) => {
                let all = last.path.next_hops.iter().chain(&hops).copied().collect();
                last.path = shared.paths.intern(with_hops(&last.path, all));
            }
            _ if !shared.may_grow => return Inserted::OverLimit,
            _ => self.kept.insert(group.end, Kept::run(route, hops, shared.paths)),
        }
        Inserted::Placed
    }

    /// Puts what `keep` returns in the place of each next hop of the multipath route in `group`.
    fn keep_hops(
        &mut self,
        group: Range<usize>,
        keep: impl Fn(&NextHop) -> Option<NextHop>,
        shared: &mut Shared<'_>,
    ) -> Removed {
        let mut removed = Removed::Done;
        for run in self.kept.get_mut(group.clone()).unwrap_or_default().iter_mut().filter(|kept| kept.sibling) {
            let hops: Vec<NextHop> = run.path.next_hops.iter().filter_map(&keep).collect();
            let fewer = hops.len() < run.path.next_hops.len();
            if run.veils && fewer && (shared.listing_hides || !hops.is_empty()) {
                removed = Removed::Doubtful;
            }
            if hops != run.path.next_hops {
                run.path = shared.paths.intern(with_hops(&run.path, hops));
            }
        }
        self.remove_where(group, |kept| kept.sibling && kept.path.next_hops.is_empty());
        removed
    }

    fn remove_runs(&mut self, range: Range<usize>) {
        self.remove_where(range, |kept| kept.sibling);
    }

    fn remove_where(&mut self, range: Range<usize>, goes: impl Fn(&Kept) -> bool) {
        for index in range.rev() {
            if self.kept.get(index).is_some_and(&goes) {
                self.kept.remove(index);
            }
        }
    }
}
