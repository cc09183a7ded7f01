//! Datagrams.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tailwater_dataplane::socket::{SocketConfig, Sockets};

use crate::hosts::{Hosts, at};
use crate::traffic::PATIENCE;

#[test]
fn datagrams_go_there_and_back_whatever_their_length() {
    let hosts = Hosts::start();
    let [client, server] = [0, 1].map(|n: usize| hosts.sockets[n].bind_udp("0.0.0.0:7000").unwrap());
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let mut room = vec![0; 70_000];
    for len in [0, 1, 1_000, 1_472, 1_473, 9_000, 60_000] {
        let sent: Vec<u8> = (0..len).map(|at| at as u8).collect();
        assert_eq!(client.send_to(&sent, at(1, 7_000)).unwrap(), len);
        let (n, from) = server.recv_from(&mut room).unwrap();
        assert_eq!((&room[..n], from), (&sent[..], at(0, 7_000)));
        server.send_to(&room[..n], from).unwrap();
        assert_eq!(client.recv_from(&mut room).unwrap(), (len, at(1, 7_000)));
    }
    assert!(client.send_to(&vec![0; 65_508], at(1, 7_000)).is_err());
    drop((client, server));
    hosts.stop();
}

#[test]
fn a_connected_socket_hears_its_peer_only_and_of_its_absence() {
    let hosts = Hosts::start();
    let [server, other] = [7_000, 7_001].map(|port| hosts.sockets[1].bind_udp(at(1, port)).unwrap());
    let client = hosts.sockets[0].connect_udp(at(1, 7_000)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send(b"hello").unwrap();
    let mut room = [0; 64];
    let (n, from) = server.recv_from(&mut room).unwrap();
    assert_eq!((&room[..n], from), (&b"hello"[..], client.local_addr().unwrap()));
    other.send_to(b"not you", from).unwrap();
    server.send_to(b"you", from).unwrap();
    assert_eq!(client.recv(&mut room).unwrap(), 3);
    drop(server);
    client.send(b"anybody?").unwrap();
    assert_eq!(client.recv(&mut room).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    drop((client, other));
    hosts.stop();
}

#[test]
fn a_full_inbox_drops_what_comes_later_and_says_so() {
    let hosts = Hosts::with(SocketConfig { inbox_max: 4, ..SocketConfig::default() });
    let server = hosts.sockets[1].bind_udp("0.0.0.0:7000").unwrap();
    let client = hosts.sockets[0].bind_udp("0.0.0.0:7000").unwrap();
    for n in 0..20u8 {
        client.send_to(&[n], at(1, 7_000)).unwrap();
    }
    let end = std::time::Instant::now() + PATIENCE;
    while server.overflows() < 16 {
        assert!(std::time::Instant::now() < end, "{} dropped", server.overflows());
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut room = [0; 4];
    for n in 0..4u8 {
        assert_eq!((server.recv_from(&mut room).unwrap().0, room[0]), (1, n), "the first ones are kept");
    }
    server.set_nonblocking(true).unwrap();
    assert_eq!(server.recv_from(&mut room).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop((client, server));
    hosts.stop();
}

#[test]
fn strangers_do_not_fill_the_inbox_of_a_connected_socket() {
    let hosts = Hosts::with(SocketConfig { inbox_max: 4, ..SocketConfig::default() });
    let [friend, stranger] = [7_000, 7_001].map(|port| hosts.sockets[0].bind_udp(at(0, port)).unwrap());
    let server = hosts.sockets[1].bind_udp("0.0.0.0:7000").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    friend.set_read_timeout(Some(PATIENCE)).unwrap();
    server.connect(at(0, 7_000)).unwrap();
    let mut room = [0; 16];
    // When this has left the worker knows of the peer.
    server.send(b"hello").unwrap();
    assert_eq!(friend.recv_from(&mut room).unwrap().0, 5);
    for _ in 0..20 {
        stranger.send_to(b"me", at(1, 7_000)).unwrap();
    }
    friend.send_to(b"friend", at(1, 7_000)).unwrap();
    assert_eq!(server.recv(&mut room).unwrap(), 6);
    assert_eq!(server.overflows(), 0);
    drop((friend, stranger, server));
    hosts.stop();
}

#[test]
fn a_datagram_that_all_blank_frames_do_not_hold_is_too_long() {
    let hosts = Hosts::with(SocketConfig { blanks_max: 4, ..SocketConfig::default() });
    let [client, server] = [0, 1].map(|n: usize| hosts.sockets[n].bind_udp("0.0.0.0:7000").unwrap());
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let error = client.send_to(&[0; 9_000], at(1, 7_000)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    let mut room = vec![0; 16_384];
    for _ in 0..50 {
        client.send_to(&[1; 6_000], at(1, 7_000)).unwrap();
        assert_eq!(server.recv_from(&mut room).unwrap().0, 6_000);
    }
    drop((client, server));
    hosts.stop();
}

#[test]
fn who_sends_where_memory_is_short_waits_until_there_is_some_or_the_time_is_up() {
    const READERS: u16 = 21;
    const LATE: u16 = 8;
    let hosts = Hosts::with(SocketConfig { chunks_max: 64, ..SocketConfig::default() });
    let [client, server] = [0, 1].map(|n: usize| hosts.sockets[n].bind_udp("0.0.0.0:7000").unwrap());
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    // Unread, they leave the last eighth: eight chunks. Those who have asked once take half of that, and leave less than six.
    let readers = 1..=READERS + LATE;
    let away: Vec<_> = readers.map(|n| hosts.sockets[0].bind_udp(at(0, 7_000 + n)).unwrap()).collect();
    for (reader, n) in away.iter().zip(1..) {
        if n > READERS {
            reader.set_nonblocking(true).unwrap();
            reader.recv_from(&mut [0; 4]).unwrap_err();
        }
        let end = std::time::Instant::now() + PATIENCE;
        while reader.overflows() == 0 {
            server.send_to(b"x", reader.local_addr().unwrap()).unwrap();
            std::thread::sleep(Duration::from_millis(1));
            assert!(std::time::Instant::now() < end);
        }
    }
    client.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let text = [3; 10_000];
    assert_eq!(client.send_to(&text, at(1, 7_000)).unwrap_err().kind(), ErrorKind::WouldBlock);
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(client.send_to(&text, at(1, 7_000)).unwrap(), text.len()));
        std::thread::sleep(Duration::from_millis(20));
        let (early, late) = away.split_at(READERS.into());
        assert_eq!(late.iter().filter(|reader| reader.recv_from(&mut [0; 4]).is_ok()).count(), 4);
        for reader in early {
            reader.set_nonblocking(true).unwrap();
            while reader.recv_from(&mut [0; 4]).is_ok() {}
        }
    });
    assert_eq!(server.recv_from(&mut [0; 16_384]).unwrap().0, text.len());
    drop((client, server, away));
    hosts.stop();
}

#[test]
fn the_descriptor_tells_of_datagrams() {
    let hosts = Hosts::start();
    let [client, server] = [0, 1].map(|n: usize| Sockets::bind_udp(&hosts.sockets[n], "0.0.0.0:7000").unwrap());
    let level = |within: Duration| {
        let fd = server.as_fd();
        let mut set = [PollFd::new(&fd, PollFlags::IN)];
        poll(&mut set, Some(&Timespec::try_from(within).unwrap())).unwrap() == 1
    };
    assert!(!level(Duration::ZERO));
    client.send_to(b"x", at(1, 7_000)).unwrap();
    assert!(level(PATIENCE));
    server.recv_from(&mut [0; 4]).unwrap();
    assert!(!level(Duration::ZERO));
    drop((client, server));
    hosts.stop();
}
