//! Buffers of a connection: where they come from and go to, and how one is sent and kept at once.

use super::Tcp;
use super::config::TcpConfig;
use super::tcb::Cx;
use crate::buffer::Buffer;
use crate::drop_reason::DropReason;
use crate::env::Env;

/// Buffers that a queue may have while a quarter is left: one fewer with each quarter of that, and in the last of them one.
const SHARE_MIN: usize = 4;
/// Parts of the buffers.
const PARTS: usize = 4 * SHARE_MIN;

impl TcpConfig {
    /// Whether a connection that keeps `own` buffers in its queue may keep another while all keep `held`.
    #[inline]
    pub(super) fn may_hold(&self, own: usize, held: usize) -> bool {
        own < self.shared().saturating_sub(held) || self.is_due(own, held)
    }

    /// Whether a connection that keeps `own` received buffers may keep another while all keep `held`: twice as many as are
    /// free, for the peer was promised room, while a writer can wait.
    #[inline]
    pub(super) fn may_keep(&self, own: usize, held: usize) -> bool {
        own < self.shared().saturating_sub(held).saturating_mul(2) || self.is_due(own, held)
    }

    /// Whether who has next to none gets one of the last.
    #[inline]
    fn is_due(&self, own: usize, held: usize) -> bool {
        let max = self.buffers_max;
        own < SHARE_MIN && own * (max / PARTS) < max.saturating_sub(held)
    }

    /// How many more it may keep if the others keep what they do.
    pub(super) fn may_still_keep(&self, own: usize, held: usize) -> usize {
        let free = self.shared().saturating_sub(held).saturating_mul(2);
        let left = self.buffers_max.saturating_sub(held);
        // Of the last, as long as nobody else comes; a peer that may send nothing would not hear of room.
        let due = left.div_ceil((self.buffers_max / PARTS).max(1)).min(left).clamp(1, SHARE_MIN);
        (free.saturating_sub(own) / 3).max(due.saturating_sub(own))
    }

    /// Who has many already gets more of these only.
    #[inline]
    fn shared(&self) -> usize {
        self.buffers_max - self.buffers_max / 8
    }
}

impl<B> Tcp<B> {
    /// Whether a connection that keeps `own` buffers in its queue may keep another.
    #[inline]
    pub(super) fn may_hold(&self, own: usize) -> bool {
        self.config.may_hold(own, self.held)
    }
}

impl<B: Buffer, E: Env<Buffer = B>> Cx<'_, B, E> {
    pub(super) fn allocate(&mut self) -> Option<B> {
        let buffer = self.stack.ledger.allocate(self.env);
        self.stack.tcp.counters.no_buffer += u64::from(buffer.is_none());
        buffer
    }

    /// Whether a connection that keeps `own` buffers in its queue may keep another: no more than are free, so that all
    /// get alike (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", IEEE/ACM
    /// ToN 1998, with a factor of 1). An eighth of the buffers is for those that have next to none.
    pub(super) fn may_hold(&mut self, own: usize) -> bool {
        let tcp = &mut self.stack.tcp;
        let room = tcp.may_hold(own);
        tcp.counters.buffers_max_hit += u64::from(!room);
        room
    }

    /// Whether a connection that keeps `own` received buffers may keep another.
    pub(super) fn may_keep(&mut self, own: usize) -> bool {
        let tcp = &mut self.stack.tcp;
        let room = tcp.config.may_keep(own, tcp.held);
        tcp.counters.buffers_max_hit += u64::from(!room);
        room
    }

    /// Received buffers that a connection may keep beyond its `own`.
    pub(super) fn may_still_keep(&self, own: usize) -> usize {
        self.stack.tcp.config.may_still_keep(own, self.stack.tcp.held)
    }

    /// Whether next to nothing is kept: a connection may keep half of all buffers then.
    #[inline]
    pub(super) fn has_memory(&self) -> bool {
        self.stack.tcp.held < self.stack.tcp.config.buffers_max / 16
    }

    pub(super) fn hold(&mut self) {
        self.stack.tcp.held += 1;
    }

    pub(super) fn let_go(&mut self) {
        self.stack.tcp.held = self.stack.tcp.held.saturating_sub(1);
    }

    /// A kept buffer has served its purpose.
    #[inline]
    pub(super) fn release(&mut self, buffer: B) {
        self.let_go();
        self.stack.ledger.release(self.env, buffer);
    }

    /// A kept buffer is thrown away.
    pub(super) fn discard(&mut self, buffer: B, reason: DropReason) {
        self.let_go();
        self.stack.ledger.discard(self.env, buffer, reason);
    }

    /// The bytes of `kept` to be sent, while it stays: in the same buffer if nobody below is reading it
    /// and its kind allows, else in a copy.
    #[inline(always)]
    pub(super) fn lend(&mut self, kept: &mut B) -> Option<B> {
        match self.env.share(kept) {
            Some(shared) => {
                self.stack.ledger.originated += 1;
                Some(shared)
            }
            None => self.copy_all(kept),
        }
    }

    #[inline(never)]
    fn copy_all(&mut self, kept: &B) -> Option<B> {
        self.copy(kept, 0, kept.len())
    }

    /// A copy of `len` bytes from `offset` on.
    pub(super) fn copy(&mut self, from: &B, offset: usize, len: usize) -> Option<B> {
        self.fill(len, |at, room| from.read_at(offset + at, room).is_ok())
    }

    /// A buffer, of several segments if it takes them, with `len` bytes that `write` puts in, by
    /// offset and room.
    #[inline]
    pub(super) fn fill(&mut self, len: usize, mut write: impl FnMut(usize, &mut [u8]) -> bool) -> Option<B> {
        if len == 0 {
            return None;
        }
        let whole = self.fill_part(0, len, &mut write)?;
        if whole.len() < len { self.fill_further(whole, len, write) } else { Some(whole) }
    }

    /// Adds segments to a buffer that is full.
    #[inline(never)]
    fn fill_further(&mut self, mut whole: B, len: usize, mut write: impl FnMut(usize, &mut [u8]) -> bool) -> Option<B> {
        while whole.len() < len {
            let part = self.fill_part(whole.len(), len, &mut write);
            let spare = match part.map(|part| whole.chain(part)) {
                Some(Ok(())) => {
                    self.stack.ledger.consumed += 1;
                    continue;
                }
                Some(Err(part)) => Some(part),
                None => None,
            };
            for part in spare.into_iter().chain([whole]) {
                self.stack.ledger.discard(self.env, part, DropReason::NoBuffer);
            }
            return None;
        }
        Some(whole)
    }

    /// A buffer with as much as it has room for of `len` bytes, from `offset` on.
    #[inline(always)]
    fn fill_part(&mut self, offset: usize, len: usize, write: &mut impl FnMut(usize, &mut [u8]) -> bool) -> Option<B> {
        let mut part = self.allocate()?;
        let n = part.tailroom().min(len - offset);
        if n > 0 && part.append(n).is_ok_and(|room| write(offset, room)) {
            return Some(part);
        }
        self.stack.ledger.discard(self.env, part, DropReason::NoBuffer);
        None
    }

    /// Adds `len` bytes in further segments; how many, all or none.
    pub(super) fn extend(&mut self, kept: &mut B, len: usize, mut write: impl FnMut(usize, &mut [u8])) -> usize {
        let filled = self.fill(len, |at, room| {
            write(at, room);
            true
        });
        let Some(part) = filled else { return 0 };
        match kept.chain(part) {
            Ok(()) => {
                self.stack.ledger.consumed += 1;
                len
            }
            Err(part) => {
                self.stack.ledger.release(self.env, part);
                0
            }
        }
    }

    /// A kept buffer without its first `n` bytes: cut, or copied where they end in a further segment
    /// or somebody below reads it still. `None` if no buffer was free; then it is gone.
    #[inline]
    pub(super) fn cut_front(&mut self, mut buffer: B, n: usize) -> Option<B> {
        if n == 0 || buffer.trim_front(n).is_ok() { Some(buffer) } else { self.copy_behind(buffer, n) }
    }

    #[inline(never)]
    fn copy_behind(&mut self, buffer: B, n: usize) -> Option<B> {
        let rest = self.copy(&buffer, n, buffer.len().saturating_sub(n));
        self.stack.ledger.release(self.env, buffer);
        if rest.is_none() {
            self.let_go();
        }
        rest
    }
}
