//! Addresses on all members of a group: each of them on every member, or dealt out one to each.

use std::net::IpAddr;

use clap::{Args as ClapArgs, Subcommand};
use tailwater_netlink::{AddressChange, Link};

use super::outcome::Outcome;
use super::show::{self, cidr};
use super::slow::Progress;
use super::{Caution, Target, check_privileges};
use crate::failure::Failure;

#[derive(Subcommand, Debug)]
pub(super) enum Action {
    /// Put addresses on the members
    Add(Options),
    /// Take addresses from the members
    Del(Options),
    /// Show the addresses of the members
    List {
        /// Print JSON
        #[arg(short, long)]
        json: bool,
    },
}

/// Options of `address add` and `address del`.
#[derive(ClapArgs, Debug)]
pub(super) struct Options {
    /// Addresses with their prefix lengths; all of them on every member
    #[arg(value_name = "ADDR/LEN", value_parser = prefixed, required_unless_present = "from")]
    addresses: Vec<Prefixed>,
    /// Also those in a file, separated by white space; `-` is standard input
    #[arg(long, value_name = "FILE")]
    from: Option<String>,
    /// One address for each member, in order of interface index; there must be as many
    #[arg(long)]
    one_each: bool,
    #[command(flatten)]
    caution: Caution,
}

/// An address with its prefix length; host bits stay.
type Prefixed = (IpAddr, u8);

pub(super) fn run(target: &mut Target, action: Action) -> anyhow::Result<()> {
    match action {
        Action::Add(options) => change(target, &options, true),
        Action::Del(options) => change(target, &options, false),
        Action::List { json } => show::addresses(target, json),
    }
}

fn change(target: &mut Target, options: &Options, add: bool) -> anyhow::Result<()> {
    target.changeable(options.caution)?;
    let addresses = options.addresses()?;
    let members = target.members()?;
    let changes = deal(&members, &addresses, options.one_each, add)?;
    let name = |link: &Link, change: &AddressChange| format!("{} {}", link.name, cidr(change.ip, change.prefix_len));
    let names: Vec<String> = changes.iter().map(|(link, change)| name(link, change)).collect();
    let changes: Vec<AddressChange> = changes.into_iter().map(|(_, change)| change).collect();
    let action = format!("address {}", if add { "add" } else { "del" });
    if options.caution.dry_run {
        return Outcome::dry_run(target, action, names).print(options.caution.json);
    }
    check_privileges()?;
    let mut progress = Progress::new(&target.shown, changes.len());
    let verdicts = target.netlink.change_addresses(&changes, &mut |done| progress.show(done))?;
    progress.finish();
    Outcome::of(target, action, names.into_iter().zip(verdicts)).print(options.caution.json)
}

/// Which address goes where.
fn deal<'a>(
    members: &'a [Link],
    addresses: &[Prefixed],
    one_each: bool,
    add: bool,
) -> anyhow::Result<Vec<(&'a Link, AddressChange)>> {
    let change = |link: &'a Link, &(ip, prefix_len): &Prefixed| {
        (link, AddressChange { ifindex: link.ifindex, ip, prefix_len, add })
    };
    if !one_each {
        return Ok(members
            .iter()
            .flat_map(|link| addresses.iter().map(move |address| change(link, address)))
            .collect());
    }
    if members.len() != addresses.len() {
        let (members, addresses) = (members.len(), addresses.len());
        let message = format!("{addresses} addresses cannot be dealt out to {members} members, one to each");
        return Err(Failure::new(message, "nothing was changed; `show` lists the members in order").into());
    }
    Ok(members.iter().zip(addresses).map(|(link, address)| change(link, address)).collect())
}

impl Options {
    fn addresses(&self) -> anyhow::Result<Vec<Prefixed>> {
        let mut addresses = self.addresses.clone();
        let Some(file) = &self.from else { return Ok(addresses) };
        let unreadable =
            |error| Failure::new(format!("cannot read {file}: {error}"), "give --from a file of addresses");
        let text = match file.as_str() {
            "-" => std::io::read_to_string(std::io::stdin()).map_err(unreadable)?,
            file => std::fs::read_to_string(file).map_err(unreadable)?,
        };
        for word in text.split_whitespace() {
            let wrong = |wanted| Failure::usage(format!("{file}: {word:?}: {wanted}"), "nothing was changed");
            addresses.push(prefixed(word).map_err(wrong)?);
        }
        if addresses.is_empty() {
            return Err(Failure::usage(format!("{file} holds no address"), "nothing was changed").into());
        }
        Ok(addresses)
    }
}

fn prefixed(text: &str) -> Result<Prefixed, String> {
    let wanted = || "wanted an address with its prefix length, such as 10.1.0.1/24".to_owned();
    let (ip, prefix_len) = text.split_once('/').ok_or_else(wanted)?;
    let (ip, prefix_len) = (ip.parse::<IpAddr>().map_err(|_| wanted())?, prefix_len.parse().map_err(|_| wanted())?);
    if prefix_len > if ip.is_ipv4() { 32 } else { 128 } {
        return Err(wanted());
    }
    Ok((ip, prefix_len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_keeps_its_host_bits_and_needs_a_length_that_fits() {
        assert_eq!(prefixed("10.1.2.3/9").map(|(ip, len)| cidr(ip, len)).as_deref(), Ok("10.1.2.3/9"));
        assert!(prefixed("fd00::1/128").is_ok());
        for wrong in ["10.1.2.3", "10.1.2.3/33", "fd00::1/129", "10.1.2.3/-1", "/24", "10.1.2/24"] {
            assert!(prefixed(wrong).is_err(), "{wrong}");
        }
    }
}
