//! Whole groups and many links at once: what is changed, and above all what is left alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{in_namespace, ip, ip_batch};
use tailwater_netlink::{AddressChange, Control, Error, Group, Link, LinkChange};

/// `count` bridges d0, d1 ... of which every other is in group 7.
fn bridges(count: u32) {
    let lines: String = (0..count)
        .map(|i| format!("link add d{i} {} type bridge\n", if i % 2 == 0 { "group 7" } else { "" }))
        .collect();
    ip_batch(&lines, "", false);
}

fn settings(control: &mut Control) -> Vec<Link> {
    let mut links = control.links().unwrap();
    links.iter_mut().for_each(|link| link.stats = None);
    links
}

fn group(number: u32) -> Group {
    Group::new(number).unwrap()
}

fn indexes(links: &[Link]) -> Vec<u32> {
    links.iter().map(|link| link.ifindex).collect()
}

#[test]
fn one_request_changes_a_whole_group_and_nobody_else() {
    in_namespace(|| {
        bridges(20);
        let mut control = Control::open().unwrap();
        assert_eq!(control.links_in_group(7).unwrap().len(), 10);
        control.change_group(group(7), LinkChange::Up).unwrap();
        control.change_group(group(7), LinkChange::Mtu(1400)).unwrap();
        for link in control.links().unwrap().iter().filter(|l| l.name.starts_with('d')) {
            assert_eq!((link.up, link.mtu_bytes == 1400), (link.group == 7, link.group == 7), "{link:?}");
        }
        control.change_group(group(7), LinkChange::Down).unwrap();
        assert!(control.links_in_group(7).unwrap().iter().all(|link| !link.up));
    });
}

#[test]
fn a_group_which_is_empty_default_or_unnamed_changes_nothing() {
    in_namespace(|| {
        bridges(4);
        let mut control = Control::open().unwrap();
        let before = settings(&mut control);
        for change in [LinkChange::Up, LinkChange::Mtu(1400)] {
            let refused = control.change_group(group(8), change);
            assert!(matches!(refused, Err(Error::EmptyGroup { group: 8 })), "{refused:?}");
        }
        assert!(matches!(Group::new(0), Err(Error::DefaultGroup)));
        assert!(matches!(tailwater_netlink::group_by_name("uplnks"), Err(Error::NoSuchGroup { .. })));
        assert_eq!(settings(&mut control), before);
    });
}

#[test]
fn the_default_group_is_changed_by_who_asks_for_it() {
    in_namespace(|| {
        bridges(4);
        let mut control = Control::open().unwrap();
        control.change_group(Group::or_default(0), LinkChange::Up).unwrap();
        for link in control.links().unwrap() {
            assert_eq!(link.up, link.group == 0, "{link:?}");
        }
    });
}

#[test]
fn looking_for_a_member_stops_early_and_disturbs_nothing() {
    in_namespace(|| {
        bridges(60);
        let mut control = Control::open().unwrap();
        for _ in 0..3 {
            assert!(control.has_members(7).unwrap() && control.has_members(0).unwrap());
            assert!(!control.has_members(8).unwrap());
            assert_eq!(control.links_in_group(7).unwrap().len(), 30);
        }
    });
}

#[test]
fn a_member_is_found_behind_links_with_more_names_than_a_glance_holds() {
    in_namespace(|| {
        let names = |link: &str| {
            let name = |at| format!("link property add dev {link} altname {link}-{at:0>120}\n");
            (0..80).map(name).collect::<String>()
        };
        let mut control = Control::open().unwrap();
        for link in ["lo", "large"] {
            if link != "lo" {
                ip(&format!("link add {link} type bridge"));
            }
            ip_batch(&names(link), "", false);
            assert!(!control.has_members(7).unwrap(), "{link}");
        }
        ip("link add last group 7 type bridge");
        assert!(control.has_members(7).unwrap());
        assert_eq!(control.links_now().unwrap().len(), 3);
    });
}

#[test]
fn a_batch_larger_than_one_system_call_answers_for_each_link() {
    in_namespace(|| {
        let lines: String =
            (0..140).map(|i| format!("link add a{i} group 7 type veth peer name b{i} group 7\n")).collect();
        ip_batch(&lines, "", false);
        let mut control = Control::open().unwrap();
        let members = indexes(&control.links_in_group(7).unwrap());
        let mut told = Vec::new();
        let verdicts = control.change_links(&members, LinkChange::Mtu(1400), &mut |done| told.push(done)).unwrap();
        assert_eq!((verdicts.len(), told), (280, vec![256, 280]));
        assert!(verdicts.iter().all(Result::is_ok));
        for link in control.links().unwrap() {
            assert_eq!(link.mtu_bytes == 1400, link.group == 7, "{link:?}");
        }
        let verdicts = control.set_groups(&members, 9, &mut |_| {}).unwrap();
        assert!(verdicts.iter().all(Result::is_ok));
        assert_eq!(control.links_in_group(9).unwrap().len(), 280);
        assert!(!control.has_members(7).unwrap());
    });
}

#[test]
fn who_refuses_in_a_batch_is_told_apart_with_the_kernels_reason() {
    in_namespace(|| {
        // Of a tap's 65535 bytes the Ethernet header takes 14; a bridge has them all.
        ip("tuntap add t1 mode tap");
        ip("link set t1 group 7");
        ip("link add b1 group 7 type bridge");
        let mut control = Control::open().unwrap();
        let refused = control.change_group(group(7), LinkChange::Mtu(65_530)).unwrap_err();
        assert!(matches!(refused, Error::Refused { .. }), "{refused}");
        let members = control.links_in_group(7).unwrap();
        let verdicts = control.change_links(&indexes(&members), LinkChange::Mtu(65_530), &mut |_| {}).unwrap();
        for (link, verdict) in members.iter().zip(&verdicts) {
            match verdict {
                Ok(()) => assert_eq!(link.name, "b1"),
                Err(error) => assert!(error.reason().contains("mtu greater than device maximum"), "{error}"),
            }
        }
        assert_eq!(control.link_by_name("b1").unwrap().mtu_bytes, 65_530);
        assert_eq!(control.link_by_name("t1").unwrap().mtu_bytes, 1500);
    });
}

#[test]
fn an_index_of_zero_stops_a_batch_before_anything_is_touched() {
    in_namespace(|| {
        bridges(4);
        let mut control = Control::open().unwrap();
        let before = settings(&mut control);
        let members = [control.link_by_name("d0").unwrap().ifindex, 0];
        let change = AddressChange { ifindex: 0, ip: [10, 0, 0, 1].into(), prefix_len: 24, add: true };
        assert!(matches!(control.change_links(&members, LinkChange::Up, &mut |_| {}), Err(Error::ZeroIndex)));
        assert!(matches!(control.set_groups(&members, 7, &mut |_| {}), Err(Error::ZeroIndex)));
        assert!(matches!(control.change_addresses(&[change], &mut |_| {}), Err(Error::ZeroIndex)));
        assert_eq!(settings(&mut control), before);
    });
}

#[test]
fn addresses_of_both_families_come_and_go_in_a_batch() {
    in_namespace(|| {
        bridges(6);
        let mut control = Control::open().unwrap();
        let members = indexes(&control.links_in_group(7).unwrap());
        let changes = |add: bool| -> Vec<AddressChange> {
            let of = |&ifindex| {
                let ip4 = AddressChange { ifindex, ip: [10, 0, 0, 1].into(), prefix_len: 32, add };
                [ip4, AddressChange { ip: "fd00::1".parse().unwrap(), prefix_len: 128, ..ip4 }]
            };
            members.iter().flat_map(of).collect()
        };
        let has = |control: &mut Control| -> Vec<(u32, String)> {
            let addresses = control.addresses().unwrap().into_iter().filter(|a| members.contains(&a.ifindex));
            addresses.map(|a| (a.ifindex, format!("{}/{}", a.ip, a.prefix_len))).collect()
        };
        assert!(control.change_addresses(&changes(true), &mut |_| {}).unwrap().iter().all(Result::is_ok));
        let wanted: Vec<_> =
            members.iter().flat_map(|&i| [(i, "10.0.0.1/32".to_owned()), (i, "fd00::1/128".to_owned())]).collect();
        assert_eq!(has(&mut control), wanted);
        // What is there is not added again, and stays.
        assert!(control.change_addresses(&changes(true), &mut |_| {}).unwrap().iter().all(Result::is_err));
        assert_eq!(has(&mut control), wanted);
        assert!(control.change_addresses(&changes(false), &mut |_| {}).unwrap().iter().all(Result::is_ok));
        assert!(has(&mut control).is_empty());
    });
}
