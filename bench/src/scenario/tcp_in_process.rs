//! TCP with no kernel in it: two hosts of one process on one thread, ours over memory ports beside smoltcp's over queues of
//! frames. `tailwater_bench::tcp_in_process` says what each side does.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::interrupt;
use crate::report::{Better, Measure};
use crate::scenario::Session;
use crate::testbed::ROUTER_CPU;
use crate::tools;
use tailwater_bench::tcp_in_process::{BUFFER_OF_MANY, Exchange, Found, Load, MESSAGE, StackKind, WRITE};

const START: Duration = Duration::from_secs(60);
const CONTENDERS: [(&str, &str, StackKind); 2] = [
    ("smoltcp", "smoltcp, its sockets called directly", StackKind::Smoltcp),
    ("tailwater", "ours, with ports, worker, packet graph and a service's callbacks", StackKind::Ours),
];

/// What the client does.
struct Column {
    name: &'static str,
    exchange: Exchange,
}

const fn column(name: &'static str, load: Load, mtu: usize, connections: usize) -> Column {
    Column { name, exchange: Exchange { load, mtu, connections } }
}

const COLUMNS: [Column; 5] = [
    column("MTU 1500", Load::Bulk, 1500, 1),
    column("MTU 9000", Load::Bulk, 9000, 1),
    column("1 connection", Load::Requests, 1500, 1),
    column("64 connections", Load::Requests, 1500, 64),
    column("1000 connections", Load::Requests, 1500, 1000),
];

pub(super) fn names() -> Vec<(String, String)> {
    CONTENDERS.iter().map(|(name, about, _)| ((*name).to_owned(), (*about).to_owned())).collect()
}

pub(super) fn run(session: &mut Session<'_>) -> Result<()> {
    measures(session);
    notes(session);
    for (name, about, _) in CONTENDERS.into_iter().filter(|(name, ..)| session.wants(name)).collect::<Vec<_>>() {
        session.add_row(name, about, "client and server on one thread, CPU 0", None);
    }
    let present = CONTENDERS.iter().filter(|(name, ..)| session.is_present(name)).count();
    session.plan((present * COLUMNS.len() * session.options.runs as usize) as u64);
    for run in 1..=session.options.runs {
        for column in &COLUMNS {
            for (name, _, stack) in CONTENDERS {
                if session.is_present(name)
                    && let Err(error) = turn(session, name, stack, column, run)
                {
                    session.failed(name, error)?;
                }
            }
        }
    }
    Ok(())
}

fn measures(session: &mut Session<'_>) {
    let [low, high, one, some, many] = COLUMNS.map(|column| column.name.to_owned());
    for (name, title, unit, columns, value) in [
        ("bulk", "One way, as much as goes", "Gbit/s", vec![low, high], "gbps"),
        ("requests", "Requests and responses", "k/s", vec![one, some, many], "k_per_second"),
    ] {
        session.measure(Measure {
            name: name.into(),
            title: title.into(),
            unit: unit.into(),
            better: Better::Higher,
            reference: CONTENDERS[0].0.into(),
            columns,
            load: None,
            value: value.into(),
        });
    }
}

fn notes(session: &mut Session<'_>) {
    session.note(
        "Both write and verify checksums, keep 256 KiB each way, write 64 KiB at once and have Nagle's algorithm off. Ours \
         has timestamps, SACK and CUBIC, and copies once; smoltcp has none of these, and copies three times, as its \
         interface asks for.",
    );
    session.note(&format!(
        "Of many connections each has a request on its way at any time, and buffers of {} KiB. smoltcp looks for a packet's socket \
         from the first on and for what there is to send at all of them, and its sockets are asked one by one; our stack finds a \
         packet's connection by its flow, and tells which have something to read.",
        BUFFER_OF_MANY >> 10
    ));
    session.note(&format!(
        "Requests and responses have {MESSAGE} bytes; writes have {} KiB. tcp-in-process-profile.md has where the time goes.",
        WRITE >> 10
    ));
}

fn turn(session: &mut Session<'_>, name: &str, stack: StackKind, column: &Column, run: u32) -> Result<()> {
    let quiet = session.wait_until_quiet()?;
    let secs = session.options.secs;
    let program = tools::tcp_in_process(stack, &column.exchange, secs)?.cpu(ROUTER_CPU);
    let printed = program.run(Duration::from_secs_f64(secs) + START)?;
    interrupt::check()?;
    session.commands(name, &[program.display_short()]);
    let found: Found = serde_json::from_str(printed.trim()).context("reading what the transfer printed")?;
    let (values, told) = match column.exchange.load {
        Load::Bulk => (vec![("gbps", found.per_second() * 8.0 / 1e9)], "Gbit/s"),
        Load::Requests => {
            let each_ns = 1e9 / found.per_second();
            (vec![("k_per_second", found.per_second() / 1e3), ("ns_per_round_trip", each_ns)], "k/s")
        }
    };
    session.sample(name, column.name, "", run, quiet, &values);
    let value = values.first().map_or(0.0, |(_, value)| *value);
    session.step(&format!("run {run} {name}, {}: {value:.1} {told}", column.name));
    Ok(())
}
