//! A port whose other end is a port in the same process: AF_XDP's rings with no kernel between them.
//!
//! Frames pass by two words each, without a copy: the other end takes chains as they are linked, and a share in what a stack
//! keeps for retransmission (`Frame::passed`).

use std::sync::Arc;

use super::descriptors::Burst;
use super::{Capabilities, Port, PortCounters, Traffic};
use crate::frame::{Batch, Frame, Passed, Pool, Region};
use crate::ledger::Ledger;
use crate::ring::{self, Consumer, Producer};

/// One end of a pair of memory ports.
pub struct MemoryPort {
    name: String,
    number: u16,
    /// Stays for the frames in the rings.
    _region: Arc<Region>,
    rx: Consumer<Passed>,
    tx: Producer<Passed>,
    capabilities: Capabilities,
    counters: PortCounters,
}

impl MemoryPort {
    /// Two ends joined by rings of `ring_size` descriptors (rounded up to a power of two) each way.
    pub fn pair(region: &Arc<Region>, names: [&str; 2], ring_size: u32) -> (Self, Self) {
        let (a_tx, b_rx) = ring::in_process(ring_size);
        let (b_tx, a_rx) = ring::in_process(ring_size);
        let end = |name: &str, rx, tx, last| Self {
            name: name.to_owned(),
            number: 0,
            _region: Arc::clone(region),
            rx,
            tx,
            capabilities: Capabilities {
                backend: "memory",
                mode: "rings in process memory".into(),
                mtu: 9000,
                mac: [2, 0, 0, 0, 0, last],
                queues: 1,
                multi_buffer: true,
                ..Capabilities::default()
            },
            counters: PortCounters::default(),
        };
        (end(names[0], a_rx, a_tx, 1), end(names[1], b_rx, b_tx, 2))
    }
}

impl MemoryPort {
    /// Takes the frame that is there.
    #[inline(always)]
    fn receive_one(&mut self, batch: &mut Batch) -> usize {
        let Some(passed) = self.rx.pop() else { return 0 };
        // SAFETY: as in `take_frames`.
        #[allow(unsafe_code)]
        let frame = unsafe { Frame::from_passed(passed, self.number) };
        self.rx.release();
        self.counters.rx_packets += 1;
        self.counters.rx_bytes += frame.total_len() as u64;
        batch.push(frame);
        1
    }

    #[inline(never)]
    fn receive_burst(&mut self, batch: &mut Batch, ready: usize) -> usize {
        let burst = take_frames(&mut self.rx, self.number, batch, ready);
        self.counters.rx_packets += burst.packets as u64;
        self.counters.rx_bytes += burst.bytes;
        burst.packets
    }

    /// Puts a frame into the ring, which has room for it.
    #[inline(always)]
    fn transmit_one(&mut self, batch: &mut Batch) -> usize {
        let Some(frame) = batch.iter().next() else { return 0 };
        let (passed, len) = (frame.passed(), frame.total_len());
        if self.tx.push(passed).is_err() {
            return 0;
        }
        // The other end may have it from now on.
        batch.forget_front(1);
        self.tx.publish();
        self.counters.tx_packets += 1;
        self.counters.tx_bytes += len as u64;
        1
    }

    #[inline(never)]
    fn transmit_burst(&mut self, batch: &mut Batch) -> usize {
        let burst = put_frames(&mut self.tx, batch);
        self.counters.tx_packets += burst.packets as u64;
        self.counters.tx_bytes += burst.bytes;
        burst.packets
    }
}

impl Port for MemoryPort {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn set_number(&mut self, number: u16) {
        self.number = number;
    }

    #[inline]
    fn receive(&mut self, _pool: &mut Pool, _ledger: &mut Ledger, batch: &mut Batch, max: usize) -> usize {
        // A packet that is alone needs no look around the end of the ring's memory.
        match max.min(self.rx.available(max as u32) as usize) {
            0 => 0,
            1 => self.receive_one(batch),
            ready => self.receive_burst(batch, ready),
        }
    }

    #[inline]
    fn transmit(&mut self, _pool: &mut Pool, batch: &mut Batch) -> usize {
        if batch.len() == 1 && self.tx.free(1) > 0 { self.transmit_one(batch) } else { self.transmit_burst(batch) }
    }

    #[inline]
    fn tx_room(&mut self, wanted: usize) -> usize {
        self.tx.free(wanted as u32) as usize
    }

    fn flush(&mut self, _pool: &mut Pool) {}

    fn tx_pending(&mut self) -> usize {
        self.tx.pending() as usize
    }

    fn traffic(&self) -> Traffic {
        Traffic::from(&self.counters)
    }

    fn counters(&self) -> PortCounters {
        self.counters
    }

    fn close(&mut self, pool: &mut Pool) {
        let (mut batch, mut ledger) = (Batch::default(), Ledger::default());
        self.receive(pool, &mut ledger, &mut batch, self.rx.size() as usize);
        batch.drain().for_each(|frame| pool.release(frame));
    }
}

/// Moves frames from the front of `batch` into the ring, as many as find room, and shows them to the other end.
#[inline]
fn put_frames(ring: &mut Producer<Passed>, batch: &mut Batch) -> Burst {
    let mut burst = Burst::default();
    ring.free(batch.len() as u32);
    // Twice where there is room around the end of the ring's memory.
    while !batch.is_empty() {
        let mut written = 0;
        for (slot, frame) in ring.room(batch.len() as u32).iter_mut().zip(batch.iter()) {
            slot.write(frame.passed());
            burst.bytes += frame.total_len() as u64;
            written += 1;
        }
        if written == 0 {
            break;
        }
        ring.advance(written);
        batch.forget_front(written);
        burst.packets += written;
    }
    ring.publish();
    burst
}

/// Moves the first `ready` frames, which are known to be there, from the ring to the end of `batch`, as received by port
/// `number`.
#[inline]
fn take_frames(ring: &mut Consumer<Passed>, number: u16, batch: &mut Batch, ready: usize) -> Burst {
    let mut burst = Burst::default();
    // Twice where they lie around the end of the ring's memory.
    while burst.packets < ready {
        let taken = batch.extend_while(ring.ready((ready - burst.packets) as u32), |&passed| {
            // SAFETY: `put_frames` of the other end gave it up, and the ring is nobody else's.
            #[allow(unsafe_code)]
            let frame = unsafe { Frame::from_passed(passed, number) };
            burst.bytes += frame.total_len() as u64;
            Some(frame)
        });
        ring.advance(taken);
        burst.packets += taken;
    }
    ring.release();
    burst
}

#[cfg(test)]
mod tests {
    use tailwater_stack::Buffer;

    use super::*;
    use crate::frame::RegionConfig;

    fn pair() -> (Arc<Region>, Pool, MemoryPort, MemoryPort) {
        let config = RegionConfig { chunks: 64, huge_pages: false, ..RegionConfig::default() };
        let region = Region::in_process(config).unwrap();
        let (near, far) = MemoryPort::pair(&region, ["near", "far"], 4);
        (Arc::clone(&region), Pool::new(region), near, far)
    }

    fn pass(from: &mut MemoryPort, to: &mut MemoryPort, frame: Frame, pool: &mut Pool) -> Frame {
        let mut batch = Batch::default();
        batch.push(frame);
        assert_eq!(from.transmit(pool, &mut batch), 1);
        assert_eq!(to.receive(pool, &mut Ledger::default(), &mut batch, 8), 1);
        batch.pop().unwrap()
    }

    fn text(len: u32) -> Vec<u8> {
        (0..len).map(|n| n as u8).collect()
    }

    fn whole(frame: &Frame) -> Vec<u8> {
        frame.segments().collect::<Vec<_>>().concat()
    }

    #[test]
    fn frames_of_any_form_pass_around_the_end_of_the_ring_in_order() {
        let (region, mut pool, mut near, mut far) = pair();
        for round in 0..5 {
            let mut batch = Batch::default();
            let lens = [10, 5_000, 60 + round];
            batch.extend(lens.map(|len| pool.allocate_copy(&text(len)).unwrap()));
            assert_eq!(near.transmit(&mut pool, &mut batch), 3);
            assert_eq!(far.receive(&mut pool, &mut Ledger::default(), &mut batch, 8), 3);
            assert!(batch.iter().zip(lens).all(|(frame, len)| whole(frame) == text(len)));
            batch.drain().for_each(|frame| pool.release(frame));
        }
        assert_eq!((near.counters().tx_bytes, far.counters().rx_bytes), (25_360, 25_360));
        drop(pool);
        assert_eq!((region.at_home(), region.strayed()), (region.chunks(), 0));
    }

    #[test]
    fn frames_of_another_region_pass_and_go_home() {
        let (region, mut pool, mut near, mut far) = pair();
        let (other, mut theirs, ..) = pair();
        for len in [60, 5_000] {
            let frame = theirs.allocate_copy(&text(len)).unwrap();
            let arrived = pass(&mut near, &mut far, frame, &mut pool);
            assert_eq!(whole(&arrived), text(len));
            pool.release(arrived);
        }
        drop((pool, theirs));
        for region in [region, other] {
            assert_eq!((region.at_home(), region.strayed()), (region.chunks(), 0));
        }
    }

    #[test]
    fn a_packet_that_is_alone_waits_for_room_as_others_do_and_is_counted_like_them() {
        let (region, mut pool, mut near, mut far) = pair();
        let (mut waiting, mut arrived) = (Batch::default(), Batch::default());
        for len in [60, 61, 5_000, 63] {
            waiting.push(pool.allocate_copy(&text(len)).unwrap());
            assert_eq!(near.transmit(&mut pool, &mut waiting), 1);
        }
        waiting.push(pool.allocate_copy(&text(64)).unwrap());
        assert_eq!((near.transmit(&mut pool, &mut waiting), waiting.len()), (0, 1), "the ring is full");
        assert_eq!(far.receive(&mut pool, &mut Ledger::default(), &mut arrived, 1), 1);
        assert_eq!((near.transmit(&mut pool, &mut waiting), waiting.len()), (1, 0));
        assert_eq!(far.receive(&mut pool, &mut Ledger::default(), &mut arrived, 0), 0);
        assert_eq!(far.receive(&mut pool, &mut Ledger::default(), &mut arrived, 8), 4);
        let lens: Vec<_> = arrived.iter().map(Frame::total_len).collect();
        assert_eq!(lens, [60, 61, 5_000, 63, 64]);
        let (sent, received) = (near.counters(), far.counters());
        assert_eq!((sent.tx_packets, sent.tx_bytes), (5, 5_248));
        assert_eq!((received.rx_packets, received.rx_bytes), (5, 5_248));
        arrived.drain().for_each(|frame| pool.release(frame));
        drop(pool);
        assert_eq!((region.at_home(), region.strayed()), (region.chunks(), 0));
    }

    #[test]
    fn what_is_kept_stays_whole_while_the_other_end_lends_its_share_on() {
        for len in [64, 5_000] {
            for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
                let (region, mut pool, mut near, mut far) = pair();
                let mut kept = pool.allocate_copy(&text(len)).unwrap();
                let mut lent = pool.share(&mut kept).unwrap();
                lent.prepend(54).unwrap();
                lent.bytes_mut().fill(1);
                let mut arrived = pass(&mut near, &mut far, lent, &mut pool);
                arrived.trim_front(54).unwrap();
                assert!(arrived.is_lent() && Buffer::tailroom(&arrived) == 0 && arrived.write_at(0, b"x") == 0);
                let mut back = pool.share(&mut arrived).unwrap();
                assert!(pool.share(&mut arrived).is_none() && pool.share(&mut kept).is_none(), "one writes headers");
                back.prepend(54).unwrap();
                back.bytes_mut().fill(2);
                let back = pass(&mut far, &mut near, back, &mut pool);
                let free = pool.cached();
                let mut handles = [Some(kept), Some(arrived), Some(back)];
                for at in order {
                    pool.release(handles[at].take().unwrap());
                    for (handle, front) in handles.iter().zip([0, 0, 54]) {
                        assert!(handle.as_ref().is_none_or(|frame| whole(frame)[front..] == text(len)));
                    }
                }
                assert!(pool.cached() > free);
                drop(pool);
                assert_eq!((region.at_home(), region.strayed()), (region.chunks(), 0));
            }
        }
    }

    #[test]
    fn a_share_that_begins_later_is_not_lent_on() {
        let (_region, mut pool, mut near, mut far) = pair();
        let mut kept = pool.allocate_copy(&text(64)).unwrap();
        let lent = pool.share(&mut kept).unwrap();
        let mut arrived = pass(&mut near, &mut far, lent, &mut pool);
        arrived.trim_front(10).unwrap();
        assert!(pool.share(&mut arrived).is_none(), "headers would lie where the kept text does");
        pool.release(kept);
        let back = pool.share(&mut arrived).unwrap();
        [arrived, back].into_iter().for_each(|frame| pool.release(frame));
    }

    #[test]
    fn a_share_in_a_chain_is_cut_without_touching_the_chain() {
        let (region, mut pool, mut near, mut far) = pair();
        let mut kept = pool.allocate_copy(&text(5_000)).unwrap();
        let mut lent = pool.share(&mut kept).unwrap();
        lent.prepend(54).unwrap();
        let mut arrived = pass(&mut near, &mut far, lent, &mut pool);
        arrived.truncate(54 + 3_000);
        arrived.trim_front(54).unwrap();
        assert_eq!((arrived.total_len(), whole(&arrived)), (3_000, text(3_000)));
        assert!(!arrived.fills_chunks());
        arrived.truncate(0);
        assert!(!arrived.is_chained() && !kept.is_shared() && whole(&kept) == text(5_000));
        [arrived, kept].into_iter().for_each(|frame| pool.release(frame));
        drop(pool);
        assert_eq!((region.at_home(), region.strayed()), (region.chunks(), 0));
    }
}
