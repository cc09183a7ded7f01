//! A property over many seeds.
//!
//! ```no_run
//! use tailwater_sim::{Simulation, seeds};
//!
//! seeds::check(
//!     "nothing happens",
//!     200, // seeds, unless TAILWATER_SEEDS says otherwise; TAILWATER_SEED runs a single one
//!     |seed| Simulation::new(seed),
//!     |simulation| if simulation.counters().frames == 0 { Ok(()) } else { Err("a frame".into()) },
//! );
//! ```
//!
//! A seed that fails is run again with a capture at both ends of every link: the run is the same, bit for bit.

use std::fs::File;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::simulation::Simulation;

/// A seed for which the property does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub seed: u64,
    pub message: String,
}

/// Runs `property` on what `build` makes of seeds 1 to `count`, or as the environment says: `TAILWATER_SEEDS=10000` for a
/// long run, `TAILWATER_SEEDS=2001..4000` for a part of one, `TAILWATER_SEED=17` for one seed. Panics with the seed that
/// failed, by an error or a panic, and the folder of its captures.
#[allow(clippy::panic, reason = "it is what a test calls")]
pub fn check(
    name: &str,
    count: u64,
    build: impl Fn(u64) -> Simulation + Sync,
    property: impl Fn(&mut Simulation) -> Result<(), String> + Sync,
) {
    let variable = |name: &str| std::env::var(name).ok();
    let seeds = wanted(variable("TAILWATER_SEED").as_deref(), variable("TAILWATER_SEEDS").as_deref(), count);
    let seeds = seeds.unwrap_or_else(|error| panic!("{name}: {error}"));
    if let Err(Failure { seed, message }) = try_all(seeds, &build, &property) {
        let folder = std::env::temp_dir().join(format!("tailwater-seed-{seed}-{}", std::process::id()));
        let captured = std::panic::catch_unwind(AssertUnwindSafe(|| capture(&folder, build(seed), &property)));
        let captured = match captured {
            Ok(Ok(files)) => format!("{} captures in {}", files.len(), folder.display()),
            Ok(Err(error)) => format!("no captures: {error}"),
            Err(_) => "no captures: there is no network to run".to_owned(),
        };
        panic!("{name}: seed {seed}: {message}\nagain: TAILWATER_SEED={seed}; {captured}");
    }
}

/// Which seeds to run: the one, or a number of them, or from one to another.
fn wanted(one: Option<&str>, several: Option<&str>, count: u64) -> Result<Range<u64>, String> {
    let number =
        |text: &str| text.trim().parse().map_err(|_| format!("{text} is no seed: give 17, 10000 or 2001..4000"));
    let (first, last): (u64, u64) = match (one, several.map(|range| (range, range.split_once("..")))) {
        (Some(one), _) => (number(one)?, number(one)?),
        (None, Some((_, Some((first, last))))) => (number(first)?, number(last)?),
        (None, Some((all, None))) => (1, number(all)?),
        (None, None) => (1, count),
    };
    if first > last {
        return Err(format!("from {first} to {last} there is no seed: give 17, 10000 or 2001..4000"));
    }
    Ok(first..last.saturating_add(1))
}

/// Runs the seeds on all cores. The failure is that of the lowest seed that failed before the others were stopped.
pub fn try_all(
    seeds: Range<u64>,
    build: impl Fn(u64) -> Simulation + Sync,
    property: impl Fn(&mut Simulation) -> Result<(), String> + Sync,
) -> Result<(), Failure> {
    let next = AtomicU64::new(seeds.start);
    let failed: Mutex<Option<Failure>> = Mutex::new(None);
    let failure = || failed.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || {
        while failure().is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) {
                break;
            }
            if let Err(message) = held(|| property(&mut build(seed))) {
                let mut known = failure();
                if known.as_ref().is_none_or(|known| seed < known.seed) {
                    *known = Some(Failure { seed, message });
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let found = failure().take();
    found.map_or(Ok(()), Err)
}

/// What the property says; a panic is a failure like any other.
fn held(property: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    // Nothing of what it worked with is looked at afterwards, but for captures, which every frame leaves whole.
    std::panic::catch_unwind(AssertUnwindSafe(property)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panicked: {}", text.unwrap_or("with no text")))
    })
}

/// Runs `property` once more and writes what every link saw, at both ends, into `folder`.
pub fn capture(
    folder: &Path,
    mut simulation: Simulation,
    property: impl Fn(&mut Simulation) -> Result<(), String>,
) -> std::io::Result<Vec<PathBuf>> {
    let files = capture_all(folder, &mut simulation)?;
    // That it fails is known.
    let _ = held(|| property(&mut simulation));
    simulation.finish_captures()?;
    Ok(files)
}

/// Captures at both ends of every link of a simulation that has not run yet.
pub fn capture_all(folder: &Path, simulation: &mut Simulation) -> std::io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder)?;
    let mut files = Vec::new();
    for link in simulation.links().collect::<Vec<_>>() {
        for node in simulation.link_ends(link).into_iter().flatten() {
            let name = format!("{}-at-{}.pcapng", simulation.link_name(link), simulation.name(node));
            let path = folder.join(name.replace(['/', ' '], "_"));
            simulation.capture(link, node, File::create(&path)?)?;
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::wanted;

    #[test]
    fn seeds_are_one_or_many_or_a_part_and_nothing_else() {
        assert_eq!(wanted(None, None, 200), Ok(1..201));
        assert_eq!(wanted(Some("17"), Some("5"), 200), Ok(17..18));
        assert_eq!(wanted(None, Some("10000"), 200), Ok(1..10_001));
        assert_eq!(wanted(None, Some("2001..4000"), 200), Ok(2_001..4_001));
        for none in ["0", "4000..2001"] {
            assert!(wanted(None, Some(none), 200).is_err_and(|error| error.contains("no seed")), "{none}");
        }
        assert!(wanted(None, Some("many"), 200).is_err_and(|error| error.contains("2001..4000")));
    }
}
