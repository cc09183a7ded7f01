//! The flow hash: which worker owns a flow.
//!
//! Keyed, and the same for both directions, so that a connection's packets meet on one worker whichever
//! way they go. The steering program computes the same function (`bpf/hash.h`); the test
//! `steering_and_user_space_agree_on_every_flow` runs both over the same flows.
//!
//! ```text
//! endpoint(addr, port) = one keyed multiply-mix step per 64-bit word
//! hash                 = mix(endpoint(src) + endpoint(dst), protocol)
//! worker               = indirection[hash % 128]
//! ```
//!
//! Ports count for whole TCP and UDP datagrams only. Fragments and other protocols hash on addresses and
//! protocol ([`FlowKey::without_ports`]), so that all fragments of a datagram meet.
//!
//! This spreads load; it is no cryptographic hash. The key keeps outsiders from aiming at one worker.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use zerocopy::{Immutable, IntoBytes};

/// Entries of the indirection table. A power of two, as in `bpf/types.h`.
pub const INDIRECTION_LEN: usize = 128;

pub(crate) const FAMILY_IP4: u8 = 2;
pub(crate) const FAMILY_IP6: u8 = 10;

/// Secret of the flow hash: start state and odd multiplier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashKey {
    seed: u64,
    multiplier: u64,
}

impl HashKey {
    /// A key from 128 bits, which should be random. The lowest bit of `multiplier` is forced to one.
    pub const fn new(seed: u64, multiplier: u64) -> Self {
        Self { seed, multiplier: multiplier | 1 }
    }

    /// As 32 hexadecimal digits, for another process that is to hash alike. Whoever has it can aim flows at one worker.
    pub fn to_hex(&self) -> String {
        format!("{:016x}{:016x}", self.seed, self.multiplier)
    }

    /// A key from what [`to_hex`](Self::to_hex) wrote.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let (seed, multiplier) = text.split_at(16);
        Some(Self::new(u64::from_str_radix(seed, 16).ok()?, u64::from_str_radix(multiplier, 16).ok()?))
    }

    pub(crate) const fn words(&self) -> [u64; 2] {
        [self.seed, self.multiplier]
    }
}

/// Source, destination and protocol of a packet, in the layout of the program's maps.
///
/// Addresses and ports are kept in network byte order; an IPv4 address takes the first 4 of 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub struct FlowKey {
    src: [u64; 2],
    dst: [u64; 2],
    sport: u16,
    dport: u16,
    proto: u8,
    family: u8,
    zero: u16,
}

impl FlowKey {
    /// IPv4 flow. `proto` is the protocol number, ports are in host order.
    #[inline]
    pub const fn v4(src: Ipv4Addr, sport: u16, dst: Ipv4Addr, dport: u16, proto: u8) -> Self {
        Self {
            src: ip4_words(src),
            dst: ip4_words(dst),
            sport: sport.to_be(),
            dport: dport.to_be(),
            proto,
            family: FAMILY_IP4,
            zero: 0,
        }
    }

    /// IPv6 flow. `proto` is the next header of the fixed header, ports are in host order.
    #[inline]
    pub const fn v6(src: Ipv6Addr, sport: u16, dst: Ipv6Addr, dport: u16, proto: u8) -> Self {
        Self {
            src: ip6_words(src),
            dst: ip6_words(dst),
            sport: sport.to_be(),
            dport: dport.to_be(),
            proto,
            family: FAMILY_IP6,
            zero: 0,
        }
    }

    /// Flow between two endpoints; `None` if they are not of one family.
    pub fn between(src: SocketAddr, dst: SocketAddr, proto: u8) -> Option<Self> {
        match (src.ip(), dst.ip()) {
            (IpAddr::V4(s), IpAddr::V4(d)) => Some(Self::v4(s, src.port(), d, dst.port(), proto)),
            (IpAddr::V6(s), IpAddr::V6(d)) => Some(Self::v6(s, src.port(), d, dst.port(), proto)),
            _ => None,
        }
    }

    /// The opposite direction. Hashes to the same value.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, ..self }
    }

    /// What fragments of this flow are hashed on.
    #[must_use]
    pub const fn without_ports(self) -> Self {
        Self { sport: 0, dport: 0, ..self }
    }
}

const fn ip4_words(addr: Ipv4Addr) -> [u64; 2] {
    let [a, b, c, d] = addr.octets();
    [u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]), 0]
}

const fn ip6_words(addr: Ipv6Addr) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = addr.octets();
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])]
}

/// Address words and family as the maps want them.
pub(crate) const fn ip_words(addr: IpAddr) -> ([u64; 2], u8) {
    match addr {
        IpAddr::V4(addr) => (ip4_words(addr), FAMILY_IP4),
        IpAddr::V6(addr) => (ip6_words(addr), FAMILY_IP6),
    }
}

#[inline(always)]
const fn mix(state: u64, word: u64, multiplier: u64) -> u64 {
    let state = (state ^ word).wrapping_mul(multiplier);
    state ^ (state >> 32)
}

#[inline(always)]
const fn endpoint(addr: [u64; 2], port: u16, ip4: bool, key: &HashKey) -> u64 {
    // An IPv4 address fills the low 32 bits only, so address and port fit in one step.
    if ip4 {
        return mix(key.seed, addr[0] ^ ((port as u64) << 32), key.multiplier);
    }
    let state = mix(key.seed, addr[0], key.multiplier);
    let state = mix(state, addr[1], key.multiplier);
    mix(state, port as u64, key.multiplier)
}

/// The hash of a flow, equal for both directions.
#[inline]
pub const fn flow_hash(key: &HashKey, flow: &FlowKey) -> u32 {
    let ip4 = flow.family == FAMILY_IP4;
    let src = endpoint(flow.src, flow.sport, ip4, key);
    let dst = endpoint(flow.dst, flow.dport, ip4, key);
    mix(src.wrapping_add(dst), flow.proto as u64, key.multiplier) as u32
}

/// Which worker takes which of the 128 hash buckets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Indirection([u8; INDIRECTION_LEN]);

impl Indirection {
    /// Every worker gets the same share, give or take one bucket. `workers` of 0 counts as 1.
    pub fn even(workers: u8) -> Self {
        let workers = usize::from(workers.max(1));
        // The remainder is below `workers`, so it fits in u8.
        Self(std::array::from_fn(|bucket| (bucket % workers) as u8))
    }

    /// A table of one's own. The program sends buckets of workers it does not know to worker 0.
    pub const fn from_buckets(buckets: [u8; INDIRECTION_LEN]) -> Self {
        Self(buckets)
    }

    /// The table.
    pub const fn buckets(&self) -> &[u8; INDIRECTION_LEN] {
        &self.0
    }
}

/// The worker which owns the flows of this hash.
#[inline]
pub const fn worker_of(hash: u32, indirection: &Indirection) -> u8 {
    // In bounds: the remainder is below the table's length.
    indirection.0[hash as usize % INDIRECTION_LEN]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: HashKey = HashKey::new(0x0123_4567_89ab_cdef, 0x9e37_79b9_7f4a_7c15);

    fn flow(n: u32) -> FlowKey {
        let client = Ipv4Addr::from(0x0a00_0000 + (n >> 8));
        FlowKey::v4(client, 1024 + (n & 0xff) as u16, Ipv4Addr::new(10, 1, 0, 1), 80, 6)
    }

    #[test]
    fn both_directions_hash_alike() {
        for n in 0..10_000 {
            assert_eq!(flow_hash(&KEY, &flow(n)), flow_hash(&KEY, &flow(n).reversed()));
        }
    }

    #[test]
    fn the_key_changes_the_hash() {
        let other = HashKey::new(1, 3);
        let same = (0..1000).filter(|&n| flow_hash(&KEY, &flow(n)) == flow_hash(&other, &flow(n))).count();
        assert!(same < 3, "{same} of 1000 flows hash alike under two keys");
    }

    #[test]
    fn a_key_survives_being_written_and_read() {
        let key = HashKey::new(0x12, 0xfedc_ba98_7654_3211);
        assert_eq!(HashKey::from_hex(&key.to_hex()), Some(key));
        for wrong in ["", "12", "+1234567890123456789012345678901", "g2345678901234567890123456789012"] {
            assert_eq!(HashKey::from_hex(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn an_even_key_multiplier_is_made_odd() {
        assert_eq!(HashKey::new(0, 2), HashKey::new(0, 3));
    }

    /// Worst bucket within 6 sigma of a uniform spread, for neighbouring clients and ports.
    #[test]
    fn neighbouring_flows_spread_over_all_buckets() {
        const FLOWS: u32 = 128 * 1000;
        let mut buckets = [0u32; INDIRECTION_LEN];
        for n in 0..FLOWS {
            buckets[flow_hash(&KEY, &flow(n)) as usize % INDIRECTION_LEN] += 1;
        }
        let (least, most) = (*buckets.iter().min().unwrap(), *buckets.iter().max().unwrap());
        assert!(least > 1000 - 190 && most < 1000 + 190, "{least} to {most} flows a bucket, not about 1000");
    }

    #[test]
    fn neighbouring_ip6_flows_spread_over_all_buckets() {
        let server = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        let mut buckets = [0u32; INDIRECTION_LEN];
        for n in 0..128_000u32 {
            let client = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, (n >> 8) as u16);
            let key = FlowKey::v6(client, 1024 + (n & 0xff) as u16, server, 443, 17);
            buckets[flow_hash(&KEY, &key) as usize % INDIRECTION_LEN] += 1;
        }
        let (least, most) = (*buckets.iter().min().unwrap(), *buckets.iter().max().unwrap());
        assert!(least > 810 && most < 1190, "{least} to {most} flows a bucket, not about 1000");
    }

    #[test]
    fn an_even_table_differs_by_one_bucket_at_most() {
        for workers in 1..=128u8 {
            let table = Indirection::even(workers);
            let share = |w| table.buckets().iter().filter(|&&b| b == w).count();
            let shares: Vec<_> = (0..workers).map(share).collect();
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
        }
    }
}
