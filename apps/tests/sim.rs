//! `tailwater sim`: no namespaces and no privileges, only a file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../stack/sim/examples").join(name)
}

/// A folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("tailwater-sim-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn sim(file: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tailwater")).arg("sim").arg(file).args(more).output().unwrap()
}

/// The last line of JSON output.
fn report(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn example_runs_and_leaves_report_plots_and_captures() {
    let folder = folder("example");
    let out = folder.to_str().unwrap();
    let event = report(&sim(&example("bottleneck.toml"), &["-j", "-o", out]));
    assert_eq!(event["event"], "report");
    assert_eq!(event["report"]["virtual_secs"], 20.0);
    let flows: Vec<&str> =
        event["report"]["flows"].as_array().unwrap().iter().map(|f| f["flow"].as_str().unwrap()).collect();
    assert!(flows.contains(&"video1") && flows.contains(&"ping"), "{flows:?}");
    for file in ["report.json", "left-right-at-left.pcapng", "left-right-at-right.pcapng"] {
        assert!(std::fs::metadata(folder.join(file)).unwrap().len() > 1_000, "{file}");
    }
    for (file, flow, title) in [
        ("goodput.svg", "video1", "goodput, Mbit/s"),
        ("delay.svg", "ping", "delay, ms"),
        ("cwnd.svg", "cubic", "congestion window, kB"),
    ] {
        let svg = std::fs::read_to_string(folder.join(file)).unwrap();
        for wanted in [flow, title, "virtual time", "<polyline"] {
            assert!(svg.contains(wanted), "{wanted:?} is missing from {file}");
        }
    }
    let again = report(&sim(&example("bottleneck.toml"), &["-j", "-o", out]));
    assert_eq!(again["report"], event["report"], "the same seed is the same run");
    let other = report(&sim(&example("bottleneck.toml"), &["-j", "-o", out, "--seed", "2"]));
    assert_ne!(other["report"]["digest"], event["report"]["digest"]);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn any_number_of_threads_reports_and_plots_the_same() {
    let folder = folder("threads");
    let file = folder.join("net.toml");
    let text = std::fs::read_to_string(example("hundred-stacks.toml")).unwrap();
    let short = text.replace("duration = \"10 s\"", "duration = \"500 ms\"");
    assert_ne!(short, text);
    std::fs::write(&file, short).unwrap();
    let run = |threads: &str| {
        let out = folder.join(threads);
        report(&sim(&file, &["-j", "-o", out.to_str().unwrap(), "--threads", threads]));
        ["report.json", "goodput.svg", "delay.svg"].map(|name| std::fs::read(out.join(name)).unwrap())
    };
    assert!(run("1") == run("2"));
    assert!(!sim(&file, &["--threads", "0"]).status.success());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn tables_name_every_flow_and_link_and_the_speed() {
    let folder = folder("tables");
    let file = folder.join("net.toml");
    let text = "duration = \"2 s\"\nhosts = [\"a\", \"b\"]\n[[link]]\nends = [\"a 10.0.0.1/24\", \"b 10.0.0.2/24\"]\n\
                [[flow]]\nname = \"p\"\nkind = \"ping\"\nfrom = \"a\"\nto = \"b\"\n";
    std::fs::write(&file, text).unwrap();
    let output = sim(&file, &["-o", folder.to_str().unwrap()]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    for wanted in ["a > b", "b > a", "goodput", "times real time", "digest", "wrote "] {
        assert!(stdout.contains(wanted), "{wanted:?} is missing from\n{stdout}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Ends with its value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A run that lasts for hours, ended once `enough` has had its lines of standard output or error.
fn long_run(name: &str, json: bool, mut enough: impl FnMut(&str) -> bool) {
    let folder = folder(name);
    let file = folder.join("net.toml");
    let text = "duration = \"1000000 s\"\nsample = \"10 s\"\nhosts = [\"a\", \"b\"]\n\
                [[link]]\nends = [\"a 10.0.0.1/24\", \"b 10.0.0.2/24\"]\nrate = \"10 Mbit/s\"\n\
                [[flow]]\nname = \"bulk\"\nkind = \"tcp\"\nfrom = \"a\"\nto = \"b\"\n";
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tailwater"));
    command.arg("sim").arg(&file).arg("-o").arg(&folder).args(json.then_some("-j"));
    let mut running = Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let pipe: Box<dyn std::io::Read> = match json {
        true => Box::new(running.0.stdout.take().unwrap()),
        false => Box::new(running.0.stderr.take().unwrap()),
    };
    let came = BufReader::new(pipe).lines().map_while(Result::ok).take(10).any(|line| enough(&line));
    drop(running);
    assert!(came, "{name}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn progress_is_told_in_lines_and_in_objects_while_it_runs() {
    let mut last = 0.0;
    long_run("progress-json", true, |line| {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!((event["event"].as_str(), event["of_secs"].as_f64()), (Some("progress"), Some(1e6)), "{line}");
        let (done, before) = (event["virtual_secs"].as_f64().unwrap(), last);
        assert!(done > before && event["speed"].as_f64().unwrap() > 0.0, "{line}");
        last = done;
        before > 0.0
    });
    long_run("progress", false, |line| {
        line.contains(" of 1000000.0 s virtual time, ") && line.contains(" times real time")
    });
}

#[test]
fn mistake_in_a_file_is_shown_with_its_line_and_what_would_be_right() {
    let folder = folder("mistake");
    let file = folder.join("net.toml");
    std::fs::write(&file, "duration = \"1 s\"\nhosts = [\"a\"]\n\n[[link]]\nends = [\"a 1.2.3.4/8\", \"b\"]\n")
        .unwrap();
    let output = sim(&file, &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for wanted in ["net.toml:5:24: there is no node 'b'", "ends = [\"a 1.2.3.4/8\", \"b\"]", "^", "hint: "] {
        assert!(stderr.contains(wanted), "{wanted:?} is missing from\n{stderr}");
    }
    let output = sim(&folder.join("none.toml"), &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("cannot read") && stderr.contains("hint: give a TOML file"), "{stderr}");
    std::fs::remove_dir_all(&folder).unwrap();
}
