//! Options of commands that are a host on the network: whose traffic, and under which addresses.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use tailwater_dataplane::runtime::RuntimeError;
use tailwater_dataplane::service::{Addresses, HostError};
use tailwater_stack::Cidr;
use tailwater_stack::tcp::KeepAlive;
use tailwater_xdp::Mode;

use crate::failure::Failure;

/// For connections whose end is waited for, and whose peer may vanish without a word: 25 seconds after it was last heard. A
/// peer that is there answers, whatever keeps its program busy.
pub(crate) const KEEP_ALIVE: KeepAlive =
    KeepAlive { idle: Duration::from_secs(10), interval: Duration::from_secs(3), probes_max: 5 };

/// Whose traffic, and under which addresses.
#[derive(Args, Clone, Debug)]
pub(crate) struct Hosting {
    /// Take everything that comes in, ARP, neighbour discovery and ping included; the kernel hears nothing more from
    /// the interface
    #[arg(long)]
    pub(crate) exclusive: bool,
    /// Be this host instead of using the kernel's addresses; give it again for further ones. The kernel must not have it
    #[arg(long = "address", value_name = "ADDR/LEN", value_parser = cidr)]
    pub(crate) addresses: Vec<Cidr>,
    /// Router for what is not on the link, with --address; one for IPv4, one for IPv6
    #[arg(long = "gateway", value_name = "ADDR", requires = "addresses")]
    pub(crate) gateways: Vec<IpAddr>,
}

impl Hosting {
    pub(crate) fn mode(&self) -> Mode {
        if self.exclusive { Mode::Exclusive } else { Mode::Shared }
    }

    pub(crate) fn addresses(&self) -> Addresses {
        if self.addresses.is_empty() {
            return Addresses::Kernel;
        }
        Addresses::Own { addresses: self.addresses.clone(), gateways: self.gateways.clone() }
    }
}

/// With the hint that fits, and without a layer in between where hints are looked for.
pub(crate) fn explain(error: HostError) -> anyhow::Error {
    match error {
        HostError::Runtime(error) => error_of_runtime(error),
        HostError::Reserve { .. } => {
            let hint = "`ss -lntup` shows which program has the port; listen at another one or stop that program";
            Failure::new(error.to_string(), hint).into()
        }
        HostError::OneInterface(_) => Failure::usage(error.to_string(), "give -i once with --address").into(),
        HostError::GatewayOffLink(_) => {
            Failure::usage(error.to_string(), "give the router's link too: --address ADDR/LEN that holds it").into()
        }
        _ => Failure::new(error.to_string(), "").into(),
    }
}

fn error_of_runtime(error: RuntimeError) -> anyhow::Error {
    error.into()
}

/// An address with the length of its link's prefix.
fn cidr(text: &str) -> Result<Cidr, String> {
    let wanted = || "wanted an address with its prefix length, such as 10.1.0.1/24".to_owned();
    let (address, len) = text.split_once('/').ok_or_else(wanted)?;
    let (address, len) = (address.parse::<IpAddr>().map_err(|_| wanted())?, len.parse().map_err(|_| wanted())?);
    Cidr::new(address, len).map_err(|_| wanted())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_needs_its_prefix_length() {
        assert_eq!(cidr("10.1.0.1/24"), Ok(Cidr::new([10, 1, 0, 1], 24).unwrap()));
        assert!(cidr("fd00:1::1/64").is_ok());
        assert!(["10.1.0.1", "10.1.0.1/33", "10.1/16", "/24", "fd00::/129"].iter().all(|text| cidr(text).is_err()));
    }
}
