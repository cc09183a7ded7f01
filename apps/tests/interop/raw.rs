//! Frames as an attacker on the link sees and makes them: AF_PACKET on c0.

use std::net::Ipv4Addr;
use std::time::Instant;

use tailwater_dataplane::frame::{Batch, Pool, Region, RegionConfig};
use tailwater_dataplane::ledger::Ledger;
use tailwater_dataplane::port::Port;
use tailwater_dataplane::port::packet::{self, PacketConfig, PacketPort};
use tailwater_lab::Lab;
use tailwater_netlink::Control;
use tailwater_stack::checksum::{self, Sum};

use crate::common::DEADLINE;

/// The hosts of a lab.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const TO_DUT: [u8; 14] = [2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 2, 8, 0];
const IP_AT: usize = 14;
const TCP_AT: usize = IP_AT + 20;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// A segment over IPv4, without the fields that nobody here needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) ports: (u16, u16),
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    /// Value and echo.
    pub(crate) timestamps: Option<(u32, u32)>,
    pub(crate) text: Vec<u8>,
}

impl Segment {
    /// The frame in which `from` sends it to the server.
    pub(crate) fn frame(&self, from: Ipv4Addr) -> Vec<u8> {
        let options_len = if self.timestamps.is_some() { 12 } else { 0 };
        let tcp_len = 20 + options_len + self.text.len();
        let mut frame = TO_DUT.to_vec();
        frame.extend([0x45, 0]);
        frame.extend((20 + tcp_len as u16).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        frame.extend(from.octets());
        frame.extend(SERVER.octets());
        let sum = checksum::of(&frame[IP_AT..]);
        frame[IP_AT + 10..IP_AT + 12].copy_from_slice(&sum);
        frame.extend(self.ports.0.to_be_bytes());
        frame.extend(self.ports.1.to_be_bytes());
        frame.extend(self.seq.to_be_bytes());
        frame.extend(self.ack.to_be_bytes());
        frame.extend([((20 + options_len) * 4) as u8, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        if let Some((value, echo)) = self.timestamps {
            frame.extend([1, 1, 8, 10]);
            frame.extend(value.to_be_bytes());
            frame.extend(echo.to_be_bytes());
        }
        frame.extend(&self.text);
        let sum = Sum::pseudo_v4(from, SERVER, 6, tcp_len).with(&frame[TCP_AT..]).checksum();
        frame[TCP_AT + 16..TCP_AT + 18].copy_from_slice(&sum);
        frame
    }

    /// What a frame holds, if it is TCP over IPv4 without options of IP.
    pub(crate) fn parse(frame: &[u8]) -> Option<Self> {
        if frame.len() < TCP_AT + 20 || frame[12..15] != [8, 0, 0x45] || frame[IP_AT + 9] != 6 {
            return None;
        }
        let tcp = &frame[TCP_AT..];
        let u16_at = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let u32_at = |at: usize| u32::from_be_bytes(*tcp[at..].first_chunk().unwrap());
        let header_len = usize::from(tcp[12] >> 4) * 4;
        let end = usize::from(u16::from_be_bytes([frame[IP_AT + 2], frame[IP_AT + 3]])) - 20;
        let has_timestamps = header_len >= 32 && tcp[20..24] == [1, 1, 8, 10];
        Some(Self {
            ports: (u16_at(0), u16_at(2)),
            seq: u32_at(4),
            ack: u32_at(8),
            flags: tcp[13],
            timestamps: has_timestamps.then(|| (u32_at(24), u32_at(28))),
            text: tcp[header_len..end].to_vec(),
        })
    }
}

/// The link, between the two hosts.
pub(crate) struct Link {
    port: PacketPort,
    pool: Pool,
    ledger: Ledger,
    batch: Batch,
}

impl Link {
    pub(crate) fn on(lab: &Lab) -> Self {
        let region = Region::in_process(RegionConfig { chunks: 8_192, huge_pages: false, ..Default::default() });
        let port = lab.client().enter(open).unwrap();
        Self { port, pool: Pool::new(region.unwrap()), ledger: Ledger::default(), batch: Batch::default() }
    }

    /// Segments from the server that have come since the last time.
    pub(crate) fn seen(&mut self) -> Vec<Segment> {
        let mut seen = Vec::new();
        while self.port.receive(&mut self.pool, &mut self.ledger, &mut self.batch, 64) > 0 {
            for frame in self.batch.drain() {
                let mut bytes = vec![0; frame.total_len()];
                frame.read_at(0, &mut bytes);
                seen.extend(Segment::parse(&bytes));
                self.pool.release(frame);
            }
            self.port.flush(&mut self.pool);
        }
        seen
    }

    /// Sends frames to the server, all of them.
    pub(crate) fn send(&mut self, frames: impl IntoIterator<Item = Vec<u8>>) {
        let end = Instant::now() + DEADLINE;
        let mut waiting = Batch::default();
        frames.into_iter().for_each(|frame| waiting.push(self.pool.allocate_copy(&frame).unwrap()));
        while !waiting.is_empty() {
            assert!(Instant::now() < end, "the link takes nothing");
            self.port.transmit(&mut self.pool, &mut waiting);
            self.port.flush(&mut self.pool);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.port.close(&mut self.pool);
    }
}

fn open() -> PacketPort {
    let link = Control::open().unwrap().link_by_name("c0").unwrap();
    let config = PacketConfig {
        interface: link.name,
        ifindex: link.ifindex,
        mtu: link.mtu_bytes.into(),
        mac: link.mac.try_into().unwrap(),
        workers: 1,
        ring_size: 1_024,
        promiscuous: false,
    };
    packet::open(&config).unwrap().remove(0)
}
