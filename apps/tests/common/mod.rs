//! What all tests of the command share.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tailwater_lab::{Finished, Lab, Namespace, Process, Program};

/// Longest time any single program may take on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The command under test.
pub(crate) fn tailwater() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tailwater"))
}

/// `tailwater WORDS...` in a namespace, the words split at blanks.
pub(crate) fn command(namespace: &Namespace, words: &str) -> Program {
    namespace.program(tailwater()).args(words.split_ascii_whitespace())
}

/// What a finished command left: exit code, standard output, standard error.
pub(crate) fn outcome(program: Program) -> (Option<i32>, String, String) {
    let output = program.output(DEADLINE).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A long-running command that has said that it is ready.
pub(crate) fn started(namespace: &Namespace, words: &str) -> Process {
    let mut process = command(namespace, words).spawn().unwrap();
    process.wait_for("is ready", |line| line.starts_with("ready") || line.contains("\"ready\""), DEADLINE).unwrap();
    process
}

/// A folder for control sockets that no other test sees.
pub(crate) struct RunFolder(pub(crate) PathBuf);

impl RunFolder {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tailwater-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        Self(folder)
    }

    pub(crate) fn socket(&self, process: &Process) -> PathBuf {
        self.0.join(format!("{}.sock", process.pid()))
    }

    pub(crate) fn command(&self, namespace: &Namespace, words: &str) -> Program {
        let folder = format!("TAILWATER_RUN_DIR={}", self.0.display());
        namespace.program("env").arg(folder).arg(tailwater()).args(words.split_ascii_whitespace())
    }

    pub(crate) fn start(&self, namespace: &Namespace, words: &str) -> Process {
        let mut process = self.command(namespace, words).spawn().unwrap();
        process.wait_for("is ready", |line| line.contains("ready"), DEADLINE).unwrap();
        process
    }

    pub(crate) fn stats(&self, lab: &Lab, words: &str) -> (Option<i32>, String, String) {
        outcome(self.command(lab.dut(), &format!("stats {words}")))
    }

    pub(crate) fn json(&self, lab: &Lab, words: &str) -> Value {
        let (code, stdout, stderr) = self.stats(lab, words);
        assert_eq!(code, Some(0), "{stderr}");
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Ends a command started with `-j` and returns its summary.
pub(crate) fn summary(process: Process) -> Value {
    let finished = process.stop().unwrap();
    report(&finished)
}

/// The summary among the lines of JSON that a command has printed.
pub(crate) fn report(finished: &Finished) -> Value {
    assert!(finished.status.success() && !finished.was_killed, "{finished:?}");
    let last = finished.stdout.lines().last().unwrap_or_default();
    let event: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    assert_eq!(event["event"], "summary", "{finished:?}");
    event["report"].clone()
}

/// What holds at the end of every run: no packet and no frame is lost without a name.
pub(crate) fn assert_accounted(report: &Value) {
    let totals = &report["totals"];
    let n = |key: &str| totals[key].as_i64().unwrap();
    assert_eq!(n("imbalance"), 0, "{report:#}");
    assert_eq!(n("received") + n("originated"), n("sent") + n("delivered") + n("dropped") + n("held"), "{totals:#}");
    let by_reason: i64 = report["dropped"].as_object().unwrap().values().filter_map(Value::as_i64).sum();
    assert_eq!(by_reason, n("dropped"), "{report:#}");
    assert_eq!(report["frames_missing"], 0, "{report:#}");
    assert_eq!(report["frames_strayed"], 0, "{report:#}");
}

/// Tries until it holds, for a bounded time.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "{what} did not happen within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
