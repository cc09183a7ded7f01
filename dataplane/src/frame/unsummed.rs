//! TCP segments whose checksum is left undone: most leave in a train, which the kernel sums up when it cuts it (`port/gso`).
//!
//! In the place of the checksum there is the sum of the pseudo header, as in Linux (`CHECKSUM_PARTIAL`). Only the stack leaves it so,
//! only in frames that it lends, and only where nothing lies between it and a port that [`completes`](Frame::complete_sum) what
//! it does not send in trains ([`Context::completes_sums`](crate::block::Context::completes_sums)).

use tailwater_stack::checksum::Sum;
use tailwater_stack::wire::{ethernet, ipv4, ipv6, tcp};

use super::{Frame, sum};

/// Offset of the first byte of the Ethernet type.
const ETHERTYPE: usize = ethernet::HEADER_LEN - 2;

impl Frame {
    /// Notes that the checksum is undone, of a TCP segment behind headers without options or tags.
    #[inline]
    pub(crate) fn leave_sum_undone(&mut self) {
        self.layout.set_unsummed(true);
    }

    /// Completes the checksum, if it was left undone.
    #[inline]
    pub(crate) fn complete_sum(&mut self) {
        if self.layout.is_unsummed() {
            self.sum_up();
        }
    }

    fn sum_up(&mut self) {
        self.layout.set_unsummed(false);
        let is_ip4 = self.bytes().get(ETHERTYPE) == Some(&0x08);
        let segment_at = ethernet::HEADER_LEN + if is_ip4 { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
        let mut pieces = self.segments();
        let first = pieces.next().and_then(|headers| headers.get(segment_at..)).unwrap_or_default();
        let checksum = pieces.map(sum::sum).fold(sum::sum(first), Sum::and).checksum();
        let at = segment_at + tcp::CHECKSUM_OFFSET;
        if let Some(field) = self.bytes_mut().get_mut(at..at + 2) {
            field.copy_from_slice(&checksum);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::frame::{Frame, Pool, Region, RegionConfig};
    use tailwater_stack::checksum::Sum;

    /// Headers in front of text that is lent, with the pseudo header's sum in the place of the checksum.
    fn undone(pool: &mut Pool, kept: &mut Frame, is_ip6: bool) -> (Frame, Sum) {
        let mut frame = pool.share(kept).unwrap();
        let segment_at = if is_ip6 { 54 } else { 34 };
        let pseudo = Sum::new().with(&[0xab, 0xcd, 0x12, 0x35]);
        frame.prepend(segment_at + 20).unwrap();
        let headers = &mut frame.bytes_mut()[..segment_at + 20];
        headers.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 7) as u8);
        headers[12..14].copy_from_slice(if is_ip6 { &[0x86, 0xdd] } else { &[0x08, 0x00] });
        headers[segment_at + 16..][..2].copy_from_slice(&pseudo.folded().to_ne_bytes());
        frame.leave_sum_undone();
        (frame, pseudo)
    }

    #[test]
    fn a_checksum_left_undone_is_completed_once_over_all_pieces() {
        let config = RegionConfig { chunks: 64, huge_pages: false, ..RegionConfig::default() };
        let mut pool = Pool::new(Region::in_process(config).unwrap());
        for (is_ip6, len) in [(false, 1), (false, 1_447), (true, 600), (false, 5_001), (true, 4_000)] {
            let mut kept = pool.allocate_copy(&vec![0x5a; len]).unwrap();
            let (mut frame, pseudo) = undone(&mut pool, &mut kept, is_ip6);
            let whole = |frame: &Frame| frame.segments().collect::<Vec<_>>().concat();
            frame.complete_sum();
            let packet = whole(&frame);
            let segment = &packet[if is_ip6 { 54 } else { 34 }..];
            assert!(pseudo.with(segment).is_valid(), "{len} bytes");
            frame.complete_sum();
            assert_eq!(whole(&frame), packet);
            pool.release(frame);
            pool.release(kept);
        }
    }
}
