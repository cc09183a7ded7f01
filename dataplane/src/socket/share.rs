//! Packet memory that the sockets of one worker hold: a bound for all together, whatever each of them may.
//!
//! ```text
//!   worker --+--> inboxes --------> readers --> returned --+--> worker
//!            \--> blanks --> writers --> outboxes ---------/
//!                               \--> home, past the worker
//! ```
//! What leaves the worker is held until it comes back to it: it alone counts, without an atomic operation for each frame. The
//! few frames that others bring home are counted apart.
//!
//! ```text
//!   | half: queues as long as is fair      | for those with next to none | the last: on demand |
//! ```
//! However many stay away, they hold nothing of the last part: a frame of it goes to a reader that has just asked for text and
//! to a writer whose text may leave at once, so that who is there is served, if slowly. What the others are sent stays in the
//! stack, and closes their windows. Whether a datagram's reader is still there nobody knows: datagrams get half of it at most.

use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use super::config::SocketConfig;
use crate::frame::Frame;

/// Of a worker's chunks this part is for sockets: half belongs to the stack, and another quarter is to receive with.
const PART: usize = 4;
/// Of what is for sockets no more than this part lies ready for writers.
const BLANK_PART: usize = 8;
/// The least that sockets may hold together.
const CHUNKS_MIN: usize = 64;
/// This part of it is given on demand only.
const LAST_PART: usize = 8;
/// Frames that a queue may have while memory is not short.
const FRAMES_MIN: usize = 2;
/// The same of the blanks, which everybody who writes takes from.
const BLANKS_MIN: usize = 16;

/// What the sockets of one worker hold, in chunks.
pub(super) struct Share {
    /// Written by the worker only, as `max` and `outbox` are.
    held: CachePadded<AtomicUsize>,
    max: AtomicUsize,
    /// Of what was counted in `held`, how many went home past the worker.
    home: AtomicUsize,
    /// Frames that an outbox may have at the moment: every writer reads it, so it changes only where memory is short, and then
    /// in steps.
    outbox: CachePadded<AtomicUsize>,
    outbox_max: usize,
}

impl Share {
    pub(super) fn new(config: &SocketConfig) -> Self {
        let outbox_max = config.outbox_max.max(2);
        Self {
            held: CachePadded::default(),
            max: AtomicUsize::new(config.chunks_max.max(CHUNKS_MIN)),
            home: AtomicUsize::new(0),
            outbox: CachePadded::new(AtomicUsize::new(outbox_max)),
            outbox_max,
        }
    }

    // ---- threads ----------------------------------------------------------------------------

    /// Frames that one outbox may have now; 0: one when its worker says so.
    #[inline]
    pub(super) fn outbox_max(&self) -> usize {
        self.outbox.load(Ordering::Relaxed)
    }

    /// Brings a frame home past the worker, by a lock.
    pub(super) fn send_home(&self, frame: Frame) {
        self.home.fetch_add(frame.segment_count(), Ordering::Relaxed);
        frame.send_home();
    }

    // ---- the worker -------------------------------------------------------------------------

    /// The worker has so many chunks.
    pub(super) fn bound(&self, chunks: usize) {
        let max = self.max().min(chunks / PART).max(CHUNKS_MIN);
        self.max.store(max, Ordering::Relaxed);
        self.publish();
    }

    /// Blanks that there may be at most.
    pub(super) fn blanks_max(&self) -> usize {
        self.max() / BLANK_PART
    }

    fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed).wrapping_sub(self.home.load(Ordering::Relaxed))
    }

    /// Frames that a queue may have now: half of what is free in the first half (Choudhury and Hahne, "Dynamic queue length
    /// thresholds for shared-memory packet switches", IEEE/ACM ToN 1998, with a factor of 1/2). Queues of those who stay away
    /// do not get shorter again, so that a few take all of that; the second half is for those that have next to none.
    #[inline]
    fn long(&self) -> usize {
        (self.max() / 2).saturating_sub(self.held()) / 2
    }

    /// Whether there is nothing left but what is given on demand.
    #[inline]
    pub(super) fn is_short(&self) -> bool {
        self.held() >= self.max() - self.max() / LAST_PART
    }

    /// Whether there is a frame for who asks for one.
    pub(super) fn has_last(&self) -> bool {
        self.held() < self.max()
    }

    /// The same for a datagram.
    pub(super) fn has_last_for_datagrams(&self) -> bool {
        self.held() < self.max() - self.max() / LAST_PART / 2
    }

    /// Whether a queue that has `own` frames may get another.
    #[inline]
    pub(super) fn may_hold(&self, own: usize) -> bool {
        own < self.long() || (own < FRAMES_MIN && !self.is_short())
    }

    /// Whether there may be more blanks than `own`, of which somebody wants so many at once.
    pub(super) fn may_be_blank(&self, own: usize, wanted: usize) -> bool {
        let few = if self.is_short() { self.max() / LAST_PART / 2 } else { usize::MAX }.min(BLANKS_MIN.max(wanted));
        // Those that lie ready are held already; one is left to who asks for text, for nobody may take these.
        let fits = self.held() + wanted.saturating_sub(own) < self.max();
        let few = if fits { few.max(wanted) } else { few };
        own < self.blanks_max() && (own < self.long() || (own < few && self.has_last()))
    }

    /// A frame leaves the worker.
    #[inline]
    pub(super) fn hold(&self, frame: &Frame) {
        self.count(self.held.load(Ordering::Relaxed).wrapping_add(frame.segment_count()));
    }

    /// It has come back.
    #[inline]
    pub(super) fn let_go(&self, frame: &Frame) {
        self.count(self.held.load(Ordering::Relaxed).wrapping_sub(frame.segment_count()));
    }

    #[inline]
    fn count(&self, held: usize) {
        self.held.store(held, Ordering::Relaxed);
        self.publish();
    }

    /// Tells writers what they may have now, if that has changed.
    #[inline]
    pub(super) fn publish(&self) {
        let outbox = match self.long() {
            long if long >= self.outbox_max => self.outbox_max,
            0 if self.is_short() => 0,
            long => 1 << long.max(FRAMES_MIN).ilog2(),
        };
        if self.outbox.load(Ordering::Relaxed) != outbox {
            self.outbox.store(outbox, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Pool, Region, RegionConfig};

    #[test]
    fn a_queue_gets_half_of_what_is_free_or_a_few_frames_and_writers_are_told_in_steps() {
        let region = RegionConfig { chunks: 1_024, huge_pages: false, ..RegionConfig::default() };
        let mut pool = Pool::new(Region::in_process(region).unwrap());
        let share = Share::new(&SocketConfig { outbox_max: 60, ..SocketConfig::default() });
        share.bound(1_024);
        let mut frames: Vec<Frame> = (0..256).map(|_| pool.allocate().unwrap()).collect();
        let hold = |from: usize, to: usize| frames[from..to].iter().for_each(|frame| share.hold(frame));
        assert!(share.may_hold(63) && !share.may_hold(64) && share.outbox_max() == 60);
        assert!(share.may_be_blank(31, 1) && !share.may_be_blank(32, 40));
        hold(0, 30);
        assert!(share.may_hold(48) && !share.may_hold(49) && share.outbox_max() == 32);
        hold(30, 128);
        assert!(share.may_hold(1) && !share.may_hold(2) && share.outbox_max() == 2, "the second half");
        assert!(share.may_be_blank(15, 1) && !share.may_be_blank(16, 1) && share.may_be_blank(16, 17));
        hold(128, 223);
        assert!(!share.is_short() && share.may_hold(1));
        hold(223, 224);
        assert!(share.is_short() && !share.may_hold(0) && share.has_last() && share.outbox_max() == 0, "the last part");
        assert!(share.may_be_blank(15, 1) && !share.may_be_blank(16, 1) && share.has_last_for_datagrams());
        assert!(share.may_be_blank(0, 32) && share.may_be_blank(31, 32), "there is memory for so many");
        hold(224, 240);
        assert!(share.may_be_blank(15, 32) && !share.has_last_for_datagrams() && share.has_last());
        hold(240, 241);
        assert!(share.may_be_blank(18, 32) && !share.may_be_blank(17, 32), "of 32 there is none for the last two");
        hold(241, 256);
        assert!(!share.has_last() && !share.may_be_blank(0, 1));
        share.send_home(frames.pop().unwrap());
        assert!(share.has_last() && share.may_be_blank(0, 1), "one went home past the worker");
        frames.iter().for_each(|frame| share.let_go(frame));
        assert_eq!((share.held(), share.outbox_max()), (0, 60));
        frames.into_iter().for_each(|frame| pool.release(frame));
    }

    #[test]
    fn the_bound_is_never_above_the_configured_one_nor_too_low_to_work() {
        let share = Share::new(&SocketConfig { chunks_max: 1_000, ..SocketConfig::default() });
        share.bound(1 << 20);
        assert_eq!(share.max(), 1_000);
        share.bound(8);
        assert_eq!((share.max(), share.outbox_max()), (CHUNKS_MIN, 16));
    }
}
