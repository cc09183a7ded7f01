//! The builder of ICMP errors, as a router uses it.

use std::net::IpAddr;

use smoltcp::wire::{Icmpv4Packet, Icmpv6Packet, Ipv4Packet, Ipv6Packet};
use tailwater_stack::Buffer;
use tailwater_stack::icmp_error::{IcmpError, NotAnswered, Offending, build, may_answer};
use tailwater_stack::testing::VecBuffer;

use crate::frames::*;

const ROUTER: [u8; 4] = [10, 0, 0, 1];

fn answer(error: IcmpError, packet: &[u8]) -> Result<Vec<u8>, NotAnswered> {
    let mut buffer = VecBuffer::new();
    let source: IpAddr = if packet[0] >> 4 == 4 { ROUTER.into() } else { REMOTE6.into() };
    build(error, Offending { packet, to_group: false }, source, &mut buffer)?;
    Ok(buffer.to_vec())
}

fn refusal(packet: &[u8]) -> NotAnswered {
    let error = IcmpError::TimeExceeded;
    let offending = Offending { packet, to_group: false };
    assert_eq!(may_answer(error, offending).unwrap_err(), answer(error, packet).unwrap_err());
    answer(error, packet).unwrap_err()
}

#[test]
fn every_error_has_its_type_code_and_value() {
    let v4 = udp4(1, 2, b"hello");
    let v6 = udp6(1, 2, b"hello");
    let pointer = 40;
    let cases = [
        (IcmpError::TimeExceeded, Some((11, 0, 0)), (3, 0, 0)),
        (IcmpError::ReassemblyTimeExceeded, Some((11, 1, 0)), (3, 1, 0)),
        (IcmpError::NoRoute, Some((3, 0, 0)), (1, 0, 0)),
        (IcmpError::HostUnreachable, Some((3, 1, 0)), (1, 3, 0)),
        (IcmpError::PortUnreachable, Some((3, 3, 0)), (1, 4, 0)),
        (IcmpError::Prohibited, Some((3, 13, 0)), (1, 1, 0)),
        (IcmpError::PacketTooBig { mtu: 1400 }, Some((3, 4, 1400)), (2, 0, 1400)),
        (IcmpError::ProtocolUnknown { pointer }, Some((3, 2, 0)), (4, 1, pointer)),
        (IcmpError::HeaderField { pointer }, Some((12, 0, pointer << 24)), (4, 0, pointer)),
        (IcmpError::OptionUnknown { pointer }, None, (4, 2, pointer)),
        (IcmpError::IncompleteChain, None, (4, 3, 0)),
    ];
    for (error, four, six) in cases {
        match (answer(error, &v4[ETHERNET..]), four) {
            (Ok(packet), Some((kind, code, value))) => {
                let ip = Ipv4Packet::new_checked(&packet[..]).unwrap();
                assert!(ip.verify_checksum());
                assert!(Icmpv4Packet::new_checked(ip.payload()).unwrap().verify_checksum());
                assert_eq!((ip.src_addr().octets(), ip.dst_addr()), (ROUTER, PEER));
                assert_eq!((packet[20], packet[21]), (kind, code), "{error:?}");
                assert_eq!(packet[24..28], value.to_be_bytes(), "{error:?}");
                assert_eq!(packet[28..], v4[ETHERNET..]);
            }
            (result, expected) => assert!(result == Err(NotAnswered::NotInIpv4) && expected.is_none()),
        }
        let packet = answer(error, &v6[ETHERNET..]).unwrap();
        let ip = Ipv6Packet::new_checked(&packet[..]).unwrap();
        let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
        assert!(icmp.verify_checksum(&ip.src_addr(), &ip.dst_addr()));
        assert_eq!((packet[40], packet[41]), (six.0, six.1), "{error:?}");
        assert_eq!(packet[44..48], six.2.to_be_bytes(), "{error:?}");
        assert_eq!(packet[48..], v6[ETHERNET..]);
    }
}

#[test]
fn long_packets_are_quoted_up_to_576_and_1280_bytes() {
    let v4 = answer(IcmpError::TimeExceeded, &udp4(1, 2, &[7; 1400])[ETHERNET..]).unwrap();
    assert_eq!(v4.len(), 576);
    let v6 = answer(IcmpError::TimeExceeded, &udp6(1, 2, &[7; 1400])[ETHERNET..]).unwrap();
    assert_eq!(v6.len(), 1280);
}

#[test]
fn padding_behind_the_packet_is_not_quoted() {
    let mut padded = udp4(1, 2, b"x")[ETHERNET..].to_vec();
    let len = padded.len();
    padded.resize(46, 0);
    assert_eq!(answer(IcmpError::TimeExceeded, &padded).unwrap().len(), 28 + len);
}

#[test]
fn ipv4_errors_are_never_sent_about_these() {
    for kind in [3, 4, 5, 11, 12] {
        let error = icmp4(PEER, kind, 0, 0, &[0; 28]);
        assert_eq!(refusal(&error[ETHERNET..]), NotAnswered::IsError, "type {kind}");
    }
    // An ICMP packet whose type is cut off may be an error.
    assert_eq!(refusal(&ip4(1, &[], &[])[ETHERNET..]), NotAnswered::Malformed);
    assert_eq!(refusal(&fragment4(1, 17, 8, true, &[0; 8])[ETHERNET..]), NotAnswered::Fragment);
    for to in [[224, 0, 0, 1], [239, 1, 1, 1], [255, 255, 255, 255]] {
        assert_eq!(refusal(&udp4_between(PEER, to.into(), 1, 2, b"")[ETHERNET..]), NotAnswered::ToGroup);
    }
    for from in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255], [240, 0, 0, 1]] {
        assert_eq!(refusal(&udp4_between(from.into(), OURS, 1, 2, b"")[ETHERNET..]), NotAnswered::Source);
    }
    let packet = &udp4(1, 2, b"")[ETHERNET..];
    let grouped = Offending { packet, to_group: true };
    assert_eq!(may_answer(IcmpError::TimeExceeded, grouped), Err(NotAnswered::ToGroup));
    assert_eq!(refusal(&packet[..19]), NotAnswered::Malformed);
    assert_eq!(may_answer(IcmpError::NoRoute, Offending { packet: &[], to_group: false }), Err(NotAnswered::Malformed));
    // First fragments, echo requests and TCP may be answered.
    assert!(answer(IcmpError::TimeExceeded, &fragment4(1, 17, 0, true, &[0; 8])[ETHERNET..]).is_ok());
    assert!(answer(IcmpError::TimeExceeded, &echo4(1, 1, b"")[ETHERNET..]).is_ok());
    assert!(answer(IcmpError::TimeExceeded, &ip4(6, &[], &[0; 20])[ETHERNET..]).is_ok());
}

#[test]
fn ipv6_errors_are_never_sent_about_these() {
    for kind in [1, 2, 3, 4, 100, 127, 137] {
        let error = icmp6(PEER6, OURS6, kind, 0, 0, &[0; 48]);
        assert_eq!(refusal(&error[ETHERNET..]), NotAnswered::IsError, "type {kind}");
    }
    // An error behind an extension header, and one hidden in a later fragment.
    let behind = [&[58, 0, 1, 4, 0, 0, 0, 0][..], &[1, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(refusal(&ip6(60, &behind)[ETHERNET..]), NotAnswered::IsError);
    assert_eq!(refusal(&fragment6(1, 58, 8, true, &[0; 8])[ETHERNET..]), NotAnswered::Fragment);
    let group = "ff0e::1".parse().unwrap();
    assert_eq!(refusal(&udp6_between(PEER6, group, 1, 2, b"")[ETHERNET..]), NotAnswered::ToGroup);
    for from in ["::", "ff02::1", "::1"] {
        let packet = udp6_between(from.parse().unwrap(), OURS6, 1, 2, b"");
        assert_eq!(refusal(&packet[ETHERNET..]), NotAnswered::Source);
    }
    // About multicast only packet too big and unknown options (RFC 4443 §2.4 e.3).
    let packet = udp6_between(PEER6, group, 1, 2, b"");
    let offending = Offending { packet: &packet[ETHERNET..], to_group: true };
    assert_eq!(may_answer(IcmpError::PacketTooBig { mtu: 1280 }, offending), Ok(()));
    assert_eq!(may_answer(IcmpError::OptionUnknown { pointer: 0 }, offending), Ok(()));
    assert_eq!(may_answer(IcmpError::HeaderField { pointer: 0 }, offending), Err(NotAnswered::ToGroup));
    // Echo requests may be answered.
    assert!(answer(IcmpError::TimeExceeded, &echo6(1, 1, b"")[ETHERNET..]).is_ok());
}

#[test]
fn a_source_of_the_other_family_or_a_short_buffer_is_refused() {
    let packet = udp4(1, 2, b"x");
    let offending = Offending { packet: &packet[ETHERNET..], to_group: false };
    let mut buffer = VecBuffer::new();
    assert_eq!(build(IcmpError::NoRoute, offending, OURS6.into(), &mut buffer), Err(NotAnswered::Family));
    let mut short = VecBuffer::with_capacity(40);
    assert_eq!(build(IcmpError::NoRoute, offending, OURS.into(), &mut short), Err(NotAnswered::NoRoom));
    assert!(buffer.is_empty() && short.is_empty());
}

#[test]
fn every_truncation_of_a_packet_is_judged_without_panic() {
    let packets = [udp4(1, 2, b"hello"), udp6(1, 2, b"hello"), echo4(1, 1, b""), echo6(1, 1, b"")];
    for packet in packets {
        for len in 0..packet.len() - ETHERNET {
            if len > 0 {
                let _ = answer(IcmpError::TimeExceeded, &packet[ETHERNET..ETHERNET + len]);
            }
        }
    }
}
