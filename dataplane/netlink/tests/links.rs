//! Links and addresses: each change `ip` makes is told, with what it is now.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::IpAddr;

use common::{Follower, in_namespace, ip};
use tailwater_netlink::Event;

/// Nothing of the mirrored links, addresses or neighbours differs from a mirror opened now.
fn expect_fresh_equal(follower: &mut Follower) {
    let mut last = None;
    for _ in 0..200 {
        follower.drain();
        let fresh = Follower::open();
        if fresh.links == follower.links && fresh.addresses == follower.addresses {
            return;
        }
        last = Some((fresh.links, fresh.addresses));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("told {:#?} {:#?}, kernel {last:#?}", follower.links, follower.addresses);
}

#[test]
fn a_link_is_followed_from_birth_to_removal() {
    in_namespace(|| {
        let mut follower = Follower::open();
        ip("link add va type veth peer name vb");
        follower.until("both ends", |f| f.link("va").is_some() && f.link("vb").is_some());
        let ifindex = follower.ifindex("va");
        let link = follower.link("va").unwrap();
        assert_eq!(link.kind.as_deref(), Some("veth"));
        assert_eq!((link.mac.len(), link.mtu_bytes, link.up, link.group), (6, 1500, false, 0));
        assert_eq!(link.lower_ifindex, Some(follower.ifindex("vb")));

        ip("link set va mtu 9000 group 7 address 02:00:00:00:00:99");
        follower.until("new MTU", |f| f.links.get(&ifindex).is_some_and(|l| l.mtu_bytes == 9000));
        assert_eq!(follower.link("va").unwrap().mac, [2, 0, 0, 0, 0, 0x99]);

        ip("link set va up");
        follower.until("up, no carrier", |f| f.links.get(&ifindex).is_some_and(|l| l.up && !l.carrier && l.group == 7));
        ip("link set vb up");
        follower.until("carrier", |f| {
            f.links.get(&ifindex).is_some_and(|l| l.carrier && l.running && l.operational_state == "UP")
        });

        ip("link set va down");
        ip("link set va name west");
        follower.until("renamed", |f| f.links.get(&ifindex).is_some_and(|l| l.name == "west" && !l.up));

        ip("link add bridge0 type bridge");
        ip("link set west master bridge0");
        follower.until("in a bridge", |f| {
            let bridge = f.link("bridge0").map(|l| l.ifindex);
            bridge.is_some() && f.links.get(&ifindex).is_some_and(|l| l.master_ifindex == bridge)
        });
        ip("link set west nomaster");
        follower.until("out of it", |f| f.links.get(&ifindex).is_some_and(|l| l.master_ifindex.is_none()));

        expect_fresh_equal(&mut follower);

        ip("link del west");
        follower.until("gone", |f| !f.links.contains_key(&ifindex));
        assert!(follower.told.iter().any(|e| matches!(e, Event::LinkRemoved { name, .. } if name == "west")));
        expect_fresh_equal(&mut follower);
    });
}

#[test]
fn a_link_that_leaves_the_namespace_is_removed() {
    let other = common::Namespace::new();
    in_namespace(|| {
        let mut follower = Follower::open();
        ip("link add va type veth peer name vb");
        ip("link set va up");
        ip("address add 10.0.0.1/24 dev va");
        follower.until("address", |f| !f.addresses.is_empty() && f.link("va").is_some());
        ip(&format!("link set va netns {}", other.name));
        follower.until("gone", |f| f.link("va").is_none());
        expect_fresh_equal(&mut follower);
        follower.expect_kernel_routes("the link left");
    });
}

#[test]
fn addresses_of_both_families_come_and_go() {
    in_namespace(|| {
        ip("link add va type veth peer name vb");
        ip("link set va up");
        ip("link set vb up");
        let mut follower = Follower::open();
        let ifindex = follower.ifindex("va");
        let v4 = |last| IpAddr::from([10, 0, 0, last]);
        ip("address add 10.0.0.1/24 dev va");
        ip("address add 10.0.0.2/24 dev va");
        ip("address add 10.9.9.1 peer 10.9.9.2/32 dev va");
        ip("address add fd00::1/64 dev va");
        follower.until("all four", |f| {
            f.addresses.contains_key(&(ifindex, v4(2), 24))
                && f.addresses.contains_key(&(ifindex, "fd00::1".parse().unwrap(), 64))
        });
        assert!(!follower.addresses.get(&(ifindex, v4(1), 24)).unwrap().secondary);
        assert!(follower.addresses.get(&(ifindex, v4(2), 24)).unwrap().secondary);
        let pointed = follower.addresses.get(&(ifindex, IpAddr::from([10, 9, 9, 1]), 32)).unwrap();
        assert_eq!(pointed.peer, Some(IpAddr::from([10, 9, 9, 2])));
        expect_fresh_equal(&mut follower);

        ip("address del 10.0.0.1/24 dev va");
        ip("address del fd00::1/64 dev va");
        follower.until("removed", |f| !f.addresses.contains_key(&(ifindex, v4(1), 24)));
        expect_fresh_equal(&mut follower);
        follower.expect_kernel_routes("address removal");

        ip("link del va");
        follower.until("all gone", |f| f.addresses.keys().all(|(index, _, _)| *index != ifindex));
        expect_fresh_equal(&mut follower);
    });
}

#[test]
fn a_tentative_address_is_told_again_once_it_is_ours() {
    in_namespace(|| {
        ip("link add va type veth peer name vb");
        for link in ["va", "vb"] {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{link}/accept_dad"), "1").unwrap();
            ip(&format!("link set {link} up"));
        }
        std::fs::write("/proc/sys/net/ipv6/conf/all/accept_dad", "1").unwrap();
        let mut follower = Follower::open();
        let key = (follower.ifindex("va"), "fd00::7".parse().unwrap(), 64);
        ip("address add fd00::7/64 dev va");
        follower.until("tentative", |f| {
            f.told.iter().any(|e| matches!(e, Event::AddressAdded(a) if a.ip == key.1 && a.tentative))
        });
        follower.until("ours", |f| f.addresses.get(&key).is_some_and(|a| !a.tentative && !a.duplicate));
    });
}

#[test]
fn a_watch_rings_when_a_link_has_changed_and_only_then() {
    in_namespace(|| {
        let mut watch = tailwater_netlink::LinkWatch::open().unwrap();
        assert!(!watch.rang().unwrap());
        for change in ["link add va type veth peer name vb", "link set va up", "link set va group 7", "link del va"] {
            ip(change);
            assert!(watch.rang().unwrap(), "{change}");
            assert!(!watch.rang().unwrap(), "{change}");
        }
        ip("route add blackhole 10.9.0.0/16");
        assert!(!watch.rang().unwrap(), "a route is no link");
    });
}

#[test]
fn a_watch_that_misses_notifications_rings_all_the_same() {
    in_namespace(|| {
        let mut watch = tailwater_netlink::LinkWatch::open().unwrap();
        ip("link add va type veth peer name vb");
        let lines: String = (0..2000).map(|i| format!("link set va mtu {}\n", 1400 + i % 2)).collect();
        common::ip_batch(&lines, "", false);
        assert!(watch.rang().unwrap());
        while watch.rang().unwrap() {}
        ip("link del va");
        assert!(watch.rang().unwrap(), "it goes on after an overflow");
    });
}
