//! One block between an input port and an output port per pin, on a virtual clock, with every packet accounted for.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "only tests use it")]

use std::sync::Arc;

use tailwater_dataplane::block::{Registry, Services, Value};
use tailwater_dataplane::frame::{Batch, Frame, Pool, Region, RegionConfig};
use tailwater_dataplane::graph::{Graph, GraphError, GraphSpec, NodeView, Turn};
use tailwater_dataplane::ledger::{DropReason, Ledger};

/// Packets by output pin, in order.
pub(crate) type Outputs = Vec<Vec<Vec<u8>>>;

pub(crate) struct Rig {
    pub(crate) region: Arc<Region>,
    pub(crate) pool: Pool,
    pub(crate) graph: Graph,
    pub(crate) ledger: Ledger,
    pub(crate) now_ns: u64,
    pub(crate) originated: u64,
    pub(crate) delivered: u64,
    pub(crate) taken_in: u64,
    pub(crate) sent_out: u64,
    pins: usize,
}

pub(crate) fn text(value: &str) -> Value {
    Value::Text(value.into())
}

/// The whole packet, whatever its chunks.
pub(crate) fn content(frame: &Frame) -> Vec<u8> {
    frame.segments().flatten().copied().collect()
}

pub(crate) fn build(
    kind: &str,
    parameters: &[(&str, Value)],
    registry: &Registry,
) -> Result<(Graph, usize), GraphError> {
    build_with(kind, parameters, registry, &Services::default())
}

pub(crate) fn build_with(
    kind: &str,
    parameters: &[(&str, Value)],
    registry: &Registry,
    services: &Services,
) -> Result<(Graph, usize), GraphError> {
    let pins: Vec<String> =
        registry.find(kind).map_or(Vec::new(), |kind| kind.outputs.iter().map(|pin| pin.name.to_owned()).collect());
    let mut spec = GraphSpec::default().node("block", kind, parameters).edge("rx:in", "block");
    for pin in &pins {
        spec = spec.edge(&format!("block.{pin}"), &format!("tx:{pin}"));
    }
    let mut ports = vec!["in".to_owned()];
    ports.extend(pins);
    Ok((Graph::build(&spec, registry, services, &ports)?, ports.len() - 1))
}

impl Rig {
    pub(crate) fn new(kind: &str, parameters: &[(&str, Value)]) -> Self {
        Self::with_chunks(kind, parameters, 512)
    }

    pub(crate) fn with_chunks(kind: &str, parameters: &[(&str, Value)], chunks: usize) -> Self {
        Self::with_services(kind, parameters, chunks, &Services::default())
    }

    pub(crate) fn with_services(kind: &str, parameters: &[(&str, Value)], chunks: usize, services: &Services) -> Self {
        let built = build_with(kind, parameters, &Registry::builtin(), services);
        let (graph, pins) = built.unwrap_or_else(|error| panic!("{error}"));
        let config = RegionConfig { chunks, huge_pages: false, ..RegionConfig::default() };
        let region = Region::in_process(config).unwrap();
        Self {
            pool: Pool::new(Arc::clone(&region)),
            region,
            graph,
            pins,
            ledger: Ledger::default(),
            now_ns: 1_000_000,
            originated: 0,
            delivered: 0,
            taken_in: 0,
            sent_out: 0,
        }
    }

    pub(crate) fn frame(&mut self, packet: &[u8]) -> Frame {
        self.pool.allocate_copy(packet).expect("the test has frames enough")
    }

    /// One turn with these packets received.
    pub(crate) fn send<P: AsRef<[u8]>>(&mut self, packets: &[P]) -> Outputs {
        let mut batch = Batch::default();
        for packet in packets {
            batch.push(self.frame(packet.as_ref()));
        }
        self.turn(batch)
    }

    /// One turn with these frames received.
    pub(crate) fn turn(&mut self, batch: Batch) -> Outputs {
        self.turn_counting(batch, || 0).0
    }

    /// As `turn`; also by how much `count` grew while the graph worked.
    pub(crate) fn turn_counting(&mut self, mut batch: Batch, count: impl Fn() -> u64) -> (Outputs, u64) {
        self.taken_in += batch.len() as u64;
        let mut turn = Turn {
            now_ns: self.now_ns,
            pool: &mut self.pool,
            ledger: &mut self.ledger,
            originated: &mut self.originated,
            delivered: &mut self.delivered,
        };
        let before = count();
        self.graph.ingest(0, &mut batch, &mut turn);
        self.graph.run(&mut turn);
        let grown = count() - before;
        let outputs: Outputs = (1..=self.pins)
            .map(|port| {
                let sink = self.graph.sink(port).unwrap();
                let frames: Vec<Frame> = sink.drain().collect();
                self.sent_out += frames.len() as u64;
                frames
                    .into_iter()
                    .map(|frame| {
                        let bytes = content(&frame);
                        self.pool.release(frame);
                        bytes
                    })
                    .collect()
            })
            .collect();
        self.check();
        (outputs, grown)
    }

    /// A turn `later_ns` later, with nothing received.
    pub(crate) fn wait(&mut self, later_ns: u64) -> Outputs {
        self.now_ns += later_ns;
        self.turn(Batch::default())
    }

    /// received + originated = sent + delivered + dropped + held, and no chunk is lost.
    pub(crate) fn check(&self) {
        let held = self.graph.held();
        assert_eq!(
            self.taken_in + self.originated,
            self.sent_out + self.delivered + self.ledger.total() + held as u64,
            "a packet is unaccounted for"
        );
        assert_eq!(self.region.strayed(), 0, "a frame was dropped without its pool");
        if held == 0 {
            assert_eq!(self.region.at_home() + self.pool.cached(), self.region.chunks(), "a chunk is lost");
        }
    }

    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.ledger.dropped(reason)
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        let mut found = None;
        self.graph.report(|_, NodeView { block, .. }| {
            block.counters(&mut |key, value| {
                if key == name {
                    found = Some(value);
                }
            });
        });
        found.unwrap_or_else(|| panic!("no counter {name}"))
    }

    /// Lets go of what the block holds.
    pub(crate) fn shut_down(&mut self) {
        let mut turn = Turn {
            now_ns: self.now_ns,
            pool: &mut self.pool,
            ledger: &mut self.ledger,
            originated: &mut self.originated,
            delivered: &mut self.delivered,
        };
        self.graph.drain(&mut turn);
        self.check();
        assert_eq!(self.graph.held(), 0);
    }
}

/// An Ethernet frame from 02:..:02 to 02:..:01.
pub(crate) fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A UDP datagram in an Ethernet frame.
pub(crate) fn udp4(destination_port: u16, payload: &[u8]) -> Vec<u8> {
    let udp_len = 8 + payload.len() as u16;
    let mut ip = vec![0x45, 0];
    ip.extend((20 + udp_len).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 2, 10, 1, 0, 1]);
    ip.extend(1234u16.to_be_bytes());
    ip.extend(destination_port.to_be_bytes());
    ip.extend(udp_len.to_be_bytes());
    ip.extend([0, 0]);
    ip.extend(payload);
    ethernet(0x0800, &ip)
}

/// A file that holds a key and is its owner's alone; removed when dropped.
pub(crate) struct KeyFile(std::path::PathBuf);

impl KeyFile {
    /// `name` tells the files of one test program apart.
    pub(crate) fn new(name: &str, content: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("tailwater-{name}-{}.key", std::process::id()));
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        Self(path)
    }

    /// As a block's parameter.
    pub(crate) fn value(&self) -> Value {
        text(self.0.to_str().unwrap())
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
