//! Orders in which threads and a worker can meet at a socket, tried by loom: no thread misses what it waits for, and a
//! descriptor's level is right at rest. The sources are those of the library, on loom's atomics.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "a test, of parts of the library")]

#[path = "../src/socket/event.rs"]
mod event;
#[path = "../src/socket/gate.rs"]
mod gate;

/// Stands for the library's `sync`.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering, fence};
    pub(crate) use loom::thread::yield_now;

    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::time::Duration;

    use loom::sync::{Condvar, Mutex};

    /// As the kernel has it: the word is compared under the lock that a wake-up takes.
    pub(crate) struct Futex {
        word: AtomicU32,
        queue: Mutex<()>,
        woken: Condvar,
    }

    impl Default for Futex {
        fn default() -> Self {
            Self { word: AtomicU32::new(0), queue: Mutex::new(()), woken: Condvar::new() }
        }
    }

    impl Futex {
        pub(crate) fn word(&self) -> &AtomicU32 {
            &self.word
        }

        /// For ever, if nobody wakes it: loom reports that.
        pub(crate) fn sleep(&self, value: u32, _at_most: Duration) {
            let queue = self.queue.lock().unwrap();
            if self.word.load(Ordering::SeqCst) == value {
                drop(self.woken.wait(queue).unwrap());
            }
        }

        pub(crate) fn wake(&self) {
            drop(self.queue.lock().unwrap());
            self.woken.notify_all();
        }
    }

    pub(crate) struct EventFd {
        count: AtomicU32,
        /// To have a descriptor to show.
        file: OwnedFd,
    }

    impl EventFd {
        pub(crate) fn new() -> std::io::Result<Self> {
            Ok(Self { count: AtomicU32::new(0), file: std::fs::File::open("/dev/null")?.into() })
        }

        pub(crate) fn raise(&self) {
            self.count.fetch_add(1, Ordering::AcqRel);
        }

        pub(crate) fn lower(&self) {
            self.count.swap(0, Ordering::AcqRel);
        }

        pub(crate) fn level(&self) -> bool {
            self.count.load(Ordering::Acquire) > 0
        }
    }

    impl AsFd for EventFd {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.file.as_fd()
        }
    }
}

use std::time::Duration;

use event::{Event, Readiness};
use gate::Gate;
use loom::sync::Arc;
use loom::thread;
use sync::{AtomicBool, AtomicU32, Ordering, fence};

/// With so few switches of threads against their will every fault known of this kind shows (loom's advice).
fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

#[test]
fn a_thread_that_waits_never_misses_what_it_waits_for() {
    model(|| {
        let shared = Arc::new((Gate::default(), AtomicBool::new(false)));
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || assert!(shared.0.wait(Duration::ZERO, None, || shared.1.load(Ordering::Acquire))))
            })
            .collect();
        shared.1.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        shared.0.open();
        waiting.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn the_level_of_a_descriptor_is_right_at_rest() {
    for taken in [1, 2] {
        model(move || {
            // One thing is there, and the level says so.
            let shared = Arc::new((Event::new().unwrap(), AtomicU32::new(1)));
            let readiness =
                |count: &AtomicU32| Readiness { readable: count.load(Ordering::Acquire) > 0, writable: true };
            shared.0.watch(|| readiness(&shared.1));
            let worker = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.1.fetch_add(1, Ordering::Release);
                    fence(Ordering::SeqCst);
                    shared.0.raise(|| readiness(&shared.1));
                })
            };
            for _ in 0..taken {
                let took = shared.1.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| count.checked_sub(1));
                shared.0.settle(|| readiness(&shared.1));
                if took.is_err() {
                    break;
                }
            }
            worker.join().unwrap();
            let (event, count) = &*shared;
            assert_eq!(event.fd().level(), count.load(Ordering::Acquire) > 0, "{taken} taken");
        });
    }
}
