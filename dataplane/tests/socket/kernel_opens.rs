//! Our sockets connect to the kernel's, from shared mode with the kernel's addresses and two workers.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, UdpSocket};

use tailwater_dataplane::worker::Idle;

use crate::kernel::{Ours, counters};
use crate::traffic::{PATIENCE, echo, expect, send};

/// Kernel sockets that send back what comes, until the process ends.
fn serve(at: SocketAddr) {
    let (listener, udp) = (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap());
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                let _ = echo(&stream).and_then(|_| stream.shutdown(Shutdown::Write));
            });
        }
    });
    std::thread::spawn(move || {
        let mut datagram = [0; 2048];
        while let Ok((n, from)) = udp.recv_from(&mut datagram) {
            let _ = udp.send_to(&datagram[..n], from);
        }
    });
}

#[test]
fn connections_of_both_workers_reach_the_kernel_and_come_back() {
    let ours = Ours::start(2, Idle::Adaptive);
    let servers: [SocketAddr; 2] = ["10.1.0.2:7007".parse().unwrap(), "[fd00:1::2]:7007".parse().unwrap()];
    ours.lab.client().enter(|| servers.into_iter().for_each(serve)).unwrap();
    std::thread::scope(|scope| {
        for number in 0..16 {
            let (sockets, server) = (&ours.sockets, servers[number as usize % 2]);
            scope.spawn(move || {
                let stream = sockets.connect(server).unwrap();
                std::thread::scope(|both| {
                    both.spawn(|| {
                        send(&stream, number, 1_000_000);
                        stream.shutdown(Shutdown::Write).unwrap();
                    });
                    expect(&stream, number, 1_000_000);
                });
            });
        }
    });
    std::thread::scope(|scope| {
        for number in 0..16 {
            let (sockets, server) = (&ours.sockets, servers[number as usize % 2]);
            scope.spawn(move || {
                let socket = sockets.connect_udp(server).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                socket.send(&[number as u8; 100]).unwrap();
                let mut room = [0; 200];
                assert_eq!((socket.recv(&mut room).unwrap(), room[0]), (100, number as u8));
            });
        }
    });
    let refused = ours.sockets.connect("10.1.0.2:7008").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let opens = counters(&ours.stop(), "tcp_active_opens");
    assert_eq!(opens, [8, 8], "by worker");
}

#[test]
fn datagrams_of_the_kernels_come_to_a_socket_in_both_workers() {
    let ours = Ours::start(2, Idle::Sleep);
    let socket = ours.sockets.bind_udp("0.0.0.0:7000").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let kernels: Vec<UdpSocket> =
        ours.lab.client().enter(|| (0..32).map(|_| UdpSocket::bind("10.1.0.2:0").unwrap()).collect()).unwrap();
    let mut room = [0; 64];
    for (n, kernel) in kernels.iter().enumerate() {
        kernel.set_read_timeout(Some(PATIENCE)).unwrap();
        kernel.send_to(&[n as u8; 20], "10.1.0.1:7000").unwrap();
        let (len, from) = socket.recv_from(&mut room).unwrap();
        assert_eq!((len, room[0], from), (20, n as u8, kernel.local_addr().unwrap()));
        socket.send_to(&room[..len], from).unwrap();
        assert_eq!(kernel.recv(&mut room).unwrap(), 20);
    }
    let delivered = counters(&ours.stop(), "delivered");
    assert!(delivered.iter().all(|&n| n > 0), "{delivered:?}");
}

#[test]
fn a_server_of_the_kernels_that_does_not_read_holds_a_writer_up() {
    let ours = Ours::start(1, Idle::Adaptive);
    let server = ours.lab.client().enter(|| TcpListener::bind("10.1.0.2:7007").unwrap()).unwrap();
    let stream = ours.sockets.connect("10.1.0.2:7007").unwrap();
    let accepted = server.accept().unwrap().0;
    stream.set_nonblocking(true).unwrap();
    let mut written = 0;
    loop {
        match (&stream).write(&[4; 100_000]) {
            Ok(n) => written += n as u64,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                // Full for good, once the kernel has taken what it takes.
                std::thread::sleep(std::time::Duration::from_millis(300));
                if !stream.readiness().writable {
                    break;
                }
            }
        }
    }
    assert!(written < 64 << 20);
    stream.set_nonblocking(false).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| stream.shutdown(Shutdown::Write).unwrap());
        let mut got = Vec::new();
        std::io::Read::read_to_end(&mut &accepted, &mut got).unwrap();
        assert!(got.len() as u64 == written && got.iter().all(|&byte| byte == 4));
    });
    drop(stream);
    ours.stop();
}
