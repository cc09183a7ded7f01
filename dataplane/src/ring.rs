//! Single-producer single-consumer rings of descriptors, as AF_XDP defines them: the ring algebra, without system calls.
//!
//! ```text
//!            consumer                 producer
//!   ---------|xxxxxxxxxxxxxxxxxxxxxxxx|-----------   indices run freely and wrap at 2^32;
//!    free      entries to consume        free        slot = index & (size - 1)
//! ```
//!
//! Each side keeps a cached copy of the other's index and reads the shared one only when the cache says that there is
//! nothing left. The kernel is the other side of the rings of an AF_XDP socket (`port::af_xdp`), the other end of a
//! [`memory`](crate::port::memory) port is the other side of those in process memory.
//!
//! Invariant: a slot is read or written only between taking it (`peek`, `reserve`) and publishing the index, by the one
//! handle of that side. Release/acquire on the indices orders slot contents (Documentation/networking/af_xdp.rst).

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// `XDP_RING_NEED_WAKEUP`: the kernel waits for a system call before it looks at the ring again.
const NEED_WAKEUP: u32 = 1;

/// An AF_XDP descriptor (`struct xdp_desc`): where a packet's segment lies.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Offset from the start of the UMEM, in bytes.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// `XDP_PKT_CONTD` and other flags.
    pub options: u32,
}

/// `XDP_PKT_CONTD`: the packet goes on in the next descriptor.
pub const CONTINUED: u32 = 1;

/// The shared words and slots of a ring, and what keeps them mapped.
pub(crate) struct Shared<T> {
    pub(crate) producer: NonNull<AtomicU32>,
    pub(crate) consumer: NonNull<AtomicU32>,
    pub(crate) flags: NonNull<AtomicU32>,
    pub(crate) slots: NonNull<T>,
    pub(crate) size: u32,
    /// Keeps the memory alive.
    pub(crate) _memory: Arc<dyn Send + Sync>,
}

/// Words of a ring in process memory, each on a cache line of its own.
struct OwnMemory<T> {
    producer: crossbeam_utils::CachePadded<AtomicU32>,
    consumer: crossbeam_utils::CachePadded<AtomicU32>,
    flags: crossbeam_utils::CachePadded<AtomicU32>,
    slots: Box<[std::cell::UnsafeCell<T>]>,
}

// SAFETY: slots are reached only through the two ring handles, which order access by the indices.
#[allow(unsafe_code)]
unsafe impl<T: Send> Sync for OwnMemory<T> {}

/// A ring in process memory, with `size` slots (rounded up to a power of two).
pub(crate) fn in_process<T: Copy + Default + Send + 'static>(size: u32) -> (Producer<T>, Consumer<T>) {
    let size = size.next_power_of_two();
    let memory = Arc::new(OwnMemory {
        producer: AtomicU32::new(0).into(),
        consumer: AtomicU32::new(0).into(),
        flags: AtomicU32::new(0).into(),
        slots: (0..size).map(|_| std::cell::UnsafeCell::new(T::default())).collect(),
    });
    let shared = || Shared {
        producer: NonNull::from(&*memory.producer),
        consumer: NonNull::from(&*memory.consumer),
        flags: NonNull::from(&*memory.flags),
        // UnsafeCell<T> has T's layout.
        slots: NonNull::from(&memory.slots[..]).cast::<T>(),
        size,
        _memory: Arc::clone(&memory) as Arc<dyn Send + Sync>,
    };
    // SAFETY: one producer and one consumer over live memory of `size` slots.
    #[allow(unsafe_code)]
    unsafe {
        (Producer::new(shared()), Consumer::new(shared()))
    }
}

/// The writing side of a ring.
pub(crate) struct Producer<T> {
    shared: Shared<T>,
    /// Next slot to write.
    position: u32,
    /// Consumer index as last read.
    consumed: u32,
}

/// The reading side of a ring.
pub(crate) struct Consumer<T> {
    shared: Shared<T>,
    /// Next slot to read.
    position: u32,
    /// Producer index as last read.
    produced: u32,
}

// SAFETY: the handle is the only one of its side; what it points to is kept alive by `Shared::_memory`.
#[allow(unsafe_code)]
unsafe impl<T: Send> Send for Producer<T> {}
// SAFETY: as for `Producer`.
#[allow(unsafe_code)]
unsafe impl<T: Send> Send for Consumer<T> {}

impl<T: Copy> Producer<T> {
    /// # Safety
    /// `shared` points to live ring memory with `size` (a power of two) slots, and no other producer handle exists.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn new(shared: Shared<T>) -> Self {
        let mut ring = Self { position: 0, consumed: 0, shared };
        ring.position = ring.producer().load(Ordering::Relaxed);
        ring.consumed = ring.consumer().load(Ordering::Acquire);
        ring
    }

    #[inline]
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: kept alive by `_memory`.
        #[allow(unsafe_code)]
        unsafe {
            self.shared.producer.as_ref()
        }
    }

    #[inline]
    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: kept alive by `_memory`.
        #[allow(unsafe_code)]
        unsafe {
            self.shared.consumer.as_ref()
        }
    }

    /// Index of the next slot to write; runs freely.
    #[inline]
    pub(crate) fn position(&self) -> u32 {
        self.position
    }

    /// Slots that can be written now.
    #[inline]
    pub(crate) fn free(&mut self, wanted: u32) -> u32 {
        let free = self.shared.size - self.position.wrapping_sub(self.consumed);
        if free >= wanted {
            return free;
        }
        self.consumed = self.consumer().load(Ordering::Acquire);
        self.shared.size - self.position.wrapping_sub(self.consumed)
    }

    /// Entries that the other side has not taken yet.
    #[inline]
    pub(crate) fn pending(&mut self) -> u32 {
        self.consumed = self.consumer().load(Ordering::Acquire);
        self.position.wrapping_sub(self.consumed)
    }

    /// Writes an entry. Returns it back when the ring is full. Not visible to the other side before `publish`.
    #[inline]
    pub(crate) fn push(&mut self, entry: T) -> Result<(), T> {
        if self.free(1) == 0 {
            return Err(entry);
        }
        let slot = (self.position & (self.shared.size - 1)) as usize;
        // SAFETY: `slot < size`, and the slot is free: the consumer gave it back (acquired above).
        #[allow(unsafe_code)]
        unsafe {
            self.shared.slots.add(slot).write(entry);
        }
        self.position = self.position.wrapping_add(1);
        Ok(())
    }

    /// Slots that `free` found, from the next one up to the end of the ring's memory: to be written in order, and then
    /// passed with `advance`.
    #[inline]
    pub(crate) fn room(&mut self, max: u32) -> &mut [std::mem::MaybeUninit<T>] {
        let first = self.position & (self.shared.size - 1);
        let free = self.shared.size - self.position.wrapping_sub(self.consumed);
        let len = free.min(max).min(self.shared.size - first);
        // SAFETY: `first + len <= size`, and the slots are free: the consumer gave them back (acquired in `free`).
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.shared.slots.add(first as usize).cast().as_ptr(), len as usize)
        }
    }

    /// Passes `n` slots that have been written through `room`. Not visible to the other side before `publish`.
    #[inline]
    pub(crate) fn advance(&mut self, n: usize) {
        self.position = self.position.wrapping_add(n as u32);
    }

    /// Shows all written entries to the other side.
    #[inline]
    pub(crate) fn publish(&mut self) {
        self.producer().store(self.position, Ordering::Release);
    }

    /// Takes the newest entry back that the other side has not consumed.
    ///
    /// Only while the other side is known to be stopped: a running consumer could be reading the very entry.
    pub(crate) fn take_back(&mut self) -> Option<T> {
        if self.pending() == 0 {
            return None;
        }
        self.position = self.position.wrapping_sub(1);
        let slot = (self.position & (self.shared.size - 1)) as usize;
        // SAFETY: `slot < size`; it was written by this handle and not consumed.
        #[allow(unsafe_code)]
        let entry = unsafe { self.shared.slots.add(slot).read() };
        self.publish();
        Some(entry)
    }

    /// Whether the kernel wants a system call before it goes on.
    #[inline]
    pub(crate) fn needs_wakeup(&self) -> bool {
        // SAFETY: kept alive by `_memory`.
        #[allow(unsafe_code)]
        let flags = unsafe { self.shared.flags.as_ref() };
        flags.load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }
}

impl<T: Copy> Consumer<T> {
    /// # Safety
    /// `shared` points to live ring memory with `size` (a power of two) slots, and no other consumer handle exists.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn new(shared: Shared<T>) -> Self {
        let mut ring = Self { position: 0, produced: 0, shared };
        ring.position = ring.consumer().load(Ordering::Relaxed);
        ring.produced = ring.producer().load(Ordering::Acquire);
        ring
    }

    #[inline]
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: kept alive by `_memory`.
        #[allow(unsafe_code)]
        unsafe {
            self.shared.producer.as_ref()
        }
    }

    #[inline]
    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: kept alive by `_memory`.
        #[allow(unsafe_code)]
        unsafe {
            self.shared.consumer.as_ref()
        }
    }

    /// Entries that wait to be read, without a claim on them.
    pub(crate) fn waiting(&self) -> u32 {
        self.producer().load(Ordering::Relaxed).wrapping_sub(self.position).min(self.shared.size)
    }

    /// Entries to read now, after a look at the shared index if the cached one says fewer than `wanted`.
    #[inline]
    pub(crate) fn available(&mut self, wanted: u32) -> u32 {
        let available = self.produced.wrapping_sub(self.position);
        if available >= wanted {
            return available;
        }
        self.produced = self.producer().load(Ordering::Acquire);
        // The other side cannot have produced more than the ring holds; a corrupt index must not make us read on.
        self.produced.wrapping_sub(self.position).min(self.shared.size)
    }

    /// Reads the next entry, if one is known to be there (`available` looks).
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.produced == self.position {
            return None;
        }
        let slot = (self.position & (self.shared.size - 1)) as usize;
        // SAFETY: `slot < size`, and the producer published the slot (acquired in `available`).
        #[allow(unsafe_code)]
        let entry = unsafe { self.shared.slots.add(slot).read() };
        self.position = self.position.wrapping_add(1);
        Some(entry)
    }

    /// Entries known to be there (`available` looks), from the next one up to the end of the ring's memory: to be read
    /// in order, and then passed with `advance`.
    #[inline]
    pub(crate) fn ready(&self, max: u32) -> &[T] {
        let first = self.position & (self.shared.size - 1);
        let known = self.produced.wrapping_sub(self.position).min(self.shared.size);
        let len = known.min(max).min(self.shared.size - first);
        // SAFETY: `first + len <= size`, and the producer published the slots (acquired in `available`), which it leaves
        // alone until `release`.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.shared.slots.add(first as usize).as_ptr(), len as usize)
        }
    }

    /// Passes `n` entries that have been read through `ready`.
    #[inline]
    pub(crate) fn advance(&mut self, n: usize) {
        self.position = self.position.wrapping_add(n as u32);
    }

    /// Gives the slots read so far back to the producer.
    #[inline]
    pub(crate) fn release(&mut self) {
        self.consumer().store(self.position, Ordering::Release);
    }

    /// Number of slots.
    #[inline]
    pub(crate) fn size(&self) -> u32 {
        self.shared.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_refuses_and_takes_again_after_release() {
        let (mut producer, mut consumer) = in_process::<u64>(4);
        (0..4).for_each(|n| producer.push(n).unwrap());
        assert_eq!(producer.push(9), Err(9));
        assert_eq!(consumer.available(1), 0, "nothing is visible before publish");
        producer.publish();
        assert_eq!(consumer.available(1), 4);
        assert_eq!(consumer.pop(), Some(0));
        assert_eq!(producer.push(9), Err(9), "the slot is not free before release");
        consumer.release();
        assert_eq!(producer.push(9), Ok(()));
    }

    #[test]
    fn indices_wrap_at_32_bits() {
        let (mut producer, mut consumer) = in_process::<u64>(8);
        for end in [&producer.shared, &consumer.shared] {
            // SAFETY: test memory, single thread.
            #[allow(unsafe_code)]
            unsafe {
                end.producer.as_ref().store(u32::MAX - 2, Ordering::Relaxed);
                end.consumer.as_ref().store(u32::MAX - 2, Ordering::Relaxed);
            }
        }
        (producer.position, producer.consumed) = (u32::MAX - 2, u32::MAX - 2);
        (consumer.position, consumer.produced) = (u32::MAX - 2, u32::MAX - 2);
        for round in 0..5 {
            (0..8).for_each(|n| producer.push(round * 8 + n).unwrap());
            producer.publish();
            assert_eq!(consumer.available(8), 8);
            (0..8).for_each(|n| assert_eq!(consumer.pop(), Some(round * 8 + n)));
            assert_eq!(consumer.pop(), None);
            consumer.release();
        }
    }

    #[test]
    fn two_threads_see_every_entry_once_and_in_order() {
        let count = if cfg!(miri) { 500 } else { 200_000 };
        let (mut producer, mut consumer) = in_process::<u64>(64);
        let writer = std::thread::spawn(move || {
            let mut next = 0;
            while next < count {
                while next < count && producer.push(next).is_ok() {
                    next += 1;
                }
                producer.publish();
                std::thread::yield_now();
            }
        });
        let mut expected = 0;
        while expected < count {
            if consumer.available(1) == 0 {
                std::thread::yield_now();
            }
            while let Some(entry) = consumer.pop() {
                assert_eq!(entry, expected);
                expected += 1;
            }
            consumer.release();
        }
        writer.join().unwrap();
    }
}
