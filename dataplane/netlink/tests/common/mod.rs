//! Network namespaces, `ip` as driver and as oracle, and a reader that knows only what a mirror's
//! events told it.
//!
//! ```text
//!   test thread (setns)  --- ip -force -batch ---> kernel --- notifications ---> Mirror --- events ---> Follower
//!                                                    |                                                     |
//!                                                    +------------ ip -j -d route show ---> oracle == -----+
//! ```
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use tailwater_netlink::{Address, Event, Limits, Link, Mirror, Neighbour, NextHop, Prefix, Route, RouteKind};

/// Convergence is polled for, never slept for; this bounds a failing test only.
const CONVERGENCE_MAX: Duration = Duration::from_secs(20);

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// A named network namespace, deleted with the value.
pub struct Namespace {
    pub name: String,
}

impl Namespace {
    pub fn new() -> Self {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("twn-{}-{serial}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]));
        Self { name }
    }

    /// Runs `body` on a thread of its own inside the namespace; children it starts are inside too.
    pub fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name);
        let outcome = std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    let file = File::open(path).expect("namespace file");
                    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                        .expect("these tests need root");
                    body()
                })
                .join()
        });
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// Runs `body` in a fresh namespace with loopback up and no duplicate address detection.
pub fn in_namespace<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    let namespace = Namespace::new();
    namespace.enter(|| {
        quieten();
        body()
    })
}

/// Addresses are usable at once, and no router solicitations wander about.
pub fn quieten() {
    for (key, value) in [("accept_dad", "0"), ("router_solicitations", "0")] {
        for scope in ["all", "default"] {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/{key}"), value).expect("sysctl");
        }
    }
    ip("link set lo up");
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("command starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// `ip ARGUMENTS`, which must succeed; returns what it printed.
pub fn ip(arguments: &str) -> String {
    let output = run(Command::new("ip").args(arguments.split_whitespace()));
    String::from_utf8(output.stdout).expect("text")
}

/// Lines for `ip FAMILY -batch`; `force` goes on after those the kernel refuses.
pub fn ip_batch(lines: &str, family: &str, force: bool) {
    let mut command = Command::new("ip");
    command.args([family, "-force", "-batch", "-"].iter().filter(|word| !word.is_empty()));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("ip starts");
    let mut input = child.stdin.take().expect("piped");
    let lines = lines.to_owned();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("ip ends");
    writer.join().expect("writer").expect("ip reads its batch");
    assert!(force || output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What a prefix leads to, in a form that both sides can be brought to: without `linkdown`, which the
/// kernel does not tell of an IPv6 gateway of an IPv4 route.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Seen {
    pub metric: u32,
    pub kind: RouteKind,
    pub hops: BTreeSet<NextHop>,
    pub mtu_bytes: Option<u32>,
    pub preferred_source: Option<IpAddr>,
}

pub type Routes = BTreeMap<(u32, Prefix), Seen>;

fn seen(route: &Route) -> Seen {
    Seen {
        metric: route.metric,
        kind: route.path.kind,
        hops: route.path.next_hops.iter().map(|hop| NextHop { linkdown: false, ..*hop }).collect(),
        mtu_bytes: route.path.mtu_bytes,
        preferred_source: route.path.preferred_source,
    }
}

/// Someone who reads a mirror's events and nothing else.
pub struct Follower {
    pub mirror: Mirror,
    pub links: BTreeMap<u32, Link>,
    pub addresses: BTreeMap<(u32, IpAddr, u8), Address>,
    pub neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
    pub routes: Routes,
    pub resynchronised: u32,
    /// Everything told, for assertions on what was (not) told.
    pub told: Vec<Event>,
}

impl Follower {
    pub fn open() -> Self {
        Self::open_with(Limits::default())
    }

    pub fn open_with(limits: Limits) -> Self {
        let mut follower = Self {
            mirror: Mirror::open(limits).expect("mirror opens"),
            links: BTreeMap::new(),
            addresses: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            routes: BTreeMap::new(),
            resynchronised: 0,
            told: Vec::new(),
        };
        follower.drain();
        assert!(follower.resynchronised > 0, "the first series of events ends with Resynchronised");
        follower
    }

    /// Takes all events there are now.
    pub fn drain(&mut self) {
        while let Some(event) = self.mirror.try_next().expect("mirror lives") {
            self.take(event);
        }
    }

    fn take(&mut self, event: Event) {
        match event.clone() {
            Event::LinkChanged(link) => {
                let old = self.links.insert(link.ifindex, (*link).clone());
                assert_ne!(old.as_ref(), Some(&*link), "an event without a difference");
            }
            Event::LinkRemoved { ifindex, .. } => {
                self.links.remove(&ifindex).expect("removed link was known");
            }
            Event::AddressAdded(address) => {
                self.addresses.insert((address.ifindex, address.ip, address.prefix_len), address);
            }
            Event::AddressRemoved(address) => {
                let key = (address.ifindex, address.ip, address.prefix_len);
                self.addresses.remove(&key).expect("removed address was known");
            }
            Event::RouteChanged(route) => {
                self.routes.insert((route.table, route.prefix), seen(&route));
            }
            Event::RouteRemoved { table, prefix } => {
                self.routes.remove(&(table, prefix)).expect("removed route was known");
            }
            Event::NeighbourChanged(neighbour) => {
                self.neighbours.insert((neighbour.ifindex, neighbour.ip), neighbour);
            }
            Event::NeighbourRemoved { ifindex, ip } => {
                self.neighbours.remove(&(ifindex, ip)).expect("removed neighbour was known");
            }
            Event::Resynchronised => self.resynchronised += 1,
        }
        self.told.push(event);
    }

    /// Takes events until `done`; panics with `what` when it never is.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + CONVERGENCE_MAX;
        loop {
            self.drain();
            if done(self) {
                return;
            }
            let last = self.told.get(self.told.len().saturating_sub(4)..);
            assert!(Instant::now() < deadline, "never happened: {what}; last told {last:?}");
            if let Some(event) = self.mirror.next(Some(Duration::from_millis(50))).expect("mirror lives") {
                self.take(event);
            }
        }
    }

    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    pub fn ifindex(&self, name: &str) -> u32 {
        self.link(name).map(|link| link.ifindex).expect("link is known")
    }

    /// The routes told equal those the kernel has, as `ip` prints them, after whatever is under way.
    pub fn expect_kernel_routes(&mut self, after: &str) {
        let deadline = Instant::now() + CONVERGENCE_MAX;
        loop {
            self.drain();
            let kernel = kernel_routes();
            if self.routes == kernel {
                break;
            }
            assert!(Instant::now() < deadline, "after {after}:\n{}", difference(&self.routes, &kernel));
            std::thread::sleep(Duration::from_millis(20));
        }
        let listed: Routes = self.mirror.routes().map(|r| ((r.table, r.prefix), seen(&r))).collect();
        assert_eq!(listed, self.routes, "events and snapshot tell the same");
    }
}

fn difference(told: &Routes, kernel: &Routes) -> String {
    let mut text = String::new();
    for key in told.keys().chain(kernel.keys()).collect::<BTreeSet<_>>() {
        if told.get(key) != kernel.get(key) {
            text += &format!("{key:?}\n  told   {:?}\n  kernel {:?}\n", told.get(key), kernel.get(key));
        }
    }
    text
}

fn json(arguments: &str) -> Vec<Value> {
    let text = ip(arguments);
    if text.trim().is_empty() {
        return Vec::new();
    }
    serde_json::from_str(&text).expect("JSON")
}

/// Interface indices by name, from `ip`.
pub fn kernel_links() -> BTreeMap<String, u32> {
    let links = json("-j link show");
    links.iter().map(|l| (l["ifname"].as_str().unwrap().to_owned(), number(&l["ifindex"]).unwrap())).collect()
}

/// The best route of every prefix in tables main and local, worked out from `ip`'s listing: the first
/// for each prefix which has a living next hop or needs none.
pub fn kernel_routes() -> Routes {
    let links = kernel_links();
    let mut routes = Routes::new();
    for family in ["-4", "-6"] {
        for (table, name) in [(254, "main"), (255, "local")] {
            for line in json(&format!("-j -d {family} route show table {name}")) {
                if line.get("tos").is_some() {
                    continue;
                }
                let (prefix, seen) = kernel_route(&line, family == "-4", &links);
                let usable = seen.hops.is_empty() || seen.hops.iter().any(|hop| !hop.dead);
                if usable {
                    routes.entry((table, prefix)).or_insert(seen);
                }
            }
        }
    }
    routes
}

fn kernel_route(line: &Value, ipv4: bool, links: &BTreeMap<String, u32>) -> (Prefix, Seen) {
    let destination = line["dst"].as_str().unwrap();
    let prefix = match destination.split_once('/') {
        _ if destination == "default" && ipv4 => Prefix::new(IpAddr::from([0; 4]), 0),
        _ if destination == "default" => Prefix::new(IpAddr::from([0; 16]), 0),
        Some((address, length)) => Prefix::new(address.parse().unwrap(), length.parse().unwrap()),
        None => Prefix::new(destination.parse().unwrap(), if ipv4 { 32 } else { 128 }),
    };
    let kind = match line["type"].as_str().unwrap() {
        "unicast" => RouteKind::Unicast,
        "local" => RouteKind::Local,
        "broadcast" => RouteKind::Broadcast,
        "anycast" => RouteKind::Anycast,
        "multicast" => RouteKind::Multicast,
        "blackhole" => RouteKind::Blackhole,
        "unreachable" => RouteKind::Unreachable,
        "prohibit" => RouteKind::Prohibit,
        "throw" => RouteKind::Throw,
        other => panic!("route type {other}"),
    };
    let mut hops = BTreeSet::new();
    if matches!(
        kind,
        RouteKind::Unicast | RouteKind::Local | RouteKind::Broadcast | RouteKind::Anycast | RouteKind::Multicast
    ) {
        match line["nexthops"].as_array() {
            Some(all) => hops.extend(all.iter().map(|hop| kernel_hop(hop, links))),
            None => drop(hops.insert(kernel_hop(line, links))),
        }
    }
    let seen = Seen {
        metric: number(&line["metric"]).unwrap_or(0),
        kind,
        hops,
        mtu_bytes: line["metrics"].as_array().and_then(|all| all.iter().find_map(|m| number(&m["mtu"]))),
        preferred_source: line["prefsrc"].as_str().map(|text| text.parse().unwrap()),
    };
    (prefix.unwrap(), seen)
}

fn kernel_hop(hop: &Value, links: &BTreeMap<String, u32>) -> NextHop {
    let flags: Vec<&str> = hop["flags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let gateway = hop["gateway"].as_str().or_else(|| hop["via"]["host"].as_str());
    NextHop {
        ifindex: *links.get(hop["dev"].as_str().expect("device")).expect("device is known"),
        gateway: gateway.map(|text| text.parse().unwrap()),
        weight: number(&hop["weight"]).unwrap_or(1),
        onlink: flags.contains(&"onlink"),
        dead: flags.contains(&"dead"),
        linkdown: false,
        encapsulated: hop.get("encap").is_some(),
    }
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|n| n.try_into().ok())
}

/// Two veth pairs of which the near ends have addresses; both far ends are in the same namespace.
pub fn two_veths() {
    ip_batch(
        "link add va type veth peer name vb\n\
         link add vc type veth peer name vd\n\
         link set va up\n\
         link set vb up\n\
         link set vc up\n\
         link set vd up\n\
         address add 10.0.0.1/24 dev va\n\
         address add 10.0.1.1/24 dev vc\n\
         address add fd00:a::1/64 dev va nodad\n\
         address add fd00:c::1/64 dev vc nodad\n",
        "",
        false,
    );
}
