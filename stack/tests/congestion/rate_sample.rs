use tailwater_stack::tcp::congestion::RateSampler;

use crate::events::{at, ms};

// draft-ietf-ccwg-bbr-06 §4.1.2: 10 segments of 1000 sent at once, acknowledged at 1 per ms from
// 100 ms on: the last sample is 10000 bytes over 109 ms.
#[test]
fn rate_is_what_was_delivered_over_the_longer_interval_bbr_draft_s4_1_2() {
    let mut sampler = RateSampler::default();
    let stamps: Vec<_> = (0..10).map(|i| sampler.on_send(at(0), i * 1_000, 1_000)).collect();
    let mut last = None;
    for (i, stamp) in stamps.iter().enumerate() {
        sampler.on_delivered(at(100 + i as u64), stamp, 1_000);
        last = sampler.sample(Some(ms(100)));
    }
    let last = last.unwrap();
    assert_eq!((last.delivered, last.interval), (10_000, ms(109)));
    assert_eq!(last.rate, Some(10_000 * 1_000 / 109));
    assert_eq!(sampler.delivered(), 10_000);
}

#[test]
fn compressed_acks_do_not_look_fast() {
    let mut sampler = RateSampler::default();
    let stamps: Vec<_> = (0..10).map(|i| sampler.on_send(at(10 * i), i as u32 * 1_000, 1_000)).collect();
    // All acknowledged at once: the send interval is the longer one.
    for stamp in &stamps {
        sampler.on_delivered(at(100), stamp, 1_000);
    }
    let sample = sampler.sample(None).unwrap();
    assert_eq!(sample.interval, ms(100));
    assert_eq!(sample.rate, Some(100_000));
}

#[test]
fn an_interval_below_the_least_round_trip_time_gives_no_rate() {
    let mut sampler = RateSampler::default();
    let stamp = sampler.on_send(at(0), 0, 1_000);
    sampler.on_delivered(at(5), &stamp, 1_000);
    let sample = sampler.sample(Some(ms(10))).unwrap();
    assert_eq!(sample.rate, None);
    assert_eq!(sample.delivered, 1_000);
}

#[test]
fn an_ack_that_delivers_nothing_gives_no_sample() {
    let mut sampler = RateSampler::default();
    sampler.on_send(at(0), 0, 1_000);
    assert_eq!(sampler.sample(None), None);
}

// draft-ietf-ccwg-bbr-06 §4.1.2.4.
#[test]
fn samples_are_marked_until_the_bubble_is_delivered_bbr_draft_s4_1_2_4() {
    let mut sampler = RateSampler::default();
    let first = sampler.on_send(at(0), 0, 1_000);
    sampler.mark_app_limited(1_000);
    let second = sampler.on_send(at(1), 1_000, 1_000);
    assert!(!first.app_limited && second.app_limited);
    sampler.on_delivered(at(10), &first, 1_000);
    sampler.sample(None);
    assert!(sampler.app_limited());
    sampler.on_delivered(at(11), &second, 1_000);
    assert!(sampler.sample(None).unwrap().sent.app_limited);
    assert!(!sampler.app_limited());
}

// draft-ietf-ccwg-bbr-06 §5.5.1.
#[test]
fn a_round_starts_with_the_first_ack_of_data_sent_in_it_bbr_draft_s5_5_1() {
    let mut sampler = RateSampler::default();
    let first: Vec<_> = (0..3).map(|i| sampler.on_send(at(0), i * 1_000, 1_000)).collect();
    let mut starts = Vec::new();
    let mut second = Vec::new();
    for (i, stamp) in first.iter().enumerate() {
        sampler.on_delivered(at(100 + i as u64), stamp, 1_000);
        starts.push(sampler.sample(None).unwrap().round_start);
        second.push(sampler.on_send(at(100 + i as u64), 2_000, 1_000));
    }
    for (i, stamp) in second.iter().enumerate() {
        sampler.on_delivered(at(200 + i as u64), stamp, 1_000);
        starts.push(sampler.sample(None).unwrap().round_start);
    }
    assert_eq!(starts, [true, false, false, true, false, false]);
}

#[test]
fn loss_is_counted_from_the_segments_sending() {
    let mut sampler = RateSampler::default();
    let first = sampler.on_send(at(0), 0, 1_000);
    let second = sampler.on_send(at(1), 1_000, 500);
    assert_eq!(sampler.on_lost(at(10), &first, 1_000, true).lost_since_send, 1_000);
    let third = sampler.on_send(at(11), 500, 700);
    assert_eq!(sampler.on_lost(at(20), &second, 500, true).lost_since_send, 1_500);
    assert_eq!(sampler.on_lost(at(30), &third, 700, false).lost_since_send, 1_200);
    assert_eq!(sampler.lost(), 2_200);
}
