//! Connections that are over cost nothing, whether or not further ones are opened.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::{Duration, Instant};

#[allow(dead_code, reason = "shared with the tests of sockets, which use more of it")]
#[path = "socket/hosts.rs"]
mod hosts;

/// Of this process: the only test in it.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn connections_that_are_over_give_their_descriptors_back() {
    const CONNECTIONS: usize = 100;
    let hosts = hosts::Hosts::start();
    let listener = hosts.listen(7_001);
    let before = descriptors();
    let connect = |_| (hosts.sockets[0].connect(hosts::at(1, 7_001)).unwrap(), listener.accept().unwrap().0);
    let streams: Vec<_> = (0..CONNECTIONS).map(connect).collect();
    assert!(descriptors() >= before + 2 * CONNECTIONS);
    drop(streams);
    let end = Instant::now() + Duration::from_secs(10);
    while descriptors() > before {
        assert!(Instant::now() < end, "{} descriptors, {before} before", descriptors());
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(listener);
    hosts.stop();
}
