//! Several TCP segments in one system call and one socket buffer, which the kernel cuts below IP (GSO).
//!
//! ```text
//!  frames of one connection, as the stack made them           what an AF_PACKET socket is given
//!  | H | text | H | text | H | text | H | text |   couple     | words | H | text text text text |
//! ```
//!
//! Where the kernel copies, an AF_XDP socket costs a socket buffer, a trip through the device's transmit function and a
//! softirq for each frame. The kernel's own TCP hands down up to 64 KiB and has it cut behind the routing, and a packet
//! socket may do the same: `PACKET_VNET_HDR` takes a `struct virtio_net_hdr` that says how to cut. A device with TSO cuts
//! it itself, or not at all (veth). Where no device is told of it, a train may also be longer than IP can tell (`way`).
//!
//! The kernel sums up what it cuts, or leaves that to the device. A veth with checksum off-load does neither, and its other end
//! may be an AF_XDP socket: there each segment goes alone (`tailwater_xdp::Probe::leaves_sums_undone`).
//!
//! Only frames that the stack keeps for retransmission are coupled (they are lent to the port): of these, headers and text
//! are known to be what the stack made, so that a checksum written anew by the kernel hides no damage. Everything else,
//! forwarded packets above all, takes the ring.
//!
//! The ring sends by one transmit queue, while the kernel chooses one for what the socket sends. Where an interface has
//! several, all text leaves by the socket, so that the segments of a connection stay in order (`TextWay`).

mod socket;
mod train;
mod way;

pub(super) use socket::{Refusal, TrainSocket};
pub(super) use train::{IP_LEN_MAX, Train};
pub use way::{TextSwitch, TextWay};
