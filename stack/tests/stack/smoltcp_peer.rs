//! Our stack on one end of a cable, smoltcp on the other: neither wrote the other's tests.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use smoltcp::iface::{Config as TheirConfig, Interface, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{icmp, udp};
use smoltcp::time::Instant as TheirInstant;
use smoltcp::wire::{
    EthernetAddress, HardwareAddress, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpCidr, IpEndpoint,
};
use tailwater_stack::testing::VecBuffer;
use tailwater_stack::{EchoRequest, Sent, Verdict};

use crate::frames::*;
use crate::host::Host;

#[derive(Default)]
struct Wire {
    to_them: VecDeque<Vec<u8>>,
    to_us: VecDeque<Vec<u8>>,
}

struct Frame(Vec<u8>);
struct Outgoing<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: TheirInstant) -> Option<(Frame, Outgoing<'_>)> {
        let frame = self.to_them.pop_front()?;
        Some((Frame(frame), Outgoing(&mut self.to_us)))
    }

    fn transmit(&mut self, _: TheirInstant) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.to_us))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities.checksum = ChecksumCapabilities::default();
        capabilities
    }
}

/// Both hosts, who have never heard of each other.
struct Pair {
    host: Host,
    them: Interface,
    wire: Wire,
    sockets: SocketSet<'static>,
    udp: smoltcp::iface::SocketHandle,
    icmp: smoltcp::iface::SocketHandle,
    /// What was delivered on our side.
    got: Vec<Vec<u8>>,
    now_ms: i64,
}

impl Pair {
    fn new() -> Self {
        let mut wire = Wire::default();
        let config = TheirConfig::new(HardwareAddress::Ethernet(EthernetAddress(PEER_MAC.0)));
        let mut them = Interface::new(config, &mut wire, TheirInstant::from_millis(0));
        them.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(PEER.into(), 24)).unwrap();
            addresses.push(IpCidr::new(PEER6.into(), 64)).unwrap();
        });
        let mut sockets = SocketSet::new(vec![]);
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 16], vec![0; 65536]);
        let udp = sockets.add(udp::Socket::new(buffer(), buffer()));
        let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 16], vec![0; 65536]);
        let icmp = sockets.add(icmp::Socket::new(buffer(), buffer()));
        let mut host = Host::new();
        host.bind("0.0.0.0:7");
        host.bind("[::]:7");
        Self { host, them, wire, sockets, udp, icmp, got: Vec::new(), now_ms: 0 }
    }

    /// Carries frames until nothing moves; our side echoes datagrams to port 7.
    fn run(&mut self) {
        for _ in 0..200 {
            self.now_ms += 10;
            self.them.poll(TheirInstant::from_millis(self.now_ms), &mut self.wire, &mut self.sockets);
            self.host.wait(std::time::Duration::from_millis(10));
            while let Some(frame) = self.wire.to_us.pop_front() {
                match self.host.receive(&frame) {
                    Verdict::Datagram(datagram) => {
                        self.got.push(datagram.payload().to_vec());
                        self.host.reply(datagram).unwrap();
                    }
                    Verdict::EchoReply(reply) => self.got.push(reply.payload().to_vec()),
                    _ => {}
                }
            }
            while let Some(frame) = self.host.sent() {
                self.wire.to_them.push_back(frame);
            }
        }
    }
}

#[test]
fn smoltcp_gets_its_datagrams_echoed_over_both_families() {
    for own in [IpAddr::from(OURS), OURS6.into()] {
        let mut pair = Pair::new();
        let socket = pair.sockets.get_mut::<udp::Socket>(pair.udp);
        socket.bind(5000).unwrap();
        let to = IpEndpoint::new(own.into(), 7);
        for payload in [&b"one"[..], b"", &[7; 1400]] {
            pair.sockets.get_mut::<udp::Socket>(pair.udp).send_slice(payload, to).unwrap();
            pair.run();
            let (echoed, from) = pair.sockets.get_mut::<udp::Socket>(pair.udp).recv().unwrap();
            assert_eq!((echoed, from.endpoint), (payload, to));
        }
        assert_eq!(pair.got, [&b"one"[..], b"", &[7; 1400]]);
    }
}

#[test]
fn smoltcp_answers_our_ping_over_both_families() {
    for destination in [IpAddr::from(PEER), PEER6.into()] {
        let mut pair = Pair::new();
        pair.host.stack.echo_open(5);
        let data = pair.host.give(VecBuffer::from_bytes(b"are you there"));
        let request = EchoRequest { destination, interface: None, ident: 5, sequence: 1, hop_limit: None };
        let sent = pair.host.stack.echo_request(&request, data, &mut pair.host.env);
        assert_eq!(sent, Ok(Sent::Queued), "the neighbour is not known yet");
        while let Some(frame) = pair.host.sent() {
            pair.wire.to_them.push_back(frame);
        }
        pair.run();
        assert_eq!(pair.got, [b"are you there"]);
    }
}

#[test]
fn we_answer_smoltcps_ping_over_both_families() {
    for own in [IpAddr::from(OURS), OURS6.into()] {
        let mut pair = Pair::new();
        let caps = ChecksumCapabilities::default();
        let socket = pair.sockets.get_mut::<icmp::Socket>(pair.icmp);
        socket.bind(icmp::Endpoint::Ident(5)).unwrap();
        let mut bytes = vec![0; 8 + 4];
        match own {
            IpAddr::V4(_) => Icmpv4Repr::EchoRequest { ident: 5, seq_no: 1, data: b"ping" }
                .emit(&mut Icmpv4Packet::new_unchecked(&mut bytes), &caps),
            IpAddr::V6(_) => Icmpv6Repr::EchoRequest { ident: 5, seq_no: 1, data: b"ping" }.emit(
                &PEER6,
                &OURS6,
                &mut Icmpv6Packet::new_unchecked(&mut bytes),
                &caps,
            ),
        }
        socket.send_slice(&bytes, own.into()).unwrap();
        pair.run();
        let (reply, from) = pair.sockets.get_mut::<icmp::Socket>(pair.icmp).recv().unwrap();
        assert_eq!(from, own.into());
        assert!(reply.ends_with(b"ping"));
    }
}

#[test]
fn a_closed_port_reaches_smoltcp_as_an_icmp_error_of_its_own_packet() {
    let mut pair = Pair::new();
    let socket = pair.sockets.get_mut::<udp::Socket>(pair.udp);
    socket.bind(5000).unwrap();
    socket.send_slice(b"x", IpEndpoint::new(OURS.into(), 9)).unwrap();
    let listener = pair.sockets.get_mut::<icmp::Socket>(pair.icmp);
    let endpoint: SocketAddr = "192.0.2.2:5000".parse().unwrap();
    listener.bind(icmp::Endpoint::Udp(endpoint.into())).unwrap();
    pair.run();
    let (error, from) = pair.sockets.get_mut::<icmp::Socket>(pair.icmp).recv().unwrap();
    assert_eq!(from, OURS.into());
    assert_eq!(error[..2], [3, 3]);
}
