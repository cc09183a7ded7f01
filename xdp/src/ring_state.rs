//! Early shedding: the program learns from memory how full a worker's receive ring is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::mapping::Mapping;

/// Bytes of one ring state: a cache line for each writer (`struct ring_state` in `bpf/types.h`).
pub(crate) const RING_STATE_LEN: usize = 128;
const SENT: usize = 0;
const CAPACITY: usize = 8;
const TAKEN: usize = 64;

/// Fill level of one socket's receive ring, as the program sees it.
///
/// ```text
/// line 0   sent, seen, capacity   the program adds one to `sent` for every frame it redirects, and keeps in `seen`
///                                 what it last saw of `taken`; `capacity` is how many may be under way
/// line 1   taken                  the worker says what it took from the ring
/// ```
///
/// Where `sent - taken >= capacity` the program drops the frame (`drop_ring_full`) before the kernel
/// copies it. A capacity of 0, the initial value, switches this off.
///
/// **Drift.** A frame the kernel loses after the redirect (no fill descriptor, ring full) stays counted in
/// `sent`. So whenever the worker finds its ring empty it must call [`mark_empty`](Self::mark_empty), which
/// sets `taken = sent`. A frame on its way at that moment puts `taken` one ahead; the program compares signed,
/// so that is harmless and heals the same way.
///
/// Loads and stores of plain memory: no system call, no lock. One worker writes; clones may read.
#[derive(Clone, Debug)]
pub struct RingState {
    mapping: Arc<Mapping>,
    base: usize,
}

impl RingState {
    /// The state of a slot, if the mapping has it.
    pub(crate) fn new(mapping: &Arc<Mapping>, slot: usize) -> Option<Self> {
        let base = slot.checked_mul(RING_STATE_LEN)?;
        mapping.u32(base.checked_add(TAKEN)?)?;
        Some(Self { mapping: Arc::clone(mapping), base })
    }

    fn load(&self, field: usize) -> u32 {
        self.field(field).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    fn store(&self, field: usize, value: u32) {
        if let Some(cell) = self.field(field) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// `new` has checked the last field, so this is never `None`.
    fn field(&self, field: usize) -> Option<&AtomicU32> {
        self.mapping.u32(self.base + field)
    }

    /// Frames the program sent to this socket, modulo 2^32.
    pub fn sent(&self) -> u32 {
        self.load(SENT)
    }

    /// Frames the worker took, modulo 2^32, give or take what `mark_empty` healed.
    pub fn taken(&self) -> u32 {
        self.load(TAKEN)
    }

    /// Frames that may be under way before the program sheds; 0: never.
    pub fn capacity(&self) -> u32 {
        self.load(CAPACITY)
    }

    /// The worker took `frames` from its ring. Once per burst.
    pub fn add_taken(&self, frames: u32) {
        self.store(TAKEN, self.taken().wrapping_add(frames));
    }

    /// The worker found its ring empty.
    pub fn mark_empty(&self) {
        let sent = self.sent();
        // Polling an idle ring must not keep writing to the line the program reads.
        if self.taken() != sent {
            self.store(TAKEN, sent);
        }
    }

    /// Sheds from `frames` under way on. At most the ring's size makes sense; above 2^31 - 1 counts as that.
    pub fn set_capacity(&self, frames: u32) {
        self.store(CAPACITY, frames.min(i32::MAX.unsigned_abs()));
    }
}
