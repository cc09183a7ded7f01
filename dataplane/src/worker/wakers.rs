//! Who wakes which worker.

use std::sync::Arc;

use super::Waker;
use crate::block::Services;

/// The wakers of all workers, by number; found among a block's [`Services`].
pub struct Wakers(Vec<Arc<Waker>>);

impl Wakers {
    /// For so many workers.
    pub fn new(workers: usize) -> std::io::Result<Self> {
        Ok(Self((0..workers).map(|_| Waker::new().map(Arc::new)).collect::<Result<_, _>>()?))
    }

    /// By worker.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<Waker>> {
        self.0.iter()
    }

    /// That of the worker which a block is built for.
    pub(crate) fn among(services: &Services) -> Option<Arc<Waker>> {
        services.find::<Self>()?.0.get(services.worker).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn is_written(waker: &Waker) -> bool {
        let mut set = [PollFd::new(waker.fd(), PollFlags::IN)];
        poll(&mut set, Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn only_a_worker_that_sleeps_is_woken() {
        let waker = Waker::new().unwrap();
        waker.wake();
        assert!(!is_written(&waker));
        waker.announce();
        waker.wake();
        assert!(is_written(&waker));
        waker.awake();
        assert!(!is_written(&waker));
        waker.wake();
        assert!(!is_written(&waker));
    }
}
