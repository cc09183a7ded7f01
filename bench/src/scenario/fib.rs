//! The forwarding table's lookup beside DPDK's: the same routes, the same addresses, in bursts of 64, each address once.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use tailwater_lab::Program;

use crate::forwarder::environment;
use crate::host::{self, HugePages};
use crate::interrupt;
use crate::lookup::{self, Family, Lookups};
use crate::report::{Better, Measure};
use crate::scenario::Session;
use crate::testbed::ROUTER_CPU;
use crate::tools;

const OURS: &str = "tailwater-fib";

/// A way to run DPDK's program.
struct Theirs {
    name: &'static str,
    about: &'static str,
    /// For DPDK itself.
    environment: &'static [&'static str],
    /// For the program, by family; none where it cannot hold the table.
    options4: &'static [&'static str],
    options6: Option<&'static [&'static str]>,
}

/// The first as it comes: by C code, in entries of four bytes. Then what makes one family or the other faster.
const THEIRS: [Theirs; 3] = [
    Theirs {
        name: "dpdk-fib",
        about: "DPDK rte_fib (dir24_8, trie), by dpdk-test-fib",
        environment: &[],
        options4: &["-g", "65535"],
        options6: Some(&["-6", "-g", "400000"]),
    },
    Theirs {
        name: "dpdk-fib-avx512",
        about: "the same with its AVX-512 lookup, which it uses only if told that it may",
        environment: &["--force-max-simd-bitwidth=512"],
        options4: &["-g", "65535"],
        options6: Some(&["-6", "-g", "400000"]),
    },
    Theirs {
        name: "dpdk-fib-2-bytes",
        about: "the same in entries of two bytes: next hops up to 32767, and too few blocks for these IPv6 routes",
        environment: &[],
        options4: &["-g", "32767", "-e", "2"],
        options6: None,
    },
];
/// DPDK's IPv6 table takes 512 MiB, its two IPv4 tables less.
const MEMORY_MIB: &str = "1400";
const HUGE_PAGES: u64 = 768;
const DEADLINE: Duration = Duration::from_secs(180);

fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    let theirs = THEIRS.iter().map(|theirs| (theirs.name, theirs.about));
    theirs.chain([(OURS, "tailwater-fib, batched lookup, next hops of 24 bits")])
}

pub(crate) fn names() -> Vec<(String, String)> {
    rows().map(|(name, about)| (name.to_owned(), about.to_owned())).collect()
}

/// Routes and addresses as files, removed with this.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn write() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("tailwater-bench-fib-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let files = Self { folder };
        for family in Family::value_variants() {
            interrupt::check()?;
            let [routes, addresses] = files.paths(*family).map(File::create);
            lookup::write_files(*family, routes?, addresses?)?;
        }
        Ok(files)
    }

    fn paths(&self, family: Family) -> [PathBuf; 2] {
        ["routes", "addresses"].map(|what| self.folder.join(format!("{what}-{family:?}")))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn run(session: &mut Session<'_>) -> Result<()> {
    session.measure(Measure {
        name: "lookup".into(),
        title: "Longest prefix match, one address".into(),
        unit: "cycles of the time stamp counter".into(),
        better: Better::Lower,
        reference: THEIRS[0].name.into(),
        columns: Family::value_variants().iter().map(|family| family.column().to_owned()).collect(),
        load: None,
        value: "cycles".into(),
    });
    session.note(
        "4 M addresses, each somewhere in a route drawn at random, looked up once without warming up, 64 a call. Both count \
         the calls alone, between a full memory barrier and a clock reading each.",
    );
    let test_fib = host::find_program("dpdk-test-fib");
    for (name, about) in rows().filter(|(name, _)| session.wants(name)).collect::<Vec<_>>() {
        let missing = name != OURS && test_fib.is_none();
        session.add_row(
            name,
            about,
            "CPU 0",
            missing.then(|| "dpdk-test-fib is not installed (ci/setup --bench)".into()),
        );
    }
    let _pages = HugePages::reserve(HUGE_PAGES).ok();
    let families = Family::value_variants();
    let theirs: Vec<&Theirs> = THEIRS.iter().filter(|theirs| session.is_present(theirs.name)).collect();
    let steps = |family: Family| {
        let able = theirs.iter().filter(|theirs| theirs.options(family).is_some()).count();
        able + usize::from(session.is_present(OURS))
    };
    let steps: usize = families.iter().map(|family| steps(*family)).sum();
    session.plan((session.options.runs as usize * steps) as u64);
    let files = if theirs.is_empty() { None } else { Some(Files::write()?) };
    for run in 1..=session.options.runs {
        for &family in families {
            if let (Some(files), Some(path)) = (&files, &test_fib) {
                for way in &theirs {
                    if let Err(error) = way.look_up(session, run, family, path, files) {
                        session.failed(way.name, error)?;
                    }
                }
            }
            if session.is_present(OURS)
                && let Err(error) = ours(session, run, family)
            {
                session.failed(OURS, error)?;
            }
        }
    }
    Ok(())
}

impl Theirs {
    fn options(&self, family: Family) -> Option<&'static [&'static str]> {
        match family {
            Family::Ip4 => Some(self.options4),
            Family::Ip6 => self.options6,
        }
    }

    fn look_up(&self, session: &mut Session<'_>, run: u32, family: Family, path: &Path, files: &Files) -> Result<()> {
        let Some(options) = self.options(family) else { return Ok(()) };
        let quiet = session.wait_until_quiet()?;
        let program = environment(Program::new(path), &[0], MEMORY_MIB).args(self.environment).arg("--");
        let [routes, addresses] = files.paths(family);
        let program = program.arg("-f").arg(routes).arg("-t").arg(addresses).args(options);
        host::top_up_huge_pages(HUGE_PAGES)?;
        let output = program.run(DEADLINE)?;
        interrupt::check()?;
        let cycles = value_of(&output, "AVG FIB lookup").context("dpdk-test-fib printed no lookup time")?;
        session.commands(self.name, &[program.display_short()]);
        session.sample(self.name, family.column(), "", run, quiet, &[("cycles", cycles)]);
        session.step(&format!("run {run} {}, {}: {cycles:.1} cycles", self.name, family.column()));
        Ok(())
    }
}

/// The number after `key` at the beginning of a line.
fn value_of(output: &str, key: &str) -> Option<f64> {
    output.lines().find_map(|line| line.strip_prefix(key))?.trim().parse().ok()
}

fn ours(session: &mut Session<'_>, run: u32, family: Family) -> Result<()> {
    let quiet = session.wait_until_quiet()?;
    let program = tools::look_up(family)?.cpu(ROUTER_CPU);
    let output = program.run(DEADLINE)?;
    interrupt::check()?;
    let found: Lookups = serde_json::from_str(output.trim()).context("reading what our lookup printed")?;
    session.commands(OURS, &[program.display_short()]);
    let values = [("cycles", found.cycles), ("ns", found.ns), ("build_secs", found.build_secs)];
    session.sample(OURS, family.column(), "", run, quiet, &values);
    session.step(&format!("run {run} {OURS}, {}: {:.1} cycles", family.column(), found.cycles));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::value_of;

    #[test]
    fn value_is_read_from_its_own_line() {
        let output = "AVG FIB add 12\nAVG FIB lookup 23.5\nAVG LPM lookup 40.1\n";
        assert_eq!(value_of(output, "AVG FIB lookup"), Some(23.5));
        assert_eq!(value_of(output, "AVG LPM lookup"), Some(40.1));
        assert_eq!(value_of(output, "AVG RIB lookup"), None);
    }
}
