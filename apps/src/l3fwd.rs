//! `tailwater l3fwd`: forward between interfaces by the kernel's routes and neighbours.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args as ClapArgs, ValueEnum};
use indicatif::ProgressBar;
use tailwater_dataplane::block::{Registry, Services, Value};
use tailwater_dataplane::forwarding::{Follower, Following, ForwardingPlane};
use tailwater_dataplane::graph::{EGRESS, GraphSpec, INGRESS};
use tailwater_dataplane::runtime::{PortListener, RuntimeConfig};
use tailwater_netlink::{Control, Link};
use tailwater_xdp::{AttachMode, Host, Limits, Mode, Place, Probe, Shared, Support};

use crate::common::Common;
use crate::failure::Failure;
use crate::grouping::Grouping;
use crate::output;
use crate::session::{Part, Plan, check_privileges};

pub(crate) const AFTER_HELP: &str = "\
Examples:
  tailwater l3fwd -i eth1 -i eth2                          the best placement, chosen and explained
  tailwater l3fwd -i eth1 -i eth2 --place user --cores 2,3 two workers
  tailwater l3fwd -i eth1 -i eth2 --place xdp              forward in the kernel, exceptions come up
  tailwater l3fwd --group uplinks --max-interfaces 64      all of a kernel interface group, as they come and go
  tailwater l3fwd -i d0 -i d1 --duration 10 -j | jq .      for scripts
  ip route add 10.9.0.0/16 via 10.2.0.2                    is followed at once; so are FRR, BIRD, DHCP

What is for the host itself goes to the kernel as before: ssh over a forwarded interface works.
A line that starts with `ready` tells that packets are forwarded. On veth, let kernel peers compute their
checksums: `ethtool -K PEER tx off`.";

/// Routes in the kernel from which on reading them is worth a progress line.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);

/// Where packets are forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Where {
    /// The better of both, by what the interfaces can do
    #[default]
    Auto,
    /// By workers in user space
    User,
    /// By the XDP program, with the kernel's routing table; exceptions go to the workers
    Xdp,
}

/// Options of `l3fwd`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    /// Where packets are forwarded
    #[arg(long, value_enum, default_value_t)]
    place: Where,
    /// ICMP errors that each worker sends per second at most
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(i64).range(0..=1_000_000))]
    icmp_rate: i64,
    #[command(flatten)]
    grouping: Grouping,
}

pub(crate) fn run(args: Args, common: Common) -> anyhow::Result<()> {
    let mut config = common.runtime_config(Mode::Router, Place::User, &args.grouping)?;
    let links = links(&config)?;
    check_privileges()?;
    let (place, note) = choose(args.place, &common, &links)?;
    config.place = place;
    let shared = Shared::new(Limits::default())?;
    let (follower, plane) = follow(&links, config.places(), &shared)?;
    config.listeners.0.push(Arc::clone(&plane) as Arc<dyn PortListener>);
    let mut services = Services::default();
    services.insert(plane);
    config.shared = Some(shared);
    let follows = args.grouping.is_wanted();
    let plan =
        Plan { command: "l3fwd", common: &common, config, registry: Registry::builtin(), services, notes: vec![note] };
    plan.run(|ports| graph(ports, follows, args.icmp_rate), |_| Ok(Router { _following: follower.spawn()? }))
}

/// Keeps the tables up to date as long as the dataplane runs.
struct Router {
    _following: Following,
}

impl Part for Router {}

/// Every interface into the router, and out of whichever it chooses.
fn graph(ports: &[String], follows: bool, icmp_rate_pps: i64) -> GraphSpec {
    let rate = Value::Integer(icmp_rate_pps);
    let graph = GraphSpec::default().node("route", "ip-forward", &[("icmp_rate_pps", rate)]);
    let graph = match follows {
        // With those that join later.
        true => graph.edge(INGRESS, "route"),
        false => ports.iter().fold(graph, |graph, port| graph.edge(&format!("rx:{port}"), "route")),
    };
    graph.edge("route.out", EGRESS)
}

fn links(config: &RuntimeConfig) -> anyhow::Result<Vec<Link>> {
    let names: Vec<String> = config.interfaces.iter().map(|interface| interface.name.clone()).collect();
    let links = Control::open()?.links_by_name(&names)?;
    match links.iter().find(|link| link.mac.len() != 6) {
        Some(link) => {
            let hint = "only Ethernet-like interfaces carry the frames that are forwarded";
            Err(Failure::new(format!("{} has no Ethernet address", link.name), hint).into())
        }
        None => Ok(links),
    }
}

/// Reads the kernel's tables. With a full Internet table that takes seconds, so it shows that it is alive.
fn follow(links: &[Link], places: usize, shared: &Shared) -> anyhow::Result<(Follower, Arc<ForwardingPlane>)> {
    let mut ifindexes: Vec<u32> = links.iter().map(|link| link.ifindex).collect();
    ifindexes.resize(places, 0);
    let started = Instant::now();
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let mut routes = 0;
    let limits = tailwater_fib::Limits::default();
    let following = Follower::start(&ifindexes, Some(shared.clone()), shared.hash_key(), limits, |so_far| {
        routes = so_far;
        if started.elapsed() > PROGRESS_AFTER {
            bar.set_message(format!("{so_far} prefixes read"));
            bar.tick();
        }
    })?;
    bar.finish_and_clear();
    output::note(format_args!(
        "routes: {routes} prefixes mirrored from the kernel in {:.1} s, followed live",
        started.elapsed().as_secs_f64()
    ));
    Ok(following)
}

/// Where to forward, and why, in words.
fn choose(wanted: Where, common: &Common, links: &[Link]) -> anyhow::Result<(Place, String)> {
    match wanted {
        Where::User => Ok((Place::User, "place: user space, as asked for".into())),
        Where::Xdp => Ok((Place::Kernel, "place: the XDP program, as asked for".into())),
        Where::Auto => {
            let probes = links.iter().map(|link| Probe::interface(link.ifindex)).collect::<Result<Vec<_>, _>>()?;
            Ok(match obstacle(common.attach_mode(), &probes, &Host::ask()) {
                None => (
                    Place::Kernel,
                    "place: the XDP program, because all interfaces have native XDP and can send what it redirects"
                        .into(),
                ),
                Some(why) => (Place::User, format!("place: user space, because {why}")),
            })
        }
    }
}

/// What keeps the XDP program from forwarding fast, or at all.
fn obstacle(mode: AttachMode, interfaces: &[Probe], host: &Host) -> Option<String> {
    if mode == AttachMode::Generic {
        return Some("generic mode was asked for, where the program runs late".into());
    }
    for Probe { name, driver, native, redirect, redirect_target, .. } in interfaces {
        // A driver of which nothing is told has none, or the kernel is older than 6.3: either way no promise.
        if *native != Support::Yes || *redirect != Support::Yes {
            return Some(format!("{name} (driver {driver}) is not known to have native XDP"));
        }
        if *redirect_target != Support::Yes {
            let veth = if driver == "veth" { "; on a veth `ethtool -K PEER gro on` changes that" } else { "" };
            return Some(format!("{name} (driver {driver}) cannot send what XDP redirects{veth}"));
        }
    }
    match (host.forwarding_ip4, host.forwarding_ip6) {
        (false, false) => {
            Some("the kernel's forwarding is off (net.ipv4.ip_forward, net.ipv6.conf.all.forwarding)".into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(redirect_target: Support) -> Probe {
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
            redirect_target,
            zero_copy_frags_max: 0,
        }
    }

    fn host(on: bool) -> Host {
        Host {
            kernel_btf: true,
            missing_capabilities: Vec::new(),
            memlock_max: None,
            forwarding_ip4: on,
            forwarding_ip6: false,
        }
    }

    #[test]
    fn kernel_placement_is_chosen_where_nothing_stands_in_its_way() {
        assert_eq!(obstacle(AttachMode::Auto, &[probe(Support::Yes)], &host(true)), None);
    }

    #[test]
    fn each_obstacle_to_kernel_placement_is_named() {
        let why = |mode, target, on| obstacle(mode, &[probe(target)], &host(on)).unwrap_or_default();
        assert!(why(AttachMode::Generic, Support::Yes, true).contains("generic"));
        assert!(why(AttachMode::Auto, Support::No, true).contains("gro on"));
        assert!(why(AttachMode::Auto, Support::Yes, false).contains("ip_forward"));
    }

    #[test]
    fn an_interface_that_promises_nothing_is_no_ground_for_kernel_placement() {
        let silent = Probe { native: Support::Unknown, redirect: Support::Unknown, ..probe(Support::Unknown) };
        assert!(obstacle(AttachMode::Auto, &[silent], &host(true)).is_some_and(|why| why.contains("native XDP")));
    }

    #[test]
    fn every_interface_leads_to_the_router() {
        let edges = |follows| {
            let graph = graph(&["a".into(), "b".into()], follows, 10);
            graph.edges.into_iter().map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(edges(false), ["rx:a -> route", "rx:b -> route", "route.out -> tx:*"]);
        assert_eq!(edges(true), ["rx:* -> route", "route.out -> tx:*"]);
    }
}
