//! The demo's network namespaces.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::Context;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::failure::Failure;

pub(super) const LEFT: &str = "left";
pub(super) const ROUTER: &str = "router";
pub(super) const RIGHT: &str = "right";
/// Where round trips turn.
pub(super) const RIGHT_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 81, 2, 2);

/// How the namespaces' names begin, before the process id.
const NAMES: &str = "twdemo-";

/// What `ip` is to do, `@` standing for the names' common start.
const COMMANDS: [&str; 24] = [
    "netns add @left",
    "netns add @router",
    "netns add @right",
    "link add l0 netns @left type veth peer name r0 netns @router",
    "link add s0 netns @right type veth peer name r1 netns @router",
    "-n @left link set lo up",
    "-n @right link set lo up",
    "-n @left addr add 10.81.1.2/24 dev l0",
    "-n @router addr add 10.81.1.1/24 dev r0",
    "-n @router addr add 10.81.2.1/24 dev r1",
    "-n @right addr add 10.81.2.2/24 dev s0",
    "-n @left link set l0 up",
    "-n @router link set r0 up",
    "-n @router link set r1 up",
    "-n @right link set s0 up",
    "-n @left route add default via 10.81.1.1",
    "-n @right route add default via 10.81.2.1",
    "netns exec @router sysctl -qw net.ipv4.ip_forward=1",
    // On a wire, frames carry their checksums; a veth leaves them out unless told.
    "netns exec @left ethtool -K l0 tx off",
    "netns exec @right ethtool -K s0 tx off",
    "netns exec @left sysctl -qw net.ipv6.conf.all.disable_ipv6=1",
    "netns exec @router sysctl -qw net.ipv6.conf.all.disable_ipv6=1",
    "netns exec @right sysctl -qw net.ipv6.conf.all.disable_ipv6=1",
    "netns exec @left ping -q -c 3 -i 0.2 -W 2 10.81.2.2",
];

/// Three namespaces, removed with this value.
pub(super) struct Network {
    prefix: String,
}

/// One of them.
pub(super) struct Side<'a> {
    network: &'a Network,
    role: &'static str,
}

impl Network {
    pub(super) fn build() -> anyhow::Result<Self> {
        sweep();
        let network = Self { prefix: format!("{NAMES}{}-", std::process::id()) };
        for command in COMMANDS {
            let command = command.replace('@', &network.prefix);
            ip(&command.split(' ').collect::<Vec<_>>())?;
        }
        Ok(network)
    }

    pub(super) fn side(&self, role: &'static str) -> Side<'_> {
        Side { network: self, role }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for role in [LEFT, ROUTER, RIGHT] {
            // Those not made yet are not there to be removed.
            if let Err(error) = ip(&["netns", "del", &format!("{}{role}", self.prefix)]) {
                tracing::debug!("{error:#}");
            }
        }
    }
}

/// Removes what demos have left that were killed.
fn sweep() {
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(NAMES).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
            && let Err(error) = ip(&["netns", "del", &name])
        {
            tracing::debug!("{error:#}");
        }
    }
}

impl Side<'_> {
    /// The name under which `ip netns` knows it.
    pub(super) fn name(&self) -> String {
        format!("{}{}", self.network.prefix, self.role)
    }

    /// Runs a closure on a thread inside: sockets that it opens live there.
    pub(super) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        let path = format!("/run/netns/{}", self.name());
        let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok::<T, std::io::Error>(work())
            });
            let done = inside.join().map_err(|_| Failure::new("a thread of the demo ended with a panic", ""))?;
            Ok(done?)
        })
    }

    /// Average round trip of a few kernel pings, in microseconds.
    pub(super) fn ping(&self, to: Ipv4Addr) -> anyhow::Result<f64> {
        let to = to.to_string();
        let output = ip(&["netns", "exec", &self.name(), "ping", "-q", "-c", "10", "-i", "0.05", "-W", "2", &to])?;
        let average =
            average_ms(&output).ok_or_else(|| Failure::new(format!("ping said nothing of use: {output}"), ""))?;
        Ok(average * 1000.0)
    }
}

/// From `rtt min/avg/max/mdev = 0.025/0.031/0.050/0.007 ms`.
fn average_ms(output: &str) -> Option<f64> {
    let line = output.lines().find(|line| line.starts_with("rtt "))?;
    line.split_once("= ")?.1.split('/').nth(1)?.parse().ok()
}

/// Runs `ip` and returns what it printed.
fn ip(words: &[&str]) -> anyhow::Result<String> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let Output { status, stdout, stderr } =
        Command::new("ip").args(words).env("PATH", path).output().map_err(|error| {
            Failure::new(
                format!("cannot run ip: {error}"),
                "the demo needs iproute2, ethtool and ping; ci/setup installs them",
            )
        })?;
    if !status.success() {
        let said = [String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)].concat();
        return Err(Failure::new(format!("`ip {}` failed: {}", words.join(" "), said.trim()), "").into());
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_of_ping_is_the_second_of_four() {
        let output = "2 packets transmitted\nrtt min/avg/max/mdev = 0.025/0.031/0.050/0.007 ms\n";
        assert_eq!(average_ms(output), Some(0.031));
        assert_eq!(average_ms("100% packet loss"), None);
    }
}
