//! Packets to descriptors and back: what every ring-based port shares.

use crate::frame::{Batch, Frame, Pool, Region};
use crate::ledger::{DropReason, Ledger};
use crate::ring::{CONTINUED, Consumer, Descriptor, Producer};

/// What one call moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Burst {
    pub(crate) packets: usize,
    pub(crate) bytes: u64,
}

/// Moves at most `max` packets from the front of `batch` into the ring and publishes them, as many as find room.
#[inline]
pub(crate) fn put_burst(
    ring: &mut Producer<Descriptor>,
    region: &Region,
    pool: &mut Pool,
    batch: &mut Batch,
    max: usize,
) -> Burst {
    let mut burst = Burst::default();
    ring.free(batch.len().min(max) as u32);
    while !batch.is_empty() && burst.packets < max {
        let run = put_run(ring, region, batch, max - burst.packets);
        if run.packets == 0 && !put_other(ring, region, pool, batch, &mut burst) {
            break;
        }
        burst.packets += run.packets;
        burst.bytes += run.bytes;
    }
    if burst.packets > 0 {
        ring.publish();
    }
    burst
}

/// Writes packets of one segment in the region, up to the first other one, to the end of the ring's memory, or as long as there is room.
#[inline]
fn put_run(ring: &mut Producer<Descriptor>, region: &Region, batch: &mut Batch, max: usize) -> Burst {
    let mut burst = Burst::default();
    for (slot, frame) in ring.room(batch.len().min(max) as u32).iter_mut().zip(batch.iter()) {
        let addr = region.offset_of(frame.data_ptr());
        if frame.is_chained() || region.chunk_at(addr).is_none() {
            break;
        }
        let len = frame.len() as u32;
        slot.write(Descriptor { addr: addr as u64, len, options: 0 });
        burst.packets += 1;
        burst.bytes += u64::from(len);
    }
    ring.advance(burst.packets);
    batch.forget_front(burst.packets);
    burst
}

/// Writes the first packet, however many segments it has; false if there is no room for all of them.
#[cold]
fn put_other(
    ring: &mut Producer<Descriptor>,
    region: &Region,
    pool: &mut Pool,
    batch: &mut Batch,
    burst: &mut Burst,
) -> bool {
    let Some(first) = batch.frames_mut().first_mut() else { return false };
    if !first.is_of(region) {
        // What lies elsewhere the other side cannot see.
        pool.check(region);
        let Some(copy) = pool.duplicate(first) else { return false };
        pool.release(std::mem::replace(first, copy));
    }
    let (needed, bytes) = (first.segments().count(), first.total_len() as u64);
    if needed > ring.free(needed as u32) as usize {
        return false;
    }
    batch.drain_front(1).for_each(|frame| put_packet(ring, region, frame));
    burst.packets += 1;
    burst.bytes += bytes;
    true
}

/// Writes a packet's descriptors. The caller made sure of enough free slots.
#[inline]
fn put_packet(ring: &mut Producer<Descriptor>, region: &Region, frame: Frame) {
    let mut left = frame.segments().count();
    frame.into_descriptors(region, |addr, len| {
        left -= 1;
        let pushed = ring.push(Descriptor { addr, len, options: if left > 0 { CONTINUED } else { 0 } });
        debug_assert!(pushed.is_ok(), "slots were counted before");
    });
}

/// Moves at most `max` packets from the ring to the end of `batch`, as received by port `number`, and gives their slots back. Packets that cannot be
/// represented count as received, and as dropped in `ledger`.
///
/// # Safety
/// Whoever pushed a descriptor gave up the chunk that it points into.
#[inline]
#[allow(unsafe_code)]
pub(crate) unsafe fn take_burst(
    ring: &mut Consumer<Descriptor>,
    region: &Region,
    number: u16,
    pool: &mut Pool,
    ledger: &mut Ledger,
    batch: &mut Batch,
    max: usize,
) -> Burst {
    let mut burst = Burst::default();
    if ring.available(max as u32) == 0 {
        return burst;
    }
    while burst.packets < max {
        let ready = ring.ready((max - burst.packets) as u32);
        if ready.is_empty() {
            break;
        }
        let mut bytes = 0;
        let taken = batch.extend_while(ready, |&descriptor| {
            if descriptor.options & CONTINUED != 0 {
                return None;
            }
            // SAFETY: passed on from the caller.
            let mut frame = unsafe { frame_of(region, descriptor) }?;
            frame.set_port(number);
            bytes += u64::from(descriptor.len);
            Some(frame)
        });
        ring.advance(taken);
        burst.packets += taken;
        burst.bytes += bytes;
        if taken == 0 {
            // SAFETY: passed on from the caller.
            let frame = unsafe { take_other(ring, region, pool, ledger, &mut burst) };
            batch.extend(frame.map(|mut frame| {
                frame.set_port(number);
                frame
            }));
        }
    }
    ring.release();
    burst
}

/// Takes the next packet, which has several segments or cannot be represented.
///
/// # Safety
/// As for [`take_burst`].
#[cold]
#[allow(unsafe_code)]
unsafe fn take_other(
    ring: &mut Consumer<Descriptor>,
    region: &Region,
    pool: &mut Pool,
    ledger: &mut Ledger,
    burst: &mut Burst,
) -> Option<Frame> {
    let descriptor = ring.pop()?;
    burst.packets += 1;
    burst.bytes += u64::from(descriptor.len);
    // SAFETY: passed on from the caller.
    let whole = unsafe {
        let first = frame_of(region, descriptor);
        take_rest(ring, region, first, descriptor.options, &mut burst.bytes)
    };
    match whole {
        Ok(frame) => Some(frame),
        Err((frame, reason)) => {
            ledger.count(reason);
            frame.into_iter().for_each(|frame| pool.release(frame));
            None
        }
    }
}

/// Reads the segments behind the first; an error gives back what there is of the packet, and why it cannot be used.
///
/// # Safety
/// As for [`take_burst`].
#[cold]
#[allow(unsafe_code)]
unsafe fn take_rest(
    ring: &mut Consumer<Descriptor>,
    region: &Region,
    first: Option<Frame>,
    mut options: u32,
    bytes: &mut u64,
) -> Result<Frame, (Option<Frame>, DropReason)> {
    let mut whole = first;
    let mut trouble = whole.is_none().then_some(DropReason::BadDescriptor);
    while options & CONTINUED != 0 {
        // The producer publishes whole packets; a cut one can only come from a broken peer.
        let Some(descriptor) = ring.pop() else { return Err((whole, DropReason::BadDescriptor)) };
        options = descriptor.options;
        *bytes += u64::from(descriptor.len);
        // SAFETY: passed on from the caller.
        match (&mut whole, unsafe { frame_of(region, descriptor) }) {
            (Some(first), Some(part)) => {
                if let Err(part) = first.append(part) {
                    trouble = Some(DropReason::TooManySegments);
                    Region::adopt(&part, false);
                    std::mem::forget(part);
                }
            }
            // The first segment was unusable; keep a later one, so that its chunk goes home.
            (None, Some(part)) => whole = Some(part),
            (_, None) => trouble = Some(DropReason::BadDescriptor),
        }
    }
    match (whole, trouble) {
        (Some(frame), None) => Ok(frame),
        (whole, trouble) => Err((whole, trouble.unwrap_or(DropReason::BadDescriptor))),
    }
}

/// # Safety
/// The caller owns the chunk that the descriptor points into.
#[inline]
#[allow(unsafe_code)]
pub(crate) unsafe fn frame_of(region: &Region, descriptor: Descriptor) -> Option<Frame> {
    let chunk = region.chunk_at(descriptor.addr as usize)?;
    let head = descriptor.addr as usize & (region.chunk_len() - 1);
    let len = descriptor.len as usize;
    if head < 64 || head + len > region.chunk_len() {
        return None;
    }
    // SAFETY: bounds checked above; ownership passed on from the caller.
    Some(unsafe { Frame::from_chunk(region, chunk, head, len) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::RegionConfig;
    use crate::ring;

    #[test]
    fn packets_of_another_region_leave_as_copies_in_order() {
        let config = RegionConfig { chunks: 64, huge_pages: false, ..RegionConfig::default() };
        let regions = [(); 2].map(|()| Region::in_process(config).unwrap());
        let [mut pool, mut theirs] = regions.each_ref().map(|region| Pool::new(region.clone()));
        let (mut near, mut far) = ring::in_process(16);
        let mut batch = Batch::default();
        let packets: Vec<Vec<u8>> = [60, 61, 5_000, 62].map(|len| vec![len as u8; len]).into();
        for (at, packet) in packets.iter().enumerate() {
            let from = if at % 2 == 0 { &mut theirs } else { &mut pool };
            batch.push(from.allocate_copy(packet).unwrap());
        }
        assert_eq!(put_burst(&mut near, &regions[0], &mut pool, &mut batch, 8).packets, 4);
        let mut ledger = Ledger::default();
        // SAFETY: `put_burst` gave them up.
        #[allow(unsafe_code)]
        let taken = unsafe { take_burst(&mut far, &regions[0], 0, &mut pool, &mut ledger, &mut batch, 8) };
        let whole = batch.drain().map(|frame| {
            let bytes = frame.segments().collect::<Vec<_>>().concat();
            pool.release(frame);
            bytes
        });
        assert_eq!((whole.collect::<Vec<_>>(), taken.packets), (packets, 4));
        drop((pool, theirs));
        for region in regions {
            assert_eq!((region.at_home(), region.strayed()), (region.chunks(), 0));
        }
    }
}
