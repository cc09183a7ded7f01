use std::io::IoSlice;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use super::config::SocketConfig;
use super::connection::{Connection, ask};
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

/// Answers what a connection asks its worker for, until there was enough of that.
fn answer_asks(lane: &Lane, asked: u32, answer: impl Fn(&Connection), end: impl Fn(&Connection)) {
    const ANSWERS: u32 = 20_000;
    let until = Instant::now() + Duration::from_secs(20);
    let mut answered = 0;
    while answered <= ANSWERS && Instant::now() < until {
        let Some(Errand::Stream(connection)) = lane.next_errand() else { continue };
        if connection.take_asks() & asked != 0 {
            if answered == ANSWERS {
                end(&connection)
            } else {
                answer(&connection)
            }
            answered += 1;
        }
    }
}

/// Goes on at each edge for as long as it does not block, until it is done.
fn go_on_at_edges(connection: &Connection, go_on: impl Fn() -> std::io::Result<usize>) {
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let edges = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(&set, connection.watch(), epoll::EventData::new_u64(0), edges).unwrap();
    let patience = Timespec { tv_sec: 5, tv_nsec: 0 };
    while go_on().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock) {
        let mut events = Vec::with_capacity(1);
        let count = epoll::wait(&set, rustix::buffer::spare_capacity(&mut events), Some(&patience)).unwrap();
        assert_eq!(count, 1, "an edge is lost");
    }
}

#[test]
fn who_waits_for_edges_misses_none_though_the_worker_answers_before_the_level_falls() {
    let (config, at) = (SocketConfig::default(), ([192, 0, 2, 1], 7).into());
    let lane = Arc::new(Lane::new(0, &config));
    let connect = || {
        let connection = Connection::blank(&lane, &config).unwrap().to(at);
        connection.open(at, 1_000);
        connection.manners.nonblocking.store(true, Ordering::Relaxed);
        connection
    };
    // Text for which there is no memory, again and again.
    let reads = connect();
    let offer = |connection: &Connection| {
        connection.note_served();
        connection.offer();
    };
    reads.offer();
    let finish = |connection: &Connection| {
        connection.finish();
        connection.signal_reader();
    };
    std::thread::scope(|scope| {
        scope.spawn(|| go_on_at_edges(&reads, || reads.read(&mut [0; 10], false)));
        answer_asks(&lane, ask::RECEIVE, offer, finish);
    });
    // Blank frames that others take, likewise.
    let writes = connect();
    writes.set_interest(Readiness::WRITABLE);
    std::thread::scope(|scope| {
        scope.spawn(|| go_on_at_edges(&writes, || writes.write(&[IoSlice::new(b"text")])));
        answer_asks(&lane, ask::BLANKS, Connection::feed, |connection| connection.end(0));
    });
}
