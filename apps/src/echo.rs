//! `tailwater echo`: answer every datagram, and every byte of a connection, with itself.

use std::net::SocketAddr;

use clap::Args as ClapArgs;
use tailwater_dataplane::service::{self, Addresses, After, Datagram, Host, Io, Presence, Service};
use tailwater_stack::tcp::ConnectionId;

use crate::common::Common;
use crate::failure::Failure;
use crate::grouping::Grouping;
use crate::hosting::{Hosting, explain};
use crate::session::{Part, Plan};

pub(crate) const AFTER_HELP: &str = "\
Examples:
  tailwater echo --udp -i eth1 --listen 0.0.0.0:7              at all of the kernel's addresses on eth1
  tailwater echo --udp -i eth1 --listen [::]:7 --cores 2,3     two workers; flows are shared out by hash
  tailwater echo --udp -i eth1 --listen 10.1.0.9:7 --address 10.1.0.9/24
                                                               as a host of its own beside the kernel's
  tailwater echo --udp --group access --listen 0.0.0.0:7       at those on all of a kernel interface group
  tailwater echo --udp -i eth1 --listen 10.1.0.1:7 --exclusive everything on eth1 is ours, ping included
  tailwater echo --tcp -i eth1 --listen 0.0.0.0:7              connections: `nc HOST 7`; with --udp, too, both

By default only the ports listened at are taken from the kernel, which goes on as before: ssh keeps working,
addresses and routes are the kernel's and are followed live. Fragments carry no port and stay the kernel's, so
datagrams larger than the MTU need --exclusive or --address. On veth, let kernel peers compute their checksums:
`ethtool -K PEER tx off`.";

/// Options of `echo`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    /// Answer UDP datagrams
    #[arg(long, required_unless_present = "tcp")]
    udp: bool,
    /// Answer on TCP connections: RFC 862
    #[arg(long)]
    tcp: bool,
    /// Address and port to listen at; `0.0.0.0` or `[::]` for all addresses. Give it again for further ones
    #[arg(long = "listen", value_name = "ADDR:PORT", required = true, value_parser = listener)]
    listeners: Vec<SocketAddr>,
    #[command(flatten)]
    hosting: Hosting,
    #[command(flatten)]
    grouping: Grouping,
}

pub(crate) fn run(args: Args, common: Common) -> anyhow::Result<()> {
    if args.grouping.is_wanted() && args.hosting.addresses() != Addresses::Kernel {
        let hint = "with --group the addresses are those that the kernel has on its members";
        return Err(Failure::usage("--address is for one interface, --group for many", hint).into());
    }
    let config = common.runtime_config(args.hosting.mode(), tailwater_xdp::Place::User, &args.grouping)?;
    let host = Host::new(|_worker| Echo::default()).addresses(args.hosting.addresses());
    let host = args.listeners.iter().fold(host, |host, &listener| {
        let host = if args.udp { host.listen_udp(listener) } else { host };
        if args.tcp { host.listen_tcp(listener) } else { host }
    });
    let prepared = host.prepare(&config).map_err(explain)?;
    let graph = if args.grouping.is_wanted() { service::graph_of_group } else { service::graph };
    let plan = Plan::of_host("echo", &common, config, &prepared);
    plan.run(graph, |runtime| Ok(Answering { _presence: prepared.begin(runtime).map_err(explain)? }))
}

/// Keeps the host present as long as the dataplane runs.
struct Answering {
    _presence: Presence,
}

impl Part for Answering {}

/// Sends each datagram back in the frame that it came in: addresses and ports change places, the payload is not touched.
/// What comes on a connection is sent back in the frames it came in, too; while the peer does not read, nothing is taken.
#[derive(Default)]
struct Echo {
    replies: u64,
    bytes: u64,
    loops_refused: u64,
    connections: u64,
    stream_bytes: u64,
}

impl Echo {
    /// Sends back what has arrived, as far as there is room.
    fn pump(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        while io.send_room(connection) > 0 {
            match io.receive(connection) {
                Ok(Some(text)) => {
                    self.stream_bytes += text.total_len() as u64;
                    if let Err((_, Some(text))) = io.send_frame(connection, text) {
                        // There was room: the stack is out of buffers, and a stream with a hole is worth nothing.
                        io.release(text);
                        let _ = io.abort(connection);
                        return;
                    }
                }
                Ok(None) => return,
                // The peer has sent its last; so have we.
                Err(_) => {
                    let _ = io.shutdown(connection);
                    return;
                }
            }
        }
    }
}

impl Service for Echo {
    fn on_datagram(&mut self, datagram: &mut Datagram, _io: &mut Io<'_, '_>) -> After {
        if may_loop(datagram.source.port(), datagram.destination.port()) {
            self.loops_refused += 1;
            return After::Release;
        }
        self.replies += 1;
        self.bytes += datagram.payload_len() as u64;
        After::Reply
    }

    fn on_accepted(&mut self, _connection: ConnectionId, _remote: SocketAddr, _io: &mut Io<'_, '_>) {
        self.connections += 1;
    }

    fn on_readable(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        self.pump(connection, io);
    }

    fn on_writable(&mut self, connection: ConnectionId, io: &mut Io<'_, '_>) {
        self.pump(connection, io);
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        report("echo_connections", self.connections);
        report("echo_stream_bytes", self.stream_bytes);
        report("echo_replies", self.replies);
        report("echo_bytes", self.bytes);
        report("echo_loops_refused", self.loops_refused);
    }
}

/// Whether the other end may answer our answer, and so on for ever: it speaks from a port of the services which do that
/// (echo, daytime, qotd, chargen, time: RFC 862 to 868), or is an echo like this one. One forged packet would do.
fn may_loop(source_port: u16, own_port: u16) -> bool {
    matches!(source_port, 7 | 13 | 17 | 19 | 37) || source_port == own_port
}

/// Where to listen, from a command line.
pub(crate) fn listener(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(listener) if listener.port() != 0 => Ok(listener),
        _ => Err("wanted an address and a port, such as 10.1.0.1:7 or [::]:7".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_needs_address_and_port() {
        assert!(["10.1.0.1:7", "0.0.0.0:7", "[::]:7", "[fd00:1::1]:7000"].iter().all(|text| listener(text).is_ok()));
        assert!(["7", ":7", "10.1.0.1", "10.1.0.1:0", "::7", "host:7"].iter().all(|text| listener(text).is_err()));
    }

    #[test]
    fn what_answers_answers_is_not_answered() {
        assert!(may_loop(7, 7000) && may_loop(19, 7000) && may_loop(7000, 7000));
        assert!(!may_loop(40_000, 7000) && !may_loop(1024, 7));
    }
}
