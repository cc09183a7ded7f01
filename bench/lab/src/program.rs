//! A command line to be run inside a namespace.

use std::ffi::{OsStr, OsString};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::{LabError, Process};

/// A program that has yet to be started: `namespace.program("ping").args(["-c1", "10.1.0.1"]).cpu(1).run(deadline)`.
///
/// `ip netns exec` and `taskset` replace themselves by the program, so the process id is the program's own.
#[derive(Clone, Debug)]
pub struct Program {
    namespace: Option<String>,
    cpu: Option<usize>,
    words: Vec<OsString>,
    keep_stdin_open: bool,
}

impl Program {
    /// A program in the namespace the caller itself is in.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { namespace: None, cpu: None, words: vec![program.as_ref().to_owned()], keep_stdin_open: false }
    }

    pub(crate) fn inside(namespace: &str, program: impl AsRef<OsStr>) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..Self::new(program) }
    }

    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.words.push(argument.as_ref().to_owned());
        self
    }

    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Self {
        self.words.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Runs on this CPU only.
    #[must_use]
    pub fn cpu(mut self, cpu: usize) -> Self {
        self.cpu = Some(cpu);
        self
    }

    /// Gives the program a standard input that stays open and silent, for those which end at its end (testpmd).
    #[must_use]
    pub fn stdin_open(mut self) -> Self {
        self.keep_stdin_open = true;
        self
    }

    /// The whole command line, as one would type it.
    pub fn display(&self) -> String {
        self.full_words().iter().map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
    }

    /// The command line without namespace and pinning.
    pub fn display_short(&self) -> String {
        self.words.iter().map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
    }

    fn full_words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(namespace) = &self.namespace {
            words.extend(["ip", "netns", "exec", namespace].map(OsString::from));
        }
        if let Some(cpu) = self.cpu {
            words.extend(["taskset".into(), "-c".into(), cpu.to_string().into()]);
        }
        words.extend(self.words.iter().cloned());
        words
    }

    fn command(&self) -> Command {
        let words = self.full_words();
        let mut words = words.iter();
        let mut command = Command::new(words.next().map_or(OsStr::new(""), OsString::as_os_str));
        command.args(words);
        // Debian leaves /usr/sbin (ip, ethtool, bpftool) out of a user's PATH.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut path = path.into_string().unwrap_or_default();
        path.push_str(":/usr/sbin:/sbin");
        command.env("PATH", path);
        command.stdin(if self.keep_stdin_open { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts it in the background.
    pub fn spawn(&self) -> Result<Process, LabError> {
        Process::spawn(self.command(), self.display_short())
    }

    /// Runs it to its end and returns its standard output; a failure or a missed deadline is an error.
    pub fn run(&self, deadline: Duration) -> Result<String, LabError> {
        let output = self.output(deadline)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let both = [output.stderr, output.stdout].concat();
        Err(LabError::Failed {
            command: self.display(),
            status: output.status.to_string(),
            stderr: String::from_utf8_lossy(&both).trim().to_owned(),
        })
    }

    /// Runs it to its end, whatever the exit status; a missed deadline kills it and is an error.
    pub fn output(&self, deadline: Duration) -> Result<Output, LabError> {
        let process = self.spawn()?;
        let finished = process.wait(deadline)?;
        Ok(Output {
            status: finished.status,
            stdout: finished.stdout.into_bytes(),
            stderr: finished.stderr.into_bytes(),
        })
    }
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    #[test]
    fn command_line_shows_namespace_pinning_and_quotes() {
        let program = Program::inside("n1", "sh").args(["-c", "echo it's"]).cpu(1);
        assert_eq!(program.display(), r"ip netns exec n1 taskset -c 1 sh -c 'echo it'\''s'");
        assert_eq!(program.display_short(), r"sh -c 'echo it'\''s'");
    }

    #[test]
    fn failing_program_is_an_error_that_carries_its_stderr() {
        let error = Program::new("sh").args(["-c", "echo broken >&2; exit 3"]).run(DEADLINE).unwrap_err();
        assert!(error.to_string().contains("broken") && error.to_string().contains('3'), "{error}");
    }

    #[test]
    fn program_that_is_not_installed_is_named() {
        let error = Program::new("no-such-program-here").run(DEADLINE).unwrap_err();
        assert!(matches!(&error, LabError::Start { program, .. } if program == "no-such-program-here"), "{error}");
    }

    #[test]
    fn missed_deadline_is_an_error() {
        let error = Program::new("sleep").arg("600").run(Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, LabError::Deadline { .. }), "{error}");
    }

    #[test]
    fn large_output_does_not_block_the_program() {
        let output = Program::new("seq").arg("200000").run(DEADLINE).unwrap();
        assert_eq!(output.lines().count(), 200_000);
    }
}
