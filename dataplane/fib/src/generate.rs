//! Routing tables that look like the Internet's, the same for the same seed: for tests and benchmarks.
//!
//! Lengths follow the default-free zone (IPv4 mostly /24, then /22, /23, /20; IPv6 mostly /48, /32, /44, /40, /36,
//! /29). Most prefixes are more-specifics crowded into allocations, as registries hand them out; next hops are drawn
//! anew for each prefix, which is harder on the table than the Internet, where neighbours tend to share theirs.

use std::collections::HashSet;

use crate::next_hop::NextHop;
use crate::prefix::{Address, Prefix, Prefix4, Prefix6};

/// SplitMix64: small, seeded, good enough to scatter addresses.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn next_u128(&mut self) -> u128 {
        u128::from(self.next_u64()) << 64 | u128::from(self.next_u64())
    }

    /// Below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// One of `shares` (value, share), as often as its share says.
    fn pick(&mut self, shares: &[(u8, u32)]) -> u8 {
        let total: u32 = shares.iter().map(|(_, share)| share).sum();
        let mut at = self.below(u64::from(total.max(1))) as u32;
        for &(value, share) in shares {
            match at.checked_sub(share) {
                Some(rest) => at = rest,
                None => return value,
            }
        }
        0
    }
}

/// IPv4 lengths per 10,000 prefixes. The few beyond /24 are what a network adds of its own.
const LENGTHS4: [(u8, u32); 24] = [
    (8, 1),
    (9, 1),
    (10, 1),
    (11, 2),
    (12, 4),
    (13, 7),
    (14, 14),
    (15, 22),
    (16, 142),
    (17, 86),
    (18, 144),
    (19, 260),
    (20, 460),
    (21, 520),
    (22, 1100),
    (23, 1030),
    (24, 6100),
    (25, 15),
    (26, 15),
    (27, 12),
    (28, 12),
    (29, 20),
    (30, 20),
    (32, 12),
];

/// IPv6 lengths per 10,000 prefixes.
const LENGTHS6: [(u8, u32); 22] = [
    (19, 1),
    (20, 4),
    (22, 2),
    (24, 12),
    (26, 8),
    (28, 50),
    (29, 500),
    (30, 80),
    (31, 30),
    (32, 1250),
    (33, 250),
    (34, 180),
    (35, 60),
    (36, 700),
    (38, 120),
    (40, 1000),
    (42, 150),
    (44, 850),
    (45, 60),
    (46, 170),
    (47, 123),
    (48, 4400),
];

/// `routes` different IPv4 prefixes between 1.0.0.0 and 223.255.255.255, with next hops 1 to `next_hops`.
pub fn table4(routes: usize, next_hops: u32, seed: u64) -> Vec<(Prefix4, NextHop)> {
    let mut random = Random::new(seed);
    let allocations: Vec<(u32, u8)> =
        (0..(routes / 40).max(4)).map(|_| ((random.next_u64() as u32), 13 + random.below(7) as u8)).collect();
    table(routes, next_hops, &mut random, |random| {
        let len = random.pick(&LENGTHS4);
        let mut addr = random.next_u64() as u32;
        if random.below(10) < 7 {
            let (base, base_len) = allocations[random.below(allocations.len() as u64) as usize];
            addr = base.masked(base_len) | (addr >> base_len);
        }
        let unicast = (0x0100_0000..0xe000_0000).contains(&addr);
        Prefix::new(addr, len).ok().filter(|prefix| unicast && prefix.addr() >= 0x0100_0000)
    })
}

/// `routes` different IPv6 prefixes in the registries' parts of 2000::/3, with next hops 1 to `next_hops`.
pub fn table6(routes: usize, next_hops: u32, seed: u64) -> Vec<(Prefix6, NextHop)> {
    const REGISTRIES: [(u128, u8); 7] = [
        (0x2001 << 112, 16),
        (0x2400 << 112, 12),
        (0x2600 << 112, 12),
        (0x2800 << 112, 12),
        (0x2a00 << 112, 12),
        (0x2a10 << 112, 12),
        (0x2c00 << 112, 12),
    ];
    let mut random = Random::new(seed);
    let allocations: Vec<u128> = (0..(routes / 6).max(4))
        .map(|_| {
            let (base, base_len) = REGISTRIES[random.below(REGISTRIES.len() as u64) as usize];
            base | (random.next_u128() >> base_len)
        })
        .collect();
    table(routes, next_hops, &mut random, |random| {
        let len = random.pick(&LENGTHS6);
        let base = allocations[random.below(allocations.len() as u64) as usize];
        // Within its allocation a network numbers its parts from the start, or scatters them.
        let scattered = random.next_u128() >> 32;
        let addr = base.masked(32) | if random.below(2) == 0 { scattered } else { scattered >> 6 };
        Prefix::new(addr, len).ok()
    })
}

fn table<A: Address>(
    routes: usize,
    next_hops: u32,
    random: &mut Random,
    mut draw: impl FnMut(&mut Random) -> Option<Prefix<A>>,
) -> Vec<(Prefix<A>, NextHop)> {
    let mut known = HashSet::with_capacity(routes);
    let mut table = Vec::with_capacity(routes);
    // A crowded space yields repeats; the bound ends a table that cannot be filled.
    for _ in 0..routes.saturating_mul(64) {
        if table.len() == routes {
            break;
        }
        let next_hop = NextHop::new(1 + random.below(u64::from(next_hops.max(1))) as u32);
        if let (Some(prefix), Some(next_hop)) = (draw(random), next_hop)
            && known.insert(prefix)
        {
            table.push((prefix, next_hop));
        }
    }
    table
}

/// `count` addresses, each anywhere within a prefix drawn from `table`.
pub fn addresses4(table: &[(Prefix4, NextHop)], count: usize, seed: u64) -> Vec<u32> {
    let mut random = Random::new(seed);
    let mut draw = || {
        let (prefix, _) = *table.get(random.below(table.len().max(1) as u64) as usize)?;
        let host = random.next_u64() as u32;
        Some(prefix.addr() | (host ^ host.masked(prefix.len())))
    };
    (0..count).map_while(|_| draw()).collect()
}

/// As [`addresses4`].
pub fn addresses6(table: &[(Prefix6, NextHop)], count: usize, seed: u64) -> Vec<u128> {
    let mut random = Random::new(seed);
    let mut draw = || {
        let (prefix, _) = *table.get(random.below(table.len().max(1) as u64) as usize)?;
        let host = random.next_u128();
        Some(prefix.addr() | (host ^ host.masked(prefix.len())))
    };
    (0..count).map_while(|_| draw()).collect()
}
