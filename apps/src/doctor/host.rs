//! What the host offers to every interface.

use std::fs;

use serde::Serialize;
use tailwater_xdp::Host;

use super::Finding;
use crate::cpus;

/// Linux that has `XDP_MAX_TX_SKB_BUDGET`: more than 32 packets for one transmit call in copy mode.
const TX_BUDGET_KERNEL: (u32, u32) = (6, 17);
/// Oldest Linux that the XDP program loads on.
const OLDEST_KERNEL: (u32, u32) = (6, 1);
/// First Linux that tells what a driver's XDP can do.
const FEATURES_KERNEL: (u32, u32) = (6, 3);

/// What was found out about the host.
#[derive(Debug, Serialize)]
pub(crate) struct HostReport {
    pub(crate) kernel: String,
    pub(crate) findings: Vec<Finding>,
}

/// Looks.
pub(crate) fn look() -> HostReport {
    let uname = rustix::system::uname();
    let kernel = uname.release().to_string_lossy().into_owned();
    let host = Host::ask();
    let mut findings = vec![kernel_version(&kernel), Finding::fine("CPUs", cpus::list(&cpus::online()))];
    findings.push(privileges(&host));
    findings.push(match host.memlock_max {
        None => Finding::fine("locked memory", "unlimited"),
        Some(bytes) => Finding::fine("locked memory", format!("{} KiB (no limit with CAP_IPC_LOCK)", bytes >> 10)),
    });
    findings.push(huge_pages(&fs::read_to_string("/proc/meminfo").unwrap_or_default()));
    findings.push(forwarding("IPv4 forwarding", host.forwarding_ip4, "net.ipv4.ip_forward"));
    findings.push(forwarding("IPv6 forwarding", host.forwarding_ip6, "net.ipv6.conf.all.forwarding"));
    findings.push(match host.kernel_btf {
        true => Finding::fine("BTF", "yes"),
        false => Finding::fine("BTF", "no (tailwater does without)"),
    });
    HostReport { kernel, findings }
}

fn kernel_version(release: &str) -> Finding {
    let Some(version) = version(release) else { return Finding::fine("kernel", release) };
    if version < OLDEST_KERNEL {
        let (major, minor) = OLDEST_KERNEL;
        return Finding::obstacle("kernel", release, format!("Linux {major}.{minor} or later is needed"));
    }
    let budget = match version >= TX_BUDGET_KERNEL {
        true => "up to 512 packets for one transmit call",
        false => "32 packets for one transmit call (Linux 6.17 takes 512)",
    };
    let features = match version >= FEATURES_KERNEL {
        true => "",
        false => "; does not tell what drivers can do (Linux 6.3 does)",
    };
    Finding::fine("kernel", format!("{release}: {budget}{features}"))
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn privileges(host: &Host) -> Finding {
    if host.missing_capabilities.is_empty() {
        return Finding::fine("privileges", "all that is needed");
    }
    let missing = format!("missing {}", host.missing_capabilities.join(", "));
    Finding::obstacle("privileges", missing, "run as root, or grant them with setcap or AmbientCapabilities=")
}

fn huge_pages(meminfo: &str) -> Finding {
    let field = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let (total, free) = (field("HugePages_Total").unwrap_or(0), field("HugePages_Free").unwrap_or(0));
    let size_kib = field("Hugepagesize").unwrap_or(2048);
    let state = format!("{free} of {total} free, {size_kib} KiB each");
    match free {
        0 => Finding::obstacle("huge pages", state, "optional: `sysctl vm.nr_hugepages=64` saves address translations"),
        _ => Finding::fine("huge pages", state),
    }
}

fn forwarding(topic: &'static str, on: bool, key: &str) -> Finding {
    match on {
        true => Finding::fine(topic, "on"),
        false => Finding::obstacle(topic, "off", format!("only `l3fwd --place xdp` needs it: `sysctl -w {key}=1`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_compare_as_numbers() {
        assert_eq!(version("6.18.44-fc"), Some((6, 18)));
        assert!(version("6.9.0").unwrap() < TX_BUDGET_KERNEL);
        assert!(kernel_version("6.18.44").state.contains("512"));
        assert!(kernel_version("6.9.1").state.contains("32 packets"));
        assert!(kernel_version("5.15.0").hint.is_some());
    }

    #[test]
    fn huge_pages_in_use_by_others_do_not_count() {
        let none = huge_pages("HugePages_Total:   8\nHugePages_Free:    0\nHugepagesize:  2048 kB\n");
        assert!(none.hint.is_some() && none.state.starts_with("0 of 8"));
        assert!(huge_pages("HugePages_Total:   8\nHugePages_Free:    3\nHugepagesize:  2048 kB\n").hint.is_none());
    }
}
