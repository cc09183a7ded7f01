//! Building ICMP errors, and the rules on when not to (RFC 1122 §3.2.2, RFC 1812 §4.3.2.7,
//! RFC 4443 §2.4). For the stack itself and for a router in front of it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::IntoBytes;
use zerocopy::network_endian::U16;

use crate::address::is_source_invalid;
use crate::buffer::Buffer;
use crate::checksum::Sum;
use crate::wire::icmpv4::{self, Icmpv4Header};
use crate::wire::icmpv6::{self, Icmpv6Header};
use crate::wire::ipv4::{self, Ipv4Send};
use crate::wire::ipv6::{self, Ipv6Send};
use crate::wire::{ipv6_extension, protocol};

/// RFC 1812 §4.3.2.3: as much of the packet as fits in 576 bytes.
const IPV4_ERROR_MAX: usize = 576;
/// RFC 4443 §2.4(c): as much of the packet as fits in the minimum MTU.
const IPV6_ERROR_MAX: usize = ipv6::MTU_MIN;
/// RFC 1812 §4.3.2.5: internetwork control, as Linux sends it.
const IPV4_ERROR_TOS: u8 = 0xc0;
const HOP_LIMIT: u8 = 64;

/// What is wrong with a packet, in terms common to both families.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IcmpError {
    /// TTL or hop limit ran out in transit.
    TimeExceeded,
    /// Fragments were missing when the time was up.
    ReassemblyTimeExceeded,
    NoRoute,
    /// The next hop does not answer.
    HostUnreachable,
    PortUnreachable,
    Prohibited,
    /// The packet may not be fragmented and the next link carries only `mtu` bytes.
    PacketTooBig {
        mtu: usize,
    },
    /// No such transport; IPv6 points at the byte that named it.
    ProtocolUnknown {
        pointer: u32,
    },
    /// A header field is wrong: offset of its byte from the start of the IP header.
    HeaderField {
        pointer: u32,
    },
    /// IPv6 only: an option that is not understood.
    OptionUnknown {
        pointer: u32,
    },
    /// IPv6 only: a first fragment without all headers (RFC 7112).
    IncompleteChain,
}

/// The packet to answer.
#[derive(Clone, Copy, Debug)]
pub struct Offending<'a> {
    /// From its IP header on, as it arrived (before the TTL was decremented); the front is enough.
    pub packet: &'a [u8],
    /// It came in a broadcast or multicast frame, or went to a directed broadcast address.
    pub to_group: bool,
}

/// Why a packet gets no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAnswered {
    /// Not an IP packet, or its headers are cut off.
    Malformed,
    /// It is an ICMP error (or redirect) itself, or what cannot be told apart from one.
    IsError,
    /// It is a fragment other than the first.
    Fragment,
    /// It went to several hosts.
    ToGroup,
    /// Its source is no single host.
    Source,
    /// The source given for the error is of the other family.
    Family,
    /// The error is one of IPv6, the packet of IPv4.
    NotInIpv4,
    /// No room in the buffer.
    NoRoom,
}

/// Whether `offending` may be answered with `error`.
pub fn may_answer(error: IcmpError, offending: Offending<'_>) -> Result<(), NotAnswered> {
    match offending.packet.first().map(|first| first >> 4) {
        Some(4) => may_answer_v4(error, offending),
        Some(6) => may_answer_v6(error, offending),
        _ => Err(NotAnswered::Malformed),
    }
}

fn may_answer_v4(error: IcmpError, offending: Offending<'_>) -> Result<(), NotAnswered> {
    if matches!(error, IcmpError::OptionUnknown { .. } | IcmpError::IncompleteChain) {
        return Err(NotAnswered::NotInIpv4);
    }
    let ip = ipv4::parse_quoted(offending.packet).map_err(|_| NotAnswered::Malformed)?;
    // RFC 1122 §3.2.2: the five cases in which no error may be sent, in its order.
    if ip.fragment.is_some_and(|fragment| fragment.offset != 0) {
        return Err(NotAnswered::Fragment);
    }
    if ip.protocol == protocol::ICMP {
        let kind = offending.packet.get(ip.header_len).ok_or(NotAnswered::Malformed)?;
        if icmpv4::is_error(*kind) {
            return Err(NotAnswered::IsError);
        }
    }
    let to = ip.destination;
    if offending.to_group || to.is_multicast() || to.is_broadcast() {
        return Err(NotAnswered::ToGroup);
    }
    if is_source_invalid(ip.source.into()) {
        return Err(NotAnswered::Source);
    }
    Ok(())
}

fn may_answer_v6(error: IcmpError, offending: Offending<'_>) -> Result<(), NotAnswered> {
    let ip = ipv6::parse_quoted(offending.packet).map_err(|_| NotAnswered::Malformed)?;
    let behind = offending.packet.get(ipv6::HEADER_LEN..).unwrap_or_default();
    // RFC 4443 §2.4(e.1), (e.2): never about an error or a redirect.
    match last_header(ip.next_header, behind) {
        Some((protocol::ICMPV6, None)) => return Err(NotAnswered::Fragment),
        Some((protocol::ICMPV6, Some(kind))) if icmpv6::is_error(kind) || kind == icmpv6::kind::REDIRECT => {
            return Err(NotAnswered::IsError);
        }
        _ => {}
    }
    // RFC 4443 §2.4(e.3)-(e.5): about multicast only these two.
    let reports_group = matches!(error, IcmpError::PacketTooBig { .. } | IcmpError::OptionUnknown { .. });
    if (offending.to_group || ip.destination.is_multicast()) && !reports_group {
        return Err(NotAnswered::ToGroup);
    }
    // RFC 4443 §2.4(e.6).
    if ip.source.is_unspecified() || is_source_invalid(ip.source.into()) {
        return Err(NotAnswered::Source);
    }
    Ok(())
}

/// The protocol at the end of the header chain and, unless a fragment hides it, its first byte.
/// `None` if the chain does not parse: such a packet may be answered.
fn last_header(next_header: u8, behind: &[u8]) -> Option<(u8, Option<u8>)> {
    let chain = ipv6_extension::walk(next_header, behind).ok()?;
    let hidden = chain.fragment.is_some_and(|field| field.fragment.offset != 0);
    let first = behind.get(chain.payload_offset).copied().filter(|_| !hidden);
    Some((chain.protocol, first))
}

/// Writes the IP packet that reports `error` about `offending` into the empty `buffer`, to be sent
/// from `source` to the offender. The link header is left to the caller.
pub fn build<B: Buffer>(
    error: IcmpError,
    offending: Offending<'_>,
    source: IpAddr,
    buffer: &mut B,
) -> Result<(), NotAnswered> {
    may_answer(error, offending)?;
    match (source, offending.packet.first().map(|first| first >> 4)) {
        (IpAddr::V4(source), Some(4)) => build_v4(error, offending, source, buffer),
        (IpAddr::V6(source), Some(6)) => build_v6(error, offending, source, buffer),
        _ => Err(NotAnswered::Family),
    }
}

fn build_v4<B: Buffer>(
    error: IcmpError,
    offending: Offending<'_>,
    source: Ipv4Addr,
    buffer: &mut B,
) -> Result<(), NotAnswered> {
    use icmpv4::{kind, time_exceeded, unreachable};
    let (kind, code, value) = match error {
        IcmpError::TimeExceeded => (kind::TIME_EXCEEDED, time_exceeded::TTL, 0),
        IcmpError::ReassemblyTimeExceeded => (kind::TIME_EXCEEDED, time_exceeded::REASSEMBLY, 0),
        IcmpError::NoRoute => (kind::UNREACHABLE, unreachable::NETWORK, 0),
        IcmpError::HostUnreachable => (kind::UNREACHABLE, unreachable::HOST, 0),
        IcmpError::PortUnreachable => (kind::UNREACHABLE, unreachable::PORT, 0),
        IcmpError::Prohibited => (kind::UNREACHABLE, unreachable::ADMINISTRATIVELY, 0),
        IcmpError::ProtocolUnknown { .. } => (kind::UNREACHABLE, unreachable::PROTOCOL, 0),
        // RFC 1191 §4: the MTU in the low half of the word that was unused.
        IcmpError::PacketTooBig { mtu } => {
            let mtu = u32::from(u16::try_from(mtu).unwrap_or(u16::MAX));
            (kind::UNREACHABLE, unreachable::FRAGMENTATION_NEEDED, mtu)
        }
        // RFC 792: the pointer is the first byte of the word.
        IcmpError::HeaderField { pointer } => (kind::PARAMETER_PROBLEM, 0, pointer << 24),
        IcmpError::OptionUnknown { .. } | IcmpError::IncompleteChain => {
            return Err(NotAnswered::NotInIpv4);
        }
    };
    let ip = ipv4::parse_quoted(offending.packet).map_err(|_| NotAnswered::Malformed)?;
    let mut icmp = Icmpv4Header {
        kind,
        code,
        checksum: [0; 2],
        ident: U16::new((value >> 16) as u16),
        sequence: U16::new(value as u16),
    };
    let headers_len = ipv4::HEADER_LEN + icmpv4::HEADER_LEN;
    let packet = offending.packet.get(..ip.total_len).unwrap_or(offending.packet);
    let quote = quoted(packet, IPV4_ERROR_MAX.min(buffer.tailroom()), headers_len)?;
    icmp.checksum = Sum::new().with(icmp.as_bytes()).with(quote).checksum();
    let header = Ipv4Send {
        tos: IPV4_ERROR_TOS,
        payload_len: icmpv4::HEADER_LEN + quote.len(),
        ident: 0,
        dont_fragment: true,
        ttl: HOP_LIMIT,
        protocol: protocol::ICMP,
        source,
        destination: ip.source,
    }
    .header();
    write(buffer, &[header.as_bytes(), icmp.as_bytes(), quote])
}

fn build_v6<B: Buffer>(
    error: IcmpError,
    offending: Offending<'_>,
    source: Ipv6Addr,
    buffer: &mut B,
) -> Result<(), NotAnswered> {
    use icmpv6::{kind, parameter_problem, time_exceeded, unreachable};
    let (kind, code, value) = match error {
        IcmpError::TimeExceeded => (kind::TIME_EXCEEDED, time_exceeded::HOP_LIMIT, 0),
        IcmpError::ReassemblyTimeExceeded => (kind::TIME_EXCEEDED, time_exceeded::REASSEMBLY, 0),
        IcmpError::NoRoute => (kind::UNREACHABLE, unreachable::NO_ROUTE, 0),
        IcmpError::HostUnreachable => (kind::UNREACHABLE, unreachable::ADDRESS, 0),
        IcmpError::PortUnreachable => (kind::UNREACHABLE, unreachable::PORT, 0),
        IcmpError::Prohibited => (kind::UNREACHABLE, unreachable::PROHIBITED, 0),
        IcmpError::PacketTooBig { mtu } => (kind::PACKET_TOO_BIG, 0, u32::try_from(mtu).unwrap_or(u32::MAX)),
        IcmpError::ProtocolUnknown { pointer } => (kind::PARAMETER_PROBLEM, parameter_problem::NEXT_HEADER, pointer),
        IcmpError::HeaderField { pointer } => (kind::PARAMETER_PROBLEM, parameter_problem::HEADER_FIELD, pointer),
        IcmpError::OptionUnknown { pointer } => (kind::PARAMETER_PROBLEM, parameter_problem::OPTION, pointer),
        IcmpError::IncompleteChain => (kind::PARAMETER_PROBLEM, parameter_problem::INCOMPLETE_CHAIN, 0),
    };
    let ip = ipv6::parse_quoted(offending.packet).map_err(|_| NotAnswered::Malformed)?;
    let mut icmp = Icmpv6Header {
        kind,
        code,
        checksum: [0; 2],
        ident: U16::new((value >> 16) as u16),
        sequence: U16::new(value as u16),
    };
    let headers_len = ipv6::HEADER_LEN + icmpv6::HEADER_LEN;
    let packet = offending.packet.get(..ip.total_len()).unwrap_or(offending.packet);
    let quote = quoted(packet, IPV6_ERROR_MAX.min(buffer.tailroom()), headers_len)?;
    let payload_len = icmpv6::HEADER_LEN + quote.len();
    icmp.checksum =
        Sum::pseudo_v6(source, ip.source, protocol::ICMPV6, payload_len).with(icmp.as_bytes()).with(quote).checksum();
    let header = Ipv6Send {
        traffic_class: 0,
        flow_label: 0,
        payload_len,
        next_header: protocol::ICMPV6,
        hop_limit: HOP_LIMIT,
        source,
        destination: ip.source,
    }
    .header();
    write(buffer, &[header.as_bytes(), icmp.as_bytes(), quote])
}

/// The front of `packet` that fits into `len_max` behind the headers. At least eight bytes of its
/// payload must fit (RFC 792), or nobody could use the error.
fn quoted(packet: &[u8], len_max: usize, headers_len: usize) -> Result<&[u8], NotAnswered> {
    const USEFUL: usize = ipv6::HEADER_LEN + 8;
    let room = len_max.checked_sub(headers_len).ok_or(NotAnswered::NoRoom)?;
    if room < packet.len().min(USEFUL) {
        return Err(NotAnswered::NoRoom);
    }
    Ok(packet.get(..room).unwrap_or(packet))
}

fn write<B: Buffer>(buffer: &mut B, parts: &[&[u8]]) -> Result<(), NotAnswered> {
    let len = parts.iter().map(|part| part.len()).sum();
    let mut to = buffer.append(len).map_err(|_| NotAnswered::NoRoom)?;
    for part in parts {
        let (now, later) = to.split_at_mut_checked(part.len()).ok_or(NotAnswered::NoRoom)?;
        now.copy_from_slice(part);
        to = later;
    }
    Ok(())
}
