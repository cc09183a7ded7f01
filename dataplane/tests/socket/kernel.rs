//! Kernel sockets connect to ours:
//!
//! ```text
//!   client namespace: kernel sockets  c0 ---- d0  dut: shared mode, the kernel's addresses, two workers on two queues
//! ```

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use tailwater_dataplane::runtime::{InterfaceConfig, Report, Runtime, RuntimeConfig};
use tailwater_dataplane::service::{Host, Presence};
use tailwater_dataplane::socket::{SocketConfig, Sockets, TcpStream};
use tailwater_dataplane::worker::{Idle, WorkerReport};
use tailwater_lab::Lab;

use crate::traffic::{PATIENCE, echo, expect, send};

/// A host of ours in the namespace of the device under test.
pub(crate) struct Ours {
    pub(crate) lab: Lab,
    pub(crate) sockets: Sockets,
    runtime: Runtime,
    _presence: Presence,
}

impl Ours {
    pub(crate) fn start(workers: usize, idle: Idle) -> Self {
        Self::with(SocketConfig::default(), workers, idle)
    }

    fn with(config: SocketConfig, workers: usize, idle: Idle) -> Self {
        Self::on(Lab::pair(workers as u16, 1500).unwrap(), config, workers, idle)
    }

    fn on(lab: Lab, config: SocketConfig, workers: usize, idle: Idle) -> Self {
        let (sockets, service) = Sockets::new(config);
        let config = RuntimeConfig {
            interfaces: vec![InterfaceConfig::named("d0")],
            cores: (0..workers).collect(),
            idle,
            frames_kept: 2_048,
            ..RuntimeConfig::default()
        };
        let host = || Host::new(service).local_ports(64).start(&config);
        let (runtime, presence) = lab.dut().enter(host).unwrap().unwrap();
        Self { lab, sockets, runtime, _presence: presence }
    }

    /// A kernel socket of the client's, connected.
    pub(crate) fn kernel_connects(&self, to: &str) -> std::io::Result<std::net::TcpStream> {
        let to: SocketAddr = to.parse().unwrap();
        let stream = self.lab.client().enter(|| std::net::TcpStream::connect_timeout(&to, PATIENCE)).unwrap()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Stops the host while whatever sockets there are stay open; nothing may be missing.
    pub(crate) fn stop(self) -> Report {
        let report = self.runtime.stop().unwrap();
        assert_eq!((report.frames_missing, report.frames_strayed), (Some(0), 0));
        assert!(report.workers.iter().all(|worker| worker.imbalance() == 0), "{report:#?}");
        report
    }
}

/// A counter of each worker's stack block.
pub(crate) fn counters(report: &Report, name: &str) -> Vec<u64> {
    let of_worker = |worker: &WorkerReport| {
        let all = worker.blocks.iter().flat_map(|block| &block.counters);
        all.filter(|(known, _)| *known == name).map(|(_, n)| *n).sum()
    };
    report.workers.iter().map(of_worker).collect()
}

#[test]
fn streams_of_the_kernels_come_back_whole_over_both_families() {
    let ours = Ours::start(1, Idle::Adaptive);
    for at in ["10.1.0.1:7000", "[fd00:1::1]:7000"] {
        let listener = ours.sockets.listen_tcp(at).unwrap();
        for len in [0, 1, 100_000, 10_000_000] {
            let kernel = ours.kernel_connects(at).unwrap();
            let stream = listener.accept().unwrap().0;
            assert_eq!(stream.peer_addr().unwrap(), kernel.local_addr().unwrap());
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    echo(&stream).unwrap();
                    stream.shutdown(Shutdown::Write).unwrap();
                });
                scope.spawn(|| {
                    send(&kernel, len, len);
                    kernel.shutdown(Shutdown::Write).unwrap();
                });
                expect(&kernel, len, len);
            });
        }
    }
    ours.stop();
}

#[test]
fn two_workers_share_a_port_that_is_listened_at_after_the_start() {
    const CONNECTIONS: usize = 64;
    let ours = Ours::start(2, Idle::Adaptive);
    // The kernel's own sockets and ours exclude each other.
    let held = ours.lab.dut().enter(|| std::net::TcpListener::bind("10.1.0.1:7001").unwrap()).unwrap();
    assert_eq!(ours.sockets.listen_tcp("0.0.0.0:7001").err().unwrap().kind(), ErrorKind::AddrInUse);
    let listener = ours.sockets.listen_tcp("0.0.0.0:7000").unwrap();
    let refused = ours.lab.dut().enter(|| std::net::TcpListener::bind("0.0.0.0:7000").unwrap_err().kind()).unwrap();
    assert_eq!(refused, ErrorKind::AddrInUse);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::scope(|serving| {
                listener.incoming().take(CONNECTIONS).for_each(|stream| {
                    serving.spawn(move || {
                        echo(&stream).unwrap();
                        stream.shutdown(Shutdown::Write).unwrap();
                    });
                });
            });
        });
        for number in 0..CONNECTIONS as u64 {
            let kernel = ours.kernel_connects("10.1.0.1:7000").unwrap();
            scope.spawn(move || {
                send(&kernel, number, 20_000);
                kernel.shutdown(Shutdown::Write).unwrap();
                expect(&kernel, number, 20_000);
            });
        }
    });
    drop((listener, held));
    let accepted = counters(&ours.stop(), "sockets_accepted");
    assert!(accepted.iter().sum::<u64>() == CONNECTIONS as u64 && accepted.iter().all(|&n| n > 0), "{accepted:?}");
}

#[test]
fn a_closed_listener_refuses_the_kernels_connections_and_can_be_opened_again() {
    let ours = Ours::start(1, Idle::Adaptive);
    let listener = ours.sockets.listen_tcp("10.1.0.1:7000").unwrap();
    let kernel = ours.kernel_connects("10.1.0.1:7000").unwrap();
    let mut stream = listener.accept().unwrap().0;
    drop(listener);
    assert_eq!(ours.kernel_connects("10.1.0.1:7000").unwrap_err().kind(), ErrorKind::ConnectionRefused);
    // The connection that it took goes on.
    (&kernel).write_all(b"still here").unwrap();
    let mut room = [0; 10];
    stream.read_exact(&mut room).unwrap();
    let again = ours.sockets.listen_tcp("10.1.0.1:7000").unwrap();
    let second = ours.kernel_connects("10.1.0.1:7000").unwrap();
    again.accept().unwrap();
    drop((second, kernel, stream));
    ours.stop();
}

#[test]
fn a_closed_listeners_port_can_be_listened_at_for_more_or_fewer_addresses_at_once() {
    let ours = Ours::start(1, Idle::Adaptive);
    for (port, first, then, to) in [
        (7_000, "0.0.0.0", "10.1.0.1", "10.1.0.1"),
        (7_001, "10.1.0.1", "0.0.0.0", "10.1.0.1"),
        (7_002, "[::]", "[fd00:1::1]", "[fd00:1::1]"),
    ] {
        drop(ours.sockets.listen_tcp(format!("{first}:{port}")).unwrap());
        let listener = ours.sockets.listen_tcp(format!("{then}:{port}")).unwrap();
        let kernel = ours.kernel_connects(&format!("{to}:{port}")).unwrap();
        drop((listener.accept().unwrap(), kernel));
    }
    ours.stop();
}

#[test]
fn what_a_closed_socket_has_yet_to_send_arrives_though_its_port_is_listened_at_for_fewer_addresses() {
    const LEN: u64 = 200_000;
    let ours = Ours::start(1, Idle::Adaptive);
    let listener = ours.sockets.listen_tcp("0.0.0.0:7000").unwrap();
    let kernel = ours.kernel_connects("10.1.0.1:7000").unwrap();
    let stream = listener.accept().unwrap().0;
    // More than the peer's first window, and no more than the stack takes.
    send(&stream, 7, LEN);
    drop((stream, listener));
    // The worker gives the connection's place back.
    let end = Instant::now() + PATIENCE;
    let fewer = loop {
        match ours.sockets.listen_tcp("10.1.0.9:7000") {
            Err(error) if error.kind() == ErrorKind::AddrInUse => assert!(Instant::now() < end),
            opened => break opened.unwrap(),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    expect(&kernel, 7, LEN);
    // Nor is it given up for nothing.
    ours.lab.dut().ip("addr add 10.1.0.8/24 dev d0").unwrap();
    let held = ours.lab.dut().enter(|| std::net::TcpListener::bind("10.1.0.8:7001").unwrap()).unwrap();
    drop(ours.sockets.listen_tcp("10.1.0.1:7001").unwrap());
    assert_eq!(ours.sockets.listen_tcp("0.0.0.0:7001").err().unwrap().kind(), ErrorKind::AddrInUse);
    let bind = || std::net::TcpListener::bind("10.1.0.1:7001").map(drop).map_err(|error| error.kind());
    assert_eq!(ours.lab.dut().enter(bind).unwrap(), Err(ErrorKind::AddrInUse));
    drop((fewer, held, kernel));
    ours.stop();
}

#[test]
fn a_port_whose_socket_could_not_be_opened_can_be_asked_for_again() {
    let config = SocketConfig { sockets_max: 1, ..SocketConfig::default() };
    let ours = Ours::with(config, 1, Idle::Adaptive);
    let only = ours.sockets.bind_udp("10.1.0.1:7001").unwrap();
    let listen = || ours.sockets.listen_tcp("10.1.0.1:7000");
    assert_eq!(listen().err().unwrap().raw_os_error(), Some(libc::ENFILE));
    drop(only);
    // The worker gives its place back.
    let end = Instant::now() + PATIENCE;
    let listener = loop {
        match listen() {
            Err(error) if error.raw_os_error() == Some(libc::ENFILE) => assert!(Instant::now() < end),
            opened => break opened.unwrap(),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let kernel = ours.kernel_connects("10.1.0.1:7000").unwrap();
    drop((kernel, listener));
    ours.stop();
}

#[test]
fn more_connections_at_once_than_may_wait_are_all_accepted_and_none_is_reset() {
    const CONNECTIONS: usize = 24;
    let config = SocketConfig { backlog_max: 4, ..SocketConfig::default() };
    let ours = Ours::with(config, 1, Idle::Adaptive);
    let control = ours.runtime.controls().remove(0);
    let listener = ours.sockets.listen_tcp("10.1.0.1:7000").unwrap();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS as u64)
            .map(|number| {
                let kernel = || ours.kernel_connects("10.1.0.1:7000").unwrap();
                scope.spawn(move || {
                    let kernel = kernel();
                    send(&kernel, number, 2_000);
                    kernel.shutdown(Shutdown::Write).unwrap();
                    expect(&kernel, number, 2_000);
                })
            })
            .collect();
        // Until others have been turned away.
        let is_full = |report: WorkerReport| report.dropped.iter().any(|(name, _)| *name == "tcp_accept_queue_full");
        let end = Instant::now() + PATIENCE;
        while !is_full(control.report(PATIENCE).unwrap()) {
            assert!(Instant::now() < end && clients.iter().all(|client| !client.is_finished()));
            std::thread::sleep(Duration::from_millis(5));
        }
        for stream in listener.incoming().take(CONNECTIONS) {
            echo(&stream).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        }
    });
    let report = ours.stop();
    assert_eq!(counters(&report, "sockets_accepted"), [CONNECTIONS as u64]);
    assert!(counters(&report, "sockets_backlog_max_hit")[0] > 0);
}

#[test]
fn a_kernel_peer_that_resets_is_noticed() {
    let ours = Ours::start(1, Idle::Adaptive);
    let listener = ours.sockets.listen_tcp("10.1.0.1:7000").unwrap();
    let kernel = ours.kernel_connects("10.1.0.1:7000").unwrap();
    let stream = listener.accept().unwrap().0;
    (&stream).write_all(b"never read").unwrap();
    let mut came = [0; 1];
    (&kernel).read_exact(&mut came).unwrap();
    // With the rest unread.
    drop(kernel);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!((&stream).read(&mut came).unwrap_err().kind(), ErrorKind::ConnectionReset);
    ours.stop();
}

#[test]
fn text_leaves_in_trains_as_long_as_the_device_does_not_leave_sums_undone() {
    const LEN: u64 = 1_000_000;
    let lab = Lab::pair(1, 1500).unwrap();
    lab.dut().offload("d0", &["tx"], false).unwrap();
    let mut ours = Ours::on(lab, SocketConfig::default(), 1, Idle::Adaptive);
    let listener = ours.sockets.listen_tcp("10.1.0.1:7000").unwrap();
    let trains = |ours: &mut Ours| {
        let kernel = ours.kernel_connects("10.1.0.1:7000").unwrap();
        let stream = listener.accept().unwrap().0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                send(&stream, 1, LEN);
                stream.shutdown(Shutdown::Write).unwrap();
            });
            expect(&kernel, 1, LEN);
        });
        ours.runtime.report().workers[0].ports[0].counters.tx_trains
    };
    let mut last = trains(&mut ours);
    assert!(last > 0);
    for (tx, told) in [(true, "segment by segment"), (false, "it cuts what leaves as TCP")] {
        ours.lab.dut().offload("d0", &["tx"], tx).unwrap();
        let end = Instant::now() + PATIENCE;
        while !ours.runtime.describe()[0].contains(told) {
            assert!(Instant::now() < end, "{:?}", ours.runtime.describe());
            ours.lab.dut().enter(|| ours.runtime.tend().unwrap()).unwrap();
        }
        let before = std::mem::replace(&mut last, trains(&mut ours));
        assert_eq!(last > before, !tx, "{before} trains, then {last}");
    }
    drop(listener);
    ours.stop();
}

/// Only what the socket sends passes a queueing discipline.
#[test]
fn where_there_are_several_transmit_queues_all_text_leaves_by_the_socket_and_else_only_trains_do() {
    const ROUNDS: u64 = 100;
    for queues in [1, 2] {
        let lab = Lab::pair(queues, 1500).unwrap();
        lab.dut().offload("d0", &["tx"], false).unwrap();
        let tc = |lab: &Lab, words: &[&str]| lab.dut().program("tc").args(words).run(PATIENCE).unwrap();
        tc(&lab, &["qdisc", "replace", "dev", "d0", "root", "pfifo"]);
        let ours = Ours::on(lab, SocketConfig::default(), usize::from(queues), Idle::Adaptive);
        let listener = ours.sockets.listen_tcp("10.1.0.1:7000").unwrap();
        let kernel = ours.kernel_connects("10.1.0.1:7000").unwrap();
        let stream = listener.accept().unwrap().0;
        for _ in 0..ROUNDS {
            let mut got = [0; 1];
            (&stream).write_all(&[1]).unwrap();
            (&kernel).read_exact(&mut got).unwrap();
        }
        let told = tc(&ours.lab, &["-s", "qdisc", "show", "dev", "d0"]);
        let words: Vec<_> = told.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "pkt").unwrap_or_else(|| panic!("{told}"));
        let passed: u64 = words[at - 1].parse().unwrap();
        assert_eq!(passed >= ROUNDS, queues > 1, "{queues} queues: {told}");
        drop((kernel, stream, listener));
        ours.stop();
    }
}

/// A lost wake-up costs the second after which a worker looks by itself.
#[test]
fn a_worker_that_sleeps_is_woken_by_what_a_thread_writes() {
    const ROUNDS: u32 = 60;
    let ours = Ours::start(1, Idle::Sleep);
    let listener = ours.sockets.listen_tcp("10.1.0.1:7000").unwrap();
    let kernel = ours.kernel_connects("10.1.0.1:7000").unwrap();
    let stream: TcpStream = listener.accept().unwrap().0;
    let begun = Instant::now();
    for round in 0..ROUNDS {
        // Long enough to fall asleep.
        std::thread::sleep(Duration::from_millis(3));
        (&stream).write_all(&round.to_be_bytes()).unwrap();
        let mut got = [0; 4];
        (&kernel).read_exact(&mut got).unwrap();
        assert_eq!(u32::from_be_bytes(got), round);
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1) * ROUNDS / 2, "{took:?} for {ROUNDS} wake-ups");
    drop((kernel, stream));
    let report = ours.stop();
    assert!(report.workers[0].sleeps >= ROUNDS.into(), "{} sleeps", report.workers[0].sleeps);
}

#[test]
fn the_host_stops_with_sockets_open_and_misses_no_frame() {
    let ours = Ours::start(2, Idle::Adaptive);
    let listener = ours.sockets.listen_tcp("10.1.0.1:7000").unwrap();
    let kernels: Vec<_> = (0..8).map(|_| ours.kernel_connects("10.1.0.1:7000").unwrap()).collect();
    let streams: Vec<_> = listener.incoming().take(6).collect();
    for kernel in &kernels {
        kernel.set_nonblocking(true).unwrap();
        while (&*kernel).write(&[1; 50_000]).is_ok() {}
    }
    let reading = streams[0].try_clone().unwrap();
    let mut some = [0; 100];
    (&reading).read_exact(&mut some).unwrap();
    let waiting = std::thread::spawn(move || {
        loop {
            if let Err(error) = listener.accept() {
                return error.kind();
            }
        }
    });
    ours.stop();
    assert_eq!(waiting.join().unwrap(), ErrorKind::NetworkDown);
    for stream in &streams {
        let mut all = Vec::new();
        assert_eq!((&*stream).read_to_end(&mut all).unwrap_err().kind(), ErrorKind::NetworkDown);
    }
}

/// Opened for packets in one chunk each, and then more is needed.
#[test]
fn a_raised_mtu_is_taken_up_by_the_open_port() {
    const LEN: u64 = 2_000_000;
    let mut ours = Ours::start(1, Idle::Adaptive);
    let udp = ours.sockets.bind_udp("0.0.0.0:7000").unwrap();
    let listener = ours.sockets.listen_tcp("10.1.0.1:7000").unwrap();
    ours.lab.client().ip("link set c0 mtu 9000").unwrap();
    ours.lab.dut().ip("link set d0 mtu 9000").unwrap();
    let end = Instant::now() + PATIENCE;
    while !ours.runtime.describe()[0].contains("MTU 9000") {
        assert!(Instant::now() < end, "{:?}", ours.runtime.describe());
        ours.lab.dut().enter(|| ours.runtime.tend().unwrap()).unwrap();
    }
    // The kernel sends datagrams that must not be fragmented.
    let kernel = ours.lab.client().enter(|| std::net::UdpSocket::bind("10.1.0.2:0").unwrap()).unwrap();
    kernel.set_read_timeout(Some(PATIENCE)).unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut room = vec![0; 70_000];
    for len in [1_472, 1_800, 8_000, 8_972] {
        kernel.send_to(&vec![len as u8; len], "10.1.0.1:7000").unwrap();
        let (n, from) = udp.recv_from(&mut room).unwrap();
        assert_eq!(room[..n], vec![len as u8; len]);
        udp.send_to(&room[..n], from).unwrap();
        assert_eq!(kernel.recv(&mut room).unwrap(), len);
    }
    let kernel = ours.kernel_connects("10.1.0.1:7000").unwrap();
    let stream = listener.accept().unwrap().0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            echo(&stream).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        scope.spawn(|| {
            send(&kernel, 1, LEN);
            kernel.shutdown(Shutdown::Write).unwrap();
        });
        expect(&kernel, 1, LEN);
    });
    drop((kernel, stream, udp, listener));
    let report = ours.stop();
    let port = &report.workers[0].ports[0];
    assert_eq!((port.capabilities.mtu, port.counters.kernel_rx_dropped), (9_000, 0));
    // Segments of the new size, not of the old one.
    let sent = port.counters;
    assert!(sent.tx_bytes / sent.tx_packets > 1_514, "{sent:?}");
}
