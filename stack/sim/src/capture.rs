//! Frames as pcapng (draft-ietf-opsawg-pcapng), as seen at one end of a link.

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use tailwater_stack::Buffer;

use crate::buffer::SimBuffer;
use crate::path::Port;

/// As the node sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    In,
    Out,
}

/// One file. Times are those of the simulation, from the beginning of 1970 on.
pub struct Capture {
    writer: PcapNgWriter<BufWriter<Box<dyn Write + Send>>>,
    error: Option<io::Error>,
}

impl Capture {
    pub(crate) fn new(to: impl Write + Send + 'static, name: &str) -> io::Result<Self> {
        let to: Box<dyn Write + Send> = Box::new(to);
        let mut writer = PcapNgWriter::new(BufWriter::new(to)).map_err(io::Error::other)?;
        let interface = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: 0,
            options: vec![
                InterfaceDescriptionOption::IfName(name.into()),
                InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO),
            ],
        };
        writer.write_pcapng_block(interface).map_err(io::Error::other)?;
        Ok(Self { writer, error: None })
    }

    fn record(&mut self, direction: Direction, now_ns: u64, frame: &SimBuffer) {
        if self.error.is_some() {
            return;
        }
        let data: Vec<u8> = frame.segments().flatten().copied().collect();
        // Bits 0 and 1 of the flags: 01 inbound, 10 outbound.
        let flags = match direction {
            Direction::In => 1,
            Direction::Out => 2,
        };
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: Duration::from_nanos(now_ns),
            original_len: data.len() as u32,
            data: data.into(),
            options: vec![EnhancedPacketOption::Flags(flags)],
        };
        self.error = self.writer.write_pcapng_block(block).err().map(io::Error::other);
    }
}

/// All captures of a simulation.
#[derive(Default)]
pub(crate) struct Captures {
    captures: Vec<(Port, Capture)>,
}

impl Captures {
    pub(crate) fn add(&mut self, at: Port, capture: Capture) {
        self.captures.push((at, capture));
    }

    /// Moves those of a node.
    pub(crate) fn lend(&mut self, node: usize, other: &mut Self) {
        other.captures.extend(self.captures.extract_if(.., |(port, _)| port.node == node));
    }

    #[inline]
    pub(crate) fn record(&mut self, at: Port, direction: Direction, now_ns: u64, frame: &SimBuffer) {
        for (port, capture) in &mut self.captures {
            if *port == at {
                capture.record(direction, now_ns, frame);
            }
        }
    }

    /// Writes what is buffered, and ends all captures.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        for (_, mut capture) in self.captures.drain(..) {
            capture.error.map_or(Ok(()), Err)?;
            capture.writer.get_mut().flush()?;
        }
        Ok(())
    }
}
