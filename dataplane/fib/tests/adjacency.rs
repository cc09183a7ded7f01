//! Adjacencies, next hop groups, and the reuse of their indices.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use tailwater_fib::{Adjacency, BUCKETS, FibError, FibReader, FibWriter, Limits, Member, NextHop};

fn fib() -> (FibWriter, FibReader) {
    let small = Limits { adjacencies_max: 4, groups_max: 2, ..Limits::default() };
    tailwater_fib::new(small).unwrap()
}

#[test]
fn a_neighbour_is_unresolved_until_it_answers_and_names_itself() {
    let (mut writer, reader) = fib();
    let view = reader.join().unwrap();
    let next_hop = writer.adjacencies.add().unwrap();
    assert_eq!(view.resolve(next_hop, 0), Adjacency::Unresolved { next_hop });
    writer.adjacencies.resolve(next_hop, 7, [2, 0, 0, 0, 0, 9]).unwrap();
    assert_eq!(view.resolve(next_hop, 0), Adjacency::Forward { port: 7, mac: [2, 0, 0, 0, 0, 9] });
    writer.adjacencies.unresolve(next_hop).unwrap();
    assert_eq!(view.resolve(next_hop, 0), Adjacency::Unresolved { next_hop });
}

#[test]
fn fixed_next_hops_need_no_set_up() {
    let (_writer, reader) = fib();
    let view = reader.join().unwrap();
    assert_eq!(view.resolve(NextHop::NONE, 0), Adjacency::Unreachable);
    assert_eq!(view.resolve(NextHop::LOCAL, 0), Adjacency::Local);
    assert_eq!(view.resolve(NextHop::BLACKHOLE, 0), Adjacency::Blackhole);
    assert_eq!(view.resolve(NextHop::UNREACHABLE, 0), Adjacency::Unreachable);
    assert_eq!(view.resolve(NextHop::PROHIBIT, 0), Adjacency::Prohibit);
}

#[test]
fn fixed_next_hops_cannot_be_changed_or_removed() {
    let (mut writer, _reader) = fib();
    assert!(matches!(writer.adjacencies.resolve(NextHop::LOCAL, 0, [0; 6]), Err(FibError::Unknown { .. })));
    assert!(matches!(writer.adjacencies.remove(NextHop::PROHIBIT), Err(FibError::Unknown { .. })));
}

#[test]
fn the_reserved_port_is_refused() {
    let (mut writer, _reader) = fib();
    let next_hop = writer.adjacencies.add().unwrap();
    assert!(matches!(writer.adjacencies.resolve(next_hop, u16::MAX, [0; 6]), Err(FibError::Limit { .. })));
}

#[test]
fn a_withdrawn_index_is_reused_only_after_every_reader_was_quiescent() {
    let (mut writer, reader) = fib();
    let (busy, idle) = (reader.join().unwrap(), reader.join().unwrap());
    let all: Vec<NextHop> = (0..4).map(|_| writer.adjacencies.add().unwrap()).collect();
    assert!(matches!(writer.adjacencies.add(), Err(FibError::Full { .. })));

    writer.adjacencies.remove(all[0]).unwrap();
    assert_eq!(busy.resolve(all[0], 0), Adjacency::Unreachable, "what is held leads nowhere, not to another neighbour");
    assert!(matches!(writer.adjacencies.add(), Err(FibError::Busy { waiting: 1, .. })));
    busy.quiescent();
    assert!(matches!(writer.adjacencies.add(), Err(FibError::Busy { .. })), "the other reader may still hold it");
    idle.offline();
    assert_eq!(writer.adjacencies.add().unwrap(), all[0]);
    idle.online();

    writer.adjacencies.remove(all[1]).unwrap();
    assert!(matches!(writer.adjacencies.add(), Err(FibError::Busy { .. })), "online again, it counts again");
    drop((busy, idle));
    assert_eq!(writer.adjacencies.add().unwrap(), all[1]);
}

#[test]
fn an_adjacency_removed_twice_is_refused() {
    let (mut writer, _reader) = fib();
    let next_hop = writer.adjacencies.add().unwrap();
    writer.adjacencies.remove(next_hop).unwrap();
    assert!(matches!(writer.adjacencies.remove(next_hop), Err(FibError::Unknown { .. })));
    assert!(matches!(writer.adjacencies.resolve(next_hop, 1, [0; 6]), Err(FibError::Unknown { .. })));
}

#[test]
fn seats_are_bounded_and_given_back() {
    let (_writer, reader) = fib();
    let mut views: Vec<_> = (0..tailwater_fib::READERS_MAX).map(|_| reader.join().unwrap()).collect();
    assert!(matches!(reader.join(), Err(FibError::ReadersFull { .. })));
    views.swap_remove(17);
    assert!(reader.join().is_ok());
}

#[test]
fn a_group_spreads_flows_by_weight() {
    let (mut writer, reader) = fib();
    let view = reader.join().unwrap();
    let (one, three) = (writer.adjacencies.add().unwrap(), writer.adjacencies.add().unwrap());
    let members = [Member { next_hop: one, weight: 1 }, Member { next_hop: three, weight: 3 }];
    let group = writer.groups.add(&members, &writer.adjacencies).unwrap();
    let flows = 100_000u32;
    let to_one =
        (0..flows).filter(|&hash| view.resolve(group, hash) == Adjacency::Unresolved { next_hop: one }).count();
    let share = to_one as f64 / f64::from(flows);
    assert!((share - 0.25).abs() < 0.02, "{share}");
}

#[test]
fn groups_refuse_what_is_no_adjacency() {
    let (mut writer, _reader) = fib();
    let next_hop = writer.adjacencies.add().unwrap();
    let group = writer.groups.add(&[Member { next_hop, weight: 1 }], &writer.adjacencies).unwrap();
    let unknown = NextHop::new(1000).unwrap();
    for members in [
        vec![],
        vec![Member { next_hop, weight: 0 }],
        vec![Member { next_hop, weight: 1 }, Member { next_hop, weight: 1 }],
        vec![Member { next_hop: group, weight: 1 }],
        vec![Member { next_hop: unknown, weight: 1 }],
        vec![Member { next_hop: NextHop::NONE, weight: 1 }],
    ] {
        assert!(writer.groups.add(&members, &writer.adjacencies).is_err(), "{members:?}");
        assert!(writer.groups.set(group, &members, &writer.adjacencies).is_err(), "{members:?}");
    }
    assert_eq!(writer.groups.buckets(group), Some([next_hop; BUCKETS]));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Buckets that change hands are exactly those the new shares call for.
    #[test]
    fn changing_a_group_moves_no_flow_that_could_stay(
        before in prop::collection::btree_map(0usize..12, 1u16..100, 1..10),
        after in prop::collection::btree_map(0usize..12, 1u16..100, 1..10),
    ) {
        let limits = Limits { adjacencies_max: 12, ..Limits::default() };
        let (mut writer, _reader) = tailwater_fib::new(limits).unwrap();
        let all: Vec<NextHop> = (0..12).map(|_| writer.adjacencies.add().unwrap()).collect();
        let members = |of: &std::collections::BTreeMap<usize, u16>| -> Vec<Member> {
            of.iter().map(|(&at, &weight)| Member { next_hop: all[at], weight }).collect()
        };
        let group = writer.groups.add(&members(&before), &writer.adjacencies).unwrap();
        let old = writer.groups.buckets(group).unwrap();
        writer.groups.set(group, &members(&after), &writer.adjacencies).unwrap();
        let new = writer.groups.buckets(group).unwrap();

        let count = |buckets: &[NextHop], of: NextHop| buckets.iter().filter(|&&hop| hop == of).count();
        let total: usize = after.values().map(|&weight| usize::from(weight)).sum();
        for (&at, &weight) in &after {
            let exact = usize::from(weight) as f64 * BUCKETS as f64 / total as f64;
            let got = count(&new, all[at]) as f64;
            prop_assert!(got >= 1.0 && (got - exact).abs() <= 10.0, "{got} buckets for {exact}");
        }
        let moved = old.iter().zip(&new).filter(|(old, new)| old != new).count();
        let called_for: usize =
            all.iter().map(|&hop| count(&new, hop).saturating_sub(count(&old, hop))).sum();
        prop_assert_eq!(moved, called_for);
        prop_assert!(new.iter().all(|hop| !hop.is_none()));
    }
}
