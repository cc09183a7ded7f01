//! Tables of the Internet's size: built in seconds, within their memory, right everywhere we look.
#![allow(clippy::unwrap_used, clippy::panic)]

use prefix_trie::PrefixMap;
use tailwater_fib::{FibView, Limits, NextHop, generate};

/// A debug build takes a twentieth.
const SHARE: usize = if cfg!(debug_assertions) { 20 } else { 1 };
const ROUTES4: usize = 1_000_000 / SHARE;
const ROUTES6: usize = 200_000 / SHARE;
const PROBES: usize = 200_000 / SHARE;

#[test]
fn a_full_ipv4_table_agrees_with_a_prefix_trie_before_and_after_withdrawals() {
    let (mut writer, reader) = tailwater_fib::new(Limits::default()).unwrap();
    let table = generate::table4(ROUTES4, 256, 1);
    assert_eq!(table.len(), ROUTES4);
    writer.v4.extend(table.iter().copied()).unwrap();
    assert_eq!(writer.v4.len(), ROUTES4);

    let view = reader.join().unwrap();
    let mut random = generate::Random::new(9);
    let mut probes = generate::addresses4(&table, PROBES, 3);
    probes.extend((0..PROBES).map(|_| random.next_u64() as u32));
    let mut model: PrefixMap<(u32, u8), NextHop> = table.iter().map(|(p, hop)| ((p.addr(), p.len()), *hop)).collect();
    let agree = |view: &FibView, model: &PrefixMap<(u32, u8), NextHop>| {
        let mut found = vec![NextHop::NONE; probes.len()];
        view.lookup4_batch(&probes, &mut found);
        for (&addr, found) in probes.iter().zip(found) {
            let expected = model.get_lpm(&(addr, 32)).map_or(NextHop::NONE, |(_, hop)| *hop);
            assert_eq!(found, expected, "{addr:x}");
        }
    };
    agree(&view, &model);
    view.offline();
    for (prefix, next_hop) in table.iter().step_by(3) {
        assert_eq!(writer.v4.remove(*prefix).unwrap(), Some(*next_hop));
        model.remove(&(prefix.addr(), prefix.len()));
    }
    view.online();
    agree(&view, &model);
    view.offline();
    for (prefix, _) in &table {
        writer.v4.remove(*prefix).unwrap();
    }
    assert_eq!((writer.v4.reclaim(), writer.v4.nodes_bytes(), writer.v4.len()), (0, 0, 0));
}

#[test]
fn a_full_ipv6_table_agrees_with_a_prefix_trie_before_and_after_withdrawals() {
    let (mut writer, reader) = tailwater_fib::new(Limits::default()).unwrap();
    let table = generate::table6(ROUTES6, 256, 2);
    assert_eq!(table.len(), ROUTES6);
    writer.v6.extend(table.iter().copied()).unwrap();
    assert!(writer.v6.nodes_bytes() < 16 << 20, "{} bytes", writer.v6.nodes_bytes());

    let view = reader.join().unwrap();
    let mut probes = generate::addresses6(&table, PROBES, 3);
    let mut random = generate::Random::new(9);
    probes.extend((0..PROBES).map(|_| 0x2000u128 << 112 | random.next_u128() >> 3));
    let mut model: PrefixMap<(u128, u8), NextHop> = table.iter().map(|(p, hop)| ((p.addr(), p.len()), *hop)).collect();
    let agree = |view: &FibView, model: &PrefixMap<(u128, u8), NextHop>| {
        let mut found = vec![NextHop::NONE; probes.len()];
        view.lookup6_batch(&probes, &mut found);
        for (&addr, found) in probes.iter().zip(found) {
            let expected = model.get_lpm(&(addr, 128)).map_or(NextHop::NONE, |(_, hop)| *hop);
            assert_eq!(found, expected, "{addr:x}");
        }
    };
    agree(&view, &model);
    view.offline();
    for (prefix, next_hop) in table.iter().step_by(3) {
        assert_eq!(writer.v6.remove(*prefix).unwrap(), Some(*next_hop));
        model.remove(&(prefix.addr(), prefix.len()));
    }
    view.online();
    agree(&view, &model);
    view.offline();
    for (prefix, _) in &table {
        writer.v6.remove(*prefix).unwrap();
    }
    assert_eq!((writer.v6.reclaim(), writer.v6.nodes_bytes(), writer.v6.len()), (0, 0, 0));
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let limits = Limits { routes4_max: 3, nodes6_bytes_max: 1 << 10, ..Limits::default() };
    let (mut writer, reader) = tailwater_fib::new(limits).unwrap();
    let view = reader.join().unwrap();
    let hop = NextHop::new(9).unwrap();
    for addr in 1..=3u32 {
        writer.v4.insert(tailwater_fib::Prefix::new(addr << 24, 8).unwrap(), hop).unwrap();
    }
    let fourth = tailwater_fib::Prefix::new(4u32 << 24, 8).unwrap();
    assert!(matches!(writer.v4.insert(fourth, hop), Err(tailwater_fib::FibError::RoutesFull { routes_max: 3 })));
    assert!(view.lookup4(4 << 24).is_none());

    let mut refused = 0;
    for site in 0..64u128 {
        let addr = 0x2001_0db8 << 96 | site << 80 | 1;
        let before = writer.v6.nodes_bytes();
        match writer.v6.insert(tailwater_fib::Prefix::new(addr, 128).unwrap(), hop) {
            Ok(_) => assert_eq!(view.lookup6(addr), hop),
            Err(tailwater_fib::FibError::Full { .. } | tailwater_fib::FibError::Busy { .. }) => {
                refused += 1;
                assert!(view.lookup6(addr).is_none());
                assert!(writer.v6.nodes_bytes() <= before, "a refused change keeps nothing");
            }
            Err(error) => panic!("{error}"),
        }
        view.quiescent();
    }
    assert!(refused > 0 && refused < 64, "{refused}");
}

#[test]
fn a_byte_whose_slots_all_differ_is_right_and_leaves_no_memory_behind() {
    let (mut writer, reader) = tailwater_fib::new(Limits::default()).unwrap();
    let view = reader.join().unwrap();
    let prefix = |host: u32| tailwater_fib::Prefix::new(0x0a00_0000 + host, 32).unwrap();
    let hop = |host: u32| NextHop::new(0x3f00 + host).unwrap();
    let probes: Vec<u32> = (0x0a00_0000..0x0a00_0100).collect();
    let agree = |view: &FibView, expected: &dyn Fn(u32) -> NextHop| {
        let mut found = vec![NextHop::NONE; probes.len()];
        view.lookup4_batch(&probes, &mut found);
        for (host, (&addr, found)) in (0..).zip(probes.iter().zip(found)) {
            assert_eq!((found, view.lookup4(addr)), (expected(host), expected(host)), "{addr:x}");
        }
        view.quiescent();
    };
    // From both ends, so that nodes get a second storey and lose it again at different places.
    let order = |at: u32| if at.is_multiple_of(2) { at / 2 } else { 255 - at / 2 };
    for at in 0..256 {
        writer.v4.insert(prefix(order(at)), hop(order(at))).unwrap();
    }
    agree(&view, &hop);
    for at in 0..128 {
        writer.v4.remove(prefix(order(at))).unwrap();
    }
    agree(&view, &|host| if (64..192).contains(&host) { hop(host) } else { NextHop::NONE });
    for at in 128..256 {
        writer.v4.remove(prefix(order(at))).unwrap();
    }
    agree(&view, &|_| NextHop::NONE);
    assert_eq!((writer.v4.reclaim(), writer.v4.nodes_bytes()), (0, 0));
}
