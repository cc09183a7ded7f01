use std::time::Duration;

use proptest::prelude::*;
use tailwater_stack::Instant;
use tailwater_stack::rate_limit::{RateLimit, TokenBucket};

#[test]
fn a_full_bucket_gives_its_burst_and_then_its_rate() {
    let mut bucket = TokenBucket::new(RateLimit { rate_per_second: 10, burst: 3 });
    let start = Instant::from_millis(5_000);
    let granted = |bucket: &mut TokenBucket, now| (0..20).filter(|_| bucket.take(now)).count();
    assert_eq!(granted(&mut bucket, start), 3);
    assert_eq!(granted(&mut bucket, start + Duration::from_millis(99)), 0);
    assert_eq!(granted(&mut bucket, start + Duration::from_millis(100)), 1);
    assert_eq!(granted(&mut bucket, start + Duration::from_secs(60)), 3);
}

#[test]
fn a_rate_of_zero_gives_the_burst_only() {
    let mut bucket = TokenBucket::new(RateLimit { rate_per_second: 0, burst: 2 });
    let mut granted = 0;
    for day in 0..1_000 {
        granted += u32::from(bucket.take(Instant::ZERO + Duration::from_secs(86_400 * day)));
    }
    assert_eq!(granted, 2);
}

proptest! {
    #[test]
    fn no_interval_gets_more_than_burst_and_rate(
        rate in 1u32..5_000, burst in 1u32..100, steps in prop::collection::vec(0u64..5_000_000, 1..400),
    ) {
        let mut bucket = TokenBucket::new(RateLimit { rate_per_second: rate, burst });
        let (mut now, mut granted) = (0u64, 0u64);
        for step in steps {
            now += step;
            granted += u64::from(bucket.take(Instant::from_nanos(now)));
            // Token times are whole nanoseconds, so rates that do not divide a second run a little fast.
            let token_ns = 1_000_000_000 / u64::from(rate);
            prop_assert!(granted <= u64::from(burst) + now / token_ns);
        }
    }
}
