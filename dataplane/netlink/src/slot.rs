//! The kernel's routes for one prefix of one table, in the order in which it looks at them. No I/O.
//!
//! Order of the list: type of service falling, metric rising; among those alike the kernel's own order, which for
//! IPv4 is made here and for IPv6 in `siblings`.

use std::ops::Range;
use std::sync::Arc;

use crate::paths::Paths;
use crate::rib::{Inserted, Removed};
use crate::route::{Candidate, Path, Placement};

/// One route, or a run of siblings: next hops of one IPv6 multipath route which follow each other in the kernel's list.
pub(crate) struct Kept {
    pub(crate) metric: u32,
    pub(crate) tos: u8,
    pub(crate) protocol: u8,
    /// A run of siblings. All runs of a metric together are one multipath route.
    pub(crate) sibling: bool,
    /// What was listed may stand for more: several next hops for what lies between them and what else those behind the
    /// first have, a route listed twice for two.
    pub(crate) veils: bool,
    pub(crate) path: Arc<Path>,
}

/// What the slots of a table have in common while one of them changes.
pub(crate) struct Shared<'a> {
    pub(crate) paths: &'a mut Paths,
    /// One more route may be kept.
    pub(crate) may_grow: bool,
    /// The kernel may have IPv6 routes which the last listing left out, see `siblings`.
    pub(crate) listing_hides: bool,
}

#[derive(Default)]
pub(crate) struct Slot {
    pub(crate) kept: Vec<Kept>,
    pub(crate) announced: Option<(u32, Arc<Path>)>,
    pub(crate) generation: u32,
    pub(crate) dirty: bool,
}

impl Kept {
    pub(crate) fn new(route: Candidate, paths: &mut Paths) -> Self {
        let Candidate { metric, tos, protocol, path } = route;
        Self { metric, tos, protocol, sibling: false, veils: false, path: paths.intern(path) }
    }

    pub(crate) fn is(&self, route: &Candidate) -> bool {
        self.tos == route.tos && self.metric == route.metric && self.path.is_same_way(&route.path)
    }
}

impl Slot {
    /// Range of candidates with this type of service and metric; empty, but at the right place, where there is none.
    pub(crate) fn group(&self, tos: u8, metric: u32) -> Range<usize> {
        let rank = |tos: u8, metric: u32| (std::cmp::Reverse(tos), metric);
        let start = self.kept.partition_point(|k| rank(k.tos, k.metric) < rank(tos, metric));
        let end = self.kept.partition_point(|k| rank(k.tos, k.metric) <= rank(tos, metric));
        start..end
    }

    /// The first candidate a packet without type of service can use.
    pub(crate) fn best(&self, paths: &Paths) -> Option<(&Kept, Arc<Path>)> {
        self.kept
            .iter()
            .filter(|kept| kept.tos == 0)
            .filter_map(|kept| Some((kept, self.whole_path(kept, paths)?)))
            .find(|(_, path)| path.is_usable())
    }

    /// As `fib_table_insert` in the kernel: routes of one type of service and metric form a list; an
    /// appended one goes behind it, a replacing one takes the place of its first, any other goes in front.
    pub(crate) fn place_ipv4(&mut self, kept: Kept, placement: Placement, may_grow: bool) -> Inserted {
        if let Some(index) = self
            .kept
            .iter()
            .position(|k| k.tos == kept.tos && k.metric == kept.metric && k.path.is_same_way(&kept.path))
        {
            let group = self.group(kept.tos, kept.metric);
            let target = match placement {
                Placement::Append => group.end.saturating_sub(1),
                Placement::Replace => index,
                Placement::Prepend => group.start,
            };
            self.kept.remove(index);
            self.kept.insert(target.min(self.kept.len()), kept);
            return Inserted::Placed;
        }
        let group = self.group(kept.tos, kept.metric);
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

    /// The first route which is just this one goes.
    pub(crate) fn remove(&mut self, route: &Candidate) -> Removed {
        let index = self.kept.iter().position(|kept| !kept.sibling && kept.is(route));
        match index.map(|index| self.kept.remove(index)) {
            Some(kept) if kept.veils => Removed::Doubtful,
            _ => Removed::Done,
        }
    }
}
