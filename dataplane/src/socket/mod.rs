//! Sockets for threads outside the workers: blocking or not, as in [`std::net`], on top of the stacks inside the workers.
//!
//! ```text
//!   any thread                     lane, one per worker                  worker
//!   TcpStream::write --copy--> blanks ... outbox  -------------------->  Io::send_frames --> Stack --> port
//!   TcpStream::read  <--copy-- inbox ... returned <------------------->  Io::receive     <-- Stack <-- port
//!   accept, connect, bind      errands, bell      -------------------->  SocketService
//! ```
//!
//! Bytes are copied once in each direction, by the thread: out of the frames that they arrived in, and into those that
//! they leave from. Between threads and worker there are only bounded lock-free queues ([`SocketConfig`] says how long, and
//! how much memory they hold together); a worker never waits for a thread, is woken by a system call only if it sleeps,
//! and wakes a thread only if that waits. Threads that share a socket take turns by locks of the socket's own, which the
//! worker does not touch before its end. A connection stays in the worker where its packets come in; listeners are in
//! all of them.
//!
//! An echo server with a thread for each connection:
//!
//! ```no_run
//! use tailwater_dataplane::runtime::{InterfaceConfig, RuntimeConfig};
//! use tailwater_dataplane::service::Host;
//! use tailwater_dataplane::socket::{SocketConfig, Sockets};
//!
//! let (sockets, service) = Sockets::new(SocketConfig::default());
//! let config = RuntimeConfig { interfaces: vec![InterfaceConfig::named("eth1")], ..RuntimeConfig::default() };
//! let (runtime, _presence) = Host::new(service).local_ports(64).start(&config)?;
//!
//! let listener = sockets.listen_tcp("0.0.0.0:7")?;
//! std::thread::spawn(move || {
//!     for stream in listener.incoming() {
//!         std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
//!     }
//! });
//! let upstream = sockets.connect("10.1.0.2:80")?; // one of the local ports
//! println!("{:?}", upstream.snapshot()?.srtt);
//! runtime.stop()?; // every call on a socket returns
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod config;
mod connection;
mod error;
mod event;
mod gate;
mod lane;
mod listener;
mod opening;
mod pump;
mod reader;
mod service;
mod share;
mod shared;
mod sockets;
mod stage;
mod stream;
mod table;
mod udp;
mod writer;

#[cfg(test)]
mod tests;

pub use config::SocketConfig;
pub use event::Readiness;
pub use listener::TcpListener;
pub use service::SocketService;
pub use sockets::Sockets;
pub use stream::TcpStream;
pub use udp::UdpSocket;
