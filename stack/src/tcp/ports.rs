//! Ports of our own for connections that we open (RFC 6056 §3.3.3, "simple hash-based": they grow
//! towards one peer, and tell nothing about others).

use super::flow::Flow;
use super::isn::Secret;

/// RFC 6335 §6: the dynamic ports.
pub(crate) const EPHEMERAL_FIRST: u16 = 49_152;
pub(crate) const EPHEMERAL_COUNT: u16 = u16::MAX - EPHEMERAL_FIRST + 1;
const PURPOSE: u64 = 1 << 32;

/// The first port that `accepted` takes, of a sequence of its own for each peer. `flow` with local
/// port 0; `counter` moves on behind the port.
pub(super) fn choose(
    secret: &Secret,
    flow: &Flow,
    counter: &mut u16,
    mut accepted: impl FnMut(u16) -> bool,
) -> Option<u16> {
    let offset = secret.hash(flow, PURPOSE) as u16;
    for _ in 0..EPHEMERAL_COUNT {
        let port = EPHEMERAL_FIRST + offset.wrapping_add(*counter) % EPHEMERAL_COUNT;
        *counter = counter.wrapping_add(1);
        if accepted(port) {
            return Some(port);
        }
    }
    None
}
