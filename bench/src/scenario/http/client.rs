//! wrk, with a script of ours that prints what it found as JSON. The script has no part in a request.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tailwater_lab::{Lab, Program};

use super::site::{File, Site};

/// wrk reports to whole microseconds; counts in Lua are floating point.
const SCRIPT: &str = r#"
done = function(summary, latency, requests)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format(
        '{"requests":%d,"duration_us":%d,"errors":%d,"p50_us":%g,"p99_us":%g,"p999_us":%g,"max_us":%g}\n',
        summary.requests, summary.duration, failed,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max))
end
"#;
const START: Duration = Duration::from_secs(20);

/// What the client asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub file: File,
    pub connections: usize,
    /// A connection for each request.
    pub closes: bool,
}

/// What it found.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Found {
    pub requests: u64,
    duration_us: u64,
    /// Connections, requests and answers that failed, and answers that were none of 2xx or 3xx.
    pub errors: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

impl Found {
    pub(super) fn secs(&self) -> f64 {
        self.duration_us.max(1) as f64 / 1e6
    }
}

impl Load {
    pub(super) fn program(&self, lab: &Lab, site: &Site, secs: f64) -> Program {
        let script = site.folder().join("found.lua");
        let connections = self.connections.to_string();
        // A failure shows: wrk refuses a script that is not there.
        let _ = fs::write(&script, SCRIPT);
        let program = lab.client().program("wrk").args(["-t", "1", "-c", &connections, "-d", &whole(secs).to_string()]);
        let program = program.arg("-s").arg(&script);
        let program = if self.closes { program.args(["-H", "Connection: close"]) } else { program };
        program.arg(self.file.url())
    }
}

/// wrk knows whole seconds.
fn whole(secs: f64) -> u64 {
    (secs.ceil() as u64).max(1)
}

pub(super) fn deadline(secs: f64) -> Duration {
    Duration::from_secs(whole(secs)) + START
}

pub(super) fn parse(printed: &str) -> Result<Found> {
    let line = printed.lines().find(|line| line.starts_with('{')).context("wrk printed no result")?;
    serde_json::from_str(line).context("reading what wrk printed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_is_found_among_what_wrk_prints() {
        let line = r#"{"requests":9,"duration_us":2000000,"errors":1,"p50_us":3,"p99_us":4.5,"p999_us":5,"max_us":6}"#;
        let found = parse(&format!("Running 1s test @ http://a/\n{line}\n")).unwrap();
        assert_eq!((found.requests, found.secs(), found.errors, found.p99_us), (9, 2.0, 1, 4.5));
        assert!(parse("Running 1s test\nunable to connect\n").is_err());
    }

    #[test]
    fn wrk_runs_for_whole_seconds() {
        assert_eq!([0.0, 0.4, 1.0, 1.2].map(whole), [1, 1, 1, 2]);
    }
}
