//! From fragments back to a frame that goes through the way in once more, as if sent whole.

use zerocopy::FromBytes;
use zerocopy::network_endian::U16;

use crate::buffer::Buffer;
use crate::checksum;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::icmp_error::IcmpError;
use crate::interface::InterfaceId;
use crate::packet::Packet;
use crate::reassembly::{Added, Gone, Key, Piece};
use crate::stack::{Stack, end_fragment};
use crate::verdict::Verdict;
use crate::wire::ethernet::{self, ethertype};
use crate::wire::ipv4::{self, Ipv4Header};
use crate::wire::ipv6::{self, Ipv6Header};
use crate::wire::ipv6_extension::{self, FRAGMENT_LEN};

impl<B: Buffer> Stack<B> {
    /// Hands a fragment to reassembly, and goes on with the whole if it was the last to come.
    pub(crate) fn on_fragment<E: Env<Buffer = B>>(
        &mut self,
        key: Key,
        piece: Piece,
        packet: Packet,
        buffer: B,
        env: &mut E,
    ) -> Verdict<B> {
        let Self { reassembly, ledger, .. } = self;
        let now = env.now();
        let added = reassembly.add(key, piece, buffer, packet.payload_offset, now, |gone| {
            end_fragment(ledger, env, gone);
        });
        match added {
            Added::Held => Verdict::Held,
            Added::Dropped(buffer, reason) => self.drop_packet(buffer, reason, env),
            Added::Complete { mut buffer, payload_len } => match make_whole(&mut buffer, payload_len) {
                Ok(()) => self.on_frame(packet.interface, buffer, env),
                Err(reason) => self.drop_packet(buffer, reason, env),
            },
        }
    }

    /// Gives up fragments whose time is up, and reports those of which the first came.
    pub(crate) fn expire_fragments<E: Env<Buffer = B>>(&mut self, env: &mut E) {
        let now = env.now();
        // At most as many rounds as reassembly holds buffers.
        while let Some((id, gone)) = self.reassembly.pop_expired(now) {
            // RFC 1122 §3.3.2, RFC 8200 §4.5: time exceeded, if the first fragment is there.
            if let Gone::FirstTimedOut(first) = &gone
                && let Some(packet) = self.packet_of_first(id, first)
            {
                self.report(IcmpError::ReassemblyTimeExceeded, &packet, first, env);
            }
            end_fragment(&mut self.ledger, env, gone);
        }
    }

    fn packet_of_first(&self, id: InterfaceId, first: &B) -> Option<Packet> {
        let link = ethernet::parse(first.bytes()).ok()?;
        match link.ethertype {
            ethertype::IPV4 => self.admit_ipv4(id, &link, first).ok().map(|(_, packet)| packet),
            ethertype::IPV6 => self.admit_ipv6(id, &link, first).ok().map(|(_, packet)| packet),
            _ => None,
        }
    }
}

/// Rewrites the headers of a first fragment, behind which the `payload_len` bytes of its datagram
/// now lie.
fn make_whole<B: Buffer>(buffer: &mut B, payload_len: usize) -> Result<(), DropReason> {
    let link = ethernet::parse(buffer.bytes()).map_err(|_| DropReason::EthernetTruncated)?;
    match link.ethertype {
        ethertype::IPV4 => make_whole_ipv4(buffer, link.header_len, payload_len),
        _ => make_whole_ipv6(buffer, link.header_len, payload_len),
    }
}

fn make_whole_ipv4<B: Buffer>(buffer: &mut B, ip_offset: usize, payload_len: usize) -> Result<(), DropReason> {
    let bytes = buffer.bytes_mut().get_mut(ip_offset..).unwrap_or_default();
    let header_len = ipv4::parse_quoted(bytes)?.header_len;
    let total_len = header_len + payload_len;
    // The first fragment may have more options than the last, which set the limit before.
    let total_len = u16::try_from(total_len).map_err(|_| DropReason::FragmentOversize)?;
    let (header, _) = Ipv4Header::mut_from_prefix(bytes).map_err(|_| DropReason::Ipv4Truncated)?;
    header.total_len = U16::new(total_len);
    header.flags_offset = U16::new(0);
    header.checksum = [0; 2];
    let checksum = checksum::of(bytes.get(..header_len).unwrap_or_default());
    if let Ok((header, _)) = Ipv4Header::mut_from_prefix(bytes) {
        header.checksum = checksum;
    }
    Ok(())
}

/// Takes the fragment header out: what is in front of it moves up.
fn make_whole_ipv6<B: Buffer>(buffer: &mut B, ip_offset: usize, payload_len: usize) -> Result<(), DropReason> {
    let bytes = buffer.bytes_mut();
    let packet = bytes.get_mut(ip_offset..).unwrap_or_default();
    let next_header = ipv6::parse_quoted(packet)?.next_header;
    let behind = packet.get(ipv6::HEADER_LEN..).unwrap_or_default();
    let chain = ipv6_extension::walk(next_header, behind).map_err(|_| DropReason::Ipv6Extension)?;
    let field = chain.fragment.ok_or(DropReason::Ipv6Extension)?;
    let whole_len = u16::try_from(field.offset + payload_len).map_err(|_| DropReason::FragmentOversize)?;
    let announced = packet.get_mut(field.announced_at).ok_or(DropReason::Ipv6Extension)?;
    *announced = field.next_header;
    let (header, _) = Ipv6Header::mut_from_prefix(packet).map_err(|_| DropReason::Ipv6Truncated)?;
    header.payload_len = U16::new(whole_len);
    let front_len = ip_offset + ipv6::HEADER_LEN + field.offset;
    let front = bytes.get_mut(..front_len + FRAGMENT_LEN).ok_or(DropReason::HeaderSplit)?;
    front.copy_within(..front_len, FRAGMENT_LEN);
    buffer.trim_front(FRAGMENT_LEN).map_err(|_| DropReason::HeaderSplit)
}
