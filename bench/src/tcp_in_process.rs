//! TCP between two hosts of one process, on one thread: ours in two workers joined by memory ports, and smoltcp's in two
//! interfaces joined by queues of frames that are used again.
//!
//! | | ours | smoltcp |
//! |---|---|---|
//! | IP and TCP checksums | written and verified | written and verified |
//! | copies | one: into the frame that it leaves from, which arrives | three: into the send buffer, the frame, the receive buffer |
//! | what arrives is | counted, in the frame | counted, in the receive buffer |
//! | buffers, each way | 256 KiB, of many connections 4 KiB each | 256 KiB, of many connections 4 KiB each |
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
//! Of many connections each has one request on its way at any time. Ours tells which of them have something to read;
//! smoltcp's sockets are asked one by one, as its examples do (all of them have something to read in each pass), and its
//! `poll` looks for a packet's socket from the first on, and for what there is to send at all of them.
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
/// The same, where there are many: what is on its way then fits caches, of which smoltcp's buffers would take a gigabyte.
pub const BUFFER_OF_MANY: usize = 4 << 10;
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
    /// Sends a request on each connection when the response to the last one is there.
    Requests,
}

/// What goes on between the two hosts.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    pub load: Load,
    /// 68 to 9000.
    pub mtu: usize,
    /// 1 to 1000: more would fill the ring between the hosts.
    pub connections: usize,
}

impl Exchange {
    pub fn new(load: Load, mtu: usize) -> Self {
        Self { load, mtu, connections: 1 }
    }

    fn buffer(&self) -> usize {
        if self.connections == 1 { BUFFER } else { BUFFER_OF_MANY }
    }
}

/// A client and a server, connected.
pub trait Pair {
    /// Both hosts have a turn.
    fn pass(&mut self);

    /// Bytes that the server has read (bulk), or responses that the client has (requests).
    fn done(&self) -> u64;

    /// Connections that are established.
    fn connected(&self) -> usize;
}

impl StackKind {
    /// Two hosts, connected and warmed up.
    pub fn pair(self, exchange: Exchange) -> Result<Box<dyn Pair>> {
        Ok(match self {
            Self::Ours => Box::new(Ours::new(exchange)?),
            Self::Smoltcp => Box::new(Smoltcp::new(exchange)?),
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

/// Passes until all connections are there, and memory and caches are as they will be.
fn warm_up(pair: &mut dyn Pair, exchange: &Exchange) -> Result<()> {
    let mut passes = 0;
    while pair.connected() < exchange.connections {
        pair.pass();
        passes += 1;
        ensure!(passes < PASSES_MAX, "stuck with {} of {} connections", pair.connected(), exchange.connections);
    }
    run(pair, if exchange.load == Load::Bulk { 32 << 20 } else { 10_000 })
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
                run(&mut Ours::new(Exchange::new(load, mtu)).unwrap(), count).unwrap();
                run(&mut Smoltcp::new(Exchange::new(load, mtu)).unwrap(), count).unwrap();
            }
        }
    }

    #[test]
    fn both_keep_a_request_outstanding_on_each_connection() {
        let exchange = Exchange { connections: 50, ..Exchange::new(Load::Requests, 1500) };
        for stack in [StackKind::Ours, StackKind::Smoltcp] {
            let mut pair = stack.pair(exchange).unwrap();
            assert_eq!(pair.connected(), 50);
            let before = pair.done();
            (0..20).for_each(|_| pair.pass());
            assert_eq!(pair.done() - before, 20 * 50, "{stack:?}");
        }
    }
}
