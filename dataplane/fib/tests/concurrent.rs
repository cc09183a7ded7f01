//! Readers on other threads while routes change and node memory is reused.
//!
//! Each region of the address space goes through a known history of versions. The writer says which version it is about
//! to make and which it has made; a reader that looks up between reading the two knows every answer that may be right.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tailwater_fib::generate::Random;
use tailwater_fib::{Address, FibError, FibView, FibWriter, Limits, NextHop, Prefix, Routes};

const REGIONS: usize = 32;
const READERS: usize = 3;
const VERSIONS: usize = if cfg!(debug_assertions) { 300 } else { 8000 };

/// What happens to one region, all of it seen from one address.
struct Region<A> {
    probe: A,
    /// Prefix and next hop set by each version; without next hop, the prefix goes.
    changes: Vec<(Prefix<A>, Option<NextHop>)>,
    /// The right answer at each version; version 0 is before the first change.
    answers: Vec<NextHop>,
    begun: AtomicUsize,
    made: AtomicUsize,
}

impl<A: Address> Region<A> {
    /// `lens` nest around the probe. Unless it owns the default route, the first always has a route.
    fn new(index: usize, probe: A, lens: &[u8], random: &mut Random) -> Self {
        let mut present: Vec<Option<NextHop>> = vec![None; lens.len()];
        let (mut changes, mut answers) = (Vec::new(), vec![NextHop::NONE]);
        for version in 1..=VERSIONS {
            let next_hop = NextHop::new((1 + index * (VERSIONS + 1) + version) as u32).unwrap();
            let at = if version == 1 { 0 } else { random.below(lens.len() as u64) as usize };
            let stays = at == 0 && lens[0] != 0;
            let state = if present[at].is_none() || stays { Some(next_hop) } else { None };
            present[at] = state;
            changes.push((Prefix::new(probe, lens[at]).unwrap(), state));
            answers.push(present.iter().rev().find_map(|hop| *hop).unwrap_or(NextHop::NONE));
        }
        Self { probe, changes, answers, begun: AtomicUsize::new(0), made: AtomicUsize::new(0) }
    }

    fn step(&self, routes: &mut Routes<A>) {
        let version = self.made.load(Ordering::Relaxed) + 1;
        let (prefix, next_hop) = self.changes[version - 1];
        self.begun.store(version, Ordering::SeqCst);
        loop {
            let result = match next_hop {
                Some(next_hop) => routes.insert(prefix, next_hop),
                None => routes.remove(prefix),
            };
            match result {
                Ok(_) => break,
                // All room waits for readers: their next turn frees it.
                Err(FibError::Busy { .. }) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        self.made.store(version, Ordering::SeqCst);
    }

    fn allows(&self, answer: NextHop, made_before: usize, begun_after: usize) -> bool {
        self.answers[made_before..=begun_after].contains(&answer)
    }
}

fn read<A: Address>(
    view: &FibView,
    regions: &[Region<A>],
    lookup: fn(&FibView, A) -> NextHop,
    batch: fn(&FibView, &[A], &mut [NextHop]),
    done: &AtomicBool,
    lookups: &AtomicU64,
) {
    let probes: Vec<A> = regions.iter().map(|region| region.probe).collect();
    let mut found = vec![NextHop::NONE; probes.len()];
    let mut turn = 0u64;
    loop {
        let last = done.load(Ordering::SeqCst);
        let made: Vec<usize> = regions.iter().map(|region| region.made.load(Ordering::SeqCst)).collect();
        batch(view, &probes, &mut found);
        for ((region, answer), made) in regions.iter().zip(&found).zip(made) {
            let begun = region.begun.load(Ordering::SeqCst);
            assert!(region.allows(*answer, made, begun), "batch: {answer:?} in versions {made}..={begun}");
        }
        for region in regions {
            let made = region.made.load(Ordering::SeqCst);
            let answer = lookup(view, region.probe);
            let begun = region.begun.load(Ordering::SeqCst);
            assert!(region.allows(answer, made, begun), "single: {answer:?} in versions {made}..={begun}");
        }
        lookups.fetch_add(2 * regions.len() as u64, Ordering::Relaxed);
        turn += 1;
        if turn.is_multiple_of(64) {
            view.offline();
            std::thread::yield_now();
            view.online();
        } else {
            view.quiescent();
        }
        if last {
            return;
        }
    }
}

fn run<A: Address>(
    regions: Vec<Region<A>>,
    limits: Limits,
    routes: fn(&mut FibWriter) -> &mut Routes<A>,
    lookup: fn(&FibView, A) -> NextHop,
    batch: fn(&FibView, &[A], &mut [NextHop]),
) {
    let (mut writer, reader) = tailwater_fib::new(limits).unwrap();
    let (done, lookups) = (AtomicBool::new(false), AtomicU64::new(0));
    // From its first version on, a region no longer follows the default route, which is another region's.
    regions.iter().for_each(|region| region.step(routes(&mut writer)));
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            let view = reader.join().unwrap();
            let (regions, done, lookups) = (&regions, &done, &lookups);
            scope.spawn(move || read(&view, regions, lookup, batch, done, lookups));
        }
        let mut random = Random::new(7);
        let mut left: Vec<&Region<A>> = regions.iter().collect();
        while !left.is_empty() {
            let at = random.below(left.len() as u64) as usize;
            left[at].step(routes(&mut writer));
            if left[at].made.load(Ordering::Relaxed) == VERSIONS {
                left.swap_remove(at);
            }
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!(lookups.load(Ordering::Relaxed) > 0);
    assert_eq!(routes(&mut writer).reclaim(), 0, "all readers are gone, nothing waits");
}

/// Room for about a hundred nodes, so that reuse is constant.
const NODES_BYTES_MAX: usize = 16 << 10;

#[test]
fn an_ipv4_lookup_during_changes_finds_the_old_next_hop_or_the_new() {
    let mut random = Random::new(1);
    let regions = (0..REGIONS)
        .map(|index| {
            let probe = 0x0a00_0000 + ((index as u32) << 20) + 0x0003_a155;
            let lens: &[u8] = if index == 0 { &[0, 12, 30] } else { &[13, 16, 22, 25, 27, 31, 32] };
            Region::new(index, probe, lens, &mut random)
        })
        .collect();
    let limits = Limits { nodes4_bytes_max: NODES_BYTES_MAX, ..Limits::default() };
    run(regions, limits, |writer| &mut writer.v4, FibView::lookup4, FibView::lookup4_batch);
}

#[test]
fn an_ipv6_lookup_during_changes_finds_the_old_next_hop_or_the_new() {
    let mut random = Random::new(2);
    let regions = (0..REGIONS)
        .map(|index| {
            let probe = (0x2001_0db8u128 << 96) + ((index as u128) << 100) + 0x1234_5678_9abc_def0;
            let lens: &[u8] = if index == 0 { &[0, 28, 48] } else { &[28, 32, 36, 44, 48, 56, 64, 128] };
            Region::new(index, probe, lens, &mut random)
        })
        .collect();
    let limits = Limits { nodes6_bytes_max: 8 * NODES_BYTES_MAX, ..Limits::default() };
    run(regions, limits, |writer| &mut writer.v6, FibView::lookup6, FibView::lookup6_batch);
}
