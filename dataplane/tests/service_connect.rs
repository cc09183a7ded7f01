//! Connections and datagrams that services open themselves, beside the kernel of the same host: the answers come back to the
//! worker that asked.
//!
//! ```text
//!   client namespace: kernel echo servers (TCP, UDP)  c0 ---- d0  dut: two workers, two queues, shared mode
//! ```
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tailwater_dataplane::runtime::{InterfaceConfig, RuntimeConfig};
use tailwater_dataplane::service::{After, Datagram, Host, Io, Service};
use tailwater_lab::Lab;
use tailwater_stack::tcp::{CloseReason, Connect, ConnectionId};

const WORKERS: usize = 2;
/// Of each worker, to each address.
const CONNECTIONS: u64 = 16;
const PORT: u16 = 7_007;
const LINE: &[u8] = b"comes back";
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Seen {
    lines: [AtomicU64; WORKERS],
    datagrams: [AtomicU64; WORKERS],
    finished: AtomicU64,
}

struct Client {
    worker: usize,
    seen: Arc<Seen>,
}

fn servers() -> [SocketAddr; 2] {
    [(Ipv4Addr::new(10, 1, 0, 2), PORT).into(), (Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2), PORT).into()]
}

impl Service for Client {
    fn on_start(&mut self, io: &mut Io<'_, '_>) {
        for server in servers() {
            for _ in 0..CONNECTIONS {
                io.connect(Connect::to(server)).unwrap();
                let socket = io.open_udp(server).unwrap();
                io.send_udp(socket, server, LINE.len(), |at, room| room.copy_from_slice(&LINE[at..at + room.len()]))
                    .unwrap();
            }
        }
    }

    fn on_connected(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        assert_eq!(io.send(connection, LINE), Ok(LINE.len()));
        io.shutdown(connection).unwrap();
    }

    fn on_readable(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        let mut line = [0; 64];
        while let Ok(n) = io.read(connection, &mut line)
            && n > 0
        {
            assert_eq!(&line[..n], LINE);
            self.seen.lines[self.worker].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn on_closed(&mut self, _connection: ConnectionId, reason: CloseReason, _io: &mut Io<'_, '_>) {
        assert_eq!(reason, CloseReason::Finished);
        self.seen.finished.fetch_add(1, Ordering::Relaxed);
    }

    fn on_datagram(&mut self, datagram: &mut Datagram, _io: &mut Io<'_, '_>) -> After {
        assert!(servers().contains(&datagram.source));
        self.seen.datagrams[self.worker].fetch_add(1, Ordering::Relaxed);
        After::Release
    }
}

/// Kernel sockets that send back what comes.
fn serve(server: SocketAddr) {
    let (listener, udp) = (TcpListener::bind(server).unwrap(), UdpSocket::bind(server).unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                let mut text = Vec::new();
                if stream.read_to_end(&mut text).is_ok() {
                    let _ = stream.write_all(&text);
                }
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
fn what_a_worker_opens_comes_back_to_it_also_where_the_kernel_has_the_addresses() {
    let lab = Lab::pair(2, 1500).unwrap();
    lab.client().enter(|| servers().into_iter().for_each(serve)).unwrap();
    let seen = Arc::new(Seen::default());
    let all = CONNECTIONS * 2;
    let report = lab.dut().enter(|| {
        let in_service = Arc::clone(&seen);
        let host = Host::new(move |worker| Client { worker, seen: Arc::clone(&in_service) }).local_ports(256);
        let config = RuntimeConfig {
            interfaces: vec![InterfaceConfig::named("d0")],
            cores: vec![0, 1],
            ..RuntimeConfig::default()
        };
        let (runtime, presence) = host.start(&config).unwrap();
        // Kernel sockets of this host go on meanwhile.
        let mut ours = std::net::TcpStream::connect(servers()[0]).unwrap();
        ours.write_all(LINE).unwrap();
        ours.shutdown(std::net::Shutdown::Write).unwrap();
        let mut back = Vec::new();
        ours.read_to_end(&mut back).unwrap();
        assert_eq!(back, LINE);
        let end = Instant::now() + PATIENCE;
        let count = |counts: &[AtomicU64]| counts.iter().all(|count| count.load(Ordering::Relaxed) >= all);
        while !(count(&seen.lines) && count(&seen.datagrams)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(presence);
        runtime.stop().unwrap()
    });
    let report = report.unwrap();
    let counts = |counts: &[AtomicU64]| counts.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
    assert_eq!(counts(&seen.lines), [all; WORKERS]);
    assert_eq!(counts(&seen.datagrams), [all; WORKERS]);
    assert_eq!(report.frames_missing, Some(0));
    assert!(report.workers.iter().all(|worker| worker.imbalance() == 0));
}
