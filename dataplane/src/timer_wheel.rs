//! A hierarchical timing wheel: timers set, cancelled and fired in constant time.
//!
//! After Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", SOSP 1987, scheme 7. Time is cut into ticks; a
//! tick's number, read in base 64, has one wheel per digit:
//!
//! ```text
//!   level 10        level 1                 level 0
//!  [ 64 slots ] .. [ 64 slots of 64 ticks ] [ 64 slots of one tick ]     elapsed = all ticks up to it have fired
//! ```
//!
//! A timer lies on the level of the highest digit in which its tick differs from `elapsed`, so every slot of a level lies
//! ahead of `elapsed`'s own, and none has to wrap. When time enters a slot above level 0, its timers move down; each
//! does so at most once a level. A bitmap a level finds the next occupied slot without a walk.
//!
//! Invariants: a timer never fires early, and at most one tick late; timers of one tick fire in the order in which they
//! were set (a slot empties into lower ones before anything new can land in those); nothing is allocated but by `new` and
//! `reserve`.

const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
/// Digits of a 64-bit tick number: no timer is too far ahead.
const LEVELS: usize = 11;
/// The list of timers that were due when they were set.
const DUE: usize = LEVELS * SLOTS;
const NONE: u32 = u32::MAX;

/// Names one timer; stale once that timer has fired or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerId {
    at: u32,
    generation: u32,
}

struct Entry<T> {
    /// Empty while the entry is on the free list.
    content: Option<T>,
    tick: u64,
    generation: u32,
    list: u16,
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

const EMPTY: List = List { first: NONE, last: NONE };

/// Timers that carry a `T`, at most as many at a time as it was made for.
///
/// Events in: [`schedule`](Self::schedule), [`cancel`](Self::cancel), and [`advance`](Self::advance) as time passes.
/// Output: what `advance` fires, and [`next_deadline`](Self::next_deadline), until which the caller may sleep.
pub struct TimerWheel<T> {
    tick_ns: u64,
    /// Every tick up to this one has fired.
    elapsed: u64,
    entries: Vec<Entry<T>>,
    free: u32,
    len: usize,
    /// A bit a slot.
    occupied: [u64; LEVELS],
    lists: Box<[List; DUE + 1]>,
}

impl<T> TimerWheel<T> {
    /// A wheel with ticks of `tick_ns` (at least 1) for at most `capacity` timers at a time (up to 2^32 - 2), which
    /// starts at `now_ns`.
    pub fn new(tick_ns: u64, capacity: usize, now_ns: u64) -> Self {
        let tick_ns = tick_ns.max(1);
        let mut wheel = Self {
            tick_ns,
            elapsed: now_ns / tick_ns,
            entries: Vec::new(),
            free: NONE,
            len: 0,
            occupied: [0; LEVELS],
            lists: Box::new([EMPTY; DUE + 1]),
        };
        wheel.reserve(capacity);
        wheel
    }

    /// Allocates for at least `capacity` timers at a time.
    pub fn reserve(&mut self, capacity: usize) {
        let known = self.entries.len();
        let capacity = capacity.clamp(known, NONE as usize - 1);
        self.entries.reserve_exact(capacity - known);
        // The lowest entries are used first.
        for at in known..capacity {
            let next = if at + 1 < capacity { at as u32 + 1 } else { self.free };
            self.entries.push(Entry { content: None, tick: 0, generation: 0, list: 0, previous: NONE, next });
        }
        if capacity > known {
            self.free = known as u32;
        }
    }

    /// Timers set.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Most timers that can be set at a time.
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Sets a timer. One in the past fires at the next `advance`. Gives `content` back when the wheel is full.
    pub fn schedule(&mut self, deadline_ns: u64, content: T) -> Result<TimerId, T> {
        let at = self.free;
        let Some(entry) = self.entries.get_mut(at as usize) else { return Err(content) };
        self.free = entry.next;
        self.len += 1;
        entry.content = Some(content);
        entry.tick = deadline_ns.div_ceil(self.tick_ns);
        let id = TimerId { at, generation: entry.generation };
        self.place(at);
        Ok(id)
    }

    /// Stops a timer and gives its content back; `None` if it is not set any more.
    pub fn cancel(&mut self, timer: TimerId) -> Option<T> {
        let entry = self.entries.get(timer.at as usize)?;
        if entry.generation != timer.generation || entry.content.is_none() {
            return None;
        }
        self.unlink(timer.at);
        self.retire(timer.at)
    }

    /// Fires every timer due at `now_ns`, earlier ticks first and those of one tick in the order of their setting.
    /// Time does not run backwards: an earlier `now_ns` than before only fires what was set for the past.
    pub fn advance(&mut self, now_ns: u64, mut fire: impl FnMut(T)) {
        let target = (now_ns / self.tick_ns).max(self.elapsed);
        self.fire_list(DUE, &mut fire);
        while self.len > 0 {
            let Some((level, slot, start)) = self.next_slot() else { break };
            if start > target {
                break;
            }
            self.elapsed = start;
            if level == 0 {
                self.fire_list(slot, &mut fire);
            } else {
                self.cascade(level, slot);
                // What was set for exactly the slot's first tick is due now.
                self.fire_list(DUE, &mut fire);
            }
        }
        self.elapsed = target;
    }

    /// Until when nothing fires, in ns: `advance` need not be called before. At or before the earliest deadline's tick;
    /// far-off timers give an earlier time, at which they only move down a level. `None` while no timer is set.
    pub fn next_deadline(&self) -> Option<u64> {
        if self.lists[DUE].first != NONE {
            return Some(self.elapsed.saturating_mul(self.tick_ns));
        }
        self.next_slot().map(|(_, _, start)| start.saturating_mul(self.tick_ns))
    }

    /// Takes all timers out, in no particular order.
    pub fn drain(&mut self, mut take: impl FnMut(T)) {
        for list in 0..=DUE {
            self.fire_list(list, &mut take);
        }
    }

    /// Fires every timer at once, in the order of their ticks, and those of one tick in the order of their setting.
    pub fn fire_all(&mut self, fire: impl FnMut(T)) {
        let elapsed = self.elapsed;
        self.advance(u64::MAX, fire);
        // Without timers any time will do.
        self.elapsed = elapsed;
    }

    /// Moves all timers into `larger`, an empty wheel with the same ticks, and changes places with it, if it is the
    /// larger one. Nothing is allocated. Timers set before keep their ids and their order.
    pub fn outgrow(&mut self, larger: &mut Self) {
        let known = self.entries.len();
        if !larger.is_empty() || larger.entries.len() <= known || larger.tick_ns != self.tick_ns {
            return;
        }
        // Entries keep their numbers; the free ones of both make one list.
        for (new, old) in larger.entries.iter_mut().zip(&mut self.entries) {
            std::mem::swap(new, old);
        }
        let entries = larger.entries.len();
        for at in known..entries {
            larger.entries[at].next = if at + 1 < entries { at as u32 + 1 } else { self.free };
        }
        larger.free = known as u32;
        for at in 0..known {
            self.entries[at].next = if at + 1 < known { at as u32 + 1 } else { NONE };
        }
        self.free = if known == 0 { NONE } else { 0 };
        (larger.len, self.len) = (self.len, 0);
        (larger.elapsed, larger.occupied) = (self.elapsed, self.occupied);
        self.occupied = [0; LEVELS];
        std::mem::swap(&mut larger.lists, &mut self.lists);
        std::mem::swap(self, larger);
    }

    /// The first slot with timers: level, slot and its first tick.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        for level in 0..LEVELS {
            let shift = level as u32 * DIGIT_BITS;
            let own = digit(self.elapsed, level);
            // Only slots ahead of our own can be occupied, see `level_of`.
            let ahead = self.occupied[level] & (u64::MAX << own);
            if ahead != 0 {
                let slot = ahead.trailing_zeros() as usize;
                let above = self.elapsed >> shift >> DIGIT_BITS << DIGIT_BITS;
                return Some((level, slot, (above | slot as u64) << shift));
            }
        }
        None
    }

    /// Puts an entry at the end of the list that its tick belongs to.
    fn place(&mut self, at: u32) {
        let tick = self.entries[at as usize].tick;
        let list = if tick <= self.elapsed {
            DUE
        } else {
            let level = level_of(self.elapsed ^ tick);
            let slot = digit(tick, level);
            self.occupied[level] |= 1 << slot;
            level * SLOTS + slot
        };
        let last = self.lists[list].last;
        match self.entries.get_mut(last as usize) {
            Some(before) => before.next = at,
            None => self.lists[list].first = at,
        }
        self.lists[list].last = at;
        let entry = &mut self.entries[at as usize];
        (entry.list, entry.previous, entry.next) = (list as u16, last, NONE);
    }

    fn unlink(&mut self, at: u32) {
        let Entry { list, previous, next, .. } = self.entries[at as usize];
        let list = list as usize;
        match self.entries.get_mut(previous as usize) {
            Some(before) => before.next = next,
            None => self.lists[list].first = next,
        }
        match self.entries.get_mut(next as usize) {
            Some(behind) => behind.previous = previous,
            None => self.lists[list].last = previous,
        }
        if list != DUE && self.lists[list].first == NONE {
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
    }

    /// Frees an entry that is on no list any more.
    fn retire(&mut self, at: u32) -> Option<T> {
        let entry = &mut self.entries[at as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = self.free;
        self.free = at;
        self.len -= 1;
        entry.content.take()
    }

    /// Takes a whole list; its slot is empty afterwards.
    fn take_list(&mut self, list: usize) -> u32 {
        if list != DUE {
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
        std::mem::replace(&mut self.lists[list], EMPTY).first
    }

    fn fire_list(&mut self, list: usize, fire: &mut impl FnMut(T)) {
        let mut at = self.take_list(list);
        while let Some(entry) = self.entries.get(at as usize) {
            let next = entry.next;
            self.retire(at).into_iter().for_each(&mut *fire);
            at = next;
        }
    }

    /// Moves a slot's timers to lower levels, in order.
    fn cascade(&mut self, level: usize, slot: usize) {
        let mut at = self.take_list(level * SLOTS + slot);
        while let Some(entry) = self.entries.get(at as usize) {
            let next = entry.next;
            self.place(at);
            at = next;
        }
    }
}

/// The digit of a tick number that selects the slot on a level.
fn digit(tick: u64, level: usize) -> usize {
    (tick >> (level as u32 * DIGIT_BITS)) as usize % SLOTS
}

/// The level of the highest digit that differs.
fn level_of(difference: u64) -> usize {
    (63 - difference.leading_zeros()) as usize / DIGIT_BITS as usize
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use proptest::prelude::*;

    use super::*;

    fn fired(wheel: &mut TimerWheel<u32>, now_ns: u64) -> Vec<u32> {
        let mut all = Vec::new();
        wheel.advance(now_ns, |content| all.push(content));
        all
    }

    #[test]
    fn a_timer_fires_at_its_tick_and_not_before() {
        let mut wheel = TimerWheel::new(1000, 4, 0);
        wheel.schedule(1_500, 1).unwrap();
        assert_eq!(fired(&mut wheel, 1_999), []);
        assert_eq!(wheel.next_deadline(), Some(2_000));
        assert_eq!(fired(&mut wheel, 2_000), [1]);
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn a_full_wheel_gives_the_content_back_and_takes_again_after_a_timer_fired() {
        let mut wheel = TimerWheel::new(1, 1, 0);
        wheel.schedule(5, 1).unwrap();
        assert_eq!(wheel.schedule(6, 2), Err(2));
        assert_eq!(fired(&mut wheel, 5), [1]);
        assert!(wheel.schedule(6, 2).is_ok());
    }

    #[test]
    fn an_identifier_is_stale_once_its_timer_is_gone_even_if_the_entry_is_used_again() {
        let mut wheel = TimerWheel::new(1, 1, 0);
        let first = wheel.schedule(5, 1).unwrap();
        assert_eq!(wheel.cancel(first), Some(1));
        wheel.schedule(5, 2).unwrap();
        assert_eq!(wheel.cancel(first), None);
        assert_eq!(wheel.len(), 1);
    }

    #[test]
    fn reserving_more_keeps_the_timers_that_are_set() {
        let mut wheel = TimerWheel::new(1, 2, 0);
        wheel.schedule(5, 1).unwrap();
        wheel.reserve(4);
        (2..5).for_each(|n| assert!(wheel.schedule(5, n).is_ok()));
        assert_eq!(wheel.schedule(5, 5), Err(5));
        assert_eq!(fired(&mut wheel, 5), [1, 2, 3, 4]);
    }

    #[test]
    fn the_farthest_deadline_there_is_fires() {
        let mut wheel = TimerWheel::new(1, 1, 3);
        wheel.schedule(u64::MAX, 1).unwrap();
        assert_eq!(fired(&mut wheel, u64::MAX - 1), []);
        assert_eq!(fired(&mut wheel, u64::MAX), [1]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Schedule { ahead: u64 },
        Cancel { which: usize },
        Advance { by: u64 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let span = prop_oneof![0..4u64, 0..300u64, 0..20_000u64, 0..5_000_000u64, 0..(1u64 << 40)];
        let step = prop_oneof![
            4 => span.clone().prop_map(|ahead| Step::Schedule { ahead }),
            1 => any::<usize>().prop_map(|which| Step::Cancel { which }),
            2 => span.prop_map(|by| Step::Advance { by }),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn the_wheel_fires_what_a_sorted_heap_would_in_the_same_order(
            steps in steps(), tick_ns in prop_oneof![Just(1u64), Just(64), Just(1000), 1..5000u64], start: u32,
        ) {
            const CAPACITY: usize = 40;
            let mut now = u64::from(start);
            let mut wheel = TimerWheel::new(tick_ns, CAPACITY, now);
            let mut elapsed = now / tick_ns;
            let mut heap = BinaryHeap::new();
            let mut timers = Vec::new();
            for (number, step) in (0u32..).zip(steps) {
                match step {
                    Step::Schedule { ahead } => {
                        let scheduled = wheel.schedule(now + ahead, number);
                        prop_assert_eq!(scheduled.is_ok(), heap.len() < CAPACITY);
                        if let Ok(id) = scheduled {
                            let tick = (now + ahead).div_ceil(tick_ns).max(elapsed);
                            heap.push(Reverse((tick, number)));
                            timers.push((number, id));
                        }
                    }
                    Step::Cancel { which } => {
                        if timers.is_empty() { continue }
                        let (number, id) = timers[which % timers.len()];
                        let known = heap.iter().any(|Reverse((_, n))| *n == number);
                        prop_assert_eq!(wheel.cancel(id), known.then_some(number));
                        heap.retain(|Reverse((_, n))| *n != number);
                    }
                    Step::Advance { by } => {
                        now += by;
                        elapsed = now / tick_ns;
                        let mut expected = Vec::new();
                        while heap.peek().is_some_and(|Reverse((tick, _))| *tick <= elapsed) {
                            expected.extend(heap.pop().map(|Reverse((_, n))| n));
                        }
                        prop_assert_eq!(fired(&mut wheel, now), expected);
                    }
                }
                prop_assert_eq!(wheel.len(), heap.len());
                let earliest = heap.peek().map(|Reverse((tick, _))| tick * tick_ns);
                prop_assert_eq!(wheel.next_deadline().is_some(), earliest.is_some());
                if let (Some(bound), Some(earliest)) = (wheel.next_deadline(), earliest) {
                    prop_assert!(bound <= earliest, "{} after {}", bound, earliest);
                }
            }
        }

        #[test]
        fn sleeping_until_next_deadline_reaches_every_timer_in_a_bounded_number_of_wakings(ahead in 1..u64::MAX / 2) {
            let mut wheel = TimerWheel::new(1, 1, 0);
            wheel.schedule(ahead, 1).unwrap();
            let mut wakings = 0;
            while let Some(at) = wheel.next_deadline() {
                wheel.advance(at, |_| ());
                wakings += 1;
                prop_assert!(wakings <= LEVELS);
            }
        }
    }
}
