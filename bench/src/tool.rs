//! The small programs that the scenarios run inside their networks.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice::name_to_index, socket_with};
use tailwater_xdp::AttachMode;
use tailwater_xdp::tools::{Flood, Generator, Tool as XdpTool, attach};

use crate::cli::Tool;
use crate::lookup;
use crate::round_trip;
use crate::tcp_load::{self, Load};
use crate::tcp_stream;
use crate::tools::{DESTINATION_FIRST, DESTINATIONS, READY};
use tailwater_bench::memory_forward::{Bench, ROUTES};
use tailwater_bench::tcp_in_process::{self, Exchange};

const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

pub(crate) fn run(tool: &Tool) -> Result<()> {
    match tool {
        Tool::Generate { interface, to, size, delay, secs } => {
            let flood = Flood {
                dests: DESTINATIONS,
                frame_len: *size,
                clock_reads: *delay,
                ..Flood::new(index(interface)?, mac(to)?, SOURCE, DESTINATION_FIRST)
            };
            let generator = Generator::new(flood)?;
            println!("{READY}");
            let sent = generator.run(Duration::from_secs_f64(*secs))?;
            println!("offered {:.0} accepted {:.0} frames a second", sent.offered_pps(), sent.accepted_pps());
            Ok(())
        }
        Tool::Drop { interface } => hold(XdpTool::Sink, interface),
        Tool::Redirect { interface, out } => hold(XdpTool::Redirect { to: index(out)? }, interface),
        Tool::Fib { interface } => hold(XdpTool::FibRedirect, interface),
        Tool::LookUp { family } => {
            println!("{}", serde_json::to_string(&lookup::ours(*family)?)?);
            Ok(())
        }
        Tool::Forward { fused, batch, secs } => {
            let mut bench = Bench::new(*fused, ROUTES, *batch)?;
            println!("{}", serde_json::to_string(&bench.run(*secs)?)?);
            Ok(())
        }
        Tool::TcpInProcess { stack, load, mtu, connections, secs } => {
            let mut pair = stack.pair(Exchange { load: *load, mtu: *mtu, connections: *connections })?;
            let found = tcp_in_process::run_for(pair.as_mut(), *load, Duration::from_secs_f64(*secs))?;
            println!("{}", serde_json::to_string(&found)?);
            Ok(())
        }
        Tool::Echo { listen, poll } => round_trip::echo(*listen, *poll),
        Tool::TcpEcho { listen, poll } => tcp_load::echo(*listen, *poll),
        Tool::TcpLoad { server, kind, connections, size, poll, secs } => {
            let (server, kind, connections, size) = (*server, *kind, *connections, *size);
            let found = tcp_load::run(Load { server, kind, connections, size, poll: *poll, secs: *secs })?;
            println!("{}", serde_json::to_string(&found)?);
            Ok(())
        }
        Tool::TcpSource { listen, control, paced, ours: None, .. } => {
            tcp_stream::serve_kernel(*listen, control, *paced)
        }
        Tool::TcpSource { listen, control, ours: Some(interface), core, .. } => {
            tcp_stream::serve_ours(interface, *listen, control, *core)
        }
        Tool::TcpSink { sources, skip, secs } => {
            println!("{}", serde_json::to_string(&tcp_stream::drain(sources, *skip, *secs)?)?);
            Ok(())
        }
        Tool::PingPong { server, poll, secs } => {
            let found = round_trip::ping_pong(*server, *poll, *secs)?;
            println!("{}", serde_json::to_string(&found)?);
            Ok(())
        }
    }
}

/// Attaches a program and holds it until this process is killed, with which it detaches.
fn hold(tool: XdpTool, interface: &str) -> Result<()> {
    let attached = attach(tool, index(interface)?, AttachMode::Native)?;
    println!("{READY} {interface}: {}", attached.attachment());
    loop {
        std::thread::park();
    }
}

/// The interface's index in the namespace this process is in.
fn index(interface: &str) -> Result<u32> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    name_to_index(&socket, interface).with_context(|| format!("there is no interface {interface}"))
}

fn mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Result<Vec<u8>, _> = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    let bytes = bytes.ok().and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
    bytes.with_context(|| format!("{text} is no MAC address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_are_six_bytes_and_nothing_else() {
        assert_eq!(mac("02:00:00:00:01:fe").ok(), Some([2, 0, 0, 0, 1, 0xfe]));
        for wrong in ["", "02:00:00:00:01", "02:00:00:00:01:02:03", "02:00:00:00:01:1ff", "02-00-00-00-01-02"] {
            assert!(mac(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn loopback_has_an_index_and_an_unknown_interface_is_named() {
        assert_eq!(index("lo").ok(), Some(1));
        assert!(index("no-such-if").unwrap_err().to_string().contains("no-such-if"));
    }
}
