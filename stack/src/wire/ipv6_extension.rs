//! IPv6 extension headers (RFC 8200 §4): a bounded walk to the payload.

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ipv4::Fragment;
use super::protocol;

/// Headers walked before giving up. A regular packet has each kind once and destination options
/// twice (RFC 8200 §4.1), that is six; RFC 8504 §5.3 lets a host limit them.
pub const HEADERS_MAX: usize = 8;
/// Options looked at in one header (RFC 8504 §5.3).
pub const OPTIONS_MAX: usize = 16;
/// Length of a fragment header.
pub const FRAGMENT_LEN: usize = 8;

/// ```text
/// | next header 1 | reserved 1 | offset 13 bit, reserved 2, more 1 | identification 4 |
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct FragmentHeader {
    pub next_header: u8,
    pub reserved: u8,
    pub offset_more: U16,
    pub ident: U32,
}

impl FragmentHeader {
    pub fn new(next_header: u8, fragment: Fragment, ident: u32) -> Self {
        Self {
            next_header,
            reserved: 0,
            offset_more: U16::new((fragment.offset as u16 & 0xfff8) | u16::from(fragment.more)),
            ident: U32::new(ident),
        }
    }

    pub fn fragment(&self) -> Fragment {
        let field = self.offset_more.get();
        Fragment { offset: usize::from(field & 0xfff8), more: field & 1 != 0 }
    }
}

/// Where the chain of headers leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chain {
    /// What the payload is: a transport, [`protocol::NO_NEXT_HEADER`], or something unknown.
    pub protocol: u8,
    /// Offset of the payload from the end of the IPv6 header.
    pub payload_offset: usize,
    /// Offset, from the start of the IPv6 header, of the byte that names `protocol`.
    pub next_header_offset: usize,
    /// The fragment header met on the way, if any. The walk ends at a fragment which is not the
    /// first: nothing known follows.
    pub fragment: Option<FragmentField>,
}

/// A fragment header as found in a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentField {
    /// Of the fragment header, from the end of the IPv6 header.
    pub offset: usize,
    /// Offset from the start of the IPv6 header of the byte that announces the fragment header.
    pub announced_at: usize,
    pub next_header: u8,
    pub ident: u32,
    pub fragment: Fragment,
}

/// Offsets count from the start of the IPv6 header, as ICMPv6 parameter problem wants them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExtensionError {
    /// A header reaches beyond the packet or the contiguous bytes.
    Truncated,
    /// More than [`HEADERS_MAX`] headers or [`OPTIONS_MAX`] options.
    TooMany,
    /// Hop-by-hop options anywhere but first, or a second fragment header (RFC 8200 §4.1).
    Misplaced { offset: usize },
    /// An option with a length beyond its header.
    OptionLen,
    /// An option whose type says that a node without it must discard. `report`: by parameter
    /// problem, `Some(true)` also when the destination was multicast (RFC 8200 §4.2).
    OptionUnknown { offset: usize, report: Option<bool> },
    /// Routing header with segments left, of a type unknown or deprecated (RFC 5095).
    Routing { offset: usize },
}

const IPV6: usize = super::ipv6::HEADER_LEN;

/// Walks the headers which follow an IPv6 header; `bytes` begin behind it.
#[inline]
pub fn walk(first: u8, bytes: &[u8]) -> Result<Chain, ExtensionError> {
    let mut chain = Chain { protocol: first, payload_offset: 0, next_header_offset: 6, fragment: None };
    for step in 0..=HEADERS_MAX {
        let at = chain.payload_offset;
        let is_extension = matches!(
            chain.protocol,
            protocol::HOP_BY_HOP
                | protocol::DESTINATION_OPTIONS
                | protocol::ROUTING
                | protocol::FRAGMENT
                | protocol::AUTHENTICATION
        );
        if !is_extension {
            return Ok(chain);
        }
        if step == HEADERS_MAX {
            break;
        }
        let rest = bytes.get(at..).ok_or(ExtensionError::Truncated)?;
        let &[next, len, ..] = rest else {
            return Err(ExtensionError::Truncated);
        };
        let header_len = match chain.protocol {
            protocol::FRAGMENT => FRAGMENT_LEN,
            // RFC 4302 §2.2: in 4-byte words, minus two.
            protocol::AUTHENTICATION => (usize::from(len) + 2) * 4,
            _ => (usize::from(len) + 1) * 8,
        };
        let header = rest.get(..header_len).ok_or(ExtensionError::Truncated)?;
        match chain.protocol {
            protocol::HOP_BY_HOP if step != 0 => {
                return Err(ExtensionError::Misplaced { offset: chain.next_header_offset });
            }
            protocol::FRAGMENT if chain.fragment.is_some() => {
                return Err(ExtensionError::Misplaced { offset: chain.next_header_offset });
            }
            protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS => check_options(header, at)?,
            // RFC 8200 §4.4: with no segments left an unknown routing header is skipped.
            protocol::ROUTING if header.get(3) != Some(&0) => {
                return Err(ExtensionError::Routing { offset: IPV6 + at + 2 });
            }
            protocol::FRAGMENT => {
                let field = fragment_field(header, at, chain.next_header_offset)?;
                chain.fragment = Some(field);
            }
            _ => {}
        }
        chain.next_header_offset = IPV6 + at;
        chain.payload_offset = at + header_len;
        chain.protocol = next;
        if chain.fragment.is_some_and(|field| field.fragment.offset != 0) {
            return Ok(chain);
        }
    }
    Err(ExtensionError::TooMany)
}

fn fragment_field(header: &[u8], offset: usize, announced_at: usize) -> Result<FragmentField, ExtensionError> {
    let (header, _) = FragmentHeader::ref_from_prefix(header).map_err(|_| ExtensionError::Truncated)?;
    Ok(FragmentField {
        offset,
        announced_at,
        next_header: header.next_header,
        ident: header.ident.get(),
        fragment: header.fragment(),
    })
}

/// RFC 8200 §4.2: unknown options are skipped or end the packet, as their two high bits say.
fn check_options(header: &[u8], header_offset: usize) -> Result<(), ExtensionError> {
    const PAD1: u8 = 0;
    const PADN: u8 = 1;
    const ROUTER_ALERT: u8 = 5;
    let mut at = 2;
    let mut seen = 0;
    // Each step moves on by at least one byte of a header of at most 2048.
    while let Some(&kind) = header.get(at) {
        if kind == PAD1 {
            at += 1;
            continue;
        }
        let &len = header.get(at + 1).ok_or(ExtensionError::OptionLen)?;
        let end = at + 2 + usize::from(len);
        if end > header.len() {
            return Err(ExtensionError::OptionLen);
        }
        if kind != PADN {
            seen += 1;
            if seen > OPTIONS_MAX {
                return Err(ExtensionError::TooMany);
            }
        }
        let offset = IPV6 + header_offset + at;
        match (kind, kind >> 6) {
            (PADN | ROUTER_ALERT, _) | (_, 0) => {}
            (_, 1) => return Err(ExtensionError::OptionUnknown { offset, report: None }),
            (_, 2) => return Err(ExtensionError::OptionUnknown { offset, report: Some(true) }),
            _ => return Err(ExtensionError::OptionUnknown { offset, report: Some(false) }),
        }
        at = end;
    }
    Ok(())
}
