//! IEEE 802.1Q tag: lies between the Ethernet source address and the type of the payload.

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes that one tag adds to a frame.
pub const TAG_LEN: usize = 4;
/// Greatest id that names a VLAN; 0 means priority only, 4095 is reserved.
pub const ID_MAX: u16 = 4094;

/// The four bytes after the Ethernet header's own type field (0x8100):
///
/// ```text
/// | priority 3 bit | drop eligible 1 bit | id 12 bit | ethertype 2 bytes |
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct VlanTag {
    pub control: U16,
    pub ethertype: U16,
}

impl VlanTag {
    pub fn new(id: u16, priority: u8, ethertype: u16) -> Self {
        Self { control: U16::new((u16::from(priority & 7) << 13) | (id & 0x0fff)), ethertype: U16::new(ethertype) }
    }

    pub fn id(&self) -> u16 {
        self.control.get() & 0x0fff
    }

    pub fn priority(&self) -> u8 {
        (self.control.get() >> 13) as u8
    }

    pub fn drop_eligible(&self) -> bool {
        self.control.get() & 0x1000 != 0
    }
}
