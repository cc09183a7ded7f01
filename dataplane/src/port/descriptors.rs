//! Packets to descriptors and back: what every ring-based port shares.

use crate::frame::{Frame, Region};
use crate::ledger::DropReason;
use crate::ring::{CONTINUED, Consumer, Descriptor, Producer};

/// Writes a packet's descriptors. The caller made sure of enough free slots.
#[inline]
pub(crate) fn put_packet(ring: &mut Producer<Descriptor>, region: &Region, frame: Frame) {
    if !frame.is_chained() {
        frame.into_descriptors(region, |addr, len| {
            let pushed = ring.push(Descriptor { addr, len, options: 0 });
            debug_assert!(pushed.is_ok(), "slots were counted before");
        });
        return;
    }
    let mut left = frame.segment_count();
    frame.into_descriptors(region, |addr, len| {
        left -= 1;
        let pushed = ring.push(Descriptor { addr, len, options: if left > 0 { CONTINUED } else { 0 } });
        debug_assert!(pushed.is_ok(), "slots were counted before");
    });
}

/// Reads the next packet from a ring; an error gives back what there is of it, and why it cannot be used.
///
/// # Safety
/// Whoever pushed a descriptor gave up the chunk that it points into.
#[inline]
#[allow(unsafe_code)]
pub(crate) unsafe fn take_packet(
    ring: &mut Consumer<Descriptor>,
    region: &Region,
) -> Option<Result<Frame, (Option<Frame>, DropReason)>> {
    let descriptor = ring.pop()?;
    // SAFETY: passed on from the caller.
    let Some(mut first) = (unsafe { frame_of(region, descriptor) }) else {
        return Some(Err((None, DropReason::BadDescriptor)));
    };
    let mut more = descriptor.options & CONTINUED != 0;
    let mut too_many: Option<Frame> = None;
    while more {
        // The producer publishes whole packets; a cut one can only come from a broken peer.
        let Some(descriptor) = ring.pop() else { return Some(Err((Some(first), DropReason::BadDescriptor))) };
        more = descriptor.options & CONTINUED != 0;
        // SAFETY: passed on from the caller.
        let Some(part) = (unsafe { frame_of(region, descriptor) }) else { continue };
        if let Err(part) = first.append(part) {
            // Keep one; the others go home through the region.
            too_many = Some(part);
        }
    }
    match too_many {
        Some(part) => {
            drop(part);
            Some(Err((Some(first), DropReason::TooManySegments)))
        }
        None => Some(Ok(first)),
    }
}

/// # Safety
/// The caller owns the chunk that the descriptor points into.
#[inline]
#[allow(unsafe_code)]
pub(crate) unsafe fn frame_of(region: &Region, descriptor: Descriptor) -> Option<Frame> {
    let chunk = region.chunk_at(descriptor.addr as usize);
    let head = descriptor.addr as usize & (region.chunk_len() - 1);
    let len = descriptor.len as usize;
    if chunk as usize >= region.chunks() || head < 64 || head + len > region.chunk_len() {
        return None;
    }
    // SAFETY: bounds checked above; ownership passed on from the caller.
    Some(unsafe { Frame::from_chunk(region, chunk, head, len) })
}
