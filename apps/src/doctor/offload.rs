//! Checksums left to hardware that is not there.
//!
//! A kernel sender on a virtual link hands over frames whose checksum nobody has computed (`CHECKSUM_PARTIAL`). The
//! kernel's own stack knows that; what a user-space program gets through AF_XDP are bytes with a wrong checksum.

use std::process::Command;

use tailwater_netlink::Link;

use super::Finding;

/// Kinds of links whose frames never cross a wire.
const VIRTUAL: [&str; 2] = ["veth", "tun"];

/// What is to be said about `link`, if it is virtual. `all` are the links of the namespace.
pub(crate) fn checksums(link: &Link, all: &[Link]) -> Option<Finding> {
    let kind = link.kind.as_deref().filter(|kind| VIRTUAL.contains(kind))?;
    // In its own namespace only; across namespaces an index means nothing.
    let peer = link.lower_ifindex.and_then(|index| all.iter().find(|other| other.ifindex == index));
    Some(match peer.map(|peer| (peer, tx_checksum(&peer.name))) {
        Some((peer, Some(true))) => Finding::obstacle(
            "checksums",
            format!("the peer {} leaves its checksums to us: its packets arrive with wrong ones", peer.name),
            format!("`ethtool -K {} tx off`", peer.name),
        ),
        Some((peer, Some(false))) => Finding::fine("checksums", format!("the peer {} computes its own", peer.name)),
        Some((peer, None)) => Finding::fine("checksums", format!("not known (`ethtool -k {}` did not say)", peer.name)),
        None => Finding::obstacle(
            "checksums",
            format!("the other end of this {kind} is elsewhere; by default it leaves its checksums to us"),
            "run `ethtool -K PEER tx off` where the peer is",
        ),
    })
}

/// Whether the kernel leaves transmit checksums of `interface` to it.
fn tx_checksum(interface: &str) -> Option<bool> {
    // Users' search paths leave out the folder that Debian keeps it in.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new("ethtool").args(["-k", interface]).env("PATH", path).output().ok()?;
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(features: &str) -> Option<bool> {
    let state = features.lines().find_map(|line| line.strip_prefix("tx-checksumming:"))?;
    Some(state.split_whitespace().next() == Some("on"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feature_list_of_ethtool_is_understood() {
        let list = |state: &str| {
            format!(
                "Features for d0:\nrx-checksumming: on\ntx-checksumming: {state}\n\ttx-checksum-ipv4: off [fixed]\n"
            )
        };
        assert_eq!(parse(&list("on")), Some(true));
        assert_eq!(parse(&list("off")), Some(false));
        assert_eq!(parse("Cannot get device settings"), None);
    }
}
