//! Indices of table slots, given out again only when no reader can still hold one.

use std::collections::VecDeque;

use crate::error::FibError;
use crate::quiescence::Quiescence;
use crate::sync::Arc;

/// Which indices of a table are in use, free, or waiting for readers.
pub(crate) struct Indices {
    quiescence: Arc<Quiescence>,
    what: &'static str,
    first: u32,
    end: u32,
    /// Whether each index given out so far is in use; the index is `first` plus the position.
    used: Vec<bool>,
    len: usize,
    free: Vec<u32>,
    /// Withdrawn indices and the epoch each waits for, oldest first.
    waiting: VecDeque<(u64, u32)>,
}

impl Indices {
    /// Indices from `first` up to, not including, `end`.
    pub(crate) fn new(quiescence: Arc<Quiescence>, what: &'static str, first: u32, end: u32) -> Self {
        let (used, free, waiting) = (Vec::new(), Vec::new(), VecDeque::new());
        Self { quiescence, what, first, end, used, len: 0, free, waiting }
    }

    pub(crate) fn take(&mut self) -> Result<u32, FibError> {
        if self.free.is_empty() && !self.waiting.is_empty() {
            self.reclaim();
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => self.fresh()?,
        };
        if let Some(used) = self.used.get_mut((index - self.first) as usize) {
            *used = true;
        }
        self.len += 1;
        Ok(index)
    }

    fn fresh(&mut self) -> Result<u32, FibError> {
        let index = self.first + self.used.len() as u32;
        if index < self.end {
            self.used.push(false);
            return Ok(index);
        }
        match self.waiting.len() {
            0 => Err(FibError::Full { what: self.what, limit: (self.end - self.first) as usize }),
            waiting => Err(FibError::Busy { what: self.what, waiting }),
        }
    }

    /// Refuses an index that is not in use.
    pub(crate) fn check(&self, index: u32) -> Result<(), FibError> {
        let at = index.checked_sub(self.first).and_then(|at| self.used.get(at as usize));
        if at == Some(&true) { Ok(()) } else { Err(FibError::Unknown { what: self.what, index }) }
    }

    /// Takes back an index that nothing points to any more.
    pub(crate) fn retire(&mut self, index: u32) -> Result<(), FibError> {
        self.check(index)?;
        if let Some(used) = self.used.get_mut((index - self.first) as usize) {
            *used = false;
        }
        self.len -= 1;
        self.waiting.push_back((self.quiescence.retire(), index));
        Ok(())
    }

    fn reclaim(&mut self) {
        let passed = self.quiescence.passed();
        while let Some(&(epoch, index)) = self.waiting.front()
            && epoch <= passed
        {
            self.waiting.pop_front();
            self.free.push(index);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}
