//! eBPF steering: an XDP program that hands each frame to the worker which owns its flow, to the kernel, or
//! straight to another port.
//!
//! ```text
//!                     one per process: Shared
//!        listeners  local_addrs  flow_exceptions  indirection  tx_ports
//!                         |  (maps, some written without system calls)
//!                         v
//!  NIC queue --> steering program, one per interface: Steering
//!                   |            |               |            |
//!                   v            v               v            v
//!            AF_XDP socket   kernel stack   another port   dropped
//!            of a worker     (XDP_PASS)     (kernel        (counted)
//!                                            placement)
//! ```
//!
//! 1. [`Shared::new`] makes the maps all ports share.
//! 2. [`Steering::attach`] loads the program for one interface and attaches it; it detaches with the process.
//! 3. [`Steering::insert_socket`] fills in the AF_XDP sockets, one per queue and worker.
//! 4. [`Shared::listeners`], [`Shared::local_addrs`], [`Shared::register_ethertype`] and [`Shared::set_indirection`] say
//!    whose traffic is whose, at any time.
//! 5. [`Steering::verdicts`] tells what became of the frames, one named reason each.
//!
//! [`flow_hash`] is the program's hash in Rust. [`Probe`] and [`Host`] say what would work, changing nothing.
//! [`tools`] has small programs for measuring.
//!
//! | mode | redirected | VLAN-tagged frames |
//! |---|---|---|
//! | [`Mode::Shared`] | registered listeners, addresses, flows, encapsulations | matched like untagged ones, tags in place; to the kernel if `steer_vlan` is off |
//! | [`Mode::Exclusive`] | everything | everything, tags in place |
//! | [`Mode::Router`] | transit and registered encapsulations to our MAC | like untagged ones, and always to the workers, kernel placement or not: the FIB knows them under another interface; to the kernel if `steer_vlan` is off |
//!
//! Everything acts in the network namespace of the calling thread. All types can move between threads.

mod attach;
mod error;
mod ethertypes;
mod hash;
mod interface;
mod interrupt;
mod layout;
mod limits;
mod log;
mod mapping;
mod probe;
mod program;
mod ring_state;
mod shared;
mod steering;
mod sys;
mod tally;
pub mod tools;
mod verdict;

pub use attach::{AttachMode, Attachment, Occupant};
pub use error::{Error, Result};
pub use ethertypes::RegisteredEthertype;
pub use hash::{FlowKey, HashKey, INDIRECTION_LEN, Indirection, flow_hash, worker_of};
pub use limits::{Limits, PORTS_MAX, QUEUES_MAX, SOCKETS_MAX, WORKERS_MAX};
pub use probe::{Host, Probe, Support};
pub use ring_state::RingState;
pub use shared::{Bypass, FlowExceptions, Listeners, LocalAddrs, Shared, Transport, TxPorts};
pub use steering::{Action, Mode, Place, PortConfig, Steering, Trial};
pub use verdict::{Kind, Tally, Verdict};
