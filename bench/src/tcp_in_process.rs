//! TCP between two hosts of one process, on one thread: ours in two workers joined by memory ports, and smoltcp's in two
//! interfaces joined by queues of frames that are used again.
//!
//! | | ours | smoltcp |
//! |---|---|---|
//! | IP and TCP checksums | written and verified | written and verified |
//! | copies | one: into the frame that it leaves from, which arrives | three: into the send buffer, the frame, the receive buffer |
//! | what arrives is | counted, in the frame | counted, in the receive buffer |
//! | buffers, each way | 256 KiB | 256 KiB |
//! | frames on the way, MTU, writes | 2048, the same, 64 KiB at once | 2048, the same, 64 KiB at once |
//! | options, payload at MTU 1500 | timestamps, SACK: 1448 bytes | none: 1460 bytes |
//! | Nagle | off | off |
//! | acknowledgements | one for what a turn finds, at least for every second full segment | one for what a poll finds, at least for every second full segment |
//! | congestion control | CUBIC | none |
//! | clock reads | one for each host and pass | one for each host and pass |
//!
//! Ours goes through ports, worker, packet graph and the service's callbacks; smoltcp's sockets are called directly. What
//! each needs more copies for is its interface: nothing is copied here that it would not copy elsewhere.
//!
//! ```text
//!   client: worker, stack, service  <-- frames -->  service, stack, worker: server        turn by turn, one after the other
//! ```

mod ours;
mod smoltcp;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use ours::Ours;
pub use smoltcp::Smoltcp;

/// Bytes that a sender offers at once.
pub const WRITE: usize = 64 << 10;
/// Bytes that a socket keeps for each direction.
pub const BUFFER: usize = 256 << 10;
/// Request, and response.
pub const MESSAGE: usize = 64;
/// Passes without progress after which a transfer counts as stuck; each lets the clock go on.
const PASSES_MAX: u64 = 50_000_000;

/// Whose hosts they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum StackKind {
    Ours,
    Smoltcp,
}

/// What the client does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Load {
    /// Sends as much as it can.
    Bulk,
    /// Sends a request when the response to the last one is there.
    Requests,
}

/// A client and a server, connected.
pub trait Pair {
    /// Both hosts have a turn.
    fn pass(&mut self);

    /// Bytes that the server has read (bulk), or responses that the client has (requests).
    fn done(&self) -> u64;
}

impl StackKind {
    /// Two hosts, connected and warmed up.
    pub fn pair(self, load: Load, mtu: usize) -> Result<Box<dyn Pair>> {
        Ok(match self {
            Self::Ours => Box::new(Ours::new(load, mtu)?),
            Self::Smoltcp => Box::new(Smoltcp::new(load, mtu)),
        })
    }
}

/// How much was done, of what [`Pair::done`] counts.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Found {
    pub count: u64,
    pub secs: f64,
}

impl Found {
    pub fn per_second(self) -> f64 {
        self.count as f64 / self.secs
    }
}

/// Goes on for this long.
pub fn run_for(pair: &mut dyn Pair, load: Load, lasts: Duration) -> Result<Found> {
    // Some milliseconds, so that looking at the clock is no part of it.
    let step = if load == Load::Bulk { 64 << 20 } else { 20_000 };
    let (started, before) = (Instant::now(), pair.done());
    while started.elapsed() < lasts {
        run(pair, step)?;
    }
    Ok(Found { count: pair.done() - before, secs: started.elapsed().as_secs_f64() })
}

/// Passes until `count` more are done.
pub fn run(pair: &mut dyn Pair, count: u64) -> Result<()> {
    let end = pair.done() + count;
    let mut passes = 0;
    while pair.done() < end {
        pair.pass();
        passes += 1;
        ensure!(passes < PASSES_MAX, "stuck at {} of {end}", pair.done());
    }
    Ok(())
}

/// What is sent: bytes that differ.
fn pattern() -> Vec<u8> {
    (0..WRITE).map(|at| (at * 31 + at / 251) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_transfer_and_answer() {
        for mtu in [1500, 9000] {
            for load in [Load::Bulk, Load::Requests] {
                let count = if load == Load::Bulk { 3 << 20 } else { 500 };
                run(&mut Ours::new(load, mtu).unwrap(), count).unwrap();
                run(&mut Smoltcp::new(load, mtu), count).unwrap();
            }
        }
    }
}
