//! What can go wrong, and what to do about it.

use std::io;

use crate::attach::AttachMode;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something did not work. Messages say what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The process may not use BPF.
    #[error(
        "{what}: not permitted; run as root, or grant CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW and CAP_PERFMON (setcap, systemd AmbientCapabilities=)"
    )]
    Privileges {
        /// What was tried.
        what: &'static str,
    },
    /// No interface of that index in this network namespace.
    #[error("no interface with index {ifindex} in this network namespace; `ip link` lists them")]
    NoInterface {
        /// The index.
        ifindex: u32,
    },
    /// The interface is administratively down.
    #[error("{interface} is down; bring it up with `ip link set dev {interface} up`")]
    Down {
        /// Its name.
        interface: String,
    },
    /// Another XDP program is attached.
    #[error(
        "{interface}: another XDP program is attached, \"{program}\" (id {id}, {mode}); `bpftool prog show id {id}` tells more, `ip link set dev {interface} {flag} off` removes it (a program held by a link goes with its owner: `bpftool link`)"
    )]
    Busy {
        /// Name of the interface.
        interface: String,
        /// Name of the other program.
        program: String,
        /// Its id.
        id: u32,
        /// How it is attached.
        mode: &'static str,
        /// What `ip link` calls that mode.
        flag: &'static str,
    },
    /// The driver has no XDP, and native mode was asked for.
    #[error(
        "{interface}: driver {driver} refused native XDP ({source}); use generic mode, or auto to fall back by itself"
    )]
    NoNative {
        /// Name of the interface.
        interface: String,
        /// Its driver.
        driver: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The interface takes no XDP program at all.
    #[error("{interface}: the kernel refused XDP in {mode:?} mode ({source}); this interface needs the AF_PACKET port")]
    NoXdp {
        /// Name of the interface.
        interface: String,
        /// The last mode that was tried.
        mode: AttachMode,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The MTU is too large for a driver without multi-buffer XDP.
    #[error(
        "{interface}: MTU {mtu} is too large for XDP with driver {driver}; lower it (`ip link set dev {interface} mtu 3000`) or use generic mode"
    )]
    MtuTooLarge {
        /// Name of the interface.
        interface: String,
        /// Its MTU.
        mtu: u32,
        /// Its driver.
        driver: String,
    },
    /// The kernel did not load the program.
    #[error(
        "the kernel refused the {what} program: {source}{log}; it needs Linux 6.1 or later with CONFIG_BPF_SYSCALL, CONFIG_XDP_SOCKETS and CONFIG_DEBUG_INFO_BTF"
    )]
    Load {
        /// Which program.
        what: &'static str,
        /// The kernel's answer.
        source: libbpf_rs::Error,
        /// The last lines of the verifier.
        log: String,
    },
    /// A map could not be made, read or written.
    #[error("map {map}: {action} failed: {source}")]
    Map {
        /// Name of the map.
        map: &'static str,
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: libbpf_rs::Error,
    },
    /// A map is full.
    #[error("map {map} is full at {entries_max} entries; raise Limits, or register fewer")]
    Full {
        /// Name of the map.
        map: &'static str,
        /// Its bound.
        entries_max: u32,
    },
    /// A number is out of range.
    #[error("{what} is {value}, must be {least} to {most}")]
    OutOfRange {
        /// What.
        what: &'static str,
        /// What was given.
        value: u64,
        /// Smallest that would do.
        least: u64,
        /// Largest that would do.
        most: u64,
    },
    /// The interface cannot transmit redirected frames.
    #[error(
        "{interface}: driver {driver} cannot transmit frames redirected by XDP (on a veth, its peer needs an XDP program or `ethtool -K <peer> gro on`); use user placement towards it"
    )]
    NoRedirectTarget {
        /// Name of the interface.
        interface: String,
        /// Its driver.
        driver: String,
    },
    /// Another answer of the kernel.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// Sorts out the missing privileges from other answers.
    pub(crate) fn system(what: &'static str, source: io::Error) -> Self {
        if is_privilege(&source) {
            return Self::Privileges { what };
        }
        Self::System { what, source }
    }

    pub(crate) fn map(map: &'static str, action: &'static str, source: libbpf_rs::Error) -> Self {
        if source.kind() == libbpf_rs::ErrorKind::PermissionDenied {
            return Self::Privileges { what: "use of a BPF map" };
        }
        Self::Map { map, action, source }
    }

    pub(crate) fn load(what: &'static str, source: libbpf_rs::Error, log: String) -> Self {
        if source.kind() == libbpf_rs::ErrorKind::PermissionDenied && log.is_empty() {
            return Self::Privileges { what: "loading a BPF program" };
        }
        Self::Load { what, source, log }
    }

    pub(crate) fn in_range(what: &'static str, value: u64, least: u64, most: u64) -> Result<()> {
        if (least..=most).contains(&value) {
            return Ok(());
        }
        Err(Self::OutOfRange { what, value, least, most })
    }
}

pub(crate) fn is_privilege(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}
