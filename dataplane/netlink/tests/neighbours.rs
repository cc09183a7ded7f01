//! Neighbours: entries are followed, and asking the kernel to resolve sends real ARP and
//! neighbour solicitations.
//!
//! ```text
//!   near namespace: va 10.0.0.1, fd00::1  ====  far namespace: vb 10.0.0.2, fd00::2
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::IpAddr;

use common::{Follower, Namespace, in_namespace, ip, quieten};
use tailwater_netlink::{Control, Error, NeighbourState};

const FAR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn with_far_end(body: impl FnOnce() + Send) {
    let near = Namespace::new();
    let far = Namespace::new();
    far.enter(quieten);
    near.enter(|| {
        quieten();
        ip(&format!("link add va type veth peer name vb netns {}", far.name));
        ip("link set va up");
        ip("address add 10.0.0.1/24 dev va");
        ip("address add fd00::1/64 dev va");
    });
    far.enter(|| {
        ip("link set vb address 02:00:00:00:00:02");
        ip("link set vb up");
        ip("address add 10.0.0.2/24 dev vb");
        ip("address add fd00::2/64 dev vb");
    });
    near.enter(body);
}

fn far() -> [IpAddr; 2] {
    [IpAddr::from([10, 0, 0, 2]), "fd00::2".parse().unwrap()]
}

#[test]
fn an_entry_of_the_administrator_is_followed() {
    in_namespace(|| {
        common::two_veths();
        let mut follower = Follower::open();
        let ifindex = follower.ifindex("va");
        for (address, key) in [("10.0.0.9", IpAddr::from([10, 0, 0, 9])), ("fd00:a::9", "fd00:a::9".parse().unwrap())] {
            ip(&format!("neigh add {address} lladdr 02:00:00:00:00:09 dev va"));
            follower.until("told", |f| f.neighbours.contains_key(&(ifindex, key)));
            let entry = follower.neighbours.get(&(ifindex, key)).unwrap();
            assert_eq!(entry.state, NeighbourState::Permanent);
            assert_eq!(entry.usable_mac(), Some(&[2, 0, 0, 0, 0, 9][..]));
            ip(&format!("neigh change {address} lladdr 02:00:00:00:00:0a dev va nud stale"));
            follower.until("changed", |f| {
                f.neighbours.get(&(ifindex, key)).is_some_and(|n| n.usable_mac() == Some(&[2, 0, 0, 0, 0, 10]))
            });
            ip(&format!("neigh del {address} dev va"));
            follower.until("removed", |f| !f.neighbours.contains_key(&(ifindex, key)));
        }
    });
}

#[test]
fn resolving_asks_the_wire_and_the_answer_is_told() {
    with_far_end(|| {
        let mut follower = Follower::open();
        let mut control = Control::open().unwrap();
        let ifindex = follower.ifindex("va");
        follower.until("carrier", |f| f.links.get(&ifindex).is_some_and(|l| l.carrier));
        for address in far() {
            assert!(!follower.neighbours.contains_key(&(ifindex, address)));
            control.resolve(ifindex, address).unwrap();
            follower.until("resolved", |f| {
                f.neighbours
                    .get(&(ifindex, address))
                    .is_some_and(|n| n.state == NeighbourState::Reachable && n.usable_mac() == Some(&FAR_MAC))
            });
        }
    });
}

#[test]
fn nobody_there_ends_in_failed_and_without_an_address() {
    with_far_end(|| {
        for family in ["ipv4", "ipv6"] {
            std::fs::write(format!("/proc/sys/net/{family}/neigh/va/retrans_time_ms"), "20").unwrap();
        }
        let mut follower = Follower::open();
        let mut control = Control::open().unwrap();
        let ifindex = follower.ifindex("va");
        for address in [IpAddr::from([10, 0, 0, 77]), "fd00::77".parse().unwrap()] {
            control.resolve(ifindex, address).unwrap();
            follower.until("failed", |f| {
                f.neighbours.get(&(ifindex, address)).is_some_and(|n| n.state == NeighbourState::Failed)
            });
            assert_eq!(follower.neighbours.get(&(ifindex, address)).unwrap().usable_mac(), None);
        }
    });
}

#[test]
fn using_a_stale_entry_keeps_its_address_and_has_it_confirmed() {
    with_far_end(|| {
        for family in ["ipv4", "ipv6"] {
            std::fs::write(format!("/proc/sys/net/{family}/neigh/va/delay_first_probe_time"), "1").unwrap();
        }
        let mut follower = Follower::open();
        let mut control = Control::open().unwrap();
        let ifindex = follower.ifindex("va");
        follower.until("carrier", |f| f.links.get(&ifindex).is_some_and(|l| l.carrier));
        for address in far() {
            ip(&format!("neigh add {address} lladdr 02:00:00:00:00:02 dev va nud stale"));
        }
        follower.until("both stale", |f| {
            far().iter().all(|a| f.neighbours.get(&(ifindex, *a)).is_some_and(|n| n.state == NeighbourState::Stale))
        });
        let told = follower.told.len();
        let uses: Vec<_> = far().iter().map(|address| (ifindex, *address)).collect();
        assert!(control.use_neighbours(&uses).unwrap().iter().all(Result::is_ok));
        follower.until("both reachable", |f| {
            far().iter().all(|a| f.neighbours.get(&(ifindex, *a)).is_some_and(|n| n.state == NeighbourState::Reachable))
        });
        for event in follower.told.get(told..).unwrap() {
            if let tailwater_netlink::Event::NeighbourChanged(n) = event
                && far().contains(&n.ip)
            {
                assert_eq!(n.usable_mac(), Some(&FAR_MAC[..]), "never without an address in between: {n:?}");
            }
        }
    });
}

#[test]
fn each_of_a_thousand_requests_gets_its_own_verdict() {
    with_far_end(|| {
        let mut control = Control::open().unwrap();
        let ifindex = control.link_by_name("va").unwrap().ifindex;
        let uses: Vec<(u32, IpAddr)> = (0..1000u32)
            .map(|i| {
                // Few different ones: the kernel's table has room for 1024, in all namespaces together.
                let ip = IpAddr::from([10, 0, 0, 10 + (i % 50) as u8]);
                (if i % 10 == 3 { 999_999 } else { ifindex }, ip)
            })
            .collect();
        let verdicts = control.use_neighbours(&uses).unwrap();
        assert_eq!(verdicts.len(), uses.len());
        for ((index, _), verdict) in uses.iter().zip(&verdicts) {
            assert_eq!(verdict.is_ok(), *index == ifindex, "{verdict:?}");
        }
        let refusal = verdicts.into_iter().find_map(Result::err).unwrap();
        assert!(matches!(&refusal, Error::Refused { doing, .. } if doing.contains("999999")), "{refusal}");
    });
}
