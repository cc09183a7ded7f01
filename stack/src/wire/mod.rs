//! Wire formats: typed views over bytes, and what they mean.
//!
//! Each file holds one format: a `…Header` struct that lies over the bytes as they are on the wire
//! (zerocopy, alignment 1, network byte order), and where a format needs judgement a `parse`
//! function that returns either its meaning or a named reason. A parsed value is proof that the
//! checks were made: no later step repeats them.
//!
//! Parsers get the bytes which lie contiguous at the front of a frame and, where it may differ, the
//! number of bytes which the whole frame holds: only headers have to be contiguous.

pub mod arp;
pub mod ethernet;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod ipv6_extension;
pub mod ndp;
pub mod tcp;
pub mod tcp_option;
pub mod udp;
pub mod vlan;

/// IP protocol numbers (IANA "Protocol Numbers"), which are also IPv6 next-header values.
pub mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const ESP: u8 = 50;
    pub const AUTHENTICATION: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const NO_NEXT_HEADER: u8 = 59;
    pub const DESTINATION_OPTIONS: u8 = 60;
    pub const MOBILITY: u8 = 135;
}
