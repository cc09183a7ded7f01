//! The host stops while sockets are open: every call returns, and every frame comes home.

use std::io::{ErrorKind, Read, Write};

use crate::hosts::{Hosts, at};

#[test]
fn calls_that_wait_return_when_the_host_stops() {
    let hosts = Hosts::start();
    let (reading, unread) = hosts.connect();
    let (writing, not_reading) = hosts.connect();
    let listener = hosts.listen(7_001);
    let datagrams = hosts.sockets[0].bind_udp("0.0.0.0:7000").unwrap();
    (&reading).write_all(&[1; 100_000]).unwrap();
    let sockets = hosts.sockets.clone();
    std::thread::scope(|scope| {
        let waiting = [
            scope.spawn(|| (&reading).read(&mut [0]).map(|_| ())),
            scope.spawn(|| (&writing).write_all(&vec![0; 64 << 20])),
            scope.spawn(|| listener.accept().map(|_| ())),
            scope.spawn(|| datagrams.recv_from(&mut [0]).map(|_| ())),
            scope.spawn(|| sockets[0].connect(at(98, 7_000)).map(|_| ())),
        ];
        // Half a frame is in somebody's hands.
        (&unread).read_exact(&mut [0; 100]).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(waiting.iter().all(|call| !call.is_finished()));
        hosts.stop();
        for call in waiting {
            assert_eq!(call.join().unwrap().unwrap_err().kind(), ErrorKind::NetworkDown);
        }
    });
    // What comes later fails as well, and nothing is waited for.
    assert_eq!((&reading).read(&mut [0]).unwrap(), 0);
    assert_eq!((&not_reading).write(&[0]).unwrap_err().kind(), ErrorKind::NetworkDown);
    assert_eq!((&not_reading).write(&[0]).unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!((&unread).read(&mut [0]).unwrap_err().kind(), ErrorKind::NetworkDown);
    assert_eq!(sockets[0].connect(at(1, 7_000)).unwrap_err().kind(), ErrorKind::NetworkDown);
    assert!(sockets[1].listen_tcp("0.0.0.0:7002").is_err());
    assert_eq!(datagrams.send_to(b"x", at(1, 7_000)).unwrap_err().kind(), ErrorKind::NetworkDown);
}

#[test]
fn threads_at_work_lose_no_frame_when_the_host_stops() {
    for round in 0..20 {
        let hosts = Hosts::start();
        let streams: Vec<_> = (0..4).map(|_| hosts.connect()).collect();
        std::thread::scope(|scope| {
            for (client, server) in &streams {
                scope.spawn(|| {
                    let mut room = vec![0; 10_000];
                    while (&*server).read(&mut room).is_ok_and(|n| n > 0) {}
                });
                scope.spawn(|| while (&*client).write(&[3; 5_000]).is_ok() {});
            }
            std::thread::sleep(std::time::Duration::from_millis(round));
            hosts.stop();
        });
    }
}
