//! What one interface can do.

use std::fs;

use serde::Serialize;
use tailwater_netlink::{Control, Link};
use tailwater_xdp::{Probe, Support};

use super::{Finding, offload};

/// Largest MTU that one buffer of 4096 bytes takes: less our 64 bytes, XDP's 256 and a header with two VLAN tags.
const SINGLE_BUFFER_MTU_MAX: u32 = 4096 - 320 - 22;

/// What was found out about an interface.
#[derive(Debug, Serialize)]
pub(crate) struct InterfaceReport {
    pub(crate) name: String,
    pub(crate) ifindex: u32,
    pub(crate) driver: String,
    /// The best way to use it, in words.
    pub(crate) verdict: String,
    pub(crate) findings: Vec<Finding>,
}

/// Looks. `all` are the links of the namespace.
pub(crate) fn look(netlink: &Control, link: &Link, all: &[Link]) -> anyhow::Result<InterfaceReport> {
    let probe = Probe::interface(link.ifindex)?;
    let driver = netlink.driver(link).unwrap_or_else(|| probe.driver.clone());
    let name = &link.name;
    let mut findings = vec![
        Finding::fine("driver", &driver),
        state(link),
        Finding::fine("queues", format!("{} to receive, {} to send", probe.rx_queues, probe.tx_queues)),
        mtu(link, &probe),
        occupant(&probe),
        native(&probe),
        support("zero-copy", probe.zero_copy, "packets go around the kernel's memory", "the kernel copies each packet"),
        redirect_target(&probe, link),
        busy_poll(&driver),
        napi(link, &driver),
    ];
    findings.extend(offload::checksums(link, all));
    Ok(InterfaceReport { name: name.clone(), ifindex: link.ifindex, driver, verdict: verdict(&probe), findings })
}

fn state(link: &Link) -> Finding {
    match (link.up, link.carrier) {
        (false, _) => Finding::obstacle("state", "down", format!("bring it up: `ip link set dev {} up`", link.name)),
        (true, false) => Finding::obstacle("state", "up, no carrier", "the other end is down or not plugged in"),
        (true, true) => Finding::fine("state", "up"),
    }
}

fn mtu(link: &Link, probe: &Probe) -> Finding {
    let mtu = link.mtu_bytes;
    if mtu <= SINGLE_BUFFER_MTU_MAX {
        return Finding::fine("MTU", format!("{mtu}, fits one buffer"));
    }
    match probe.rx_frags {
        Support::No => Finding::obstacle(
            "MTU",
            format!("{mtu} needs several buffers a packet, which the driver does not do"),
            format!("lower it: `ip link set dev {} mtu {SINGLE_BUFFER_MTU_MAX}`, or take generic mode", link.name),
        ),
        Support::Yes | Support::Unknown => Finding::fine("MTU", format!("{mtu}, needs several buffers a packet")),
    }
}

fn occupant(probe: &Probe) -> Finding {
    let Some(occupant) = &probe.occupant else { return Finding::fine("XDP program", "none") };
    let named = if occupant.name.is_empty() { "without a name" } else { &occupant.name };
    let state = format!("{named}, id {}, {}", occupant.id, occupant.mode);
    let hint = format!("an interface takes one program; `bpftool prog show id {}` tells whose it is", occupant.id);
    Finding::obstacle("XDP program", state, hint)
}

fn native(probe: &Probe) -> Finding {
    match (probe.native, probe.redirect) {
        (Support::Yes, Support::Yes) => Finding::fine("native XDP", "yes, with redirect to AF_XDP sockets"),
        (Support::Yes, _) => Finding::obstacle("native XDP", "yes, but no redirect", "use --mode generic"),
        (Support::No, _) => Finding::obstacle("native XDP", "no", "generic mode works, slower; it is taken by itself"),
        (Support::Unknown, _) => {
            Finding::fine("native XDP", "the driver tells of none; tried when opened, generic mode otherwise")
        }
    }
}

fn support(topic: &'static str, support: Support, yes: &str, no: &str) -> Finding {
    match support {
        Support::Yes => Finding::fine(topic, format!("yes: {yes}")),
        Support::No => Finding::fine(topic, format!("no: {no}")),
        Support::Unknown => Finding::fine(topic, "the kernel does not tell"),
    }
}

fn redirect_target(probe: &Probe, link: &Link) -> Finding {
    match probe.redirect_target {
        Support::No if probe.driver == "veth" => Finding::obstacle(
            "kernel placement",
            "cannot be the way out of `l3fwd --place xdp`",
            format!("the peer of {} needs an XDP program, or `ethtool -K PEER gro on`", link.name),
        ),
        Support::No => Finding::fine("kernel placement", "cannot be the way out of `l3fwd --place xdp`"),
        Support::Yes => Finding::fine("kernel placement", "can be the way out of `l3fwd --place xdp`"),
        Support::Unknown => Finding::fine("kernel placement", "the kernel does not tell"),
    }
}

/// Whether sockets get a NAPI id shows only when one is bound, and that would not be looking only.
fn busy_poll(driver: &str) -> Finding {
    match driver {
        "veth" => Finding::fine("busy polling", "no: a veth gives AF_XDP sockets no NAPI id"),
        _ => Finding::fine("busy polling", "known once a socket is bound: each command says so at its start"),
    }
}

fn napi(link: &Link, driver: &str) -> Finding {
    let threaded = fs::read_to_string(format!("/sys/class/net/{}/threaded", link.name)).unwrap_or_default();
    let payer = match driver {
        "veth" => "the sender's core pays for receiving (softirq)",
        _ => "the core that takes the interrupt pays for receiving (softirq)",
    };
    match threaded.trim() {
        "" => Finding::fine("threaded NAPI", format!("not known; {payer}")),
        "0" => Finding::fine("threaded NAPI", format!("off: {payer}; --napi-thread moves it to the workers' cores")),
        _ => Finding::fine("threaded NAPI", format!("on: threads named napi/{}-* pay for receiving", link.name)),
    }
}

fn verdict(probe: &Probe) -> String {
    let able = probe.native == Support::Yes && probe.redirect == Support::Yes;
    let way = match (able, probe.zero_copy) {
        (true, Support::Yes) => "AF_XDP, native, zero-copy",
        (true, _) => "AF_XDP, native, copy",
        (false, _) if probe.native == Support::Unknown => "AF_XDP, generic unless the driver does more than it tells",
        (false, _) => "AF_XDP, generic",
    };
    match (&probe.occupant, probe.up) {
        (Some(_), _) => format!("{way}, once the XDP program there is gone"),
        (None, false) => format!("{way}, once it is up"),
        (None, true) => way.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe() -> Probe {
        Probe {
            ifindex: 2,
            name: "d0".into(),
            driver: "veth".into(),
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            up: true,
            rx_queues: 1,
            tx_queues: 1,
            tx_checksum: false,
            tso: false,
            occupant: None,
            native: Support::Yes,
            redirect: Support::Yes,
            zero_copy: Support::No,
            rx_frags: Support::Yes,
            redirect_target: Support::No,
            zero_copy_frags_max: 0,
        }
    }

    #[test]
    fn verdict_says_the_best_way_and_what_it_waits_for() {
        assert_eq!(verdict(&probe()), "AF_XDP, native, copy");
        assert_eq!(verdict(&Probe { up: false, ..probe() }), "AF_XDP, native, copy, once it is up");
        assert_eq!(verdict(&Probe { native: Support::No, ..probe() }), "AF_XDP, generic");
    }

    #[test]
    fn missing_native_xdp_comes_with_a_way_out() {
        assert!(native(&Probe { native: Support::No, ..probe() }).hint.is_some());
        assert!(native(&probe()).hint.is_none());
    }
}
