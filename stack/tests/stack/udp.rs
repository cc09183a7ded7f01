//! UDP sockets: demultiplexing, replies in place, sending, fragments.

use std::net::SocketAddr;

use proptest::prelude::*;
use smoltcp::wire::{Ipv4Packet, UdpPacket};
use tailwater_stack::testing::VecBuffer;
use tailwater_stack::{
    BindError, Buffer, Cidr, Config, DropReason, HEADROOM, InterfaceConfig, Sent, Stack, Verdict, udp,
};

use crate::frames::*;
use crate::host::Host;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn a_datagram_is_read_in_place_and_tells_where_it_is_from() {
    let mut host = Host::new();
    let socket = host.bind("0.0.0.0:7");
    let datagram = host.datagram(&udp4(5000, 7, b"hello"));
    assert_eq!(datagram.socket, socket);
    assert_eq!(datagram.source, addr("192.0.2.2:5000"));
    assert_eq!(datagram.destination, addr("192.0.2.1:7"));
    assert_eq!((datagram.payload(), datagram.payload_len(), datagram.hop_limit()), (&b"hello"[..], 5, 17));
    let buffer = datagram.into_payload();
    assert_eq!(buffer.bytes(), b"hello");
    assert!(buffer.headroom() >= HEADROOM);
}

#[test]
fn an_unchanged_reply_keeps_payload_and_checksum_where_they_lie() {
    let mut host = Host::new();
    host.bind("0.0.0.0:7");
    host.bind("[::]:7");
    for frame in [udp4(5000, 7, b"hello"), udp6(5000, 7, b"hello")] {
        let datagram = host.datagram(&frame);
        assert_eq!(host.reply(datagram), Ok(Sent::Transmitted));
        let reply = host.only_sent();
        assert_eq!(reply.len(), frame.len());
        assert_eq!((&reply[..6], &reply[6..12]), (&PEER_MAC.0[..], &OUR_MAC.0[..]));
        let udp = frame.len() - 13;
        assert_eq!(reply[udp..udp + 4], [0, 7, 5000u16.to_be_bytes()[0], 5000u16.to_be_bytes()[1]]);
        assert_eq!(reply[udp + 4..], frame[udp + 4..], "length, checksum and payload");
    }
    assert_eq!(host.env.allocated, 0);
}

#[test]
fn a_socket_has_a_traffic_class_of_its_own_in_what_it_sends_and_replies() {
    let mut host = Host::acquainted();
    let (v4, v6) = (host.bind("0.0.0.0:7"), host.bind("[::]:7"));
    let classes = |host: &mut Host| {
        host.send(v4, "192.0.2.2:9", b"hello").unwrap();
        let sent = host.only_sent();
        let reply = |host: &mut Host, frame: &[u8]| {
            let datagram = host.datagram(frame);
            host.reply(datagram).unwrap();
            host.only_sent()
        };
        let (over_v4, over_v6) = (reply(host, &udp4(5000, 7, b"hello")), reply(host, &udp6(5000, 7, b"hello")));
        let class_v6 = u16::from_be_bytes([over_v6[ETHERNET], over_v6[ETHERNET + 1]]) >> 4 & 0xff;
        [u16::from(sent[ETHERNET + 1]), u16::from(over_v4[ETHERNET + 1]), class_v6]
    };
    assert_eq!(classes(&mut host), [0; 3]);
    assert!(host.stack.udp_set_dscp(v4, 46) && host.stack.udp_set_dscp(v6, 8));
    assert_eq!(classes(&mut host), [46 << 2, 46 << 2, 8 << 2]);
    assert!(host.stack.udp_close(v4) && !host.stack.udp_set_dscp(v4, 46));
}

#[test]
fn a_missing_checksum_stays_missing_in_the_reply_over_ipv4_and_is_refused_over_ipv6() {
    let mut host = Host::new();
    host.bind("0.0.0.0:7");
    let mut frame = udp4(5000, 7, b"hello");
    frame[ETHERNET + 26..ETHERNET + 28].fill(0);
    let datagram = host.datagram(&frame);
    host.reply(datagram).unwrap();
    assert_eq!(host.only_sent()[ETHERNET + 26..ETHERNET + 28], [0, 0]);
    let mut frame = udp6(5000, 7, b"hello");
    frame[ETHERNET + 46..ETHERNET + 48].fill(0);
    assert_eq!(host.refusal(&frame), DropReason::UdpChecksumMissing);
}

#[test]
fn a_changed_reply_has_a_new_checksum_and_length() {
    let mut host = Host::new();
    host.bind("0.0.0.0:7");
    let mut datagram = host.datagram(&udp4(5000, 7, b"hello"));
    datagram.payload_mut()[0] = b'J';
    host.reply(datagram).unwrap();
    assert!(host.only_sent().ends_with(b"Jello"));
    let mut datagram = host.datagram(&udp4(5000, 7, b"hello"));
    datagram.truncate_payload(4);
    host.reply(datagram).unwrap();
    assert!(host.only_sent().ends_with(b"hell"));
    let mut datagram = host.datagram(&udp4(5000, 7, b"hello"));
    datagram.append_payload(6).unwrap().copy_from_slice(b" world");
    host.reply(datagram).unwrap();
    assert!(host.only_sent().ends_with(b"hello world"));
}

#[test]
fn a_reply_to_a_group_comes_from_our_own_address() {
    let mut host = Host::acquainted();
    host.bind("0.0.0.0:7");
    let group = "239.1.2.3".parse().unwrap();
    let mut frame = udp4_between(PEER, group, 5000, 7, b"anyone?");
    frame[..6].copy_from_slice(&[1, 0, 0x5e, 1, 2, 3]);
    assert_eq!(host.refusal(&frame), DropReason::AddressNotOurs);
    host.stack.join_group(host.port, group.into()).unwrap();
    let datagram = host.datagram(&frame);
    assert_eq!(datagram.destination, addr("239.1.2.3:7"));
    host.reply(datagram).unwrap();
    let reply = host.only_sent();
    let ip = Ipv4Packet::new_checked(&reply[ETHERNET..]).unwrap();
    assert_eq!((ip.src_addr(), ip.dst_addr()), (OURS, PEER));
    host.stack.leave_group(host.port, group.into());
    assert_eq!(host.refusal(&frame), DropReason::AddressNotOurs);
}

#[test]
fn broadcasts_reach_sockets_and_are_never_answered_with_errors() {
    let mut host = Host::new();
    for to in [[255, 255, 255, 255], [192, 0, 2, 255]] {
        let mut frame = udp4_between(PEER, to.into(), 68, 67, b"x");
        frame[..6].copy_from_slice(&[0xff; 6]);
        assert_eq!(host.refusal(&frame), DropReason::UdpPortClosed);
        assert!(host.sent().is_none());
        let socket = host.bind("0.0.0.0:67");
        assert_eq!(host.datagram(&frame).payload(), b"x");
        host.stack.udp_close(socket);
    }
}

#[test]
fn malformed_udp_has_its_reason() {
    let mut host = Host::new();
    host.bind("0.0.0.0:7");
    assert_eq!(host.refusal(&ip4(17, &[], &[0; 7])), DropReason::UdpTruncated);
    for len in [0, 7, 9, 65535u16] {
        let header = [&[0, 1, 0, 7][..], &len.to_be_bytes(), &[0, 0]].concat();
        assert_eq!(host.refusal(&ip4(17, &[], &header)), DropReason::UdpLen, "{len}");
    }
    let mut frame = udp4(1, 7, b"hello");
    *frame.last_mut().unwrap() ^= 1;
    assert_eq!(host.refusal(&frame), DropReason::UdpChecksum);
    // What the datagram does not cover is not delivered.
    let longer = [&udp4(1, 7, b"hello")[ETHERNET + 20..], b"trailer"].concat();
    assert_eq!(host.datagram(&ip4(17, &[], &longer)).payload(), b"hello");
}

#[test]
fn the_best_matching_socket_gets_the_datagram() {
    let mut host = Host::new();
    let any = host.bind("0.0.0.0:7");
    let exact = host.bind("192.0.2.1:7");
    let remote = Some(addr("192.0.2.2:5000"));
    let connected = host.stack.udp_bind(addr("0.0.0.0:7"), remote).unwrap();
    let v6 = host.bind("[::]:7");
    let got = |host: &mut Host, frame: &[u8]| host.datagram(frame).socket;
    assert_eq!(got(&mut host, &udp4(5000, 7, b"")), connected);
    assert_eq!(got(&mut host, &udp4(5001, 7, b"")), exact);
    assert_eq!(got(&mut host, &udp6(5000, 7, b"")), v6);
    assert!(host.stack.udp_close(exact));
    assert_eq!(got(&mut host, &udp4(5001, 7, b"")), any);
    assert!(host.stack.udp_close(any));
    assert_eq!(host.refusal(&udp4(5001, 7, b"")), DropReason::UdpPortClosed);
    host.sent();
}

#[test]
fn binding_refuses_what_is_taken_full_or_nonsense() {
    let config = Config { sockets_max: 3, ..Config::default() };
    let mut stack: Stack<VecBuffer> = Stack::new(config, 1);
    let first = stack.udp_bind(addr("0.0.0.0:7"), None).unwrap();
    assert_eq!(stack.udp_bind(addr("0.0.0.0:7"), None), Err(BindError::InUse));
    assert_eq!(stack.udp_bind(addr("0.0.0.0:0"), None), Err(BindError::Address));
    assert_eq!(stack.udp_bind(addr("0.0.0.0:8"), Some(addr("[::1]:9"))), Err(BindError::Address));
    stack.udp_bind(addr("[::]:7"), None).unwrap();
    stack.udp_bind(addr("0.0.0.0:9"), None).unwrap();
    assert_eq!(stack.udp_bind(addr("0.0.0.0:10"), None), Err(BindError::Full));
    assert!(stack.udp_close(first));
    assert!(!stack.udp_close(first));
    let again = stack.udp_bind(addr("0.0.0.0:7"), None).unwrap();
    assert_ne!(again, first, "identifiers are not used again");
    assert_eq!(stack.udp_local(first), None);
}

#[test]
fn ephemeral_ports_are_those_the_caller_accepts() {
    let mut stack: Stack<VecBuffer> = Stack::new(Config::default(), 1);
    let ours = |port: u16| port % 64 == 5;
    for random in 0..100 {
        let id = stack.udp_bind_ephemeral(OURS.into(), None, random * 7_919, ours).unwrap();
        let port = stack.udp_local(id).unwrap().port();
        assert!(port >= 49_152 && ours(port));
    }
    assert_eq!(stack.udp_bind_ephemeral(OURS.into(), None, 1, |_| false), Err(BindError::NoPort));
}

#[test]
fn a_sent_datagram_has_its_headers_in_front_of_the_payload() {
    let mut host = Host::acquainted();
    let socket = host.bind("0.0.0.0:7");
    assert_eq!(host.send(socket, "198.51.100.9:53", b"query"), Ok(Sent::Transmitted));
    let frame = host.only_sent();
    assert_eq!(host.env.allocated, 0);
    assert_eq!(frame[..6], PEER_MAC.0, "through the gateway");
    let ip = Ipv4Packet::new_checked(&frame[ETHERNET..]).unwrap();
    assert_eq!((ip.src_addr(), ip.dst_addr(), ip.hop_limit(), ip.dont_frag()), (OURS, REMOTE, 64, true));
    let datagram = UdpPacket::new_checked(ip.payload()).unwrap();
    assert_eq!((datagram.src_port(), datagram.dst_port(), datagram.payload()), (7, 53, &b"query"[..]));
}

#[test]
fn what_cannot_be_sent_is_dropped_with_its_reason() {
    let mut host = Host::acquainted();
    let socket = host.bind("0.0.0.0:7");
    assert_eq!(host.send(socket, "[2001:db8::2]:9", b""), Err(DropReason::NoSource));
    assert_eq!(host.send(socket, "192.0.2.2:9", &[0; udp::PAYLOAD_MAX + 1]), Err(DropReason::TooBig));
    assert_eq!(host.send(socket, "192.0.2.2:9", &[0; 70_000]), Err(DropReason::TooBig));
    let mut buffer = VecBuffer::from_bytes(b"x");
    buffer.prepend(HEADROOM - 20).unwrap();
    let buffer = host.give(buffer);
    let sent = host.stack.udp_send(socket, addr("192.0.2.2:9"), buffer, &mut host.env);
    assert_eq!(sent, Err(DropReason::NoHeadroom));
    host.stack.remove_route(Cidr::default_v4(), host.port);
    assert_eq!(host.send(socket, "198.51.100.9:53", b""), Err(DropReason::NoRoute));
    host.stack.udp_close(socket);
    assert_eq!(host.send(socket, "192.0.2.2:9", b""), Err(DropReason::SocketUnknown));
    assert_eq!(host.env.take_drops().len(), 6);
}

#[test]
fn link_local_datagrams_carry_and_need_their_scope() {
    let config = InterfaceConfig { scope_id: 4, ..InterfaceConfig::exclusive(OUR_MAC, 1500) };
    let mut host = Host::with(Config::default(), config);
    let own = tailwater_stack::address::link_local(OUR_MAC);
    assert_eq!(own, "fe80::ff:fe00:1".parse::<std::net::Ipv6Addr>().unwrap());
    host.stack.add_address(host.port, Cidr::new(own, 64).unwrap()).unwrap();
    let socket = host.bind("[::]:7");
    let peer: std::net::Ipv6Addr = "fe80::2".parse().unwrap();
    let datagram = host.datagram(&udp6_between(peer, own, 5000, 7, b"x"));
    let SocketAddr::V6(source) = datagram.source else { panic!("not IPv6") };
    assert_eq!((*source.ip(), source.scope_id()), (peer, 4));
    host.reply(datagram).unwrap();
    host.only_sent();
    assert_eq!(host.send(socket, "[fe80::2%4]:9", b"x"), Ok(Sent::Queued));
    let question = host.only_sent();
    assert_eq!(question[ETHERNET + 8..ETHERNET + 24], own.octets(), "from the link-local address");
    // To a group, without any route.
    assert_eq!(host.send(socket, "[ff02::2%4]:9", b"x"), Ok(Sent::Transmitted));
    assert_eq!(host.only_sent()[..6], [0x33, 0x33, 0, 0, 0, 2]);
}

#[test]
fn a_long_datagram_leaves_in_fragments_that_fit() {
    for (to, header) in [("192.0.2.2:9", 20), ("[2001:db8::2]:9", 48)] {
        let mut host = Host::acquainted();
        let socket = host.bind(if header == 20 { "0.0.0.0:7" } else { "[::]:7" });
        let payload: Vec<u8> = (0..5000u32).map(|n| n as u8).collect();
        assert_eq!(host.send(socket, to, &payload), Ok(Sent::Transmitted));
        let frames: Vec<_> = std::iter::from_fn(|| host.sent()).collect();
        assert_eq!(frames.len(), 4);
        assert!(frames.iter().all(|frame| frame.len() <= ETHERNET + 1500));
        let body: Vec<u8> = frames.iter().flat_map(|frame| frame[ETHERNET + header..].to_vec()).collect();
        assert_eq!(body[8..], payload);
    }
}

#[test]
fn fragments_fit_the_buffers_where_those_are_smaller_than_the_mtu() {
    let mut host = Host::acquainted();
    let socket = host.bind("0.0.0.0:7");
    host.env.buffer_len = 1003;
    let payload: Vec<u8> = (0..5000u32).map(|n| n as u8).collect();
    assert_eq!(host.send(socket, "192.0.2.2:9", &payload), Ok(Sent::Transmitted));
    let frames: Vec<_> = std::iter::from_fn(|| host.sent()).collect();
    assert_eq!(frames.len(), 6, "1000 bytes each, eight of them the UDP header");
    let body: Vec<u8> = frames.iter().flat_map(|frame| frame[ETHERNET + 20..].to_vec()).collect();
    assert_eq!(body[8..], payload);
}

#[test]
fn a_pool_that_runs_dry_amid_fragments_loses_no_buffer() {
    let mut host = Host::acquainted();
    let socket = host.bind("0.0.0.0:7");
    host.env.pool = 2;
    assert_eq!(host.send(socket, "192.0.2.2:9", &[0; 5000]), Err(DropReason::NoBuffer));
    assert_eq!(host.env.transmitted.len(), 2);
}

#[test]
fn jumbo_datagrams_in_several_segments_are_verified_and_echoed() {
    let mut host = Host::with(Config::default(), InterfaceConfig::exclusive(OUR_MAC, 9000));
    host.bind("0.0.0.0:7");
    let payload: Vec<u8> = (0..8900u32).map(|n| (n * 7) as u8).collect();
    for segment in [2048, 2047, 43, 4096] {
        let frame = udp4(5000, 7, &payload);
        let Verdict::Datagram(datagram) = host.receive_buffer(VecBuffer::segmented(&frame, segment)) else {
            panic!("not delivered")
        };
        assert_eq!(datagram.payload_pieces().collect::<Vec<_>>().concat(), payload);
        let mut tail = [0; 10];
        datagram.read_payload_at(8890, &mut tail).unwrap();
        assert_eq!(tail, payload[8890..]);
        host.reply(datagram).unwrap();
        assert!(host.only_sent().ends_with(&payload));
    }
    let mut frame = udp4(5000, 7, &payload);
    *frame.last_mut().unwrap() ^= 0x80;
    let verdict = host.receive_buffer(VecBuffer::segmented(&frame, 2048));
    assert!(matches!(verdict, Verdict::Discarded(DropReason::UdpChecksum)));
    let verdict = host.receive_buffer(VecBuffer::segmented(&udp4(1, 7, b"x"), 30));
    assert!(matches!(verdict, Verdict::Discarded(_)), "headers cut in two");
}

proptest! {
    /// Over all payloads, also those whose checksum comes out as zero.
    #[test]
    fn what_we_send_is_valid_and_arrives(payload in prop::collection::vec(any::<u8>(), 0..200), six: bool) {
        let mut host = Host::acquainted();
        let (own, to) = if six { ("[::]:7", "[2001:db8::2]:9") } else { ("0.0.0.0:7", "192.0.2.2:9") };
        let socket = host.bind(own);
        host.send(socket, to, &payload).unwrap();
        prop_assert!(host.only_sent().ends_with(&payload));
    }
}

#[test]
fn a_checksum_that_comes_out_as_zero_is_sent_as_ones() {
    let mut host = Host::acquainted();
    let socket = host.bind("0.0.0.0:7");
    let mut ones = 0;
    for n in 0..=u16::MAX {
        host.send(socket, "192.0.2.2:9", &n.to_be_bytes()).unwrap();
        let frame = host.only_sent();
        assert_ne!(frame[ETHERNET + 26..ETHERNET + 28], [0, 0]);
        ones += u32::from(frame[ETHERNET + 26..ETHERNET + 28] == [0xff, 0xff]);
    }
    assert_eq!(ones, 1);
}
