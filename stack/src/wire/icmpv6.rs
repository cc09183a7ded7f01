//! ICMP for IPv6 (RFC 4443).

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const HEADER_LEN: usize = 8;

pub mod kind {
    pub const UNREACHABLE: u8 = 1;
    pub const PACKET_TOO_BIG: u8 = 2;
    pub const TIME_EXCEEDED: u8 = 3;
    pub const PARAMETER_PROBLEM: u8 = 4;
    pub const ECHO_REQUEST: u8 = 128;
    pub const ECHO_REPLY: u8 = 129;
    pub const ROUTER_SOLICITATION: u8 = 133;
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    pub const REDIRECT: u8 = 137;
}

/// Codes of [`kind::UNREACHABLE`] (RFC 4443 §3.1).
pub mod unreachable {
    pub const NO_ROUTE: u8 = 0;
    pub const PROHIBITED: u8 = 1;
    pub const BEYOND_SCOPE: u8 = 2;
    pub const ADDRESS: u8 = 3;
    pub const PORT: u8 = 4;
}

/// Codes of [`kind::TIME_EXCEEDED`] (RFC 4443 §3.3).
pub mod time_exceeded {
    pub const HOP_LIMIT: u8 = 0;
    pub const REASSEMBLY: u8 = 1;
}

/// Codes of [`kind::PARAMETER_PROBLEM`] (RFC 4443 §3.4, RFC 7112 §5).
pub mod parameter_problem {
    pub const HEADER_FIELD: u8 = 0;
    pub const NEXT_HEADER: u8 = 1;
    pub const OPTION: u8 = 2;
    pub const INCOMPLETE_CHAIN: u8 = 3;
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct Icmpv6Header {
    pub kind: u8,
    pub code: u8,
    /// In memory order, over a pseudo header too.
    pub checksum: [u8; 2],
    /// Echo: identifier. Packet too big: high half of the MTU. Parameter problem: of the pointer.
    pub ident: U16,
    /// Echo: sequence number. Packet too big: low half of the MTU. Parameter problem: of the pointer.
    pub sequence: U16,
}

impl Icmpv6Header {
    /// The two halves as the one 32-bit value which errors carry (MTU, pointer).
    pub fn value(&self) -> u32 {
        u32::from(self.ident.get()) << 16 | u32::from(self.sequence.get())
    }
}

/// RFC 4443 §2.1: error messages have the high bit clear.
pub fn is_error(kind: u8) -> bool {
    kind < 128
}
