//! For tests and examples: buffers from the heap, a world that checks what is done to it, and a
//! cable between two stacks on a virtual clock.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::buffer::{Buffer, HEADROOM, NoRoom};
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::interface::InterfaceId;
use crate::stack::Stack;
use crate::time::Instant;
use crate::verdict::Verdict;
use crate::wire::ethernet::MacAddress;

/// Bytes one segment of a [`VecBuffer`] can hold, headroom aside.
pub const SEGMENT_LEN: usize = 9_216;

/// A MAC address for tests, locally administered.
pub const fn mac(last: u8) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, last])
}

/// A buffer from the heap, in any number of segments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VecBuffer {
    bytes: Vec<u8>,
    start: usize,
    capacity: usize,
    further: Vec<VecBuffer>,
    chains: bool,
    absorbed: usize,
    /// Counted once by each handle on the same bytes.
    handles: Arc<()>,
}

impl Default for VecBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl VecBuffer {
    /// Empty, with [`HEADROOM`] and room for [`SEGMENT_LEN`] bytes.
    pub fn new() -> Self {
        Self::with_capacity(SEGMENT_LEN)
    }

    /// Empty, with [`HEADROOM`] and room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            bytes: alloc::vec![0; HEADROOM],
            start: HEADROOM,
            capacity,
            further: Vec::new(),
            chains: true,
            absorbed: 0,
            handles: Arc::new(()),
        }
    }

    /// With `content` in one segment.
    pub fn from_bytes(content: &[u8]) -> Self {
        let mut buffer = Self::with_capacity(content.len().max(SEGMENT_LEN));
        buffer.bytes.extend_from_slice(content);
        buffer
    }

    /// With `content` in segments of at most `len` bytes.
    pub fn segmented(content: &[u8], len: usize) -> Self {
        let mut parts = content.chunks(len.max(1)).map(Self::from_bytes);
        let mut buffer = parts.next().unwrap_or_default();
        buffer.further = parts.collect();
        buffer
    }

    /// The same, but refusing [`chain`](Buffer::chain).
    pub fn unchainable(self) -> Self {
        Self { chains: false, ..self }
    }

    /// Everything, in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        self.segments().flatten().copied().collect()
    }

    /// Another handle. Heap memory cannot be written in two places at once without unsafe code, so the
    /// bytes are copied; that both live is known all the same.
    fn share(&self) -> Self {
        self.clone()
    }

    fn is_shared(&self) -> bool {
        Arc::strong_count(&self.handles) > 1
    }

    /// Frames this was made of: one, and those that were chained to it.
    pub fn frames(&self) -> usize {
        1 + self.absorbed
    }
}

impl Buffer for VecBuffer {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.bytes().len() + self.further.iter().map(Self::len).sum::<usize>()
    }

    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        core::iter::once(self.bytes()).chain(self.further.iter().map(Self::bytes))
    }

    fn headroom(&self) -> usize {
        self.start
    }

    fn tailroom(&self) -> usize {
        match self.further.is_empty() {
            true => (HEADROOM + self.capacity).saturating_sub(self.bytes.len()),
            false => 0,
        }
    }

    fn prepend(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        self.start = self.start.checked_sub(n).ok_or(NoRoom)?;
        self.bytes_mut().get_mut(..n).ok_or(NoRoom)
    }

    fn append(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        if n > self.tailroom() {
            return Err(NoRoom);
        }
        let at = self.bytes.len();
        self.bytes.resize(at + n, 0xa5);
        self.bytes.get_mut(at..).ok_or(NoRoom)
    }

    fn trim_front(&mut self, n: usize) -> Result<(), NoRoom> {
        if n > self.bytes().len() {
            return Err(NoRoom);
        }
        self.start += n;
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        let mut left = len;
        self.bytes.truncate(self.start + left);
        left = left.saturating_sub(self.bytes().len());
        self.further.retain_mut(|segment| {
            segment.truncate(left);
            left = left.saturating_sub(segment.len());
            !segment.is_empty()
        });
    }

    fn chain(&mut self, mut tail: Self) -> Result<(), Self> {
        if !self.chains || !tail.chains {
            return Err(tail);
        }
        let further = core::mem::take(&mut tail.further);
        self.absorbed += tail.frames();
        self.further.push(tail);
        self.further.extend(further);
        Ok(())
    }
}

/// A world that remembers what the stack did to it.
#[derive(Debug)]
pub struct TestEnv {
    pub now: Instant,
    /// State of the random numbers (splitmix64).
    pub seed: u64,
    /// Buffers that [`allocate`](Env::allocate) still gives.
    pub pool: usize,
    /// Packets that may still [leave](Env::room); `None`: any number.
    pub room: Option<usize>,
    /// Packets [beyond](Env::spare_room) these.
    pub spare_room: usize,
    /// Bytes that an allocated buffer holds.
    pub buffer_len: usize,
    pub transmitted: VecDeque<(InterfaceId, VecBuffer)>,
    pub discarded: Vec<(DropReason, VecBuffer)>,
    /// Buffers that came from [`allocate`](Env::allocate).
    pub allocated: usize,
    /// Frames that came back by [`discard`](Env::discard) or [`release`](Env::release).
    pub returned: usize,
    /// Frames that left by [`transmit`](Env::transmit).
    pub left: usize,
}

impl Default for TestEnv {
    fn default() -> Self {
        Self {
            now: Instant::ZERO,
            seed: 1,
            pool: usize::MAX,
            room: None,
            spare_room: 0,
            buffer_len: SEGMENT_LEN,
            transmitted: VecDeque::new(),
            discarded: Vec::new(),
            allocated: 0,
            returned: 0,
            left: 0,
        }
    }
}

impl TestEnv {
    pub fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
    }

    /// The next frame sent.
    pub fn sent(&mut self) -> Option<Vec<u8>> {
        self.transmitted.pop_front().map(|(_, frame)| frame.to_vec())
    }

    /// Why packets were dropped, in order; forgets it.
    pub fn take_drops(&mut self) -> Vec<DropReason> {
        self.discarded.drain(..).map(|(reason, _)| reason).collect()
    }
}

impl Env for TestEnv {
    type Buffer = VecBuffer;

    fn now(&self) -> Instant {
        self.now
    }

    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn allocate(&mut self) -> Option<VecBuffer> {
        self.pool = self.pool.checked_sub(1)?;
        self.allocated += 1;
        Some(VecBuffer::with_capacity(self.buffer_len))
    }

    fn share(&mut self, kept: &mut VecBuffer) -> Option<VecBuffer> {
        if kept.is_shared() || kept.headroom() < HEADROOM {
            return None;
        }
        self.allocated += kept.frames();
        Some(kept.share())
    }

    fn is_shared(&self, kept: &VecBuffer) -> bool {
        kept.is_shared()
    }

    fn room(&self, _interface: InterfaceId) -> usize {
        self.room.unwrap_or(usize::MAX)
    }

    fn spare_room(&self, _interface: InterfaceId) -> usize {
        self.spare_room
    }

    fn transmit(&mut self, interface: InterfaceId, frame: VecBuffer) {
        self.room = self.room.map(|room| room.saturating_sub(1));
        self.left += frame.frames();
        self.transmitted.push_back((interface, frame));
    }

    fn discard(&mut self, buffer: VecBuffer, reason: DropReason) {
        self.returned += buffer.frames();
        self.discarded.push((reason, buffer));
    }

    fn release(&mut self, buffer: VecBuffer) {
        self.returned += buffer.frames();
    }
}

/// Frames that a [`Cable`] carries in one run, so that no loop of packets lasts.
pub const CABLE_FRAMES_MAX: usize = 10_000;

/// Joins interface 0 of two stacks.
#[derive(Debug, Default)]
pub struct Cable {
    ends: [TestEnv; 2],
}

impl Cable {
    pub fn new() -> Self {
        Self::default()
    }

    /// The world of stack 0 or 1.
    pub fn end(&mut self, n: usize) -> &mut TestEnv {
        let [first, second] = &mut self.ends;
        if n == 0 { first } else { second }
    }

    /// A buffer with this payload and headroom.
    pub fn buffer(&self, payload: &[u8]) -> VecBuffer {
        VecBuffer::from_bytes(payload)
    }

    /// Lets time pass at both ends.
    pub fn advance(&mut self, by: Duration) {
        self.ends.iter_mut().for_each(|end| end.advance(by));
    }

    /// Carries frames until none is left; returns what was delivered, and to whom.
    pub fn run(&mut self, stacks: &mut [Stack<VecBuffer>; 2]) -> Vec<(usize, Verdict<VecBuffer>)> {
        let mut delivered = Vec::new();
        let [first, second] = &mut self.ends;
        let [one, two] = stacks;
        for _ in 0..CABLE_FRAMES_MAX {
            let (to, verdict) = if let Some((_, frame)) = first.transmitted.pop_front() {
                (1, two.ingest(InterfaceId(0), frame, second))
            } else if let Some((_, frame)) = second.transmitted.pop_front() {
                (0, one.ingest(InterfaceId(0), frame, first))
            } else {
                break;
            };
            if matches!(verdict, Verdict::Datagram(_) | Verdict::EchoReply(_)) {
                delivered.push((to, verdict));
            }
        }
        delivered
    }
}
