//! What an interface could do, found out without changing anything. For `tailwater doctor`.

use std::path::Path;

use crate::attach::{self, Occupant};
use crate::error::Result;
use crate::interface::Interface;
use crate::sys;

/// Whether something is known to work.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Support {
    /// The driver says so.
    Yes,
    /// The driver says it cannot.
    No,
    /// The kernel does not tell (before 6.3), or has nothing to say of this driver.
    Unknown,
}

/// One interface, as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Index.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// Driver, `unknown` if the interface has none to name.
    pub driver: String,
    /// MAC address.
    pub mac: [u8; 6],
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Receive queues in use.
    pub rx_queues: u32,
    /// Transmit queues in use.
    pub tx_queues: u32,
    /// The kernel leaves checksums of what it sends to it (`ethtool -k`, tx-checksumming).
    pub tx_checksum: bool,
    /// The kernel leaves it to the interface to cut TCP segments (`ethtool -k`, tcp-segmentation-offload).
    pub tso: bool,
    /// XDP program which is attached now.
    pub occupant: Option<Occupant>,
    /// Native XDP: attaching in native mode would work.
    pub native: Support,
    /// Native redirect, which AF_XDP sockets in native mode need.
    pub redirect: Support,
    /// Zero-copy AF_XDP sockets.
    pub zero_copy: Support,
    /// Frames in several buffers on receive (jumbo frames in native mode).
    pub rx_frags: Support,
    /// Can be the way out of the kernel placement.
    pub redirect_target: Support,
    /// Fragments of one frame in zero-copy mode, 0 if not told.
    pub zero_copy_frags_max: u32,
}

impl Probe {
    /// Asks the kernel about an interface of the caller's network namespace.
    pub fn interface(ifindex: u32) -> Result<Self> {
        let Interface { name, driver, mac, mtu, up, rx_queues, tx_queues, tx_checksum, tso } = Interface::ask(ifindex)?;
        let query = sys::xdp_query(ifindex).unwrap_or_default();
        let occupant = attach::occupant(ifindex)?;
        let can = |bit: u64| support(query.feature_flags, bit);
        Ok(Self {
            ifindex,
            name,
            driver,
            mac,
            mtu,
            up,
            rx_queues,
            tx_queues,
            tx_checksum,
            tso,
            occupant,
            native: can(sys::NETDEV_XDP_ACT_BASIC),
            redirect: can(sys::NETDEV_XDP_ACT_REDIRECT),
            zero_copy: can(sys::NETDEV_XDP_ACT_XSK_ZEROCOPY),
            rx_frags: can(sys::NETDEV_XDP_ACT_RX_SG),
            redirect_target: can(sys::NETDEV_XDP_ACT_NDO_XMIT),
            zero_copy_frags_max: query.xdp_zc_max_segs,
        })
    }
}

impl Probe {
    /// Whether what the kernel sends may reach the other end without its checksum: drivers between programs of one machine
    /// or of its guests hand on what they ought to sum up, and an XDP program there sees it so.
    pub fn leaves_sums_undone(&self) -> bool {
        const UNSUMMED: [&str; 7] = ["veth", "tun", "bridge", "macvlan", "ipvlan", "virtio_net", "unknown"];
        self.tx_checksum && UNSUMMED.contains(&self.driver.as_str())
    }
}

/// No flag at all may also mean an old kernel.
fn support(features: u64, bit: u64) -> Support {
    match features {
        0 => Support::Unknown,
        _ if features & bit != 0 => Support::Yes,
        _ => Support::No,
    }
}

/// What the host allows, whatever the interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// Type information of the running kernel (`/sys/kernel/btf/vmlinux`). Steering does without; tracing tools do not.
    pub kernel_btf: bool,
    /// Capabilities which are missing, by name; empty if all are there.
    pub missing_capabilities: Vec<&'static str>,
    /// Locked memory limit in bytes, `None` if unlimited. Counts for AF_XDP memory without CAP_IPC_LOCK.
    pub memlock_max: Option<u64>,
    /// `net.ipv4.ip_forward`, which the kernel placement needs for IPv4.
    pub forwarding_ip4: bool,
    /// `net.ipv6.conf.all.forwarding`, which the kernel placement needs for IPv6.
    pub forwarding_ip6: bool,
}

/// Capability bits we need (`linux/capability.h`).
const CAPABILITIES: [(u32, &str); 4] =
    [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
/// Stands for all of BPF and more.
const CAP_SYS_ADMIN: u32 = 21;

impl Host {
    /// Asks the kernel about this process and the caller's network namespace.
    pub fn ask() -> Self {
        Self {
            kernel_btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            missing_capabilities: missing(sys::effective_capabilities()),
            memlock_max: rustix::process::getrlimit(rustix::process::Resource::Memlock).current,
            forwarding_ip4: is_on("/proc/sys/net/ipv4/ip_forward"),
            forwarding_ip6: is_on("/proc/sys/net/ipv6/conf/all/forwarding"),
        }
    }
}

fn missing(effective: u64) -> Vec<&'static str> {
    let has = |bit: u32| effective & (1 << bit) != 0;
    let implied = |bit: u32| bit > 32 && has(CAP_SYS_ADMIN);
    CAPABILITIES.iter().filter(|&&(bit, _)| !has(bit) && !implied(bit)).map(|&(_, name)| name).collect()
}

/// /proc/sys/net shows the namespace of whoever opens it.
fn is_on(path: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|value| value.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sys_admin_stands_for_the_bpf_capabilities_but_not_for_the_network_ones() {
        assert_eq!(missing(1 << CAP_SYS_ADMIN), ["CAP_NET_ADMIN", "CAP_NET_RAW"]);
        assert_eq!(missing(u64::MAX), [""; 0]);
        assert_eq!(missing(0).len(), CAPABILITIES.len());
    }

    #[test]
    fn no_feature_bits_mean_unknown_not_no() {
        assert_eq!(support(0, sys::NETDEV_XDP_ACT_BASIC), Support::Unknown);
        assert_eq!(support(2, sys::NETDEV_XDP_ACT_BASIC), Support::No);
        assert_eq!(support(3, sys::NETDEV_XDP_ACT_BASIC), Support::Yes);
    }
}
