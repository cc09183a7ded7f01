//! Packets as move-only tokens.
//!
//! A [`Frame`] owns the chunk(s) of memory its packet lies in. It cannot be copied, so a packet is always in exactly
//! one place, and whoever lets go of it must say where it goes: to a port, to a block's output, or to the drop ledger.

mod batch;
mod buffer;
mod layout;
pub(crate) mod owner;
mod pool;
mod region;
mod sharing;
mod sum;
mod unsummed;

pub use batch::Batch;
pub use pool::Pool;
pub(crate) use region::ChunkHeader;
pub use region::{DATA_OFFSET, Pages, Region, RegionConfig, RegionError};

use std::ptr::NonNull;

use layout::{CHAINED, LARGE_CHUNK, LENT, Layout, TRACE_SHIFT, TRACE_SLOT};

/// Largest number of a slot that a mark can tell.
pub(crate) const TRACE_SLOT_MAX: u8 = TRACE_SLOT >> TRACE_SHIFT;

/// Most segments that one packet may have (Linux: `MAX_SKB_FRAGS` + 1).
pub const SEGMENTS_MAX: usize = 18;

/// Most segments that a packet may have before it is cut up for a port: 65,535 bytes in chunks of 2048, or in as many
/// fragments as the stack puts together.
pub const CHAIN_MAX: usize = 64;

/// Too little room in front of or behind the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the frame has no room for {wanted} more bytes there ({available} left)")]
pub struct NoRoom {
    /// Bytes asked for.
    pub wanted: usize,
    /// Bytes there are.
    pub available: usize,
}

/// One packet, in one chunk or (jumbo frames) a chain of chunks. It goes home wherever it is let go of: into the pool that it is
/// given to, or, from a pool of another region, through its own region's depot.
///
/// ```text
///  chunk start                 data                    data+len        chunk end
///  | header | headroom .......| packet (first segment) | tailroom .....|
///           HEADER_LEN         head
/// ```
pub struct Frame {
    data: NonNull<u8>,
    layout: Layout,
}

/// A frame on its way between two ends in one process: where its packet begins, and what it consists of.
#[derive(Clone, Copy)]
pub(crate) struct Passed {
    data: NonNull<u8>,
    layout: Layout,
}

impl Default for Passed {
    /// No frame.
    fn default() -> Self {
        Self { data: NonNull::dangling(), layout: Layout::default() }
    }
}

// SAFETY: it names a frame, and only its one taker makes use of that.
#[allow(unsafe_code)]
unsafe impl Send for Passed {}

// SAFETY: a frame owns its chunk exclusively, wherever it is.
#[allow(unsafe_code)]
unsafe impl Send for Frame {}

impl Frame {
    /// Takes ownership of a chunk.
    ///
    /// # Safety
    /// The caller owns chunk `chunk` of `region`, and `head + len` lies within a chunk, `head >= HEADER_LEN`.
    #[inline]
    #[allow(unsafe_code)]
    pub(crate) unsafe fn from_chunk(region: &Region, chunk: u32, head: usize, len: usize) -> Self {
        debug_assert!(head >= region::HEADER_LEN && head + len <= region.chunk_len());
        // SAFETY: `head` is within the chunk.
        let data = unsafe { region.chunk_ptr(chunk).add(head) };
        let flags = if region.chunk_len() == 4096 { LARGE_CHUNK } else { 0 };
        Self { data, layout: Layout::new(head, len, flags) }
    }

    /// Names the frame for another end in this process.
    #[inline]
    pub(crate) fn passed(&self) -> Passed {
        Passed { data: self.data, layout: self.layout.of_packet() }
    }

    /// The frame that was given up, as received by the port `port`.
    ///
    /// # Safety
    /// Whoever [`passed`](Self::passed) it on was its owner and forgot it; it is taken once.
    #[inline]
    #[allow(unsafe_code)]
    pub(crate) unsafe fn from_passed(passed: Passed, port: u16) -> Self {
        let Passed { data, mut layout } = passed;
        layout.set_port(port);
        Self { data, layout }
    }

    /// The bytes of the first segment: of the whole packet unless [`is_chained`](Self::is_chained).
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `data..data+len` lies in the chunk that this frame owns.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.data.as_ptr(), self.layout.len())
        }
    }

    /// The bytes of the first segment, to write; only the headers while another handle holds the payload.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes the access exclusive; of a shared chunk these are the bytes that
        // the other handle does not reach.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.data.as_ptr(), self.writable_len())
        }
    }

    /// Bytes in the first segment.
    #[inline]
    pub fn len(&self) -> usize {
        self.layout.len()
    }

    /// Whether the first segment holds nothing.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.layout.len() == 0
    }

    /// Bytes in the whole packet.
    #[inline]
    pub fn total_len(&self) -> usize {
        if self.is_chained() { self.header().total_len as usize } else { self.layout.len() }
    }

    /// Whether the packet goes on in further chunks.
    #[inline]
    pub fn is_chained(&self) -> bool {
        self.layout.flags() & CHAINED != 0
    }

    /// Free bytes in front of the packet.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.claimable()
    }

    /// Free bytes behind the first segment.
    #[inline]
    pub fn tailroom(&self) -> usize {
        if self.is_shared() { 0 } else { self.chunk_len() - self.layout.head() - self.layout.len() }
    }

    /// Index of the port that the frame came in by.
    #[inline]
    pub fn port(&self) -> u16 {
        self.layout.port()
    }

    /// Notes the port that the frame came in by.
    #[inline]
    pub fn set_port(&mut self, port: u16) {
        self.layout.set_port(port);
    }

    /// Offset of the network header in the first segment, once a block has parsed that far; 0 before.
    #[inline]
    pub fn l3_offset(&self) -> usize {
        self.layout.l3()
    }

    /// Notes where the network header starts.
    #[inline]
    pub fn set_l3_offset(&mut self, offset: u8) {
        self.layout.set_l3(offset);
    }

    /// The slot of the trace that follows the packet; 0 for none.
    #[inline]
    pub(crate) fn trace_slot(&self) -> u8 {
        self.layout.flags() >> TRACE_SHIFT
    }

    /// Marks the packet as followed, or takes the mark off.
    pub(crate) fn set_trace_slot(&mut self, slot: u8) {
        self.layout.set_flags(self.layout.flags() & !TRACE_SLOT | slot << TRACE_SHIFT);
    }

    /// Gives a copy the mark of its original.
    #[inline]
    pub(crate) fn mark_like(&mut self, original: &Frame) {
        self.layout.set_flags(self.layout.flags() | original.layout.flags() & TRACE_SLOT);
    }

    /// Makes room for `n` bytes in front of the packet; their content is unspecified. Fails without effect.
    #[inline]
    pub fn prepend(&mut self, n: usize) -> Result<(), NoRoom> {
        if n > self.headroom() {
            return Err(NoRoom { wanted: n, available: self.headroom() });
        }
        self.grow_front(n);
        Ok(())
    }

    /// There are `n` bytes of headroom.
    #[inline(always)]
    fn grow_front(&mut self, n: usize) {
        // SAFETY: `head >= HEADER_LEN + n`, so the new start lies in the same chunk.
        #[allow(unsafe_code)]
        {
            self.data = unsafe { self.data.sub(n) };
        }
        self.layout = self.layout.grown_in_front(n);
        self.grow_total(n as isize);
    }

    /// As [`prepend`](Self::prepend), where all of these bytes are to be written: they are given.
    #[inline]
    fn claim(&mut self, n: usize) -> Option<&mut [u8]> {
        if n > self.writable_in_front() {
            return None;
        }
        self.grow_front(n);
        // SAFETY: as in `bytes_mut`; what lies in front of the packet nobody else reaches, as was asked.
        #[allow(unsafe_code)]
        Some(unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), n) })
    }

    /// Makes the packet, in one chunk that nobody shares, longer by `n` bytes, and gives these.
    #[inline]
    fn extend(&mut self, n: usize) -> Option<&mut [u8]> {
        if self.is_chained() || n > self.tailroom() {
            return None;
        }
        let len = self.layout.len();
        self.layout.set_len(len + n);
        // SAFETY: the bytes lie in the chunk, behind the packet, and nobody has a handle on it but this frame.
        #[allow(unsafe_code)]
        Some(unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr().add(len), n) })
    }

    /// Cuts `n` bytes off the front of the first segment. Fails without effect where it holds fewer.
    #[inline]
    pub fn trim_front(&mut self, n: usize) -> Result<(), NoRoom> {
        if n > self.len() {
            return Err(NoRoom { wanted: n, available: self.len() });
        }
        // SAFETY: `n <= len`, so the new start lies in the same chunk.
        #[allow(unsafe_code)]
        {
            self.data = unsafe { self.data.add(n) };
        }
        self.layout = self.layout.cut_in_front(n);
        self.grow_total(-(n as isize));
        Ok(())
    }

    /// Sets the length of a packet in one chunk, shorter or longer (new bytes are unspecified).
    /// Fails without effect if the chunk is too small or the packet is chained.
    #[inline]
    pub fn set_len(&mut self, len: usize) -> Result<(), NoRoom> {
        let available = if self.is_chained() { self.len() } else { self.len() + self.tailroom() };
        if len > available || (self.is_chained() && len != self.len()) {
            return Err(NoRoom { wanted: len, available });
        }
        self.layout.set_len(len);
        Ok(())
    }

    /// Shortens the whole packet to `len` bytes; segments that are then empty go home, of a packet that is kept when nobody
    /// else has them any more. Never grows.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.total_len() {
            return;
        }
        // Of chunks that another handle is on, nothing may change; its own headers are in a chunk of its own.
        if self.is_chained() && !self.is_lent() && self.is_shared() {
            self.layout.set_len(len.min(self.len()));
            self.header_mut().total_len = len as u32;
            return;
        }
        if len <= self.len() {
            let lent_chain = if self.is_chained() { LENT } else { 0 };
            self.cut_chain_behind(self.chunk_start().cast());
            self.layout.set_flags(self.layout.flags() & !(CHAINED | lent_chain));
            self.layout.set_len(len);
            return;
        }
        if self.is_lent() {
            self.header_mut().total_len = len as u32;
            return;
        }
        let mut left = len - self.len();
        let mut link = self.next_chunk();
        while let Some(chunk) = link {
            let part = self.part(chunk);
            if left <= part.len {
                // SAFETY: chunks of the chain are owned by this frame, reached through `&mut self`.
                #[allow(unsafe_code)]
                unsafe {
                    (*chunk.as_ptr()).len = left as u16;
                }
                self.cut_chain_behind(chunk);
                break;
            }
            left -= part.len;
            link = part.next;
        }
        self.header_mut().total_len = len as u32;
    }

    /// Ends the chain after the chunk `last` of it; the chunks behind go home.
    fn cut_chain_behind(&mut self, last: NonNull<ChunkHeader>) {
        if !self.is_chained() {
            return;
        }
        let mut link = self.part(last).next;
        // SAFETY: `last` is a chunk of this frame's chain.
        #[allow(unsafe_code)]
        unsafe {
            (*last.as_ptr()).next = 0;
        }
        while let Some(chunk) = link {
            let part = self.part(chunk);
            link = part.next;
            self.send_part_home(&part);
        }
    }

    /// Gives up this frame's handle on a chunk of its chain.
    fn send_part_home(&self, part: &Part) {
        let flags = self.layout.flags() & !CHAINED;
        Frame { data: part.data, layout: Layout::new(part.head, part.len, flags) }.send_home();
    }

    /// The packet's segments in order.
    pub fn segments(&self) -> Segments<'_> {
        Segments { first: Some(self.bytes()), next: self.next_chunk(), left: self.len_behind(), frame: self }
    }

    /// Bytes behind the first segment, at most: the chunks of a chain that is or was shared may hold more than the packet.
    fn len_behind(&self) -> usize {
        if self.was_shared() { self.total_len() - self.len() } else { usize::MAX }
    }

    /// Whether the chunks hold the packet and nothing behind it.
    fn is_as_long_as_chunks(&self) -> bool {
        let behind: usize = self.chunks_behind().map(|chunk| self.part(chunk).len).sum();
        self.len() + behind == self.total_len()
    }

    /// Whether, besides, each of them holds something.
    pub(crate) fn fills_chunks(&self) -> bool {
        self.is_as_long_as_chunks() && self.segments().all(|segment| !segment.is_empty())
    }

    /// Copies bytes from `offset` of the whole packet; returns how many there were.
    pub fn read_at(&self, mut offset: usize, out: &mut [u8]) -> usize {
        let mut done = 0;
        for segment in self.segments() {
            if offset >= segment.len() {
                offset -= segment.len();
                continue;
            }
            let n = (segment.len() - offset).min(out.len() - done);
            out[done..done + n].copy_from_slice(&segment[offset..offset + n]);
            (done, offset) = (done + n, 0);
            if done == out.len() {
                break;
            }
        }
        done
    }

    /// Overwrites bytes from `offset` of the whole packet; returns how many of them there was room for.
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) -> usize {
        let first = self.len();
        let mut done = 0;
        if let Some(out) = self.bytes_mut().get_mut(offset.min(first)..) {
            done = out.len().min(bytes.len());
            out[..done].copy_from_slice(&bytes[..done]);
        }
        let mut skip = (offset + done).saturating_sub(first);
        let mut link = self.next_chunk();
        // Of a chain that is lent only the headers in front may be written.
        let shared = self.is_shared() || self.is_lent();
        while let Some(chunk) = link.filter(|_| done < bytes.len() && !shared) {
            let part = self.part(chunk);
            // SAFETY: chunks of the chain are owned by this frame, reached through `&mut self`; head and len were in
            // bounds when `append` stored them.
            #[allow(unsafe_code)]
            let out = unsafe { std::slice::from_raw_parts_mut(part.data.as_ptr(), part.len) };
            link = part.next;
            let out = &mut out[skip.min(part.len)..];
            skip = skip.saturating_sub(part.len);
            let n = out.len().min(bytes.len() - done);
            out[..n].copy_from_slice(&bytes[done..done + n]);
            done += n;
        }
        done
    }

    #[inline]
    fn chunk_len(&self) -> usize {
        if self.layout.flags() & LARGE_CHUNK != 0 { 4096 } else { 2048 }
    }

    #[inline]
    pub(crate) fn data_ptr(&self) -> NonNull<u8> {
        self.data
    }

    #[inline]
    fn chunk_start(&self) -> NonNull<u8> {
        // SAFETY: `head` is the offset of `data` in its chunk.
        #[allow(unsafe_code)]
        unsafe {
            self.data.sub(self.layout.head())
        }
    }

    #[inline]
    fn header(&self) -> &ChunkHeader {
        // SAFETY: chunks are aligned to their size, the header lies at their start, and this frame owns the chunk.
        // All bit patterns are valid for its integers.
        #[allow(unsafe_code)]
        unsafe {
            self.chunk_start().cast().as_ref()
        }
    }

    #[inline]
    fn header_mut(&mut self) -> &mut ChunkHeader {
        // SAFETY: as in `header`, exclusive through `&mut self`.
        #[allow(unsafe_code)]
        unsafe {
            self.chunk_start().cast().as_mut()
        }
    }

    #[inline]
    fn grow_total(&mut self, by: isize) {
        if self.is_chained() {
            let total = self.header().total_len as isize + by;
            self.header_mut().total_len = total as u32;
        }
    }

    fn next_chunk(&self) -> Option<NonNull<ChunkHeader>> {
        if self.is_chained() { self.part(self.chunk_start().cast()).next } else { None }
    }

    /// The chunks of the chain but the first.
    fn chunks_behind(&self) -> impl Iterator<Item = NonNull<ChunkHeader>> + '_ {
        std::iter::successors(self.next_chunk(), |&chunk| self.part(chunk).next)
    }

    /// What the header of a chunk of this frame's chain says.
    #[inline]
    fn part(&self, chunk: NonNull<ChunkHeader>) -> Part {
        let header = chunk.as_ptr();
        // SAFETY: the chunk is in this frame's chain; `append` wrote head and length within it, and the signed distance, in
        // chunks, to one which the frame owns too. Field by field, because the other handle on a shared chunk may hold a
        // reference to the rest of the header.
        #[allow(unsafe_code)]
        unsafe {
            let (next, len, head) = ((*header).next as i32 as isize, (*header).len.into(), (*header).head.into());
            let data = chunk.cast::<u8>().add(head);
            let next = (next != 0).then(|| chunk.cast::<u8>().offset(next * self.chunk_len() as isize).cast());
            Part { data, head, len, next }
        }
    }

    /// Whether all of it lies in this region.
    pub(crate) fn is_of(&self, region: &Region) -> bool {
        let is_of = |chunk: NonNull<u8>| region.chunk_of(chunk).is_some();
        is_of(self.data) && self.chunks_behind().all(|chunk| is_of(chunk.cast()))
    }

    /// Appends another frame's packet as further segments. Returns it back, with nothing changed, if the packet would
    /// get more than [`SEGMENTS_MAX`] segments, or the two lie in regions that no link joins.
    pub fn append(&mut self, other: Frame) -> Result<(), Frame> {
        self.append_within(SEGMENTS_MAX, other)
    }

    /// As [`append`](Self::append), with another bound.
    pub(crate) fn append_within(&mut self, segments_max: usize, other: Frame) -> Result<(), Frame> {
        let is_bound = |frame: &Self| {
            let may_be_cut = frame.was_shared() && frame.is_chained();
            frame.is_shared() || may_be_cut && (frame.is_lent() || !frame.is_as_long_as_chunks())
        };
        if self.segment_count() + other.segment_count() > segments_max || is_bound(self) || is_bound(&other) {
            return Err(other);
        }
        let total = self.total_len() + other.total_len();
        let last = self.last_chunk();
        let first_of_other = other.chunk_start().cast::<ChunkHeader>();
        // Chunks are aligned to their length.
        let distance = (first_of_other.as_ptr() as isize - last.as_ptr() as isize) / self.chunk_len() as isize;
        let Ok(distance) = i32::try_from(distance) else { return Err(other) };
        if self.chunk_len() != other.chunk_len() {
            return Err(other);
        }
        let behind = other.next_chunk().map_or(0, |_| other.header().next);
        // SAFETY: `last` belongs to this frame's chain, the other chunk to `other`, which this function takes over.
        #[allow(unsafe_code)]
        unsafe {
            let header = first_of_other.as_ptr();
            ((*header).len, (*header).head) = (other.len() as u16, other.layout.head() as u16);
            (*header).next = behind;
            (*last.as_ptr()).next = distance as u32;
        }
        std::mem::forget(other);
        self.layout.set_flags(self.layout.flags() | CHAINED);
        self.header_mut().total_len = total as u32;
        Ok(())
    }

    fn last_chunk(&self) -> NonNull<ChunkHeader> {
        self.chunks_behind().last().unwrap_or(self.chunk_start().cast())
    }

    #[inline]
    pub(crate) fn segment_count(&self) -> usize {
        1 + self.chunks_behind().count()
    }

    /// Calls `f` with (address, length) of each of the [`segments`](Self::segments), as offsets into the region, and gives up the
    /// frame: ownership of their chunks goes to the caller, others go home.
    #[inline]
    pub(crate) fn into_descriptors(self, region: &Region, mut f: impl FnMut(u64, u32)) {
        let offset = |ptr: NonNull<u8>| region.offset_of(ptr) as u64;
        f(offset(self.data), self.len() as u32);
        if self.is_chained() {
            let (mut link, mut left) = (self.next_chunk(), self.len_behind());
            while let Some(chunk) = link {
                let part = self.part(chunk);
                link = part.next;
                if left == 0 {
                    self.send_part_home(&part);
                    continue;
                }
                let len = part.len.min(left);
                left -= len;
                f(offset(part.data), len as u32);
            }
        }
        std::mem::forget(self);
    }

    /// Calls `f` with the start of each chunk, without giving up the frame: for the moment before it is forgotten.
    pub(crate) fn for_each_chunk(&self, mut f: impl FnMut(NonNull<u8>)) {
        let mut link = self.next_chunk();
        f(self.chunk_start());
        while let Some(chunk) = link {
            // The link is read before `f` may reuse the chunk.
            link = self.part(chunk).next;
            f(chunk.cast());
        }
    }

    /// Brings the frame home where no pool is at hand, by a lock. Packets go home by the pool of a worker.
    pub(crate) fn send_home(self) {
        Region::adopt(&self, false);
        std::mem::forget(self);
    }

    pub(crate) fn owner(&self) -> u16 {
        self.header().owner
    }

    /// Notes who holds the frame now (debug builds; free in release builds).
    #[inline]
    pub(crate) fn set_owner(&mut self, owner: u16) {
        // Of a shared chunk the header is nobody's to write.
        if cfg!(debug_assertions) && !self.is_shared() {
            self.header_mut().owner = owner;
        }
    }
}

impl Drop for Frame {
    #[cold]
    fn drop(&mut self) {
        Region::adopt(self, true);
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame(port {}, {} B, {} segments)", self.port(), self.total_len(), self.segment_count())
    }
}

/// One chunk of a chain.
struct Part {
    data: NonNull<u8>,
    head: usize,
    len: usize,
    next: Option<NonNull<ChunkHeader>>,
}

/// Iterator over the segments of a packet.
pub struct Segments<'a> {
    first: Option<&'a [u8]>,
    next: Option<NonNull<ChunkHeader>>,
    /// Bytes of the packet behind the first segment, at most.
    left: usize,
    frame: &'a Frame,
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let part = self.frame.part(self.next.filter(|_| self.left > 0)?);
        let len = part.len.min(self.left);
        // SAFETY: the chain's chunks belong to `frame`, which is borrowed for 'a; head and len were in bounds when
        // `append` stored them.
        #[allow(unsafe_code)]
        let bytes = unsafe { std::slice::from_raw_parts(part.data.as_ptr(), len) };
        self.next = part.next;
        self.left -= len;
        Some(bytes)
    }
}
