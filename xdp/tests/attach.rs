//! Attaching to real veth interfaces. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, thread};

use common::{OWN, PEER, enter_empty_namespace, enter_namespace, ifindex, run, xdp_shown};
use tailwater_xdp::tools::{self, Tool};
use tailwater_xdp::{AttachMode, Error, Limits, PORTS_MAX, PortConfig, Probe, Shared, Steering, Support};

fn shared() -> Shared {
    Shared::new(Limits::default()).expect("privileged test: needs root")
}

fn config(attach: AttachMode) -> PortConfig {
    PortConfig { attach, ..PortConfig::new(ifindex(OWN)) }
}

#[test]
fn native_mode_attaches_and_drop_detaches() {
    enter_namespace();
    let steering = Steering::attach(&shared(), config(AttachMode::Native)).unwrap();
    assert_eq!(steering.attachment().mode, AttachMode::Native);
    assert!(steering.attachment().frags);
    assert!(xdp_shown(OWN).contains("prog/xdp id"), "{}", xdp_shown(OWN));
    drop(steering);
    assert_eq!(xdp_shown(OWN), "");
}

#[test]
fn generic_mode_attaches_and_drop_detaches() {
    enter_namespace();
    let steering = Steering::attach(&shared(), config(AttachMode::Generic)).unwrap();
    assert_eq!(steering.attachment().mode, AttachMode::Generic);
    assert!(xdp_shown(OWN).contains("xdpgeneric"));
    drop(steering);
    assert_eq!(xdp_shown(OWN), "");
}

#[test]
fn auto_takes_native_where_the_driver_has_it_and_generic_where_not() {
    enter_namespace();
    let steering = Steering::attach(&shared(), config(AttachMode::Auto)).unwrap();
    assert_eq!(steering.attachment().mode, AttachMode::Native, "{}", steering.attachment());

    let config = PortConfig::new(ifindex("lo"));
    let steering = Steering::attach(&shared(), config.clone()).unwrap();
    assert_eq!(steering.attachment().mode, AttachMode::Generic);
    assert!(steering.attachment().reason.contains("refused native"), "{}", steering.attachment());
    drop(steering);
    let refusal = Steering::attach(&shared(), PortConfig { attach: AttachMode::Native, ..config }).unwrap_err();
    assert!(matches!(refusal, Error::NoNative { .. }), "{refusal}");
}

#[test]
fn jumbo_frames_do_not_keep_native_mode_off() {
    enter_namespace();
    run(&format!("ip link set {OWN} mtu 9000"));
    run(&format!("ip link set {PEER} mtu 9000"));
    let steering = Steering::attach(&shared(), config(AttachMode::Native)).unwrap();
    assert!(steering.attachment().frags);
}

#[test]
fn another_program_is_refused_by_name_and_stays() {
    enter_namespace();
    for mode in [AttachMode::Native, AttachMode::Generic] {
        let other = tools::attach(Tool::Reflect, ifindex(OWN), mode).unwrap();
        let before = xdp_shown(OWN);
        for wanted in [AttachMode::Auto, AttachMode::Native, AttachMode::Generic] {
            let refusal = Steering::attach(&shared(), config(wanted)).unwrap_err();
            let text = refusal.to_string();
            assert!(matches!(refusal, Error::Busy { .. }), "{text}");
            assert!(text.contains("\"reflect\"") && text.contains("bpftool prog show id"), "{text}");
        }
        assert_eq!(xdp_shown(OWN), before);
        drop(other);
    }
    Steering::attach(&shared(), config(AttachMode::Native)).unwrap();
}

#[test]
fn an_interface_which_is_down_or_missing_is_refused() {
    enter_namespace();
    run(&format!("ip link set {OWN} down"));
    let refusal = Steering::attach(&shared(), config(AttachMode::Auto)).unwrap_err();
    assert!(refusal.to_string().contains(&format!("ip link set dev {OWN} up")), "{refusal}");
    let refusal = Steering::attach(&shared(), PortConfig::new(9999)).unwrap_err();
    assert!(matches!(refusal, Error::NoInterface { ifindex: 9999 }), "{refusal}");
}

#[test]
fn numbers_out_of_range_are_refused() {
    enter_namespace();
    let good = config(AttachMode::Auto);
    let bad = [
        PortConfig { queues: 0, ..good.clone() },
        PortConfig { queues: 257, ..good.clone() },
        PortConfig { workers: 0, ..good.clone() },
        PortConfig { workers: 129, ..good.clone() },
    ];
    for config in bad {
        let refusal = Steering::attach(&shared(), config).unwrap_err();
        assert!(matches!(refusal, Error::OutOfRange { .. }), "{refusal}");
    }
    let steering = Steering::attach(&shared(), good).unwrap();
    assert!(steering.ring_state(1, 0).is_err());
    assert!(steering.ring_state(0, 1).is_err());
    steering.remove_socket(0, 0).unwrap();
}

/// A refused port must not count against the bound.
#[test]
fn failed_ports_do_not_use_up_the_number_of_ports() {
    enter_empty_namespace();
    let shared = shared();
    for _ in 0..=PORTS_MAX {
        let refusal = Steering::attach(&shared, PortConfig::new(9999)).unwrap_err();
        assert!(matches!(refusal, Error::NoInterface { .. }), "{refusal}");
    }
}

#[test]
fn an_interface_deleted_under_the_program_does_no_harm() {
    enter_namespace();
    let steering = Steering::attach(&shared(), config(AttachMode::Native)).unwrap();
    run(&format!("ip link del {OWN}"));
    assert!(steering.verdicts().is_ok());
    drop(steering);
}

/// Set in the child which `kill_9_leaves_the_interface_clean` kills.
const CHILD: &str = "TAILWATER_XDP_CHILD_IFINDEX";

#[test]
fn child_of_kill_9() {
    let Some(ifindex) = env::var(CHILD).ok().and_then(|text| text.parse().ok()) else { return };
    let _steering = Steering::attach(&shared(), PortConfig::new(ifindex)).unwrap();
    println!("\nattached");
    thread::sleep(Duration::from_secs(60));
}

#[test]
fn kill_9_leaves_the_interface_clean() {
    enter_namespace();
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child_of_kill_9", "--nocapture"])
        .env(CHILD, ifindex(OWN).to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let attached = lines.map_while(Result::ok).any(|line| line == "attached");
    let during = xdp_shown(OWN);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(attached && during.contains("prog/xdp"), "{during}");
    assert_eq!(xdp_shown(OWN), "");
}

#[test]
fn a_probe_tells_what_is_there_and_changes_nothing() {
    enter_namespace();
    let probe = Probe::interface(ifindex(OWN)).unwrap();
    assert_eq!((probe.driver.as_str(), probe.rx_queues, probe.tx_queues), ("veth", 2, 2));
    assert_eq!((probe.mtu, probe.up, probe.occupant.clone()), (1500, true, None));
    assert_eq!((probe.native, probe.redirect, probe.zero_copy), (Support::Yes, Support::Yes, Support::No));
    assert_eq!(probe.redirect_target, Support::No, "its peer has neither XDP nor GRO");
    assert_eq!(xdp_shown(OWN), "");

    let _pass = tools::attach(Tool::Pass, ifindex(PEER), AttachMode::Native).unwrap();
    assert_eq!(Probe::interface(ifindex(OWN)).unwrap().redirect_target, Support::Yes);
    let occupant = Probe::interface(ifindex(PEER)).unwrap().occupant.unwrap();
    assert_eq!((occupant.name.as_str(), occupant.mode), ("pass", "native"));
}

#[test]
fn a_way_out_which_cannot_transmit_redirects_is_refused() {
    enter_namespace();
    let steering = Steering::attach(&shared(), PortConfig::new(ifindex(PEER))).unwrap();
    // Attaching to the peer has made our own end able, but not the peer's.
    steering.add_tx_port(ifindex(OWN)).unwrap();
    let refusal = steering.add_tx_port(ifindex(PEER)).unwrap_err();
    assert!(matches!(refusal, Error::NoRedirectTarget { .. }), "{refusal}");
}
