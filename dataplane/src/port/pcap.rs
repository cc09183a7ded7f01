//! A port whose packets come from a capture file and go to one.
//!
//! Replay reads pcap and pcapng into memory when the port is opened, so that a worker's turn never waits for a disk, and
//! copies each packet into a frame when it is due. Recording copies into the bounded queue of a [`Recorder`]; while that
//! is full, `transmit` leaves frames in the batch like any full ring. Without a recording what is sent is discarded.
//! Packets cut by the snap length of the capture are replayed as they were cut.

mod recorder;
mod replay;

pub use recorder::{Direction, Outcome, Recorder, RecorderConfig, RecorderCounters};
pub use replay::{ReplayConfig, Speed};

use std::sync::Arc;

use super::{Capabilities, Port, PortCounters, PortError};
use crate::clock;
use crate::frame::{Batch, Pool, Region, SEGMENTS_MAX};
use crate::ledger::{DropReason, Ledger};
use replay::Replay;

/// A capture file as a port.
pub struct PcapPort {
    name: String,
    number: u16,
    replay: Option<Replay>,
    recorder: Option<Arc<Recorder>>,
    /// Largest packet that a chain of frames holds, in bytes.
    packet_max: usize,
    capabilities: Capabilities,
    counters: PortCounters,
}

impl PcapPort {
    /// Reads the file to replay, if any, and opens the one to record to, if any.
    pub fn open(
        region: &Region,
        name: &str,
        replay: Option<&ReplayConfig>,
        record: Option<&RecorderConfig>,
    ) -> Result<Self, PortError> {
        let replay = replay.map(Replay::load).transpose()?;
        let recorder = record.map(Recorder::shared).transpose()?;
        let packet_max = SEGMENTS_MAX * region.segment_max();
        let mode = match (&replay, &recorder) {
            (Some(replay), Some(_)) => format!("replay of {} packets, recording", replay.len()),
            (Some(replay), None) => format!("replay of {} packets", replay.len()),
            (None, Some(_)) => "recording".into(),
            (None, None) => "nothing to replay or record".into(),
        };
        Ok(Self {
            name: name.to_owned(),
            number: 0,
            replay,
            recorder,
            packet_max,
            capabilities: Capabilities {
                backend: "pcap",
                mode,
                mtu: packet_max as u32,
                queues: 1,
                multi_buffer: true,
                ..Capabilities::default()
            },
            counters: PortCounters::default(),
        })
    }

    /// Whether everything has been replayed.
    pub fn finished(&self) -> bool {
        self.replay.as_ref().is_none_or(Replay::finished)
    }
}

impl Port for PcapPort {
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
        let Some(replay) = self.replay.as_mut().filter(|replay| !replay.finished()) else { return 0 };
        let now_ns = clock::now_ns();
        let mut received = 0;
        while received < max {
            let Some(packet) = replay.due(now_ns) else { break };
            if packet.len() > self.packet_max {
                ledger.count(DropReason::TooManySegments);
            } else if let Some(mut frame) = pool.allocate_copy(packet) {
                frame.set_port(self.number);
                batch.push(frame);
            } else {
                self.counters.refill_starved += 1;
                break;
            }
            self.counters.rx_packets += 1;
            self.counters.rx_bytes += packet.len() as u64;
            replay.advance();
            received += 1;
        }
        received
    }

    fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) -> usize {
        let now_ns = clock::now_ns();
        let mut taken = 0;
        for frame in batch.iter() {
            if let Some(recorder) = &self.recorder
                && recorder.record(frame, 0, Direction::Outbound, now_ns) == Outcome::Missed
            {
                break;
            }
            taken += 1;
            self.counters.tx_packets += 1;
            self.counters.tx_bytes += frame.total_len() as u64;
        }
        batch.drain_front(taken).for_each(|frame| pool.release(frame));
        taken
    }

    fn flush(&mut self, _pool: &mut Pool) {}

    fn counters(&self) -> PortCounters {
        self.counters
    }

    fn close(&mut self, _pool: &mut Pool) {
        // The last holder of the recorder waits for the file to be complete.
        self.recorder = None;
    }
}
