//! The tables of one dataplane and their handles: one writer, many readers.

use crate::adjacency::{Adjacencies, Adjacency, AdjacencyTable, AdjacencyWord};
use crate::arena::Arena;
use crate::entry::UNITS_MAX;
use crate::error::FibError;
use crate::group::{GroupTable, Groups};
use crate::next_hop::NextHop;
use crate::prefix::{Address, Prefix};
use crate::quiescence::{Quiescence, Seat};
use crate::rib::Rib;
use crate::sync::Arc;
use crate::trie::{Painter, Trie};

/// Bounds of the tables. Memory is mapped for them but used only as routes come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// IPv4 prefixes.
    pub routes4_max: usize,
    /// IPv6 prefixes.
    pub routes6_max: usize,
    /// Memory for IPv4 nodes below the root, which takes 96 MiB.
    pub nodes4_bytes_max: usize,
    /// Memory for IPv6 nodes below the root, which takes up to 64 MiB.
    pub nodes6_bytes_max: usize,
    /// Neighbours, at most 2^23: 8 bytes each.
    pub adjacencies_max: usize,
    /// Next hop groups, at most 2^23: 1 KiB each.
    pub groups_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            routes4_max: 1 << 21,
            routes6_max: 1 << 19,
            nodes4_bytes_max: 64 << 20,
            nodes6_bytes_max: 192 << 20,
            adjacencies_max: 1 << 20,
            groups_max: 1 << 14,
        }
    }
}

/// Creates empty tables.
pub fn new(limits: Limits) -> Result<(FibWriter, FibReader), FibError> {
    let quiescence = Quiescence::new();
    let v4 = Routes::new(&quiescence, limits.routes4_max, limits.nodes4_bytes_max)?;
    let v6 = Routes::new(&quiescence, limits.routes6_max, limits.nodes6_bytes_max)?;
    let adjacencies = Adjacencies::new(Arc::clone(&quiescence), limits.adjacencies_max)?;
    let groups = Groups::new(Arc::clone(&quiescence), limits.groups_max)?;
    let tables = Tables {
        v4: Arc::clone(&v4.trie),
        v6: Arc::clone(&v6.trie),
        adjacencies: adjacencies.table(),
        groups: groups.table(),
    };
    Ok((FibWriter { v4, v6, adjacencies, groups }, FibReader { tables, quiescence }))
}

/// The one handle that changes the tables. Readers see each change as soon as the call returns, if not before.
pub struct FibWriter {
    pub v4: Routes<u32>,
    pub v6: Routes<u128>,
    pub adjacencies: Adjacencies,
    pub groups: Groups,
}

/// The routes of one address family, as their writer sees them.
pub struct Routes<A> {
    rib: Rib<A>,
    routes_max: usize,
    trie: Arc<Trie<A>>,
    painter: Painter,
}

impl<A: Address> Routes<A> {
    fn new(quiescence: &Arc<Quiescence>, routes_max: usize, nodes_bytes_max: usize) -> Result<Self, FibError> {
        let units_max =
            u32::try_from(nodes_bytes_max / crate::arena::UNIT_BYTES).ok().filter(|&units| units < UNITS_MAX);
        let units_max = units_max.ok_or(FibError::Limit {
            what: "nodes_bytes_max",
            value: nodes_bytes_max,
            value_max: UNITS_MAX as usize * crate::arena::UNIT_BYTES,
        })?;
        let arena = Arena::new(Arc::clone(quiescence), units_max);
        let trie = Arc::new(Trie::new(units_max)?);
        Ok(Self { rib: Rib::new(), routes_max, trie, painter: Painter::new(arena) })
    }

    /// Sets the next hop of `prefix`, whether or not it had one; returns the one it had.
    pub fn insert(&mut self, prefix: Prefix<A>, next_hop: NextHop) -> Result<Option<NextHop>, FibError> {
        if next_hop.is_none() {
            return Err(FibError::NoNextHop);
        }
        let old = self.rib.exact(prefix);
        if old.is_none() && self.rib.len() >= self.routes_max {
            return Err(FibError::RoutesFull { routes_max: self.routes_max });
        }
        if old != Some(next_hop) {
            self.painter.cover(&self.trie, prefix, next_hop)?;
            self.rib.insert(prefix, next_hop);
        }
        Ok(old)
    }

    /// Sets the next hop of a `prefix` that has one; without it changes nothing and returns `None`.
    pub fn replace(&mut self, prefix: Prefix<A>, next_hop: NextHop) -> Result<Option<NextHop>, FibError> {
        if self.rib.exact(prefix).is_none() { Ok(None) } else { self.insert(prefix, next_hop) }
    }

    /// Removes `prefix`; returns the next hop it had. Its addresses follow the next shorter prefix again.
    ///
    /// Splitting runs can take room, so this too can answer [`FibError::Busy`] or, in a full table, [`FibError::Full`].
    pub fn remove(&mut self, prefix: Prefix<A>) -> Result<Option<NextHop>, FibError> {
        if self.rib.exact(prefix).is_none() {
            return Ok(None);
        }
        let covering = self.rib.covering(prefix);
        self.painter.uncover(&self.trie, prefix, covering)?;
        Ok(self.rib.remove(prefix))
    }

    /// Inserts many routes, shortest prefixes first so that few slots are written twice. Stops at the first refusal;
    /// those before it stay.
    pub fn extend(&mut self, routes: impl IntoIterator<Item = (Prefix<A>, NextHop)>) -> Result<(), FibError> {
        let mut routes: Vec<_> = routes.into_iter().collect();
        routes.sort_unstable_by_key(|(prefix, _)| (prefix.len(), *prefix));
        self.rib.reserve(routes.len());
        routes.into_iter().try_for_each(|(prefix, next_hop)| self.insert(prefix, next_hop).map(drop))
    }

    /// The next hop of exactly this prefix.
    pub fn exact(&self, prefix: Prefix<A>) -> Option<NextHop> {
        self.rib.exact(prefix)
    }

    /// The route `addr` follows.
    pub fn longest_match(&self, addr: A) -> Option<(Prefix<A>, NextHop)> {
        self.rib.longest_match(addr)
    }

    /// All routes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Prefix<A>, NextHop)> + '_ {
        self.rib.iter()
    }

    pub fn len(&self) -> usize {
        self.rib.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rib.len() == 0
    }

    /// Memory behind nodes, those that wait for readers included, in bytes. The root adds up to 96 MiB.
    pub fn nodes_bytes(&self) -> usize {
        self.painter.arena_ref().units_used() * crate::arena::UNIT_BYTES
    }

    /// Nodes that wait for a reader's quiescent point, after giving back those that need not.
    pub fn reclaim(&mut self) -> usize {
        self.painter.arena().reclaim();
        self.painter.arena_ref().waiting()
    }
}

/// The shared half of everything.
#[derive(Clone)]
struct Tables {
    v4: Arc<Trie<u32>>,
    v6: Arc<Trie<u128>>,
    adjacencies: Arc<AdjacencyTable>,
    groups: Arc<GroupTable>,
}

/// Lets any thread join as a reader.
#[derive(Clone)]
pub struct FibReader {
    tables: Tables,
    quiescence: Arc<Quiescence>,
}

impl FibReader {
    /// Takes one of [`crate::READERS_MAX`] seats; the view gives it back when dropped.
    pub fn join(&self) -> Result<FibView, FibError> {
        Ok(FibView { tables: self.tables.clone(), seat: self.quiescence.seat()? })
    }
}

/// One thread's view of the tables. Lookups take no locks and never wait.
///
/// Call [`Self::quiescent`] once a turn, so that the writer can use withdrawn memory again, and [`Self::offline`] before sleeping.
pub struct FibView {
    tables: Tables,
    seat: Seat,
}

impl FibView {
    #[inline]
    pub fn lookup4(&self, addr: u32) -> NextHop {
        debug_assert!(self.seat.is_online(), "lookup while offline");
        self.tables.v4.lookup(addr)
    }

    #[inline]
    pub fn lookup6(&self, addr: u128) -> NextHop {
        debug_assert!(self.seat.is_online(), "lookup while offline");
        self.tables.v6.lookup(addr)
    }

    /// Starts loading what a lookup of `addr` reads first.
    #[inline]
    pub fn prefetch4(&self, addr: u32) {
        self.tables.v4.prefetch(addr);
    }

    /// As [`Self::prefetch4`].
    #[inline]
    pub fn prefetch6(&self, addr: u128) {
        self.tables.v6.prefetch(addr);
    }

    /// Looks up `addrs[i]` into `next_hops[i]`; the shorter slice ends it. Best in multiples of [`crate::BATCH`].
    #[inline]
    pub fn lookup4_batch(&self, addrs: &[u32], next_hops: &mut [NextHop]) {
        debug_assert!(self.seat.is_online(), "lookup while offline");
        self.tables.v4.lookup_batch(addrs, next_hops);
    }

    /// As [`Self::lookup4_batch`].
    #[inline]
    pub fn lookup6_batch(&self, addrs: &[u128], next_hops: &mut [NextHop]) {
        debug_assert!(self.seat.is_online(), "lookup while offline");
        self.tables.v6.lookup_batch(addrs, next_hops);
    }

    /// What to do with a packet of the flow with this hash: one load, or two behind a group.
    #[inline]
    pub fn resolve(&self, next_hop: NextHop, flow_hash: u32) -> Adjacency {
        self.resolve_word(next_hop, flow_hash).adjacency()
    }

    /// As [`Self::resolve`], without taking the word apart.
    #[inline]
    pub fn resolve_word(&self, next_hop: NextHop, flow_hash: u32) -> AdjacencyWord {
        debug_assert!(self.seat.is_online(), "lookup while offline");
        let index = match next_hop.group_index() {
            Some(group) => self.tables.groups.load(group, flow_hash),
            None => next_hop.value(),
        };
        self.tables.adjacencies.load_word(index)
    }

    /// Says that this thread holds nothing from earlier lookups: no next hop, no adjacency. A load and a store.
    #[inline]
    pub fn quiescent(&self) {
        self.seat.quiescent();
    }

    /// Stops holding up the writer; look nothing up until [`Self::online`].
    #[inline]
    pub fn offline(&self) {
        self.seat.offline();
    }

    #[inline]
    pub fn online(&self) {
        self.seat.online();
    }
}
