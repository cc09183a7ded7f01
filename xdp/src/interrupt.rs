//! Ending a long system call after a while, by a signal to the calling thread.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Signals are repeated this often, in case one arrives just before the system call begins.
const REPEAT: Duration = Duration::from_millis(5);

extern "C" fn ignore(_signal: libc::c_int) {}

/// A signal of our own: a real-time one in the middle of their range, which no library here uses.
fn signal() -> libc::c_int {
    libc::SIGRTMIN() + 7
}

/// A handler which does nothing, and no SA_RESTART: the signal makes system calls end with EINTR.
#[allow(unsafe_code)]
fn install() -> io::Result<()> {
    // SAFETY: sigaction is plain data, valid when all zero.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: the handler does nothing, so it is safe at any moment; both pointers are valid or null.
    match unsafe { libc::sigaction(signal(), &action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs `work` on this thread, whose system calls are interrupted from `duration` on.
#[allow(unsafe_code)]
pub(crate) fn after<T>(duration: Duration, work: impl FnOnce() -> T) -> io::Result<T> {
    install()?;
    // SAFETY: has no preconditions.
    let target = unsafe { libc::pthread_self() };
    let end = Instant::now() + duration;
    let done = AtomicBool::new(false);
    let answer = thread::scope(|scope| {
        let clock = scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                thread::park_timeout(end.saturating_duration_since(Instant::now()).max(REPEAT));
                if Instant::now() >= end && !done.load(Ordering::Acquire) {
                    // SAFETY: the target thread waits for this one at the end of the scope, so it lives.
                    unsafe { libc::pthread_kill(target, signal()) };
                }
            }
        });
        let answer = work();
        done.store(true, Ordering::Release);
        clock.thread().unpark();
        answer
    });
    Ok(answer)
}
