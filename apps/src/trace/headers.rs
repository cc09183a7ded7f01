//! The headers at the front of a packet, in one line.

use std::fmt::Write;
use std::net::IpAddr;

use tailwater_stack::wire::{arp, ethernet, icmpv4, icmpv6, ipv4, ipv6, protocol, tcp, udp, vlan};

/// Bytes that headers can show; the payload behind them is only counted.
pub(super) fn line(bytes: &[u8]) -> String {
    let mut line = String::new();
    let Ok(link) = ethernet::parse(bytes) else { return format!("{} bytes, no Ethernet header", bytes.len()) };
    let _ = write!(line, "{} > {}", link.source, link.destination);
    let rest = bytes.get(ethernet::HEADER_LEN..).unwrap_or_default();
    add_network(&mut line, bytes_type(bytes), rest);
    line
}

fn bytes_type(bytes: &[u8]) -> u16 {
    bytes.get(12..14).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]))
}

/// From the ethertype on; tags may follow one another.
fn add_network(line: &mut String, ethertype: u16, bytes: &[u8]) {
    match ethertype {
        ethernet::ethertype::VLAN | ethernet::ethertype::SERVICE_VLAN => {
            let tag = bytes.get(..vlan::TAG_LEN).map(|tag| u32::from_be_bytes([tag[0], tag[1], tag[2], tag[3]]));
            match tag {
                Some(tag) => {
                    let _ = write!(line, " vlan {}", tag >> 16 & 0xfff);
                    add_network(line, tag as u16, &bytes[vlan::TAG_LEN..]);
                }
                None => line.push_str(" vlan, cut"),
            }
        }
        ethernet::ethertype::IPV4 => add_ipv4(line, bytes),
        ethernet::ethertype::IPV6 => add_ipv6(line, bytes),
        ethernet::ethertype::ARP => add_arp(line, bytes),
        other => {
            let _ = write!(line, " ethertype 0x{other:04x}");
        }
    }
}

fn add_ipv4(line: &mut String, bytes: &[u8]) {
    let Ok(ip) = ipv4::parse_quoted(bytes) else { return line.push_str(" malformed IPv4") };
    let _ = write!(line, " {} > {} ttl {}", ip.source, ip.destination, ip.ttl);
    let first = match ip.fragment {
        Some(fragment) => {
            let _ = write!(line, " fragment {}{}", fragment.offset, if fragment.more { "+" } else { "" });
            fragment.offset == 0
        }
        None => true,
    };
    if first {
        add_transport(line, ip.protocol, bytes.get(ip.header_len..).unwrap_or_default());
    }
}

fn add_ipv6(line: &mut String, bytes: &[u8]) {
    let Ok(ip) = ipv6::parse_quoted(bytes) else { return line.push_str(" malformed IPv6") };
    let _ = write!(line, " {} > {} hops {}", ip.source, ip.destination, ip.hop_limit);
    add_transport(line, ip.next_header, bytes.get(ipv6::HEADER_LEN..).unwrap_or_default());
}

fn add_transport(line: &mut String, number: u8, bytes: &[u8]) {
    let _ = match number {
        protocol::UDP => match udp::ports_quoted(bytes) {
            Some((source, destination)) => write!(line, " udp {source} > {destination}"),
            None => write!(line, " udp, cut"),
        },
        protocol::TCP => match tcp::parse(bytes) {
            Ok(tcp) => {
                let (source, destination) = (tcp.header.source_port, tcp.header.destination_port);
                write!(line, " tcp {source} > {destination} {}", flags(tcp.header.flags))
            }
            Err(_) => write!(line, " tcp, cut or malformed"),
        },
        protocol::ICMP => match bytes.first() {
            Some(&kind) => write!(line, " icmp {}", icmpv4_name(kind)),
            None => write!(line, " icmp, cut"),
        },
        protocol::ICMPV6 => match bytes.first() {
            Some(&kind) => write!(line, " icmp6 {}", icmpv6_name(kind)),
            None => write!(line, " icmp6, cut"),
        },
        other => write!(line, " protocol {other}"),
    };
}

fn add_arp(line: &mut String, bytes: &[u8]) {
    let _ = match arp::parse(bytes) {
        Ok(arp) if arp.operation == arp::Operation::Request => {
            write!(line, " arp who has {} tell {}", arp.target_ip, arp.sender_ip)
        }
        Ok(arp) => write!(line, " arp {} is at {}", IpAddr::from(arp.sender_ip), arp.sender_mac),
        Err(_) => write!(line, " malformed ARP"),
    };
}

/// As tcpdump writes them: `SA`, `FPA`.
fn flags(flags: u8) -> String {
    let letters = [
        (tcp::flag::SYN, 'S'),
        (tcp::flag::FIN, 'F'),
        (tcp::flag::RST, 'R'),
        (tcp::flag::PSH, 'P'),
        (tcp::flag::ACK, 'A'),
        (tcp::flag::URG, 'U'),
    ];
    letters.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, letter)| letter).collect()
}

fn icmpv4_name(kind: u8) -> String {
    match kind {
        icmpv4::kind::ECHO_REPLY => "echo reply".into(),
        icmpv4::kind::ECHO_REQUEST => "echo request".into(),
        icmpv4::kind::UNREACHABLE => "unreachable".into(),
        icmpv4::kind::TIME_EXCEEDED => "time exceeded".into(),
        other => format!("type {other}"),
    }
}

fn icmpv6_name(kind: u8) -> String {
    match kind {
        icmpv6::kind::ECHO_REPLY => "echo reply".into(),
        icmpv6::kind::ECHO_REQUEST => "echo request".into(),
        icmpv6::kind::UNREACHABLE => "unreachable".into(),
        icmpv6::kind::PACKET_TOO_BIG => "packet too big".into(),
        icmpv6::kind::TIME_EXCEEDED => "time exceeded".into(),
        icmpv6::kind::NEIGHBOUR_SOLICITATION => "neighbour solicitation".into(),
        icmpv6::kind::NEIGHBOUR_ADVERTISEMENT => "neighbour advertisement".into(),
        other => format!("type {other}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::trace) fn udp_frame(ttl: u8) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 2, 8, 0];
        frame.extend([0x45, 0, 0, 46, 0, 0, 0, 0, ttl, 17, 0, 0, 10, 1, 0, 2, 10, 2, 0, 2]);
        frame.extend([4, 0, 0, 53, 0, 26, 0, 0]);
        frame.resize(60, 0);
        frame
    }

    #[test]
    fn a_line_tells_stations_addresses_life_and_ports() {
        let wanted = "02:00:00:00:01:02 > 02:00:00:00:01:01 10.1.0.2 > 10.2.0.2 ttl 64 udp 1024 > 53";
        assert_eq!(line(&udp_frame(64)), wanted);
    }

    #[test]
    fn tags_fragments_and_rubbish_are_told() {
        let mut tagged = udp_frame(9);
        tagged.splice(12..12, [0x81, 0, 0x20, 7]);
        assert!(line(&tagged).ends_with("vlan 7 10.1.0.2 > 10.2.0.2 ttl 9 udp 1024 > 53"), "{}", line(&tagged));
        let mut fragment = udp_frame(9);
        fragment[20..22].copy_from_slice(&[0x20, 10]);
        assert!(line(&fragment).ends_with("ttl 9 fragment 80+"), "{}", line(&fragment));
        assert_eq!(line(&[1, 2, 3]), "3 bytes, no Ethernet header");
        for len in 0..udp_frame(1).len() {
            line(&udp_frame(1)[..len]);
        }
    }
}
