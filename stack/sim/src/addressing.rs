//! Addresses and MAC addresses of the ends of links.

use tailwater_stack::{Cidr, MacAddress};
use thiserror::Error;

use crate::simulation::NodeId;

/// Why two nodes were not connected.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConnectError {
    #[error("'{0}' is no address with a prefix length; write 10.0.0.1/24 or fd00::1/64")]
    Address(String),
    #[error("{0} is taken; each address can be given once in a simulation")]
    Taken(Cidr),
    #[error("{0} cannot be the address of a host; give a unicast address")]
    Kind(Cidr),
    #[error("'{0}' is a switch, which has no addresses; leave them out")]
    OnSwitch(String),
    #[error("'{0}' needs an address on each of its links: write '{0} 10.0.0.1/24'")]
    Missing(String),
    #[error("'{0}' has more addresses or links than a host can have")]
    Full(String),
}

/// One end of a link: a node, and its addresses there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct End {
    pub node: NodeId,
    pub addresses: Vec<Cidr>,
}

/// What can be told to be an end: a switch, or a node with an address (`"10.0.0.1/24"`) or several.
pub trait IntoEnd {
    fn into_end(self) -> Result<End, ConnectError>;
}

impl IntoEnd for End {
    fn into_end(self) -> Result<End, ConnectError> {
        Ok(self)
    }
}

impl IntoEnd for NodeId {
    fn into_end(self) -> Result<End, ConnectError> {
        Ok(End { node: self, addresses: Vec::new() })
    }
}

impl IntoEnd for (NodeId, Cidr) {
    fn into_end(self) -> Result<End, ConnectError> {
        Ok(End { node: self.0, addresses: vec![self.1] })
    }
}

impl IntoEnd for (NodeId, &str) {
    fn into_end(self) -> Result<End, ConnectError> {
        let addresses = self.1.split_whitespace().map(parse).collect::<Result<_, _>>()?;
        Ok(End { node: self.0, addresses })
    }
}

/// Reads `10.0.0.1/24` or `fd00::1/64`.
pub(crate) fn parse(text: &str) -> Result<Cidr, ConnectError> {
    let wrong = || ConnectError::Address(text.to_owned());
    let (address, prefix_len) = text.split_once('/').ok_or_else(wrong)?;
    let address: std::net::IpAddr = address.parse().map_err(|_| wrong())?;
    Cidr::new(address, prefix_len.parse().map_err(|_| wrong())?).map_err(|_| wrong())
}

/// The MAC address of the nth port of a simulation, locally administered.
pub(crate) fn mac(n: u32) -> MacAddress {
    let [a, b, c, d] = n.to_be_bytes();
    MacAddress([2, 0, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_their_prefix_or_refused_with_an_example() {
        assert_eq!(parse("10.0.0.1/24"), Ok(Cidr::new([10, 0, 0, 1], 24).unwrap()));
        assert!(parse("fd00::1/64").is_ok());
        for wrong in ["10.0.0.1", "10.0.0.1/33", "10.0.0/24", "a/8", "10.0.0.1/"] {
            assert!(parse(wrong).unwrap_err().to_string().contains("10.0.0.1/24"), "{wrong}");
        }
    }
}
