//! A block of your own, outside the crate, in one file: it writes a DSCP into IPv4 packets (RFC 2474).
//!
//! ```text
//! rx:in --> ethernet --ip4--> mark --> tx:out          `in` and `out` are ports in this process
//! ```
//!
//! Run it with `cargo run -p tailwater-dataplane --example own_block`.

use std::sync::Arc;

use tailwater_dataplane::block::{
    self, Arguments, Block, BuildError, Context, Kind, PacketType, Parameter, ParameterError, Registry, Services,
    Value, ValueKind,
};
use tailwater_dataplane::clock;
use tailwater_dataplane::frame::{Batch, Frame, Pool, Region, RegionConfig};
use tailwater_dataplane::graph::{Graph, GraphSpec};
use tailwater_dataplane::ledger::{DropReason, Ledger};
use tailwater_dataplane::port::Port;
use tailwater_dataplane::port::memory::MemoryPort;
use tailwater_dataplane::worker::{Idle, Worker, WorkerConfig};
use tailwater_stack::checksum;

/// What the graph builder and the command line know of the block.
const DSCP_MARK: Kind = Kind {
    name: "dscp-mark",
    summary: "write a DSCP into IPv4 packets",
    input: PacketType::Ip4,
    parameters: &[Parameter {
        key: "dscp",
        kind: ValueKind::Integer { min: 0, max: 63 },
        default: Some("46"),
        doc: "differentiated services code point, 0 to 63; 46 is expedited forwarding",
    }],
    // 0 to 63 was checked before; a running block takes up any of them.
    prepare: block::live,
    build: |arguments: &Arguments, _: &Services| -> Result<Box<dyn Block>, BuildError> {
        Ok(Box::new(DscpMark { dscp: arguments.integer("dscp") as u8, marked: 0 }))
    },
    ..Kind::PLAIN
};

struct DscpMark {
    dscp: u8,
    marked: u64,
}

impl DscpMark {
    /// False if the packet has no whole IPv4 header.
    fn mark(&self, frame: &mut Frame) -> bool {
        let l3 = frame.l3_offset();
        let Some(header) = frame.bytes_mut().get_mut(l3..l3 + 20) else { return false };
        let old = [header[0], header[1]];
        // The lower two bits are ECN's.
        let new = [header[0], self.dscp << 2 | header[1] & 0b11];
        let sum = checksum::update_u16([header[10], header[11]], old, new);
        header[1] = new[1];
        header[10..12].copy_from_slice(&sum);
        true
    }
}

impl Block for DscpMark {
    fn process(&mut self, batch: &mut Batch, context: &mut Context<'_>) {
        // What stays in the batch goes on to the first output; everything else needs a reason.
        for frame in batch.extract(|frame| !self.mark(frame)) {
            context.discard(frame, DropReason::BadIp4);
        }
        self.marked += batch.len() as u64;
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), ParameterError> {
        match (key, value) {
            ("dscp", Value::Integer(dscp)) => self.dscp = *dscp as u8,
            _ => return Err(ParameterError::Fixed { key: key.to_owned() }),
        }
        Ok(())
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        report("marked", self.marked);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut registry = Registry::builtin();
    registry.add(DSCP_MARK);

    let spec = GraphSpec::default()
        .node("ethernet", "ethernet", &[])
        .node("mark", "dscp-mark", &[("dscp", Value::Integer(34))])
        .edge("rx:in", "ethernet")
        .edge("ethernet.ip4", "mark")
        .edge("mark", "tx:out");
    let names = ["in".to_owned(), "out".to_owned()];
    let graph = Graph::build(&spec, &registry, &Services::default(), &names)?;

    let region = Region::in_process(RegionConfig { chunks: 1024, ..RegionConfig::default() })?;
    let (mut source, input) = MemoryPort::pair(&region, ["source", "in"], 256);
    let (output, mut sink) = MemoryPort::pair(&region, ["out", "sink"], 256);
    let config = WorkerConfig { number: 0, core: None, idle: Idle::Spin };
    let mut worker =
        Worker::new(config, vec![Box::new(input), Box::new(output)], graph, Pool::new(Arc::clone(&region)))?;

    // The other ends of the two ports: three packets and a cut one go in ...
    let mut pool = Pool::new(Arc::clone(&region));
    let (mut batch, mut ledger) = (Batch::default(), Ledger::default());
    batch.extend((1..=3).filter_map(|ttl| pool.allocate_copy(&ip4_packet(ttl))));
    batch.extend(pool.allocate_copy(&ip4_packet(4)[..20]));
    source.transmit(&mut pool, &mut batch);
    worker.turn(clock::now_ns());
    // ... and three come out.
    sink.receive(&mut pool, &mut ledger, &mut batch, 256);
    for frame in batch.drain() {
        let header = &frame.bytes()[14..34];
        let sum = if checksum::is_valid(header) { "right" } else { "wrong" };
        println!("TTL {}: DSCP {}, header checksum {sum}", header[8], header[1] >> 2);
        pool.release(frame);
    }
    let report = worker.close();
    for block in &report.blocks {
        println!("{} ({}): {:?}", block.name, block.kind, block.counters);
    }
    println!("dropped: {:?}", report.dropped);
    Ok(())
}

fn ip4_packet(ttl: u8) -> Vec<u8> {
    let mut packet = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    packet.extend([0x45, 0, 0, 20, 0, 0, 0, 0, ttl, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let sum = checksum::of(&packet[14..34]);
    packet[24..26].copy_from_slice(&sum);
    packet
}
