//! A packet generator: `BPF_PROG_TEST_RUN` with live frames, each written by a program and redirected out of
//! an interface. Some ten million frames a second from one core.
//!
//! Every call of `BPF_PROG_TEST_RUN` waits twice for RCU, 8 to 16 ms, so a run is one long call, ended by a
//! signal.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::program::{self, Constants, Loaded, Program};
use super::read_seen;
use crate::error::{Error, Result};
use crate::interface::Interface;
use crate::interrupt;
use crate::sys::{self, Asker};

const ETHERNET_LEN: u16 = 14;
const IP4_LEN: u16 = 20;
/// Ethernet's shortest frame, without FCS.
const FRAME_LEN_MIN: u16 = 60;
/// A live frame must fit into one page beside the kernel's own data.
const FRAME_LEN_MAX: u16 = 3400;
/// The kernel's bound on frames per batch.
const BATCH_MAX: u32 = 256;
/// Bound of the pause loop, as in `bpf/tools.bpf.c`.
const CLOCK_READS_MAX: u32 = 64;
const FLOWS_MAX: u32 = 1 << 15;
const DESTS_MAX: u32 = 1 << 24;

/// The UDP frames to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flood {
    /// Interface to send out of, in the caller's network namespace.
    pub ifindex: u32,
    /// Destination MAC address.
    pub dst_mac: [u8; 6],
    /// Source MAC address.
    pub src_mac: [u8; 6],
    /// Source address.
    pub src: Ipv4Addr,
    /// First destination address.
    pub dst: Ipv4Addr,
    /// Destination addresses, counted up from the first, chosen at random per frame: 1 to 2^24.
    pub dests: u32,
    /// Source ports, counted up from 1024, chosen at random per frame: a power of two, 1 to 32768.
    pub flows: u32,
    /// Destination port.
    pub dport: u16,
    /// Frame length without FCS, 60 to 3400 bytes: 60 is a "64-byte" frame.
    pub frame_len: u16,
    /// Slows the generator down: clock reads per frame, about 20 to 50 ns each, 0 to 64.
    pub clock_reads: u32,
    /// Frames handed to the driver at once, 1 to 256.
    pub batch: u32,
}

impl Flood {
    /// One flow of shortest frames to one address, at full speed.
    pub const fn new(ifindex: u32, dst_mac: [u8; 6], src: Ipv4Addr, dst: Ipv4Addr) -> Self {
        Self {
            ifindex,
            dst_mac,
            src_mac: [0x02, 0, 0, 0, 0, 0x01],
            src,
            dst,
            dests: 1,
            flows: 1,
            dport: 9,
            frame_len: FRAME_LEN_MIN,
            clock_reads: 0,
            batch: 64,
        }
    }

    fn check(&self) -> Result<()> {
        Error::in_range("frame length", self.frame_len.into(), FRAME_LEN_MIN.into(), FRAME_LEN_MAX.into())?;
        Error::in_range("clock reads", self.clock_reads.into(), 0, CLOCK_READS_MAX.into())?;
        Error::in_range("batch", self.batch.into(), 1, BATCH_MAX.into())?;
        Error::in_range("number of destinations", self.dests.into(), 1, DESTS_MAX.into())?;
        Error::in_range("number of flows", self.flows.into(), 1, FLOWS_MAX.into())?;
        let rounded = self.flows.next_power_of_two();
        Error::in_range(
            "number of flows, rounded to a power of two,",
            self.flows.into(),
            rounded.into(),
            rounded.into(),
        )
    }

    /// A frame of the first flow to the first destination.
    fn frame(&self) -> Vec<u8> {
        let ip_len = self.frame_len - ETHERNET_LEN;
        let mut frame = Vec::with_capacity(self.frame_len.into());
        frame.extend(self.dst_mac);
        frame.extend(self.src_mac);
        frame.extend(0x0800u16.to_be_bytes());
        frame.extend(self.ip_header(self.dst, ip_len));
        frame.extend(1024u16.to_be_bytes());
        frame.extend(self.dport.to_be_bytes());
        frame.extend((ip_len - IP4_LEN).to_be_bytes());
        // RFC 768: a UDP checksum of zero means none.
        frame.extend([0, 0]);
        frame.resize(self.frame_len.into(), 0);
        frame
    }

    /// RFC 791 §3.1, checksum included.
    fn ip_header(&self, dst: Ipv4Addr, ip_len: u16) -> [u8; 20] {
        let [len_high, len_low] = ip_len.to_be_bytes();
        let [s0, s1, s2, s3] = self.src.octets();
        let [d0, d1, d2, d3] = dst.octets();
        let mut header = [0x45, 0, len_high, len_low, 0, 0, 0, 0, 64, 17, 0, 0, s0, s1, s2, s3, d0, d1, d2, d3];
        let [check_high, check_low] = (!fold(sum(&header))).to_be_bytes();
        header[10] = check_high;
        header[11] = check_low;
        header
    }

    fn constants(&self) -> Constants {
        let frame = self.frame();
        // The program adds the destination and works on words as they lie in memory. RFC 1071 §2(B): the sum
        // does not depend on the byte order.
        let without_dest = self.ip_header(Ipv4Addr::UNSPECIFIED, self.frame_len - ETHERNET_LEN);
        let check = u16::from_be_bytes([without_dest[10], without_dest[11]]);
        Constants {
            ifindex: self.ifindex,
            flows_mask: self.flows - 1,
            dests: self.dests,
            dest_first: self.dst.to_bits(),
            clock_reads: self.clock_reads,
            checksum: u32::from((!check).to_be()),
            header: frame.into_iter().take(42).collect(),
        }
    }
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|pair| pair.iter().fold(0, |word, &byte| word << 8 | u32::from(byte))).sum()
}

fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    // The second fold leaves at most 16 bits.
    ((once & 0xffff) + (once >> 16)) as u16
}

/// What a run sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GeneratorReport {
    /// Frames handed to the driver.
    pub offered: u64,
    /// Frames the driver took; `None` if it does not count them (`ethtool -S`, `xdp_xmit`).
    pub accepted: Option<u64>,
    /// Time from the first frame to the last, preparation of the run included (some 10 ms).
    pub elapsed: Duration,
}

impl GeneratorReport {
    /// Frames per second handed to the driver.
    pub fn offered_pps(&self) -> f64 {
        per_second(self.offered, self.elapsed)
    }

    /// Frames per second the driver took, or was offered if it does not count.
    pub fn accepted_pps(&self) -> f64 {
        per_second(self.accepted.unwrap_or(self.offered), self.elapsed)
    }
}

fn per_second(frames: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { frames as f64 / elapsed.as_secs_f64() }
}

/// A loaded generator. It may run many times.
#[derive(Debug)]
pub struct Generator {
    flood: Flood,
    frame: Vec<u8>,
    interface: String,
    loaded: Loaded,
}

impl Generator {
    /// Loads the program for these frames.
    pub fn new(flood: Flood) -> Result<Self> {
        flood.check()?;
        let interface = Interface::ask(flood.ifindex)?;
        if !interface.up {
            return Err(Error::Down { interface: interface.name });
        }
        let loaded = program::load(Program::Generate, &flood.constants())?;
        Ok(Self { frame: flood.frame(), flood, interface: interface.name, loaded })
    }

    /// Sends from the calling thread, on the CPU it is pinned to, until the time is over. The receive work of
    /// a veth's peer happens on this CPU too unless that peer uses threaded NAPI.
    pub fn run(&self, duration: Duration) -> Result<GeneratorReport> {
        let (seen_before, taken_before) = (read_seen(&self.loaded.seen)?, self.taken());
        let start = Instant::now();
        let run = interrupt::after(duration, || self.run_until_interrupted(start + duration));
        run.map_err(|error| Error::system("installation of a signal handler", error))??;
        let elapsed = start.elapsed();
        let (seen, taken) = (read_seen(&self.loaded.seen)?, self.taken());
        Ok(GeneratorReport {
            offered: seen.packets.wrapping_sub(seen_before.packets),
            accepted: taken.zip(taken_before).map(|(now, before)| now.wrapping_sub(before)),
            elapsed,
        })
    }

    /// One call, unless it ends early: after 2^31 - 1 frames, or by a signal that was not ours.
    fn run_until_interrupted(&self, end: Instant) -> Result<()> {
        while Instant::now() < end {
            match sys::test_run_live(self.loaded.program.as_fd(), &self.frame, self.flood.batch) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::system("BPF_PROG_TEST_RUN with live frames", error)),
            }
        }
        Ok(())
    }

    /// Frames the driver took since it exists, if it counts them.
    fn taken(&self) -> Option<u64> {
        let statistics = Asker::new().ok()?.statistics(&self.interface)?;
        let is_ours = |name: &str| name.starts_with("tx_queue") && name.ends_with("xdp_xmit");
        let mut ours = statistics.iter().filter(|(name, _)| is_ours(name)).peekable();
        ours.peek()?;
        Some(ours.map(|(_, value)| value).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_sums_to_zero_and_the_programs_part_completes_it() {
        let flood =
            Flood { dests: 9, ..Flood::new(1, [2; 6], Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 255, 3, 4)) };
        let header = flood.ip_header(flood.dst, 46);
        assert_eq!(fold(sum(&header)), 0xffff);
        // What the program does, in memory order.
        let dest = u32::from_ne_bytes(flood.dst.octets());
        let check = !fold(flood.constants().checksum + (dest & 0xffff) + (dest >> 16));
        assert_eq!(check.to_ne_bytes(), [header[10], header[11]]);
    }

    #[test]
    fn floods_out_of_range_are_refused() {
        let good = Flood::new(1, [2; 6], Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST);
        assert!(good.check().is_ok());
        assert!(Flood { flows: 3, ..good.clone() }.check().is_err());
        assert!(Flood { dests: 0, ..good.clone() }.check().is_err());
        assert!(Flood { frame_len: 59, ..good.clone() }.check().is_err());
        assert!(Flood { batch: 257, ..good }.check().is_err());
    }
}
