//! The impair block on a virtual clock.

mod rig;

use proptest::prelude::*;
use rig::{Rig, udp4};
use tailwater_dataplane::block::Value;
use tailwater_dataplane::ledger::DropReason;

fn packets(count: u16) -> Vec<Vec<u8>> {
    (0..count).map(|n| udp4(n, &[0; 58])).collect()
}

fn impair(parameters: &[(&str, f64)]) -> Rig {
    let parameters: Vec<(&str, Value)> = parameters
        .iter()
        .map(|&(key, value)| {
            let whole = value.fract() == 0.0;
            (key, if whole { Value::Integer(value as i64) } else { Value::Float(value) })
        })
        .collect();
    Rig::with_chunks("impair", &parameters, 2048)
}

#[test]
fn unimpaired_packets_pass_at_once() {
    let mut rig = impair(&[]);
    assert_eq!(rig.send(&packets(10))[0], packets(10));
    assert_eq!(rig.graph.deadline_ns(), None);
}

#[test]
fn delayed_packets_leave_after_the_delay_and_no_sooner() {
    let mut rig = impair(&[("delay_us", 500.0)]);
    assert_eq!(rig.send(&packets(3))[0].len(), 0);
    assert_eq!(rig.graph.held(), 3);
    assert!(rig.graph.deadline_ns().is_some_and(|at| at > rig.now_ns && at <= rig.now_ns + 500_000));
    assert_eq!(rig.wait(499_999)[0].len(), 0);
    assert_eq!(rig.wait(1)[0], packets(3));
}

#[test]
fn rate_spaces_packets_by_their_serialisation_time() {
    // 100 bytes at 8 Mbit/s take 100 microseconds.
    let mut rig = impair(&[("rate_bps", 8e6)]);
    assert_eq!(packets(1)[0].len(), 100);
    assert_eq!(rig.send(&packets(4))[0].len(), 0);
    for n in 0..4 {
        assert_eq!(rig.wait(99_000)[0].len(), 0);
        assert_eq!(rig.wait(1_000)[0], [packets(4)[n].clone()]);
    }
}

#[test]
fn queue_bound_drops_the_newest_by_name() {
    let mut rig = impair(&[("delay_us", 100.0), ("queue_max", 5.0)]);
    rig.send(&packets(8));
    assert_eq!(rig.dropped(DropReason::ImpairQueueFull), 3);
    assert_eq!(rig.wait(100_000)[0], packets(5));
}

#[test]
fn loss_is_the_share_asked_for_and_the_same_with_the_same_seed() {
    let survivors = |seed: f64| {
        let mut rig = impair(&[("loss_percent", 10.0), ("seed", seed)]);
        (0..20).flat_map(|_| rig.send(&packets(500)).remove(0)).collect::<Vec<_>>()
    };
    let first = survivors(7.0);
    // 10,000 packets: a deviation of 30; six of them.
    assert!((8820..=9180).contains(&first.len()), "{}", first.len());
    assert_eq!(first, survivors(7.0));
    assert_ne!(first, survivors(8.0));
}

#[test]
fn bursty_loss_keeps_its_share_and_comes_in_runs() {
    let mut rig = impair(&[("loss_percent", 10.0), ("loss_burst_packets", 5.0)]);
    let mut lost = Vec::new();
    for _ in 0..100 {
        let out = rig.send(&packets(500)).remove(0);
        lost.extend(packets(500).into_iter().map(|packet| !out.contains(&packet)));
    }
    let total = lost.iter().filter(|&&lost| lost).count();
    let runs = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
    assert!((4000..=6000).contains(&total), "{total} of 50000");
    let mean = total as f64 / runs as f64;
    assert!((4.0..6.0).contains(&mean), "runs of {mean}");
}

#[test]
fn duplicates_are_counted_as_originated() {
    let mut rig = impair(&[("duplicate_percent", 100.0)]);
    let out = rig.send(&packets(3)).remove(0);
    let twice: Vec<Vec<u8>> = packets(3).into_iter().flat_map(|packet| [packet.clone(), packet]).collect();
    assert_eq!(out, twice);
    assert_eq!(rig.originated, 3);
}

#[test]
fn corruption_flips_exactly_one_bit() {
    let mut rig = impair(&[("corrupt_percent", 100.0)]);
    let out = rig.send(&packets(50)).remove(0);
    for (sent, got) in packets(50).iter().zip(&out) {
        let flipped: u32 = sent.iter().zip(got).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!(flipped, 1);
    }
}

#[test]
fn every_nth_packet_overtakes_the_delayed_ones() {
    let mut rig = impair(&[("delay_us", 100.0), ("reorder_percent", 100.0), ("reorder_gap_packets", 5.0)]);
    let all = packets(10);
    assert_eq!(rig.send(&all)[0], [all[4].clone(), all[9].clone()]);
    assert_eq!(rig.wait(99_999)[0].len(), 0);
    assert_eq!(rig.wait(1)[0].len(), 8);
}

#[test]
fn packets_held_at_a_shutdown_are_counted() {
    let mut rig = impair(&[("delay_us", 100.0)]);
    rig.send(&packets(4));
    rig.shut_down();
    assert_eq!(rig.dropped(DropReason::Shutdown), 4);
}

proptest! {
    #[test]
    fn without_jitter_and_reordering_order_is_kept_at_any_rate_and_delay(
        rate_bps in prop_oneof![Just(0u64), 10_000u64..1_000_000_000],
        delay_us in 0u64..10_000,
        gaps in prop::collection::vec((0u64..2_000_000, 1u16..20), 1..20),
    ) {
        let mut rig = impair(&[("rate_bps", rate_bps as f64), ("delay_us", delay_us as f64)]);
        let mut out = Vec::new();
        let mut next = 0;
        for (gap_ns, count) in gaps {
            rig.now_ns += gap_ns;
            let batch: Vec<Vec<u8>> = (next..next + count).map(|n| udp4(n, &[])).collect();
            next += count;
            out.append(&mut rig.send(&batch)[0]);
        }
        while let Some(at) = rig.graph.deadline_ns() {
            rig.now_ns = rig.now_ns.max(at);
            out.append(&mut rig.wait(0)[0]);
        }
        let expected: Vec<Vec<u8>> = (0..next).map(|n| udp4(n, &[])).collect();
        prop_assert_eq!(out, expected);
    }
}
