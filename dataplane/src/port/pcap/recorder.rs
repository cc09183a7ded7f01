//! Packets into pcapng files, without a worker ever waiting for a disk.
//!
//! ```text
//!  worker: record() -- copy --> full --> writer thread --> file
//!              ^                               |
//!              +----------- free <-------------+      buffers go round; both queues are lock-free and bounded
//! ```
//!
//! A worker takes an empty buffer, copies the packet and puts it on the queue; when there is none the packet is missed,
//! and counted. The writer looks every millisecond, so that no system call is needed to wake it. When the last holder
//! lets go of a recorder, the rest of the queue is written, the file completed and the thread joined.

mod file;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use crate::clock;
use crate::frame::Frame;
use crate::port::PortError;
use file::Files;

/// How often the writer looks for packets while there are none.
const POLL: Duration = Duration::from_millis(1);
/// How often the wall clock is read again.
const CLOCK_AGE_MAX_NS: u64 = 1_000_000_000;
/// What a buffer holds before it first has to grow: an ordinary Ethernet frame.
const BUFFER_LEN: usize = 2048;

/// What to record, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecorderConfig {
    /// File, overwritten if it exists; `-` is standard output.
    pub path: String,
    /// Bytes kept of a packet; 0 keeps all.
    pub snap_bytes: usize,
    /// Packets that may wait for the disk, 1 to 1,048,576. Each takes 2 KiB, more if packets are larger.
    pub queue_packets: usize,
    /// Packets to record; 0 is without end.
    pub count_max: u64,
    /// Size after which a next file is begun, in bytes; 0 puts everything into one. Files are numbered:
    /// `name_00001.pcapng`.
    pub file_bytes_max: u64,
    /// Numbered files to keep, the newest ones; 0 keeps all.
    pub files: u32,
    /// Names of the ports, by index, for the file's interface descriptions.
    pub interfaces: Vec<String>,
    /// Filter expression, to be noted in the file.
    pub filter: String,
}

impl Default for RecorderConfig {
    fn default() -> Self {
        Self {
            path: String::new(),
            snap_bytes: 0,
            queue_packets: 8192,
            count_max: 0,
            file_bytes_max: 0,
            files: 0,
            interfaces: Vec::new(),
            filter: String::new(),
        }
    }
}

/// Which way a packet went, as seen from the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Not told.
    #[default]
    Unknown,
    /// Received.
    Inbound,
    /// Sent.
    Outbound,
}

/// What became of a packet that was to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// On its way to the file.
    Recorded,
    /// The queue was full.
    Missed,
    /// As many as were asked for had been recorded before.
    Enough,
}

/// What a recorder counts, over all its workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecorderCounters {
    /// Packets put on the queue.
    pub captured: u64,
    /// Packets for which the queue had no room.
    pub missed: u64,
    /// Packets written to a file.
    pub written: u64,
    /// Packets that could not be written (disk full, pipe closed).
    pub failed: u64,
}

/// A packet on its way to the writer.
pub(crate) struct Record {
    port: u16,
    direction: Direction,
    wire_len: u32,
    /// Packets missed since the one before.
    missed_before: u64,
    /// Monotonic.
    time_ns: u64,
    bytes: Vec<u8>,
}

struct Shared {
    free: ArrayQueue<Record>,
    full: ArrayQueue<Record>,
    stop: AtomicBool,
    captured: AtomicU64,
    missed: AtomicU64,
    missed_unreported: AtomicU64,
    written: AtomicU64,
    failed: AtomicU64,
}

/// A capture file being written.
pub struct Recorder {
    shared: Arc<Shared>,
    snap_bytes: usize,
    count_max: u64,
    writer: Option<JoinHandle<()>>,
}

/// Recorders alive, so that all workers' blocks write to one file.
static RECORDERS: Mutex<Vec<(RecorderConfig, Weak<Recorder>)>> = Mutex::new(Vec::new());

impl Recorder {
    /// Opens a file, or joins those who write to it already with the same configuration.
    pub fn shared(config: &RecorderConfig) -> Result<Arc<Self>, PortError> {
        let mut recorders = RECORDERS.lock().unwrap_or_else(PoisonError::into_inner);
        recorders.retain(|(_, recorder)| recorder.strong_count() > 0);
        for (known, recorder) in recorders.iter() {
            let Some(recorder) = recorder.upgrade().filter(|_| known.path == config.path) else { continue };
            if known != config {
                let error = "another capture with other parameters writes to it; choose another file".into();
                return Err(PortError::File { path: config.path.clone(), error });
            }
            return Ok(recorder);
        }
        let recorder = Arc::new(Self::open(config)?);
        recorders.push((config.clone(), Arc::downgrade(&recorder)));
        Ok(recorder)
    }

    fn open(config: &RecorderConfig) -> Result<Self, PortError> {
        let failed = |error: io::Error| PortError::File { path: config.path.clone(), error: hint(&error) };
        let mut files = Files::create(config).map_err(failed)?;
        let queue_packets = config.queue_packets.clamp(1, 1 << 20);
        let shared = Arc::new(Shared {
            free: ArrayQueue::new(queue_packets),
            full: ArrayQueue::new(queue_packets),
            stop: AtomicBool::new(false),
            captured: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            missed_unreported: AtomicU64::new(0),
            written: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let buffer_len = if config.snap_bytes == 0 { BUFFER_LEN } else { config.snap_bytes.min(BUFFER_LEN) };
        for _ in 0..queue_packets {
            let bytes = Vec::with_capacity(buffer_len);
            let empty =
                Record { port: 0, direction: Direction::Unknown, wire_len: 0, missed_before: 0, time_ns: 0, bytes };
            let pushed = shared.free.push(empty);
            debug_assert!(pushed.is_ok(), "as many slots as buffers");
        }
        let for_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("tailwater/pcap".into())
            .spawn(move || write_all(&for_writer, &mut files))
            .map_err(failed)?;
        Ok(Self { shared, snap_bytes: config.snap_bytes, count_max: config.count_max, writer: Some(writer) })
    }

    /// Copies a packet to the queue. Never waits. `time_ns` is of the monotonic clock.
    pub fn record(&self, frame: &Frame, port: u16, direction: Direction, time_ns: u64) -> Outcome {
        let shared = &*self.shared;
        if self.count_max > 0 && shared.captured.load(Ordering::Relaxed) >= self.count_max {
            return Outcome::Enough;
        }
        let Some(mut record) = shared.free.pop() else {
            shared.missed.fetch_add(1, Ordering::Relaxed);
            shared.missed_unreported.fetch_add(1, Ordering::Relaxed);
            return Outcome::Missed;
        };
        if shared.captured.fetch_add(1, Ordering::Relaxed) >= self.count_max && self.count_max > 0 {
            shared.captured.fetch_sub(1, Ordering::Relaxed);
            let pushed = shared.free.push(record);
            debug_assert!(pushed.is_ok(), "the slot it came from is free");
            return Outcome::Enough;
        }
        let wire_len = frame.total_len();
        let mut left = if self.snap_bytes == 0 { wire_len } else { wire_len.min(self.snap_bytes) };
        record.bytes.clear();
        for segment in frame.segments() {
            let n = left.min(segment.len());
            record.bytes.extend_from_slice(&segment[..n]);
            left -= n;
        }
        (record.port, record.direction, record.time_ns) = (port, direction, time_ns);
        record.wire_len = wire_len as u32;
        record.missed_before = match shared.missed_unreported.load(Ordering::Relaxed) {
            0 => 0,
            _ => shared.missed_unreported.swap(0, Ordering::Relaxed),
        };
        let pushed = shared.full.push(record);
        debug_assert!(pushed.is_ok(), "as many slots as buffers");
        Outcome::Recorded
    }

    /// What has been counted so far.
    pub fn counters(&self) -> RecorderCounters {
        RecorderCounters {
            captured: self.shared.captured.load(Ordering::Relaxed),
            missed: self.shared.missed.load(Ordering::Relaxed),
            written: self.shared.written.load(Ordering::Relaxed),
            failed: self.shared.failed.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(writer) = self.writer.take() {
            writer.thread().unpark();
            if writer.join().is_err() {
                tracing::error!("the writer of a capture file panicked; the file may be incomplete");
            }
        }
    }
}

/// The writer thread: until the recorder is dropped and the queue is empty.
fn write_all(shared: &Shared, files: &mut Files) {
    let mut wall = WallClock::read();
    loop {
        // Read before the queue is found empty: nothing is recorded after it was set.
        let stop = shared.stop.load(Ordering::Acquire);
        wall.refresh();
        let mut wrote = false;
        while let Some(record) = shared.full.pop() {
            wrote = true;
            match files.write(&record, wall.time(record.time_ns)) {
                Ok(()) => shared.written.fetch_add(1, Ordering::Relaxed),
                Err(()) => shared.failed.fetch_add(1, Ordering::Relaxed),
            };
            let pushed = shared.free.push(record);
            debug_assert!(pushed.is_ok(), "as many slots as buffers");
        }
        if wrote {
            continue;
        }
        // What has been captured is on disk before the writer sleeps, for whoever follows the file.
        files.flush();
        if stop {
            let counted = [&shared.captured, &shared.missed].map(|counter| counter.load(Ordering::Relaxed));
            return files.finish(wall.time(clock::now_ns()), counted);
        }
        std::thread::park_timeout(POLL);
    }
}

/// Monotonic time to time since 1970.
struct WallClock {
    read_ns: u64,
    /// Time since 1970 minus monotonic time.
    offset_ns: i128,
}

impl WallClock {
    fn read() -> Self {
        let wall = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let wall_ns = i128::from(wall.tv_sec) * 1_000_000_000 + i128::from(wall.tv_nsec);
        let read_ns = clock::now_ns();
        Self { read_ns, offset_ns: wall_ns - i128::from(read_ns) }
    }

    /// The two clocks drift apart by what NTP corrects, and jump apart when somebody sets the time.
    fn refresh(&mut self) {
        if clock::now_ns().saturating_sub(self.read_ns) > CLOCK_AGE_MAX_NS {
            *self = Self::read();
        }
    }

    fn time(&self, monotonic_ns: u64) -> Duration {
        let wall_ns = i128::from(monotonic_ns) + self.offset_ns;
        Duration::from_nanos(u64::try_from(wall_ns).unwrap_or(0))
    }
}

fn hint(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::NotFound => "make its folder first",
        io::ErrorKind::PermissionDenied => "choose a file in a folder that you may write to, such as /tmp",
        io::ErrorKind::IsADirectory => "that is a folder; name a file in it",
        io::ErrorKind::InvalidInput => "see `files` and `file_size_mb`",
        _ => "choose another file",
    };
    format!("{error}; {advice}")
}
