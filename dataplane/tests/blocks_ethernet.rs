//! Blocks that read and write Ethernet and VLAN headers.

mod rig;

use rig::{Rig, ethernet, text};
use tailwater_dataplane::block::{Registry, Value};
use tailwater_dataplane::ledger::DropReason;

fn tagged(protocol: u16, id: u16, inner: &[u8]) -> Vec<u8> {
    let mut frame = inner[..12].to_vec();
    frame.extend(protocol.to_be_bytes());
    frame.extend(id.to_be_bytes());
    frame.extend(&inner[12..]);
    frame
}

#[test]
fn ethertypes_leave_by_their_outputs_in_order() {
    let mut rig = Rig::new("ethernet", &[]);
    let packets: Vec<Vec<u8>> = [0x0800, 0x86dd, 0x0800, 0x0806, 0x88cc, 46]
        .iter()
        .enumerate()
        .map(|(n, &ethertype)| ethernet(ethertype, &[n as u8; 46]))
        .collect();
    let out = rig.send(&packets);
    let of = |numbers: &[usize]| numbers.iter().map(|&n| packets[n].clone()).collect::<Vec<_>>();
    assert_eq!(out, [of(&[0, 2]), of(&[1]), of(&[3]), of(&[4, 5])]);
    assert_eq!([rig.counter("ip4"), rig.counter("ip6"), rig.counter("arp"), rig.counter("other")], [2, 1, 1, 2]);
}

#[test]
fn frames_too_short_for_their_header_are_dropped_as_bad_ethernet() {
    let mut rig = Rig::new("ethernet", &[("vlan", text("accept"))]);
    let short = ethernet(0x0800, &[]);
    let cut_tag = tagged(0x8100, 5, &short)[..17].to_vec();
    let out = rig.send(&[short[..13].to_vec(), Vec::new(), cut_tag, short]);
    assert_eq!(rig.dropped(DropReason::BadEthernet), 3);
    assert_eq!(out[0].len(), 1, "14 bytes are a whole header");
}

#[test]
fn destination_filter_takes_its_own_address_and_groups() {
    let mut rig = Rig::new("ethernet", &[("mac", text("02:00:00:00:00:01"))]);
    let ours = ethernet(0x0800, &[0; 46]);
    let mut other = ours.clone();
    other[5] = 9;
    let mut group = ours.clone();
    group[..6].copy_from_slice(&[1, 0, 0x5e, 0, 0, 1]);
    let mut broadcast = ours.clone();
    broadcast[..6].fill(0xff);
    let out = rig.send(&[&ours, &other, &group, &broadcast]);
    assert_eq!(out[0], [ours, group, broadcast]);
    assert_eq!(rig.dropped(DropReason::NotForUs), 1);
}

#[test]
fn tags_are_looked_behind_only_when_accepted_and_only_two() {
    let plain = ethernet(0x86dd, &[0; 46]);
    let one = tagged(0x8100, 5, &plain);
    let two = tagged(0x88a8, 6, &one);
    let three = tagged(0x88a8, 7, &two);
    let out = Rig::new("ethernet", &[("vlan", text("accept"))]).send(&[&one, &two, &three]);
    assert_eq!((out[1].len(), out[3].len()), (2, 1));
    let out = Rig::new("ethernet", &[]).send(&[&plain, &one, &two]);
    assert_eq!((out[1].len(), out[3].len()), (1, 2));
}

#[test]
fn pushed_tag_is_the_one_asked_for_and_popping_restores_the_frame() {
    let plain = ethernet(0x0800, &[7; 46]);
    let parameters = [("mode", text("push")), ("id", Value::Integer(5)), ("pcp", Value::Integer(3))];
    let pushed = Rig::new("vlan", &parameters).send(&[&plain]).remove(0);
    assert_eq!(pushed, [tagged(0x8100, 3 << 13 | 5, &plain)]);
    let mut pop = Rig::new("vlan", &[("mode", text("pop")), ("id", Value::Integer(5))]);
    let out = pop.send(&[&pushed[0], &plain, &tagged(0x8100, 6, &plain), &tagged(0x88a8, 5, &plain)]);
    assert_eq!(out[0], std::slice::from_ref(&plain));
    assert_eq!(out[1].len(), 3, "untagged, another identifier, another protocol");
}

#[test]
fn matching_leaves_frames_as_they_are() {
    let plain = ethernet(0x0800, &[7; 46]);
    let frames = [tagged(0x88a8, 1, &plain), tagged(0x88a8, 2, &plain), plain];
    let out = Rig::new("vlan", &[("mode", text("match")), ("protocol", text("802.1ad"))]).send(&frames);
    assert_eq!(out, [frames[..2].to_vec(), frames[2..].to_vec()]);
}

#[test]
fn jumbo_frame_keeps_its_tail_through_push_and_pop() {
    let plain = ethernet(0x0800, &(0..8000).map(|n| n as u8).collect::<Vec<_>>());
    let pushed = Rig::new("vlan", &[("mode", text("push")), ("id", Value::Integer(5))]).send(&[&plain]).remove(0);
    assert_eq!(pushed, [tagged(0x8100, 5, &plain)]);
    assert_eq!(Rig::new("vlan", &[("mode", text("pop"))]).send(&pushed)[0], [plain]);
}

#[test]
fn frames_that_take_no_tag_are_dropped_for_their_own_reason() {
    let mut rig = Rig::new("vlan", &[("mode", text("push")), ("id", Value::Integer(5))]);
    let mut batch = tailwater_dataplane::frame::Batch::default();
    let mut full = rig.frame(&ethernet(0x0800, &[0; 46]));
    full.prepend(full.headroom()).unwrap();
    batch.push(full);
    batch.push(rig.frame(&[0; 13]));
    rig.turn(batch);
    assert_eq!((rig.dropped(DropReason::NoHeadroom), rig.dropped(DropReason::BadEthernet)), (1, 1));
}

#[test]
fn wrong_parameters_are_refused_with_what_would_be_right() {
    let refuse = |kind: &str, parameters: &[(&str, Value)]| {
        rig::build(kind, parameters, &Registry::builtin()).err().expect("refused").to_string()
    };
    let error = refuse("vlan", &[("mode", text("push"))]);
    assert!(error.contains("identifier from 0 to 4094"), "{error}");
    let error = refuse("vlan", &[("mode", text("swap"))]);
    assert!(error.contains("push, pop or match"), "{error}");
    let error = refuse("ethernet", &[("mac", text("02:00"))]);
    assert!(error.contains("six octets"), "{error}");
}
