//! Neither threads nor workers allocate for what goes through a socket.
#![allow(unsafe_code, clippy::unwrap_used, clippy::panic, reason = "a test, with an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};

#[allow(dead_code, reason = "shared with the tests of sockets, which use more of it")]
#[path = "socket/hosts.rs"]
mod hosts;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// Counts the allocations of all threads.
struct Counting;

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: passed on from the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: passed on from the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TOTAL: usize = 64 << 20;
const PIECE: usize = 10_000;
/// The queues of the stack grow as far as they ever will.
const GROWTH_MAX: u64 = 64;

#[test]
fn bytes_through_a_socket_cost_no_allocations() {
    let hosts = hosts::Hosts::start();
    let (client, server) = hosts.connect();
    let during = std::thread::scope(|scope| {
        scope.spawn(|| {
            let piece = [1; PIECE];
            (0..TOTAL / PIECE).for_each(|_| (&client).write_all(&piece).unwrap());
        });
        let (mut room, mut total, mut before) = ([0; PIECE], 0, 0);
        while total < TOTAL / PIECE * PIECE {
            total += (&server).read(&mut room).unwrap();
            if total < TOTAL / 4 {
                before = ALLOCATIONS.load(Ordering::Relaxed);
            }
        }
        ALLOCATIONS.load(Ordering::Relaxed) - before
    });
    assert!(during <= GROWTH_MAX, "{during} allocations for more than 30,000 frames and 10,000 calls");
    drop((client, server));
    hosts.stop();
}
