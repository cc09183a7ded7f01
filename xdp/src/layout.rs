//! The Rust side of `bpf/types.h`: keys and values of the maps, byte for byte.

use std::net::{IpAddr, SocketAddr};

use zerocopy::{Immutable, IntoBytes};

use crate::hash::ip_words;
use crate::shared::Transport;

/// Bytes of `struct settings`.
pub(crate) const SETTINGS_LEN: usize = 192;

/// Byte offsets in `struct settings`.
pub(crate) mod settings_offset {
    pub(crate) const HASH_KEY: usize = 0;
    pub(crate) const FLOW_EXCEPTIONS_ACTIVE: usize = 16;
    pub(crate) const BYPASS: usize = 20;
    pub(crate) const ETHERTYPES: usize = 24;
    pub(crate) const INDIRECTION: usize = 64;
}

/// `struct listener`.
#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct ListenerKey {
    addr: [u64; 2],
    port: u16,
    proto: u8,
    family: u8,
    zero: u32,
}
const _: () = assert!(size_of::<ListenerKey>() == 24);

impl ListenerKey {
    pub(crate) fn listener(transport: Transport, at: SocketAddr) -> Self {
        Self { port: at.port().to_be(), proto: transport.number(), ..Self::address(at.ip()) }
    }

    pub(crate) fn address(addr: IpAddr) -> Self {
        let (addr, family) = ip_words(addr);
        Self { addr, port: 0, proto: 0, family, zero: 0 }
    }
}

/// `struct local_addr`.
#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct LocalAddrKey {
    addr: [u64; 2],
    family: u32,
    zero: u32,
}
const _: () = assert!(size_of::<LocalAddrKey>() == 24);

impl LocalAddrKey {
    pub(crate) fn new(addr: IpAddr) -> Self {
        let (addr, family) = ip_words(addr);
        Self { addr, family: family.into(), zero: 0 }
    }
}
