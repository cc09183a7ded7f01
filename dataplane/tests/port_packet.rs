//! The AF_PACKET port against the kernel at the other end of a veth pair. Needs root, and fails without it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod rig;

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rig::{content, udp4};
use tailwater_dataplane::frame::{Batch, Pool, Region, RegionConfig};
use tailwater_dataplane::ledger::{DropReason, Ledger};
use tailwater_dataplane::port::packet::{self, PacketConfig, PacketPort};
use tailwater_dataplane::port::{LinkMtu, Port, PortError};
use tailwater_lab::{Lab, LabConfig, Topology};
use tailwater_stack::checksum::Sum;

const DEADLINE: Duration = Duration::from_secs(10);

/// The port on d0, and what a worker would have around it.
struct Bench {
    lab: Lab,
    region: Arc<Region>,
    pool: Pool,
    ports: Vec<PacketPort>,
    ledger: Ledger,
}

impl Bench {
    fn new(workers: u32, ring_size: u32, config: LabConfig) -> Self {
        let lab = Lab::build(Topology::Pair, &LabConfig { ipv6: false, static_neighbours: true, ..config }).unwrap();
        let region =
            Region::in_process(RegionConfig { chunks: 4096, huge_pages: false, ..Default::default() }).unwrap();
        let ports = lab.dut().enter(|| open("d0", workers, ring_size)).unwrap().unwrap();
        Self { lab, pool: Pool::new(region.clone()), region, ports, ledger: Ledger::default() }
    }

    /// Receives on all workers' ends until there are `count` packets that `wanted` takes; by worker.
    fn receive(&mut self, count: usize, wanted: impl Fn(&[u8]) -> bool) -> Vec<Vec<Vec<u8>>> {
        let mut all = vec![Vec::new(); self.ports.len()];
        let (mut batch, until) = (Batch::default(), Instant::now() + DEADLINE);
        while all.iter().map(Vec::len).sum::<usize>() < count {
            assert!(Instant::now() < until, "{} of {count} packets came", all.iter().map(Vec::len).sum::<usize>());
            for (port, got) in self.ports.iter_mut().zip(&mut all) {
                assert!(port.receive(&mut self.pool, &mut self.ledger, &mut batch, 32) <= 32);
                for frame in batch.drain() {
                    got.push(content(&frame));
                    self.pool.release(frame);
                }
                got.retain(|packet| wanted(packet));
            }
        }
        all
    }

    fn send(&mut self, packet: &[u8]) -> usize {
        let mut batch = Batch::default();
        batch.push(self.pool.allocate_copy(packet).unwrap());
        let taken = self.ports[0].transmit(&mut self.pool, &mut batch);
        self.ports[0].flush(&mut self.pool);
        batch.drain().for_each(|frame| self.pool.release(frame));
        taken
    }

    fn client_socket(&self) -> UdpSocket {
        let socket = self.lab.client().enter(|| UdpSocket::bind("10.1.0.2:0")).unwrap().unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    }

    fn close(mut self) {
        self.ports.iter_mut().for_each(|port| port.close(&mut self.pool));
        assert_eq!(self.region.at_home() + self.pool.cached(), self.region.chunks(), "a chunk is lost");
        assert_eq!(self.region.strayed(), 0);
    }
}

fn open(name: &str, workers: u32, ring_size: u32) -> Result<Vec<PacketPort>, PortError> {
    open_with(name, workers, ring_size).map(|(ports, _)| ports)
}

/// Besides, the MTU that the ports go by.
fn open_with(name: &str, workers: u32, ring_size: u32) -> Result<(Vec<PacketPort>, LinkMtu), PortError> {
    let link = tailwater_netlink::Control::open().unwrap().link_by_name(name).unwrap();
    let mtu = LinkMtu::from(link.mtu_bytes);
    let ports = packet::open(&PacketConfig {
        interface: link.name,
        ifindex: link.ifindex,
        mtu: mtu.clone(),
        mac: link.mac.try_into().unwrap(),
        workers,
        ring_size,
        promiscuous: false,
    })?;
    Ok((ports, mtu))
}

fn is_udp_to_9(packet: &[u8]) -> bool {
    packet.len() >= 42 && packet[12..14] == [8, 0] && packet[23] == 17 && packet[36..38] == [0, 9]
}

fn udp_checksum_is_valid(packet: &[u8]) -> bool {
    let address = |at: usize| std::net::Ipv4Addr::from_octets(*packet[at..].first_chunk().unwrap());
    Sum::pseudo_v4(address(26), address(30), 17, packet.len() - 34).with(&packet[34..]).is_valid()
}

/// A UDP datagram from d0's address to c0's, without a checksum (RFC 768 allows it) and with a right header checksum.
fn to_client(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = udp4(port, payload);
    packet[..12].copy_from_slice(&[2, 0, 0, 0, 1, 2, 2, 0, 0, 0, 1, 1]);
    packet[26..34].copy_from_slice(&[10, 1, 0, 1, 10, 1, 0, 2]);
    let sum = tailwater_stack::checksum::of(&packet[14..34]);
    packet[24..26].copy_from_slice(&sum);
    packet
}

#[test]
fn packets_arrive_whole_in_order_and_with_complete_checksums() {
    let mut bench = Bench::new(1, 256, LabConfig { mtu_bytes: 9000, checksum_offload: true, ..Default::default() });
    let socket = bench.client_socket();
    let sizes = [0, 1, 100, 1471, 1472, 3000, 8972];
    for size in sizes {
        socket.send_to(&vec![size as u8; size], "10.1.0.1:9").unwrap();
    }
    let got = bench.receive(sizes.len(), is_udp_to_9).remove(0);
    for (packet, size) in got.iter().zip(sizes) {
        assert_eq!(packet[42..], vec![size as u8; size]);
        assert!(packet[40..42] != [0, 0] && udp_checksum_is_valid(packet), "{size} bytes");
    }
    bench.close();
}

#[test]
fn packets_that_the_sender_left_to_be_segmented_are_segmented() {
    let mut bench = Bench::new(1, 256, LabConfig { checksum_offload: true, ..Default::default() });
    let socket = bench.client_socket();
    let size: libc::c_int = 1000;
    // SAFETY: a live int and its length.
    #[allow(unsafe_code)]
    let set =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, (&raw const size).cast(), 4) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    let payload: Vec<u8> = (0..40_500u32).map(|n| (n / 3) as u8).collect();
    socket.send_to(&payload, "10.1.0.1:9").unwrap();
    let got = bench.receive(41, is_udp_to_9).remove(0);
    assert!(got.iter().all(|packet| udp_checksum_is_valid(packet)));
    assert_eq!(got.iter().map(|packet| packet.len() - 42).collect::<Vec<_>>(), [vec![1000; 40], vec![500]].concat());
    assert_eq!(got.iter().flat_map(|packet| packet[42..].to_vec()).collect::<Vec<u8>>(), payload);
    bench.close();
}

#[test]
fn what_the_port_sends_reaches_the_kernel_and_is_not_received_again() {
    let mut bench = Bench::new(1, 256, LabConfig { mtu_bytes: 9000, ..Default::default() });
    let socket = bench.client_socket();
    let port = socket.local_addr().unwrap().port();
    let mut buffer = [0; 16_000];
    for size in [0, 18, 1472, 5000, 8972] {
        assert_eq!(bench.send(&to_client(port, &vec![size as u8; size])), 1);
        let n = socket.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..n], vec![size as u8; size]);
    }
    // Whatever had come by now would lie in front of this one.
    socket.send_to(b"last", "10.1.0.1:9").unwrap();
    let all = bench.receive(1, |_| true).remove(0);
    assert!(is_udp_to_9(&all[0]), "{:02x?}", all[0]);
    assert_eq!(bench.ports[0].tx_pending(), 0);
    assert_eq!(bench.ports[0].counters().tx_packets, 5);
    bench.close();
}

#[test]
fn packets_that_the_interface_cannot_send_are_refused_and_hold_nothing_up() {
    let mut bench = Bench::new(1, 64, LabConfig::default());
    let socket = bench.client_socket();
    let port = socket.local_addr().unwrap().port();
    assert_eq!(bench.send(&to_client(port, &[0; 1600])), 1);
    assert_eq!(bench.send(&[0; 5]), 1);
    bench.send(&to_client(port, b"after"));
    let mut buffer = [0; 100];
    assert_eq!(socket.recv(&mut buffer).unwrap(), 5);
    let counters = bench.ports[0].counters();
    assert_eq!((counters.tx_refused, counters.tx_packets), (2, 1));
    // The port enters them in the ledger at the next turn's start.
    bench.ports[0].receive(&mut bench.pool, &mut bench.ledger, &mut Batch::default(), 0);
    let refused = [DropReason::PacketTooBig, DropReason::BadEthernet].map(|reason| bench.ledger.dropped(reason));
    assert_eq!(refused, [1, 1]);
    bench.close();
}

#[test]
fn a_raised_mtu_is_taken_up_by_the_open_port_and_order_is_kept() {
    let mut bench = Bench::new(1, 64, LabConfig::default());
    let (ports, mtu) = bench.lab.dut().enter(|| open_with("d0", 1, 64)).unwrap().unwrap();
    bench.ports = ports;
    let socket = bench.client_socket();
    let port = socket.local_addr().unwrap().port();
    bench.lab.client().ip("link set c0 mtu 9000").unwrap();
    bench.lab.dut().ip("link set d0 mtu 9000").unwrap();
    mtu.set(9000);
    let sizes = [100, 1472, 1473, 1_900, 2_100, 10, 8972, 20, 5_000, 5_000, 30];
    let mut batch = Batch::default();
    for size in sizes {
        batch.push(bench.pool.allocate_copy(&to_client(port, &vec![size as u8; size])).unwrap());
    }
    assert_eq!(bench.ports[0].transmit(&mut bench.pool, &mut batch), sizes.len());
    bench.ports[0].flush(&mut bench.pool);
    let mut buffer = [0; 16_000];
    for size in sizes {
        let n = socket.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..n], vec![size as u8; size]);
    }
    for size in sizes {
        socket.send_to(&vec![size as u8; size], "10.1.0.1:9").unwrap();
    }
    let got = bench.receive(sizes.len(), is_udp_to_9).remove(0);
    assert_eq!(got.iter().map(|packet| packet.len() - 42).collect::<Vec<_>>(), sizes);
    // And lowered again.
    bench.lab.dut().ip("link set d0 mtu 1500").unwrap();
    mtu.set(1500);
    assert_eq!(bench.send(&to_client(port, &[0; 5_000])), 1);
    bench.ports[0].receive(&mut bench.pool, &mut bench.ledger, &mut Batch::default(), 0);
    assert_eq!(bench.ledger.dropped(DropReason::PacketTooBig), 1);
    assert_eq!(bench.ports[0].capabilities().mtu, 1500);
    bench.close();
}

/// The device below lets them go slowly, and the socket's buffer has room for a few at a time.
#[test]
fn what_the_kernel_leaves_in_slots_is_sent_although_no_further_packet_comes() {
    const PACKETS: usize = 64;
    let mut bench = Bench::new(1, 256, LabConfig::default());
    let dut = bench.lab.dut();
    dut.ip("link add link d0 name m0 type macvlan mode bridge").unwrap();
    dut.ip("link set m0 up").unwrap();
    let slow = "qdisc replace dev d0 root tbf rate 20mbit burst 4kb limit 1mb";
    dut.program("tc").args(slow.split_whitespace()).run(DEADLINE).unwrap();
    bench.ports = dut.enter(|| open("m0", 1, 256)).unwrap().unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(bench.ports[0].pollable().unwrap(), 8_192).unwrap();
    let socket = bench.client_socket();
    socket.set_nonblocking(true).unwrap();
    let packet = to_client(socket.local_addr().unwrap().port(), &[7; 1_400]);
    let mut batch = Batch::default();
    batch.extend((0..PACKETS).map(|_| bench.pool.allocate_copy(&packet).unwrap()));
    assert_eq!(bench.ports[0].transmit(&mut bench.pool, &mut batch), PACKETS);
    let (mut got, mut turns, end) = (0, 0, Instant::now() + DEADLINE);
    while got < PACKETS {
        assert!(Instant::now() < end, "{got} of {PACKETS} packets came");
        bench.ports[0].flush(&mut bench.pool);
        std::thread::sleep(Duration::from_millis(1));
        got += std::iter::from_fn(|| socket.recv(&mut [0; 2_000]).ok()).count();
        turns += 1;
    }
    assert!(turns > 2, "they did not leave in one go");
    bench.close();
}

#[test]
fn vlan_tag_that_the_kernel_took_out_is_put_back() {
    let mut bench = Bench::new(1, 256, LabConfig::default());
    // The kernel takes a tag out of what it receives, whoever put it in.
    let mut client = bench.lab.client().enter(|| open("c0", 1, 64)).unwrap().unwrap().remove(0);
    let plain = to_client(9, b"tagged");
    let sent = [&plain[..12], &[0x81, 0, 0x60, 5], &plain[12..]].concat();
    let mut batch = Batch::default();
    batch.push(bench.pool.allocate_copy(&sent).unwrap());
    client.transmit(&mut bench.pool, &mut batch);
    client.flush(&mut bench.pool);
    let tagged = |packet: &[u8]| packet[12..14] == [0x81, 0];
    let packet = bench.receive(1, tagged).remove(0).remove(0);
    assert_eq!(packet, sent);
    bench.close();
}

#[test]
fn each_flow_stays_with_one_worker_and_none_is_seen_twice() {
    let mut bench = Bench::new(2, 1024, LabConfig::default());
    let sockets: Vec<UdpSocket> = (0..32).map(|_| bench.client_socket()).collect();
    for round in 0..5u8 {
        for socket in &sockets {
            socket.send_to(&[round], "10.1.0.1:9").unwrap();
        }
    }
    let by_worker = bench.receive(160, is_udp_to_9);
    let flows =
        |worker: usize| by_worker[worker].iter().map(|p| p[34..36].to_vec()).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(by_worker.iter().map(Vec::len).sum::<usize>(), 160);
    assert!(flows(0).is_disjoint(&flows(1)));
    assert!(!flows(0).is_empty() && !flows(1).is_empty());
    bench.close();
}

#[test]
fn packets_dropped_by_the_kernel_for_a_full_ring_are_counted_once() {
    let mut bench = Bench::new(1, 64, LabConfig::default());
    let socket = bench.client_socket();
    for _ in 0..100 {
        socket.send_to(b"x", "10.1.0.1:9").unwrap();
    }
    let got = bench.receive(64, is_udp_to_9).remove(0).len();
    assert_eq!(got, 64);
    assert_eq!([0, 1].map(|_| bench.ports[0].counters().kernel_rx_ring_full), [36, 36]);
    bench.close();
}

#[test]
fn port_notices_down_works_again_after_up_and_survives_the_interfaces_end() {
    let mut bench = Bench::new(1, 64, LabConfig::default());
    let socket = bench.client_socket();
    let port = socket.local_addr().unwrap().port();
    bench.lab.dut().ip("link set d0 down").unwrap();
    bench.send(&to_client(port, b"lost"));
    assert!(bench.ports[0].is_down());
    bench.lab.dut().ip("link set d0 up").unwrap();
    bench.lab.dut().wait_until_up("d0").unwrap();
    bench.send(&to_client(port, b"again"));
    assert!(!bench.ports[0].is_down());
    let mut buffer = [0; 100];
    let mut got = socket.recv(&mut buffer).unwrap();
    if buffer[..got] == *b"lost" {
        got = socket.recv(&mut buffer).unwrap();
    }
    assert_eq!(&buffer[..got], b"again");
    socket.send_to(b"x", "10.1.0.1:9").unwrap();
    bench.receive(1, is_udp_to_9);
    bench.lab.dut().ip("link del d0").unwrap();
    for _ in 0..200 {
        bench.send(&to_client(port, b"gone"));
    }
    assert!(bench.ports[0].is_down());
    bench.close();
}

#[test]
fn an_interface_that_does_not_exist_is_refused() {
    let missing = PacketConfig {
        interface: "nosuch0".into(),
        ifindex: 0x7fff_ffff,
        mtu: 1500.into(),
        mac: [0; 6],
        workers: 1,
        ring_size: 64,
        promiscuous: false,
    };
    let error = packet::open(&missing).err().expect("refused").to_string();
    assert!(error.contains("nosuch0"), "{error}");
}
