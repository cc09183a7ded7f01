//! The socket by which one `tailwater` process asks another: a line of JSON there, a line of JSON back.
//!
//! ```text
//! tailwater stats                                    tailwater l3fwd, pid 4711
//!    |--- {"version":1,"op":"report"} --------------> /run/tailwater/4711.sock   (mode 0600)
//!    |<-- {"version":1,"ok":{...}} ------------------|
//! ```
//!
//! `apps/CONTROL.md` describes the protocol.

mod client;
mod folder;
mod protocol;
mod server;

pub(crate) use client::{Peer, peers};
pub(crate) use protocol::{Identity, Refusal, Request};
pub(crate) use server::Server;
