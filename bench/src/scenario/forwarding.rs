//! Running forwarders in turns: for each size and run every contender once, at every offered load.

use std::time::Duration;

use anyhow::Result;

use crate::contender::{Contender, Receive, Sink};
use crate::forwarder::HUGE_PAGES;
use crate::host::HugePages;
use crate::scenario::Session;
use crate::testbed::{Forwarded, Testbed};
use crate::tools::Traffic;

/// Column title of a frame length: the length on a wire, with the four bytes of the frame check sequence.
pub(super) fn size_column(frame_bytes: u16) -> String {
    format!("{} B", frame_bytes + 4)
}

pub(super) fn load_name(delay: u32) -> String {
    if delay == 0 { FULL_LOAD.to_owned() } else { format!("delay {delay}") }
}

/// The load at which the generator offers all it can.
pub(super) const FULL_LOAD: &str = "full";
/// No packet is sent.
pub(super) const NO_LOAD: &str = "none";
const IDLE: Duration = Duration::from_millis(500);

pub(super) fn names(contenders: &[Contender]) -> Vec<(String, String)> {
    contenders.iter().map(|contender| (contender.name.to_owned(), contender.about.to_owned())).collect()
}

fn setting(contender: &Contender) -> String {
    let receive = match contender.receive {
        Receive::DutCore => "receive work in a NAPI thread on its own core (CPU 0)",
        Receive::GeneratorCore => "receive work in a softirq on the generator's core (CPU 1)",
    };
    let sink = match contender.sink {
        Sink::XdpDrop => "sink XDP_DROP",
        Sink::ForeignMac => "sink plain, frames to a foreign MAC address dropped in ip_rcv",
    };
    let check = if contender.device.routes() { "TTL, checksum and MAC addresses checked" } else { "frames unchanged" };
    format!("{receive}; {sink}; {check}")
}

/// Runs these contenders over these sizes.
pub(super) fn run(session: &mut Session<'_>, contenders: &[Contender], sizes: &[u16]) -> Result<()> {
    let options = session.options;
    for contender in contenders.iter().filter(|contender| session.wants(contender.name)).collect::<Vec<_>>() {
        let absent = options.binaries.absent(contender.device);
        session.add_row(contender.name, contender.about, &setting(contender), absent);
    }
    // DPDK needs them and we take them where there are any. Without the right to reserve them, DPDK says so itself.
    let _pages = HugePages::reserve(HUGE_PAGES).ok();
    let present = contenders.iter().filter(|contender| session.is_present(contender.name)).count();
    session.plan((sizes.len() * options.runs as usize * present * options.delays.len()) as u64);
    for &size in sizes {
        for run in 1..=options.runs {
            for contender in contenders {
                if session.is_present(contender.name)
                    && let Err(error) = turn(session, contender, size, run)
                {
                    session.failed(contender.name, error)?;
                }
            }
        }
    }
    Ok(())
}

/// One contender's turn: a fresh network, then every load.
fn turn(session: &mut Session<'_>, contender: &Contender, frame_bytes: u16, run: u32) -> Result<()> {
    let quiet = session.wait_until_quiet()?;
    let mut testbed = Testbed::start(contender, &session.options.binaries)?;
    session.commands(contender.name, testbed.commands());
    let column = size_column(frame_bytes);
    if let Some(share) = testbed.idle_cpu(IDLE)? {
        session.sample(contender.name, &column, NO_LOAD, run, quiet, &[("idle_cpu_percent", share * 100.0)]);
    }
    for &delay in &session.options.delays {
        let traffic = Traffic { frame_bytes, delay, secs: session.options.secs };
        let forwarded = testbed.measure(traffic)?;
        session.sample(contender.name, &column, &load_name(delay), run, quiet, &values(&forwarded));
        let mpps = forwarded.delivered_pps / 1e6;
        let offered = forwarded.offered_pps / 1e6;
        session.step(&format!("{column} run {run} {}: {mpps:.3} of {offered:.2} Mpps", contender.name));
    }
    Ok(())
}

/// Everything that is kept of a run.
fn values(forwarded: &Forwarded) -> Vec<(&'static str, f64)> {
    let cpus_busy = forwarded.router_cpu_busy + forwarded.generator_cpu_busy;
    let pps = forwarded.delivered_pps.max(1.0);
    let mut values = vec![
        ("mpps", forwarded.delivered_pps / 1e6),
        ("offered_mpps", forwarded.offered_pps / 1e6),
        ("accepted_mpps", forwarded.accepted_pps / 1e6),
        ("router_cpu_busy", forwarded.router_cpu_busy),
        ("generator_cpu_busy", forwarded.generator_cpu_busy),
        ("router_cpu_ns_per_packet", forwarded.router_cpu_busy * 1e9 / pps),
        ("both_cpus_ns_per_packet", cpus_busy * 1e9 / pps),
    ];
    values.extend(forwarded.packets_per_system_call.map(|packets| ("packets_per_system_call", packets)));
    values
}

/// What must be known to read any of these tables.
pub(super) fn notes(session: &mut Session<'_>) {
    let notes = [
        "Generator on CPU 1 (XDP live frames, UDP, each to a random one of 2^20 addresses), forwarder on CPU 0, with a /24 route for each of the 4096 prefixes they lie in. Every forwarder \
         was seen to forward to the right MAC address with the TTL decreased before it was measured, except those marked \
         \"frames unchanged\", which do less; the kernel's own forwarding counter was watched, so that it did not help.",
        "On a veth, receiving is paid by whoever sends unless a NAPI thread does it. Rows differ in this: compare within \
         the same placement, which \"What was run\" names for each row. Generator rows whose receive work runs on the \
         generator's core get it for nothing, and slow the generator instead.",
        "Sinks: XDP_DROP for what the kernel or XDP sends, plain for AF_XDP sockets, whose frames an XDP sink would make \
         the kernel copy once more on the forwarder's CPU.",
        "\"kernel-plain\" has the AF_XDP rows' sink.",
        "Generic transmit of AF_XDP sockets on veth: no zero-copy, one socket buffer and one copy a frame, for us and DPDK.",
        "Sizes are lengths on a wire (with the 4 bytes of FCS that a veth does not carry). Transmit checksum off-load is \
         off on g0 and s0; IPv6 is off.",
    ];
    for note in notes {
        session.note(note);
    }
}
