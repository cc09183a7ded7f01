//! Lookups over a full table, ours and DPDK's `dpdk-test-fib`, in turns: same routes, same addresses, same burst, same
//! clock around each burst.
//!
//! ```text
//! cargo run --release -p tailwater-fib --example against_dpdk -- [ROUNDS] [DIRECTORY]
//! ```
//! Prints nanoseconds a lookup. Without `dpdk-test-fib` (Debian: dpdk-dev), or if it fails, prints ours alone. DPDK wants
//! huge pages: `echo 700 > /proc/sys/vm/nr_hugepages` before, and give them back after.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use tailwater_fib::{FibView, Limits, NextHop, generate};

const ROUTES4: usize = 1_000_000;
const ROUTES6: usize = 200_000;
const LOOKUPS: usize = 1 << 20;
/// What dpdk-test-fib uses.
const BURST: usize = 64;
const NEXT_HOPS: u32 = 256;

fn main() {
    let mut args = std::env::args().skip(1);
    let rounds: usize = args.next().map_or(5, |rounds| rounds.parse().unwrap());
    let directory = args.next().map_or_else(std::env::temp_dir, Into::into);

    let (mut writer, reader) = tailwater_fib::new(Limits::default()).unwrap();
    let table4 = generate::table4(ROUTES4, NEXT_HOPS, 1);
    let table6 = generate::table6(ROUTES6, NEXT_HOPS, 2);
    let started = Instant::now();
    writer.v4.extend(table4.iter().copied()).unwrap();
    let built4 = started.elapsed();
    writer.v6.extend(table6.iter().copied()).unwrap();
    println!("built IPv4 in {built4:.2?}, IPv6 in {:.2?}", started.elapsed() - built4);
    println!("nodes: IPv4 {} KiB, IPv6 {} KiB", writer.v4.nodes_bytes() >> 10, writer.v6.nodes_bytes() >> 10);
    let view = reader.join().unwrap();

    let spread4 = generate::addresses4(&table4, LOOKUPS, 3);
    let spread6 = generate::addresses6(&table6, LOOKUPS, 4);
    let few4: Vec<u32> = spread4[..4000].iter().copied().cycle().take(LOOKUPS).collect();
    let few6: Vec<u128> = spread6[..4000].iter().copied().cycle().take(LOOKUPS).collect();
    let sets4 = [("all", spread4), ("4000", few4)];
    let sets6 = [("all", spread6), ("4000", few6)];
    write4(&directory, &table4, &sets4);
    write6(&directory, &table6, &sets6);

    let mut best = std::collections::BTreeMap::new();
    for _ in 0..rounds {
        for (name, addrs) in &sets4 {
            let ours = time(addrs, (FibView::lookup4_batch, FibView::lookup4), &view);
            let theirs = dpdk(&directory, &format!("4-{name}"), &["-v", "s1"]);
            note(best.entry(format!("IPv4 {name}")), ours, theirs);
        }
        for (name, addrs) in &sets6 {
            let ours = time(addrs, (FibView::lookup6_batch, FibView::lookup6), &view);
            let theirs = dpdk(&directory, &format!("6-{name}"), &["-6", "-g", "400000", "-v", "s"]);
            note(best.entry(format!("IPv6 {name}")), ours, theirs);
        }
    }
    println!("best of {rounds}, ns a lookup   burst 64  burst 32    single   dpdk-test-fib (burst 64)");
    for (set, [burst_64, burst_32, single, theirs]) in best {
        println!(
            "{set:24} {burst_64:12.2} {burst_32:9.2} {single:9.2} {theirs:9.2}   dpdk/ours {:.2}",
            theirs / burst_64
        );
    }
}

type Best<'a> = std::collections::btree_map::Entry<'a, String, [f64; 4]>;

/// Other programs can only slow a round down: the least of several is the figure.
fn note(best: Best<'_>, ours: [f64; 3], theirs: Option<f64>) {
    let best = best.or_insert([f64::INFINITY; 4]);
    let [burst_64, burst_32, single] = ours;
    let round = [burst_64, burst_32, single, theirs.unwrap_or(f64::NAN)];
    println!("  {round:6.2?}");
    for (best, round) in best.iter_mut().zip(round) {
        *best = best.min(round);
    }
}

/// In bursts of 64, in bursts of 32, one by one.
fn time<A: Copy>(
    addrs: &[A],
    (batch, single): (impl Fn(&FibView, &[A], &mut [NextHop]), impl Fn(&FibView, A) -> NextHop),
    view: &FibView,
) -> [f64; 3] {
    [
        time_bursts::<A, BURST>(addrs, &batch, view),
        time_bursts::<A, 32>(addrs, &batch, view),
        time_single(addrs, single, view),
    ]
}

/// Nanoseconds a lookup, the time stamp counter read around each burst as dpdk-test-fib does.
fn time_bursts<A, const LEN: usize>(
    addrs: &[A],
    lookup: impl Fn(&FibView, &[A], &mut [NextHop]),
    view: &FibView,
) -> f64 {
    let mut next_hops = [NextHop::NONE; LEN];
    let mut spent = std::time::Duration::ZERO;
    for burst in addrs.chunks_exact(LEN) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        let started = Instant::now();
        lookup(view, burst, &mut next_hops);
        std::hint::black_box(&next_hops);
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        spent += started.elapsed();
        view.quiescent();
    }
    spent.as_nanos() as f64 / (addrs.len() / LEN * LEN) as f64
}

fn time_single<A: Copy>(addrs: &[A], lookup: impl Fn(&FibView, A) -> NextHop, view: &FibView) -> f64 {
    let started = Instant::now();
    for &addr in addrs {
        std::hint::black_box(lookup(view, addr));
    }
    started.elapsed().as_nanos() as f64 / addrs.len() as f64
}

fn write4(directory: &Path, table: &[(tailwater_fib::Prefix4, NextHop)], sets: &[(&str, Vec<u32>)]) {
    let mut text = String::new();
    for (prefix, next_hop) in table {
        writeln!(text, "{prefix} {}", next_hop.value()).unwrap();
    }
    std::fs::write(directory.join("fib-routes-4"), text).unwrap();
    for (name, addrs) in sets {
        // dpdk-test-fib takes IPv4 addresses from a file in the wrong byte order.
        let lines: String = addrs.iter().map(|addr| format!("{}\n", Ipv4Addr::from(addr.swap_bytes()))).collect();
        std::fs::write(directory.join(format!("fib-addrs-4-{name}")), lines).unwrap();
    }
}

fn write6(directory: &Path, table: &[(tailwater_fib::Prefix6, NextHop)], sets: &[(&str, Vec<u128>)]) {
    let mut text = String::new();
    for (prefix, next_hop) in table {
        writeln!(text, "{prefix} {}", next_hop.value()).unwrap();
    }
    std::fs::write(directory.join("fib-routes-6"), text).unwrap();
    for (name, addrs) in sets {
        let lines: String = addrs.iter().map(|&addr| format!("{}\n", Ipv6Addr::from(addr))).collect();
        std::fs::write(directory.join(format!("fib-addrs-6-{name}")), lines).unwrap();
    }
}

/// Nanoseconds a lookup by dpdk-test-fib; `None` if it is not there or did not get as far.
fn dpdk(directory: &Path, set: &str, args: &[&str]) -> Option<f64> {
    let family = set.get(..1)?;
    let output = Command::new("dpdk-test-fib")
        .args(["--no-pci", "--in-memory", "--no-telemetry", "-l", "1", "-m", "1200", "--"])
        .arg("-f")
        .arg(directory.join(format!("fib-routes-{family}")))
        .arg("-t")
        .arg(directory.join(format!("fib-addrs-{set}")))
        .args(args)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let cycles: f64 = text.lines().find_map(|line| line.strip_prefix("AVG FIB lookup "))?.trim().parse().ok()?;
    Some(cycles / tsc_ghz()?)
}

/// The time stamp counter's rate, which DPDK counts in, from the processor's BogoMIPS (twice the rate).
fn tsc_ghz() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("bogomips"))?;
    Some(line.split(':').nth(1)?.trim().parse::<f64>().ok()? / 2000.0)
}
