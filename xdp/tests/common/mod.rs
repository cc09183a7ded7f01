//! A network namespace of its own for each test, and frames to feed the program.
//!
//! ```text
//!   one test thread, one namespace
//!   +-------------------------------------------+
//!   |   twx0 (under test)  <-- veth -->  twx1   |
//!   +-------------------------------------------+
//! ```
//!
//! The namespace has no name: it ends with the thread, whatever happens to the test.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

use rustix::thread::{UnshareFlags, unshare_unsafe};

pub(crate) mod frames;

/// Own end of the veth pair.
pub(crate) const OWN: &str = "twx0";
/// The other end.
pub(crate) const PEER: &str = "twx1";

/// Moves this thread into a fresh network namespace with a veth pair, both ends up.
pub(crate) fn enter_namespace() {
    enter_empty_namespace();
    run(&format!(
        "ip link add {OWN} address 02:00:00:00:00:01 numrxqueues 2 numtxqueues 2 type veth peer name {PEER} address 02:00:00:00:00:02 numrxqueues 2 numtxqueues 2"
    ));
    for name in [OWN, PEER] {
        // No frames of the kernel's own (router solicitations, multicast reports) among those we count.
        run(&format!("ip link set {name} addrgenmode none up"));
    }
}

/// Moves this thread into a fresh network namespace with nothing but loopback.
pub(crate) fn enter_empty_namespace() {
    // SAFETY: changes the namespace of this thread only; no descriptor table is unshared.
    #[allow(unsafe_code)]
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
        .expect("privileged test: needs root (CAP_SYS_ADMIN) to make a network namespace");
    run("ip link set lo up");
}

/// Runs a command line, which must succeed. Answers what it printed.
pub(crate) fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "`{line}`: {err}");
    out.into_owned()
}

/// Index of an interface of this thread's namespace.
pub(crate) fn ifindex(name: &str) -> u32 {
    // /sys shows another namespace, and ip's JSON is for machines.
    let line = run(&format!("ip -o link show {name}"));
    line.split(':').next().unwrap().trim().parse().unwrap()
}

/// What `ip link` says of XDP on an interface: empty if nothing is attached.
pub(crate) fn xdp_shown(name: &str) -> String {
    let text = run(&format!("ip link show {name}"));
    text.lines().filter(|line| line.contains("xdp")).collect::<Vec<_>>().join("\n")
}
