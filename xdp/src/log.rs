//! What libbpf prints goes to `tracing`, and the last lines into our error messages.

use std::cell::RefCell;
use std::sync::Once;

use libbpf_rs::{PrintLevel, set_print};

/// Bytes kept for an error message: the end of a verifier log, where the complaint is.
const TAIL_LEN_MAX: usize = 2000;

thread_local! {
    static TAIL: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Takes over libbpf's printing, once per process.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        set_print(Some((PrintLevel::Info, keep)));
    });
}

fn keep(level: PrintLevel, text: String) {
    tracing::debug!(target: "libbpf", ?level, "{}", text.trim_end());
    if level != PrintLevel::Warn {
        return;
    }
    TAIL.with_borrow_mut(|tail| {
        tail.push_str(&text);
        let excess = tail.len().saturating_sub(TAIL_LEN_MAX);
        let cut = (excess..=tail.len()).find(|&at| tail.is_char_boundary(at)).unwrap_or(0);
        tail.drain(..cut);
    });
}

/// What was printed since the last call, on a line of its own; empty if nothing was.
pub(crate) fn take_tail() -> String {
    let tail = TAIL.take();
    if tail.is_empty() { tail } else { format!("\n{}", tail.trim_end()) }
}
