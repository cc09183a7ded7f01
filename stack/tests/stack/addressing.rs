//! What the stack takes for its own: link and IP addresses, header sanity.

use tailwater_stack::testing::{TestEnv, VecBuffer, mac};
use tailwater_stack::{
    AddressError, Cidr, Config, DropReason, InterfaceConfig, InterfaceId, PrefixLenError, Stack, Verdict,
};

use crate::frames::*;
use crate::host::Host;

/// Changes bytes of an IPv4 header and puts its checksum right.
fn with_header(mut frame: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    change(&mut frame[ETHERNET..]);
    smoltcp::wire::Ipv4Packet::new_unchecked(&mut frame[ETHERNET..]).fill_checksum();
    frame
}

#[test]
fn frames_for_other_stations_are_dropped() {
    let mut host = Host::new();
    let mut frame = udp4(1, 2, b"x");
    frame[..6].copy_from_slice(&mac(9).0);
    assert_eq!(host.refusal(&frame), DropReason::EthernetNotOurs);
}

#[test]
fn frames_from_group_addresses_are_dropped() {
    let mut host = Host::new();
    for source in [[0xff; 6], [1, 0, 0, 0, 0, 1], [0; 6]] {
        let mut frame = udp4(1, 2, b"x");
        frame[6..12].copy_from_slice(&source);
        assert_eq!(host.refusal(&frame), DropReason::EthernetSource);
    }
}

#[test]
fn an_unknown_interface_drops() {
    let mut stack: Stack<VecBuffer> = Stack::new(Config::default(), 1);
    let verdict = stack.ingest(InterfaceId(3), VecBuffer::from_bytes(&udp4(1, 2, b"")), &mut TestEnv::default());
    assert!(matches!(verdict, Verdict::Discarded(DropReason::InterfaceUnknown)));
}

#[test]
fn each_malformed_ipv4_header_has_its_reason() {
    let mut host = Host::new();
    let good = udp4(1, 2, b"hello");
    let mut bad_checksum = good.clone();
    bad_checksum[ETHERNET + 10] ^= 1;
    let cases = [
        (good[..ETHERNET + 19].to_vec(), DropReason::Ipv4Truncated),
        (with_header(good.clone(), |h| h[0] = 0x65), DropReason::Ipv4Version),
        (with_header(good.clone(), |h| h[0] = 0x44), DropReason::Ipv4HeaderLen),
        (with_header(good.clone(), |h| h[3] = 19), DropReason::Ipv4TotalLen),
        (good[..good.len() - 1].to_vec(), DropReason::Ipv4TotalLen),
        (bad_checksum, DropReason::Ipv4Checksum),
        (with_header(good.clone(), |h| h[16..20].copy_from_slice(&[192, 0, 2, 77])), DropReason::AddressNotOurs),
        (link(0x88cc, b"lldp"), DropReason::EthertypeUnknown),
        (good[..10].to_vec(), DropReason::EthernetTruncated),
    ];
    for (frame, reason) in cases {
        assert_eq!(host.refusal(&frame), reason);
    }
}

#[test]
fn impossible_sources_are_dropped() {
    let mut host = Host::new();
    for source in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 5], [255, 255, 255, 255], [192, 0, 2, 255], [240, 0, 0, 1]]
    {
        let frame = udp4_between(source.into(), OURS, 1, 2, b"");
        assert_eq!(host.refusal(&frame), DropReason::SourceInvalid, "{source:?}");
    }
    let frame = udp4_between(OURS, OURS, 1, 2, b"");
    assert_eq!(host.refusal(&frame), DropReason::SourceOurs);
    let frame = udp6_between("ff02::1".parse().unwrap(), OURS6, 1, 2, b"");
    assert_eq!(host.refusal(&frame), DropReason::SourceInvalid);
}

#[test]
fn a_unicast_packet_in_a_broadcast_frame_is_dropped() {
    let mut host = Host::new();
    let mut frame = udp4(1, 2, b"x");
    frame[..6].copy_from_slice(&[0xff; 6]);
    assert_eq!(host.refusal(&frame), DropReason::UnicastInLinkGroup);
}

#[test]
fn source_routes_are_refused_and_other_options_passed_over() {
    let mut host = Host::new();
    let udp = &udp4(1, 2, b"x")[ETHERNET + 20..];
    for kind in [131, 137] {
        let frame = ip4(17, &[kind, 7, 4, 192, 0, 2, 9, 0], udp);
        assert_eq!(host.refusal(&frame), DropReason::Ipv4SourceRoute);
    }
    assert_eq!(host.refusal(&ip4(17, &[7, 9, 4, 0], udp)), DropReason::Ipv4Option);
    assert_eq!(host.refusal(&ip4(17, &[7, 1, 4, 0], udp)), DropReason::Ipv4Option);
    host.bind("0.0.0.0:2");
    assert_eq!(host.datagram(&ip4(17, &[7, 7, 4, 0, 0, 0, 0, 0], udp)).payload(), b"x");
    assert_eq!(host.datagram(&ip4(17, &[148, 4, 0, 0], udp)).payload(), b"x");
}

#[test]
fn padding_behind_the_packet_is_not_payload() {
    let mut host = Host::new();
    host.bind("0.0.0.0:2");
    let mut frame = udp4(1, 2, b"x");
    frame.resize(60, 0xee);
    assert_eq!(host.datagram(&frame).payload(), b"x");
}

#[test]
fn a_tagged_interface_takes_its_vlan_only_and_answers_in_it() {
    let config = InterfaceConfig { vlan: Some(42), ..InterfaceConfig::exclusive(OUR_MAC, 1500) };
    let mut host = Host::with(Config::default(), config);
    let tagged = |id: u16| {
        let mut frame = echo4(1, 1, b"x");
        frame.splice(12..12, [0x81, 0x00, (id >> 8) as u8, id as u8]);
        frame
    };
    assert_eq!(host.refusal(&echo4(1, 1, b"x")), DropReason::VlanMismatch);
    assert_eq!(host.refusal(&tagged(43)), DropReason::VlanMismatch);
    assert!(matches!(host.receive(&tagged(42)), Verdict::Answered));
    let reply = host.env.sent().unwrap();
    assert_eq!(reply[12..18], [0x81, 0x00, 0, 42, 0x08, 0x00]);
    // And speaks in it: the question about an unknown neighbour.
    let socket = host.bind("0.0.0.0:5");
    host.send(socket, "192.0.2.9:9", b"x").unwrap();
    assert_eq!(host.env.sent().unwrap()[12..18], [0x81, 0x00, 0, 42, 0x08, 0x06]);
}

#[test]
fn a_priority_tag_is_no_vlan() {
    let mut host = Host::new();
    let mut frame = echo4(1, 1, b"x");
    frame.splice(12..12, [0x81, 0x00, 0xe0, 0x00]);
    assert!(matches!(host.receive(&frame), Verdict::Answered));
    host.env.sent().unwrap();
}

#[test]
fn addresses_that_nobody_can_have_are_refused() {
    let mut host = Host::new();
    for address in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "ff02::1"] {
        let cidr = Cidr::host(address.parse::<std::net::IpAddr>().unwrap());
        assert_eq!(host.stack.add_address(host.port, cidr), Err(AddressError::Kind), "{address}");
    }
    assert_eq!(Cidr::new([192, 0, 2, 1], 33), Err(PrefixLenError));
    assert_eq!(host.stack.add_address(InterfaceId(9), Cidr::host(PEER)), Err(AddressError::InterfaceUnknown));
}

#[test]
fn a_removed_address_is_no_longer_ours() {
    let mut host = Host::new();
    assert!(matches!(host.receive(&echo4(1, 1, b"")), Verdict::Answered));
    assert!(host.stack.remove_address(host.port, OURS.into()));
    assert_eq!(host.refusal(&echo4(1, 1, b"")), DropReason::AddressNotOurs);
    assert!(!host.stack.remove_address(host.port, OURS.into()));
    host.sent();
}

#[test]
fn removing_an_interface_returns_everything_it_held() {
    let mut host = Host::new();
    let socket = host.bind("0.0.0.0:5");
    host.send(socket, "192.0.2.9:9", b"waits for arp").unwrap();
    host.sent().unwrap();
    assert!(matches!(host.receive(&fragment4(1, 17, 0, true, &[0; 16])), Verdict::Held));
    assert_eq!(host.stack.held(), 2);
    host.stack.remove_interface(host.port, &mut host.env);
    assert_eq!(host.stack.held(), 0);
    assert_eq!(host.env.take_drops(), [DropReason::InterfaceRemoved; 2]);
    assert_eq!(host.refusal(&echo4(1, 1, b"")), DropReason::InterfaceUnknown);
    assert_eq!(host.send(socket, "192.0.2.9:9", b""), Err(DropReason::NoRoute));
}

#[test]
fn an_interface_takes_the_number_it_is_given_once_and_again_after_it_went() {
    let mut stack: Stack<VecBuffer> = Stack::new(Config::default(), 1);
    let config = InterfaceConfig::exclusive(mac(1), 1500);
    let own = Cidr::new([10, 0, 0, 1], 24).unwrap();
    assert!(stack.set_interface(InterfaceId(2), config));
    assert!(!stack.set_interface(InterfaceId(2), config), "there is one already");
    assert!(!stack.set_interface(InterfaceId(tailwater_stack::INTERFACES_MAX as u32), config));
    assert_eq!(
        stack.add_address(InterfaceId(1), own),
        Err(AddressError::InterfaceUnknown),
        "the numbers below stay free"
    );
    assert_eq!(stack.add_address(InterfaceId(2), own), Ok(()));
    stack.remove_interface(InterfaceId(2), &mut TestEnv::default());
    assert!(stack.set_interface(InterfaceId(2), config));
    assert!(stack.addresses(InterfaceId(2)).is_empty(), "nothing of the old one is left");
    assert_eq!(stack.add_interface(config), InterfaceId(3));
}
