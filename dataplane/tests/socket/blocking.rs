//! Threads that wait.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::hosts::{Hosts, at};
use crate::traffic::{echo, expect, send};
use tailwater_dataplane::socket::{SocketConfig, TcpStream};

/// Sends so many bytes through an echo at the other end, and compares what comes back.
fn there_and_back(stream: &TcpStream, number: u64, len: u64) {
    std::thread::scope(|scope| {
        scope.spawn(move || {
            send(stream, number, len);
            stream.shutdown(Shutdown::Write).unwrap();
        });
        expect(stream, number, len);
    });
}

#[test]
fn every_byte_of_a_long_stream_comes_back() {
    let hosts = Hosts::start();
    let (client, server) = hosts.connect();
    assert_eq!((client.peer_addr().unwrap(), server.local_addr().unwrap()), (at(1, 7_000), at(1, 7_000)));
    assert_eq!(client.local_addr().unwrap(), server.peer_addr().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(echo(&server).unwrap(), 8 << 20);
            server.shutdown(Shutdown::Write).unwrap();
        });
        there_and_back(&client, 1, 8 << 20);
    });
    drop((client, server));
    hosts.stop();
}

#[test]
fn many_threads_with_connections_of_their_own_do_not_mix_up_their_bytes() {
    const THREADS: u64 = 16;
    let hosts = Hosts::start();
    let listener = hosts.listen(7_000);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::scope(|serving| {
                for stream in listener.incoming().take(THREADS as usize * 4) {
                    serving.spawn(move || {
                        echo(&stream).unwrap();
                        stream.shutdown(Shutdown::Write).unwrap();
                    });
                }
            });
        });
        for thread in 0..THREADS {
            let sockets = hosts.sockets[0].clone();
            scope.spawn(move || {
                for round in 0..4 {
                    let stream = sockets.connect(at(1, 7_000)).unwrap();
                    there_and_back(&stream, thread, 100_000 * round);
                }
            });
        }
    });
    drop(listener);
    hosts.stop();
}

#[test]
fn a_writer_whose_peer_does_not_read_is_held_up_and_released() {
    let hosts = Hosts::start();
    let (client, server) = hosts.connect();
    client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut held_up = 0;
    let error = loop {
        match (&client).write(&vec![7; 100_000]) {
            Ok(n) => held_up += n as u64,
            Err(error) => break error,
        }
        assert!(held_up < 64 << 20, "nothing holds the writer up");
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    client.set_write_timeout(None).unwrap();
    std::thread::scope(|scope| {
        // Waits, for there is no room, until the reader below has made some.
        scope.spawn(|| {
            (&client).write_all(&vec![7; 1_000_000]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        (&server).read_to_end(&mut got).unwrap();
        assert_eq!(got.len() as u64, held_up + 1_000_000);
        assert!(got.iter().all(|&byte| byte == 7));
    });
    drop((client, server));
    hosts.stop();
}

#[test]
fn the_smallest_queues_only_make_it_slower() {
    let config = SocketConfig { inbox_max: 2, outbox_max: 2, blanks_max: 2, ..SocketConfig::default() };
    let hosts = Hosts::with(config);
    let (client, server) = hosts.connect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            echo(&server).unwrap();
            server.shutdown(Shutdown::Write).unwrap();
        });
        there_and_back(&client, 3, 300_000);
    });
    drop((client, server));
    hosts.stop();
}

#[test]
fn reads_accepts_and_connects_end_when_their_time_is_up() {
    let hosts = Hosts::start();
    let (client, server) = hosts.connect();
    let mut room = [0; 10];
    client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert_eq!(client.read_timeout().unwrap(), Some(Duration::from_millis(50)));
    let begun = Instant::now();
    assert_eq!((&client).read(&mut room).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(begun.elapsed() >= Duration::from_millis(50));
    assert_eq!(client.set_read_timeout(Some(Duration::ZERO)).unwrap_err().kind(), ErrorKind::InvalidInput);
    // Nobody has this address.
    let silent = at(98, 7_000);
    let error = hosts.sockets[0].connect_timeout(&silent, Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    drop((client, server));
    hosts.stop();
}

#[test]
fn settings_and_snapshots_reach_the_connection() {
    let hosts = Hosts::start();
    let (client, server) = hosts.connect();
    assert_eq!(client.snapshot().unwrap().congestion.name, "cubic");
    client.set_congestion_control("reno").unwrap();
    client.set_nodelay(true).unwrap();
    let snapshot = client.snapshot().unwrap();
    assert_eq!((snapshot.congestion.name, snapshot.remote), ("reno", at(1, 7_000)));
    assert!(client.nodelay().unwrap());
    assert_eq!(client.set_congestion_control("vegas").unwrap_err().kind(), ErrorKind::NotFound);
    (&client).write_all(b"peek").unwrap();
    let mut room = [0; 8];
    assert_eq!((server.peek(&mut room).unwrap(), &room[..4]), (4, &b"peek"[..]));
    assert_eq!((&server).read(&mut room).unwrap(), 4);
    drop((client, server));
    hosts.stop();
}
