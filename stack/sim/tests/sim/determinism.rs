use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tailwater_sim::{LinkConfig, LossModel, Simulation, report, seeds};
use tailwater_stack::Instant;
use tailwater_stack::tcp::ConnectionOptions;

use crate::networks::{assert_conserved, busy, ms, stream};
use crate::tcp::bulk;

fn digest(mut simulation: Simulation) -> u64 {
    simulation.run_for(Duration::from_secs(4)).unwrap();
    simulation.digest()
}

#[test]
fn the_same_seed_is_the_same_run() {
    assert_eq!(digest(busy(1)), digest(busy(1)));
}

#[test]
fn another_seed_is_another_run() {
    let digests: Vec<u64> = (1..=4).map(|seed| digest(busy(seed))).collect();
    let mut distinct = digests.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), digests.len());
}

#[test]
fn stopping_in_between_changes_nothing() {
    let mut steps = busy(2);
    for step in 0..4_000 {
        steps.run_until(Instant::from_millis(step)).unwrap();
    }
    steps.run_until(Instant::from_millis(4_000)).unwrap();
    assert_eq!(steps.digest(), digest(busy(2)));
}

#[test]
fn watching_changes_nothing() {
    let folder = std::env::temp_dir().join(format!("tailwater-sim-watch-{}", std::process::id()));
    let mut watched = busy(3);
    seeds::capture_all(&folder, &mut watched).unwrap();
    let watched = digest(watched);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(watched, digest(busy(3)));
}

#[test]
fn every_frame_ends_once() {
    for seed in 1..=5 {
        let mut simulation = busy(seed);
        simulation.run_for(ms(1_500)).unwrap();
        assert_conserved(&simulation);
        assert!(simulation.frames_in_transit() > 0);
        // Afterwards every flow has ended, and only the stacks hold frames, for neighbours that never came.
        simulation.run_for(Duration::from_secs(60)).unwrap();
        assert_conserved(&simulation);
        assert_eq!(simulation.frames_in_use(), 0, "seed {seed}");
    }
}

#[test]
fn every_stacks_ledger_is_balanced() {
    let mut simulation = busy(6);
    simulation.run_for(ms(2_500)).unwrap();
    let hosts = simulation.links().filter_map(|link| simulation.link_ends(link)).flatten();
    for node in hosts.collect::<Vec<_>>() {
        if let Some(stack) = simulation.stack(node) {
            assert!(stack.ledger().is_balanced(stack.held()), "{}", simulation.name(node));
        }
    }
}

/// Pairs that have nothing to do with each other, with streams and losses.
fn pairs() -> Simulation {
    let mut simulation = Simulation::new(3);
    let link = LinkConfig {
        rate_bps: 20_000_000,
        delay: ms(3),
        jitter: ms(1),
        loss: LossModel::bursts(0.01, 2.0),
        ..LinkConfig::default()
    };
    for n in 0..12 {
        let (a, b) = (simulation.add_host(format!("a{n}")), simulation.add_host(format!("b{n}")));
        let [own, other] = [1, 2].map(|host| format!("10.0.{n}.{host}/24"));
        simulation.connect((a, &*own), (b, &*other), link).unwrap();
        bulk(&mut simulation, &format!("{n}"), [a, b], &format!("10.0.{n}.2:7000"), None, ConnectionOptions::default());
        stream(&mut simulation, b, a, &format!("10.0.{n}.1:7001"), 2_000_000, 3);
    }
    simulation
}

/// A file in memory, of which both ends are kept.
#[derive(Clone, Default)]
struct File(Arc<Mutex<Vec<u8>>>);

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn any_number_of_threads_makes_the_same_run() {
    let run = |threads, step_ms: u64| {
        let mut simulation = pairs();
        simulation.set_threads(threads);
        let files: Vec<File> = simulation.links().map(|_| File::default()).collect();
        for (link, file) in simulation.links().collect::<Vec<_>>().into_iter().zip(&files) {
            let [a, _] = simulation.link_ends(link).unwrap();
            simulation.capture(link, a, file.clone()).unwrap();
        }
        (1..=2_000 / step_ms).for_each(|step| simulation.run_until(Instant::from_millis(step * step_ms)).unwrap());
        simulation.finish_captures().unwrap();
        let files: Vec<Vec<u8>> = files.iter().map(|file| file.0.lock().unwrap().clone()).collect();
        (format!("{:?}", report::report(&simulation)), simulation.counters(), simulation.frames_in_use(), files)
    };
    let one = run(1, 2_000);
    assert!(one.3.iter().all(|file| file.len() > 100_000));
    for (threads, step_ms) in [(2, 2_000), (3, 2_000), (100, 2_000), (1, 10), (2, 10)] {
        assert!(one == run(threads, step_ms), "{threads} threads, in steps of {step_ms} ms");
    }
}

#[test]
fn watching_changes_nothing_in_what_runs_beside_each_other() {
    let mut watched = pairs();
    let link = watched.links().nth(7).unwrap();
    let [node, _] = watched.link_ends(link).unwrap();
    watched.capture(link, node, std::io::sink()).unwrap();
    assert_eq!(digest(pairs()), digest(watched));
}
