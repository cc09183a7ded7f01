//! Attaching to real veth interfaces. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{OWN, enter_namespace, ifindex, run, xdp_shown};
use tailwater_xdp::{AttachMode, Limits, PortConfig, Shared, Steering};

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
    assert!(run(&format!("ip link show {OWN}")).contains("xdpgeneric"));
    drop(steering);
    assert_eq!(xdp_shown(OWN), "");
}
