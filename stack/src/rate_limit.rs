//! Token bucket: at most `burst` events at once and `rate` per second in the long run.

use core::time::Duration;

use crate::time::Instant;

/// Rate and burst of a [`TokenBucket`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RateLimit {
    /// Events per second; 0 forbids every event, once the burst is used.
    pub rate_per_second: u32,
    /// Events that may come at once.
    pub burst: u32,
}

/// RFC 4443 §2.4(f) asks for a bucket and leaves the numbers open: these are Linux's.
impl Default for RateLimit {
    fn default() -> Self {
        Self { rate_per_second: 1_000, burst: 50 }
    }
}

/// Starts full. Keeps time instead of tokens: `full_at` is when the bucket will be full again, so
/// that taking a token is one addition and refilling needs none.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    token_ns: u64,
    capacity_ns: u64,
    full_at: Instant,
}

impl TokenBucket {
    pub fn new(limit: RateLimit) -> Self {
        let token_ns = match limit.rate_per_second {
            0 => u64::MAX / 2 / u64::from(limit.burst.max(1)),
            rate => 1_000_000_000 / u64::from(rate),
        };
        Self { token_ns, capacity_ns: token_ns.saturating_mul(u64::from(limit.burst)), full_at: Instant::ZERO }
    }

    /// Another rate and burst from now on; what was taken stays so.
    pub fn limit_to(&mut self, limit: RateLimit) {
        *self = Self { full_at: self.full_at, ..Self::new(limit) };
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + Duration::from_nanos(self.token_ns);
        let granted = full_at <= now + Duration::from_nanos(self.capacity_ns);
        if granted {
            self.full_at = full_at;
        }
        granted
    }
}
