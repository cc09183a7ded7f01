//! Routes: whatever `ip` does to them, the mirror's events lead to what `ip` then prints.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::IpAddr;

use common::{Follower, in_namespace, ip, two_veths};
use tailwater_netlink::{Event, Prefix, RouteKind, TABLE_MAIN};

/// Runs each command and compares after each.
fn follow(steps: &[&str]) {
    in_namespace(|| {
        two_veths();
        let mut follower = Follower::open();
        follower.expect_kernel_routes("opening");
        for step in steps {
            ip(step);
            follower.expect_kernel_routes(step);
        }
    });
}

#[test]
fn a_route_is_followed_from_addition_to_removal() {
    follow(&[
        "route add 10.1.0.0/16 via 10.0.0.2",
        "route change 10.1.0.0/16 via 10.0.0.3",
        "route replace 10.1.0.0/16 via 10.0.1.2 mtu 1400",
        "route add default via 10.0.0.9",
        "route add 10.1.2.3 via 10.0.0.4 src 10.0.0.1",
        "route del 10.1.0.0/16",
        "route del default",
    ]);
}

#[test]
fn every_kind_of_route_is_told_as_what_it_is() {
    follow(&[
        "route add blackhole 10.1.0.0/16",
        "route add unreachable 10.2.0.0/16",
        "route add prohibit 10.3.0.0/16",
        "route add throw 10.4.0.0/16",
        "route add broadcast 10.5.0.0/16 dev va",
        "route add multicast 239.0.0.0/8 dev va",
        "route add local 10.6.0.1 dev va table local",
        "-6 route add blackhole fd01::/64",
        "-6 route add unreachable fd02::/64",
        "-6 route add prohibit fd03::/64",
        "-6 route add throw fd04::/64",
        "-6 route add local fd05::1 dev va table local",
        "-6 route add anycast fd06::1 dev va table local",
        "route del blackhole 10.1.0.0/16",
        "-6 route del blackhole fd01::/64",
    ]);
}

#[test]
fn the_lowest_metric_wins_and_the_next_takes_over() {
    follow(&[
        "route add 10.1.0.0/16 via 10.0.0.2 metric 20",
        "route add 10.1.0.0/16 via 10.0.1.2 metric 10",
        "route add blackhole 10.1.0.0/16 metric 30",
        "route del 10.1.0.0/16 metric 10",
        "route del 10.1.0.0/16 metric 20",
        "-6 route add fd01::/64 via fd00:a::2 metric 20",
        "-6 route add fd01::/64 via fd00:c::2 metric 10",
        "-6 route del fd01::/64 metric 10",
    ]);
}

#[test]
fn of_equal_metrics_the_first_in_the_kernels_list_wins() {
    follow(&[
        "route add 10.1.0.0/16 via 10.0.0.2",
        "route append 10.1.0.0/16 via 10.0.0.3",
        "route prepend 10.1.0.0/16 via 10.0.0.4",
        "route replace 10.1.0.0/16 via 10.0.0.5",
        "route del 10.1.0.0/16 via 10.0.0.5",
        "route del 10.1.0.0/16 via 10.0.0.2",
        "route del 10.1.0.0/16",
    ]);
}

#[test]
fn a_route_for_a_type_of_service_is_never_the_best_for_all() {
    follow(&[
        "route add 10.1.0.0/16 tos 0x10 via 10.0.0.2",
        "route add 10.1.0.0/16 via 10.0.1.2 metric 50",
        "route del 10.1.0.0/16 metric 50",
    ]);
}

#[test]
fn ipv4_multipath_carries_weights_and_an_ipv6_gateway() {
    follow(&[
        "route add 10.1.0.0/16 nexthop via 10.0.0.2 weight 3 nexthop via 10.0.1.2 weight 256",
        "route replace 10.1.0.0/16 nexthop via inet6 fe80::5 dev va nexthop via 10.0.1.9",
        "route add 10.2.0.0/16 via inet6 fe80::6 dev va",
        "route add 10.3.0.0/16 via 192.0.2.1 dev va onlink",
        "route del 10.1.0.0/16",
    ]);
}

#[test]
fn ipv6_multipath_grows_and_shrinks_hop_by_hop() {
    follow(&[
        "-6 route add fd01::/64 via fd00:a::2",
        "-6 route append fd01::/64 via fd00:a::3",
        "-6 route append fd01::/64 via fd00:c::2",
        "-6 route del fd01::/64 via fd00:a::2",
        "-6 route replace fd01::/64 nexthop via fd00:a::4 weight 2 nexthop via fd00:c::4",
        "-6 route append fd01::/64 nexthop via fd00:a::5 nexthop via fd00:c::5",
        "-6 route replace fd01::/64 via fd00:c::9",
        "-6 route append fd01::/64 dev va",
        "-6 route replace fd01::/64 dev vc",
        "-6 route del fd01::/64 via fd00:c::9",
        "-6 route add fd02::/64 nexthop via fd00:a::2 nexthop via fd00:c::2",
        "-6 route del fd02::/64",
    ]);
}

#[test]
fn an_ipv6_route_between_next_hops_of_another_is_the_best_once_those_before_it_are_gone() {
    follow(&[
        "-6 route add fd01::/64 via fd00:a::3",
        "-6 route append unreachable fd01::/64",
        "-6 route append fd01::/64 via fd00:a::4",
        "-6 route del fd01::/64 via fd00:a::3",
        "-6 route replace fd01::/64 nexthop via fd00:c::3 nexthop via fd00:a::4",
        "-6 route append fd01::/64 dev va",
        "-6 route append fd01::/64 nexthop via fd00:a::5 nexthop via fd00:c::5",
        "-6 route del unreachable fd01::/64",
        "-6 route del fd01::/64 nexthop via fd00:c::3 nexthop via fd00:a::4",
        "-6 route del fd01::/64 dev vc",
        "-6 route append unreachable fd01::/64",
        "-6 route replace unreachable fd01::/64",
        "-6 route replace fd01::/64 nexthop via fd00:c::3 nexthop via fd00:a::4",
        "-6 route replace fd01::/64 nexthop via fd00:a::4 nexthop via fd00:c::3",
        "-6 route del fd01::/64 via fd00:a::4",
    ]);
}

#[test]
fn ipv6_next_hops_keep_the_mtu_they_came_with() {
    follow(&[
        "-6 route add fd01::/64 via fd00:a::3 mtu 1400",
        "-6 route append fd01::/64 via fd00:a::4",
        "-6 route append fd01::/64 via fd00:a::5 mtu 1300",
        "-6 route del fd01::/64 via fd00:a::3",
        "-6 route del fd01::/64 via fd00:a::4",
    ]);
}

#[test]
fn ipv6_routes_a_daemon_makes_of_router_advertisements_join_into_one() {
    follow(&[
        "-6 route add fd01::/64 via fd00:a::3 proto ra",
        "-6 route append fd01::/64 via fd00:a::4 proto ra",
        "-6 route append fd01::/64 via fd00:c::5 proto ra",
        "-6 route del fd01::/64 via fd00:a::3",
        "-6 route del fd01::/64",
    ]);
}

#[test]
fn an_ipv6_route_over_a_nexthop_object_stays_behind_others_when_the_object_is_replaced() {
    follow(&[
        "-6 route add unreachable fd01::/64",
        "nexthop add id 5 via fd00:a::2 dev va",
        "-6 route append fd01::/64 nhid 5",
        "nexthop replace id 5 via fd00:a::3 dev va",
        "-6 route replace fd01::/64 nhid 5",
        "-6 route del fd01::/64 nhid 5",
        "-6 route del fd01::/64",
    ]);
}

/// Opens a mirror after `before`, when the kernel's listing lacks something, and expects it to be known after `then`.
fn open_late_and_follow(before: &[&str], then: &[&str]) {
    in_namespace(|| {
        two_veths();
        before.iter().for_each(|step| drop(ip(step)));
        let mut follower = Follower::open();
        for step in then {
            ip(step);
            follower.expect_kernel_routes(step);
        }
        assert!(follower.mirror.counters().ambiguous > 0);
    });
}

const ONE_BETWEEN: [&str; 3] = [
    "-6 route append fd01:2::/64 via fd00:a::3",
    "-6 route prepend unreachable fd01:2::/64",
    "-6 route replace fd01:2::/64 nexthop via fd00:c::4 nexthop via fd00:c::3",
];

#[test]
fn an_ipv6_route_which_the_listing_left_out_is_found_when_the_multipath_route_before_it_goes() {
    open_late_and_follow(&ONE_BETWEEN, &["-6 route del fd01:2::/64 dev vc"]);
}

#[test]
fn an_ipv6_route_which_the_listing_left_out_is_found_when_the_next_hop_before_it_goes() {
    open_late_and_follow(&ONE_BETWEEN, &["-6 route del fd01:2::/64 via fd00:c::4"]);
}

#[test]
fn the_mtu_which_the_listing_left_out_is_found_when_the_next_hop_before_it_goes() {
    let before = ["-6 route add fd01::/64 via fd00:a::3 mtu 1400", "-6 route append fd01::/64 via fd00:a::4"];
    open_late_and_follow(&before, &["-6 route del fd01::/64 via fd00:a::3"]);
}

#[test]
fn of_two_equal_ipv6_routes_that_were_listed_the_second_stays_when_the_first_goes() {
    let before = [
        "-6 route add unreachable fd01::/64",
        "-6 route append fd01::/64 dev va",
        "-6 route append fd01::/64 dev vc",
        "-6 route replace fd01::/64 dev vc",
    ];
    let then = ["-6 route del fd01::/64 dev vc", "-6 route del fd01::/64 dev va", "-6 route del fd01::/64 dev vc"];
    open_late_and_follow(&before, &then);
}

#[test]
fn an_ipv6_route_which_the_listing_left_out_is_replaced_in_place_of_the_multipath_route() {
    let then = ["-6 route replace fd01:2::/64 dev va", "-6 route replace fd01:2::/64 via fd00:a::9"];
    open_late_and_follow(&ONE_BETWEEN, &then);
}

#[test]
fn an_ipv6_multipath_route_that_hides_nothing_goes_without_another_listing() {
    in_namespace(|| {
        two_veths();
        ip("-6 route add fd01::/64 nexthop via fd00:a::3 nexthop via fd00:c::3");
        ip("-6 route append unreachable fd01::/64");
        let mut follower = Follower::open();
        follower.expect_kernel_routes("opening");
        let listings = follower.mirror.counters().listings;
        ip("-6 route del fd01::/64 dev vc");
        follower.expect_kernel_routes("removal");
        assert_eq!(follower.mirror.counters().listings, listings);
    });
}

#[test]
fn nexthop_objects_are_resolved_and_their_changes_followed() {
    follow(&[
        "nexthop add id 1 via 10.0.0.2 dev va",
        "nexthop add id 2 via 10.0.1.2 dev vc",
        "nexthop add id 10 group 1,3/2",
        "route add 10.1.0.0/16 nhid 10",
        "route add 10.2.0.0/16 nhid 1",
        "nexthop replace id 1 via 10.0.0.7 dev va",
        "nexthop replace id 10 group 2",
        "nexthop replace id 10 group 1/2",
        "nexthop del id 2",
        "nexthop del id 1",
        "nexthop add id 3 blackhole",
        "route add 10.3.0.0/16 nhid 3",
        "nexthop add id 61 via fd00:a::2 dev va",
        "nexthop add id 62 via fd00:c::2 dev vc",
        "nexthop add id 60 group 61/62",
        "-6 route add fd01::/64 nhid 60",
        "-6 route add fd02::/64 nhid 61",
        "nexthop del id 62",
        "nexthop del id 61",
    ]);
}

#[test]
fn routes_which_the_kernel_drops_in_silence_go_with_the_link() {
    follow(&[
        "route add 10.1.0.0/16 via 10.0.0.2",
        "route add 10.2.0.0/16 nexthop via 10.0.0.2 nexthop via 10.0.1.2",
        "route add 10.3.0.0/16 via 10.0.1.2 metric 5",
        "route add 10.3.0.0/16 via 10.0.0.2",
        "-6 route add fd02::/64 nexthop via fd00:a::2 nexthop via fd00:c::2",
        "nexthop add id 1 via 10.0.0.2 dev va",
        "route add 10.4.0.0/16 nhid 1",
        "link set va down",
        "link set va up",
        "link set vc down",
        "link set vc up",
        "route add 10.5.0.0/16 via 10.0.1.2",
        "link del vc",
        "link del va",
    ]);
}

#[test]
fn a_route_dropped_while_its_link_was_down_does_not_come_back_with_it() {
    follow(&["route add 10.1.0.0/16 via 10.0.0.2", "link set va down", "link set va up"]);
}

#[test]
fn routes_which_the_kernel_drops_in_silence_go_with_the_address() {
    follow(&[
        "address add 10.0.0.7/24 dev va",
        "route add 10.1.0.0/16 via 10.0.0.2 src 10.0.0.7",
        "route add 10.2.0.0/16 dev va src 10.0.0.7",
        "address del 10.0.0.7/24 dev va",
        "route add 10.3.0.0/16 via 10.0.1.2",
        "route add 10.4.0.0/16 dev vc",
        "route add 10.5.0.0/16 nexthop via 10.0.0.2 nexthop via 10.0.1.2",
        "address del 10.0.1.1/24 dev vc",
        "address add 10.0.1.1/24 dev vc",
        "address add fd00:a::7/64 dev va nodad",
        "-6 route add fd01::/64 via fd00:a::2 src fd00:a::7",
        "address del fd00:a::7/64 dev va",
    ]);
}

#[test]
fn loss_of_carrier_is_seen_in_the_next_hops() {
    in_namespace(|| {
        two_veths();
        ip("route add 10.1.0.0/16 nexthop via 10.0.0.2 nexthop via 10.0.1.2");
        let mut follower = Follower::open();
        follower.expect_kernel_routes("opening");
        ip("link set vb down");
        let ifindex = follower.ifindex("va");
        follower.until("va without carrier", |f| f.links.get(&ifindex).is_some_and(|l| l.up && !l.carrier));
        follower.expect_kernel_routes("carrier loss");
        let without_carrier = |follower: &Follower| {
            let prefix = Prefix::new(IpAddr::from([10, 1, 0, 0]), 16).unwrap();
            let route = follower.mirror.routes().find(|r| r.table == TABLE_MAIN && r.prefix == prefix).unwrap();
            assert!(route.path.next_hops.iter().all(|hop| !hop.dead));
            route.path.next_hops.iter().filter(|hop| hop.linkdown).map(|hop| hop.ifindex).collect::<Vec<_>>()
        };
        assert_eq!(without_carrier(&follower), [ifindex]);
        ip("link set vb up");
        follower.until("va with carrier", |f| f.links.get(&ifindex).is_some_and(|l| l.carrier));
        follower.expect_kernel_routes("carrier return");
        assert!(without_carrier(&follower).is_empty());
    });
}

#[test]
fn a_route_the_kernel_must_encapsulate_is_marked() {
    in_namespace(|| {
        two_veths();
        let mut follower = Follower::open();
        ip("route add 10.1.0.0/16 encap ip id 7 dst 192.0.2.1 dev va");
        follower.drain();
        let key = (TABLE_MAIN, Prefix::new(IpAddr::from([10, 1, 0, 0]), 16).unwrap());
        let route = follower.routes.get(&key).unwrap();
        assert_eq!(route.kind, RouteKind::Unicast);
        assert!(route.hops.iter().all(|hop| hop.encapsulated));
    });
}

/// Events about IPv4 routes among those told; the kernel adds IPv6 ones of its own accord.
fn of_routes(follower: &Follower) -> usize {
    let about = |event: &&Event| match event {
        Event::RouteChanged(route) => route.prefix.is_ipv4(),
        Event::RouteRemoved { prefix, .. } => prefix.is_ipv4(),
        _ => false,
    };
    follower.told.iter().filter(about).count()
}

#[test]
fn routes_of_other_tables_are_left_out_unless_asked_for() {
    in_namespace(|| {
        two_veths();
        let mut follower = Follower::open();
        follower.told.clear();
        ip("route add 10.1.0.0/16 via 10.0.0.2 table 77");
        follower.drain();
        assert_eq!(of_routes(&follower), 0);
        let limits = tailwater_netlink::Limits { tables: vec![77], ..Default::default() };
        let mut other = Follower::open_with(limits);
        assert_eq!(other.routes.keys().map(|(table, _)| *table).collect::<Vec<_>>(), [77]);
        ip("route del 10.1.0.0/16 table 77");
        other.drain();
        assert!(other.routes.is_empty());
    });
}

#[test]
fn a_change_which_leaves_the_best_route_alone_is_not_told() {
    in_namespace(|| {
        two_veths();
        ip("route add 10.1.0.0/16 via 10.0.0.2");
        let mut follower = Follower::open();
        follower.told.clear();
        ip("route add 10.1.0.0/16 via 10.0.1.2 metric 10");
        ip("route del 10.1.0.0/16 metric 10");
        follower.drain();
        assert_eq!(of_routes(&follower), 0);
    });
}

#[test]
fn beyond_its_limit_a_mirror_keeps_what_it_has_and_learns_the_rest_when_there_is_room() {
    in_namespace(|| {
        two_veths();
        let routes = tailwater_netlink::Mirror::open(Default::default()).unwrap().routes().count();
        let limits = tailwater_netlink::Limits { routes_max: 64, ..Default::default() };
        assert!(routes < 64);
        let mut follower = Follower::open_with(limits);
        let lines: String = (0..100).map(|i| format!("route add 10.1.{i}.0/24 via 10.0.0.2\n")).collect();
        common::ip_batch(&lines, "-4", false);
        follower.drain();
        assert!(follower.routes.len() <= 64);
        assert!(follower.mirror.counters().over_limit > 0);
        ip("route add 10.2.0.0/16 via 10.0.0.2");
        common::ip_batch(&lines.replace("add", "del"), "-4", false);
        follower.expect_kernel_routes("back within the limit");
    });
}
