//! Random changes against a linear search.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use tailwater_fib::{Address, FibView, FibWriter, Limits, NextHop, Prefix, Routes};

#[derive(Clone, Debug)]
enum Change<A> {
    Insert(Prefix<A>, u32),
    Replace(Prefix<A>, u32),
    Remove(Prefix<A>),
}

/// Addresses crowded into a few corners, so that prefixes nest and nodes are shared, split and given back.
fn addr4() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        (0u32..4, 0u32..512).prop_map(|(high, low)| 0x0a00_0000 | high << 16 | low),
        Just(0),
        Just(u32::MAX),
    ]
}

fn addr6() -> impl Strategy<Value = u128> {
    prop_oneof![
        any::<u128>(),
        (0u128..4, 0u128..16, 0u128..512).prop_map(|(a, b, low)| 0x2001_0db8 << 96 | a << 80 | b << 64 | low),
        Just(0),
        Just(u128::MAX),
    ]
}

fn changes<A: Address>(addr: impl Strategy<Value = A>) -> impl Strategy<Value = Vec<Change<A>>> {
    // Short prefixes paint millions of slots: rare, for the sake of time.
    let len = prop_oneof![1 => Just(0u8), 1 => 6..=A::LEN_MAX, 8 => 12..=A::LEN_MAX, 4 => 24..=32u8];
    let change = (addr, len, 1u32..6, 0u8..4).prop_map(|(addr, len, next_hop, kind)| {
        let prefix = Prefix::new(addr, len).unwrap();
        match kind {
            0 => Change::Remove(prefix),
            1 => Change::Replace(prefix, next_hop),
            _ => Change::Insert(prefix, next_hop),
        }
    });
    // Half of the prefixes come up again, to be removed or replaced.
    (
        prop::collection::vec(change, 1..60),
        prop::collection::vec((any::<prop::sample::Index>(), 0u8..3, 1u32..6), 0..60),
    )
        .prop_map(|(mut changes, again)| {
            for (index, kind, next_hop) in again {
                let (Change::Insert(prefix, _) | Change::Replace(prefix, _) | Change::Remove(prefix)) =
                    changes[index.index(changes.len())];
                changes.push(match kind {
                    0 => Change::Insert(prefix, next_hop),
                    1 => Change::Replace(prefix, next_hop),
                    _ => Change::Remove(prefix),
                });
            }
            changes
        })
}

#[derive(Default)]
struct Linear<A>(Vec<(Prefix<A>, NextHop)>);

impl<A: Address> Linear<A> {
    fn apply(&mut self, change: &Change<A>) -> Option<NextHop> {
        let (Change::Insert(prefix, _) | Change::Replace(prefix, _) | Change::Remove(prefix)) = change;
        let at = self.0.iter().position(|(known, _)| known == prefix);
        match (change, at) {
            (Change::Remove(_), Some(at)) => Some(self.0.swap_remove(at).1),
            (Change::Insert(_, value) | Change::Replace(_, value), Some(at)) => {
                Some(std::mem::replace(&mut self.0[at].1, NextHop::new(*value).unwrap()))
            }
            (Change::Insert(prefix, value), None) => {
                self.0.push((*prefix, NextHop::new(*value).unwrap()));
                None
            }
            (Change::Replace(..) | Change::Remove(_), None) => None,
        }
    }

    fn lookup(&self, addr: A) -> NextHop {
        let matching = self.0.iter().filter(|(prefix, _)| prefix.contains(addr));
        matching.max_by_key(|(prefix, _)| prefix.len()).map_or(NextHop::NONE, |(_, next_hop)| *next_hop)
    }
}

fn apply<A: Address>(routes: &mut Routes<A>, change: &Change<A>) -> Option<NextHop> {
    match *change {
        Change::Insert(prefix, value) => routes.insert(prefix, NextHop::new(value).unwrap()),
        Change::Replace(prefix, value) => routes.replace(prefix, NextHop::new(value).unwrap()),
        Change::Remove(prefix) => routes.remove(prefix),
    }
    .unwrap()
}

fn run<A: Address>(
    changes: &[Change<A>],
    probes: &[A],
    routes: fn(&mut FibWriter) -> &mut Routes<A>,
    lookup: fn(&FibView, A) -> NextHop,
    batch: fn(&FibView, &[A], &mut [NextHop]),
) {
    let (mut writer, reader) = tailwater_fib::new(Limits::default()).unwrap();
    let view = reader.join().unwrap();
    let mut model = Linear(Vec::new());
    for change in changes {
        assert_eq!(apply(routes(&mut writer), change), model.apply(change), "{change:?}");
        let (Change::Insert(prefix, _) | Change::Replace(prefix, _) | Change::Remove(prefix)) = *change;
        assert_eq!(lookup(&view, prefix.addr()), model.lookup(prefix.addr()), "{change:?}");
        view.quiescent();
    }
    let untouched = NextHop::new(77).unwrap();
    let mut longer = [untouched; 3];
    batch(&view, &probes[..probes.len().min(2)], &mut longer);
    assert!(longer[probes.len().min(2)..].iter().all(|hop| *hop == untouched), "nothing behind the addresses");
    let starts = model.0.iter().map(|(prefix, _)| prefix.addr());
    let probes: Vec<A> = probes.iter().copied().chain(starts).collect();
    let mut found = vec![NextHop::NONE; probes.len()];
    batch(&view, &probes, &mut found);
    for (addr, found) in probes.iter().zip(found) {
        assert_eq!(found, model.lookup(*addr), "batch, {addr:x?}");
        assert_eq!(lookup(&view, *addr), found, "single, {addr:x?}");
        assert_eq!(routes(&mut writer).longest_match(*addr).map_or(NextHop::NONE, |(_, hop)| hop), found);
    }
    for (prefix, _) in model.0 {
        routes(&mut writer).remove(prefix).unwrap();
    }
    view.quiescent();
    assert_eq!(routes(&mut writer).reclaim(), 0);
    assert_eq!(routes(&mut writer).nodes_bytes(), 0, "an empty table keeps no nodes");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ipv4_lookups_agree_with_a_linear_search(
        changes in changes(addr4()),
        probes in prop::collection::vec(addr4(), 0..100),
    ) {
        run(&changes, &probes, |writer| &mut writer.v4, FibView::lookup4, FibView::lookup4_batch);
    }

    #[test]
    fn ipv6_lookups_agree_with_a_linear_search(
        changes in changes(addr6()),
        probes in prop::collection::vec(addr6(), 0..100),
    ) {
        run(&changes, &probes, |writer| &mut writer.v6, FibView::lookup6, FibView::lookup6_batch);
    }
}
