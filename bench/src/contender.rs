//! What is compared in the forwarding scenarios: us, and our peers.

use serde::Serialize;

/// Who spends the time that receiving a frame costs. On a veth, whoever sends does, unless told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Receive {
    /// A NAPI thread on the core of the device under test: every cost of forwarding is on that one core.
    DutCore,
    /// The softirq on the generator's core: the device under test gets its frames for nothing.
    GeneratorCore,
}

/// Where the forwarded frames end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Sink {
    /// XDP_DROP on s0, for what the kernel or XDP sends. (An AF_XDP socket's frames would be copied once more for it,
    /// at the expense of the device under test.)
    XdpDrop,
    /// No XDP on s0: the frame carries a MAC address that is not s0's and is dropped first thing in the IP layer.
    ForeignMac,
}

/// How one of our workers passes its time without packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Idle {
    Spin,
    Adaptive,
    Sleep,
}

impl Idle {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Spin => "spin",
            Self::Adaptive => "adaptive",
            Self::Sleep => "sleep",
        }
    }
}

/// The kinds of forwarder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Device {
    /// The kernel's own forwarding.
    Kernel,
    /// An XDP program that redirects without looking.
    XdpRedirect,
    /// An XDP program that asks the kernel's routing table.
    XdpFib,
    /// DPDK testpmd over its af_xdp driver, frames unchanged.
    TestpmdIo,
    /// DPDK's l3fwd example over its af_xdp driver.
    DpdkL3fwd,
    /// `tailwater l3fwd --place user`.
    TailwaterUser(Idle),
    /// `tailwater l3fwd --place xdp`.
    TailwaterXdp,
}

impl Device {
    /// What must have happened to a frame on its way. Otherwise something easier than forwarding would be measured.
    pub(crate) fn routes(self) -> bool {
        !matches!(self, Self::XdpRedirect | Self::TestpmdIo)
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::TailwaterUser(_) | Self::TailwaterXdp)
    }
}

/// One row of a forwarding table.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Contender {
    /// Names it on the command line and in the tables.
    pub name: &'static str,
    pub about: &'static str,
    pub device: Device,
    pub receive: Receive,
    pub sink: Sink,
}

const fn contender(name: &'static str, about: &'static str, device: Device, receive: Receive, sink: Sink) -> Contender {
    Contender { name, about, device, receive, sink }
}

use Device::{DpdkL3fwd, Kernel, TailwaterUser, TailwaterXdp, TestpmdIo, XdpFib, XdpRedirect};
use Receive::{DutCore, GeneratorCore};
use Sink::{ForeignMac, XdpDrop};

/// Rows of `l3fwd`, the reference first.
pub(crate) const L3FWD: &[Contender] = &[
    contender("kernel", "Linux ip_forward, gro on", Kernel, DutCore, XdpDrop),
    contender("kernel-plain", "Linux ip_forward, the sink of the AF_XDP rows", Kernel, DutCore, ForeignMac),
    contender("kernel-rps", "Linux ip_forward, RPS to the forwarding core", Kernel, GeneratorCore, ForeignMac),
    contender("xdp-redirect", "XDP, blind bpf_redirect", XdpRedirect, DutCore, XdpDrop),
    contender("xdp-fib", "XDP, bpf_fib_lookup and bpf_redirect", XdpFib, DutCore, XdpDrop),
    contender("testpmd-io", "DPDK testpmd io, net_af_xdp, busy_budget=0", TestpmdIo, DutCore, ForeignMac),
    contender("testpmd-io-rx", "DPDK testpmd io, net_af_xdp, its busy polling", TestpmdIo, GeneratorCore, ForeignMac),
    contender("dpdk-l3fwd", "DPDK l3fwd (LPM), net_af_xdp, busy_budget=0", DpdkL3fwd, DutCore, ForeignMac),
    contender("dpdk-l3fwd-rx", "DPDK l3fwd (LPM), net_af_xdp, its busy polling", DpdkL3fwd, GeneratorCore, ForeignMac),
    contender("tailwater", "tailwater l3fwd --place user", TailwaterUser(Idle::Sleep), DutCore, ForeignMac),
    contender("tailwater-rx", "tailwater l3fwd --place user", TailwaterUser(Idle::Spin), GeneratorCore, ForeignMac),
    contender("tailwater-xdp", "tailwater l3fwd --place xdp", TailwaterXdp, DutCore, XdpDrop),
];

/// Rows of `exec-models`: the ways to run the forwarder, the kernel as the reference first.
pub(crate) const EXEC_MODELS: &[Contender] = &[
    contender("kernel", "kernel forwarding in its NAPI thread", Kernel, DutCore, XdpDrop),
    contender(
        "softirq-xdp",
        "forwarding inside the kernel's receive path (--place xdp)",
        TailwaterXdp,
        DutCore,
        XdpDrop,
    ),
    contender(
        "polling-shared",
        "worker that spins, sharing its core with the NAPI thread",
        TailwaterUser(Idle::Spin),
        DutCore,
        ForeignMac,
    ),
    contender(
        "adaptive-shared",
        "worker that spins, then sleeps, sharing its core with the NAPI thread",
        TailwaterUser(Idle::Adaptive),
        DutCore,
        ForeignMac,
    ),
    contender(
        "sleeping-shared",
        "worker that sleeps in poll(2), sharing its core with the NAPI thread",
        TailwaterUser(Idle::Sleep),
        DutCore,
        ForeignMac,
    ),
    contender(
        "polling-own-core",
        "worker that spins, alone on its core",
        TailwaterUser(Idle::Spin),
        GeneratorCore,
        ForeignMac,
    ),
    contender(
        "adaptive-own-core",
        "worker that spins, then sleeps, alone on its core",
        TailwaterUser(Idle::Adaptive),
        GeneratorCore,
        ForeignMac,
    ),
    contender(
        "sleeping-own-core",
        "worker that sleeps in poll(2), alone on its core",
        TailwaterUser(Idle::Sleep),
        GeneratorCore,
        ForeignMac,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_kernel_is_the_reference() {
        for table in [L3FWD, EXEC_MODELS] {
            let mut names: Vec<_> = table.iter().map(|contender| contender.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), table.len());
            assert!(matches!(table[0].device, Device::Kernel));
        }
    }

    #[test]
    fn what_sends_through_af_xdp_sockets_always_has_the_plain_sink() {
        for contender in L3FWD.iter().chain(EXEC_MODELS) {
            if matches!(contender.device, TestpmdIo | DpdkL3fwd | TailwaterUser(_)) {
                assert_eq!(contender.sink, ForeignMac, "{}", contender.name);
            }
        }
    }
}
