//! What the application has written and the peer has not acknowledged: the retransmission queue and
//! what is yet to be sent, in the buffers that it leaves from.
//!
//! ```text
//!     sent (in flight, or lost)             not sent
//!   +-------+-------+-------+-------+    +-------+-------+
//!   |   0   |   1   |   2   |   3   |    |   4   |   5   |  one buffer each: payload only,
//!   +-------+-------+-------+-------+    +-------+-------+  headers are written in front as it leaves
//!   ^ snd_una                       ^ snd_nxt            ^ end
//! ```
//! Each segment keeps the marks of SACK and RACK (the scoreboard of RFC 6675 §3), and the queue their
//! sums in bytes:
//!
//! ```text
//! in flight = sent - sacked - lost + resent          (RFC 6675 §4: pipe)
//! ```

mod runs;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::congestion::SendStamp;
use super::seq::SeqNum;
use crate::buffer::Buffer;
use crate::time::Instant;

/// One segment, as it was or will be sent.
#[derive(Debug)]
pub(super) struct Segment<B> {
    pub(super) seq: SeqNum,
    /// Bytes of payload.
    pub(super) len: u32,
    /// `None`: only a FIN.
    pub(super) payload: Option<B>,
    pub(super) fin: bool,
    /// The end of what the application wrote at once (RFC 9293 §3.9.1.2).
    pub(super) push: bool,
    /// The peer has it, by SACK.
    pub(super) sacked: bool,
    /// Judged lost.
    pub(super) lost: bool,
    /// Lost, and in flight again.
    pub(super) resent: bool,
    /// Larger than the others, to find out whether it arrives; not any more once it was judged lost.
    pub(super) probe: bool,
    /// Times it was sent.
    pub(super) transmits: u8,
    /// Of the first and the last of a run of SACKed segments: how many these are ([`runs`]).
    run: u32,
    /// Of the payload ([`Sum::folded`](crate::checksum::Sum::folded)), once it was summed up.
    pub(super) sum: Option<u16>,
    /// Of its last sending.
    pub(super) stamp: Option<SendStamp>,
}

impl<B> Segment<B> {
    const BLANK: Self = Self {
        seq: SeqNum(0),
        len: 0,
        payload: None,
        fin: false,
        push: false,
        sacked: false,
        lost: false,
        resent: false,
        probe: false,
        transmits: 0,
        run: 0,
        sum: None,
        stamp: None,
    };

    /// Sequence numbers that it takes.
    #[inline]
    pub(super) fn seq_len(&self) -> u32 {
        self.len + u32::from(self.fin)
    }

    /// The first sequence number behind it.
    #[inline]
    pub(super) fn end(&self) -> SeqNum {
        self.seq + self.seq_len()
    }

    /// It is about to leave, for the first time.
    #[inline]
    pub(super) fn note_first_sent(&mut self, stamp: SendStamp) {
        self.transmits = 1;
        self.stamp = Some(stamp);
    }

    pub(super) fn ever_resent(&self) -> bool {
        self.transmits > 1
    }

    /// What it says of itself.
    pub(super) fn without_payload(&self) -> Self {
        Self { payload: None, ..*self }
    }
}

/// Segments in a row that were sent once: only the first and the last of them say something about time.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) count: usize,
    /// Sequence numbers that they take.
    pub(super) len: u32,
    pub(super) first_end: SeqNum,
    pub(super) first_sent_at: Instant,
    pub(super) last_end: SeqNum,
    pub(super) last_sent_at: Instant,
    /// [`SendStamp::delivered`] of the last.
    pub(super) last_delivered: u64,
}

#[derive(Debug)]
pub(super) struct SendQueue<B> {
    segments: VecDeque<Segment<B>>,
    /// How many at the front have been sent.
    sent: usize,
    /// First sequence number behind everything.
    end: SeqNum,
    /// Bytes of payload, sent or not.
    bytes: u32,
    sacked: u32,
    lost: u32,
    resent: u32,
    /// Segments that were sent more than once.
    repeated: usize,
    fin: bool,
}

impl<B: Buffer> SendQueue<B> {
    pub(super) fn new(start: SeqNum) -> Self {
        Self {
            segments: VecDeque::new(),
            sent: 0,
            end: start,
            bytes: 0,
            sacked: 0,
            lost: 0,
            resent: 0,
            repeated: 0,
            fin: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Nothing comes any more: gives back the memory that nothing lies in.
    pub(super) fn shrink(&mut self) {
        self.segments.shrink_to_fit();
    }

    /// Segments, sent or not.
    pub(super) fn len(&self) -> usize {
        self.segments.len()
    }

    /// Bytes of payload, sent or not.
    pub(super) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Whether the last segment ends in a FIN.
    pub(super) fn has_fin(&self) -> bool {
        self.fin
    }

    pub(super) fn sent_count(&self) -> usize {
        self.sent
    }

    pub(super) fn sacked(&self) -> u32 {
        self.sacked
    }

    pub(super) fn lost(&self) -> u32 {
        self.lost
    }

    /// Whether every segment was sent once at most, and none is SACKed or judged lost.
    pub(super) fn is_plain(&self) -> bool {
        self.repeated == 0 && self.sacked == 0 && self.lost == 0
    }

    /// Bytes judged lost that are not in flight again.
    #[inline]
    pub(super) fn to_resend(&self) -> u32 {
        self.lost - self.resent
    }

    /// Bytes in flight, of the `sent` between `snd_una` and `snd_nxt`.
    pub(super) fn in_flight(&self, sent: u32) -> u32 {
        (sent + self.resent).saturating_sub(self.sacked + self.lost)
    }

    pub(super) fn sent_segments(&self) -> impl DoubleEndedIterator<Item = &Segment<B>> {
        self.segments.range(..self.sent)
    }

    /// The segment at `at`, if it was sent.
    #[inline]
    pub(super) fn sent_at(&self, at: usize) -> Option<&Segment<B>> {
        self.segments.get(at).filter(|_| at < self.sent)
    }

    pub(super) fn get(&self, at: usize) -> Option<&Segment<B>> {
        self.segments.get(at)
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Segment<B>> {
        self.segments.get_mut(at)
    }

    /// Of the last sending of the segment at `at`.
    #[inline]
    pub(super) fn stamp(&self, at: usize) -> Option<&SendStamp> {
        self.segments.get(at)?.stamp.as_ref()
    }

    // ---- writing ----------------------------------------------------------------------------

    /// The last segment, if it has not been sent and may grow.
    pub(super) fn growing(&mut self) -> Option<&mut Segment<B>> {
        if self.fin || self.segments.len() == self.sent {
            return None;
        }
        self.segments.back_mut()
    }

    /// `n` bytes were added to the last segment, which what was written before ends no more.
    pub(super) fn grew(&mut self, n: u32) {
        if let Some(last) = self.segments.back_mut() {
            last.len += n;
            last.sum = None;
            last.push &= n == 0;
            self.end += n;
            self.bytes += n;
        }
    }

    /// `sum`: of the payload, if it is known.
    #[inline]
    pub(super) fn push(&mut self, payload: B, sum: Option<u16>) {
        let len = payload.len() as u32;
        self.append(Some(payload), len, false, sum);
    }

    /// Ends the stream: nothing can be written after.
    pub(super) fn push_fin(&mut self) {
        match self.growing() {
            Some(last) => last.fin = true,
            None => self.append(None, 0, true, None),
        }
        if let Some(last) = self.segments.back() {
            self.end = last.end();
        }
        self.fin = true;
    }

    pub(super) fn mark_push(&mut self) {
        if let Some(last) = self.segments.back_mut() {
            last.push = true;
        }
    }

    #[inline]
    fn append(&mut self, payload: Option<B>, len: u32, fin: bool, sum: Option<u16>) {
        let seq = self.end;
        self.end += len + u32::from(fin);
        self.bytes += len;
        // Filled in where it lies: a segment put together elsewhere is read in larger pieces than it was written in, and for that
        // the CPU waits until all text written before it has left its store buffer.
        self.segments.push_back(Segment::BLANK);
        if let Some(last) = self.segments.back_mut() {
            (last.seq, last.len, last.fin, last.sum) = (seq, len, fin, sum);
            last.payload = payload;
        }
    }

    /// Copies text that was never sent, from the byte `at` of it on.
    pub(super) fn read_unsent(&self, at: usize, to: &mut [u8]) -> bool {
        let (mut skip, mut to) = (at, to);
        for segment in self.segments.range(self.sent..) {
            let Some(payload) = segment.payload.as_ref().filter(|_| !to.is_empty()) else { break };
            let n = payload.len().saturating_sub(skip).min(to.len());
            let (now, later) = to.split_at_mut(n);
            if payload.read_at(skip.min(payload.len()), now).is_err() {
                return false;
            }
            skip = skip.saturating_sub(payload.len());
            to = later;
        }
        to.is_empty()
    }

    /// Puts `payload`, a probe, in place of the next `count` segments that were never sent, whose text it has; gives back
    /// their buffers.
    pub(super) fn join_unsent(&mut self, count: usize, payload: B) -> Vec<B> {
        let end = (self.sent + count).min(self.segments.len());
        let parts: Vec<_> = self.segments.drain(self.sent..end).collect();
        if let Some((first, last)) = parts.first().zip(parts.last()) {
            let len = payload.len() as u32;
            let joined = Segment {
                len,
                payload: Some(payload),
                push: last.push,
                probe: true,
                sum: None,
                ..first.without_payload()
            };
            self.segments.insert(self.sent, joined);
        }
        parts.into_iter().filter_map(|part| part.payload).collect()
    }

    // ---- sending ----------------------------------------------------------------------------

    #[inline]
    pub(super) fn next_unsent(&self) -> Option<&Segment<B>> {
        self.segments.get(self.sent)
    }

    #[inline]
    pub(super) fn next_unsent_mut(&mut self) -> Option<&mut Segment<B>> {
        self.segments.get_mut(self.sent)
    }

    /// Whether nothing is queued behind the segment.
    pub(super) fn is_last(&self, segment: &Segment<B>) -> bool {
        segment.end() == self.end
    }

    /// Bytes of payload that were never sent.
    pub(super) fn unsent_bytes(&self, snd_nxt: SeqNum) -> u32 {
        self.end.since(snd_nxt).saturating_sub(u32::from(self.fin && self.next_unsent().is_some()))
    }

    /// The next unsent segment, which is about to leave for the first time.
    pub(super) fn take_unsent(&mut self) -> usize {
        let at = self.sent;
        self.sent += 1;
        at
    }

    /// Notes that a segment left.
    #[inline]
    pub(super) fn note_sent(&mut self, at: usize, stamp: SendStamp) {
        let Some(segment) = self.segments.get_mut(at) else { return };
        self.repeated += usize::from(segment.transmits == 1);
        segment.transmits = segment.transmits.saturating_add(1);
        segment.stamp = Some(stamp);
        if segment.lost && !segment.resent {
            segment.resent = true;
            self.resent += segment.seq_len();
        }
    }

    /// The first segment that is judged lost and not in flight again.
    #[inline]
    pub(super) fn next_to_resend(&self) -> Option<usize> {
        if self.to_resend() == 0 {
            return None;
        }
        self.missing_from(0).find(|(_, segment)| segment.lost && !segment.resent).map(|(at, _)| at)
    }

    /// Cuts a segment in two behind `len` bytes of payload; `tail` holds the rest.
    pub(super) fn split(&mut self, at: usize, len: u32, tail: B) {
        let Some(first) = self.segments.get_mut(at) else { return };
        debug_assert!(!first.sacked, "what has arrived is not sent again");
        let tail_len = first.len - len;
        first.probe = false;
        first.sum = None;
        self.repeated += usize::from(first.ever_resent());
        let second = Segment {
            seq: first.seq + len,
            len: tail_len,
            payload: Some(tail),
            fin: core::mem::take(&mut first.fin),
            push: core::mem::take(&mut first.push),
            sacked: first.sacked,
            lost: first.lost,
            resent: first.resent,
            probe: false,
            transmits: first.transmits,
            run: 0,
            sum: None,
            stamp: first.stamp,
        };
        first.len = len;
        if let Some(payload) = &mut first.payload {
            payload.truncate(len as usize);
        }
        self.segments.insert(at + 1, second);
        if at < self.sent {
            self.sent += 1;
        }
    }

    /// Lets the FIN of a segment that was never sent follow on it alone.
    pub(super) fn part_fin(&mut self, at: usize) {
        let Some(first) = self.segments.get_mut(at).filter(|first| first.fin) else { return };
        (first.fin, first.push) = (false, true);
        let alone = Segment { seq: first.end(), fin: true, ..Segment::BLANK };
        self.segments.insert(at + 1, alone);
    }

    // ---- acknowledgement --------------------------------------------------------------------

    /// Takes out the first segment if everything of it lies before `una`.
    pub(super) fn pop_acknowledged(&mut self, una: SeqNum) -> Option<Segment<B>> {
        if self.sent == 0 || self.segments.front()?.end().after(una) {
            return None;
        }
        let segment = self.segments.pop_front()?;
        self.sent -= 1;
        self.bytes -= segment.len;
        self.repeated -= usize::from(segment.ever_resent());
        self.unmark(&segment);
        if segment.sacked {
            self.shorten_run(segment.run);
        }
        Some(segment)
    }

    /// The segments at the front of which everything lies before `una`, that were sent once, and have no mark.
    #[inline(always)]
    pub(super) fn plain_run(&self, una: SeqNum) -> Option<Run> {
        let plain = |segment: &Segment<B>| {
            let marked = segment.sacked | segment.lost | segment.probe;
            segment.transmits == 1 && !marked && segment.end().at_or_before(una)
        };
        let first = self.sent_at(0).filter(|first| plain(first))?;
        let (mut count, mut last) = (1, first);
        while count < self.sent
            && let Some(segment) = self.segments.get(count)
            && plain(segment)
        {
            (count, last) = (count + 1, segment);
        }
        let (first_stamp, last_stamp) = (first.stamp.as_ref()?, last.stamp.as_ref()?);
        Some(Run {
            count,
            len: last.end().since(first.seq),
            first_end: first.end(),
            first_sent_at: first_stamp.sent_at,
            last_end: last.end(),
            last_sent_at: last_stamp.sent_at,
            last_delivered: last_stamp.delivered,
        })
    }

    /// Takes out what [`plain_run`](Self::plain_run) names, of a queue that [`is_plain`](Self::is_plain), in one go: each segment
    /// says what it has to as it leaves.
    #[inline(always)]
    pub(super) fn pop_run(&mut self, una: SeqNum, mut release: impl FnMut(B)) -> Option<Run> {
        let mut run = self.pop_of_run(una, &mut release)?;
        while let Some(next) = self.pop_of_run(una, &mut release) {
            run.count += 1;
            run.len += next.len;
            (run.last_end, run.last_sent_at) = (next.last_end, next.last_sent_at);
            run.last_delivered = next.last_delivered;
        }
        Some(run)
    }

    /// The first segment, as a run of one.
    #[inline(always)]
    fn pop_of_run(&mut self, una: SeqNum, release: &mut impl FnMut(B)) -> Option<Run> {
        debug_assert!(self.is_plain());
        let first = self.sent_at(0)?;
        if first.probe || first.stamp.is_none() || first.end().after(una) {
            return None;
        }
        let first = self.segments.pop_front()?;
        self.sent -= 1;
        self.bytes -= first.len;
        let (len, end) = (first.seq_len(), first.end());
        if let Some(payload) = first.payload {
            release(payload);
        }
        let SendStamp { sent_at, delivered, .. } = first.stamp?;
        Some(Run {
            count: 1,
            len,
            first_end: end,
            first_sent_at: sent_at,
            last_end: end,
            last_sent_at: sent_at,
            last_delivered: delivered,
        })
    }

    /// Takes out the first segment, of a run.
    #[inline]
    pub(super) fn pop_plain(&mut self) -> Option<B> {
        let first = self.segments.pop_front()?;
        self.sent -= 1;
        self.bytes -= first.len;
        first.payload
    }

    /// Bytes of the first segment that lie before `una`, and are taken off its sums. The caller cuts
    /// its payload.
    pub(super) fn trim_acknowledged(&mut self, una: SeqNum) -> u32 {
        let Some(first) = self.segments.front_mut().filter(|first| first.seq.before(una)) else { return 0 };
        let n = una.since(first.seq).min(first.len);
        first.seq += n;
        first.len -= n;
        first.sum = None;
        let (sacked, lost, resent) = (first.sacked, first.lost, first.resent);
        self.bytes -= n;
        self.sacked -= if sacked { n } else { 0 };
        self.lost -= if lost { n } else { 0 };
        self.resent -= if resent { n } else { 0 };
        n
    }

    fn unmark(&mut self, segment: &Segment<B>) {
        let len = segment.seq_len();
        self.sacked -= if segment.sacked { len } else { 0 };
        self.lost -= if segment.lost { len } else { 0 };
        self.resent -= if segment.resent { len } else { 0 };
    }

    /// Index of the first sent segment that does not begin before `seq`.
    pub(super) fn first_from(&self, seq: SeqNum) -> usize {
        self.segments.partition_point(|segment| segment.seq.before(seq)).min(self.sent)
    }

    /// Returns the place behind the run of SACKed segments that it is in from now on.
    pub(super) fn mark_sacked(&mut self, at: usize) -> usize {
        let Some(segment) = self.segments.get_mut(at).filter(|segment| !segment.sacked) else { return at + 1 };
        let len = segment.seq_len();
        let (lost, resent) = (core::mem::take(&mut segment.lost), core::mem::take(&mut segment.resent));
        segment.sacked = true;
        self.sacked += len;
        self.lost -= if lost { len } else { 0 };
        self.resent -= if resent { len } else { 0 };
        self.join_run(at)
    }

    /// Judges a segment lost, also one that was in flight again.
    pub(super) fn mark_lost(&mut self, at: usize) {
        let Some(segment) = self.segments.get_mut(at).filter(|segment| !segment.sacked) else { return };
        let len = segment.seq_len();
        let resent = core::mem::take(&mut segment.resent);
        let newly = !core::mem::replace(&mut segment.lost, true);
        self.lost += if newly { len } else { 0 };
        self.resent -= if resent { len } else { 0 };
    }

    /// A probe was lost: what is sent of it again is none.
    pub(super) fn forget_probe(&mut self, at: usize) {
        if let Some(segment) = self.segments.get_mut(at) {
            segment.probe = false;
        }
    }

    /// Nothing was lost after all.
    pub(super) fn forget_losses(&mut self) {
        for segment in self.segments.range_mut(..self.sent) {
            segment.lost = false;
            segment.resent = false;
        }
        self.lost = 0;
        self.resent = 0;
    }

    /// The peer may have thrown away what it had selectively acknowledged (RFC 2018 §8).
    pub(super) fn forget_sacks(&mut self) {
        for segment in self.segments.range_mut(..self.sent) {
            segment.sacked = false;
        }
        self.sacked = 0;
    }

    /// Everything, and whether it was ever sent, for whoever takes the connection apart.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (B, bool)> {
        self.sent = 0;
        self.repeated = 0;
        (self.bytes, self.sacked, self.lost, self.resent) = (0, 0, 0, 0);
        let segments = core::mem::take(&mut self.segments).into_iter();
        segments.filter_map(|segment| Some((segment.payload?, segment.transmits > 0)))
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::tcp::congestion::RateSampler;
    use crate::testing::VecBuffer;

    /// Five segments of ten bytes, sent at different times.
    fn sent() -> SendQueue<VecBuffer> {
        let (mut queue, mut sampler) = (SendQueue::new(SeqNum(u32::MAX - 25)), RateSampler::default());
        for n in 1..=5 {
            let now = Instant::ZERO + Duration::from_millis(n);
            queue.push(VecBuffer::from_bytes(&[0; 10]), None);
            let stamp = sampler.on_send(now, 10 * n as u32, 10);
            let at = queue.take_unsent();
            queue.note_sent(at, stamp);
            sampler.pass_run(now, stamp.sent_at, stamp.delivered, 10);
        }
        queue
    }

    #[test]
    fn what_is_taken_out_in_one_go_is_the_run_that_was_named() {
        for acknowledged in 0..=50 {
            let mut queue = sent();
            let una = SeqNum(u32::MAX - 25) + acknowledged;
            let (named, mut released) = (queue.plain_run(una), 0);
            let run = queue.pop_run(una, |payload| released += payload.len() as u32);
            assert_eq!(run, named, "of {acknowledged} bytes");
            let whole = acknowledged / 10;
            assert_eq!((released, queue.bytes()), (whole * 10, 50 - whole * 10));
            assert_eq!((queue.sent_count(), queue.len()), (5 - whole as usize, 5 - whole as usize));
        }
    }

    #[test]
    fn a_probe_ends_what_is_taken_out_in_one_go() {
        let mut queue = sent();
        queue.get_mut(2).unwrap().probe = true;
        let named = queue.plain_run(SeqNum(u32::MAX - 25) + 50);
        let run = queue.pop_run(SeqNum(u32::MAX - 25) + 50, |_| ());
        assert_eq!(run, named);
        assert_eq!((run.unwrap().count, queue.sent_count()), (2, 3));
    }

    #[test]
    fn a_segment_that_grows_is_pushed_only_when_what_was_added_is() {
        let mut queue = SendQueue::new(SeqNum(0));
        let mut text = VecBuffer::new();
        text.append(10).unwrap();
        queue.push(text, None);
        queue.mark_push();
        queue.grew(0);
        assert!(queue.next_unsent().unwrap().push, "nothing was added");
        queue.growing().unwrap().payload.as_mut().unwrap().append(5).unwrap();
        queue.grew(5);
        assert!(!queue.next_unsent().unwrap().push);
        queue.mark_push();
        assert!(queue.next_unsent().unwrap().push);
    }
}
