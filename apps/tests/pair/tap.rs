//! What can be seen of the frames between the routers, and what can be added to them.

use std::time::Instant;

use tailwater_dataplane::frame::{Batch, Pool, Region, RegionConfig};
use tailwater_dataplane::ledger::Ledger;
use tailwater_dataplane::port::Port;
use tailwater_dataplane::port::packet::{self, PacketConfig, PacketPort};
use tailwater_lab::Lab;
use tailwater_netlink::Control;

use super::common::DEADLINE;
use super::load::PATTERN;

/// Frames that a tap looks at.
const FRAMES: usize = 100;
/// Headers of a capture file and of a frame in it (the libpcap format, draft-ietf-opsawg-pcap).
const FILE_HEADER_LEN: usize = 24;
const FRAME_HEADER_LEN: usize = 16;

/// Frames as tcpdump sees them on the wire.
pub(crate) struct Tap(Vec<Vec<u8>>);

impl Tap {
    /// The next frames from near to far.
    pub(crate) fn of(lab: &Lab) -> Self {
        let file = std::env::temp_dir().join(format!("{}.pcap", lab.wire().name()));
        let filter = "(udp dst port 7000 or ether proto 0x88b5 or ether proto 0x88b6)";
        let tcpdump = lab.wire().program("tcpdump").args(["-n", "-i", "w1", "-Q", "out", "-s", "0", "-U", "-c"]);
        tcpdump.arg(FRAMES.to_string()).arg("-w").arg(&file).arg(filter).run(DEADLINE).unwrap();
        let content = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        Self(frames(&content))
    }

    /// All are of this EtherType, and show what they carry or do not.
    pub(crate) fn expect(&self, ethertype: u16, clear: bool) {
        assert_eq!(self.0.len(), FRAMES);
        for frame in &self.0 {
            assert_eq!(frame[12..14], ethertype.to_be_bytes(), "{frame:02x?}");
            // Compressed data shows the pattern once, where it first stands.
            let seen = frame.windows(PATTERN.len()).filter(|bytes| *bytes == PATTERN).count();
            let bound = if ethertype == super::COMPRESSED { 2 } else { 1 };
            assert!(if clear { seen > 0 } else { seen < bound }, "{seen} times: {frame:02x?}");
        }
    }
}

fn frames(mut file: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    file = &file[FILE_HEADER_LEN..];
    while let Some((header, rest)) = file.split_at_checked(FRAME_HEADER_LEN) {
        let len = u32::from_ne_bytes(header[8..12].try_into().unwrap()) as usize;
        let Some((frame, rest)) = rest.split_at_checked(len) else { break };
        frames.push(frame.to_vec());
        file = rest;
    }
    frames
}

/// Takes frames off the wire as they come from near, and puts others onto it towards far.
pub(crate) struct Forger {
    from_near: PacketPort,
    to_far: PacketPort,
    pool: Pool,
    ledger: Ledger,
}

impl Forger {
    pub(crate) fn on(lab: &Lab) -> Self {
        let region =
            Region::in_process(RegionConfig { chunks: 4096, huge_pages: false, ..Default::default() }).unwrap();
        let open = |name: &str| lab.wire().enter(|| open(name)).unwrap();
        Self { from_near: open("w0"), to_far: open("w1"), pool: Pool::new(region), ledger: Ledger::default() }
    }

    /// The next frame of this EtherType.
    pub(crate) fn take(&mut self, ethertype: u16) -> Vec<u8> {
        let (end, mut batch, mut found) = (Instant::now() + DEADLINE, Batch::default(), None);
        while found.is_none() {
            assert!(Instant::now() < end, "no frame of EtherType {ethertype:#x}");
            self.from_near.receive(&mut self.pool, &mut self.ledger, &mut batch, 32);
            for frame in batch.drain() {
                let bytes = frame.bytes().to_vec();
                self.pool.release(frame);
                found = found.or(Some(bytes).filter(|bytes| bytes[12..14] == ethertype.to_be_bytes()));
            }
            self.from_near.flush(&mut self.pool);
        }
        found.unwrap()
    }

    pub(crate) fn send(&mut self, frame: &[u8]) {
        let mut batch = Batch::default();
        batch.push(self.pool.allocate_copy(frame).unwrap());
        assert_eq!(self.to_far.transmit(&mut self.pool, &mut batch), 1);
        self.to_far.flush(&mut self.pool);
    }
}

impl Drop for Forger {
    fn drop(&mut self) {
        self.from_near.close(&mut self.pool);
        self.to_far.close(&mut self.pool);
    }
}

fn open(name: &str) -> PacketPort {
    let link = Control::open().unwrap().link_by_name(name).unwrap();
    let config = PacketConfig {
        interface: link.name,
        ifindex: link.ifindex,
        mtu: link.mtu_bytes.into(),
        mac: link.mac.try_into().unwrap(),
        workers: 1,
        ring_size: 256,
        promiscuous: true,
    };
    packet::open(&config).unwrap().remove(0)
}
