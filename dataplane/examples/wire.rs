//! A bump in the wire: every frame that comes in by one interface leaves by the other, and back.
//!
//! `cargo run --release -p tailwater-dataplane --example wire -- IF1 IF2 [spin|adaptive|sleep] [CORE]`

use std::sync::mpsc;

use tailwater_dataplane::block::{Registry, Services};
use tailwater_dataplane::graph::GraphSpec;
use tailwater_dataplane::runtime::{InterfaceConfig, Runtime, RuntimeConfig};
use tailwater_dataplane::worker::Idle;
use tailwater_xdp::Mode;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [first, second, rest @ ..] = arguments.as_slice() else {
        return Err("usage: wire IF1 IF2 [spin|adaptive|sleep] [CORE]".into());
    };
    let config = RuntimeConfig {
        interfaces: vec![InterfaceConfig::named(first), InterfaceConfig::named(second)],
        idle: match rest.first().map(String::as_str) {
            Some("spin") => Idle::Spin,
            Some("sleep") => Idle::Sleep,
            _ => Idle::Adaptive,
        },
        cores: vec![rest.get(1).map_or(Ok(0), |core| core.parse())?],
        mode: Mode::Exclusive,
        ..RuntimeConfig::default()
    };
    let runtime = Runtime::start(&config, &Registry::builtin(), &Services::default(), |ports| {
        GraphSpec::default()
            .edge(&format!("rx:{}", ports[0]), &format!("tx:{}", ports[1]))
            .edge(&format!("rx:{}", ports[1]), &format!("tx:{}", ports[0]))
    })?;
    runtime.describe().iter().for_each(|line| println!("{line}"));
    println!("ready");
    let (sender, receiver) = mpsc::channel();
    ctrlc::set_handler(move || sender.send(()).unwrap_or_default())?;
    receiver.recv()?;
    println!("{:#?}", runtime.stop()?);
    Ok(())
}
