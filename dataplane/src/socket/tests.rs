use std::io::IoSlice;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::config::SocketConfig;
use super::connection::Connection;
use super::event::{Event, Readiness};
use super::gate::Gate;
use super::lane::{Errand, Lane};

fn level(fd: &impl AsFd) -> bool {
    let mut set = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut set, Some(&Timespec::default())).unwrap() == 1
}

#[test]
fn the_level_follows_what_is_watched_for_and_nothing_is_written_while_nobody_watches() {
    let event = Event::new().unwrap();
    event.raise(|| Readiness::BOTH);
    assert!(!level(event.fd()), "nobody watches");
    let fd = event.watch(|| Readiness::WRITABLE);
    assert!(!level(&fd), "watched for reading only");
    event.raise(|| Readiness::READABLE);
    event.raise(|| Readiness::READABLE);
    assert!(level(&fd));
    event.settle(|| Readiness::BOTH);
    assert!(level(&fd));
    event.settle(|| Readiness::WRITABLE);
    assert!(!level(&fd), "two raises, one write");
    event.set_interest(Readiness::BOTH, || Readiness::WRITABLE);
    assert!(level(&fd));
    event.settle(Readiness::default);
    assert!(!level(&fd));
}

#[test]
fn a_writer_whose_worker_ends_just_then_does_not_wait_for_itself() {
    const ROUNDS: u32 = 3_000;
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        (0..ROUNDS).for_each(write_while_the_worker_ends);
        done.send(())
    });
    assert_eq!(finished.recv_timeout(Duration::from_secs(60)), Ok(()), "a writer waits for ever");
}

/// There is no blank frame, so that the writer asks for one: before, while or after the worker ends.
fn write_while_the_worker_ends(round: u32) {
    let (config, at) = (SocketConfig::default(), ([192, 0, 2, 1], 7).into());
    let lane = Arc::new(Lane::new(0, &config));
    let connection = Connection::blank(&lane, &config).unwrap().to(at);
    connection.open(at, 1_000);
    let writes = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            writes.store(true, Ordering::Release);
            connection.write(&[IoSlice::new(b"text")])
        });
        while !writes.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        (0..round % 100).for_each(|_| std::hint::spin_loop());
        // As the worker's end of it does.
        lane.leave();
        Errand::Stream(Arc::clone(&connection)).abandon();
        std::iter::from_fn(|| lane.next_errand()).for_each(Errand::abandon);
        lane.clear();
        writer.join().unwrap().unwrap_err();
    });
}

#[test]
fn who_waits_is_woken_and_who_waits_in_vain_is_told() {
    let (gate, done) = (Gate::default(), AtomicBool::new(false));
    let is_done = || done.load(Ordering::Acquire);
    let soon = Instant::now() + Duration::from_millis(5);
    assert!(!gate.wait(Duration::ZERO, Some(soon), is_done));
    std::thread::scope(|scope| {
        let waiting = [(); 3].map(|()| scope.spawn(|| gate.wait(Duration::ZERO, None, is_done)));
        done.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        gate.open();
        assert!(waiting.into_iter().all(|thread| thread.join().unwrap()));
    });
}
