//! Initial sequence numbers (RFC 6528) and the offsets of timestamp clocks (RFC 7323 §5.4): a clock
//! plus a secret function of the flow, so that they grow within a flow and tell nothing about others.

use core::hash::{Hash, Hasher};

use siphasher::sip::SipHasher24;

use super::flow::Flow;
use super::seq::SeqNum;
use crate::time::Instant;

/// One step of the clock: 4 µs (RFC 9293 §3.4.1), in ns as a power of two.
const TICK_SHIFT: u32 = 12;
/// One step of the timestamp clock: 1 ms, within RFC 7323 §5.4's bounds.
const TIMESTAMP_TICK_NS: u64 = 1_000_000;

/// The secret of one stack, drawn when it starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Secret {
    key: [u64; 2],
}

impl Secret {
    pub(super) fn new(seed: u64) -> Self {
        // Expands the seed by the function that it keys.
        let draw = |n: u64| keyed([seed, !seed], &n, 0);
        Self { key: [draw(0), draw(1)] }
    }

    /// RFC 6528 §3: ISN = M + F(localip, localport, remoteip, remoteport, secretkey).
    pub(super) fn initial(&self, flow: &Flow, now: Instant) -> SeqNum {
        let clock = (now.as_nanos() >> TICK_SHIFT) as u32;
        SeqNum(clock.wrapping_add(self.hash(flow, 0) as u32))
    }

    /// What a connection's timestamps count from.
    pub(super) fn timestamp_offset(&self, flow: &Flow) -> u32 {
        self.hash(flow, 1) as u32
    }

    /// A number that only this stack can know, for each flow and use.
    pub(super) fn hash(&self, flow: &Flow, purpose: u64) -> u64 {
        keyed(self.key, flow, purpose)
    }
}

fn keyed(key: [u64; 2], of: &impl Hash, purpose: u64) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(key[0], key[1]);
    of.hash(&mut hasher);
    hasher.write_u64(purpose);
    hasher.finish()
}

/// TSval of a connection with this offset.
pub(super) fn timestamp(offset: u32, now: Instant) -> u32 {
    ((now.as_nanos() / TIMESTAMP_TICK_NS) as u32).wrapping_add(offset)
}
