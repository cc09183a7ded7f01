//! Two stacks ping each other, echo datagrams and open a connection, in a program with no operating system around it.
//!
//! The only system call is the one that ends it: 0 if all went well. The memory functions, which compilers call on any
//! machine, are defined here; everything else has to come out of `core`, `alloc` and the stack.

#![no_std]
#![no_main]

extern crate alloc;
#[cfg(feature = "std-sneaks-in")]
extern crate std;

use core::alloc::{GlobalAlloc, Layout};
use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use tailwater_stack::testing::{Cable, VecBuffer, mac};
use tailwater_stack::tcp::{Connect, Listen, TcpEvent};
use tailwater_stack::{Cidr, Config, EchoRequest, InterfaceConfig, Stack, Verdict};

/// Gives memory once and never takes it back.
struct Bump {
    memory: UnsafeCell<[u8; 64 << 20]>,
    used: AtomicUsize,
}

// SAFETY: the bytes are reached only through `alloc`, which hands out each of them once.
unsafe impl Sync for Bump {}

// SAFETY: `fetch_add` makes every block disjoint; blocks are aligned and inside `memory`.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = self.used.fetch_add(layout.size() + layout.align(), Ordering::Relaxed);
        let base = self.memory.get() as usize;
        let address = (base + start).next_multiple_of(layout.align());
        if address + layout.size() > base + (64 << 20) { core::ptr::null_mut() } else { address as *mut u8 }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static MEMORY: Bump = Bump { memory: UnsafeCell::new([0; 64 << 20]), used: AtomicUsize::new(0) };

// The stack pointer must be a multiple of 16 at a call (System V ABI).
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call {main}", "ud2", main = sym main);

extern "C" fn main() -> ! {
    exit(if ping_and_echo().and_then(|()| connect()).is_some() { 0 } else { 1 })
}

fn host(n: u8) -> Option<Stack<VecBuffer>> {
    let mut stack = Stack::new(Config::default(), n.into());
    let port = stack.add_interface(InterfaceConfig::exclusive(mac(n), 1500));
    stack.add_address(port, Cidr::new(Ipv4Addr::new(192, 0, 2, n), 24).ok()?).ok()?;
    stack.add_address(port, Cidr::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()), 64).ok()?).ok()?;
    Some(stack)
}

fn ping_and_echo() -> Option<()> {
    let mut hosts = [host(1)?, host(2)?];
    let mut cable = Cable::new();
    hosts[0].echo_open(7).then_some(())?;
    let own: SocketAddr = "[::]:7".parse().ok()?;
    let [client, server] = [hosts[0].udp_bind(own, None).ok()?, hosts[1].udp_bind(own, None).ok()?];
    for destination in ["192.0.2.2".parse().ok()?, "2001:db8::2".parse().ok()?] {
        let request = EchoRequest { destination, interface: None, ident: 7, sequence: 1, hop_limit: None };
        hosts[0].echo_request(&request, VecBuffer::from_bytes(b"ping"), cable.end(0)).ok()?;
        let arrived = cable.run(&mut hosts);
        matches!(&arrived[..], [(0, Verdict::EchoReply(reply))] if reply.payload() == b"ping").then_some(())?;
    }
    let to = "[2001:db8::2]:7".parse().ok()?;
    hosts[0].udp_send(client, to, VecBuffer::from_bytes(&[42; 4000]), cable.end(0)).ok()?;
    let (1, Verdict::Datagram(datagram)) = cable.run(&mut hosts).pop()? else { return None };
    (datagram.socket == server && datagram.payload_len() == 4000).then_some(())?;
    hosts[1].udp_reply(datagram, cable.end(1)).ok()?;
    let (0, Verdict::Datagram(echoed)) = cable.run(&mut hosts).pop()? else { return None };
    (echoed.payload_len() == 4000 && hosts.iter().all(|host| host.ledger().is_balanced(host.held()))).then_some(())
}

fn connect() -> Option<()> {
    let mut hosts = [host(1)?, host(2)?];
    let mut cable = Cable::new();
    hosts[1].tcp_listen("[::]:7".parse().ok()?, Listen::default()).ok()?;
    let to = Connect::to("[2001:db8::2]:7".parse().ok()?);
    let client = hosts[0].tcp_connect(to, |_| true, cable.end(0)).ok()?;
    cable.run(&mut hosts);
    let TcpEvent::Accepted { connection, .. } = hosts[1].tcp_poll()? else { return None };
    (hosts[0].tcp_send(client, &[42; 4000], cable.end(0)) == Ok(4000)).then_some(())?;
    cable.run(&mut hosts);
    let mut got = [0; 5000];
    (hosts[1].tcp_read(connection, &mut got, cable.end(1)) == Ok(4000)).then_some(())
}

fn exit(status: i32) -> ! {
    // SAFETY: exit_group(2) does not return; where there is no Linux, nobody runs this program.
    unsafe { asm!("syscall", in("rax") 231, in("rdi") status, options(noreturn, nostack)) }
}

/// There can be only one in a program: if anything links std, there are two and nothing is built.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(2)
}

/// What compilers call whether there is an operating system or not. Byte by byte, by string
/// instructions: a loop would be compiled into a call of itself.
mod memory {
    use core::arch::asm;

    /// # Safety
    /// As C's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
        // SAFETY: the caller's promise; both registers are clobbered as declared.
        unsafe { asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _) };
        to
    }

    /// # Safety
    /// As C's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
        if (to as usize).wrapping_sub(from as usize) >= len {
            // SAFETY: no byte is written before it is read.
            return unsafe { memcpy(to, from, len) };
        }
        // SAFETY: backwards from the last byte; the direction flag is put back.
        unsafe {
            asm!("std", "rep movsb", "cld", inout("rcx") len => _,
                inout("rdi") to.wrapping_add(len).wrapping_sub(1) => _,
                inout("rsi") from.wrapping_add(len).wrapping_sub(1) => _);
        }
        to
    }

    /// # Safety
    /// As C's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("al") byte as u8) };
        to
    }

    /// # Safety
    /// As C's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(one: *const u8, two: *const u8, len: usize) -> i32 {
        for at in 0..len {
            // SAFETY: the caller's promise; volatile, so that this loop stays one.
            let (a, b) = unsafe { (one.add(at).read_volatile(), two.add(at).read_volatile()) };
            if a != b {
                return i32::from(a) - i32::from(b);
            }
        }
        0
    }

    /// # Safety
    /// As C's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(one: *const u8, two: *const u8, len: usize) -> i32 {
        // SAFETY: the same contract.
        unsafe { memcmp(one, two, len) }
    }

    /// Named by unwinding tables in the prebuilt `core`; never called, for panics abort.
    #[unsafe(no_mangle)]
    extern "C" fn rust_eh_personality() {}

    /// Named by landing pads in the prebuilt `core`; never called, for panics abort.
    #[unsafe(no_mangle)]
    extern "C" fn _Unwind_Resume() -> ! {
        super::exit(3)
    }
}
