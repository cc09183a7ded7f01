//! One capture file, or a series of numbered ones, in pcapng (draft-ietf-opsawg-pcapng).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};

use super::{Direction, Record, RecorderConfig};

/// Bytes collected before the file is written to.
const BUFFER_LEN: usize = 1 << 20;

type Writer = PcapNgWriter<BufWriter<Box<dyn Write + Send>>>;

pub(super) struct Files {
    config: RecorderConfig,
    /// `None` after a failure: nothing more is written.
    writer: Option<Writer>,
    /// The interface number in the file of each port; they are described when first seen.
    interfaces: Vec<Option<u32>>,
    described: u32,
    written_bytes: u64,
    dirty: bool,
    /// Number of the file, from 1.
    number: u64,
    kept: VecDeque<PathBuf>,
}

impl Files {
    pub(super) fn create(config: &RecorderConfig) -> io::Result<Self> {
        if config.path == "-" && config.file_bytes_max > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "standard output cannot be split into files"));
        }
        if config.files > 0 && config.file_bytes_max == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "several files need a size after which to go on"));
        }
        let mut files = Self {
            config: config.clone(),
            writer: None,
            interfaces: Vec::new(),
            described: 0,
            written_bytes: 0,
            dirty: false,
            number: 0,
            kept: VecDeque::new(),
        };
        files.begin()?;
        files.writer.as_mut().map_or(Ok(()), |writer| writer.get_mut().flush())?;
        Ok(files)
    }

    /// Begins the next file, and removes the oldest one if there are too many.
    fn begin(&mut self) -> io::Result<()> {
        self.number += 1;
        let path = match self.config.file_bytes_max {
            0 => PathBuf::from(&self.config.path),
            _ => numbered(Path::new(&self.config.path), self.number),
        };
        let sink: Box<dyn Write + Send> =
            if self.config.path == "-" { Box::new(io::stdout()) } else { Box::new(File::create(&path)?) };
        let section = SectionHeaderBlock {
            options: vec![
                SectionHeaderOption::OS("Linux".into()),
                SectionHeaderOption::UserApplication(concat!("tailwater ", env!("CARGO_PKG_VERSION")).into()),
            ],
            ..SectionHeaderBlock::default()
        };
        let writer = PcapNgWriter::with_section_header(BufWriter::with_capacity(BUFFER_LEN, sink), section);
        self.writer = Some(writer.map_err(io::Error::other)?);
        (self.written_bytes, self.described, self.dirty) = (0, 0, true);
        self.interfaces.clear();
        self.kept.push_back(path);
        if self.config.files > 0
            && self.kept.len() > self.config.files as usize
            && let Some(oldest) = self.kept.pop_front()
            && let Err(error) = std::fs::remove_file(&oldest)
        {
            tracing::warn!(file = %oldest.display(), %error, "an old capture file could not be removed");
        }
        Ok(())
    }

    /// Writes a packet that was captured at `time`.
    pub(super) fn write(&mut self, record: &Record, time: Duration) -> Result<(), ()> {
        self.try_write(record, time).map_err(|error| self.give_up(&error))
    }

    fn try_write(&mut self, record: &Record, time: Duration) -> io::Result<()> {
        if self.writer.is_none() {
            return Err(io::Error::other("given up before"));
        }
        if self.config.file_bytes_max > 0 && self.written_bytes >= self.config.file_bytes_max {
            self.flush_or_fail()?;
            self.begin()?;
        }
        let interface_id = self.interface(record.port)?;
        let mut options = Vec::new();
        // Bits 0 and 1 of the flags: 01 inbound, 10 outbound.
        match record.direction {
            Direction::Unknown => {}
            Direction::Inbound => options.push(EnhancedPacketOption::Flags(1)),
            Direction::Outbound => options.push(EnhancedPacketOption::Flags(2)),
        }
        if record.missed_before > 0 {
            options.push(EnhancedPacketOption::DropCount(record.missed_before));
        }
        let block = EnhancedPacketBlock {
            interface_id,
            timestamp: time,
            original_len: record.wire_len,
            data: record.bytes.as_slice().into(),
            options,
        };
        self.put(block)
    }

    fn put<'a>(&mut self, block: impl pcap_file::pcapng::PcapNgBlock<'a>) -> io::Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        self.written_bytes += writer.write_pcapng_block(block).map_err(io::Error::other)? as u64;
        self.dirty = true;
        Ok(())
    }

    /// The file's number for a port, which is described in the file the first time.
    fn interface(&mut self, port: u16) -> io::Result<u32> {
        let at = usize::from(port);
        if let Some(Some(known)) = self.interfaces.get(at) {
            return Ok(*known);
        }
        let name = self.config.interfaces.get(at).cloned().unwrap_or_else(|| format!("port{port}"));
        let mut options = vec![
            InterfaceDescriptionOption::IfName(name.into()),
            InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO),
        ];
        if !self.config.filter.is_empty() {
            // The first byte says what sort of filter: 0 is a libpcap expression.
            let filter = [&[0], self.config.filter.as_bytes()].concat();
            options.push(InterfaceDescriptionOption::IfFilter(filter.into()));
        }
        self.put(InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: self.config.snap_bytes as u32,
            options,
        })?;
        if self.interfaces.len() <= at {
            self.interfaces.resize(at + 1, None);
        }
        let number = self.described;
        self.interfaces[at] = Some(number);
        self.described += 1;
        Ok(number)
    }

    pub(super) fn flush(&mut self) {
        if let Err(error) = self.flush_or_fail() {
            self.give_up(&error);
        }
    }

    fn flush_or_fail(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.dirty)
            && let Some(writer) = &mut self.writer
        {
            writer.get_mut().flush()?;
        }
        Ok(())
    }

    /// Completes the file: for the first interface, packets captured and missed.
    pub(super) fn finish(&mut self, time: Duration, [captured, missed]: [u64; 2]) {
        if self.described > 0 {
            let statistics = InterfaceStatisticsBlock {
                interface_id: 0,
                timestamp: time,
                options: vec![
                    InterfaceStatisticsOption::IsbIfRecv(captured + missed),
                    InterfaceStatisticsOption::IsbIfDrop(missed),
                ],
            };
            if let Err(error) = self.put(statistics) {
                self.give_up(&error);
            }
        }
        self.flush();
    }

    fn give_up(&mut self, error: &io::Error) {
        if let Some(writer) = self.writer.take() {
            tracing::error!(file = self.config.path, %error, "capture stopped: the file cannot be written");
            // Not dropped as it is: that would try to write the rest once more.
            drop(writer.into_inner().into_parts());
        }
    }
}

/// `name.pcapng` to `name_00001.pcapng`.
fn numbered(path: &Path, number: u64) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = match path.extension() {
        Some(extension) => format!("{stem}_{number:05}.{}", extension.to_string_lossy()),
        None => format!("{stem}_{number:05}"),
    };
    path.with_file_name(name)
}
