//! Network interfaces as the kernel describes them.

use netlink_packet_core::{DecodeError, NlasIterator, ParseableParametrized};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkHeader, LinkInfo, LinkXdp, State, XdpAttached};

const LINK_HEADER_LEN: usize = 16;
const IFLA_GROUP: u16 = 27;

/// Where an XDP program sits on a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XdpMode {
    /// In the driver, on its own buffers (`xdpdrv`).
    Native,
    /// After the kernel built a socket buffer (`xdpgeneric`).
    Generic,
    /// On the card (`xdpoffload`).
    Offloaded,
    /// In several of these places at once; `prog_id` is 0 then.
    Several,
}

/// The XDP program attached to a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct XdpAttachment {
    pub mode: XdpMode,
    /// Kernel id of the program, as in `bpftool prog show id N`.
    pub prog_id: u32,
}

/// Packets and bytes the kernel counted on a link since it exists. What an XDP program redirects
/// counts or not, as the driver chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkStats {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
    pub multicast: u64,
}

/// One interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    pub ifindex: u32,
    pub name: String,
    /// Other names the interface answers to (`ip link property add altname`).
    pub alternative_names: Vec<String>,
    /// Link layer address: 6 bytes on Ethernet, empty where there is none.
    pub mac: Vec<u8>,
    /// Largest IP packet, in bytes.
    pub mtu_bytes: u32,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// Up and able to carry packets (`IFF_RUNNING`).
    pub running: bool,
    /// The physical link is there (`IFLA_CARRIER`).
    pub carrier: bool,
    /// RFC 2863 operational state as `ip` prints it: `UP`, `DOWN`, `LOWERLAYERDOWN`, `UNKNOWN` ...
    pub operational_state: String,
    pub loopback: bool,
    pub point_to_point: bool,
    /// The link does without ARP and neighbour discovery.
    pub no_arp: bool,
    /// Interface group (`ip link set group`); 0 unless someone set it. The kernel announces a new
    /// group of a link which is down only with the link's next change.
    pub group: u32,
    /// What made it: `veth`, `vlan`, `bridge`, `bond` ...; `None` for hardware and loopback.
    pub kind: Option<String>,
    /// Bridge, bond or VRF it belongs to.
    pub master_ifindex: Option<u32>,
    /// The interface below (VLAN) or the peer (veth), when in the same namespace.
    pub lower_ifindex: Option<u32>,
    /// Number of users who asked for promiscuous mode.
    pub promiscuity: u32,
    /// Queues the device was made with; how many are in use is in [`crate::Queues`].
    pub rx_queues_max: u32,
    pub tx_queues_max: u32,
    pub xdp: Option<XdpAttachment>,
    /// Only in snapshots ([`crate::Control::links`]); `None` in events.
    pub stats: Option<LinkStats>,
}

/// What a link message says.
pub(crate) enum LinkUpdate {
    Present(Box<Link>),
    Gone(u32),
    /// About something else than the link itself: bridge port state, wireless events.
    Partial,
}

pub(crate) fn decode(payload: &[u8], new: bool, with_stats: bool) -> Result<LinkUpdate, DecodeError> {
    let header = LinkHeader::parse(payload)?;
    if header.interface_family != AddressFamily::Unspec {
        return Ok(LinkUpdate::Partial);
    }
    if !new {
        return Ok(LinkUpdate::Gone(header.index));
    }
    let flags = header.flags;
    let mut link = Link {
        ifindex: header.index,
        name: String::new(),
        alternative_names: Vec::new(),
        mac: Vec::new(),
        mtu_bytes: 0,
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Running),
        carrier: flags.contains(LinkFlags::LowerUp),
        operational_state: State::Unknown.to_string(),
        loopback: flags.contains(LinkFlags::Loopback),
        point_to_point: flags.contains(LinkFlags::Pointopoint),
        no_arp: flags.contains(LinkFlags::Noarp),
        group: 0,
        kind: None,
        master_ifindex: None,
        lower_ifindex: None,
        promiscuity: 0,
        rx_queues_max: 1,
        tx_queues_max: 1,
        xdp: None,
        stats: None,
    };
    let (mut complete, mut lower_is_elsewhere) = (false, false);
    for nla in NlasIterator::new(payload.get(LINK_HEADER_LEN..).unwrap_or_default()) {
        // An attribute this crate's library does not understand must not hide the link.
        if let Ok(attribute) = LinkAttribute::parse_with_param(&nla?, AddressFamily::Unspec) {
            complete |= matches!(attribute, LinkAttribute::Mtu(_));
            lower_is_elsewhere |= matches!(attribute, LinkAttribute::LinkNetNsId(_));
            link.apply(attribute, with_stats);
        }
    }
    if lower_is_elsewhere {
        link.lower_ifindex = None;
    }
    Ok(if complete { LinkUpdate::Present(Box::new(link)) } else { LinkUpdate::Partial })
}

/// The interface group in a link message, without taking the rest apart.
pub(crate) fn group_of(payload: &[u8]) -> Option<u32> {
    let attributes = NlasIterator::new(payload.get(LINK_HEADER_LEN..)?);
    let group = attributes.flatten().find(|attribute| attribute.kind() == IFLA_GROUP)?;
    Some(u32::from_ne_bytes(group.value().try_into().ok()?))
}

impl Link {
    fn apply(&mut self, attribute: LinkAttribute, with_stats: bool) {
        match attribute {
            LinkAttribute::IfName(name) => self.name = name,
            LinkAttribute::Address(mac) => self.mac = mac,
            LinkAttribute::Mtu(mtu) => self.mtu_bytes = mtu,
            LinkAttribute::Group(group) => self.group = group,
            LinkAttribute::Carrier(carrier) => self.carrier = carrier != 0,
            LinkAttribute::OperState(state) => self.operational_state = state.to_string(),
            LinkAttribute::Controller(ifindex) => self.master_ifindex = Some(ifindex),
            LinkAttribute::Link(ifindex) => self.lower_ifindex = Some(ifindex),
            LinkAttribute::Promiscuity(users) => self.promiscuity = users,
            LinkAttribute::NumRxQueues(queues) => self.rx_queues_max = queues,
            LinkAttribute::NumTxQueues(queues) => self.tx_queues_max = queues,
            LinkAttribute::Xdp(parts) => self.xdp = attachment(&parts),
            LinkAttribute::LinkInfo(parts) => {
                self.kind = parts.iter().find_map(|part| match part {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            LinkAttribute::PropList(names) => {
                self.alternative_names = names
                    .into_iter()
                    .filter_map(|name| match name {
                        netlink_packet_route::link::Prop::AltIfName(name) => Some(name),
                        _ => None,
                    })
                    .collect();
            }
            LinkAttribute::Stats64(stats) if with_stats => {
                self.stats = Some(LinkStats {
                    rx_packets: stats.rx_packets,
                    tx_packets: stats.tx_packets,
                    rx_bytes: stats.rx_bytes,
                    tx_bytes: stats.tx_bytes,
                    rx_errors: stats.rx_errors,
                    tx_errors: stats.tx_errors,
                    rx_dropped: stats.rx_dropped,
                    tx_dropped: stats.tx_dropped,
                    multicast: stats.multicast,
                });
            }
            _ => {}
        }
    }
}

fn attachment(parts: &[LinkXdp]) -> Option<XdpAttachment> {
    let mut mode = None;
    let mut prog_id = 0;
    for part in parts {
        match part {
            LinkXdp::Attached(XdpAttached::Driver) => mode = Some(XdpMode::Native),
            LinkXdp::Attached(XdpAttached::SocketBuffer) => mode = Some(XdpMode::Generic),
            LinkXdp::Attached(XdpAttached::Hardware) => mode = Some(XdpMode::Offloaded),
            LinkXdp::Attached(XdpAttached::Multiple) => mode = Some(XdpMode::Several),
            LinkXdp::ProgId(id) => prog_id = *id,
            _ => {}
        }
    }
    Some(XdpAttachment { mode: mode?, prog_id })
}
