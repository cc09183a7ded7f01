use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::event::{Event, Readiness};
use super::gate::Gate;

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
