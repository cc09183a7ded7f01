//! The socket by which one `tailwater` process asks another: a line of JSON there, a line of JSON back.
//!
//! ```text
//! tailwater ctl                                      tailwater l3fwd, pid 4711
//!    |--- {"version":1,"op":"report"} --------------> /run/tailwater/4711.sock   (mode 0600)
//!    |<-- {"version":1,"ok":{...}} ------------------|
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `protocol`, `kinds`, `connections` | the messages |
//! | `folder` | where sockets lie |
//! | `server`, `lines`, `stream` | the answering side: connections, lines in, events out |
//! | `client`, `choice` | the asking side, and which process is meant |
//!
//! `apps/CONTROL.md` describes the protocol.

mod choice;
mod client;
mod connections;
mod folder;
mod kinds;
mod lines;
mod protocol;
mod server;
mod stream;

pub(crate) use choice::{Choice, table};
pub(crate) use client::{Peer, peers};
pub(crate) use connections::{Connection, Connections, ConnectionsQuery, Listener, state};
pub(crate) use kinds::{KindInfo, ParameterInfo};
pub(crate) use protocol::{Changed, Dump, Identity, Link, Links, Refusal, Request, Subscribed};
pub(crate) use server::{Caller, Server};
