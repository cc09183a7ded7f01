//! Many changes at once: while the mirror follows, when it cannot keep up, and in random order.
//! In the end it must equal the kernel exactly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::{Follower, in_namespace, ip_batch, two_veths};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tailwater_netlink::Limits;

/// Runs a batch on another thread of the namespace while `follower` reads along.
fn batch_while_following(follower: &mut Follower, lines: &str, family: &str, force: bool) {
    let done = AtomicBool::new(false);
    let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            rustix::thread::move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&namespace),
                Some(rustix::thread::LinkNameSpaceType::Network),
            )
            .unwrap();
            let outcome = std::panic::catch_unwind(|| ip_batch(lines, family, force));
            done.store(true, Ordering::Release);
            outcome.unwrap();
        });
        while !done.load(Ordering::Acquire) {
            follower.drain();
            follower.told.clear();
            std::thread::yield_now();
        }
    });
}

fn destination(i: u32) -> String {
    format!("10.{}.{}.0/24", 16 + (i >> 8), i & 255)
}

/// Ten thousand additions, then replacements and removals of some.
fn churn(count: u32) -> String {
    let mut lines = String::new();
    for i in 0..count {
        let gateway = 2 + i % 200;
        lines += &format!("route add {} via 10.0.{}.{gateway}\n", destination(i), i % 2);
    }
    for i in (0..count).step_by(3) {
        lines += &format!("route replace {} nexthop via 10.0.0.7 nexthop via 10.0.1.7\n", destination(i));
    }
    for i in (0..count).step_by(4) {
        lines += &format!("route append {} via 10.0.1.8\n", destination(i));
    }
    for i in (0..count).step_by(5) {
        lines += &format!("route del {}\n", destination(i));
    }
    lines
}

#[test]
fn ten_thousand_routes_are_followed_while_they_change() {
    in_namespace(|| {
        two_veths();
        let mut follower = Follower::open();
        batch_while_following(&mut follower, &churn(10_000), "-4", false);
        follower.expect_kernel_routes("churn");
        assert!(follower.routes.len() > 8_000, "{}", follower.routes.len());
        assert_eq!(follower.mirror.counters().overflows, 0);
        assert_eq!(follower.mirror.counters().undecodable, 0);
    });
}

#[test]
fn ten_thousand_ipv6_routes_are_followed_while_they_change() {
    in_namespace(|| {
        two_veths();
        let mut lines = String::new();
        for i in 0..10_000 {
            lines += &format!("route add fd01:{i:x}::/64 via fd00:a::{:x}\n", 2 + i % 200);
        }
        for i in (0..10_000).step_by(3) {
            lines += &format!("route append fd01:{i:x}::/64 via fd00:c::7\n");
        }
        for i in (0..10_000).step_by(5) {
            lines += &format!("route del fd01:{i:x}::/64\n");
        }
        let mut follower = Follower::open();
        batch_while_following(&mut follower, &lines, "-6", false);
        follower.expect_kernel_routes("churn");
        assert!(follower.routes.len() > 7_500, "{}", follower.routes.len());
    });
}

/// Additions and then other additions and removals by turns.
fn ipv6_churn(count: u32) -> (String, String) {
    let add = |i: u32| format!("route add fd01:{i:x}::/64 via fd00:a::{:x}\n", 2 + i % 200);
    let before = (0..count).map(add).collect();
    let by_turns = |i| format!("route del fd01:{i:x}::/64\n{}", add(count + i));
    (before, (0..count).filter(|i| i % 3 > 0).map(by_turns).collect())
}

#[test]
fn a_mirror_opened_in_the_middle_of_churn_ends_up_the_same() {
    open_in_the_middle(&churn(3_000), &churn(3_000).replace("route add", "route prepend"), "-4");
}

#[test]
fn a_mirror_opened_in_the_middle_of_ipv6_churn_ends_up_the_same() {
    let (before, lines) = ipv6_churn(3_000);
    open_in_the_middle(&before, &lines, "-6");
}

/// Opens mirrors one after the other while `lines` change what `before` made.
fn open_in_the_middle(before: &str, lines: &str, family: &str) {
    in_namespace(|| {
        two_veths();
        ip_batch(before, family, false);
        let done = AtomicBool::new(false);
        let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let followers = std::thread::scope(|scope| {
            scope.spawn(|| {
                rustix::thread::move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&namespace),
                    Some(rustix::thread::LinkNameSpaceType::Network),
                )
                .unwrap();
                ip_batch(lines, family, true);
                done.store(true, Ordering::Release);
            });
            let mut followers = Vec::new();
            while followers.len() < 8 && !done.load(Ordering::Acquire) {
                followers.push(Follower::open());
            }
            followers
        });
        assert!(!followers.is_empty());
        for mut follower in followers {
            follower.expect_kernel_routes("opening under churn");
        }
    });
}

#[test]
fn lost_notifications_are_made_good_and_only_differences_told() {
    in_namespace(|| {
        two_veths();
        ip_batch("route add 10.200.0.0/16 via 10.0.0.2\n", "-4", false);
        let mut follower = Follower::open_with(Limits { receive_buffer_bytes: 4096, ..Limits::default() });
        let told_before = follower.told.len();
        // Nobody reads meanwhile: the buffer holds only a few of these.
        ip_batch(&churn(2_000), "-4", false);
        let resynchronised = follower.resynchronised;
        follower.expect_kernel_routes("overflow");
        assert!(follower.mirror.counters().overflows > 0, "the test must overflow");
        assert!(follower.resynchronised > resynchronised);
        let untouched = follower.told.iter().skip(told_before).any(
            |event| matches!(event, tailwater_netlink::Event::RouteChanged(r) if r.prefix.to_string() == "10.200.0.0/16"),
        );
        assert!(!untouched, "a route which did not change was told again");
        ip_batch("route del 10.200.0.0/16\n", "-4", false);
        follower.expect_kernel_routes("life after the overflow");
    });
}

/// One line for `ip -batch`; many will be refused, which is part of the test.
fn operation() -> impl Strategy<Value = String> {
    let prefix =
        prop_oneof![2 => (0u8..2).prop_map(|i| format!("10.{}.0.0/16", 50 + i)), 1 => Just("default".to_owned())];
    let v6_prefix = (0u8..2).prop_map(|i| format!("fd01:{i}::/64"));
    let verb = prop_oneof![
        3 => Just("add"), 2 => Just("append"), 2 => Just("prepend"), 3 => Just("replace"), 1 => Just("change"),
        3 => Just("del"),
    ];
    let v4_hop = (0u8..2, 2u8..5).prop_map(|(link, host)| format!("via 10.0.{link}.{host}"));
    let v4_way = prop_oneof![
        4 => v4_hop.clone(),
        1 => prop_oneof![Just("dev va"), Just("dev vc")].prop_map(str::to_owned),
        2 => (v4_hop.clone(), v4_hop, 1u8..9).prop_map(|(a, b, w)| format!("nexthop {a} weight {w} nexthop {b}")),
        1 => (1u8..5).prop_map(|id| format!("nhid {id}")),
        1 => Just("via inet6 fe80::5 dev va".to_owned()),
        1 => (2u8..4).prop_map(|i| format!("via 10.0.0.2 src 10.0.0.{}", 200 + i)),
    ];
    let v6_hop =
        (prop_oneof![Just('a'), Just('c')], 2u8..5).prop_map(|(link, host)| format!("via fd00:{link}::{host}"));
    let v6_way = prop_oneof![
        4 => v6_hop.clone(),
        1 => v6_hop.clone().prop_map(|hop| format!("{hop} mtu 1400")),
        1 => prop_oneof![Just("dev va"), Just("dev vc")].prop_map(str::to_owned),
        2 => (v6_hop.clone(), v6_hop).prop_map(|(a, b)| format!("nexthop {a} nexthop {b}")),
        1 => (5u8..7).prop_map(|id| format!("nhid {id}")),
    ];
    let metric = prop_oneof![3 => Just(String::new()), 1 => (1u8..3).prop_map(|m| format!("metric {m}"))];
    let tos = prop_oneof![9 => Just(""), 1 => Just("tos 0x10 ")];
    let special = prop_oneof![Just("blackhole"), Just("unreachable"), Just("prohibit"), Just("throw")];
    let link = prop_oneof![Just("va"), Just("vb"), Just("vc")];
    prop_oneof![
        12 => (verb.clone(), prefix.clone(), tos, v4_way, metric.clone())
            .prop_map(|(verb, prefix, tos, way, metric)| format!("route {verb} {prefix} {tos}{metric} {way}")),
        2 => (verb.clone(), special.clone(), prefix.clone(), metric.clone())
            .prop_map(|(verb, kind, prefix, metric)| format!("route {verb} {kind} {prefix} {metric}")),
        2 => prefix.prop_map(|prefix| format!("route del {prefix}")),
        12 => (verb.clone(), v6_prefix.clone(), v6_way, metric.clone())
            .prop_map(|(verb, prefix, way, metric)| format!("route {verb} {prefix} {metric} {way}")),
        4 => (verb, special, v6_prefix.clone(), metric)
            .prop_map(|(verb, kind, prefix, metric)| format!("route {verb} {kind} {prefix} {metric}")),
        2 => v6_prefix.prop_map(|prefix| format!("route del {prefix}")),
        2 => (link, prop_oneof![2 => Just("up"), 1 => Just("down")])
            .prop_map(|(link, state)| format!("link set {link} {state}")),
        1 => (2u8..4, any::<bool>())
            .prop_map(|(i, add)| format!("address {} 10.0.0.{}/24 dev va", if add { "add" } else { "del" }, 200 + i)),
        1 => any::<bool>()
            .prop_map(|add| format!("address {} 10.0.1.1/24 dev vc", if add { "add" } else { "del" })),
        1 => (1u8..3, 2u8..5).prop_map(|(id, host)| format!("nexthop replace id {id} via 10.0.0.{host} dev va")),
        1 => (1u8..3).prop_map(|id| format!("nexthop del id {id}")),
        1 => prop_oneof![Just("1"), Just("2"), Just("1/2")].prop_map(|g| format!("nexthop replace id 3 group {g}")),
        1 => Just("nexthop replace id 4 blackhole".to_owned()),
        1 => (2u8..5).prop_map(|host| format!("nexthop replace id 5 via fd00:a::{host} dev va")),
        1 => Just("nexthop replace id 6 group 5".to_owned()),
        1 => Just("nexthop del id 5".to_owned()),
    ]
}

/// Options like the `via fd00::` of a route tell `ip` the family.
fn with_family(operation: &str) -> (&'static str, String) {
    let v6 = operation.contains("fd0") && operation.starts_with("route");
    (if v6 { "-6" } else { "-4" }, format!("{operation}\n"))
}

/// `PROPTEST_CASES` asks for more.
fn runner(cases: u32) -> TestRunner {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(cases);
    TestRunner::new(Config { cases, max_shrink_iters: 8, failure_persistence: None, ..Config::default() })
}

#[test]
fn random_operations_leave_mirror_and_kernel_equal() {
    let outcome = runner(16).run(&proptest::collection::vec(operation(), 1..60), |operations| {
        in_namespace(|| {
            two_veths();
            let mut follower = Follower::open();
            let mut late = None;
            for (i, operation) in operations.iter().enumerate() {
                let (family, line) = with_family(operation);
                ip_batch(&line, family, true);
                // Sometimes several changes are read at once, sometimes each by itself.
                if i % 3 == 0 {
                    follower.drain();
                }
                if i == operations.len() / 2 {
                    late = Some(Follower::open());
                }
            }
            follower.expect_kernel_routes("random operations");
            late.unwrap().expect_kernel_routes("random operations, opened half way");
        });
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn each_random_change_of_a_route_is_understood_without_listing_again() {
    // To put a nexthop object in place of an IPv6 route looks like a change of the object itself.
    let unclear = |operation: &str| {
        ["nhid 5", "nhid 6"].iter().any(|id| operation.contains(id))
            && ["replace", "change"].iter().any(|verb| operation.contains(verb))
    };
    let changes = operation()
        .prop_filter("clear changes of routes", move |operation| operation.starts_with("route") && !unclear(operation));
    let outcome = runner(6).run(&proptest::collection::vec(changes, 1..40), |operations| {
        in_namespace(|| {
            two_veths();
            ip_batch("nexthop add id 1 via 10.0.0.2 dev va\nnexthop add id 2 via 10.0.1.2 dev vc\n", "", false);
            ip_batch("nexthop add id 3 group 1/2\nnexthop add id 4 blackhole\n", "", false);
            ip_batch("nexthop add id 5 via fd00:a::2 dev va\nnexthop add id 6 group 5\n", "", false);
            ip_batch("address add 10.0.0.202/24 dev va\naddress add 10.0.0.203/24 dev va\n", "", false);
            let mut follower = Follower::open();
            let listings = follower.mirror.counters().listings;
            for operation in &operations {
                let (family, line) = with_family(operation);
                ip_batch(&line, family, true);
                follower.expect_kernel_routes(operation);
            }
            assert_eq!(follower.mirror.counters().listings, listings);
        });
        Ok(())
    });
    outcome.unwrap();
}
