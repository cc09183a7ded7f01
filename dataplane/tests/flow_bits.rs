//! A flow stays on its worker when `encrypt` or `compress` wraps its frames: their flow bits, read by the steering program,
//! name the worker that the program picks for the plain frame. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod rig;

use std::os::fd::{AsFd, OwnedFd};

use rig::{KeyFile, Rig, ethernet, text, udp4};
use rustix::net::{AddressFamily, SocketType, socket};
use tailwater_lab::Lab;
use tailwater_xdp::{Indirection, Limits, Mode, PortConfig, Shared, Steering};

const WORKERS: u32 = 4;
/// Ethernet address of d0 in a lab.
const OURS: [u8; 6] = [2, 0, 0, 0, 1, 1];

/// A port in router mode, every worker with a socket.
struct Port {
    steering: Steering,
    _sockets: Vec<OwnedFd>,
}

impl Port {
    fn attach(shared: &Shared) -> Self {
        let ifindex = tailwater_netlink::Control::open().unwrap().link_by_name("d0").unwrap().ifindex;
        let config = PortConfig { mode: Mode::Router, workers: WORKERS, ..PortConfig::new(ifindex) };
        let steering = Steering::attach(shared, config).unwrap();
        let open = |worker| {
            // Unbound: enough for the map, and for a frame that is on no wire.
            let socket = socket(AddressFamily::XDP, SocketType::RAW, None).unwrap();
            steering.insert_socket(0, worker, socket.as_fd()).unwrap();
            socket
        };
        let sockets = (0..WORKERS).map(open).collect();
        Self { steering, _sockets: sockets }
    }

    /// The worker that gets the frame.
    fn worker(&self, frame: &[u8]) -> usize {
        let sent = || (0..WORKERS).map(|worker| self.steering.ring_state(0, worker).unwrap().sent());
        let before: Vec<u32> = sent().collect();
        self.steering.try_frame(frame, 0).unwrap();
        let taken = sent().zip(before).position(|(now, before)| now != before);
        taken.unwrap_or_else(|| panic!("to no worker: {frame:02x?}"))
    }
}

/// Frames of many flows, and of every shape that the program reads differently.
fn frames() -> Vec<Vec<u8>> {
    let ip4 = |protocol: u8, fragment: u16, options: usize, n: u8| {
        let mut packet = vec![0x45 + (options / 4) as u8, 0, 0, 60, 0, n];
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, protocol, 0, 0, 10, 1, 0, 2, 10, 9, n, 2]);
        packet.extend(vec![1; options]);
        packet.extend([0x12, n, 0x34, 0x56, 0, 40, 0, 0]);
        packet.resize(60, n);
        ethernet(0x0800, &packet)
    };
    let ip6 = |next: u8, n: u8| {
        let mut packet = vec![0x60, 0, 0, 0, 0, 40, next, 64];
        packet.extend([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, n]);
        packet.extend([0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        packet.extend([if next == 44 || next == 0 { 17 } else { 0x80 }, 0, 0x34, n, 0, 40, 0, 0]);
        packet.resize(80, n);
        ethernet(0x86dd, &packet)
    };
    let mut frames: Vec<Vec<u8>> = (0..40).map(|n| udp4(n, &[n as u8; 60])).collect();
    for n in 0..20 {
        frames.extend([ip4(6, 0, 0, n), ip4(17, 0, 8, n), ip4(1, 0, 0, n), ip4(17, 0x2000, 0, n), ip4(17, 3, 40, n)]);
        frames.extend([6, 17, 58, 44, 0, 132].map(|next| ip6(next, n)));
    }
    let tagged: Vec<Vec<u8>> =
        frames.iter().step_by(7).map(|frame| [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat()).collect();
    frames.extend(tagged);
    frames.iter_mut().for_each(|frame| frame[..6].copy_from_slice(&OURS));
    frames
}

#[test]
fn a_flow_stays_on_its_worker_when_its_frames_are_wrapped() {
    let lab = Lab::pair(1, 1500).unwrap();
    let shared = Shared::new(Limits::default()).unwrap();
    shared.set_indirection(&Indirection::even(WORKERS as u8));
    let port = lab.dut().enter(|| Port::attach(&shared)).unwrap();
    let _registered = [0x88b5, 0x88b6].map(|ethertype| shared.register_ethertype(ethertype).unwrap());
    let key = KeyFile::new("flow-bits", &[7; 32]);
    let flow_key = ("flow_key", text(&shared.hash_key().to_hex()));
    let mut senders =
        [Rig::new("encrypt", &[("key_file", key.value()), flow_key.clone()]), Rig::new("compress", &[flow_key])];
    let mut seen = [0; WORKERS as usize];
    for frame in frames() {
        let worker = port.worker(&frame);
        seen[worker] += 1;
        for sender in &mut senders {
            let wrapped = sender.send(&[&frame]).remove(0).remove(0);
            assert_ne!(wrapped, frame);
            assert_eq!(port.worker(&wrapped), worker, "{frame:02x?}");
        }
    }
    assert!(seen.iter().all(|&frames| frames > 10), "all workers took part: {seen:?}");
}
