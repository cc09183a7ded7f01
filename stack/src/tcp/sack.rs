//! Selective acknowledgement: what the receiver reports (RFC 2018 §4, RFC 2883 §4).

use super::seq::SeqNum;
use crate::wire::tcp_option::{SACK_BLOCKS_MAX, SackBlock, SackBlocks};

/// The blocks to report, the most recently changed first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SackReport {
    /// Empty ones (left = right) are unused.
    blocks: [(SeqNum, SeqNum); SACK_BLOCKS_MAX],
    /// RFC 2883 §4: what arrived twice, to be told once.
    duplicate: Option<(SeqNum, SeqNum)>,
}

impl SackReport {
    /// Text from `left` to `right` arrived early.
    pub(super) fn on_early(&mut self, left: SeqNum, right: SeqNum) {
        let mut merged = (left, right);
        let mut kept = [(SeqNum(0), SeqNum(0)); SACK_BLOCKS_MAX];
        let mut count = 1;
        for &(left, right) in self.blocks.iter().filter(|(left, right)| left != right) {
            if left.at_or_before(merged.1) && merged.0.at_or_before(right) {
                merged = (left.earlier(merged.0), right.later(merged.1));
            } else if let Some(slot) = kept.get_mut(count) {
                *slot = (left, right);
                count += 1;
            }
        }
        // A merged block may reach one that was passed over before it grew: told apart, both are true.
        if let Some(first) = kept.first_mut() {
            *first = merged;
        }
        self.blocks = kept;
    }

    /// Text from `left` to `right` arrived a second time.
    pub(super) fn on_duplicate(&mut self, left: SeqNum, right: SeqNum) {
        self.duplicate = Some((left, right));
    }

    /// Everything before `rcv_nxt` is acknowledged.
    pub(super) fn on_advance(&mut self, rcv_nxt: SeqNum) {
        for block in &mut self.blocks {
            if block.1.at_or_before(rcv_nxt) {
                *block = (rcv_nxt, rcv_nxt);
            } else if block.0.before(rcv_nxt) {
                block.0 = rcv_nxt;
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.duplicate.is_none() && self.blocks.iter().all(|(left, right)| left == right)
    }

    /// What to put into the next acknowledgement, at most `blocks_max`.
    pub(super) fn take(&mut self, blocks_max: usize) -> SackBlocks {
        let mut report = SackBlocks::default();
        let duplicate = if blocks_max > 0 { self.duplicate.take() } else { None };
        let blocks = self.blocks.iter().copied().filter(|(left, right)| left != right);
        for (left, right) in duplicate.into_iter().chain(blocks) {
            report.push(SackBlock { left: left.0, right: right.0 });
        }
        report.truncate(blocks_max);
        report
    }
}
