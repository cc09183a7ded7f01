//! The memory that all frames of a process live in: one UMEM, cut into chunks of equal size.
//!
//! ```text
//!  chunk, 2048 or 4096 bytes, aligned to its size
//! +--------------+-----------------------+-------------------------------------+
//! | ChunkHeader  | headroom              | packet                              |
//! | 64 B, ours   | 256 B, XDP's          | at most chunk_len - 320 B           |
//! +--------------+-----------------------+-------------------------------------+
//! 0              64                      320 = DATA_OFFSET
//! ```
//!
//! The kernel never touches the first 64 bytes (they are the UMEM's user headroom), writes received packets at
//! `DATA_OFFSET` and accepts packets for transmission anywhere in the chunk.
//!
//! Invariant: each chunk has exactly one owner at any time: the depot, a pool's cache, one ring, or one [`Frame`]; or two,
//! by the rules of [`sharing`](super::sharing), of which the last to go counts.
//! Ownership of a chunk is what makes access to its bytes exclusive; every `unsafe` here rests on that.

use std::num::NonZeroU32;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use crossbeam_queue::{ArrayQueue, SegQueue};
use xsk_rs::config::{QueueSize, UmemConfig};
use xsk_rs::umem::frame::FrameDesc;

use super::Frame;

/// Bytes at the start of each chunk that belong to us.
pub(crate) const HEADER_LEN: usize = 64;
/// Bytes that the kernel keeps free in front of a received packet (`XDP_PACKET_HEADROOM`).
pub(crate) const XDP_HEADROOM: usize = 256;
/// Where a packet starts in a fresh chunk.
pub const DATA_OFFSET: usize = HEADER_LEN + XDP_HEADROOM;
/// Chunks handed between a pool and the depot at a time.
pub(crate) const MAGAZINE_MAX: usize = 63;
/// Most chunks of a region: the distance between two is told in 31 bits.
const CHUNKS_MAX: usize = 1 << 30;
/// The kernel wants UMEM lengths that huge pages could hold.
const LENGTH_UNIT: usize = 2 << 20;

/// What a region is to be: sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub struct RegionConfig {
    /// 2048 (MTU up to 1728) or 4096 bytes.
    pub chunk_len: usize,
    /// Chunks wanted; the region holds at least 64 and is used only up to this number.
    pub chunks: usize,
    /// Whether huge pages are tried first.
    pub huge_pages: bool,
    /// Entries of the first AF_XDP socket's fill and completion rings (a power of two).
    pub ring_size: u32,
}

impl Default for RegionConfig {
    fn default() -> Self {
        Self { chunk_len: 2048, chunks: 16_384, huge_pages: true, ring_size: 2048 }
    }
}

/// The pages that a region got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// hugetlbfs pages of 2 MiB.
    Huge,
    /// Ordinary pages of 4 KiB, of which the kernel may make huge ones.
    Ordinary,
}

/// Why a region could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// A size outside its range.
    #[error("chunk length {0} is not 2048 or 4096; the kernel takes no other aligned chunk that fits a page")]
    ChunkLen(usize),
    /// More chunks than can be told apart.
    #[error("{0} frames are more than the {CHUNKS_MAX} that packet memory may have")]
    Chunks(usize),
    /// No memory for it.
    #[error("cannot map {bytes} bytes of packet memory ({error}); ask for fewer frames")]
    Map {
        /// Bytes asked for.
        bytes: usize,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// The kernel refused to register the memory with an AF_XDP socket.
    #[error("the kernel refused a UMEM ({0}); AF_XDP needs CAP_NET_RAW and CAP_IPC_LOCK (run as root)")]
    Umem(String),
}

enum Backing {
    Xsk(xsk_rs::Umem),
    Mapped(#[allow(dead_code, reason = "held to keep the mapping alive")] memmap2::MmapMut),
}

/// A batch of free chunks on its way between two pools.
pub(crate) struct Magazine {
    pub(crate) len: usize,
    pub(crate) chunks: [u32; MAGAZINE_MAX],
}

/// Our words at the start of a chunk. Only meaningful while the chunk is owned by a frame.
#[repr(C)]
pub(crate) struct ChunkHeader {
    /// Signed distance, in chunks, from this chunk to that of the next segment; 0 ends the chain.
    pub(crate) next: u32,
    /// Bytes of this segment (kept here for every segment but the first).
    pub(crate) len: u16,
    /// Offset of this segment in its chunk (likewise).
    pub(crate) head: u16,
    /// Bytes in all segments (first segment only).
    pub(crate) total_len: u32,
    /// Who held the frame last; kept up to date in debug builds.
    pub(crate) owner: u16,
}

/// Packet memory and the store of its free chunks, shared by all workers and ports of a process.
pub struct Region {
    base: NonNull<u8>,
    chunk_len: usize,
    /// Its binary logarithm: dividing by a length that is not a constant would cost more than a ring turn.
    chunk_shift: u32,
    chunks: usize,
    pages: Pages,
    backing: Option<Backing>,
    depot: ArrayQueue<Magazine>,
    /// Chunks from this one on were never given out. They are the last to be: what goes round stays few, and in caches.
    untouched: AtomicU32,
    /// Single chunks: frames dropped outside a pool's reach, and what the depot had no slot for.
    strays: SegQueue<u32>,
    strayed: AtomicU64,
    /// Whether AF_XDP sockets take packets in several chunks: the first that is bound decides for all.
    multi_buffer: OnceLock<bool>,
    /// A frame was shared at some time: see `sharing`.
    shares: AtomicBool,
    /// Chunks that a closed port left in a transmit ring: unsent, or given back without the ring saying so. At most as many
    /// as the transmit rings of the ports closed have slots.
    unsettled: SegQueue<u32>,
}

// SAFETY: `base` points to memory owned by `backing`; chunks are reached only through their unique owner.
#[allow(unsafe_code)]
unsafe impl Send for Region {}
// SAFETY: as above; the shared parts (depot, strays, counter) are themselves thread-safe.
#[allow(unsafe_code)]
unsafe impl Sync for Region {}

/// Regions alive, so that a frame dropped outside any pool finds its way home. Cold path only.
static REGIONS: Mutex<Vec<Weak<Region>>> = Mutex::new(Vec::new());

impl Region {
    /// Memory that AF_XDP sockets can use. Needs the privilege to open one.
    pub fn for_af_xdp(config: RegionConfig) -> Result<Arc<Self>, RegionError> {
        check(&config)?;
        let mapped_chunks = mapped_chunks(&config);
        let count = NonZeroU32::new(mapped_chunks as u32).ok_or(RegionError::ChunkLen(config.chunk_len))?;
        let umem_config = umem_config(&config)?;
        let open = |huge| xsk_rs::Umem::new(umem_config, count, huge);
        let (umem, descs, pages) = match config.huge_pages.then(|| open(true)) {
            Some(Ok((umem, descs))) => (umem, descs, Pages::Huge),
            _ => {
                let (umem, descs) = open(false).map_err(|error| {
                    RegionError::Umem(match std::error::Error::source(&error) {
                        Some(source) => format!("{error}: {source}"),
                        None => error.to_string(),
                    })
                })?;
                (umem, descs, Pages::Ordinary)
            }
        };
        let base = umem_base(&umem, &descs)?;
        Ok(Self::register(base, &config, Backing::Xsk(umem), pages))
    }

    /// Memory for ports that need no kernel: `memory`, `pcap`, tests. Needs no privilege.
    pub fn in_process(config: RegionConfig) -> Result<Arc<Self>, RegionError> {
        check(&config)?;
        let bytes = mapped_chunks(&config) * config.chunk_len;
        let map = |huge: bool| {
            let mut options = memmap2::MmapOptions::new();
            options.len(bytes);
            if huge {
                options.huge(Some(21));
            }
            options.map_anon()
        };
        let (mut memory, pages) = match config.huge_pages.then(|| map(true)) {
            Some(Ok(memory)) => (memory, Pages::Huge),
            _ => (map(false).map_err(|error| RegionError::Map { bytes, error })?, Pages::Ordinary),
        };
        if config.huge_pages && pages == Pages::Ordinary {
            // Where the kernel makes huge pages of ordinary ones for who asks; that it does not is no error.
            let _ = memory.advise(memmap2::Advice::HugePage);
        }
        // Older kernels make the pages when they are touched first.
        let _ = memory.advise(memmap2::Advice::PopulateWrite);
        let base = NonNull::from(&mut memory[0]);
        Ok(Self::register(base, &config, Backing::Mapped(memory), pages))
    }

    fn register(base: NonNull<u8>, config: &RegionConfig, backing: Backing, pages: Pages) -> Arc<Self> {
        let chunks = config.chunks.max(1);
        let depot = ArrayQueue::new(chunks / MAGAZINE_MAX + 256);
        let region = Arc::new(Self {
            base,
            chunk_len: config.chunk_len,
            chunk_shift: config.chunk_len.trailing_zeros(),
            chunks,
            pages,
            backing: Some(backing),
            depot,
            untouched: AtomicU32::new(0),
            strays: SegQueue::new(),
            strayed: AtomicU64::new(0),
            multi_buffer: OnceLock::new(),
            shares: AtomicBool::new(false),
            unsettled: SegQueue::new(),
        });
        let mut regions = REGIONS.lock().unwrap_or_else(PoisonError::into_inner);
        regions.retain(|known| known.strong_count() > 0);
        regions.push(Arc::downgrade(&region));
        region
    }

    /// Bytes of a chunk.
    pub fn chunk_len(&self) -> usize {
        self.chunk_len
    }

    /// Number of chunks in use by this region, wherever they are now.
    pub fn chunks(&self) -> usize {
        self.chunks
    }

    /// The pages that the memory consists of.
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// Largest segment that fits a chunk behind the standard headroom, in bytes.
    pub fn segment_max(&self) -> usize {
        self.chunk_len - DATA_OFFSET
    }

    /// Notes how a socket was bound.
    pub(crate) fn note_multi_buffer(&self, several_chunks: bool) {
        self.multi_buffer.get_or_init(|| several_chunks);
    }

    /// Whether AF_XDP sockets take packets in several chunks.
    pub(crate) fn is_multi_buffer(&self) -> bool {
        self.multi_buffer.get().is_some_and(|&several| several)
    }

    /// Whether a chunk may have two handles.
    #[inline]
    pub(super) fn shares(&self) -> bool {
        self.shares.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn note_sharing(&self) {
        if !self.shares() {
            self.shares.store(true, Ordering::Release);
        }
    }

    /// Frames that were dropped where no pool was at hand. They came home, but somebody forgot them.
    pub fn strayed(&self) -> u64 {
        self.strayed.load(Ordering::Relaxed)
    }

    /// Notes a chunk which a transmit ring that nobody serves any more still names. Whether it is there decides
    /// [`Self::settle`]: where the kernel drops a packet before it sends any, it gives the chunk back through the
    /// completion ring and leaves it in the transmit ring as well.
    pub(crate) fn leave_unsettled(&self, chunk: u32) {
        self.unsettled.push(chunk);
    }

    /// Brings home what transmit rings still held when their ports were closed. Only when all ports are closed and all
    /// pools gone: then a chunk that such a ring names is at home, or nowhere else. Returns how many came home.
    pub(crate) fn settle(&self) -> usize {
        let at_home = self.home_map();
        let mut unsent: Vec<u32> = std::iter::from_fn(|| self.unsettled.pop()).collect();
        unsent.retain(|&chunk| at_home.get(chunk as usize) == Some(&false));
        unsent.sort_unstable();
        unsent.dedup();
        self.deposit(&unsent);
        unsent.len()
    }

    /// For each chunk, whether it lies in the depot. Exact only while no worker runs.
    fn home_map(&self) -> Vec<bool> {
        let mut at_home = vec![false; self.chunks];
        let mut held = Vec::new();
        while let Some(magazine) = self.withdraw() {
            magazine.chunks[..magazine.len].iter().for_each(|&chunk| at_home[chunk as usize] = true);
            held.push(magazine);
        }
        held.iter().for_each(|magazine| self.deposit(&magazine.chunks[..magazine.len]));
        at_home
    }

    /// Chunks lying in the depot. Exact only while no worker runs.
    pub fn at_home(&self) -> usize {
        let mut held = Vec::new();
        let mut count = self.strays.len() + self.chunks - self.untouched.load(Ordering::Relaxed) as usize;
        while let Some(magazine) = self.depot.pop() {
            count += magazine.len;
            held.push(magazine);
        }
        for magazine in held {
            self.deposit(&magazine.chunks[..magazine.len]);
        }
        count
    }

    pub(crate) fn umem(&self) -> Option<&xsk_rs::Umem> {
        match &self.backing {
            Some(Backing::Xsk(umem)) => Some(umem),
            _ => None,
        }
    }

    /// Puts chunks back. The caller gives up ownership of them.
    pub(crate) fn deposit(&self, chunks: &[u32]) {
        for few in chunks.chunks(MAGAZINE_MAX) {
            let mut magazine = Magazine { len: few.len(), chunks: [0; MAGAZINE_MAX] };
            magazine.chunks[..few.len()].copy_from_slice(few);
            if let Err(magazine) = self.depot.push(magazine) {
                magazine.chunks[..magazine.len].iter().for_each(|&chunk| self.strays.push(chunk));
            }
        }
    }

    /// Takes some free chunks: a full magazine where there is one, else single ones, else such that were never used.
    pub(crate) fn withdraw(&self) -> Option<Magazine> {
        if let Some(magazine) = self.depot.pop() {
            return Some(magazine);
        }
        let mut magazine = Magazine { len: 0, chunks: [0; MAGAZINE_MAX] };
        while magazine.len < MAGAZINE_MAX {
            let Some(chunk) = self.strays.pop() else { break };
            magazine.chunks[magazine.len] = chunk;
            magazine.len += 1;
        }
        if magazine.len == 0 {
            let end = self.chunks as u32;
            let take = |from: u32| (from < end).then(|| end.min(from + MAGAZINE_MAX as u32));
            let from = self.untouched.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
            magazine.len = (end - from).min(MAGAZINE_MAX as u32) as usize;
            // The lowest number leaves a pool first.
            magazine
                .chunks
                .iter_mut()
                .zip((from..from + magazine.len as u32).rev())
                .for_each(|(to, chunk)| *to = chunk);
        }
        Some(magazine)
    }

    /// Address of a chunk's first byte.
    #[inline]
    pub(crate) fn chunk_ptr(&self, chunk: u32) -> NonNull<u8> {
        debug_assert!((chunk as usize) < self.chunks);
        // SAFETY: chunk indices come from `register` and never leave the region; the result stays inside the mapping.
        #[allow(unsafe_code)]
        unsafe {
            self.base.add((chunk as usize) << self.chunk_shift)
        }
    }

    /// Index of the chunk that holds the byte `offset` bytes from the region's start, if that lies in it.
    #[inline]
    pub(crate) fn chunk_at(&self, offset: usize) -> Option<u32> {
        let chunk = offset >> self.chunk_shift;
        (chunk < self.chunks).then_some(chunk as u32)
    }

    /// Where a byte lies, seen from the region's start: beyond its end if it is another region's.
    #[inline]
    pub(crate) fn offset_of(&self, byte: NonNull<u8>) -> usize {
        (byte.as_ptr() as usize).wrapping_sub(self.base.as_ptr() as usize)
    }

    /// Index of the chunk that a byte lies in; `None` for another region's.
    #[inline]
    pub(crate) fn chunk_of(&self, byte: NonNull<u8>) -> Option<u32> {
        self.chunk_at(self.offset_of(byte))
    }

    /// Brings home the chunks of a frame where no pool is at hand; `forgotten` ones are counted.
    pub(crate) fn adopt(frame: &Frame, forgotten: bool) {
        if forgotten && let Some(region) = Self::with(frame.data_ptr()) {
            region.strayed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(owner = super::owner::name(frame.owner()), "frame dropped outside its pool");
        }
        frame.for_each_chunk(Self::bring_home);
    }

    /// Brings a chunk home where no pool of its region is at hand. The caller gives up a handle on it.
    pub(super) fn bring_home(chunk: NonNull<u8>) {
        let Some(region) = Self::with(chunk) else { return };
        let Some(chunk) = region.chunk_of(chunk) else { return };
        if region.retire(chunk) {
            region.strays.push(chunk);
        }
    }

    /// The region that a byte lies in. None has it any more where that ended before its frames, and left them its memory.
    fn with(byte: NonNull<u8>) -> Option<Arc<Self>> {
        let regions = REGIONS.lock().unwrap_or_else(PoisonError::into_inner);
        regions.iter().filter_map(Weak::upgrade).find(|region| region.chunk_of(byte).is_some())
    }

    /// For each owner named in a chunk header, how many chunks are not at home. Debug builds name the blocks.
    /// Exact only while no worker runs.
    pub fn missing_by_owner(&self) -> Vec<(String, usize)> {
        let at_home = self.home_map();
        let mut missing = std::collections::BTreeMap::new();
        for chunk in (0..self.chunks).filter(|&chunk| !at_home[chunk]) {
            // SAFETY: reads one aligned u16 of a mapped header for a diagnosis; the caller stopped the workers.
            #[allow(unsafe_code)]
            let owner = unsafe { (*self.chunk_ptr(chunk as u32).cast::<ChunkHeader>().as_ptr()).owner };
            *missing.entry(super::owner::name(owner)).or_insert(0) += 1;
        }
        missing.into_iter().collect()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        self.settle();
        let home = self.at_home();
        if home != self.chunks {
            // A frame is still out there: unmapping its memory would be unsound, so the mapping stays.
            tracing::error!(missing = self.chunks - home, "packet memory released with frames outstanding");
            std::mem::forget(self.backing.take());
        }
    }
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Region({} x {} B, {:?} pages)", self.chunks, self.chunk_len, self.pages)
    }
}

fn check(config: &RegionConfig) -> Result<(), RegionError> {
    match config.chunk_len {
        2048 | 4096 if config.chunks > CHUNKS_MAX => Err(RegionError::Chunks(config.chunks)),
        2048 | 4096 => Ok(()),
        other => Err(RegionError::ChunkLen(other)),
    }
}

fn mapped_chunks(config: &RegionConfig) -> usize {
    (config.chunks * config.chunk_len).next_multiple_of(LENGTH_UNIT).max(LENGTH_UNIT) / config.chunk_len
}

fn umem_config(config: &RegionConfig) -> Result<UmemConfig, RegionError> {
    let invalid = |what: String| RegionError::Umem(what);
    let ring_size = QueueSize::new(config.ring_size).map_err(|e| invalid(e.to_string()))?;
    let frame_size = (config.chunk_len as u32).try_into().map_err(|e| invalid(format!("{e:?}")))?;
    UmemConfig::builder()
        .frame_size(frame_size)
        .frame_headroom(HEADER_LEN as u32)
        .fill_queue_size(ring_size)
        .comp_queue_size(ring_size)
        .build()
        .map_err(|e| invalid(e.to_string()))
}

fn umem_base(umem: &xsk_rs::Umem, descs: &[FrameDesc]) -> Result<NonNull<u8>, RegionError> {
    let first = descs.first().ok_or_else(|| RegionError::Umem("empty UMEM".into()))?;
    // SAFETY: `first` belongs to this UMEM and nobody else uses any frame of it yet.
    #[allow(unsafe_code)]
    let data = unsafe { umem.data(first) };
    let start = data.contents().as_ptr().cast_mut().wrapping_sub(first.addr());
    NonNull::new(start).ok_or_else(|| RegionError::Umem("null UMEM".into()))
}
