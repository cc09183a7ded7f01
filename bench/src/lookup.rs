//! The forwarding table's lookup alone: the routes and addresses that we and DPDK's test program are given, and our time.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{Ordering, fence};
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tailwater_dataplane::clock;
use tailwater_fib::generate::{addresses4, addresses6, table4, table6};
use tailwater_fib::{Limits, NextHop, Prefix4, Prefix6};

/// A table as large as the Internet's will be.
const ROUTES4: usize = 1_000_000;
const ROUTES6: usize = 200_000;
/// Each to an address somewhere in a route drawn at random.
const LOOKUPS: usize = 1 << 22;
const NEXT_HOPS: u32 = 256;
/// As many as DPDK's test program looks up in one call.
const BURST: usize = 64;
const SEED: u64 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Family {
    #[value(name = "4")]
    Ip4,
    #[value(name = "6")]
    Ip6,
}

impl Family {
    pub(crate) fn column(self) -> &'static str {
        match self {
            Self::Ip4 => "IPv4, 1 M routes",
            Self::Ip6 => "IPv6, 200 k routes",
        }
    }
}

/// What it took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Lookups {
    /// Of the time stamp counter, for one address.
    pub cycles: f64,
    pub ns: f64,
    /// To build the whole table.
    pub build_secs: f64,
}

/// Builds our table and looks all addresses up, once, in bursts.
pub(crate) fn ours(family: Family) -> Result<Lookups> {
    match family {
        Family::Ip4 => {
            let table = table4(ROUTES4, NEXT_HOPS, SEED);
            let addresses = addresses4(&table, LOOKUPS, SEED + 1);
            let (mut writer, reader) = tailwater_fib::new(Limits::default())?;
            let start = Instant::now();
            writer.v4.extend(table)?;
            let build_secs = start.elapsed().as_secs_f64();
            let view = reader.join()?;
            pass(&addresses, build_secs, |burst, next_hops| view.lookup4_batch(burst, next_hops))
        }
        Family::Ip6 => {
            let table = table6(ROUTES6, NEXT_HOPS, SEED);
            let addresses = addresses6(&table, LOOKUPS, SEED + 1);
            let (mut writer, reader) = tailwater_fib::new(Limits::default())?;
            let start = Instant::now();
            writer.v6.extend(table)?;
            let build_secs = start.elapsed().as_secs_f64();
            let view = reader.join()?;
            pass(&addresses, build_secs, |burst, next_hops| view.lookup6_batch(burst, next_hops))
        }
    }
}

/// Times the calls alone, as DPDK's program does: a full barrier and the clock before and after each.
fn pass<A>(addresses: &[A], build_secs: f64, lookup: impl Fn(&[A], &mut [NextHop])) -> Result<Lookups> {
    let mut next_hops = [NextHop::NONE; BURST];
    let (mut found, mut cycles) = (0, 0);
    let (start, start_cycles) = (Instant::now(), clock::cycles());
    for burst in addresses.chunks_exact(BURST) {
        let before = cycles_precise();
        lookup(burst, &mut next_hops);
        let hops = std::hint::black_box(&next_hops);
        cycles += cycles_precise().wrapping_sub(before);
        found += usize::from(hops[0] != NextHop::NONE);
    }
    let cycles_per_ns = clock::cycles().wrapping_sub(start_cycles) as f64 / start.elapsed().as_nanos() as f64;
    let bursts = addresses.len() / BURST;
    ensure!(found == bursts, "{} of {bursts} addresses have no route", bursts - found);
    let cycles = cycles as f64 / (bursts * BURST) as f64;
    Ok(Lookups { cycles, ns: cycles / cycles_per_ns, build_secs })
}

/// The time stamp counter, read once all loads and stores before have been done.
fn cycles_precise() -> u64 {
    fence(Ordering::SeqCst);
    clock::cycles()
}

/// Writes the same routes and addresses as DPDK's test program reads them.
pub(crate) fn write_files(family: Family, routes: impl Write, addresses: impl Write) -> Result<()> {
    match family {
        Family::Ip4 => {
            let table = table4(ROUTES4, NEXT_HOPS, SEED);
            // It takes the addresses to look up in network byte order, but the table wants them in the host's.
            let swapped = |address: u32| {
                Ipv4Addr::from(if cfg!(target_endian = "little") { address.swap_bytes() } else { address })
            };
            let drawn = addresses4(&table, LOOKUPS, SEED + 1).into_iter().map(swapped);
            let routes_of = |(prefix, next_hop): &(Prefix4, NextHop)| {
                format!("{}/{} {}", Ipv4Addr::from(prefix.addr()), prefix.len(), next_hop.value())
            };
            write_lines(routes, table.iter().map(routes_of))?;
            write_lines(addresses, drawn)
        }
        Family::Ip6 => {
            let table = table6(ROUTES6, NEXT_HOPS, SEED);
            let drawn = addresses6(&table, LOOKUPS, SEED + 1).into_iter().map(Ipv6Addr::from);
            let routes_of = |(prefix, next_hop): &(Prefix6, NextHop)| {
                format!("{}/{} {}", Ipv6Addr::from(prefix.addr()), prefix.len(), next_hop.value())
            };
            write_lines(routes, table.iter().map(routes_of))?;
            write_lines(addresses, drawn)
        }
    }
}

fn write_lines(file: impl Write, lines: impl Iterator<Item = impl std::fmt::Display>) -> Result<()> {
    let mut file = std::io::BufWriter::new(file);
    for line in lines {
        writeln!(file, "{line}")?;
    }
    Ok(file.flush()?)
}
