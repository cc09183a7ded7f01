//! Commands: what they change, and above all what they leave alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Namespace, in_namespace, ip, ip_batch};
use tailwater_netlink::{Control, Error, Link, Queues};

/// `count` bridges d0, d1 ... of which every other is in group 7.
fn bridges(count: u32) {
    let lines: String = (0..count)
        .map(|i| format!("link add d{i} {} type bridge\n", if i % 2 == 0 { "group 7" } else { "" }))
        .collect();
    ip_batch(&lines, "", false);
}

/// Links without what traffic changes.
fn settings(control: &mut Control) -> Vec<Link> {
    let mut links = control.links().unwrap();
    links.iter_mut().for_each(|link| link.stats = None);
    links
}

#[test]
fn an_index_that_names_no_link_changes_nothing() {
    in_namespace(|| {
        bridges(4);
        let mut control = Control::open().unwrap();
        let before = settings(&mut control);
        assert!(matches!(control.set_link_up(999_999, true), Err(Error::Refused { .. })));
        assert!(matches!(control.set_mtu(999_999, 1400), Err(Error::Refused { .. })));
        // To the kernel, index 0 with a group is the group: this must not reach it.
        assert!(matches!(control.set_group(0, 7), Err(Error::ZeroIndex)));
        assert!(matches!(control.set_link_up(0, true), Err(Error::ZeroIndex)));
        assert!(matches!(control.set_mtu(0, 1400), Err(Error::ZeroIndex)));
        assert_eq!(settings(&mut control), before);
    });
}

#[test]
fn one_link_is_changed_by_its_index() {
    in_namespace(|| {
        bridges(2);
        let mut control = Control::open().unwrap();
        let ifindex = control.link_by_name("d1").unwrap().ifindex;
        control.set_link_up(ifindex, true).unwrap();
        control.set_mtu(ifindex, 2000).unwrap();
        control.set_group(ifindex, 9).unwrap();
        let link = control.link_by_name("d1").unwrap();
        assert_eq!((link.up, link.mtu_bytes, link.group), (true, 2000, 9));
        control.set_link_up(ifindex, false).unwrap();
        assert!(!control.link_by_name("d1").unwrap().up);
        let refused = control.set_mtu(ifindex, 4_000_000_000);
        assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    });
}

#[test]
fn a_mistyped_name_is_answered_with_the_likely_one() {
    in_namespace(|| {
        ip("link add uplink0 type bridge");
        ip("link property add dev uplink0 altname towards-the-core");
        let mut control = Control::open().unwrap();
        match control.link_by_name("uplnik0") {
            Err(error @ Error::NoSuchLink { .. }) => {
                assert_eq!(error.to_string(), "no interface named 'uplnik0' (did you mean uplink0?)");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(control.link_by_name("towards-the-core").unwrap().name, "uplink0");
        assert!(matches!(control.link_by_name(""), Err(Error::NoSuchLink { .. })));
    });
}

#[test]
fn queues_driver_and_counters_of_a_veth_are_told() {
    in_namespace(|| {
        ip("link add va numrxqueues 4 numtxqueues 3 type veth peer name vb");
        ip("link set va up promisc on");
        ip("link set vb up");
        ip("address add 10.0.0.1/24 dev va");
        let mut control = Control::open().unwrap();
        let link = control.link_by_name("va").unwrap();
        assert_eq!((link.rx_queues_max, link.tx_queues_max, link.promiscuity), (4, 3, 1));
        assert_eq!(control.driver(&link).as_deref(), Some("veth"));
        // This thread has no sysfs of its own, so the answer is what the device was made with.
        assert_eq!(control.queues(&link), Queues { rx: 4, tx: 3 });
        assert_eq!(link.xdp, None);
        assert!(link.stats.is_some());
    });
}

#[test]
fn sysfs_of_another_namespace_is_not_believed() {
    let outer = Namespace::new();
    outer.enter(|| {
        // A namesake of the first namespace's loopback, with another number.
        ip("link set lo down");
        let mut control = Control::open().unwrap();
        let mut link = control.link_by_name("lo").unwrap();
        link.ifindex += 1_000_000;
        (link.rx_queues_max, link.tx_queues_max) = (77, 78);
        assert_eq!(control.queues(&link), Queues { rx: 77, tx: 78 });
    });
}

#[test]
fn a_program_attached_with_ip_is_seen_with_mode_and_id() {
    in_namespace(|| {
        ip("link add va type veth peer name vb");
        let object = std::env::temp_dir().join(format!("twn-xdp-{}.o", std::process::id()));
        let source = "__attribute__((section(\"xdp\"), used)) int pass(void *c) { return 2; }";
        let mut clang = std::process::Command::new("clang")
            .args(["-O2", "-target", "bpf", "-x", "c", "-c", "-", "-o"])
            .arg(&object)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("clang is installed by ci/setup");
        std::io::Write::write_all(clang.stdin.as_mut().unwrap(), source.as_bytes()).unwrap();
        assert!(clang.wait().unwrap().success());
        let mut control = Control::open().unwrap();
        for (flavour, mode) in
            [("xdpgeneric", tailwater_netlink::XdpMode::Generic), ("xdpdrv", tailwater_netlink::XdpMode::Native)]
        {
            ip(&format!("link set va {flavour} object {} section xdp", object.display()));
            let xdp = control.link_by_name("va").unwrap().xdp.expect("attached");
            assert_eq!(xdp.mode, mode);
            assert!(xdp.prog_id > 0);
            ip(&format!("link set va {flavour} off"));
            assert_eq!(control.link_by_name("va").unwrap().xdp, None);
        }
        std::fs::remove_file(object).unwrap();
    });
}
