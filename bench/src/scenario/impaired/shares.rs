//! Two flows over one bottleneck at the same time: ours beside the kernel's, and for comparison the kernel's beside another.

use anyhow::Result;

use super::path::{FIRST_AT, OURS, Path, SECOND_AT};
use super::{CONTENDERS, CONTROLS, Control, side_by_side};
use crate::report::{Better, Measure};
use crate::scenario::Session;
use crate::tools::Source;

/// Two flows take a while to find their shares, with CUBIC several of its epochs of ten seconds: they run so many times as
/// long as a flow alone, ...
const SHARING: f64 = 10.0;
/// ... after this time in which nothing is counted, which evens out who had more when slow start ended.
const SETTLING: f64 = 5.0;
/// The second flow where both are the kernel's.
const SECOND_KERNEL: &str = "kernel-2";

/// Who shares.
struct Pair {
    measure: &'static str,
    title: &'static str,
    value: &'static str,
    /// First the one that the other is divided by.
    rows: [&'static str; 2],
    sources: [Source; 2],
    /// Networks, of which the mean counts, for each of the first of [`CONTROLS`]. Where there are two, each flow begins first in one:
    /// who does keeps more, with CUBIC for minutes.
    copies: &'static [usize],
}

const PAIRS: [Pair; 3] = [
    Pair {
        measure: "share",
        title: "Shares of one bottleneck, one flow of each at the same time",
        value: "share_mbps",
        rows: [CONTENDERS[0].0, CONTENDERS[1].0],
        sources: [Source::Kernel, OURS],
        copies: &[2, 1, 1, 1],
    },
    Pair {
        measure: "share-paced",
        title: "The same where the kernel paces its socket",
        value: "share_paced_mbps",
        rows: [CONTENDERS[0].0, CONTENDERS[1].0],
        sources: [Source::KernelPaced, OURS],
        copies: &[1, 1],
    },
    Pair {
        measure: "share-kernel",
        title: "For comparison: two flows of the kernel",
        value: "share_kernel_mbps",
        rows: [CONTENDERS[0].0, SECOND_KERNEL],
        sources: [Source::Kernel, Source::Kernel],
        copies: &[2, 1],
    },
];

/// Pairs that run at the same time, each in a network of its own. More than two take all of the forwarders' CPU on some
/// machines, which is then the bottleneck.
const TOGETHER: usize = 2;

/// One network of those.
#[derive(Clone, Copy)]
struct Share {
    pair: &'static Pair,
    control: &'static Control,
    copy: usize,
}

pub(super) fn declare(session: &mut Session<'_>) {
    for pair in &PAIRS {
        session.measure(Measure {
            name: pair.measure.into(),
            title: pair.title.into(),
            unit: "Mbit/s".into(),
            better: Better::Higher,
            reference: pair.rows[0].into(),
            columns: pair.controls().map(|(control, _)| control.name.to_owned()).collect(),
            load: None,
            value: pair.value.into(),
        });
    }
}

pub(super) fn add_row(session: &mut Session<'_>, absent: Option<String>) {
    session.add_row(SECOND_KERNEL, "another flow of the kernel beside its first", "shares only", absent);
}

/// How many turns a run has.
pub(super) fn turns() -> usize {
    shares().len().div_ceil(TOGETHER)
}

fn shares() -> Vec<Share> {
    let copies = |pair| move |(control, copies)| (0..copies).map(move |copy| Share { pair, control, copy });
    PAIRS.iter().flat_map(|pair| pair.controls().flat_map(copies(pair))).collect()
}

pub(super) fn run(session: &mut Session<'_>, run: u32) -> Result<()> {
    let mut found: Vec<(Share, [f64; 2])> = Vec::new();
    let mut all_quiet = true;
    for together in shares().chunks(TOGETHER) {
        let quiet = session.wait_until_quiet()?;
        let mbps = side_by_side(together, |share| share.measure(session, run))?;
        found.extend(together.iter().copied().zip(mbps));
        let told = found[found.len() - together.len()..].iter().map(|(Share { pair, control, .. }, mbps)| {
            format!("{} {} {:.1} and {:.1}", pair.measure, control.name, mbps[0], mbps[1])
        });
        let told = told.collect::<Vec<_>>().join(", ");
        all_quiet &= quiet;
        session.step(&format!("run {run} two flows, Mbit/s: {told}"));
    }
    for copies in found.chunk_by(|(a, _), (b, _)| a.names() == b.names()) {
        let Share { pair, control, .. } = copies[0].0;
        for (at, row) in pair.rows.iter().enumerate() {
            let mean = copies.iter().map(|(_, mbps)| mbps[at]).sum::<f64>() / copies.len() as f64;
            session.sample(row, control.name, "", run, all_quiet, &[(pair.value, mean)]);
        }
    }
    Ok(())
}

impl Pair {
    fn controls(&self) -> impl Iterator<Item = (&'static Control, usize)> {
        CONTROLS.iter().zip(self.copies.iter().copied())
    }
}

impl Share {
    fn names(&self) -> [&'static str; 2] {
        [self.pair.measure, self.control.name]
    }

    /// Mbit/s of both.
    fn measure(&self, session: &Session<'_>, run: u32) -> Result<[f64; 2]> {
        let (skip, secs) = (session.options.secs * SETTLING, session.options.secs * SHARING);
        let path = Path::build(session, &[], run)?;
        let [first, second] = self.pair.sources;
        let _first = path.source(FIRST_AT, first, self.control.of(first))?;
        let _second = path.source(SECOND_AT, second, self.control.of(second))?;
        // Who comes first takes turns, too.
        let swapped = (run as usize + self.copy).is_multiple_of(2);
        let order = if swapped { [SECOND_AT, FIRST_AT] } else { [FIRST_AT, SECOND_AT] };
        let received = path.drain(&order, skip, secs)?;
        let mut mbps = [received[0].mbps(), received[1].mbps()];
        if swapped {
            mbps.reverse();
        }
        Ok(mbps)
    }
}
