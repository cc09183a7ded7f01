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
