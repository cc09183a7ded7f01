//! Orders in which threads and a worker can meet while they wake each other, tried by loom: no wake-up is lost, and a
//! descriptor's level is right at rest, a failure is not missed. The sources are those of the library, on loom's atomics.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "a test, of parts of the library")]

#[path = "../src/socket/event.rs"]
mod event;
#[path = "../src/socket/gate.rs"]
mod gate;
#[path = "../src/socket/stage.rs"]
mod stage;
#[path = "../src/worker/waker.rs"]
mod waker;

/// Stands for the library's `sync`.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, Ordering, fence};
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

    /// As the kernel has it: the count changes, and is waited for, under a lock.
    pub(crate) struct EventFd {
        count: Mutex<u32>,
        raised: Condvar,
        /// To have a descriptor to show.
        file: OwnedFd,
    }

    impl EventFd {
        pub(crate) fn new() -> std::io::Result<Self> {
            let file = std::fs::File::open("/dev/null")?.into();
            Ok(Self { count: Mutex::new(0), raised: Condvar::new(), file })
        }

        pub(crate) fn raise(&self) {
            *self.count.lock().unwrap() += 1;
            self.raised.notify_all();
        }

        pub(crate) fn lower(&self) -> u32 {
            std::mem::take(&mut *self.count.lock().unwrap())
        }

        pub(crate) fn level(&self) -> bool {
            *self.count.lock().unwrap() > 0
        }

        /// Stands for poll(2). For ever, if nobody raises it: loom reports that.
        pub(crate) fn poll(&self) {
            let mut count = self.count.lock().unwrap();
            while *count == 0 {
                count = self.raised.wait(count).unwrap();
            }
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
use stage::Stage;
use sync::{AtomicBool, AtomicU32, Ordering, fence};
use waker::Waker;

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
fn what_a_reader_leaves_is_not_missed_by_another() {
    model(|| {
        // A frame of two bytes, each for a reader of its own, who has it in hand under the lock; as `Reader::read`.
        struct Stream {
            gate: Gate,
            inbox: AtomicU32,
            in_hand: loom::sync::Mutex<u32>,
            leftover: AtomicBool,
        }
        let stream = Arc::new(Stream {
            gate: Gate::default(),
            inbox: AtomicU32::new(0),
            in_hand: loom::sync::Mutex::new(0),
            leftover: AtomicBool::new(false),
        });
        let try_read = |stream: &Stream| {
            let mut in_hand = stream.in_hand.lock().unwrap();
            if *in_hand == 0 && stream.inbox.load(Ordering::Acquire) > 0 {
                *in_hand = stream.inbox.swap(0, Ordering::AcqRel);
            }
            let took = *in_hand > 0;
            *in_hand -= u32::from(took);
            stream.leftover.store(*in_hand > 0, Ordering::Release);
            drop(in_hand);
            if took {
                fence(Ordering::SeqCst);
                if stream.leftover.load(Ordering::Relaxed) {
                    stream.gate.open();
                }
            }
            took
        };
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let stream = Arc::clone(&stream);
                thread::spawn(move || {
                    while !try_read(&stream) {
                        stream.gate.wait(Duration::ZERO, None, || {
                            stream.leftover.load(Ordering::Relaxed) || stream.inbox.load(Ordering::Acquire) > 0
                        });
                    }
                })
            })
            .collect();
        stream.inbox.fetch_add(2, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        stream.gate.open();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn a_worker_that_goes_to_sleep_never_misses_what_it_is_woken_for() {
    model(|| {
        let shared = Arc::new((Waker::new().unwrap(), AtomicU32::new(0)));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.1.fetch_add(1, Ordering::Release);
                    shared.0.wake();
                })
            })
            .collect();
        // Two turns of a worker that sleeps whenever it finds nothing.
        let (waker, work) = &*shared;
        let mut done = 0;
        while done < 2 {
            waker.announce();
            if work.load(Ordering::Acquire) == done {
                waker.fd().poll();
            }
            waker.awake();
            done = work.load(Ordering::Acquire);
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        // A wake-up that came late does not keep the worker awake for ever.
        waker.announce();
        waker.awake();
        assert!(!waker.fd().level());
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

#[test]
fn a_connection_that_failed_is_never_taken_for_one_that_ended_well() {
    model(|| {
        let stage = Arc::new(Stage::new());
        stage.open();
        let reader = {
            let stage = Arc::clone(&stage);
            thread::spawn(move || {
                // As a read does.
                let told = stage.is_over();
                assert!(!told || stage.take_error() == Some(1), "a clean end");
                told
            })
        };
        assert!(stage.end(1));
        let told = reader.join().unwrap();
        assert_eq!(stage.take_error(), (!told).then_some(1), "once");
        assert!(stage.is_over() && !stage.end(2) && stage.take_error().is_none());
    });
}
