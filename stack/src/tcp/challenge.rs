//! How many challenge ACKs leave (RFC 5961 §7). Were it a fixed number, whoever uses up what is left would learn whether the stack
//! has challenged somebody else, and so whether a guess about his connection was right (Cao et al., "Off-Path TCP Exploits: Global
//! Rate Limit Considered Dangerous", USENIX Security 2016): what may leave is drawn anew each second. A single connection
//! gets one answer in a while ([`Tcb::may_answer`](super::tcb::Tcb::may_answer)), and leaves the others theirs.

use core::time::Duration;

use crate::rate_limit::{RateLimit, TokenBucket};
use crate::time::Instant;

const DRAW_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Challenges {
    most: RateLimit,
    bucket: TokenBucket,
    drawn_at: Option<Instant>,
}

impl Challenges {
    pub(super) fn new(most: RateLimit) -> Self {
        Self { most, bucket: TokenBucket::new(most), drawn_at: None }
    }

    /// Whether another may leave. `random`: 64 bits an attacker cannot guess.
    pub(super) fn take(&mut self, now: Instant, random: impl FnOnce() -> u64) -> bool {
        if self.drawn_at.is_none_or(|at| now.since(at) >= DRAW_INTERVAL) {
            let (random, RateLimit { rate_per_second, burst }) = (random(), self.most);
            let rate_per_second = draw(rate_per_second, random as u32);
            self.bucket.limit_to(RateLimit { rate_per_second, burst: draw(burst, (random >> 32) as u32) });
            self.drawn_at = Some(now);
        }
        self.bucket.take(now)
    }
}

/// From half of `most` to all of it.
fn draw(most: u32, random: u32) -> u32 {
    most - random % (most / 2 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_to_all_is_drawn() {
        for most in [0, 1, 2, 3, 100, u32::MAX] {
            for random in [0, 1, 50, 51, u32::MAX] {
                assert!((most.div_ceil(2)..=most).contains(&draw(most, random)), "{most}, {random}");
            }
        }
    }
}
