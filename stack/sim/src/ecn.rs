//! Congestion experienced (RFC 3168 §5), set in a frame on its way.

use tailwater_stack::checksum;
use tailwater_stack::wire::ethernet::{self, ethertype};

const ECN: u8 = 0b11;
const NOT_ECT: u8 = 0b00;

/// Marks an IP packet whose sender understands it; false if it does not, or there is none.
pub(crate) fn mark(frame: &mut [u8]) -> bool {
    let Ok(link) = ethernet::parse(frame) else { return false };
    let Some(packet) = frame.get_mut(link.header_len..) else { return false };
    match link.ethertype {
        ethertype::IPV4 => mark_v4(packet),
        ethertype::IPV6 => mark_v6(packet),
        _ => false,
    }
}

fn mark_v4(packet: &mut [u8]) -> bool {
    let [version_ihl, tos, _, _, _, _, _, _, _, _, sum_high, sum_low, ..] = packet else { return false };
    if *tos & ECN == NOT_ECT {
        return false;
    }
    let old = [*version_ihl, *tos];
    *tos |= ECN;
    [*sum_high, *sum_low] = checksum::update_u16([*sum_high, *sum_low], old, [*version_ihl, *tos]);
    true
}

// RFC 8200 §3: the traffic class is split over the first two bytes, the ECN bits are 4 and 5 of the second.
fn mark_v6(packet: &mut [u8]) -> bool {
    let [_, second, ..] = packet else { return false };
    if *second >> 4 & ECN == NOT_ECT {
        return false;
    }
    *second |= ECN << 4;
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetHeaders, PacketBuilder, PacketHeaders};

    fn v4(ecn: u8) -> Vec<u8> {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(1, 2);
        builder.write(&mut frame, &[1, 2, 3]).unwrap();
        frame[15] = 0xb8 | ecn;
        frame[24..26].fill(0);
        let sum = checksum::of(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum);
        frame
    }

    #[test]
    fn capable_ipv4_is_marked_and_its_checksum_stays_right() {
        for ecn in [1, 2, 3] {
            let mut frame = v4(ecn);
            assert!(mark(&mut frame));
            assert_eq!(frame[15], 0xbb);
            assert!(checksum::is_valid(&frame[14..34]));
            let headers = PacketHeaders::from_ethernet_slice(&frame).unwrap();
            assert!(matches!(headers.net, Some(NetHeaders::Ipv4(..))));
        }
    }

    #[test]
    fn a_sender_that_does_not_understand_is_not_marked() {
        let mut frame = v4(0);
        let before = frame.clone();
        assert!(!mark(&mut frame));
        assert_eq!(frame, before);
    }

    #[test]
    fn capable_ipv6_is_marked() {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([1; 16], [2; 16], 64).udp(1, 2);
        builder.write(&mut frame, &[]).unwrap();
        assert!(!mark(&mut frame));
        frame[15] |= 2 << 4;
        assert!(mark(&mut frame));
        assert_eq!((frame[14], frame[15] >> 4), (0x60, 3));
    }

    #[test]
    fn what_is_no_ip_packet_is_left_alone() {
        assert!(!mark(&mut []));
        assert!(!mark(&mut [0; 14]));
        let mut arp = [0_u8; 60];
        arp[12..14].copy_from_slice(&[8, 6]);
        assert!(!mark(&mut arp));
    }
}
