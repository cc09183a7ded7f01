//! Sockets that do not block, under epoll.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use tailwater_dataplane::socket::{Readiness, TcpStream};

use crate::hosts::{Hosts, at};
use crate::traffic::{PATIENCE, byte, echo};

/// Whether the descriptor is readable, at once or within the time.
fn level(socket: &impl AsFd, within: Duration) -> bool {
    let mut set = [PollFd::new(socket, PollFlags::IN)];
    poll(&mut set, Some(&Timespec::try_from(within).unwrap())).unwrap() == 1
}

const NOW: Duration = Duration::ZERO;

#[test]
fn the_level_is_that_of_what_can_be_read() {
    let hosts = Hosts::start();
    let listener = hosts.listen(7_000);
    listener.set_nonblocking(true).unwrap();
    assert!(!level(&listener, NOW));
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let client = hosts.sockets[0].connect(at(1, 7_000)).unwrap();
    assert!(level(&listener, PATIENCE) && listener.readiness().readable);
    let server = listener.accept().unwrap().0;
    assert!(!level(&listener, NOW));

    server.set_nonblocking(true).unwrap();
    assert!(!level(&server, NOW));
    (&client).write_all(b"0123456789").unwrap();
    assert!(level(&server, PATIENCE));
    let mut room = [0; 5];
    assert_eq!((&server).read(&mut room).unwrap(), 5);
    assert!(level(&server, NOW), "five bytes are left");
    assert_eq!((&server).read(&mut room).unwrap(), 5);
    assert!(!level(&server, NOW), "nothing is left, and no read has failed");
    assert_eq!((&server).read(&mut room).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(client);
    assert!(level(&server, PATIENCE), "the end is something to read");
    assert_eq!((&server).read(&mut room).unwrap(), 0);
    assert!(level(&server, NOW), "and stays");
    drop((server, listener));
    hosts.stop();
}

#[test]
fn a_stream_watched_for_writing_is_ready_when_there_is_room() {
    let hosts = Hosts::start();
    let (client, server) = hosts.connect();
    client.set_nonblocking(true).unwrap();
    client.watch_for(Readiness::WRITABLE);
    assert!(level(&client, NOW));
    let mut written = 0;
    let piece = [9; 30_000];
    loop {
        match (&client).write(&piece) {
            Ok(n) => written += n,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                // The worker may be taking a last bit out of the way.
                if !level(&client, Duration::from_millis(200)) {
                    break;
                }
            }
        }
        assert!(written < 64 << 20);
    }
    assert_eq!(client.readiness(), Readiness::default());
    client.watch_for(Readiness::READABLE);
    assert!(!level(&client, NOW));
    client.watch_for(Readiness::BOTH);
    let mut got = vec![0; written];
    (&server).read_exact(&mut got).unwrap();
    assert!(level(&client, PATIENCE) && client.readiness().writable);
    drop((client, server));
    hosts.stop();
}

#[test]
fn a_connection_that_is_opened_without_waiting_tells_how_it_went() {
    let hosts = Hosts::start();
    let listener = hosts.listen(7_000);
    let stream = hosts.sockets[0].begin_connect(&at(1, 7_000)).unwrap();
    stream.watch_for(Readiness::WRITABLE);
    assert!(level(&stream, PATIENCE));
    assert!(stream.take_error().unwrap().is_none());
    let refused = hosts.sockets[0].begin_connect(&at(1, 7_001)).unwrap();
    refused.watch_for(Readiness::WRITABLE);
    assert!(level(&refused, PATIENCE));
    assert_eq!(refused.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionRefused);
    assert!(refused.take_error().unwrap().is_none());
    drop((stream, refused, listener));
    hosts.stop();
}

/// What is still to be sent and to come back on one connection.
struct Client {
    stream: TcpStream,
    number: u64,
    sent: u64,
    got: u64,
}

const LEN: u64 = 500_000;

impl Client {
    fn go_on(&mut self) {
        let mut piece = [0; 10_000];
        while self.sent < LEN {
            let n = (LEN - self.sent).min(10_000);
            (0..n).for_each(|at| piece[at as usize] = byte(self.number, self.sent + at));
            match (&self.stream).write(&piece[..n as usize]) {
                Ok(n) => self.sent += n as u64,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        loop {
            match (&self.stream).read(&mut piece) {
                Ok(n) => {
                    let right = |(&got, at): (&u8, u64)| got == byte(self.number, at);
                    assert!(n > 0 && piece[..n].iter().zip(self.got..).all(right));
                    self.got += n as u64;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        // Watching for room that is always there would never let the thread sleep.
        self.stream.watch_for(if self.sent < LEN { Readiness::BOTH } else { Readiness::READABLE });
    }
}

#[test]
fn one_thread_moves_many_connections_by_epoll() {
    const CONNECTIONS: u64 = 32;
    let hosts = Hosts::start();
    let listener = hosts.listen(7_000);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::scope(|serving| {
                listener.incoming().take(CONNECTIONS as usize).for_each(|stream| {
                    serving.spawn(move || echo(&stream).unwrap());
                });
            });
        });
        let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let mut clients: Vec<Client> = (0..CONNECTIONS)
            .map(|number| {
                let stream = hosts.sockets[0].begin_connect(&at(1, 7_000)).unwrap();
                stream.watch_for(Readiness::BOTH);
                epoll::add(&set, &stream, epoll::EventData::new_u64(number), epoll::EventFlags::IN).unwrap();
                Client { stream, number, sent: 0, got: 0 }
            })
            .collect();
        let mut events = Vec::with_capacity(64);
        while clients.iter().any(|client| client.got < LEN) {
            events.clear();
            let within = Timespec::try_from(PATIENCE).unwrap();
            let count = epoll::wait(&set, rustix::buffer::spare_capacity(&mut events), Some(&within)).unwrap();
            assert!(count > 0, "nothing is ready, and not everything has come back");
            events.iter().for_each(|event: &epoll::Event| clients[event.data.u64() as usize].go_on());
        }
        drop(clients);
    });
    drop(listener);
    hosts.stop();
}
