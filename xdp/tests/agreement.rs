//! What C and Rust both define must be the same: the flow hash, the list of verdicts. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr};

use libbpf_rs::btf::types::Enum;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, ProgramInput};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tailwater_xdp::{FlowKey, HashKey, Verdict, flow_hash};
use zerocopy::IntoBytes;

mod skel {
    #![allow(unsafe_code, unreachable_pub, clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::expect_used)]
    #![allow(clippy::panic, dead_code, non_camel_case_types, missing_docs)]
    include!(concat!(env!("OUT_DIR"), "/steer.skel.rs"));
}

/// Loads the object as it is, without constants, and hands it to the test.
fn with_object(test: impl FnOnce(&skel::SteerSkel<'_>)) {
    let mut storage = MaybeUninit::uninit();
    let open = skel::SteerSkelBuilder::default().open(&mut storage).unwrap();
    test(&open.load().expect("privileged test: needs root"));
}

fn any_flow() -> impl Strategy<Value = FlowKey> {
    let v4 = any::<(u32, u16, u32, u16, u8)>()
        .prop_map(|(src, sport, dst, dport, proto)| FlowKey::v4(src.into(), sport, dst.into(), dport, proto));
    let v6 = any::<(u128, u16, u128, u16, u8)>()
        .prop_map(|(src, sport, dst, dport, proto)| FlowKey::v6(src.into(), sport, dst.into(), dport, proto));
    prop_oneof![v4, v6]
}

#[test]
fn steering_and_user_space_agree_on_every_flow() {
    const KEYS: usize = 10;
    const FLOWS: usize = 500;
    with_object(|skel| {
        let mut runner = TestRunner::deterministic();
        for _ in 0..KEYS {
            let (seed, multiplier) = any::<(u64, u64)>().new_tree(&mut runner).unwrap().current();
            let multiplier = multiplier | 1;
            set_hash_key(skel, seed, multiplier);
            for _ in 0..FLOWS {
                let flow = any_flow().new_tree(&mut runner).unwrap().current();
                for flow in [flow, flow.reversed(), flow.without_ports()] {
                    let theirs = program_hash(skel, &flow);
                    assert_eq!(theirs, flow_hash(&HashKey::new(seed, multiplier), &flow), "{flow:?}");
                }
            }
        }
    });
}

fn set_hash_key(skel: &skel::SteerSkel<'_>, seed: u64, multiplier: u64) {
    let mut settings = vec![0; 192];
    settings[..8].copy_from_slice(&seed.to_ne_bytes());
    settings[8..16].copy_from_slice(&multiplier.to_ne_bytes());
    skel.maps.settings.update(&[0; 4], &settings, MapFlags::ANY).unwrap();
}

fn program_hash(skel: &skel::SteerSkel<'_>, flow: &FlowKey) -> u32 {
    let input = ProgramInput { data_in: Some(flow.as_bytes()), ..Default::default() };
    skel.progs.hash_probe.test_run(input).unwrap().return_value
}

/// So that a change of the function on both sides is noticed too: processes of two versions which share a key
/// and a host must agree. The words are native, so this holds on little-endian hosts.
#[test]
fn the_hash_of_known_flows_stays() {
    let key = HashKey::new(0x0123_4567_89ab_cdef, 0x9e37_79b9_7f4a_7c15);
    let v4 = FlowKey::v4(Ipv4Addr::new(192, 0, 2, 1), 1234, Ipv4Addr::new(198, 51, 100, 2), 80, 6);
    let server = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
    let v6 = FlowKey::v6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 1234, server, 80, 6);
    assert_eq!(flow_hash(&key, &v4), 2_904_119_413);
    assert_eq!(flow_hash(&key, &v6), 3_792_772_377);
}

#[test]
fn both_lists_of_verdicts_have_the_same_names_in_the_same_order() {
    with_object(|skel| {
        use libbpf_rs::skel::Skel;
        let btf = skel.object().btf().unwrap().unwrap();
        let list: Enum<'_> = btf.type_by_name("verdict").unwrap();
        let theirs: Vec<(String, i64)> =
            list.iter().map(|member| (member.name.unwrap().to_string_lossy().to_lowercase(), member.value)).collect();
        let ours = Verdict::ALL.iter().map(|verdict| (verdict.name().to_owned(), i64::from(verdict.number())));
        let end = ("verdict_count".to_owned(), i64::from(Verdict::COUNT));
        assert_eq!(theirs, ours.chain([end]).collect::<Vec<_>>());
    });
}

#[test]
fn verdict_names_are_those_of_the_variants_and_kinds_those_of_the_names() {
    for verdict in Verdict::ALL {
        let words: String = verdict.name().split('_').map(capitalised).collect();
        assert_eq!(words, format!("{verdict:?}"));
        let kind = format!("{:?}", verdict.kind()).to_lowercase();
        let prefix = if verdict.name().starts_with("up_") { "redirect" } else { kind.as_str() };
        assert!(verdict.name().starts_with(prefix) || kind == "redirect", "{verdict}: {kind}");
        assert!(!verdict.describe().is_empty());
    }
}

fn capitalised(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}
