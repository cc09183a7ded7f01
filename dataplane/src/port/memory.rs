//! A port whose other end is a port in the same process: AF_XDP's rings with no kernel between them.
//!
//! Frames pass by descriptor, without a copy but for one kind (`own_chains`). Both ends live in one [`Region`].

use std::sync::Arc;

use super::descriptors::{put_burst, take_burst};
use super::{Capabilities, Port, PortCounters};
use crate::frame::{Batch, Pool, Region};
use crate::ledger::Ledger;
use crate::ring::{self, Consumer, Descriptor, Producer};

/// One end of a pair of memory ports.
pub struct MemoryPort {
    name: String,
    number: u16,
    region: Arc<Region>,
    rx: Consumer<Descriptor>,
    tx: Producer<Descriptor>,
    capabilities: Capabilities,
    counters: PortCounters,
}

impl MemoryPort {
    /// Two ends joined by rings of `ring_size` descriptors (rounded up to a power of two) each way.
    pub fn pair(region: &Arc<Region>, names: [&str; 2], ring_size: u32) -> (Self, Self) {
        let (a_tx, b_rx) = ring::in_process(ring_size);
        let (b_tx, a_rx) = ring::in_process(ring_size);
        let end = |name: &str, rx, tx, last| Self {
            name: name.to_owned(),
            number: 0,
            region: Arc::clone(region),
            rx,
            tx,
            capabilities: Capabilities {
                backend: "memory",
                mode: "rings in process memory".into(),
                mtu: 9000,
                mac: [2, 0, 0, 0, 0, last],
                queues: 1,
                multi_buffer: true,
                ..Capabilities::default()
            },
            counters: PortCounters::default(),
        };
        (end(names[0], a_rx, a_tx, 1), end(names[1], b_rx, b_tx, 2))
    }
}

impl Port for MemoryPort {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn set_number(&mut self, number: u16) {
        self.number = number;
    }

    fn receive(&mut self, pool: &mut Pool, ledger: &mut Ledger, batch: &mut Batch, max: usize) -> usize {
        // SAFETY: the other end's `transmit` gave up each descriptor's chunk when it pushed it.
        #[allow(unsafe_code)]
        let burst = unsafe { take_burst(&mut self.rx, &self.region, self.number, pool, ledger, batch, max) };
        self.counters.rx_packets += burst.packets as u64;
        self.counters.rx_bytes += burst.bytes;
        burst.packets
    }

    fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        let whole = own_chains(pool, batch);
        let burst = put_burst(&mut self.tx, &self.region, batch, whole);
        self.counters.tx_packets += burst.packets as u64;
        self.counters.tx_bytes += burst.bytes;
        burst.packets
    }

    fn flush(&mut self, _pool: &mut Pool) {}

    fn tx_pending(&mut self) -> usize {
        self.tx.pending() as usize
    }

    fn counters(&self) -> PortCounters {
        self.counters
    }

    fn close(&mut self, pool: &mut Pool) {
        let (mut batch, mut ledger) = (Batch::default(), Ledger::default());
        self.receive(pool, &mut ledger, &mut batch, self.rx.size() as usize);
        batch.drain().for_each(|frame| pool.release(frame));
    }
}

/// Puts copies in the place of packets in several chunks which the stack keeps for retransmission: the other end writes the
/// links of the chunks that it gets. Returns how many packets, from the first one on, may then go.
#[inline]
fn own_chains(pool: &mut Pool, batch: &mut Batch) -> usize {
    for (at, frame) in batch.iter_mut().enumerate() {
        if frame.is_chained() && frame.is_lent() {
            let Some(copy) = pool.duplicate(frame) else { return at };
            pool.release(std::mem::replace(frame, copy));
        }
    }
    batch.len()
}
