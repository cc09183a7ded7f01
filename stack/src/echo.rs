//! The asking side of ICMP echo: `ping`.

use core::net::{IpAddr, SocketAddr};

use zerocopy::IntoBytes;
use zerocopy::network_endian::U16;

use crate::buffer::Buffer;
use crate::checksum::Sum;
use crate::drop_reason::DropReason;
use crate::env::Env;
use crate::interface::InterfaceId;
use crate::output::{Outgoing, prepend};
use crate::packet::{Packet, pseudo_header, sum_pieces};
use crate::stack::{ECHO_IDENTS_MAX, Stack};
use crate::verdict::{EchoReply, Sent, Verdict};
use crate::wire::icmpv4::{self, Icmpv4Header};
use crate::wire::{icmpv6, protocol};

/// An echo request to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EchoRequest {
    pub destination: IpAddr,
    /// For link-local destinations and groups; otherwise the routes decide.
    pub interface: Option<InterfaceId>,
    /// Tells askers apart; must be open.
    pub ident: u16,
    pub sequence: u16,
    /// TTL or hop limit; `None`: as configured. Small ones find the routers on the way.
    pub hop_limit: Option<u8>,
}

impl<B: Buffer> Stack<B> {
    /// Takes replies for `ident` from now on; `false` if it is taken, or
    /// [`ECHO_IDENTS_MAX`] are.
    pub fn echo_open(&mut self, ident: u16) -> bool {
        let free = !self.echo_idents.contains(&ident) && self.echo_idents.len() < ECHO_IDENTS_MAX;
        if free {
            self.echo_idents.push(ident);
        }
        free
    }

    pub fn echo_close(&mut self, ident: u16) {
        self.echo_idents.retain(|&open| open != ident);
    }

    /// Sends `data`, a buffer with nothing but the data and [`HEADROOM`](crate::HEADROOM), as an
    /// echo request.
    pub fn echo_request<E: Env<Buffer = B>>(
        &mut self,
        request: &EchoRequest,
        mut data: B,
        env: &mut E,
    ) -> Result<Sent, DropReason> {
        self.ledger.originated += 1;
        let to = SocketAddr::new(request.destination, 0);
        let any = match request.destination {
            IpAddr::V4(_) => core::net::Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => core::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let found = match self.echo_idents.contains(&request.ident) {
            true => self.source_and_hop(any, to, request.interface),
            false => Err(DropReason::SocketUnknown),
        };
        let (hop, source) = match found {
            Ok(found) => found,
            Err(reason) => {
                self.ledger.discard(env, data, reason);
                return Err(reason);
            }
        };
        let (protocol, kind) = match source {
            IpAddr::V4(_) => (protocol::ICMP, icmpv4::kind::ECHO_REQUEST),
            IpAddr::V6(_) => (protocol::ICMPV6, icmpv6::kind::ECHO_REQUEST),
        };
        let out = Outgoing {
            source,
            destination: request.destination,
            protocol,
            hop_limit: request.hop_limit.unwrap_or(self.config.hop_limit),
            traffic_class: 0,
        };
        let len = icmpv4::HEADER_LEN + data.len();
        let pseudo = match source {
            IpAddr::V4(_) => Sum::new(),
            IpAddr::V6(_) => pseudo_header(source, request.destination, protocol, len),
        };
        let mut header = Icmpv4Header {
            kind,
            code: 0,
            checksum: [0; 2],
            ident: U16::new(request.ident),
            sequence: U16::new(request.sequence),
        };
        let sum = pseudo.with(header.as_bytes());
        header.checksum = sum_pieces(sum, &data, 0, data.len()).checksum();
        match prepend(&mut data, header.as_bytes()) {
            Ok(()) => self.send_ip(&out, hop, data, env),
            Err(reason) => {
                self.ledger.discard(env, data, reason);
                Err(reason)
            }
        }
    }

    pub(crate) fn on_echo_reply<E: Env<Buffer = B>>(
        &mut self,
        ident: u16,
        sequence: u16,
        packet: Packet,
        buffer: B,
        env: &mut E,
    ) -> Verdict<B> {
        if !self.echo_idents.contains(&ident) {
            return self.drop_packet(buffer, DropReason::EchoUnexpected, env);
        }
        self.ledger.delivered += 1;
        let (source, destination) = (packet.source, packet.destination);
        Verdict::EchoReply(EchoReply { source, destination, ident, sequence, packet, buffer })
    }
}
