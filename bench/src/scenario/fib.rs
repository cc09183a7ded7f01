//! The forwarding table's lookup beside DPDK's: the same routes, the same addresses, in bursts of 64, each address once.

use std::fs::File;
use std::path::PathBuf;
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

const FIB: &str = "dpdk-fib";
const OURS: &str = "tailwater-fib";
/// DPDK's IPv6 table takes 512 MiB, its two IPv4 tables less.
const MEMORY_MIB: &str = "1400";
const HUGE_PAGES: u64 = 768;
const DEADLINE: Duration = Duration::from_secs(180);

const ROWS: [(&str, &str); 2] =
    [(FIB, "DPDK rte_fib (dir24_8, trie), by dpdk-test-fib"), (OURS, "tailwater-fib, batched lookup")];

pub(crate) fn names() -> Vec<(String, String)> {
    ROWS.iter().map(|(name, about)| ((*name).to_owned(), (*about).to_owned())).collect()
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
        reference: FIB.into(),
        columns: Family::value_variants().iter().map(|family| family.column().to_owned()).collect(),
        load: None,
        value: "cycles".into(),
    });
    session.note(
        "4 M addresses, each somewhere in a route drawn at random, looked up once without warming up, 64 a call. DPDK's \
         program counts the calls alone, our figure the loop around them too.",
    );
    let test_fib = host::find_program("dpdk-test-fib");
    for (name, about) in ROWS.into_iter().filter(|(name, _)| session.wants(name)).collect::<Vec<_>>() {
        let missing = name != OURS && test_fib.is_none();
        session.add_row(
            name,
            about,
            "CPU 0",
            missing.then(|| "dpdk-test-fib is not installed (ci/setup --bench)".into()),
        );
    }
    let dpdk = session.is_present(FIB);
    let _pages = HugePages::reserve(HUGE_PAGES).ok();
    let families = Family::value_variants();
    let steps = usize::from(dpdk) + usize::from(session.is_present(OURS));
    session.plan((session.options.runs as usize * families.len() * steps) as u64);
    let files = if dpdk { Some(Files::write()?) } else { None };
    for run in 1..=session.options.runs {
        for &family in families {
            if let (Some(files), Some(path)) = (&files, &test_fib)
                && session.is_present(FIB)
                && let Err(error) = theirs(session, run, family, path, files)
            {
                session.failed(FIB, error)?;
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

fn theirs(session: &mut Session<'_>, run: u32, family: Family, path: &std::path::Path, files: &Files) -> Result<()> {
    let quiet = session.wait_until_quiet()?;
    let program = environment(Program::new(path), &[0], MEMORY_MIB).arg("--");
    let [routes, addresses] = files.paths(family);
    let program = program.arg("-f").arg(routes).arg("-t").arg(addresses);
    let program = match family {
        Family::Ip4 => program.args(["-g", "65535"]),
        Family::Ip6 => program.args(["-6", "-g", "400000"]),
    };
    host::top_up_huge_pages(HUGE_PAGES)?;
    let output = program.run(DEADLINE)?;
    interrupt::check()?;
    let cycles = value_of(&output, "AVG FIB lookup").context("dpdk-test-fib printed no lookup time")?;
    session.commands(FIB, &[program.display_short()]);
    session.sample(FIB, family.column(), "", run, quiet, &[("cycles", cycles)]);
    session.step(&format!("run {run} {FIB}, {}: {cycles:.1} cycles", family.column()));
    Ok(())
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
