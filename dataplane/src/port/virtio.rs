//! `struct virtio_net_hdr`, in which a packet socket with `PACKET_VNET_HDR` and the kernel tell each other what of a packet is
//! left to be done (`linux/virtio_net.h`). In the machine's byte order.

/// Bytes of it.
pub(super) const WORDS_LEN: usize = 10;

/// Flag: the checksum field holds the sum of the pseudo header, the rest is to be added.
pub(super) const NEEDS_CHECKSUM: u8 = 1;

// What the packet is to be cut into.
pub(super) const GSO_NONE: u8 = 0;
pub(super) const GSO_TCP4: u8 = 1;
pub(super) const GSO_TCP6: u8 = 4;
pub(super) const GSO_UDP: u8 = 5;
/// Not a type of its own: the sender uses ECN.
pub(super) const GSO_ECN: u8 = 0x80;
