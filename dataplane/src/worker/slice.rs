//! A short scheduler slice for workers, and timers that are on time.
//!
//! Where the kernel's receive thread (NAPI) shares the core, it is the one that wakes the worker. With the default slice
//! of about 3 ms it would go on receiving into a full ring; a worker with a shorter slice takes over as soon as it is
//! woken (EEVDF, Linux 6.12: "PREEMPT_SHORT"), and gives the core back as soon as its ring is empty.

use std::num::NonZeroU64;

/// The kernel accepts 0.1 to 100 ms.
const SLICE_NS: u64 = 100_000;

/// `struct sched_attr` of sched_setattr(2), version 0.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// The least that the kernel takes. By default it lets a thread sleep 50 microseconds longer than it asked for.
const TIMER_SLACK_NS: NonZeroU64 = NonZeroU64::MIN;

/// Asks for timers that are on time, for the calling thread.
pub(super) fn sharpen() {
    if let Err(error) = rustix::thread::set_current_timer_slack(Some(TIMER_SLACK_NS)) {
        tracing::debug!(%error, "timers may be late");
    }
}

/// Asks for a short slice for the calling thread, unless it has a policy of its own. Older kernels ignore it.
pub(super) fn shorten() {
    let mut attr = SchedAttr::default();
    let size = size_of::<SchedAttr>() as u32;
    // SAFETY: the kernel writes at most `size` bytes into `attr`, a plain struct of integers.
    #[allow(unsafe_code)]
    let read = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size, 0) };
    if read != 0 || attr.policy != libc::SCHED_OTHER as u32 {
        return;
    }
    attr.size = size;
    attr.runtime = SLICE_NS;
    // SAFETY: the kernel reads `size` bytes of `attr`.
    #[allow(unsafe_code)]
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    if set != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "no short scheduler slice");
    }
}
