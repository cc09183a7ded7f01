//! IP addresses of the host's interfaces.

use std::net::IpAddr;

use netlink_packet_core::{DecodeError, NlasIterator, Parseable};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeader};

const ADDRESS_HEADER_LEN: usize = 8;

/// One address of one interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    pub ifindex: u32,
    pub ip: IpAddr,
    pub prefix_len: u8,
    /// The other end of a point-to-point address, where it has one.
    pub peer: Option<IpAddr>,
    /// How far the address reaches (`RT_SCOPE_*`): 0 everywhere, 253 this link, 254 this host.
    pub scope: u8,
    /// Duplicate address detection has not finished: not to be used yet (RFC 4862 §5.4).
    pub tentative: bool,
    /// Duplicate address detection found another owner: never to be used.
    pub duplicate: bool,
    /// Not to be used for new connections (RFC 4862 §5.5.4).
    pub deprecated: bool,
    /// IPv4: not the first of its prefix. IPv6: temporary (RFC 8981).
    pub secondary: bool,
}

/// What makes two addresses the same to the kernel.
pub(crate) type AddressKey = (u32, IpAddr, u8, Option<IpAddr>);

impl Address {
    pub(crate) fn key(&self) -> AddressKey {
        (self.ifindex, self.ip, self.prefix_len, self.peer)
    }
}

pub(crate) fn decode(payload: &[u8]) -> Result<Option<Address>, DecodeError> {
    let header = AddressHeader::parse(payload)?;
    let mut flags = AddressFlags::from_bits_retain(u32::from(header.flags.bits()));
    let (mut local, mut address) = (None, None);
    for nla in NlasIterator::new(payload.get(ADDRESS_HEADER_LEN..).unwrap_or_default()) {
        match AddressAttribute::parse(&nla?) {
            Ok(AddressAttribute::Local(ip)) => local = Some(ip),
            Ok(AddressAttribute::Address(ip)) => address = Some(ip),
            Ok(AddressAttribute::Flags(all)) => flags = all,
            _ => {}
        }
    }
    let Some(ip) = local.or(address) else { return Ok(None) };
    Ok(Some(Address {
        ifindex: header.index,
        ip,
        prefix_len: header.prefix_len,
        peer: address.filter(|peer| *peer != ip),
        scope: header.scope.into(),
        tentative: flags.contains(AddressFlags::Tentative),
        duplicate: flags.contains(AddressFlags::Dadfailed),
        deprecated: flags.contains(AddressFlags::Deprecated),
        secondary: flags.contains(AddressFlags::Secondary),
    }))
}
