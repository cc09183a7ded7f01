//! The routes as they were given: what a removed prefix uncovers is found here. Only the writer reads it.

use std::collections::HashMap;

use crate::next_hop::NextHop;
use crate::prefix::{Address, Prefix};

/// Every prefix with its next hop: a hash table, and how many prefixes there are of each length, so that the longest
/// match probes only lengths in use. 27 MB for 1,000,000 IPv4 prefixes, where a pointer trie takes several times that.
pub(crate) struct Rib<A> {
    routes: HashMap<Prefix<A>, NextHop>,
    /// Prefixes of each length, 0 to 128.
    lens: [u32; 129],
}

impl<A: Address> Rib<A> {
    pub(crate) fn new() -> Self {
        Self { routes: HashMap::new(), lens: [0; 129] }
    }

    pub(crate) fn reserve(&mut self, routes: usize) {
        self.routes.reserve(routes);
    }

    pub(crate) fn len(&self) -> usize {
        self.routes.len()
    }

    pub(crate) fn exact(&self, prefix: Prefix<A>) -> Option<NextHop> {
        self.routes.get(&prefix).copied()
    }

    pub(crate) fn insert(&mut self, prefix: Prefix<A>, next_hop: NextHop) -> Option<NextHop> {
        let old = self.routes.insert(prefix, next_hop);
        if old.is_none() {
            self.lens[usize::from(prefix.len())] += 1;
        }
        old
    }

    pub(crate) fn remove(&mut self, prefix: Prefix<A>) -> Option<NextHop> {
        let old = self.routes.remove(&prefix)?;
        self.lens[usize::from(prefix.len())] -= 1;
        Some(old)
    }

    /// The longest prefix, shorter than `prefix` but not the default route, that covers it.
    pub(crate) fn covering(&self, prefix: Prefix<A>) -> Option<(Prefix<A>, NextHop)> {
        (1..prefix.len()).rev().find_map(|len| self.probe(prefix, len))
    }

    /// The longest match for `addr`.
    pub(crate) fn longest_match(&self, addr: A) -> Option<(Prefix<A>, NextHop)> {
        let host = Prefix::new(addr, A::LEN_MAX).ok()?;
        let exact = self.exact(host).map(|next_hop| (host, next_hop));
        exact.or_else(|| (0..A::LEN_MAX).rev().find_map(|len| self.probe(host, len)))
    }

    fn probe(&self, prefix: Prefix<A>, len: u8) -> Option<(Prefix<A>, NextHop)> {
        if self.lens[usize::from(len)] == 0 {
            return None;
        }
        let shorter = prefix.shortened(len)?;
        self.exact(shorter).map(|next_hop| (shorter, next_hop))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Prefix<A>, NextHop)> + '_ {
        self.routes.iter().map(|(&prefix, &next_hop)| (prefix, next_hop))
    }
}
