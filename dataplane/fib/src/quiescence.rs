//! When may memory that readers could still be reading be used again?
//!
//! Readers take no locks and write nothing while they look up. The writer unlinks a node, raises the epoch and puts the
//! node aside under that number. Each reader owns a seat; between two batches, holding nothing it has read from a
//! table, it copies the epoch into its seat. A node set aside at epoch `e` is free once every seat shows at least `e`.
//!
//! ```text
//!   writer   unlink N   epoch = 8, N waits for 8             seats >= 8: N is free
//!   --------------|-----------|--------------------------------------|---------->
//!   reader    ..7-|--- may hold N ---| quiescent: seat = 8 |-- cannot find N ---
//! ```
//!
//! Why it holds: raising the epoch is a release, reading it in `quiescent` an acquire, so what a reader loads after
//! seeing 8 sees the unlinking; storing the seat is a release, reading it an acquire, so what a reader loaded before
//! saying 8 was loaded before the writer reuses N. A reader that comes online has said nothing yet, so there a
//! sequentially consistent fence on either side decides: the writer sees the seat, or the reader sees the unlinking.

use crossbeam_utils::CachePadded;

use crate::error::FibError;
use crate::sync::{Arc, AtomicU64, Ordering, fence};

/// Bound on readers at one time: a worker each, and a few for tools.
pub const READERS_MAX: usize = 64;

const OFFLINE: u64 = 0;

/// The epoch and the seats of one set of tables.
#[derive(Debug)]
pub(crate) struct Quiescence {
    epoch: CachePadded<AtomicU64>,
    /// Bit per seat that a reader owns.
    taken: AtomicU64,
    seats: Vec<CachePadded<AtomicU64>>,
}

impl Quiescence {
    pub(crate) fn new() -> Arc<Self> {
        Self::with_seats(READERS_MAX)
    }

    pub(crate) fn with_seats(seats: usize) -> Arc<Self> {
        Arc::new(Self {
            epoch: CachePadded::new(AtomicU64::new(1)),
            taken: AtomicU64::new(0),
            seats: (0..seats.min(READERS_MAX)).map(|_| CachePadded::new(AtomicU64::new(OFFLINE))).collect(),
        })
    }

    /// Starts a new epoch and returns it: what was unlinked before this call is free once [`Self::passed`] says as much.
    pub(crate) fn retire(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The newest epoch that every online reader has seen.
    pub(crate) fn passed(&self) -> u64 {
        // Pairs with the fence in `Seat::online`.
        fence(Ordering::SeqCst);
        let epoch = self.epoch.load(Ordering::Relaxed);
        let seen = self.seats.iter().map(|seat| seat.load(Ordering::Acquire));
        seen.filter(|&seen| seen != OFFLINE).min().unwrap_or(epoch)
    }

    /// A free seat, online.
    pub(crate) fn seat(self: &Arc<Self>) -> Result<Seat, FibError> {
        let mut taken = self.taken.load(Ordering::Relaxed);
        loop {
            let index = taken.trailing_ones() as usize;
            if index >= self.seats.len() {
                return Err(FibError::ReadersFull { readers_max: self.seats.len() });
            }
            // Lock-free: an exchange fails only because another reader got a seat or gave one back.
            match self.taken.compare_exchange(taken, taken | 1 << index, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    let seat = Seat { quiescence: Arc::clone(self), index, one_thread: std::marker::PhantomData };
                    seat.online();
                    return Ok(seat);
                }
                Err(now) => taken = now,
            }
        }
    }
}

/// One reader's place. Gives itself back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    quiescence: Arc<Quiescence>,
    index: usize,
    /// Two threads behind one seat would speak for each other: `Send`, not `Sync`.
    one_thread: std::marker::PhantomData<std::cell::Cell<()>>,
}

impl Seat {
    #[inline]
    fn word(&self) -> &AtomicU64 {
        &self.quiescence.seats[self.index]
    }

    /// Says that this reader holds nothing from before. Costs a load and a store.
    #[inline]
    pub(crate) fn quiescent(&self) {
        let epoch = self.quiescence.epoch.load(Ordering::Acquire);
        self.word().store(epoch, Ordering::Release);
    }

    /// Until [`Self::online`] this reader looks nothing up, and holds up nobody.
    #[inline]
    pub(crate) fn offline(&self) {
        self.word().store(OFFLINE, Ordering::Release);
    }

    #[inline]
    pub(crate) fn online(&self) {
        self.quiescent();
        // Pairs with the fence in `Quiescence::passed`.
        fence(Ordering::SeqCst);
    }

    #[inline]
    pub(crate) fn is_online(&self) -> bool {
        self.word().load(Ordering::Relaxed) != OFFLINE
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.offline();
        self.quiescence.taken.fetch_and(!(1 << self.index), Ordering::AcqRel);
    }
}
