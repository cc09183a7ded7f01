//! Real AF_XDP sockets under the program, opened with xsk-rs: both libraries share one libbpf. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

mod common;

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::os::fd::BorrowedFd;
use std::thread;
use std::time::Duration;

use common::{OWN, OWN_MAC, PEER, enter_namespace, ifindex, run};
use tailwater_xdp::tools::{Flood, Generator};
use tailwater_xdp::{AttachMode, Limits, Mode, PortConfig, Shared, Steering, Verdict};
use xsk_rs::config::{BindFlags, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

const FRAMES: u32 = 512;
const RING: u32 = 256;
/// For what the kernel does a little later, on a busy machine much later.
const WAIT: Duration = Duration::from_millis(10);
const WAITS_MAX: u32 = 500;
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);

/// A socket with all its frames in the fill ring.
struct Receiver {
    rx: RxQueue,
    fill: FillQueue,
    umem: Umem,
    // Kept open for the socket's sake.
    _tx: TxQueue,
    _completion: CompQueue,
}

impl Receiver {
    fn open(queue: u32) -> Self {
        let umem = UmemConfig::builder().fill_queue_size(QueueSize::new(FRAMES).unwrap()).build().unwrap();
        let (umem, frames) = Umem::new(umem, NonZeroU32::new(FRAMES).unwrap(), false).unwrap();
        let config = SocketConfig::builder()
            .rx_queue_size(QueueSize::new(RING).unwrap())
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(BindFlags::XDP_COPY | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        // SAFETY: no other socket is bound to this interface and queue.
        let (tx, rx, rings) = unsafe { Socket::new(config, &umem, &OWN.parse().unwrap(), queue) }.unwrap();
        let (mut fill, completion) = rings.unwrap();
        // SAFETY: the frames are the UMEM's, and used nowhere else.
        assert_eq!(unsafe { fill.produce(&frames) }, FRAMES as usize);
        Self { rx, fill, umem, _tx: tx, _completion: completion }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket lives as long as self.
        unsafe { BorrowedFd::borrow_raw(std::os::fd::AsRawFd::as_raw_fd(self.rx.fd())) }
    }

    /// Empties the receive ring; gives the frames back to the kernel.
    fn take(&mut self, mut look: impl FnMut(&[u8])) -> u32 {
        let mut frames = [FrameDesc::default(); RING as usize];
        // SAFETY: the descriptors go back to the fill ring of the same UMEM below, and nowhere else.
        let taken = unsafe { self.rx.consume(&mut frames) };
        for frame in &frames[..taken] {
            // SAFETY: the kernel has handed this frame over.
            look(unsafe { self.umem.data(frame) }.contents());
        }
        // SAFETY: as above.
        assert_eq!(unsafe { self.fill.produce(&frames[..taken]) }, taken);
        taken as u32
    }

    /// Takes until `wanted` frames have come: the kernel shows them at the end of its poll, not one by one.
    fn take_all(&mut self, wanted: u32, mut look: impl FnMut(&[u8])) -> u32 {
        let mut taken = 0;
        for _ in 0..WAITS_MAX {
            taken += self.take(&mut look);
            if taken >= wanted {
                break;
            }
            thread::sleep(WAIT);
        }
        taken
    }
}

fn steering(attach: AttachMode) -> Steering {
    let shared = Shared::new(Limits::default()).expect("privileged test: needs root");
    let config = PortConfig { mode: Mode::Exclusive, attach, ..PortConfig::new(ifindex(OWN)) };
    Steering::attach(&shared, config).unwrap()
}

fn generator() -> Generator {
    Generator::new(Flood { frame_len: 333, ..Flood::new(ifindex(PEER), OWN_MAC, CLIENT, SERVER) }).unwrap()
}

fn count(steering: &Steering, verdict: Verdict) -> u64 {
    steering.verdicts().unwrap().iter().find(|tally| tally.verdict == verdict).unwrap().packets
}

/// Sends some frames, and waits until the program has seen every one the veth took.
fn send(generator: &Generator, steering: &Steering) {
    let seen = || steering.verdicts().unwrap().iter().map(|tally| tally.packets).sum::<u64>();
    let before = seen();
    let accepted = generator.run(Duration::from_millis(10)).unwrap().accepted.unwrap();
    for _ in 0..WAITS_MAX {
        if seen() >= before + accepted {
            return;
        }
        thread::sleep(WAIT);
    }
    panic!("{} of {accepted} frames reached the program", seen() - before);
}

#[test]
fn steered_frames_arrive_in_the_socket_as_they_were() {
    for mode in [AttachMode::Native, AttachMode::Generic] {
        enter_namespace();
        // A veth without native XDP takes the generator's frames only with GRO.
        run(&format!("ethtool -K {OWN} gro on"));
        let steering = steering(mode);
        let mut receiver = Receiver::open(0);
        steering.insert_socket(0, 0, receiver.fd()).unwrap();
        let generator = generator();
        for _ in 0..WAITS_MAX {
            send(&generator, &steering);
            if count(&steering, Verdict::RedirectFlow) > 0 {
                break;
            }
        }
        let taken = receiver.take_all(1, |frame| {
            assert_eq!(frame.len(), 333);
            assert_eq!(frame[..6], OWN_MAC);
            assert_eq!(frame[26..34], [CLIENT.octets(), SERVER.octets()].concat());
        });
        assert!(taken > 0, "{mode:?}");
        assert!(u64::from(taken) <= count(&steering, Verdict::RedirectFlow));
    }
}

/// The generator outruns a worker that does nothing: without shedding, the kernel would copy and lose frames.
#[test]
fn a_full_ring_sheds_before_the_copy_and_takes_frames_again_once_emptied() {
    enter_namespace();
    let steering = steering(AttachMode::Native);
    let mut receiver = Receiver::open(0);
    let ring = steering.ring_state(0, 0).unwrap();
    ring.set_capacity(RING);
    steering.insert_socket(0, 0, receiver.fd()).unwrap();
    let generator = generator();
    for round in 1..=5 {
        // More than the ring holds, however slow the machine.
        let shed = count(&steering, Verdict::DropRingFull);
        for _ in 0..WAITS_MAX {
            send(&generator, &steering);
            if count(&steering, Verdict::DropRingFull) > shed {
                break;
            }
        }
        assert_eq!(count(&steering, Verdict::RedirectFlow), round * u64::from(RING));
        let taken = receiver.take_all(RING, |_| {});
        assert_eq!(taken, RING, "the ring was really full, and nothing was lost after the redirect");
        ring.add_taken(taken);
        assert_eq!((receiver.take(|_| {}), ring.sent()), (0, ring.taken()));
    }
}

#[test]
fn a_closed_socket_leaves_frames_without_one() {
    enter_namespace();
    let steering = steering(AttachMode::Native);
    let receiver = Receiver::open(0);
    steering.insert_socket(0, 0, receiver.fd()).unwrap();
    drop(receiver);
    let generator = generator();
    // The kernel takes a closed socket out of the map when it has finished with it.
    for _ in 0..WAITS_MAX {
        send(&generator, &steering);
        if count(&steering, Verdict::DropNoSocket) > 0 {
            return;
        }
    }
    panic!("still redirected: {:?}", steering.verdicts().unwrap());
}
