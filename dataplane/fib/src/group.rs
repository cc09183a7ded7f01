//! Next hop groups: several adjacencies that share the flows of a prefix by weight (ECMP).
//!
//! A group is a table of 256 buckets, each naming an adjacency; a flow's hash picks its bucket. Changing the members
//! hands over only the buckets that must change hands, so flows of members which stay keep their path as far as the
//! weights allow (resilient hashing).

use crate::adjacency::Adjacencies;
use crate::error::FibError;
use crate::memory::Words;
use crate::next_hop::NextHop;
use crate::quiescence::Quiescence;
use crate::reuse::Indices;
use crate::sync::{Arc, AtomicU32, Ordering};

/// Buckets of a group, and so the most members it can have.
pub const BUCKETS: usize = 256;

/// One way out of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// An adjacency, not a group.
    pub next_hop: NextHop,
    /// Share of the flows, relative to the other members', above zero.
    pub weight: u16,
}

/// What readers see of the groups.
pub(crate) struct GroupTable {
    buckets: Words<AtomicU32>,
}

impl GroupTable {
    /// The adjacency of the group at `index` for a flow.
    #[inline]
    pub(crate) fn load(&self, index: u32, flow_hash: u32) -> u32 {
        let bucket = index as usize * BUCKETS + bucket_of(flow_hash);
        self.buckets.words().get(bucket).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn buckets(&self, index: u32) -> &[AtomicU32] {
        let first = index as usize * BUCKETS;
        self.buckets.words().get(first..first + BUCKETS).unwrap_or_default()
    }
}

/// Mixed once more, as other decisions on the way (queue, worker) already went by bits of the same hash.
#[inline]
fn bucket_of(flow_hash: u32) -> usize {
    (flow_hash.wrapping_mul(0x9e37_79b1) >> 24) as usize
}

/// The one who changes the groups.
pub struct Groups {
    table: Arc<GroupTable>,
    indices: Indices,
}

impl Groups {
    pub(crate) fn new(quiescence: Arc<Quiescence>, groups_max: usize) -> Result<Self, FibError> {
        let value_max = NextHop::GROUP as usize;
        if groups_max > value_max {
            return Err(FibError::Limit { what: "groups_max", value: groups_max, value_max });
        }
        let table = Arc::new(GroupTable { buckets: Words::zeroed(groups_max * BUCKETS)? });
        Ok(Self { table, indices: Indices::new(quiescence, "next hop groups", 0, groups_max as u32) })
    }

    pub(crate) fn table(&self) -> Arc<GroupTable> {
        Arc::clone(&self.table)
    }

    /// A new group. Its members must be adjacencies in use.
    pub fn add(&mut self, members: &[Member], adjacencies: &Adjacencies) -> Result<NextHop, FibError> {
        let shares = shares(members, adjacencies)?;
        let index = self.indices.take()?;
        // Left from an earlier group: not this one's flows to keep.
        for bucket in self.table.buckets(index) {
            bucket.store(0, Ordering::Relaxed);
        }
        self.deal(index, members, &shares);
        Ok(NextHop::group(index))
    }

    /// Changes the members of a group; each flow moves at most once, and only if its bucket must.
    pub fn set(&mut self, group: NextHop, members: &[Member], adjacencies: &Adjacencies) -> Result<(), FibError> {
        let index = self.index_of(group)?;
        let shares = shares(members, adjacencies)?;
        self.deal(index, members, &shares);
        Ok(())
    }

    /// Withdraws a group that no prefix points to any more. Its index is used again only when no reader can hold it;
    /// remove its adjacencies after it.
    pub fn remove(&mut self, group: NextHop) -> Result<(), FibError> {
        let index = self.index_of(group)?;
        self.indices.retire(index)
    }

    /// The adjacency that each of the 256 buckets names.
    pub fn buckets(&self, group: NextHop) -> Option<[NextHop; BUCKETS]> {
        let index = self.index_of(group).ok()?;
        let buckets = self.table.buckets(index);
        Some(std::array::from_fn(|at| {
            buckets.get(at).map_or(NextHop::NONE, |word| NextHop::from_low_bits(word.load(Ordering::Relaxed)))
        }))
    }

    pub fn len(&self) -> usize {
        self.indices.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn index_of(&self, group: NextHop) -> Result<u32, FibError> {
        let index = group.group_index().ok_or(FibError::Unknown { what: "next hop groups", index: group.value() })?;
        self.indices.check(index).map(|()| index)
    }

    /// Gives each member its share of buckets, taking only from those with too many and those gone.
    fn deal(&self, index: u32, members: &[Member], shares: &[usize]) {
        let mut missing = shares.to_vec();
        let mut open = Vec::new();
        for bucket in self.table.buckets(index) {
            let owner = bucket.load(Ordering::Relaxed);
            let owner = members.iter().zip(&mut missing).find(|(member, _)| member.next_hop.value() == owner);
            match owner {
                Some((_, missing)) if *missing > 0 => *missing -= 1,
                _ => open.push(bucket),
            }
        }
        let wanted = members.iter().zip(missing).flat_map(|(member, missing)| std::iter::repeat_n(member, missing));
        for (bucket, member) in open.into_iter().zip(wanted) {
            bucket.store(member.next_hop.value(), Ordering::Release);
        }
    }
}

/// Buckets for each member: by weight, at least one each, 256 together (largest remainders).
fn shares(members: &[Member], adjacencies: &Adjacencies) -> Result<Vec<usize>, FibError> {
    let refused = FibError::GroupMembers { members_max: BUCKETS };
    if members.is_empty() || members.len() > BUCKETS || members.iter().any(|member| member.weight == 0) {
        return Err(refused);
    }
    for (at, member) in members.iter().enumerate() {
        let next_hop = member.next_hop;
        let known = next_hop.is_fixed() || adjacencies.adjacency(next_hop).is_some();
        if !known {
            return Err(FibError::Unknown { what: "adjacencies", index: next_hop.value() });
        }
        if members.iter().take(at).any(|earlier| earlier.next_hop == next_hop) {
            return Err(refused);
        }
    }
    let total: usize = members.iter().map(|member| usize::from(member.weight)).sum();
    // One bucket each first; the rest by weight.
    let rest = BUCKETS - members.len();
    let mut shares: Vec<usize> = members.iter().map(|member| 1 + usize::from(member.weight) * rest / total).collect();
    let mut by_remainder: Vec<usize> = (0..members.len()).collect();
    by_remainder.sort_by_key(|&at| {
        std::cmp::Reverse(members.get(at).map_or(0, |member| usize::from(member.weight) * rest % total))
    });
    let left = BUCKETS - shares.iter().sum::<usize>();
    for at in by_remainder.into_iter().take(left) {
        if let Some(share) = shares.get_mut(at) {
            *share += 1;
        }
    }
    Ok(shares)
}
