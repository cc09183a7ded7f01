//! Next hops by what they mean, counted by the routes that use them: (interface, gateway) to adjacency, sets of these to
//! groups.

use std::collections::HashMap;
use std::net::IpAddr;

use tailwater_fib::{Adjacencies, FibError, FibWriter, Groups, Member, NextHop};

/// A way out: a gateway on an interface, or the interface itself where each destination is its own neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Way {
    pub(super) ifindex: u32,
    pub(super) gateway: Option<IpAddr>,
}

struct Used {
    next_hop: NextHop,
    users: usize,
}

/// Adjacencies and groups in use.
#[derive(Default)]
pub(super) struct Ways {
    ways: HashMap<Way, Used>,
    by_next_hop: HashMap<NextHop, Way>,
    groups: HashMap<Vec<(Way, u16)>, Used>,
    group_keys: HashMap<NextHop, Vec<(Way, u16)>>,
}

impl Ways {
    /// The next hop for a set of ways, made if it is new. One more user.
    pub(super) fn acquire(&mut self, fib: &mut FibWriter, ways: &mut Vec<(Way, u16)>) -> Result<NextHop, FibError> {
        ways.sort_unstable();
        ways.dedup_by_key(|(way, _)| *way);
        if let [(way, _)] = ways.as_slice() {
            return self.acquire_way(&mut fib.adjacencies, *way);
        }
        if let Some(used) = self.groups.get_mut(ways) {
            used.users += 1;
            return Ok(used.next_hop);
        }
        let mut members = Vec::with_capacity(ways.len());
        let added = self
            .acquire_members(&mut fib.adjacencies, ways, &mut members)
            .and_then(|()| fib.groups.add(&members, &fib.adjacencies));
        let next_hop = added.inspect_err(|_| {
            members.iter().for_each(|member| self.release_way(&mut fib.adjacencies, member.next_hop));
        })?;
        self.groups.insert(ways.clone(), Used { next_hop, users: 1 });
        self.group_keys.insert(next_hop, ways.clone());
        Ok(next_hop)
    }

    fn acquire_members(
        &mut self,
        adjacencies: &mut Adjacencies,
        ways: &[(Way, u16)],
        members: &mut Vec<Member>,
    ) -> Result<(), FibError> {
        for &(way, weight) in ways {
            members.push(Member { next_hop: self.acquire_way(adjacencies, way)?, weight: weight.max(1) });
        }
        Ok(())
    }

    fn acquire_way(&mut self, adjacencies: &mut Adjacencies, way: Way) -> Result<NextHop, FibError> {
        if let Some(used) = self.ways.get_mut(&way) {
            used.users += 1;
            return Ok(used.next_hop);
        }
        let next_hop = adjacencies.add()?;
        self.ways.insert(way, Used { next_hop, users: 1 });
        self.by_next_hop.insert(next_hop, way);
        Ok(next_hop)
    }

    /// One user less; the last one takes the adjacency or group away. Fixed next hops are not counted.
    pub(super) fn release(&mut self, fib: &mut FibWriter, next_hop: NextHop) {
        let Some(key) = self.group_keys.get(&next_hop) else {
            self.release_way(&mut fib.adjacencies, next_hop);
            return;
        };
        let Some(used) = self.groups.get_mut(key) else { return };
        used.users -= 1;
        if used.users > 0 {
            return;
        }
        let Some(key) = self.group_keys.remove(&next_hop) else { return };
        self.groups.remove(&key);
        remove_group(&mut fib.groups, next_hop);
        for (way, _) in key {
            if let Some(member) = self.ways.get(&way).map(|used| used.next_hop) {
                self.release_way(&mut fib.adjacencies, member);
            }
        }
    }

    fn release_way(&mut self, adjacencies: &mut Adjacencies, next_hop: NextHop) {
        let Some(way) = self.by_next_hop.get(&next_hop).copied() else { return };
        let Some(used) = self.ways.get_mut(&way) else { return };
        used.users -= 1;
        if used.users == 0 {
            self.ways.remove(&way);
            self.by_next_hop.remove(&next_hop);
            if let Err(error) = adjacencies.remove(next_hop) {
                tracing::error!(%error, ?way, "adjacency not withdrawn");
            }
        }
    }

    /// The adjacency of a way, if a route uses it.
    pub(super) fn find(&self, way: &Way) -> Option<NextHop> {
        self.ways.get(way).map(|used| used.next_hop)
    }

    /// What an adjacency stands for.
    pub(super) fn meaning(&self, next_hop: NextHop) -> Option<Way> {
        self.by_next_hop.get(&next_hop).copied()
    }

    /// The gateways in use: (interface, address).
    pub(super) fn gateways(&self) -> impl Iterator<Item = (u32, IpAddr)> + '_ {
        self.ways.keys().filter_map(|way| Some((way.ifindex, way.gateway?)))
    }
}

fn remove_group(groups: &mut Groups, next_hop: NextHop) {
    if let Err(error) = groups.remove(next_hop) {
        tracing::error!(%error, "group not withdrawn");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacencies_live_as_long_as_routes_use_them_alone_or_in_groups() {
        let (mut fib, _reader) = tailwater_fib::new(tailwater_fib::Limits::default()).unwrap();
        let mut ways = Ways::default();
        let way = |n: u8| Way { ifindex: 1, gateway: Some([10, 0, 0, n].into()) };
        let single = ways.acquire(&mut fib, &mut vec![(way(1), 1)]).unwrap();
        let group = ways.acquire(&mut fib, &mut vec![(way(2), 1), (way(1), 1)]).unwrap();
        let same = ways.acquire(&mut fib, &mut vec![(way(1), 1), (way(2), 1)]).unwrap();
        assert_eq!(group, same, "the order of members does not matter");
        assert_eq!((fib.adjacencies.len(), fib.groups.len()), (2, 1));
        ways.release(&mut fib, single);
        assert_eq!(ways.find(&way(1)), Some(single), "the group still uses it");
        ways.release(&mut fib, group);
        assert_eq!(fib.groups.len(), 1);
        ways.release(&mut fib, same);
        assert_eq!((fib.adjacencies.len(), fib.groups.len()), (0, 0));
        assert_eq!(ways.find(&way(1)), None);
    }
}
