//! How connections end, seen from both sides.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use tailwater_dataplane::socket::{SocketConfig, TcpStream};

use crate::hosts::{Hosts, at};
use crate::traffic::PATIENCE;

#[test]
fn what_was_written_before_closing_arrives_and_then_the_end() {
    let hosts = Hosts::start();
    let (client, server) = hosts.connect();
    (&client).write_all(&[5; 300_000]).unwrap();
    drop(client);
    let mut got = Vec::new();
    (&server).read_to_end(&mut got).unwrap();
    assert!(got.len() == 300_000 && got.iter().all(|&byte| byte == 5));
    drop(server);
    hosts.stop();
}

#[test]
fn a_stream_closed_with_much_to_send_gives_its_place_back_when_that_is_sent() {
    const LEN: usize = 1 << 20;
    // A seat for the listener, one for each stream that is open, and some for those that are ending.
    let hosts = Hosts::with(SocketConfig { sockets_max: 8, ..SocketConfig::default() });
    let listener = hosts.listen(7_000);
    for round in 0..50 {
        let client = hosts.sockets[0].connect(at(1, 7_000)).unwrap_or_else(|error| panic!("round {round}: {error}"));
        let server = listener.accept().unwrap().0;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                (&client).write_all(&[round; LEN]).unwrap();
                drop(client);
            });
            let mut got = Vec::new();
            (&server).read_to_end(&mut got).unwrap();
            assert!(got.len() == LEN && got.iter().all(|&byte| byte == round));
        });
    }
    drop(listener);
    hosts.stop();
}

/// Writes until every queue is full; how much that was.
fn fill(stream: &TcpStream) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut to = stream;
    std::iter::from_fn(|| to.write(&[7; 100_000]).ok()).sum()
}

#[test]
fn a_closed_stream_lasts_as_long_as_its_peer_goes_on_reading_and_no_longer() {
    const LINGER: Duration = Duration::from_secs(1);
    let hosts = Hosts::with(SocketConfig { inbox_max: 8, linger: LINGER, ..SocketConfig::default() });
    let ((client, server), (idle_client, idle_server)) = (hosts.connect(), hosts.connect());
    let (written, _) = (fill(&client), fill(&idle_client));
    drop((client, idle_client));
    let (mut total, mut room, end) = (0, vec![0; 16_384], Instant::now() + LINGER * 5 / 2);
    // A piece at a time, so that what is still to be sent lasts longer than that.
    while Instant::now() < end {
        total += (&server).read(&mut room).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut rest = Vec::new();
    total += (&server).read_to_end(&mut rest).unwrap();
    assert_eq!(total, written);
    let reset = (&idle_server).read_to_end(&mut rest).unwrap_err();
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
    drop((server, idle_server));
    hosts.stop();
}

#[test]
fn of_streams_closed_with_much_to_send_no_more_than_may_last_and_others_are_reset() {
    let hosts = Hosts::with(SocketConfig { inbox_max: 8, lingering_max: 2, ..SocketConfig::default() });
    // Those that have sent everything count no longer.
    for _ in 0..3 {
        let (client, server) = hosts.connect();
        let written = fill(&client);
        drop(client);
        let mut got = Vec::new();
        assert_eq!((&server).read_to_end(&mut got).unwrap(), written);
    }
    let streams = [(); 4].map(|()| hosts.connect());
    let written: Vec<usize> = streams.iter().map(|(client, _)| fill(client)).collect();
    let servers = streams.map(|(client, server)| {
        drop(client);
        server
    });
    for (n, (server, written)) in servers.iter().zip(written).enumerate() {
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut got = Vec::new();
        match (&*server).read_to_end(&mut got) {
            Ok(total) => assert!(n < 2 && total == written),
            Err(error) => assert!(n >= 2 && error.kind() == ErrorKind::ConnectionReset, "{n}: {error}"),
        }
    }
    drop(servers);
    hosts.stop();
}

#[test]
fn closing_with_something_unread_resets_the_peer() {
    let hosts = Hosts::start();
    let (client, server) = hosts.connect();
    (&client).write_all(b"never read").unwrap();
    let mut room = [0; 1];
    assert_eq!((&server).read(&mut room).unwrap(), 1, "the rest has come, too");
    drop(server);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!((&client).read(&mut room).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!((&client).read(&mut room).unwrap(), 0, "the error is told once");
    assert_eq!((&client).write(&room).unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(client.snapshot().unwrap_err().kind(), ErrorKind::NotConnected);
    drop(client);
    hosts.stop();
}

#[test]
fn one_direction_can_end_before_the_other() {
    let hosts = Hosts::start();
    let (client, server) = hosts.connect();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!((&client).write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    let mut room = [0; 16];
    assert_eq!((&server).read(&mut room).unwrap(), 0);
    (&server).write_all(b"still here").unwrap();
    assert_eq!((&client).read(&mut room).unwrap(), 10);
    drop(server);
    assert_eq!((&client).read(&mut room).unwrap(), 0);
    drop(client);
    hosts.stop();
}

#[test]
fn a_clone_keeps_the_connection() {
    let hosts = Hosts::start();
    let (client, server) = hosts.connect();
    let clone = client.try_clone().unwrap();
    drop(client);
    (&clone).write_all(b"alive").unwrap();
    let mut room = [0; 5];
    (&server).read_exact(&mut room).unwrap();
    drop(clone);
    assert_eq!((&server).read(&mut room).unwrap(), 0);
    drop(server);
    hosts.stop();
}

#[test]
fn where_nobody_listens_connections_are_refused_before_and_after_somebody_did() {
    let hosts = Hosts::start();
    let refused = || hosts.sockets[0].connect(at(1, 7_000)).unwrap_err().kind();
    assert_eq!(refused(), ErrorKind::ConnectionRefused);
    let listener = hosts.listen(7_000);
    assert_eq!(hosts.sockets[1].listen_tcp("0.0.0.0:7000").err().unwrap().kind(), ErrorKind::AddrInUse);
    let waiting = hosts.sockets[0].connect(at(1, 7_000)).unwrap();
    listener.close();
    // It had connected, and nobody took it.
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!((&waiting).read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(refused(), ErrorKind::ConnectionRefused);
    let again = hosts.listen(7_000);
    let (client, server) = (hosts.sockets[0].connect(at(1, 7_000)).unwrap(), again.accept().unwrap().0);
    drop((client, server, again, waiting));
    hosts.stop();
}

#[test]
fn port_zero_is_a_free_port() {
    let hosts = Hosts::start();
    let listeners = [(); 8].map(|()| hosts.sockets[1].listen_tcp("0.0.0.0:0").unwrap());
    for listener in &listeners {
        let port = listener.local_addr().unwrap().port();
        assert!(port >= 49_152);
        hosts.sockets[0].connect_timeout(&at(1, port), Duration::from_secs(10)).unwrap();
        listener.accept().unwrap();
    }
    drop(listeners);
    hosts.stop();
}

#[test]
fn thousands_of_short_connections_leave_nothing_behind() {
    let hosts = Hosts::start();
    let listener = hosts.listen(7_000);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for mut stream in listener.incoming().take(2_000) {
                let mut request = [0; 16];
                stream.read_exact(&mut request).unwrap();
                stream.write_all(&request).unwrap();
            }
        });
        for n in 0..2_000u32 {
            let mut stream = hosts.sockets[0].connect(at(1, 7_000)).unwrap();
            stream.write_all(&[n as u8; 16]).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, [n as u8; 16]);
        }
    });
    drop(listener);
    hosts.stop();
}
