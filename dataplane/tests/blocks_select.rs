//! Blocks that choose and copy packets: filter, tee, mirror, rate-limit.

mod rig;

use rig::{Rig, ethernet, text, udp4};
use tailwater_dataplane::block::{Registry, Value};
use tailwater_dataplane::ledger::DropReason;

#[test]
fn filter_splits_by_the_expression() {
    let mut rig = Rig::new("filter", &[("expression", text("udp dst port 53"))]);
    let (dns, http, arp) = (udp4(53, &[1; 20]), udp4(80, &[2; 20]), ethernet(0x0806, &[0; 46]));
    let out = rig.send(&[&dns, &http, &arp, &dns]);
    assert_eq!(out, [vec![dns.clone(), dns], vec![http, arp]]);
}

#[test]
fn filter_that_drops_counts_the_others_as_filtered() {
    let mut rig = Rig::new("filter", &[("expression", text("arp")), ("drop", Value::Bool(true))]);
    let out = rig.send(&[udp4(53, &[]), ethernet(0x0806, &[0; 46])]);
    assert_eq!((out[0].len(), out[1].len()), (1, 0));
    assert_eq!(rig.dropped(DropReason::Filtered), 1);
}

#[test]
fn filter_sees_the_whole_length_of_a_jumbo_frame() {
    let mut rig = Rig::new("filter", &[("expression", text("udp port 9 and greater 8000"))]);
    let out = rig.send(&[udp4(9, &[0; 8500]), udp4(9, &[0; 5000])]);
    assert_eq!((out[0].len(), out[1].len()), (1, 1));
}

#[test]
fn malformed_expression_is_refused_with_the_librarys_words_and_a_hint() {
    let error = rig::build("filter", &[("expression", text("udp prot 53"))], &Registry::builtin())
        .err()
        .expect("refused")
        .to_string();
    for part in ["udp prot 53", "syntax error", "man pcap-filter"] {
        assert!(error.contains(part), "{part:?} is missing in {error}");
    }
}

#[test]
fn empty_frames_and_empty_expressions_are_no_trouble() {
    let out = Rig::new("filter", &[("expression", text(""))]).send(&[Vec::new(), udp4(1, &[])]);
    assert_eq!(out[0].len(), 2);
    let out = Rig::new("filter", &[("expression", text("udp"))]).send(&[Vec::new()]);
    assert_eq!(out[1].len(), 1);
}

#[test]
fn tee_sends_every_packet_to_both_outputs() {
    let mut rig = Rig::new("tee", &[]);
    let packets = [udp4(1, &[1; 30]), udp4(2, &[2; 7000]), udp4(3, &[])];
    let out = rig.send(&packets);
    assert_eq!(out, [packets.to_vec(), packets.to_vec()]);
    assert_eq!(rig.originated, 3);
}

#[test]
fn tee_without_free_frames_loses_the_copies_only() {
    let mut rig = Rig::with_chunks("tee", &[], 64);
    let packets: Vec<Vec<u8>> = (0..40).map(|n| udp4(n, &[])).collect();
    let out = rig.send(&packets);
    assert_eq!((out[0].len(), out[1].len()), (40, 24));
    assert_eq!((rig.dropped(DropReason::NoFrame), rig.counter("uncopied")), (16, 16));
}

#[test]
fn mirror_cuts_its_copies_and_leaves_the_packets_whole() {
    let mut rig = Rig::new("mirror", &[("snap_bytes", Value::Integer(60))]);
    let packets = [udp4(1, &[1; 500]), udp4(2, &[2; 4]), udp4(3, &[3; 6000])];
    let out = rig.send(&packets);
    assert_eq!(out[0], packets);
    assert_eq!(out[1], [packets[0][..60].to_vec(), packets[1].clone(), packets[2][..60].to_vec()]);
}

#[test]
fn mirror_samples_one_in_n_on_average_and_the_same_ones_again() {
    let sample = || {
        let mut rig = Rig::new("mirror", &[("sample_one_in", Value::Integer(10))]);
        let mut copies = Vec::new();
        for round in 0..400u16 {
            let packets: Vec<Vec<u8>> = (0..25).map(|n| udp4(round * 25 + n, &[])).collect();
            copies.append(&mut rig.send(&packets)[1]);
        }
        copies
    };
    let copies = sample();
    // 1000 gaps of mean 10 and deviation 5.5: the sum strays by 174 from 10,000 packets; six times that is never seen.
    assert!((890..=1120).contains(&copies.len()), "{}", copies.len());
    assert_eq!(copies, sample());
}

#[test]
fn rate_limit_passes_the_burst_and_then_the_rate() {
    let parameters = [("pps", Value::Integer(1000)), ("burst_packets", Value::Integer(5))];
    let mut rig = Rig::new("rate-limit", &parameters);
    let packets: Vec<Vec<u8>> = (0..8).map(|n| udp4(n, &[])).collect();
    assert_eq!(rig.send(&packets)[0], packets[..5]);
    assert_eq!(rig.dropped(DropReason::RateLimited), 3);
    rig.now_ns += 2_000_000;
    assert_eq!(rig.send(&packets)[0], packets[..2], "one a millisecond");
    rig.now_ns += 999_999;
    assert_eq!(rig.send(&packets)[0].len(), 0);
    rig.now_ns += 1;
    assert_eq!(rig.send(&packets)[0].len(), 1);
}

#[test]
fn rate_limit_by_bits_lets_a_small_packet_pass_where_a_large_one_does_not() {
    let parameters = [("bps", Value::Integer(8000)), ("burst_bytes", Value::Integer(200))];
    let mut rig = Rig::new("rate-limit", &parameters);
    let (large, small) = (ethernet(0x0800, &[0; 136]), ethernet(0x0800, &[0; 36]));
    assert_eq!(rig.send(&[&large, &large, &small])[0], [large, small]);
}
