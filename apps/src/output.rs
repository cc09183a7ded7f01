//! Lines on standard output and standard error. A reader that has gone away (`| head`) is no reason to fail: the
//! standard macros would panic, and end a dataplane because of its log.

use std::io::Write;

/// Prints a line, at once.
pub(crate) fn line(text: impl std::fmt::Display) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// Prints a line on standard error.
pub(crate) fn note(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
