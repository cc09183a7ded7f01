//! L3 forwarding over packet sizes, against the kernel, DPDK and XDP.

use anyhow::Result;

use crate::contender::L3FWD;
use crate::report::{Better, Measure};
use crate::scenario::Session;
use crate::scenario::forwarding::{self, FULL_LOAD, size_column};

pub(super) fn run(session: &mut Session<'_>) -> Result<()> {
    let columns: Vec<String> = session.options.sizes.iter().map(|&size| size_column(size)).collect();
    let measure = |name: &str, title: &str, load: Option<&str>| Measure {
        name: name.into(),
        title: title.into(),
        unit: "Mpps".into(),
        better: Better::Higher,
        reference: "kernel".into(),
        columns: columns.clone(),
        load: load.map(str::to_owned),
        value: "mpps".into(),
    };
    session.measure(measure("best", "Packet rate at the best of the offered loads", None));
    session.measure(measure("overload", "Packet rate under full overload", Some(FULL_LOAD)));
    session.measure(Measure {
        unit: "ns".into(),
        better: Better::Lower,
        value: "both_cpus_ns_per_packet".into(),
        ..measure("cpu", "Time of both CPUs for a delivered packet, generator included", None)
    });
    forwarding::notes(session);
    forwarding::run(session, L3FWD, &session.options.sizes)
}
