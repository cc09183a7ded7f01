//! Capture files as a source of packets.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};

use crate::port::PortError;

/// Most packet bytes that a replay keeps in memory.
const BYTES_MAX: usize = 1 << 30;
/// First four bytes of a pcapng file: its section header block's type, the same in both byte orders.
const PCAPNG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// How fast to replay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// Every packet as soon as it is asked for.
    Full,
    /// With the original gaps divided by this factor: 1.0 is the original timing, 2.0 twice as fast.
    Scaled(f64),
}

/// What to replay.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayConfig {
    /// A pcap or pcapng file with Ethernet frames, of at most 1 GiB of packets.
    pub path: String,
    /// How fast.
    pub speed: Speed,
    /// How often; 0 is without end.
    pub loops: u64,
}

struct Packet {
    at: usize,
    len: usize,
    /// Since the first packet, in the original timing. Never falls from one packet to the next.
    offset_ns: u64,
}

/// A file in memory, and how far it has been replayed.
pub(super) struct Replay {
    bytes: Vec<u8>,
    packets: Vec<Packet>,
    speed: Speed,
    loops: u64,
    rounds_done: u64,
    next: usize,
    /// When the first packet of this round was due.
    round_started_ns: Option<u64>,
}

impl Replay {
    pub(super) fn load(config: &ReplayConfig) -> Result<Self, PortError> {
        let failed = |error: String| PortError::File { path: config.path.clone(), error };
        if let Speed::Scaled(factor) = config.speed
            && !(factor.is_finite() && factor > 0.0)
        {
            return Err(failed(format!("cannot replay {factor} times as fast; the factor must be above 0")));
        }
        let mut loaded = Self {
            bytes: Vec::new(),
            packets: Vec::new(),
            speed: config.speed,
            loops: config.loops,
            rounds_done: 0,
            next: 0,
            round_started_ns: None,
        };
        let opened = File::open(&config.path).and_then(|mut file| {
            let mut magic = [0; 4];
            let read = file.read(&mut magic)?;
            file.seek(SeekFrom::Start(0))?;
            Ok((file, read == 4 && magic == PCAPNG_MAGIC))
        });
        let (file, is_pcapng) = opened.map_err(|error| failed(error.to_string()))?;
        let reader = BufReader::with_capacity(1 << 20, file);
        if is_pcapng { loaded.read_pcapng(reader) } else { loaded.read_pcap(reader) }.map_err(failed)?;
        if loaded.packets.is_empty() {
            return Err(failed("there is no packet in it".into()));
        }
        Ok(loaded)
    }

    fn read_pcap(&mut self, reader: impl Read) -> Result<(), String> {
        let mut reader = PcapReader::new(reader).map_err(|error| {
            format!("neither pcap nor pcapng ({error}); capture with `tailwater capture` or tcpdump")
        })?;
        is_ethernet(reader.header().datalink)?;
        let mut first = None;
        while let Some(packet) = reader.next_packet() {
            let packet = packet.map_err(|error| self.broken(error))?;
            self.add(packet.data(), packet.timestamp(), &mut first)?;
        }
        Ok(())
    }

    fn read_pcapng(&mut self, reader: impl Read) -> Result<(), String> {
        let mut reader = PcapNgReader::new(reader).map_err(|error| format!("broken pcapng file ({error})"))?;
        let mut first = None;
        while let Some(block) = reader.next_block() {
            let (block, _) = block.map_err(|error| self.broken(error))?;
            match block {
                Block::InterfaceDescription(interface) => is_ethernet(interface.linktype)?,
                Block::EnhancedPacket(packet) => self.add(&packet.data, packet.timestamp, &mut first)?,
                Block::Packet(packet) => self.add(&packet.data, packet.timestamp, &mut first)?,
                // It has no time: as soon as the one before it.
                Block::SimplePacket(packet) => {
                    let time = first.unwrap_or_default() + Duration::from_nanos(self.last_offset_ns());
                    self.add(&packet.data, time, &mut first)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, data: &[u8], time: Duration, first: &mut Option<Duration>) -> Result<(), String> {
        if self.bytes.len() + data.len() > BYTES_MAX {
            return Err(format!("more than {} MiB of packets; split it with `editcap -c`", BYTES_MAX >> 20));
        }
        let since_first = time.saturating_sub(*first.get_or_insert(time));
        let offset_ns = u64::try_from(since_first.as_nanos()).unwrap_or(u64::MAX).max(self.last_offset_ns());
        self.packets.push(Packet { at: self.bytes.len(), len: data.len(), offset_ns });
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    fn broken(&self, error: impl std::fmt::Display) -> String {
        format!("broken after {} packets ({error}); `editcap` saves what can be read", self.packets.len())
    }

    fn last_offset_ns(&self) -> u64 {
        self.packets.last().map_or(0, |packet| packet.offset_ns)
    }

    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }

    pub(super) fn finished(&self) -> bool {
        self.loops > 0 && self.rounds_done >= self.loops
    }

    /// The next packet, if it is due.
    pub(super) fn due(&mut self, now_ns: u64) -> Option<&[u8]> {
        if self.finished() {
            return None;
        }
        let packet = self.packets.get(self.next)?;
        if let Speed::Scaled(factor) = self.speed {
            let started_ns = *self.round_started_ns.get_or_insert(now_ns);
            if now_ns < started_ns.saturating_add((packet.offset_ns as f64 / factor) as u64) {
                return None;
            }
        }
        self.bytes.get(packet.at..packet.at + packet.len)
    }

    /// Goes on to the packet after the one which was due.
    pub(super) fn advance(&mut self) {
        self.next += 1;
        if self.next < self.packets.len() {
            return;
        }
        self.next = 0;
        self.rounds_done += 1;
        // The next round starts where the last packet of this one was due.
        if let (Speed::Scaled(factor), Some(started_ns)) = (self.speed, self.round_started_ns) {
            let length_ns = (self.last_offset_ns() as f64 / factor) as u64;
            self.round_started_ns = Some(started_ns.saturating_add(length_ns));
        }
    }
}

fn is_ethernet(link: DataLink) -> Result<(), String> {
    match link {
        DataLink::ETHERNET => Ok(()),
        other => Err(format!("its link type is {other:?}, not Ethernet; capture on an Ethernet interface")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(speed: Speed, loops: u64) -> Replay {
        let mut replay = Replay {
            bytes: Vec::new(),
            packets: Vec::new(),
            speed,
            loops,
            rounds_done: 0,
            next: 0,
            round_started_ns: None,
        };
        let mut first = None;
        for (n, at_us) in [100u64, 300, 250, 600].into_iter().enumerate() {
            replay.add(&[n as u8], Duration::from_micros(at_us), &mut first).unwrap();
        }
        replay
    }

    fn due(replay: &mut Replay, now_ns: u64) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(packet) = replay.due(now_ns).map(<[u8]>::to_vec) {
            all.extend(packet);
            replay.advance();
        }
        all
    }

    #[test]
    fn gaps_shrink_by_the_factor_and_time_never_runs_back() {
        let mut replay = replay(Speed::Scaled(2.0), 1);
        assert_eq!(due(&mut replay, 1_000_000), [0]);
        assert_eq!(due(&mut replay, 1_099_999), []);
        assert_eq!(due(&mut replay, 1_100_000), [1, 2]);
        assert_eq!(due(&mut replay, 1_250_000), [3]);
        assert!(replay.finished());
    }

    #[test]
    fn rounds_follow_each_other_without_a_gap() {
        let mut replay = replay(Speed::Scaled(1.0), 2);
        assert_eq!(due(&mut replay, 0), [0]);
        assert_eq!(due(&mut replay, 500_000), [1, 2, 3, 0]);
        assert_eq!(due(&mut replay, 1_000_000), [1, 2, 3]);
        assert!(replay.finished());
    }

    #[test]
    fn at_full_speed_everything_is_due_at_once() {
        assert_eq!(due(&mut replay(Speed::Full, 2), 0), [0, 1, 2, 3, 0, 1, 2, 3]);
    }
}
