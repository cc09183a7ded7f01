//! Forwarding in one process: the packet graph between two memory ports, and the same work as one loop written by hand.
//!
//! ```text
//!   outside: packets to random           worker: receive, graph, transmit          outside: takes them,
//!   addresses of a full table    ----->  (or the fused loop)              ----->   checks one, sends again
//!                                        timed                            not timed
//! ```

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use tailwater_dataplane::block::{Registry, Services};
use tailwater_dataplane::clock;
use tailwater_dataplane::forwarding::{FastPath, ForwardingPlane, PortEntry, router_graph};
use tailwater_dataplane::frame::{Batch, Frame, Pool, Region, RegionConfig};
use tailwater_dataplane::graph::Graph;
use tailwater_dataplane::ledger::Ledger;
use tailwater_dataplane::port::Port;
use tailwater_dataplane::port::memory::MemoryPort;
use tailwater_dataplane::worker::{Idle, Worker, WorkerConfig};
use tailwater_fib::generate::{addresses4, table4};
use tailwater_fib::{FibWriter, Limits, NextHop};
use tailwater_xdp::HashKey;

use crate::stats::Spread;

/// Packets of a turn: the batch that all figures of this kind are told for.
pub const BATCH: usize = 32;
/// The largest that a worker takes at a time, which it does under load.
pub const BATCH_MAX: usize = 256;
/// A table as large as the Internet's will be.
pub const ROUTES: usize = 1_000_000;
const NEIGHBOURS: usize = 256;
/// Destinations taken in turn, each in a route drawn at random: far more than any cache holds tables for.
const DESTINATIONS: usize = 1 << 20;
const SEED: u64 = 20;
const WARM_UP_TURNS: usize = 1024;
/// Turns of a block, some 200 us.
const BLOCK_TURNS: usize = 256;
const BLOCKS_MAX: usize = 1 << 20;
const RING: u32 = 256;
const FRAME_BYTES: usize = 60;
const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];

/// Time of one packet.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Cost {
    pub ns_per_packet: f64,
    pub mean_ns_per_packet: f64,
    pub cycles_per_packet: f64,
    pub packets: u64,
}

/// Takes a batch in at one port and forwards it to the other.
trait Forwarder {
    fn turn(&mut self);
}

struct ByGraph(Worker);

impl Forwarder for ByGraph {
    fn turn(&mut self) {
        // The clock is read once a turn, as the worker's own loop does.
        self.0.turn(clock::now_ns());
    }
}

/// The router's own work, by the same functions, with nothing between the steps: no worker, no graph, no blocks. It serves
/// both ports, and each packet leaves by the one that its route says.
struct Fused {
    ports: [MemoryPort; 2],
    router: FastPath,
    pool: Pool,
    ledger: Ledger,
    batch: Batch,
    batch_max: usize,
    now_ns: u64,
}

impl Forwarder for Fused {
    fn turn(&mut self) {
        self.now_ns = clock::now_ns();
        self.router.quiescent();
        for way_in in 0..self.ports.len() {
            let Self { ports, router, pool, ledger, batch, batch_max, .. } = self;
            if ports[way_in].receive(pool, ledger, batch, *batch_max) == 0 || router.forward(batch.frames_mut()) > 0 {
                continue;
            }
            let way_out = batch.common_port().map(usize::from);
            if let Some(way_out) = way_out.and_then(|way_out| ports.get_mut(way_out)) {
                way_out.transmit(pool, batch);
            }
        }
        self.ports.iter_mut().for_each(|port| port.flush(&mut self.pool));
    }
}

/// The other ends of both ports, and what they send.
struct Outside {
    ports: [MemoryPort; 2],
    pool: Pool,
    ledger: Ledger,
    batch: Batch,
    /// Packets of a turn.
    batch_len: usize,
    destinations: Vec<u32>,
    next: usize,
}

/// A forwarder and its surroundings.
pub struct Bench {
    forwarder: Box<dyn Forwarder>,
    outside: Outside,
    /// Changes nothing any more; the tables live with it.
    _writer: FibWriter,
}

impl Bench {
    /// Builds a table of so many routes and a forwarder on it, by graph or by the fused loop, to forward `batch` packets a
    /// turn, at most [`BATCH_MAX`].
    pub fn new(fused: bool, routes: usize, batch_len: usize) -> Result<Self> {
        ensure!((1..=BATCH_MAX).contains(&batch_len), "a turn takes 1 to {BATCH_MAX} packets, not {batch_len}");
        let (mut writer, reader) = tailwater_fib::new(Limits::default())?;
        let neighbours = (0..NEIGHBOURS)
            .map(|number| {
                let next_hop = writer.adjacencies.add()?;
                writer.adjacencies.resolve(next_hop, 1, [2, 0, 0, 1, (number >> 8) as u8, number as u8])?;
                Ok(next_hop)
            })
            .collect::<Result<Vec<NextHop>>>()?;
        let table = table4(routes, NEIGHBOURS as u32, SEED);
        // A router does not forward to these (RFC 1812 §5.3.7, RFC 3927 §7), whatever its table says.
        let stays = |address: &u32| address >> 24 == 127 || address >> 16 == 0xa9fe;
        let mut destinations = addresses4(&table, DESTINATIONS, SEED + 1);
        destinations.retain(|address| !stays(address));
        let by_neighbour = table
            .into_iter()
            .filter_map(|(prefix, number)| Some((prefix, *neighbours.get(number.value() as usize % NEIGHBOURS)?)));
        writer.v4.extend(by_neighbour)?;

        let region = Region::in_process(RegionConfig { chunks: 1024, ..RegionConfig::default() })?;
        let (way_in, outside_in) = MemoryPort::pair(&region, ["in", "outside-in"], RING);
        let (way_out, outside_out) = MemoryPort::pair(&region, ["out", "outside-out"], RING);
        let entry = |number: u8| PortEntry {
            ifindex: number.into(),
            mac: [2, 0, 0, 0, number, 1],
            mtu: 1500,
            ip4: None,
            ip6: None,
            ..PortEntry::default()
        };
        let plane = Arc::new(ForwardingPlane::new(reader, vec![entry(1), entry(2)], HashKey::new(1, 3))?);
        let pool = Pool::new(Arc::clone(&region));
        let forwarder: Box<dyn Forwarder> = if fused {
            Box::new(Fused {
                ports: [way_in, way_out],
                router: FastPath::join(plane)?,
                pool,
                ledger: Ledger::default(),
                batch: Batch::with_capacity(batch_len),
                batch_max: batch_len,
                now_ns: 0,
            })
        } else {
            let mut services = Services::default();
            services.insert(plane);
            let names = ["in", "out"].map(str::to_owned);
            let graph = Graph::build(&router_graph(&names), &Registry::builtin(), &services, &names)?;
            let config = WorkerConfig { number: 0, core: None, idle: Idle::Spin };
            let ports: Vec<Box<dyn Port>> = vec![Box::new(way_in), Box::new(way_out)];
            Box::new(ByGraph(Worker::new(config, ports, graph, pool)?))
        };
        let outside = Outside {
            ports: [outside_in, outside_out],
            pool: Pool::new(region),
            ledger: Ledger::default(),
            batch: Batch::with_capacity(batch_len),
            batch_len,
            destinations,
            next: 0,
        };
        let mut bench = Self { forwarder, outside, _writer: writer };
        bench.outside.fill()?;
        // The worker's batch bound starts small and grows with what it finds.
        for _ in 0..WARM_UP_TURNS {
            bench.turn();
        }
        bench.check()?;
        Ok(bench)
    }

    /// One batch through: what the forwarder's turn took in cycles, and how many packets came out.
    pub fn turn(&mut self) -> (u64, usize) {
        self.outside.send();
        let start = clock::cycles();
        self.forwarder.turn();
        let cycles = clock::cycles().wrapping_sub(start);
        (cycles, self.outside.take())
    }

    /// Whether packets are forwarded as they should be.
    fn check(&mut self) -> Result<()> {
        let expected = self.outside.destinations.get(self.outside.next).copied().unwrap_or_default();
        let (_, count) = self.turn();
        let sent = self.outside.batch_len;
        ensure!(count == sent, "{count} of {sent} packets came out");
        let frame = self.outside.batch.iter().next().context("nothing came out")?;
        let bytes = frame.bytes();
        ensure!(bytes.get(..4) == Some(&[2, 0, 0, 1]), "it is addressed to nobody we know: {:02x?}", bytes.get(..14));
        ensure!(bytes.get(22) == Some(&63), "the TTL is {:?}", bytes.get(22));
        ensure!(bytes.get(30..34) == Some(&expected.to_be_bytes()), "it is another packet");
        ensure!(bytes.get(14..34).is_some_and(tailwater_stack::checksum::is_valid), "its header checksum is wrong");
        Ok(())
    }

    /// Forwards for at least this long, of which the forwarder's own turns are a part, and tells their cost: the median
    /// over blocks of turns, so that the moments when another process had the CPU do not count.
    pub fn run(&mut self, secs: f64) -> Result<Cost> {
        let (start, start_cycles) = (std::time::Instant::now(), clock::cycles());
        let (mut blocks, mut packets) = (Vec::new(), 0);
        while start.elapsed().as_secs_f64() < secs && blocks.len() < BLOCKS_MAX {
            let (mut cycles, mut count) = (0, 0);
            for _ in 0..BLOCK_TURNS {
                let (spent, forwarded) = self.turn();
                cycles += spent;
                count += forwarded as u64;
            }
            blocks.push(cycles as f64 / count as f64);
            packets += count;
        }
        let cycles_per_ns = clock::cycles().wrapping_sub(start_cycles) as f64 / start.elapsed().as_nanos() as f64;
        self.check()?;
        let mean = blocks.iter().sum::<f64>() / blocks.len() as f64 / cycles_per_ns;
        let cycles_per_packet = Spread::of(blocks).context("nothing was forwarded")?.median;
        Ok(Cost {
            ns_per_packet: cycles_per_packet / cycles_per_ns,
            mean_ns_per_packet: mean,
            cycles_per_packet,
            packets,
        })
    }
}

impl Outside {
    /// A batch of frames, which then go round and round.
    fn fill(&mut self) -> Result<()> {
        for _ in 0..self.batch_len {
            let frame = self.pool.allocate_copy(&[0; FRAME_BYTES]).context("no frame is free")?;
            self.batch.push(frame);
        }
        Ok(())
    }

    /// Writes every header anew and sends.
    fn send(&mut self) {
        for frame in self.batch.iter_mut() {
            let destination = self.destinations.get(self.next).copied().unwrap_or_default();
            self.next = (self.next + 1) % self.destinations.len().max(1);
            address(frame, destination);
        }
        let [way_in, _] = &mut self.ports;
        way_in.transmit(&mut self.pool, &mut self.batch);
        way_in.flush(&mut self.pool);
    }

    fn take(&mut self) -> usize {
        let [way_in, way_out] = &mut self.ports;
        way_in.flush(&mut self.pool);
        way_out.receive(&mut self.pool, &mut self.ledger, &mut self.batch, self.batch_len);
        self.batch.len()
    }
}

/// A UDP packet to `destination`, TTL 64.
fn address(frame: &mut Frame, destination: u32) {
    let Some(head) = frame.bytes_mut().first_chunk_mut::<34>() else { return };
    let packet_len = (FRAME_BYTES - 14) as u16;
    head[..6].copy_from_slice(&OUR_MAC);
    head[6..14].copy_from_slice(&[2, 0, 0, 0, 1, 2, 8, 0]);
    head[14..30].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 2]);
    head[16..18].copy_from_slice(&packet_len.to_be_bytes());
    head[30..34].copy_from_slice(&destination.to_be_bytes());
    let checksum = tailwater_stack::checksum::of(&head[14..34]);
    head[24..26].copy_from_slice(&checksum);
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: usize = 1000;

    /// Destination, header and way of every packet of some batches.
    fn forwarded(fused: bool, batch_len: usize) -> Vec<Vec<u8>> {
        let mut bench = Bench::new(fused, FEW, batch_len).unwrap();
        // While a worker's bound grows, turns are smaller, and warming up comes less far.
        bench.outside.next = 0;
        let mut packets = Vec::new();
        for _ in 0..20 {
            let (_, count) = bench.turn();
            assert_eq!(count, batch_len);
            packets.extend(bench.outside.batch.iter().map(|frame| frame.bytes().to_vec()));
        }
        packets
    }

    #[test]
    fn graph_and_fused_loop_do_the_same_work() {
        for batch_len in [BATCH, BATCH_MAX] {
            let (by_graph, by_loop) = (forwarded(false, batch_len), forwarded(true, batch_len));
            assert_eq!(by_graph.len(), 20 * batch_len);
            assert_eq!(by_graph, by_loop);
            let neighbours: std::collections::BTreeSet<&[u8]> = by_graph.iter().map(|packet| &packet[..6]).collect();
            assert!(neighbours.len() > 100, "next hops differ: {}", neighbours.len());
        }
    }
}
