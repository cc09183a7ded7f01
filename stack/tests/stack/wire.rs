//! Our parsers against etherparse and smoltcp: where one finds meaning, so does the other.

use etherparse::{LaxSlicedPacket, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use smoltcp::wire::{ArpPacket, ArpRepr, Ipv4Packet, Ipv6Packet};
use tailwater_stack::MacAddress;
use tailwater_stack::address::solicited_node;
use tailwater_stack::wire::ipv6_extension::{self, ExtensionError};
use tailwater_stack::wire::{arp, ethernet, ipv4, ipv6, ndp, tcp, udp, vlan};

use crate::frames::*;

proptest! {
    #[test]
    fn ipv4_headers_mean_the_same_to_smoltcp(mut bytes in prop::collection::vec(any::<u8>(), 0..80), fix: bool) {
        if fix && bytes.len() >= 20 {
            bytes[0] = 0x40 | bytes[0] & 0x0f;
            let len = bytes.len() as u16;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            let header_len = usize::from(bytes[0] & 0xf) * 4;
            if (20..=bytes.len()).contains(&header_len) {
                Ipv4Packet::new_unchecked(&mut bytes).fill_checksum();
            }
        }
        let ours = ipv4::parse(&bytes, bytes.len());
        match Ipv4Packet::new_checked(&bytes[..]) {
            Ok(theirs) if theirs.version() == 4 && theirs.header_len() >= 20 && theirs.verify_checksum() => {
                let ours = ours.unwrap();
                prop_assert_eq!(ours.header_len, usize::from(theirs.header_len()));
                prop_assert_eq!(ours.total_len, usize::from(theirs.total_len()));
                prop_assert_eq!((ours.source, ours.destination), (theirs.src_addr(), theirs.dst_addr()));
                prop_assert_eq!((ours.ttl, ours.ident), (theirs.hop_limit(), theirs.ident()));
                prop_assert_eq!(ours.protocol, u8::from(theirs.next_header()));
                prop_assert_eq!(ours.dont_fragment, theirs.dont_frag());
                let fragment = ours.fragment.map_or((0, false), |f| (f.offset, f.more));
                prop_assert_eq!(fragment, (usize::from(theirs.frag_offset()), theirs.more_frags()));
            }
            _ => prop_assert!(ours.is_err()),
        }
    }

    #[test]
    fn ipv6_headers_mean_the_same_to_smoltcp(mut bytes in prop::collection::vec(any::<u8>(), 0..80), fix: bool) {
        if fix && bytes.len() >= 40 {
            bytes[0] = 0x60 | bytes[0] & 0x0f;
            let len = bytes.len() as u16 - 40;
            bytes[4..6].copy_from_slice(&len.to_be_bytes());
        }
        let ours = ipv6::parse(&bytes, bytes.len());
        match Ipv6Packet::new_checked(&bytes[..]) {
            Ok(theirs) if theirs.version() == 6 => {
                let ours = ours.unwrap();
                prop_assert_eq!(ours.total_len(), theirs.total_len());
                prop_assert_eq!((ours.source, ours.destination), (theirs.src_addr(), theirs.dst_addr()));
                prop_assert_eq!((ours.hop_limit, ours.next_header), (theirs.hop_limit(), theirs.next_header().into()));
                prop_assert_eq!((ours.traffic_class, ours.flow_label), (theirs.traffic_class(), theirs.flow_label()));
            }
            _ => prop_assert!(ours.is_err()),
        }
    }

    #[test]
    fn udp_and_tcp_ports_mean_the_same_to_etherparse(
        ports: (u16, u16), payload in prop::collection::vec(any::<u8>(), 0..50), seq: u32,
    ) {
        let frame = udp4(ports.0, ports.1, &payload);
        let ours = udp::parse(&frame[ETHERNET + 20..], frame.len() - ETHERNET - 20).unwrap();
        prop_assert_eq!((ours.source_port, ours.destination_port, ours.len), (ports.0, ports.1, payload.len() + 8));
        let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([1, 2, 3, 4], [5, 6, 7, 8], 9);
        let mut frame = Vec::new();
        let builder = builder.tcp(ports.0, ports.1, seq, 99).options_raw(&[1, 1, 1, 0]).unwrap();
        builder.write(&mut frame, &payload).unwrap();
        let ours = tcp::parse(&frame[ETHERNET + 20..]).unwrap();
        let TransportSlice::Tcp(theirs) = SlicedPacket::from_ethernet(&frame).unwrap().transport.unwrap() else {
            panic!("not TCP")
        };
        prop_assert_eq!(ours.header.source_port.get(), theirs.source_port());
        prop_assert_eq!(ours.header.destination_port.get(), theirs.destination_port());
        prop_assert_eq!((ours.header.seq.get(), ours.header.window.get()), (seq, 99));
        prop_assert_eq!((ours.header_len, ours.options), (24, &[1, 1, 1, 0][..]));
    }

    /// etherparse walks extension headers too; where both reach an end, it is the same.
    #[test]
    fn extension_headers_lead_where_etherparse_says(
        kinds in prop::collection::vec(prop::sample::select(vec![60u8, 43, 51]), 0..4),
        lens in prop::collection::vec(0u8..3, 4), noise: [u8; 8],
    ) {
        let mut body = Vec::new();
        for (n, kind) in kinds.iter().enumerate() {
            let next = kinds.get(n + 1).copied().unwrap_or(17);
            let (len, size) = match kind {
                51 => (lens[n] + 1, (usize::from(lens[n]) + 3) * 4),
                _ => (lens[n], (usize::from(lens[n]) + 1) * 8),
            };
            let start = body.len();
            body.resize(start + size, 0);
            body[start] = next;
            body[start + 1] = len;
        }
        let end = body.len();
        body.extend(noise);
        let first = kinds.first().copied().unwrap_or(17);
        let chain = ipv6_extension::walk(first, &body).unwrap();
        prop_assert_eq!((chain.protocol, chain.payload_offset), (17, end));
        let frame = ip6(first, &body);
        let theirs = LaxSlicedPacket::from_ethernet(&frame).unwrap();
        if let Some(etherparse::LaxNetSlice::Ipv6(six)) = &theirs.net
            && six.payload().ip_number.0 == 17
        {
            prop_assert_eq!(six.payload().payload.len(), noise.len());
        }
    }

    #[test]
    fn no_parser_panics_on_anything(bytes in prop::collection::vec(any::<u8>(), 0..120), first: u8) {
        let _ = ethernet::parse(&bytes);
        let _ = arp::parse(&bytes);
        let _ = ipv4::parse(&bytes, bytes.len());
        let _ = ipv4::parse_quoted(&bytes);
        prop_assert!(ipv4::options(&bytes).count() <= bytes.len());
        let _ = ipv6::parse(&bytes, bytes.len());
        let _ = ipv6_extension::walk(first, &bytes);
        let _ = udp::parse(&bytes, bytes.len());
        let _ = tcp::parse(&bytes);
        let _ = ndp::parse_solicitation(&bytes);
        let _ = ndp::parse_advertisement(&bytes);
    }

    #[test]
    fn arp_packets_mean_the_same_to_smoltcp(bytes: [u8; 20], reply: bool) {
        let mut packet = [&[0, 1, 8, 0, 6, 4, 0, if reply { 2 } else { 1 }][..], &bytes].concat();
        packet[8] &= 0xfe;
        packet[9] |= 1;
        let ours = arp::parse(&packet).unwrap();
        let ArpRepr::EthernetIpv4 {
            source_hardware_addr, source_protocol_addr, target_hardware_addr, target_protocol_addr, ..
        } = ArpRepr::parse(&ArpPacket::new_checked(&packet[..]).unwrap()).unwrap() else { panic!() };
        prop_assert_eq!((ours.sender_mac.0, ours.sender_ip), (source_hardware_addr.0, source_protocol_addr));
        prop_assert_eq!((ours.target_mac.0, ours.target_ip), (target_hardware_addr.0, target_protocol_addr));
        let ours = ours.packet();
        prop_assert_eq!(zerocopy::IntoBytes::as_bytes(&ours), &packet[..]);
    }
}

#[test]
fn a_second_tag_shows_as_ethertype() {
    let frame = [&[0; 12][..], &[0x81, 0, 0x20, 5, 0x81, 0, 0, 6, 8, 0]].concat();
    let link = ethernet::parse(&frame).unwrap();
    assert_eq!((link.vlan, link.ethertype, link.header_len), (Some(5), 0x8100, 18));
    let tag = vlan::VlanTag::new(5, 1, 0x0800);
    assert_eq!((tag.id(), tag.priority(), tag.drop_eligible()), (5, 1, false));
    assert!(ethernet::parse(&frame[..17]).is_err());
}

#[test]
fn mac_addresses_of_groups_are_those_of_the_rfcs() {
    let v4 = MacAddress::of_ipv4_group([239, 129, 2, 3].into());
    assert_eq!(v4.to_string(), "01:00:5e:01:02:03");
    let v6 = MacAddress::of_ipv6_group("ff02::1:ff28:9c5a".parse().unwrap());
    assert_eq!(v6.to_string(), "33:33:ff:28:9c:5a");
    // The example of RFC 4291 §2.7.1.
    let group = solicited_node("4037::1:800:200e:8c6c".parse().unwrap());
    assert_eq!(group, "ff02::1:ff0e:8c6c".parse::<std::net::Ipv6Addr>().unwrap());
}

#[test]
fn a_chain_of_eight_headers_is_walked_and_one_of_nine_is_not() {
    let chain = |n: usize| {
        let mut body = [60, 0, 1, 4, 0, 0, 0, 0].repeat(n);
        body[(n - 1) * 8] = 17;
        body
    };
    assert_eq!(ipv6_extension::walk(60, &chain(8)).unwrap().payload_offset, 64);
    assert_eq!(ipv6_extension::walk(60, &chain(9)), Err(ExtensionError::TooMany));
}

#[test]
fn every_drop_reason_has_a_name_of_its_own() {
    use tailwater_stack::DropReason;
    let names: std::collections::HashSet<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), DropReason::COUNT);
    for (index, reason) in DropReason::ALL.iter().enumerate() {
        assert_eq!(reason.index(), index);
    }
}
