//! Every parser, and the builder of ICMP errors, on any bytes.

#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use tailwater_stack::icmp_error::{IcmpError, Offending, build};
use tailwater_stack::testing::VecBuffer;
use tailwater_stack::wire::{arp, ethernet, ipv4, ipv6, ipv6_extension, ndp, tcp, udp};
use tailwater_stack::{Buffer, checksum};

fuzz_target!(|bytes: &[u8]| {
    let _ = ethernet::parse(bytes);
    let _ = arp::parse(bytes);
    if let Ok(ip) = ipv4::parse(bytes, bytes.len()) {
        assert!(ip.header_len >= 20 && ip.header_len <= ip.total_len && ip.total_len <= bytes.len());
        assert!(checksum::is_valid(&bytes[..ip.header_len]));
    }
    assert!(ipv4::options(bytes).count() <= bytes.len());
    if let Ok(ip) = ipv6::parse(bytes, bytes.len()) {
        assert!(ip.total_len() <= bytes.len());
    }
    if let Some((&first, rest)) = bytes.split_first()
        && let Ok(chain) = ipv6_extension::walk(first, rest)
    {
        assert!(chain.payload_offset <= rest.len());
    }
    if let Ok(udp) = udp::parse(bytes, bytes.len()) {
        assert!(udp.len >= 8 && udp.len <= bytes.len());
    }
    if let Ok(tcp) = tcp::parse(bytes) {
        assert_eq!(tcp.options.len() + 20, tcp.header_len);
    }
    let _ = ndp::parse_solicitation(bytes);
    let _ = ndp::parse_advertisement(bytes);
    for source in [Ipv4Addr::new(192, 0, 2, 1).into(), Ipv6Addr::LOCALHOST.into()] {
        let mut buffer = VecBuffer::new();
        let offending = Offending { packet: bytes, to_group: false };
        if build(IcmpError::TimeExceeded, offending, source, &mut buffer).is_ok() {
            assert!(buffer.len() <= 1280);
        }
    }
});
