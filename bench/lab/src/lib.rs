//! Throw-away networks for tests and benchmarks: Linux network namespaces joined by veth pairs, and the programs in them.
//!
//! ```text
//!   pair     client                            dut
//!            c0 10.1.0.2 --------------- d0 10.1.0.1
//!
//!   router   gen                               dut                               sink
//!            g0 10.1.0.2 --------------- d0 10.1.0.1 | d1 10.2.0.1 --------------- s0 10.2.0.2
//!
//!   line     gen                 near                 wire                 far                 sink
//!            g0 10.1.0.2 --- d0 10.1.0.1 | d1 10.3.0.1 --- w0 = w1 --- e0 10.3.0.2 | e1 10.2.0.1 --- s0 10.2.0.2
//! ```
//!
//! The IPv6 addresses are those with `fd00:N::` for `10.N.0.`; the MAC addresses are
//! `02:00:00:00:NN:HH` with the subnet and the host.  "dut" is the device under test.
//!
//! * [`Lab`] builds one of these and takes it down when dropped, also when a test panics.  What a killed process left
//!   behind is removed by the next lab (and by [`sweep()`]): the names carry the owner's process id.
//! * [`Namespace`] runs programs, reads counters and runs closures inside.
//! * [`Program`] is a command line to be run there: pinned, with a deadline, in the foreground or as a [`Process`].
//! * [`Process`] ends with its value: SIGTERM, then SIGKILL.
//!
//! Needs root (`CAP_SYS_ADMIN`, `CAP_NET_ADMIN`) and says so when it is missing: a privileged test must fail, not skip.
//! Nothing outside the new namespaces is touched.
//!
//! ```no_run
//! use std::time::Duration;
//! use tailwater_lab::Lab;
//!
//! let lab = Lab::router(1, 1500)?;
//! let server = lab.sink().program("socat").args(["-u", "UDP-LISTEN:9", "-"]).spawn()?;
//! lab.gen_side().program("ping").args(["-c1", "10.2.0.2"]).run(Duration::from_secs(5))?;
//! assert!(lab.sink().counters("s0")?.rx_packets > 0);
//! server.stop();
//! # Ok::<(), tailwater_lab::LabError>(())
//! ```

mod cpu;
mod error;
mod namespace;
mod process;
mod program;
mod sweep;
mod topology;

pub use cpu::{CpuTimes, pin_process, pin_thread};
pub use error::LabError;
pub use namespace::{LinkCounters, Namespace};
pub use process::{Finished, Process};
pub use program::Program;
pub use sweep::sweep;
pub use topology::{Lab, LabConfig, Topology};
