//! A stream over a bad path, from the kernel's sockets and from our stack in turn, to a kernel socket; and one of each at the
//! same time over one bottleneck.
//!
//! ```text
//!   CPU 1: source                    CPU 0: tailwater l3fwd, with impair blocks       CPU 1: sink
//!   g0 10.1.0.2 ---------------- d0: rate, 25 ms, loss, reordering, queue --- d1 ------- s0 10.2.0.2
//!   kernel or ours                     25 ms, all of it <--- acknowledgements            kernel
//! ```

mod path;
mod shares;

use std::thread;

use anyhow::{Context as _, Result, anyhow};

use self::path::{FIRST_AT, OURS, Path};
use crate::contender::{Device, Idle};
use crate::report::{Better, Measure};
use crate::scenario::Session;
use crate::tools::Source;

/// Congestion controls: ours, the kernel's it is measured against, and the measure that they fill.
const CONTROLS: [Control; 4] = [
    Control { name: "cubic", kernels: "cubic", value: "cubic_mbps" },
    Control { name: "reno", kernels: "reno", value: "reno_mbps" },
    Control { name: "bbr", kernels: "bbr", value: "bbr_mbps" },
    Control { name: "bbr3", kernels: "bbr", value: "bbr3_mbps" },
];

struct Control {
    name: &'static str,
    kernels: &'static str,
    value: &'static str,
}

impl Control {
    fn of(&self, source: Source) -> &'static str {
        if matches!(source, Source::Ours { .. }) { self.name } else { self.kernels }
    }
}

/// What the path does besides.
struct Impairment {
    name: &'static str,
    settings: &'static [&'static str],
}

const IMPAIRMENTS: [Impairment; 3] = [
    Impairment { name: "1 % loss", settings: &["loss_percent=1"] },
    Impairment { name: "3 % reordering", settings: &["reorder_percent=3"] },
    Impairment { name: "both", settings: &["loss_percent=1", "reorder_percent=3"] },
];

/// Who sends.
const CONTENDERS: [(&str, &str, Source); 2] = [
    ("kernel", "Linux TCP, kernel to kernel", Source::Kernel),
    ("tailwater", "our TCP in a worker, ours to kernel", OURS),
];

pub(super) fn names() -> Vec<(String, String)> {
    CONTENDERS.iter().map(|(name, about, _)| ((*name).to_owned(), (*about).to_owned())).collect()
}

pub(super) fn run(session: &mut Session<'_>) -> Result<()> {
    measures(session);
    notes(session);
    for (name, about, sender) in CONTENDERS {
        let absent = session.options.binaries.absent(Device::TailwaterUser(Idle::Sleep));
        let absent = absent.or_else(|| (!session.wants(name)).then(|| "not asked for".to_owned()));
        let setting = if sender == OURS { "XDP program on the sender's interface" } else { "no XDP at the sender" };
        session.add_row(name, about, setting, absent);
    }
    let missing = CONTENDERS.iter().find(|(name, ..)| !session.is_present(name));
    shares::add_row(session, missing.map(|(name, ..)| format!("there is no {name} to compare with")));
    let turns = CONTROLS.len() * CONTENDERS.len() + if missing.is_none() { shares::turns() } else { 0 };
    session.plan(u64::from(session.options.runs) * turns as u64);
    for run in 1..=session.options.runs {
        for control in &CONTROLS {
            for (name, _, sender) in CONTENDERS {
                if session.is_present(name)
                    && let Err(error) = alone(session, name, sender, control, run)
                {
                    session.failed(name, error)?;
                }
            }
        }
        if missing.is_none()
            && let Err(error) = shares::run(session, run)
        {
            session.failed(CONTENDERS[1].0, error)?;
        }
    }
    Ok(())
}

fn measures(session: &mut Session<'_>) {
    let mut measure = |name: &str, title: String, columns: Vec<String>, value: &str| {
        session.measure(Measure {
            name: name.into(),
            title,
            unit: "Mbit/s".into(),
            better: Better::Higher,
            reference: CONTENDERS[0].0.into(),
            columns,
            load: None,
            value: value.into(),
        });
    };
    for Control { name, value, .. } in CONTROLS {
        let columns = IMPAIRMENTS.iter().map(|impairment| impairment.name.to_owned()).collect();
        measure(name, format!("Goodput with {name}"), columns, value);
    }
    shares::declare(session);
}

fn notes(session: &mut Session<'_>) {
    let notes = [
        "100 Mbit/s, 25 ms each way, by the impair block of `tailwater l3fwd`; the same seed for both senders of a run. Reordered \
         packets skip the whole 25 ms and so overtake some 200 others. The three columns of a control run at the same time, \
         each in a network of its own.",
        "The receiver is the same kernel socket for every row, and each sender has a send buffer of 4 MiB. The queue holds one bandwidth-delay product, tail drop.",
        "Shares: no loss, no reordering; the senders are two sockets of one host, and the ratio is the second row's to the first's in \
         the same run. Five times the length of a run passes uncounted, then ten times counts. They take turns in beginning first, a \
         moment before the other, which leaves slow start with more; a run of CUBIC, whose flows stay apart for minutes, is the mean \
         of two networks, one for each order.",
        "A kernel socket is paced where the queueing discipline is fq, or where it is asked for; the kernel here has \
         no fq, and CUBIC and Reno do not ask, nor do ours unless told. A paced flow often falls behind one that is not \
         (Aggarwal, Savage, Anderson, INFOCOM 2000). Two flows of one kind may keep the shares that \
         slow start gave them for minutes: the table of two kernel flows has the spread.",
        "The kernel's BBR is version 1, as ours is. `bbr3` is version 3 against the kernel's version 1, which does not yield to \
         losses as version 3 is meant to.",
        "With loss and reordering together a retransmission may overtake what was sent before it. It brings a newer timestamp, so that \
         the receiver refuses the others (PAWS, RFC 7323 section 5.3): these are losses in bursts, above the 2 % at which version 3 \
         of BBR backs off.",
        "Offloads (TSO, GSO, GRO, checksums) are off at sender and receiver, as on a wire.",
    ];
    for note in notes {
        session.note(note);
    }
}

/// One control over each impairment, from one sender.
fn alone(session: &mut Session<'_>, name: &str, sender: Source, control: &Control, run: u32) -> Result<()> {
    let quiet = session.wait_until_quiet()?;
    let secs = session.options.secs;
    let stream = |impairment: &Impairment| {
        let path = Path::build(session, impairment.settings, run)?;
        let source = path.source(FIRST_AT, sender, control.of(sender))?;
        let received = path.drain(&[FIRST_AT], 0.0, secs)?;
        let commands = [path.commands, vec![source.command]].concat();
        received.first().map(|received| (received.mbps(), commands)).context("nothing was received")
    };
    let found = side_by_side(&IMPAIRMENTS, stream)?;
    let mut told = Vec::new();
    for (impairment, (mbps, commands)) in IMPAIRMENTS.iter().zip(found) {
        session.commands(name, &commands);
        session.sample(name, impairment.name, "", run, quiet, &[(control.value, mbps)]);
        told.push(format!("{}: {mbps:.2}", impairment.name));
    }
    session.step(&format!("run {run} {name} {}, Mbit/s: {}", control.name, told.join(", ")));
    Ok(())
}

/// Does `work` for each at the same time.
fn side_by_side<T: Sync, R: Send>(each: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    thread::scope(|scope| {
        let threads: Vec<_> = each.iter().map(|one| scope.spawn(|| work(one))).collect();
        let done =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked"))));
        done.collect()
    })
}
