//! Sans-IO IP, UDP and TCP: a host's stack as a value.
//!
//! Nothing here knows a clock, a socket, a thread or an operating system. Time, random numbers and
//! buffers are arguments ([`Env`]), so the same code runs in a worker, in a simulator and under a
//! test driver, and CI proves that no operating system gets linked.
//!
//! - [`wire`]: formats, as typed views over bytes. [`checksum`]: the Internet checksum.
//! - [`Stack`]: the host. Frames go in by [`Stack::ingest`], which says what became of each
//!   ([`Verdict`]); what the stack sends leaves through [`Env::transmit`]. Every packet ends exactly
//!   once, and the [`Ledger`] proves it; every drop has one [`DropReason`].
//! - [`tcp`]: connections; its front page lists what is where.
//! - [`icmp_error`] and [`rate_limit`] also serve a router that stands in front of the stack.
//! - [`testing`]: buffers from the heap and a cable between two stacks.
//!
//! Two stacks, and one pings the other:
//!
//! ```
//! use tailwater_stack::testing::{Cable, mac};
//! use tailwater_stack::{Cidr, Config, EchoRequest, InterfaceConfig, Stack, Verdict};
//!
//! let mut hosts = [1, 2].map(|n| {
//!     let mut stack = Stack::new(Config::default(), n);
//!     let port = stack.add_interface(InterfaceConfig::exclusive(mac(n as u8), 1500));
//!     let address = Cidr::new([192, 0, 2, n as u8], 24).unwrap();
//!     stack.add_address(port, address).unwrap();
//!     stack
//! });
//! let mut cable = Cable::new();
//! let request = EchoRequest {
//!     destination: [192, 0, 2, 2].into(),
//!     interface: None,
//!     ident: 7,
//!     sequence: 1,
//!     hop_limit: None,
//! };
//! assert!(hosts[0].echo_open(7));
//! let data = cable.buffer(b"hello");
//! hosts[0].echo_request(&request, data, cable.end(0)).unwrap();
//! let arrived = cable.run(&mut hosts); // ARP there and back, the request, the reply
//! let [(0, Verdict::EchoReply(reply))] = &arrived[..] else { panic!("{arrived:?}") };
//! assert_eq!(reply.payload(), b"hello");
//! ```
//!
//! The same two, and one sends the other a line by TCP:
//!
//! ```
//! # use tailwater_stack::testing::{Cable, mac};
//! # use tailwater_stack::{Cidr, Config, InterfaceConfig, Stack};
//! use tailwater_stack::tcp::{Connect, Listen, TcpError, TcpEvent};
//! # let mut hosts = [1, 2].map(|n| {
//! #     let mut stack = Stack::new(Config::default(), n);
//! #     let port = stack.add_interface(InterfaceConfig::exclusive(mac(n as u8), 1500));
//! #     stack.add_address(port, Cidr::new([192, 0, 2, n as u8], 24).unwrap()).unwrap();
//! #     stack
//! # });
//! let mut cable = Cable::new();
//!
//! hosts[1].tcp_listen("0.0.0.0:7".parse()?, Listen::default()).unwrap();
//! let connect = Connect::to("192.0.2.2:7".parse()?);
//! let client = hosts[0].tcp_connect(connect, |_local| true, cable.end(0)).unwrap();
//! cable.run(&mut hosts); // ARP there and back, SYN, SYN-ACK, ACK
//! assert_eq!(hosts[0].tcp_poll(), Some(TcpEvent::Connected(client)));
//! let Some(TcpEvent::Accepted { connection, .. }) = hosts[1].tcp_poll() else { panic!() };
//!
//! assert_eq!(hosts[0].tcp_send(client, b"hello\n", cable.end(0)), Ok(6));
//! hosts[0].tcp_shutdown(client, cable.end(0)).unwrap();
//! cable.run(&mut hosts);
//! assert_eq!(hosts[1].tcp_poll(), Some(TcpEvent::Readable(connection)));
//! let mut line = [0; 80];
//! assert_eq!(hosts[1].tcp_read(connection, &mut line, cable.end(1)), Ok(6));
//! assert_eq!(line[..6], *b"hello\n");
//! assert_eq!(hosts[1].tcp_read(connection, &mut line, cable.end(1)), Err(TcpError::Finished));
//! # Ok::<(), core::net::AddrParseError>(())
//! ```

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod address;
mod arp;
mod buffer;
pub mod checksum;
mod drop_reason;
mod echo;
mod env;
mod event;
mod fragments;
mod icmp;
pub mod icmp_error;
mod ingest;
mod interface;
mod ipv4;
mod ipv6;
mod ledger;
mod ndp;
mod neighbour;
mod output;
mod packet;
mod path_mtu;
mod ports;
pub mod rate_limit;
mod reassembly;
mod route;
mod sockets;
mod stack;
pub mod tcp;
pub mod testing;
mod time;
pub mod udp;
mod verdict;
pub mod wire;

pub use address::{Cidr, PrefixLenError};
pub use buffer::{Buffer, HEADROOM, NoRoom};
pub use drop_reason::DropReason;
pub use echo::EchoRequest;
pub use env::Env;
pub use event::{Event, Undelivered};
pub use interface::{ADDRESSES_MAX, AddressError, GROUPS_MAX, INTERFACES_MAX, InterfaceConfig, InterfaceId};
pub use ledger::Ledger;
pub use neighbour::{NeighbourLimits, NeighbourMode, NeighbourState};
pub use output::FRAGMENTS_MAX;
pub use ports::LocalPorts;
pub use reassembly::ReassemblyLimits;
pub use route::{ROUTES_MAX, Route, RoutesFull};
pub use stack::{Config, ECHO_IDENTS_MAX, Stack};
pub use time::Instant;
pub use udp::{BindError, SocketId};
pub use verdict::{Datagram, EchoReply, Sent, Verdict};
pub use wire::ethernet::MacAddress;
