//! The merge of routes, by itself: no kernel, no root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::IpAddr;

use tailwater_netlink::rib::{Inserted, LinkState, Removed, Rib, RouteChange};
use tailwater_netlink::{Candidate, NextHop, Nexthop, NexthopTarget, Path, Placement, Prefix, RouteKind};

const WEST: u32 = 2;
const EAST: u32 = 3;
const MAIN: u32 = 254;
const UP: LinkState = LinkState { up: true, carrier: true };

fn rib() -> Rib {
    let mut rib = Rib::new(1000);
    rib.set_link(WEST, Some(UP));
    rib.set_link(EAST, Some(UP));
    rib
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
}

fn v4() -> Prefix {
    prefix("10.1.0.0/16")
}

fn v6() -> Prefix {
    prefix("fd01::/64")
}

fn hop(ifindex: u32, gateway: &str) -> NextHop {
    let gateway: Option<IpAddr> = (!gateway.is_empty()).then(|| gateway.parse().unwrap());
    NextHop { ifindex, gateway, weight: 1, onlink: false, dead: false, linkdown: false, encapsulated: false }
}

fn route(metric: u32, next_hops: &[NextHop]) -> Candidate {
    let path = Path {
        kind: if next_hops.is_empty() { RouteKind::Blackhole } else { RouteKind::Unicast },
        next_hops: next_hops.to_vec(),
        mtu_bytes: None,
        preferred_source: None,
        nexthop_id: None,
    };
    Candidate { metric, tos: 0, protocol: 4, path }
}

fn via_object(metric: u32, id: u32) -> Candidate {
    let mut candidate = route(metric, &[hop(WEST, "")]);
    candidate.path.next_hops.clear();
    candidate.path.nexthop_id = Some(id);
    candidate
}

/// Gateways (or interfaces) of what the rib tells next, `-` for a removal.
fn told(rib: &mut Rib) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(change) = rib.poll_change() {
        all.push(match change {
            RouteChange::Removed { .. } => "-".to_owned(),
            RouteChange::Changed(route) if route.path.next_hops.is_empty() => format!("{:?}", route.path.kind),
            RouteChange::Changed(route) => {
                let hops = route.path.live_next_hops();
                let hops = hops.map(|h| h.gateway.map_or(format!("if{}", h.ifindex), |g| g.to_string()));
                hops.collect::<Vec<_>>().join(" ")
            }
        });
    }
    all
}

#[test]
fn a_better_metric_takes_over_and_gives_back() {
    let mut rib = rib();
    let (good, bad) = (route(10, &[hop(WEST, "10.0.0.2")]), route(20, &[hop(EAST, "10.0.1.2")]));
    rib.insert(MAIN, v4(), bad.clone(), Placement::Prepend);
    assert_eq!(told(&mut rib), ["10.0.1.2"]);
    rib.insert(MAIN, v4(), good.clone(), Placement::Prepend);
    assert_eq!(told(&mut rib), ["10.0.0.2"]);
    rib.remove(MAIN, v4(), &good);
    assert_eq!(told(&mut rib), ["10.0.1.2"]);
    rib.remove(MAIN, v4(), &bad);
    assert_eq!(told(&mut rib), ["-"]);
    assert!(rib.is_empty());
}

#[test]
fn a_worse_route_is_not_told() {
    let mut rib = rib();
    rib.insert(MAIN, v4(), route(10, &[hop(WEST, "10.0.0.2")]), Placement::Prepend);
    told(&mut rib);
    rib.insert(MAIN, v4(), route(20, &[hop(EAST, "10.0.1.2")]), Placement::Prepend);
    rib.insert(MAIN, v4(), route(10, &[hop(EAST, "10.0.1.3")]), Placement::Append);
    assert!(told(&mut rib).is_empty());
    assert_eq!(rib.len(), 3);
}

#[test]
fn an_ipv4_replacement_takes_the_place_of_the_first_of_its_metric() {
    let mut rib = rib();
    let second = route(0, &[hop(WEST, "10.0.0.3")]);
    rib.insert(MAIN, v4(), route(0, &[hop(WEST, "10.0.0.2")]), Placement::Prepend);
    rib.insert(MAIN, v4(), second.clone(), Placement::Append);
    let third = route(0, &[hop(WEST, "10.0.0.4")]);
    assert_eq!(rib.insert(MAIN, v4(), third.clone(), Placement::Replace), Inserted::Displaced);
    assert_eq!(told(&mut rib), ["10.0.0.4"]);
    rib.remove(MAIN, v4(), &third);
    assert_eq!(told(&mut rib), ["10.0.0.3"]);
    rib.remove(MAIN, v4(), &second);
    assert_eq!(told(&mut rib), ["-"]);
}

#[test]
fn a_notification_repeated_after_a_listing_changes_nothing() {
    let mut rib = rib();
    let (first, second) = (route(0, &[hop(WEST, "10.0.0.2")]), route(0, &[hop(WEST, "10.0.0.3")]));
    rib.begin_dump();
    rib.dumped(MAIN, v4(), first.clone());
    rib.dumped(MAIN, v4(), second.clone());
    rib.end_dump(true);
    told(&mut rib);
    assert_eq!(rib.insert(MAIN, v4(), first.clone(), Placement::Prepend), Inserted::Placed);
    assert_eq!(rib.insert(MAIN, v4(), first, Placement::Replace), Inserted::Placed);
    assert_eq!(rib.insert(MAIN, v4(), second, Placement::Append), Inserted::Placed);
    assert!(told(&mut rib).is_empty());
    assert_eq!(rib.len(), 2);
}

#[test]
fn a_listing_tells_only_what_differs() {
    let mut rib = rib();
    let stays = prefix("10.2.0.0/16");
    rib.insert(MAIN, v4(), route(0, &[hop(WEST, "10.0.0.2")]), Placement::Prepend);
    rib.insert(MAIN, stays, route(0, &[hop(WEST, "10.0.0.2")]), Placement::Prepend);
    rib.insert(MAIN, v6(), route(1024, &[hop(WEST, "fd00::2")]), Placement::Prepend);
    told(&mut rib);
    rib.begin_dump();
    rib.dumped(MAIN, stays, route(0, &[hop(WEST, "10.0.0.2")]));
    rib.dumped(MAIN, prefix("10.3.0.0/16"), route(0, &[]));
    rib.end_dump(true);
    assert_eq!(told(&mut rib), ["Blackhole", "-"]);
    assert_eq!(rib.len(), 3, "the other family is left alone");
}

#[test]
fn an_ipv6_message_names_all_siblings_and_a_removal_one() {
    let mut rib = rib();
    let (a, b) = (hop(WEST, "fd00::2"), hop(EAST, "fd00::3"));
    rib.insert(MAIN, v6(), route(1024, &[a]), Placement::Prepend);
    assert_eq!(told(&mut rib), ["fd00::2"]);
    rib.insert(MAIN, v6(), route(1024, &[a, b]), Placement::Append);
    assert_eq!(told(&mut rib), ["fd00::2 fd00::3"]);
    assert_eq!(rib.len(), 1);
    rib.remove(MAIN, v6(), &route(1024, &[a]));
    assert_eq!(told(&mut rib), ["fd00::3"]);
    rib.remove(MAIN, v6(), &route(1024, &[b]));
    assert_eq!(told(&mut rib), ["-"]);
}

#[test]
fn ipv6_routes_without_gateway_stand_beside_a_multipath_route() {
    let mut rib = rib();
    rib.insert(MAIN, v6(), route(1024, &[hop(WEST, "fd00::2"), hop(EAST, "fd00::3")]), Placement::Prepend);
    rib.insert(MAIN, v6(), route(1024, &[hop(WEST, "")]), Placement::Append);
    assert_eq!(rib.len(), 2);
    assert_eq!(told(&mut rib), ["fd00::2 fd00::3"]);
    let both = [hop(WEST, "fd00::2"), hop(EAST, "fd00::3")];
    rib.remove(MAIN, v6(), &route(1024, &both));
    assert_eq!(told(&mut rib), [format!("if{WEST}")]);
}

#[test]
fn a_multipath_route_stands_where_the_first_of_its_next_hops_does() {
    let mut rib = rib();
    let (a, b, c) = (hop(WEST, "fd00::2"), hop(WEST, "fd00::3"), hop(EAST, "fd00::4"));
    rib.insert(MAIN, v6(), route(1024, &[a]), Placement::Prepend);
    rib.insert(MAIN, v6(), route(1024, &[]), Placement::Append);
    rib.insert(MAIN, v6(), route(1024, &[b, a]), Placement::Append);
    assert_eq!(told(&mut rib), ["fd00::2 fd00::3"]);
    assert_eq!(rib.remove(MAIN, v6(), &route(1024, &[a])), Removed::Done);
    assert_eq!(told(&mut rib), ["Blackhole"]);
    rib.remove(MAIN, v6(), &route(1024, &[]));
    assert_eq!(told(&mut rib), ["fd00::3"]);
    rib.insert(MAIN, v6(), route(1024, &[]), Placement::Append);
    rib.insert(MAIN, v6(), route(1024, &[c, b]), Placement::Replace);
    assert_eq!(told(&mut rib), ["fd00::3 fd00::4"]);
    rib.remove(MAIN, v6(), &route(1024, &[c]));
    assert_eq!(told(&mut rib), ["Blackhole"], "of those which replace only the first takes the place");
}

#[test]
fn siblings_keep_their_own_attributes_and_the_first_ones_count() {
    let mut rib = rib();
    let (a, b) = (hop(WEST, "fd00::2"), hop(EAST, "fd00::3"));
    let mut narrow = route(1024, &[a]);
    narrow.path.mtu_bytes = Some(1400);
    let mtu = |rib: &Rib| rib.routes().map(|route| route.path.mtu_bytes).collect::<Vec<_>>();
    rib.insert(MAIN, v6(), narrow.clone(), Placement::Prepend);
    rib.insert(MAIN, v6(), route(1024, &[b, a]), Placement::Append);
    assert_eq!(told(&mut rib), ["fd00::2 fd00::3"]);
    assert_eq!(mtu(&rib), [Some(1400)]);
    rib.remove(MAIN, v6(), &narrow);
    assert_eq!(told(&mut rib), ["fd00::3"]);
    assert_eq!(mtu(&rib), [None]);
}

#[test]
fn an_ipv6_replacement_takes_the_place_of_the_first_of_its_sort() {
    let mut rib = rib();
    let unreachable = || {
        let mut candidate = route(1024, &[]);
        candidate.path.kind = RouteKind::Unreachable;
        candidate
    };
    rib.insert(MAIN, v6(), route(1024, &[hop(WEST, "")]), Placement::Prepend);
    rib.insert(MAIN, v6(), unreachable(), Placement::Append);
    told(&mut rib);
    // The kernel then has two of them.
    assert_eq!(rib.insert(MAIN, v6(), unreachable(), Placement::Replace), Inserted::Displaced);
    assert_eq!((told(&mut rib), rib.len()), (vec!["Unreachable".to_owned()], 2));
    rib.insert(MAIN, v6(), route(1024, &[hop(WEST, "fd00::2"), hop(EAST, "fd00::3")]), Placement::Replace);
    assert_eq!(told(&mut rib), ["fd00::2 fd00::3"]);
    rib.insert(MAIN, v6(), route(1024, &[]), Placement::Replace);
    assert!(told(&mut rib).is_empty());
    rib.remove(MAIN, v6(), &route(1024, &[hop(WEST, "fd00::2")]));
    assert_eq!(told(&mut rib), ["Blackhole"]);
}

#[test]
fn what_a_listed_multipath_route_may_hide_is_in_doubt_once_it_loses_next_hops() {
    let mut rib = rib();
    let (a, b) = (hop(WEST, "fd00::2"), hop(EAST, "fd00::3"));
    let list = |rib: &mut Rib, whole: bool| {
        rib.begin_dump();
        rib.dumped(MAIN, v6(), route(1024, &[a, b]));
        rib.dumped(MAIN, v6(), route(1024, &[hop(WEST, "")]));
        rib.dumped(MAIN, prefix("fd02::/64"), route(1024, &[a]));
        rib.set_listing_whole(whole);
        rib.end_dump(false);
    };
    list(&mut rib, false);
    assert_eq!(rib.remove(MAIN, prefix("fd02::/64"), &route(1024, &[a])), Removed::Done);
    assert_eq!(rib.remove(MAIN, v6(), &route(1024, &[hop(WEST, "")])), Removed::Done);
    assert_eq!(rib.remove(MAIN, v6(), &route(1024, &[a])), Removed::Doubtful);
    list(&mut rib, false);
    assert_eq!(rib.insert(MAIN, v6(), route(1024, &[]), Placement::Replace), Inserted::Doubtful);
    list(&mut rib, false);
    let others = [hop(WEST, "fd00::7"), hop(EAST, "fd00::8")];
    rib.insert(MAIN, v6(), route(1024, &others), Placement::Replace);
    assert_eq!(rib.remove(MAIN, v6(), &route(1024, &others)), Removed::Doubtful, "in place of what veiled");
    list(&mut rib, true);
    assert_eq!(rib.remove(MAIN, v6(), &route(1024, &[a, b])), Removed::Done);
}

#[test]
fn an_ipv6_route_listed_twice_stands_for_two_only_where_no_other_prefix_was_listed_between() {
    let mut rib = rib();
    let (way, other_way) = (route(1024, &[hop(WEST, "")]), route(1024, &[hop(EAST, "")]));
    let list = |rib: &mut Rib, prefixes: &[Prefix]| {
        rib.begin_dump();
        for listed in prefixes {
            rib.dumped(MAIN, *listed, way.clone());
            rib.dumped(MAIN, *listed, other_way.clone());
        }
        rib.end_dump(false);
    };
    list(&mut rib, &[v6(), prefix("fd02::/64"), v6()]);
    assert_eq!(rib.remove(MAIN, v6(), &way), Removed::Done);
    assert_eq!(rib.remove(MAIN, v6(), &other_way), Removed::Done);
    list(&mut rib, &[v6(), v6()]);
    assert_eq!(rib.remove(MAIN, v6(), &way), Removed::Doubtful);
}

#[test]
fn a_replacing_message_about_a_known_nexthop_object_behind_another_route_moves_nothing_and_is_in_doubt() {
    let mut rib = rib();
    rib.set_nexthop(Nexthop { id: 5, target: NexthopTarget::Hop(hop(WEST, "fd00::2")) });
    rib.insert(MAIN, v6(), route(1024, &[]), Placement::Prepend);
    rib.insert(MAIN, v6(), via_object(1024, 5), Placement::Append);
    assert_eq!(rib.insert(MAIN, v6(), via_object(1024, 5), Placement::Replace), Inserted::Doubtful);
    assert_eq!(told(&mut rib), ["Blackhole"]);
    rib.remove(MAIN, v6(), &route(1024, &[]));
    assert_eq!(rib.insert(MAIN, v6(), via_object(1024, 5), Placement::Replace), Inserted::Placed);
    assert_eq!(told(&mut rib), ["fd00::2"]);
}

#[test]
fn which_route_a_lone_one_of_a_router_advertisement_replaces_is_in_doubt_where_there_are_several() {
    let mut rib = rib();
    let advertised = |gateway: &str| Candidate { protocol: 9, ..route(1024, &[hop(WEST, gateway)]) };
    rib.insert(MAIN, v6(), advertised("fd00::2"), Placement::Prepend);
    assert_eq!(rib.insert(MAIN, v6(), advertised("fd00::3"), Placement::Replace), Inserted::Displaced);
    rib.insert(MAIN, v6(), route(1024, &[]), Placement::Append);
    assert_eq!(rib.insert(MAIN, v6(), advertised("fd00::4"), Placement::Replace), Inserted::Doubtful);
}

#[test]
fn siblings_of_a_daemon_which_passes_router_advertisements_on_are_one_route() {
    let mut rib = rib();
    let (a, b) = (hop(WEST, "fd00::2"), hop(EAST, "fd00::3"));
    let advertised = |hops: &[NextHop]| Candidate { protocol: 9, ..route(1024, hops) };
    rib.insert(MAIN, v6(), advertised(&[a]), Placement::Prepend);
    rib.insert(MAIN, v6(), advertised(&[b, a]), Placement::Append);
    assert_eq!(told(&mut rib), ["fd00::2 fd00::3"]);
    rib.remove(MAIN, v6(), &advertised(&[a]));
    assert_eq!(told(&mut rib), ["fd00::3"]);
    rib.remove(MAIN, v6(), &advertised(&[b]));
    assert_eq!(told(&mut rib), ["-"]);
}

#[test]
fn next_hops_die_and_rise_with_their_link() {
    let mut rib = rib();
    rib.insert(MAIN, v4(), route(0, &[hop(WEST, "10.0.0.2"), hop(EAST, "10.0.1.2")]), Placement::Prepend);
    rib.insert(MAIN, prefix("10.2.0.0/16"), route(0, &[hop(WEST, "10.0.0.2")]), Placement::Prepend);
    told(&mut rib);
    rib.set_link(WEST, Some(LinkState { up: false, carrier: false }));
    assert_eq!(told(&mut rib), ["10.0.1.2", "-"]);
    rib.set_link(WEST, Some(LinkState { up: true, carrier: false }));
    assert_eq!(told(&mut rib), ["10.0.0.2 10.0.1.2", "10.0.0.2"]);
    rib.set_link(WEST, None);
    assert_eq!(told(&mut rib), ["10.0.1.2", "-"]);
}

#[test]
fn the_next_best_route_serves_while_the_best_has_no_link() {
    let mut rib = rib();
    rib.insert(MAIN, v4(), route(5, &[hop(WEST, "10.0.0.2")]), Placement::Prepend);
    rib.insert(MAIN, v4(), route(6, &[hop(EAST, "10.0.1.2")]), Placement::Prepend);
    assert_eq!(told(&mut rib), ["10.0.0.2"]);
    rib.set_link(WEST, Some(LinkState { up: false, carrier: false }));
    assert_eq!(told(&mut rib), ["10.0.1.2"]);
    rib.set_link(WEST, Some(UP));
    assert_eq!(told(&mut rib), ["10.0.0.2"]);
}

#[test]
fn a_nexthop_object_is_looked_up_through_its_group() {
    let mut rib = rib();
    rib.insert(MAIN, v4(), via_object(0, 10), Placement::Prepend);
    assert!(told(&mut rib).is_empty(), "an unknown object leads nowhere yet");
    for (id, ifindex, gateway) in [(1, WEST, "10.0.0.2"), (2, EAST, "10.0.1.2")] {
        rib.set_nexthop(Nexthop { id, target: NexthopTarget::Hop(hop(ifindex, gateway)) });
    }
    rib.set_nexthop(Nexthop { id: 10, target: NexthopTarget::Group(vec![(1, 3), (2, 1)]) });
    assert_eq!(told(&mut rib), ["10.0.0.2 10.0.1.2"]);
    let weights: Vec<u32> = rib.routes().flat_map(|r| r.path.next_hops.clone()).map(|h| h.weight).collect();
    assert_eq!(weights, [3, 1]);
    rib.set_nexthop(Nexthop { id: 1, target: NexthopTarget::Hop(hop(WEST, "10.0.0.9")) });
    assert_eq!(told(&mut rib), ["10.0.0.9 10.0.1.2"]);
    rib.remove_nexthop(10);
    assert_eq!(told(&mut rib), ["-"]);
    assert!(rib.is_empty(), "routes go with their object");
}

#[test]
fn a_group_which_contains_itself_ends() {
    let mut rib = rib();
    rib.set_nexthop(Nexthop { id: 1, target: NexthopTarget::Group(vec![(1, 1), (1, 1)]) });
    rib.insert(MAIN, v4(), via_object(0, 1), Placement::Prepend);
    assert!(told(&mut rib).is_empty());
}

#[test]
fn the_limit_holds_and_what_is_known_may_still_change() {
    let mut rib = Rib::new(2);
    rib.set_link(WEST, Some(UP));
    let third = prefix("10.3.0.0/16");
    let way = |last: u8| route(0, &[hop(WEST, &format!("10.0.0.{last}"))]);
    rib.insert(MAIN, v4(), way(2), Placement::Prepend);
    rib.insert(MAIN, prefix("10.2.0.0/16"), way(2), Placement::Prepend);
    told(&mut rib);
    assert_eq!(rib.insert(MAIN, third, way(2), Placement::Prepend), Inserted::OverLimit);
    assert_eq!(rib.insert(MAIN, v4(), way(3), Placement::Append), Inserted::OverLimit);
    assert!(told(&mut rib).is_empty());
    assert_eq!(rib.insert(MAIN, v4(), way(4), Placement::Replace), Inserted::Displaced);
    assert_eq!(told(&mut rib), ["10.0.0.4"]);
    assert_eq!(rib.len(), 2);
}

#[test]
fn removing_what_was_never_there_is_harmless() {
    let mut rib = rib();
    rib.remove(MAIN, v4(), &route(0, &[hop(WEST, "10.0.0.2")]));
    rib.remove(MAIN, v6(), &route(1024, &[hop(WEST, "fd00::2")]));
    rib.insert(MAIN, v4(), route(0, &[hop(WEST, "10.0.0.2")]), Placement::Prepend);
    rib.remove(MAIN, v4(), &route(0, &[hop(WEST, "10.0.0.3")]));
    assert_eq!(told(&mut rib), ["10.0.0.2"]);
}
