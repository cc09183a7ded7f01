//! The way out, ready made: where segments of a connection leave, with the Ethernet header that goes in front of them.
//!
//! It is what routes, path MTUs and neighbours said when a segment last took the long way, and holds until one of them
//! changes, or for a second: then they are asked again, which also shows a neighbour that it is in use.

use core::time::Duration;

use zerocopy::IntoBytes;
use zerocopy::network_endian::U16;

use super::path_mtu::headers_len;
use super::tcb::{Cx, Tcb};
use crate::buffer::Buffer;
use crate::env::Env;
use crate::interface::InterfaceId;
use crate::route::Hop;
use crate::stack::Stack;
use crate::time::Instant;
use crate::wire::ethernet::{EthernetHeader, HEADER_LEN, ethertype};
use crate::wire::tcp_option::TIMESTAMPS_LEN;

const LIFETIME: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// `ZERO`: there is none.
    until: Instant,
    version: u32,
    /// Bytes that an IP packet may have; 0: there is no plain way.
    pub(super) mtu: u16,
    /// Bytes of text that a segment of fixed headers and timestamps may have.
    pub(super) text_max: u16,
    interface: u16,
    pub(super) link: [u8; HEADER_LEN],
}

impl Way {
    pub(super) const NONE: Self =
        Self { until: Instant::ZERO, version: 0, mtu: 0, text_max: 0, interface: 0, link: [0; HEADER_LEN] };

    pub(super) fn interface(&self) -> InterfaceId {
        InterfaceId(self.interface.into())
    }
}

impl<B: Buffer> Stack<B> {
    /// Counts whatever could make a way wrong.
    #[inline]
    fn ways_version(&self, interface: InterfaceId) -> Option<u32> {
        let neighbours = self.interface(interface)?.neighbours.version();
        Some(self.routes.version().wrapping_add(self.path_mtus.version()).wrapping_add(neighbours))
    }
}

impl<B: Buffer> Tcb<B> {
    /// Whether the way still holds.
    #[inline]
    pub(super) fn knows_way<E: Env<Buffer = B>>(&self, cx: &Cx<'_, B, E>) -> bool {
        self.way.until > cx.now && cx.stack.ways_version(self.way.interface()) == Some(self.way.version)
    }

    /// A segment has just left by the long way: remembers it, if it is a plain one.
    pub(super) fn learn_way<E: Env<Buffer = B>>(&mut self, hop: Hop, cx: &Cx<'_, B, E>) {
        let until = cx.now + LIFETIME;
        if self.way.until <= cx.now {
            self.neighbour_confirmed = false;
        } else if self.way.mtu == 0 {
            return;
        }
        // Nothing fits a way that is none, which is asked for again as late.
        self.way = self.way_by(hop, cx).unwrap_or(Way { until, ..Way::NONE });
    }

    fn way_by<E: Env<Buffer = B>>(&self, hop: Hop, cx: &Cx<'_, B, E>) -> Option<Way> {
        let interface = cx.stack.interface(hop.interface)?;
        let config = &interface.station.config;
        // Whatever is not a station's has no entry there.
        let to = interface.neighbours.mac_of(hop.next).filter(|_| config.vlan.is_none())?;
        let kind = if self.flow.remote.is_ipv4() { ethertype::IPV4 } else { ethertype::IPV6 };
        let header = EthernetHeader { destination: to, source: config.mac, ethertype: U16::new(kind) };
        // No plain packet is longer, whatever the interface takes.
        let mtu = cx.stack.path_mtu(self.flow.remote, config.mtu, cx.now).min(u16::MAX.into()) as u16;
        let fixed_len = headers_len(&self.flow) as u16 + TIMESTAMPS_LEN as u16;
        Some(Way {
            until: cx.now + LIFETIME,
            version: cx.stack.ways_version(hop.interface)?,
            mtu,
            text_max: mtu.saturating_sub(fixed_len),
            interface: u16::try_from(hop.interface.0).ok()?,
            link: header.as_bytes().try_into().ok()?,
        })
    }
}
