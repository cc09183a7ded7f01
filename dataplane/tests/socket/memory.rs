//! Applications and peers that stay away, and what they leave to others of the packet memory.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use tailwater_dataplane::socket::{SocketConfig, TcpStream};

use crate::hosts::{Hosts, at};
use crate::traffic::{byte, echo, expect, send};

/// Of a host.
const FRAMES: usize = 2_048;
/// Connections of each kind.
const AWAY: u64 = 16;
/// How long a writer waits before it gives up.
const HELD_UP: Duration = Duration::from_millis(500);
/// Longest for what may not be held up.
const SOON: Duration = Duration::from_secs(20);

/// Writes pieces until so much is written or nothing goes any more; how many bytes.
fn write_until_held_up(mut stream: &TcpStream, number: u64, piece: u64, most: u64) -> u64 {
    stream.set_nodelay(true).unwrap();
    stream.set_write_timeout(Some(HELD_UP)).unwrap();
    let mut written = 0;
    while written < most {
        let text: Vec<u8> = (written..written + piece).map(|at| byte(number, at)).collect();
        let Ok(n) = stream.write(&text) else { break };
        written += n as u64;
    }
    written
}

/// So many bytes go there and back, and both ends end.
fn echo_soon(client: &TcpStream, server: &TcpStream, len: u64) {
    for stream in [client, server] {
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            echo(server).unwrap();
            server.shutdown(Shutdown::Write).unwrap();
        });
        scope.spawn(|| {
            send(client, 99, len);
            client.shutdown(Shutdown::Write).unwrap();
        });
        expect(client, 99, len);
    });
}

#[test]
fn those_who_stay_away_leave_memory_to_others_and_lose_nothing() {
    let hosts = Hosts::sized(FRAMES, SocketConfig::default());
    let listener = hosts.listen(7_000);
    let connect = || {
        let stream = hosts.sockets[0].connect_timeout(&at(1, 7_000), SOON).unwrap();
        (stream, listener.accept().unwrap().0)
    };
    // Nobody reads at the other end: of some that send much, and of some that send a byte at a time.
    let away: Vec<_> = (0..2 * AWAY).map(|number| (number, connect())).collect();
    let written: Vec<u64> = std::thread::scope(|scope| {
        let writers = away.iter().map(|(number, (client, _))| {
            let (piece, most) = if *number < AWAY { (50_000, u64::MAX) } else { (1, 2_000) };
            scope.spawn(move || write_until_held_up(client, *number, piece, most))
        });
        let writers: Vec<_> = writers.collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let (client, server) = connect();
    echo_soon(&client, &server, 300_000);
    // Who comes back finds everything.
    std::thread::scope(|scope| {
        for ((number, (client, server)), written) in away.into_iter().zip(written) {
            drop(client);
            server.set_read_timeout(Some(SOON)).unwrap();
            scope.spawn(move || expect(&server, number, written));
        }
    });
    drop((client, server, listener));
    hosts.stop();
}

#[test]
fn more_who_stay_away_than_there_is_memory_for_do_not_starve_who_comes() {
    const AWAY: u64 = 600;
    const PIECES: u64 = 2;
    const LEN: u64 = 100_000;
    let hosts = Hosts::sized(FRAMES, SocketConfig::default());
    let listener = hosts.listen(7_000);
    let connect = || {
        let stream = hosts.sockets[0].connect_timeout(&at(1, 7_000), SOON).unwrap();
        (stream, listener.accept().unwrap().0)
    };
    // At either host the inboxes of so many want more than all sockets may have.
    let away: Vec<_> = (0..AWAY).map(|_| connect()).collect();
    for (mut client, mut server) in away.iter().map(|(client, server)| (client, server)) {
        for end in [&mut client, &mut server] {
            end.set_nodelay(true).unwrap();
            end.set_write_timeout(Some(SOON)).unwrap();
        }
        for piece in 0..PIECES as usize {
            client.write_all(&[byte(1, piece as u64)]).unwrap();
            server.write_all(&[byte(2, piece as u64)]).unwrap();
        }
    }
    let (client, server) = connect();
    let [near, far] = [0, 1].map(|host| hosts.sockets[host].bind_udp((at(host as u8, 9).ip(), 9)).unwrap());
    echo_soon(&client, &server, LEN);
    // Of datagrams only those have memory that somebody waits for.
    far.set_read_timeout(Some(HELD_UP)).unwrap();
    let tries = (0..20).map(|_| {
        near.send_to(b"datagram", at(1, 9)).unwrap();
        far.recv_from(&mut [0; 100]).is_ok()
    });
    assert!(tries.take_while(|came| !came).count() < 20);
    for (client, server) in &away {
        client.shutdown(Shutdown::Write).unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        server.set_read_timeout(Some(SOON)).unwrap();
        expect(server, 1, PIECES);
        expect(client, 2, PIECES);
    }
    drop((client, server, near, far, away, listener));
    hosts.stop();
}

#[test]
fn where_there_is_no_memory_left_text_waits_until_others_have_been_read() {
    const READERS: u64 = 48;
    const LEN: u64 = 20_000;
    let hosts = Hosts::with(SocketConfig { chunks_max: 64, ..SocketConfig::default() });
    let listener = hosts.listen(7_000);
    let streams: Vec<_> = (0..READERS)
        .map(|number| {
            let client = hosts.sockets[0].connect_timeout(&at(1, 7_000), SOON).unwrap();
            client.set_write_timeout(Some(SOON)).unwrap();
            send(&client, number, LEN);
            client.shutdown(Shutdown::Write).unwrap();
            (number, client, listener.accept().unwrap().0)
        })
        .collect();
    // The last ones' inboxes are empty, and they are the first to wait.
    std::thread::scope(|scope| {
        for (number, _, server) in streams.iter().rev() {
            server.set_read_timeout(Some(SOON)).unwrap();
            scope.spawn(move || expect(server, *number, LEN));
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    drop((streams, listener));
    hosts.stop();
}
