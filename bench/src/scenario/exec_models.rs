//! LANA's table (2011) for our ways to run: the same forwarder where and how it can be executed, smallest frames.

use anyhow::Result;

use crate::contender::EXEC_MODELS;
use crate::report::{Better, Measure};
use crate::scenario::Session;
use crate::scenario::forwarding::{self, FULL_LOAD, NO_LOAD, size_column};

const FRAME_BYTES: u16 = 60;

pub(super) fn run(session: &mut Session<'_>) -> Result<()> {
    let measure = |name: &str, title: &str, load: Option<&str>, unit: &str, value: &str| Measure {
        name: name.into(),
        title: title.into(),
        unit: unit.into(),
        better: if unit == "Mpps" { Better::Higher } else { Better::Lower },
        reference: "kernel".into(),
        columns: vec![size_column(FRAME_BYTES)],
        load: load.map(str::to_owned),
        value: value.into(),
    };
    session.measure(measure("best", "Packet rate at the best of the offered loads", None, "Mpps", "mpps"));
    session.measure(measure("overload", "Packet rate under full overload", Some(FULL_LOAD), "Mpps", "mpps"));
    let cpu = "router_cpu_ns_per_packet";
    session.measure(measure("cpu", "Time of the forwarding core for a delivered packet", None, "ns", cpu));
    let calls = "packets_per_system_call";
    session.measure(Measure {
        better: Better::Higher,
        ..measure("calls", "Packets for a system call of the worker, full overload", Some(FULL_LOAD), "packets", calls)
    });
    let idle = "idle_cpu_percent";
    session.measure(measure("idle", "CPU of the process while nothing is sent", Some(NO_LOAD), "% of a CPU", idle));
    forwarding::notes(session);
    session.note(
        "Packets for a system call are packets received and packets sent, together, for each system call of the worker. These and idle CPU are not \
         told of what has no worker of ours.",
    );
    forwarding::run(session, EXEC_MODELS, &[FRAME_BYTES])
}
