//! The source on our own stack, inside a worker.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tailwater_dataplane::runtime::{InterfaceConfig, RuntimeConfig};
use tailwater_dataplane::service::{Host, Io, Service};
use tailwater_dataplane::worker::Idle;
use tailwater_stack::Config;
use tailwater_stack::tcp::congestion::control;
use tailwater_stack::tcp::{ConnectionId, ConnectionOptions};

use crate::tools;

/// Frames in all: so many that a connection's share of them is the whole send buffer of 4 MiB, as much as the kernel's end
/// has (`net.ipv4.tcp_wmem`), and the rings.
const FRAMES: usize = 32_768;
/// Bytes written in one call.
const PIECE: usize = 64 << 10;

struct Source;

impl Source {
    /// Writes as much as there is room for.
    fn pour(connection: ConnectionId, io: &mut Io<'_, '_>) {
        loop {
            let room = io.send_room(connection).clamp(1, PIECE);
            match io.send_with(connection, room, |_, bytes| bytes.fill(0)) {
                Ok(n) if n == room => {}
                // Full, or the reader is gone: either way somebody calls again, or nobody has to.
                Ok(_) | Err(_) => return,
            }
        }
    }
}

impl Service for Source {
    fn on_accepted(&mut self, connection: ConnectionId, _remote: SocketAddr, io: &mut Io<'_, '_>) {
        Self::pour(connection, io);
    }

    fn on_writable(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        Self::pour(connection, io);
    }
}

/// Serves on an interface whose address the kernel has, until killed.
pub(crate) fn serve(interface: &str, listen: SocketAddr, control_name: &str, core: usize) -> Result<()> {
    let congestion_control = control(control_name).with_context(|| format!("we have no {control_name}"))?;
    let mut stack = Config::default();
    stack.tcp.connection = ConnectionOptions { congestion_control, ..stack.tcp.connection };
    let config = RuntimeConfig {
        interfaces: vec![InterfaceConfig::named(interface)],
        cores: vec![core],
        idle: Idle::Adaptive,
        frames: Some(FRAMES),
        huge_pages: false,
        ..RuntimeConfig::default()
    };
    let host = Host::new(|_worker| Source).listen_tcp(listen).stack_config(stack);
    let (_runtime, _presence) = host.start(&config)?;
    println!("{}", tools::READY);
    loop {
        std::thread::park();
    }
}
