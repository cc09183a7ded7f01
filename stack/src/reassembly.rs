//! Reassembly of fragments (RFC 791 §3.2, RFC 8200 §4.5), bounded in datagrams, buffers and time.
//!
//! Fragments stay in the buffers they came in, sorted by offset; those of a complete datagram are
//! chained behind the first. Overlap ends a datagram, for IPv4 too (RFC 5722, RFC 1858 §4): what is
//! left of it stays known until its time is up, so that its stragglers are dropped as well. When a
//! limit is reached the oldest datagram goes, so a flood of fragments cannot stop later ones.
//!
//! Slots are searched one by one (there are few), and keep their memory: no allocation once warm.

use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use crate::buffer::{Buffer, NoRoom};
use crate::drop_reason::DropReason;
use crate::interface::InterfaceId;
use crate::time::{Instant, earliest};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReassemblyLimits {
    /// Datagrams at the same time.
    pub datagrams_max: usize,
    /// Fragments of one datagram: 65,535 bytes at an MTU of 1,280 are 53.
    pub fragments_max: usize,
    /// Fragments held in all: buffers taken from the pool.
    pub buffers_max: usize,
    /// Payload bytes held in all.
    pub bytes_max: usize,
    /// RFC 1122 §3.3.2 asks for 60 to 120 s, when links were slow; 30 s is what hosts use.
    pub ipv4_timeout: Duration,
    /// RFC 8200 §4.5.
    pub ipv6_timeout: Duration,
}

impl Default for ReassemblyLimits {
    fn default() -> Self {
        Self {
            datagrams_max: 64,
            fragments_max: 64,
            buffers_max: 256,
            bytes_max: 512 * 1024,
            ipv4_timeout: Duration::from_secs(30),
            ipv6_timeout: Duration::from_secs(60),
        }
    }
}

/// What fragments of one datagram have in common (RFC 791 §3.2, RFC 8200 §4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key {
    pub(crate) interface: InterfaceId,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) ident: u32,
    /// IPv4's protocol; 0 for IPv6, where it does not count.
    pub(crate) protocol: u8,
}

/// A fragment that is not empty, and whose length fits its flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    offset: usize,
    len: usize,
    more: bool,
}

impl Piece {
    /// `end_max`: the payload a whole datagram may have.
    pub(crate) fn new(offset: usize, len: usize, more: bool, end_max: usize) -> Result<Self, DropReason> {
        // RFC 8200 §4.5: all but the last are multiples of eight long.
        if len == 0 || (more && !len.is_multiple_of(8)) {
            return Err(DropReason::FragmentLen);
        }
        if offset + len > end_max {
            return Err(DropReason::FragmentOversize);
        }
        Ok(Self { offset, len, more })
    }

    fn end(&self) -> usize {
        self.offset + self.len
    }
}

struct Held<B> {
    piece: Piece,
    buffer: B,
}

struct Slot<B> {
    /// `None`: free.
    key: Option<Key>,
    deadline: Instant,
    /// Sorted by offset, disjoint.
    held: Vec<Held<B>>,
    bytes: usize,
    /// Payload length of the whole, known from the last fragment.
    total: Option<usize>,
    /// Why everything that still comes is dropped.
    ended_by: Option<DropReason>,
}

pub(crate) enum Added<B> {
    Held,
    /// The fragment has no place; unless it was a duplicate, its datagram is given up.
    Dropped(B, DropReason),
    /// All fragments are in `buffer`, behind the headers of the first, still as they came.
    Complete {
        buffer: B,
        payload_len: usize,
    },
}

/// A buffer that leaves reassembly by itself.
pub(crate) enum Gone<B> {
    /// Its bytes became part of another buffer; this one, if it is still there, is empty of use.
    Absorbed(Option<B>),
    Dropped(B, DropReason),
    /// The first fragment of a datagram whose time is up.
    FirstTimedOut(B),
}

pub(crate) struct Reassembly<B> {
    limits: ReassemblyLimits,
    slots: Vec<Slot<B>>,
    buffers: usize,
    bytes: usize,
    next_deadline: Option<Instant>,
}

impl<B: Buffer> Reassembly<B> {
    pub(crate) fn new(limits: ReassemblyLimits) -> Self {
        Self { limits, slots: Vec::new(), buffers: 0, bytes: 0, next_deadline: None }
    }

    /// Buffers held.
    pub(crate) fn buffers(&self) -> usize {
        self.buffers
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// Takes in a fragment whose payload starts at `payload_offset` of `buffer`, which ends with it.
    pub(crate) fn add(
        &mut self,
        key: Key,
        piece: Piece,
        mut buffer: B,
        payload_offset: usize,
        now: Instant,
        mut gone: impl FnMut(Gone<B>),
    ) -> Added<B> {
        if piece.offset != 0 && buffer.trim_front(payload_offset).is_err() {
            return Added::Dropped(buffer, DropReason::HeaderSplit);
        }
        let at = self.slot_for(key, now, &mut gone);
        self.make_room(at, piece.len, &mut gone);
        let Some(slot) = self.slots.get_mut(at) else {
            return Added::Dropped(buffer, DropReason::ReassemblyEvicted);
        };
        match slot.insert(piece, buffer, self.limits.fragments_max) {
            Ok(()) => {
                self.buffers += 1;
                self.bytes += piece.len;
            }
            Err((buffer, reason)) => {
                // RFC 8200 §4.5: an exact duplicate may be ignored; anything else ends the whole.
                if reason != DropReason::FragmentDuplicate {
                    slot.ended_by = Some(reason);
                    self.drop_held(at, reason, &mut gone);
                }
                return Added::Dropped(buffer, reason);
            }
        }
        match slot.total {
            Some(total) if total == slot.bytes => self.complete(at, total, &mut gone),
            _ => Added::Held,
        }
    }

    /// The next fragment of a datagram whose time is up, with the interface it came through.
    pub(crate) fn pop_expired(&mut self, now: Instant) -> Option<(InterfaceId, Gone<B>)> {
        if self.next_deadline.is_none_or(|deadline| deadline > now) {
            return None;
        }
        for slot in &mut self.slots {
            let Some(key) = slot.key.filter(|_| slot.deadline <= now) else { continue };
            let Some(Held { piece, buffer }) = slot.held.pop() else {
                slot.key = None;
                continue;
            };
            self.buffers -= 1;
            self.bytes -= piece.len;
            slot.bytes -= piece.len;
            let gone = match piece.offset {
                0 => Gone::FirstTimedOut(buffer),
                _ => Gone::Dropped(buffer, DropReason::ReassemblyTimeout),
            };
            return Some((key.interface, gone));
        }
        self.next_deadline = self.earliest_deadline();
        None
    }

    /// Gives up everything that came through `interface`.
    pub(crate) fn remove_interface(&mut self, interface: InterfaceId, mut gone: impl FnMut(Gone<B>)) {
        for at in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(at) else { break };
            if slot.key.is_some_and(|key| key.interface == interface) {
                slot.key = None;
                self.drop_held(at, DropReason::InterfaceRemoved, &mut gone);
            }
        }
        self.next_deadline = self.earliest_deadline();
    }

    /// The slot of `key`: its own, a free one, a new one, or the oldest datagram's.
    fn slot_for(&mut self, key: Key, now: Instant, gone: &mut impl FnMut(Gone<B>)) -> usize {
        if let Some(at) = self.slots.iter().position(|slot| slot.key == Some(key)) {
            return at;
        }
        let free = self.slots.iter().position(|slot| slot.key.is_none());
        let at = match free {
            Some(at) => at,
            None if self.slots.len() < self.limits.datagrams_max.max(1) => {
                self.slots.push(Slot::free());
                self.slots.len() - 1
            }
            None => {
                let at = self.oldest(usize::MAX).unwrap_or(0);
                self.drop_held(at, DropReason::ReassemblyEvicted, gone);
                at
            }
        };
        let timeout = match key.source {
            IpAddr::V4(_) => self.limits.ipv4_timeout,
            IpAddr::V6(_) => self.limits.ipv6_timeout,
        };
        let deadline = now + timeout;
        if let Some(slot) = self.slots.get_mut(at) {
            slot.key = Some(key);
            slot.deadline = deadline;
            slot.total = None;
            slot.ended_by = None;
        }
        self.next_deadline = earliest(self.next_deadline, Some(deadline));
        at
    }

    /// Evicts other datagrams than `keep`, oldest first, until a fragment of `len` bytes fits.
    fn make_room(&mut self, keep: usize, len: usize, gone: &mut impl FnMut(Gone<B>)) {
        // Each round frees a slot, so there are at most `datagrams_max` of them.
        while self.buffers >= self.limits.buffers_max || self.bytes + len > self.limits.bytes_max {
            let at = self.oldest(keep).unwrap_or(keep);
            let Some(slot) = self.slots.get_mut(at) else { return };
            if slot.held.is_empty() {
                return;
            }
            if at == keep {
                slot.ended_by = Some(DropReason::ReassemblyEvicted);
            } else {
                slot.key = None;
            }
            self.drop_held(at, DropReason::ReassemblyEvicted, gone);
        }
    }

    /// The datagram, other than `but`, that holds buffers or a key and has the earliest deadline.
    fn oldest(&self, but: usize) -> Option<usize> {
        let used = self
            .slots
            .iter()
            .enumerate()
            .filter(|(at, slot)| *at != but && slot.key.is_some() && (but == usize::MAX || !slot.held.is_empty()));
        used.min_by_key(|(_, slot)| slot.deadline).map(|(at, _)| at)
    }

    fn earliest_deadline(&self) -> Option<Instant> {
        self.slots.iter().filter(|slot| slot.key.is_some()).map(|slot| slot.deadline).min()
    }

    fn drop_held(&mut self, at: usize, reason: DropReason, gone: &mut impl FnMut(Gone<B>)) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        for held in slot.held.drain(..) {
            self.buffers -= 1;
            self.bytes -= held.piece.len;
            gone(Gone::Dropped(held.buffer, reason));
        }
        slot.bytes = 0;
    }

    /// Makes one frame of the fragments.
    fn complete(&mut self, at: usize, payload_len: usize, gone: &mut impl FnMut(Gone<B>)) -> Added<B> {
        let Some(slot) = self.slots.get_mut(at) else { return Added::Held };
        slot.key = None;
        slot.bytes = 0;
        self.buffers -= slot.held.len();
        self.bytes -= payload_len;
        let mut fragments = slot.held.drain(..).map(|held| held.buffer);
        let Some(mut buffer) = fragments.next() else { return Added::Held };
        let mut fits = true;
        for tail in fragments {
            match if fits { join(&mut buffer, tail) } else { Err(tail) } {
                Ok(spent) => gone(Gone::Absorbed(spent)),
                Err(tail) => {
                    fits = false;
                    gone(Gone::Dropped(tail, DropReason::ReassemblyNoRoom));
                }
            }
        }
        if !fits {
            return Added::Dropped(buffer, DropReason::ReassemblyNoRoom);
        }
        Added::Complete { buffer, payload_len }
    }
}

impl<B> Slot<B> {
    fn free() -> Self {
        Self { key: None, deadline: Instant::ZERO, held: Vec::new(), bytes: 0, total: None, ended_by: None }
    }

    /// Puts the fragment in its place.
    fn insert(&mut self, piece: Piece, buffer: B, fragments_max: usize) -> Result<(), (B, DropReason)> {
        if let Some(reason) = self.ended_by {
            return Err((buffer, reason));
        }
        let at = self.held.partition_point(|held| held.piece.offset < piece.offset);
        let next = self.held.get(at).map(|held| held.piece);
        let before = at.checked_sub(1).and_then(|at| self.held.get(at)).map(|held| held.piece);
        if next == Some(piece) {
            return Err((buffer, DropReason::FragmentDuplicate));
        }
        // RFC 5722 §4: fragments that overlap end the datagram.
        if before.is_some_and(|before| before.end() > piece.offset)
            || next.is_some_and(|next| next.offset < piece.end())
        {
            return Err((buffer, DropReason::FragmentOverlap));
        }
        let end_is_wrong = match self.total {
            Some(total) => !piece.more || piece.end() >= total,
            None => !piece.more && next.is_some(),
        };
        if end_is_wrong {
            return Err((buffer, DropReason::FragmentEnd));
        }
        if self.held.len() >= fragments_max {
            return Err((buffer, DropReason::FragmentTooMany));
        }
        if !piece.more {
            self.total = Some(piece.end());
        }
        self.bytes += piece.len;
        self.held.insert(at, Held { piece, buffer });
        Ok(())
    }
}

/// Appends `tail`: by chaining, else by copying into the tailroom, which leaves a spent buffer.
fn join<B: Buffer>(buffer: &mut B, tail: B) -> Result<Option<B>, B> {
    let Err(tail) = buffer.chain(tail) else { return Ok(None) };
    let copied = match buffer.append(tail.len()) {
        Ok(room) => tail.read_at(0, room),
        Err(NoRoom) => Err(NoRoom),
    };
    match copied {
        Ok(()) => Ok(Some(tail)),
        Err(NoRoom) => Err(tail),
    }
}
