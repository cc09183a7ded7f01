//! Many stacks in one process, on a virtual clock: a network for tests and experiments.
//!
//! Hosts are [`Stack`](tailwater_stack::Stack)s, the same that run in a worker. Switches and routers join them over
//! links with rate, delay, jitter, loss, reordering, duplication, corruption and bounded queues. Time jumps from event to
//! event. Everything random comes from one seed, and [`Simulation::digest`] covers each frame delivered with its time
//! and place: the same seed gives the same digest, bit for bit.
//!
//! - [`Simulation`]: nodes, links, the event loop. [`LinkConfig`]: what a link does to packets.
//! - [`workload`]: applications on the hosts; a new one is a file that implements [`Workload`].
//! - [`scenario`]: the same from a TOML file, for `tailwater sim`.
//! - [`Recorder`] and [`report`]: figures of each flow, over time and in all. [`Capture`]: frames as pcapng.
//! - [`seeds`]: a property over many seeds, which on failure names the seed and writes a capture.
//!
//! Two hosts behind a slow link, and one pings the other:
//!
//! ```
//! use std::time::Duration;
//! use tailwater_sim::workload::{Ping, Pings};
//! use tailwater_sim::{LinkConfig, Simulation};
//!
//! let mut simulation = Simulation::new(1);
//! let (a, b) = (simulation.add_host("a"), simulation.add_host("b"));
//! let link = LinkConfig { rate_bps: 10_000_000, delay: Duration::from_millis(20), ..LinkConfig::default() };
//! simulation.connect((a, "10.0.0.1/24"), (b, "10.0.0.2/24"), link)?;
//! simulation.add_workload(a, Ping::new("ping", Pings { count: 3, ..Pings::to([10, 0, 0, 2]) }));
//! simulation.run_for(Duration::from_secs(5))?;
//! let ping = &simulation.flows()["ping"];
//! assert_eq!((ping.sent_packets, ping.received_packets), (3, 3));
//! assert!(ping.rtt.min() >= Duration::from_millis(40));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod addressing;
mod buffer;
mod capture;
mod digest;
mod ecn;
mod flow;
mod host;
mod link;
mod network;
mod path;
mod quantity;
mod recorder;
mod red;
pub mod report;
mod router;
mod routing;
pub mod scenario;
mod schedule;
pub mod seeds;
mod simulation;
mod slots;
mod switch;
pub mod workload;

pub use addressing::{ConnectError, End, IntoEnd};
pub use buffer::SimBuffer;
pub use capture::Capture;
pub use flow::{Delays, Flow};
pub use host::{HostContext, HostEnv};
pub use link::{IN_TRANSIT_MAX, LinkConfig, LinkCounters, LinkId, Queue};
pub use network::{FRAMES_MAX, Stalled};
pub use recorder::{POINTS_MAX, Point, Recorder};
pub use red::Red;
pub use simulation::{Counters, NodeId, Simulation};
pub use tailwater_impair::LossModel;
pub use workload::Workload;
