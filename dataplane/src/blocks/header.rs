//! What blocks and ports need to know of Ethernet headers.

use crate::frame::Frame;
use crate::ledger::DropReason;

/// Destination, source, ethertype.
pub(crate) const ETHERNET_LEN: usize = 14;
/// Both addresses.
pub(crate) const ADDRESSES_LEN: usize = 12;
/// Tag protocol identifier and tag control information (IEEE 802.1Q).
pub(crate) const VLAN_TAG_LEN: usize = 4;

/// Two bytes in network order.
#[inline]
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Whether an ethertype announces a VLAN tag: customer (802.1Q), service (802.1ad), and the one used before 802.1ad.
#[inline]
pub(crate) fn is_vlan_protocol(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}

/// Puts a VLAN tag in front of the ethertype. Fails without effect.
pub(crate) fn push_tag(frame: &mut Frame, protocol: u16, tag: u16) -> Result<(), DropReason> {
    if frame.len() < ETHERNET_LEN {
        return Err(DropReason::BadEthernet);
    }
    frame.prepend(VLAN_TAG_LEN).map_err(|_| DropReason::NoHeadroom)?;
    let bytes = frame.bytes_mut();
    bytes.copy_within(VLAN_TAG_LEN..VLAN_TAG_LEN + ADDRESSES_LEN, 0);
    bytes[ADDRESSES_LEN..ETHERNET_LEN].copy_from_slice(&protocol.to_be_bytes());
    bytes[ETHERNET_LEN..ETHERNET_LEN + 2].copy_from_slice(&tag.to_be_bytes());
    if frame.l3_offset() > 0 {
        frame.set_l3_offset((frame.l3_offset() + VLAN_TAG_LEN) as u8);
    }
    Ok(())
}
