//! Tailwater's dataplane: packets as move-only frames, ports that they come and go by, workers that poll the ports, and
//! the graph of blocks in between.
//!
//! | module | what it is |
//! |---|---|
//! | [`frame`] | packet memory, the frame token, pools |
//! | [`ring`] | descriptor rings, without system calls |
//! | [`port`] | AF_XDP, AF_PACKET, memory, pcap |
//! | [`block`] | the trait that every functional block implements |
//! | [`blocks`](crate::block::Registry::builtin) | the built-in ones, one file each |
//! | [`graph`] | blocks joined by edges; a graph as data |
//! | [`live`] | a running graph changed: transactions, versions, events |
//! | [`timer_wheel`] | what is due when, in constant time |
//! | [`forwarding`] | the kernel's routes and neighbours as lock-free tables |
//! | [`service`] | applications inside the workers, and the host that they run on |
//! | [`socket`] | sockets for threads outside the workers |
//! | [`surroundings`] | what blocks may know of the process around them |
//! | [`worker`] | the run-to-completion loop of one core |
//! | [`runtime`] | interfaces opened, workers started, all of it stopped |
//! | [`trace`] | single packets followed block by block |
//! | [`ledger`] | where every discarded packet went |

pub mod block;
mod blocks;
pub mod clock;
pub mod forwarding;
pub mod frame;
pub mod graph;
pub mod ledger;
pub mod live;
pub mod port;
pub mod ring;
pub mod runtime;
pub mod service;
pub mod socket;
pub mod surroundings;
mod sync;
pub mod timer_wheel;
pub mod trace;
pub mod worker;
