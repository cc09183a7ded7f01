//! What several blocks need to know of Ethernet headers.

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
