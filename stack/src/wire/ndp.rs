//! Neighbour discovery messages (RFC 4861 §4.3, §4.4) and their options (§4.6).

use core::net::Ipv6Addr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ethernet::MacAddress;

/// RFC 4861 §7.1: what no router on the way can fake.
pub const HOP_LIMIT: u8 = 255;
/// Options looked at in one message; more are ignored.
pub const OPTIONS_MAX: usize = 16;

pub mod option {
    pub const SOURCE_LINK_LAYER: u8 = 1;
    pub const TARGET_LINK_LAYER: u8 = 2;
}

const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// Solicitation and advertisement share one layout: ICMPv6 header, target, options.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct NdpHeader {
    pub kind: u8,
    pub code: u8,
    /// In memory order.
    pub checksum: [u8; 2],
    pub flags: u8,
    pub reserved: [u8; 3],
    pub target: [u8; 16],
}

/// Link-layer address option for Ethernet (RFC 2464 §6), eight bytes.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct LinkLayerOption {
    pub kind: u8,
    /// In units of eight bytes.
    pub len: u8,
    pub mac: MacAddress,
}

/// Header and one link-layer option: the message we send.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct NdpMessage {
    pub header: NdpHeader,
    pub option: LinkLayerOption,
}

pub const MESSAGE_LEN: usize = size_of::<NdpMessage>();

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Solicitation {
    pub target: Ipv6Addr,
    pub source_mac: Option<MacAddress>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Advertisement {
    pub target: Ipv6Addr,
    pub target_mac: Option<MacAddress>,
    pub router: bool,
    pub solicited: bool,
    pub overrides: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NdpError {
    /// Under 24 bytes.
    Truncated,
    Code,
    TargetMulticast,
    /// RFC 4861 §7.1: an option of length zero, or beyond the message.
    OptionLen,
}

fn parse(bytes: &[u8], wanted: u8) -> Result<(&NdpHeader, Option<MacAddress>), NdpError> {
    let (header, rest) = NdpHeader::ref_from_prefix(bytes).map_err(|_| NdpError::Truncated)?;
    if header.code != 0 {
        return Err(NdpError::Code);
    }
    if Ipv6Addr::from(header.target).is_multicast() {
        return Err(NdpError::TargetMulticast);
    }
    Ok((header, link_layer_option(rest, wanted)?))
}

fn link_layer_option(mut rest: &[u8], wanted: u8) -> Result<Option<MacAddress>, NdpError> {
    let mut found = None;
    for _ in 0..OPTIONS_MAX {
        if rest.is_empty() {
            break;
        }
        let &[kind, units, ..] = rest else {
            return Err(NdpError::OptionLen);
        };
        let len = usize::from(units) * 8;
        let (option, tail) = rest.split_at_checked(len).ok_or(NdpError::OptionLen)?;
        if len == 0 {
            return Err(NdpError::OptionLen);
        }
        if kind == wanted
            && len == size_of::<LinkLayerOption>()
            && let Ok((option, _)) = LinkLayerOption::ref_from_prefix(option)
            && option.mac.is_station()
        {
            found.get_or_insert(option.mac);
        }
        rest = tail;
    }
    Ok(found)
}

/// `bytes` begin with the ICMPv6 header and end with the message.
pub fn parse_solicitation(bytes: &[u8]) -> Result<Solicitation, NdpError> {
    let (header, source_mac) = parse(bytes, option::SOURCE_LINK_LAYER)?;
    Ok(Solicitation { target: header.target.into(), source_mac })
}

/// `bytes` begin with the ICMPv6 header and end with the message.
pub fn parse_advertisement(bytes: &[u8]) -> Result<Advertisement, NdpError> {
    let (header, target_mac) = parse(bytes, option::TARGET_LINK_LAYER)?;
    Ok(Advertisement {
        target: header.target.into(),
        target_mac,
        router: header.flags & ROUTER != 0,
        solicited: header.flags & SOLICITED != 0,
        overrides: header.flags & OVERRIDE != 0,
    })
}

fn message(kind: u8, flags: u8, target: Ipv6Addr, option: u8, mac: MacAddress) -> NdpMessage {
    NdpMessage {
        header: NdpHeader { kind, code: 0, checksum: [0; 2], flags, reserved: [0; 3], target: target.octets() },
        option: LinkLayerOption { kind: option, len: 1, mac },
    }
}

/// A solicitation for `target` from the station `mac`, its checksum still zero.
pub fn solicitation(target: Ipv6Addr, mac: MacAddress) -> NdpMessage {
    let kind = super::icmpv6::kind::NEIGHBOUR_SOLICITATION;
    message(kind, 0, target, option::SOURCE_LINK_LAYER, mac)
}

/// An advertisement of `target` at `mac` with the override flag, its checksum still zero.
pub fn advertisement(target: Ipv6Addr, mac: MacAddress, solicited: bool) -> NdpMessage {
    let kind = super::icmpv6::kind::NEIGHBOUR_ADVERTISEMENT;
    let flags = OVERRIDE | if solicited { SOLICITED } else { 0 };
    message(kind, flags, target, option::TARGET_LINK_LAYER, mac)
}
