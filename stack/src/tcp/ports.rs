//! Ports of our own for connections that we open (RFC 6056 §3.3.3, "simple hash-based": they grow
//! towards one peer, and tell nothing about others).

use super::flow::Flow;
use super::isn::Secret;
use crate::ports::LocalPorts;

const PURPOSE: u64 = 1 << 32;

/// The first port that `accepted` takes, of a sequence of its own for each peer. `flow` with local
/// port 0; `counter` moves on behind the port.
pub(super) fn choose(
    secret: &Secret,
    flow: &Flow,
    ports: LocalPorts,
    counter: &mut u16,
    mut accepted: impl FnMut(u16) -> bool,
) -> Option<u16> {
    let offset = secret.hash(flow, PURPOSE) >> 32;
    let (before, mut tried) = (u64::from(*counter), 0);
    let chosen = ports.from(offset + before).inspect(|_| tried += 1).find(|&port| accepted(port));
    *counter = counter.wrapping_add(tried);
    chosen
}
