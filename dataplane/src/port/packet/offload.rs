//! Work that a packet's sender left to its device: checksums and segmentation, done in software.
//!
//! A packet that comes from this machine (over veth, or a bridge) may lack its checksum and be larger than any MTU. The
//! kernel tells both in the words of a `struct virtio_net_hdr` (`PACKET_VNET_HDR`).

use std::net::{Ipv4Addr, Ipv6Addr};

use tailwater_stack::checksum::{self, Sum};
use tailwater_stack::wire::protocol::{TCP, UDP};
use tailwater_stack::wire::tcp::flag::{CWR, FIN, PSH};

use crate::blocks::header::{ADDRESSES_LEN, ETHERNET_LEN, VLAN_TAG_LEN, be16, is_vlan_protocol};
use crate::ledger::DropReason;
use crate::port::virtio::{GSO_ECN, GSO_NONE, GSO_TCP4, GSO_TCP6, GSO_UDP, NEEDS_CHECKSUM, WORDS_LEN};

/// What is left to do for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offload {
    needs_checksum: bool,
    gso: u8,
    /// Payload of each segment, in bytes.
    gso_size: usize,
    /// Where the checksum's coverage starts: the transport header.
    start: usize,
    /// The checksum's field, from there.
    field: usize,
}

impl Offload {
    pub(super) fn parse(words: &[u8; WORDS_LEN]) -> Self {
        let &[flags, gso, _, _, size0, size1, start0, start1, field0, field1] = words;
        // In the machine's byte order.
        let word = |low, high| usize::from(u16::from_ne_bytes([low, high]));
        Self {
            needs_checksum: flags & NEEDS_CHECKSUM != 0,
            gso: gso & !GSO_ECN,
            gso_size: word(size0, size1),
            start: word(start0, start1),
            field: word(field0, field1),
        }
    }

    /// Whether the packet is to be cut into segments.
    pub(super) fn is_segmented(self) -> bool {
        self.gso != GSO_NONE
    }

    /// Writes the checksum of a packet whose field holds the pseudo header's sum.
    pub(super) fn complete_checksum(self, packet: &mut [u8]) -> Result<(), DropReason> {
        if !self.needs_checksum {
            return Ok(());
        }
        let covered = packet.get_mut(self.start..).ok_or(DropReason::BadOffload)?;
        let mut sum = checksum::of(covered);
        let field = covered.get_mut(self.field..self.field + 2).ok_or(DropReason::BadOffload)?;
        // RFC 768: a sum of zero is sent as ones. For TCP both mean the same.
        if sum == [0, 0] {
            sum = [0xff, 0xff];
        }
        field.copy_from_slice(&sum);
        Ok(())
    }

    /// Cuts the packet and hands each segment, put together in `segment` with lengths and checksums, to `put`.
    pub(super) fn segments(
        self,
        packet: &[u8],
        segment: &mut Vec<u8>,
        mut put: impl FnMut(&[u8]) -> Result<(), DropReason>,
    ) -> Result<(), DropReason> {
        let layout = Layout::of(self, packet).ok_or(DropReason::BadOffload)?;
        let (headers, payload) = packet.split_at(layout.payload);
        let count = payload.len().div_ceil(self.gso_size);
        for (number, part) in payload.chunks(self.gso_size).enumerate() {
            segment.clear();
            segment.extend_from_slice(headers);
            segment.extend_from_slice(part);
            layout.finish(segment, number, number + 1 == count, self.gso_size).ok_or(DropReason::BadOffload)?;
            put(segment)?;
        }
        Ok(())
    }
}

/// Where the headers of a packet to be cut are.
#[derive(Clone, Copy)]
struct Layout {
    network: usize,
    is_ip6: bool,
    transport: usize,
    protocol: u8,
    payload: usize,
}

impl Layout {
    fn of(offload: Offload, packet: &[u8]) -> Option<Self> {
        let (mut ethertype, mut network) = (be16(packet, ADDRESSES_LEN)?, ETHERNET_LEN);
        while is_vlan_protocol(ethertype) {
            ethertype = be16(packet, network + 2)?;
            network += VLAN_TAG_LEN;
        }
        let is_ip6 = match ethertype {
            0x0800 => false,
            0x86dd => true,
            _ => return None,
        };
        let network_len = if is_ip6 { 40 } else { 20 };
        let transport = offload.start;
        let (protocol, transport_len) = match offload.gso {
            GSO_TCP4 | GSO_TCP6 => (TCP, usize::from(packet.get(transport + 12)? >> 4) * 4),
            GSO_UDP => (UDP, 8),
            _ => return None,
        };
        let least = if protocol == TCP { 20 } else { 8 };
        let payload = transport + transport_len;
        let sound = offload.gso_size > 0
            && transport >= network + network_len
            && transport_len >= least
            && payload < packet.len();
        sound.then_some(Self { network, is_ip6, transport, protocol, payload })
    }

    /// Makes a copy of the headers with a part of the payload a packet of its own.
    fn finish(self, segment: &mut [u8], number: usize, last: bool, gso_size: usize) -> Option<()> {
        let network_len = u16::try_from(segment.len() - self.network).ok()?;
        let transport_len = segment.len() - self.transport;
        let (network, transport) =
            segment.get_mut(self.network..)?.split_at_mut_checked(self.transport - self.network)?;
        let pseudo = if self.is_ip6 {
            network.get_mut(4..6)?.copy_from_slice(&(network_len - 40).to_be_bytes());
            let (source, destination) = (*network.get(8..)?.first_chunk()?, *network.get(24..)?.first_chunk()?);
            Sum::pseudo_v6(
                Ipv6Addr::from_octets(source),
                Ipv6Addr::from_octets(destination),
                self.protocol,
                transport_len,
            )
        } else {
            network.get_mut(2..4)?.copy_from_slice(&network_len.to_be_bytes());
            let identification = be16(network, 4)?.wrapping_add(number as u16);
            network.get_mut(4..6)?.copy_from_slice(&identification.to_be_bytes());
            network.get_mut(10..12)?.fill(0);
            let header_sum = checksum::of(network);
            network.get_mut(10..12)?.copy_from_slice(&header_sum);
            let (source, destination) = (*network.get(12..)?.first_chunk()?, *network.get(16..)?.first_chunk()?);
            Sum::pseudo_v4(
                Ipv4Addr::from_octets(source),
                Ipv4Addr::from_octets(destination),
                self.protocol,
                transport_len,
            )
        };
        let field = if self.protocol == TCP {
            let sequence = u32::from_be_bytes(*transport.get(4..)?.first_chunk()?);
            let sequence = sequence.wrapping_add((number * gso_size) as u32);
            transport.get_mut(4..8)?.copy_from_slice(&sequence.to_be_bytes());
            let flags = transport.get_mut(13)?;
            // RFC 3168 §6.1.2: CWR goes with the first segment after the window was reduced.
            *flags &= if last { !0 } else { !(FIN | PSH) } & if number == 0 { !0 } else { !CWR };
            16
        } else {
            transport.get_mut(4..6)?.copy_from_slice(&(transport_len as u16).to_be_bytes());
            6
        };
        transport.get_mut(field..field + 2)?.fill(0);
        let mut sum = pseudo.with(transport).checksum();
        if sum == [0, 0] {
            sum = [0xff, 0xff];
        }
        transport.get_mut(field..field + 2)?.copy_from_slice(&sum);
        Some(())
    }
}

/// What the words make of a packet: the segments.
#[cfg(test)]
pub(in crate::port) fn segments_of(words: &[u8; WORDS_LEN], packet: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let cut = Offload::parse(words).segments(packet, &mut Vec::new(), |segment| {
        all.push(segment.to_vec());
        Ok(())
    });
    assert_eq!(cut, Ok(()));
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(flags: u8, gso: u8, size: u16, start: u16, field: u16) -> [u8; WORDS_LEN] {
        let [s, b, f] = [size, start, field].map(u16::to_ne_bytes);
        [flags, gso, 0, 0, s[0], s[1], b[0], b[1], f[0], f[1]]
    }

    /// An IPv4 TCP packet with FIN, PSH, CWR and ACK set, sequence number 1000, identification 7.
    fn tcp4(payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        packet.extend([0x45, 0, 0, 0, 0, 7, 0x40, 0, 64, 6, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2]);
        packet.extend([0, 80, 0, 81, 0, 0, 3, 232, 0, 0, 0, 1, 0x50, 0x99, 1, 0, 0xab, 0xcd, 0, 0]);
        packet.extend(payload);
        packet
    }

    #[test]
    fn tcp_segments_carry_on_numbers_and_keep_flags_where_they_belong() {
        let payload: Vec<u8> = (0..250).collect();
        let segments = segments_of(&words(1, GSO_TCP4 | GSO_ECN, 100, 34, 16), &tcp4(&payload));
        let sequences: Vec<u32> =
            segments.iter().map(|s| u32::from_be_bytes(*s[38..].first_chunk().unwrap())).collect();
        assert_eq!(sequences, [1000, 1100, 1200]);
        assert_eq!(segments.iter().map(|s| s[47]).collect::<Vec<_>>(), [0x90, 0x10, 0x19]);
        assert_eq!(segments.iter().map(|s| s[19]).collect::<Vec<_>>(), [7, 8, 9], "identification");
        assert_eq!(segments.iter().map(|s| be16(s, 16).unwrap()).collect::<Vec<_>>(), [140, 140, 90]);
        assert_eq!(segments.iter().flat_map(|s| s[54..].to_vec()).collect::<Vec<u8>>(), payload);
        for segment in &segments {
            assert!(Sum::new().with(&segment[14..34]).is_valid(), "header checksum");
            let source = Ipv4Addr::new(10, 1, 0, 1);
            let pseudo = Sum::pseudo_v4(source, Ipv4Addr::new(10, 1, 0, 2), TCP, segment.len() - 34);
            assert!(pseudo.with(&segment[34..]).is_valid(), "TCP checksum");
        }
    }

    #[test]
    fn udp_segments_behind_a_tag_over_ip6_are_whole_datagrams() {
        let mut packet = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 5, 0x86, 0xdd];
        packet.extend([0x60, 0, 0, 0, 0, 0, 17, 64]);
        packet.extend([[0xfd; 16], [0xfe; 16]].concat());
        packet.extend([0, 80, 0, 81, 0, 0, 0, 0]);
        packet.extend([5; 250]);
        let segments = segments_of(&words(1, GSO_UDP, 100, 58, 6), &packet);
        assert_eq!(segments.iter().map(|s| be16(s, 62).unwrap()).collect::<Vec<_>>(), [108, 108, 58], "UDP length");
        assert_eq!(segments.iter().map(|s| be16(s, 22).unwrap()).collect::<Vec<_>>(), [108, 108, 58], "IPv6 length");
        for segment in &segments {
            let (source, destination) = (Ipv6Addr::from_octets([0xfd; 16]), Ipv6Addr::from_octets([0xfe; 16]));
            let pseudo = Sum::pseudo_v6(source, destination, UDP, segment.len() - 58);
            assert!(pseudo.with(&segment[58..]).is_valid());
        }
    }

    #[test]
    fn left_over_checksum_is_completed_from_the_pseudo_header_sum() {
        let mut packet = tcp4(b"hello");
        let pseudo = Sum::pseudo_v4(Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 1, 0, 2), TCP, 25);
        // The field holds the sum itself, not its complement.
        let partial = pseudo.checksum().map(|byte| !byte);
        packet[50..52].copy_from_slice(&partial);
        Offload::parse(&words(1, 0, 0, 34, 16)).complete_checksum(&mut packet).unwrap();
        assert!(pseudo.with(&packet[34..]).is_valid());
    }

    proptest! {
        #[test]
        fn no_words_and_no_packet_make_it_panic(
            words: [u8; WORDS_LEN],
            mut packet in prop::collection::vec(any::<u8>(), 0..300),
            ip in 0..3,
        ) {
            if let Some(ethertype) = packet.get_mut(12..14) {
                match ip { 0 => ethertype.copy_from_slice(&[8, 0]), 1 => ethertype.copy_from_slice(&[0x86, 0xdd]), _ => {} }
            }
            let mut words = words;
            // Offsets of about the packet's size, and types that exist, reach further.
            words[1] &= 0x87;
            (words[5], words[7], words[9]) = (0, 0, 0);
            let offload = Offload::parse(&words);
            let _ = offload.segments(&packet, &mut Vec::new(), |_| Ok(()));
            let _ = offload.complete_checksum(&mut packet);
        }
    }
}
