//! The way of received bytes out of the worker: a fixed set of chunks that go round between the worker, which fills them,
//! and a thread that may take its time with them.
//!
//! ```text
//!             full
//!   worker ----------> thread that writes and hashes
//!          <----------
//!             spare
//! ```
//! When none is spare, the worker leaves what has arrived where it is, and the sender's window closes.

use crossbeam_queue::ArrayQueue;

/// Bytes of the largest frame.
pub(super) const FRAME_LEN_MAX: usize = 64 << 10;
/// Bytes of a chunk: more than one frame, so that small ones share it.
const CHUNK_LEN: usize = 2 * FRAME_LEN_MAX;
/// Chunks under way at most.
const CHUNKS_MAX: usize = 64;

/// Bytes of one answer's body.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// Number of the answer, from 1 on.
    pub(super) answer: u64,
    pub(super) bytes: Vec<u8>,
}

impl Chunk {
    /// Whether a whole frame fits.
    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() + FRAME_LEN_MAX <= self.bytes.capacity()
    }
}

/// The chunks, wherever they are.
#[derive(Debug)]
pub(super) struct Spout {
    full: ArrayQueue<Chunk>,
    spare: ArrayQueue<Chunk>,
}

impl Spout {
    pub(super) fn new() -> Self {
        let spout = Self { full: ArrayQueue::new(CHUNKS_MAX), spare: ArrayQueue::new(CHUNKS_MAX) };
        for _ in 0..CHUNKS_MAX {
            // There is room for all.
            let _ = spout.spare.push(Chunk { answer: 0, bytes: Vec::with_capacity(CHUNK_LEN) });
        }
        spout
    }

    /// An empty chunk for the worker.
    pub(super) fn empty(&self, answer: u64) -> Option<Chunk> {
        self.spare.pop().map(|chunk| Chunk { answer, ..chunk })
    }

    /// What the worker has filled.
    pub(super) fn push(&self, chunk: Chunk) {
        // There is room for all.
        let _ = self.full.push(chunk);
    }

    /// The next chunk to be dealt with; give it back by [`recycle`](Self::recycle).
    pub(super) fn next(&self) -> Option<Chunk> {
        self.full.pop()
    }

    pub(super) fn recycle(&self, mut chunk: Chunk) {
        chunk.bytes.clear();
        // There is room for all.
        let _ = self.spare.push(chunk);
    }
}
