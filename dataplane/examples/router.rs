//! The smallest router: interfaces by name, the kernel's routes, one worker.
//!
//! `cargo run --release -p tailwater-dataplane --example router -- [spin|adaptive|sleep] [user|kernel] CORE IF...`

use std::sync::Arc;
use std::sync::mpsc;

use tailwater_dataplane::block::{Registry, Services};
use tailwater_dataplane::forwarding::{Follower, router_graph};
use tailwater_dataplane::runtime::{InterfaceConfig, Runtime, RuntimeConfig};
use tailwater_dataplane::worker::Idle;
use tailwater_netlink::Control;
use tailwater_xdp::{Limits, Mode, Place, Shared};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [idle, place, core, names @ ..] = arguments.as_slice() else {
        return Err("usage: router spin|adaptive|sleep user|kernel CORE IF...".into());
    };
    let mut netlink = Control::open()?;
    let mut ifindexes = Vec::new();
    for name in names {
        ifindexes.push(netlink.link_by_name(name)?.ifindex);
    }
    let shared = Shared::new(Limits::default())?;
    let limits = tailwater_fib::Limits::default();
    let (follower, plane) = Follower::start(&ifindexes, Some(shared.clone()), shared.hash_key(), limits, |_| {})?;
    let mut following = follower.spawn()?;
    let mut services = Services::default();
    services.insert(Arc::clone(&plane));
    let config = RuntimeConfig {
        interfaces: names.iter().map(|name| InterfaceConfig::named(name)).collect(),
        idle: match idle.as_str() {
            "spin" => Idle::Spin,
            "sleep" => Idle::Sleep,
            _ => Idle::Adaptive,
        },
        place: if place == "kernel" { Place::Kernel } else { Place::User },
        cores: vec![core.parse()?],
        mode: Mode::Router,
        shared: Some(shared),
        ..RuntimeConfig::default()
    };
    let runtime = Runtime::start(&config, &Registry::builtin(), &services, router_graph)?;
    runtime.describe().iter().for_each(|line| println!("{line}"));
    println!("ready");
    let (sender, receiver) = mpsc::channel();
    ctrlc::set_handler(move || sender.send(()).unwrap_or_default())?;
    receiver.recv()?;
    println!("{:#?}", runtime.stop()?);
    following.stop();
    Ok(())
}
