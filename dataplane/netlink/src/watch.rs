//! Notices that links have changed, without following what.

use std::os::fd::{AsFd, BorrowedFd};

use crate::error::Result;
use crate::socket::{Netlink, Received};

/// `RTNLGRP_LINK`.
const LINK_GROUP: u32 = 1;
/// Room for some notifications. More are as good as one: that something was lost says that something has changed.
const BUFFER_BYTES: usize = 256 * 1024;
/// Notifications taken in one call.
const TAKEN_MAX: usize = 4096;

/// A bell that rings when a link comes, goes or changes. What has changed is for [`Control::links_now`] to tell, and
/// some things are told by that alone: the kernel is silent about a new group of a link that is down.
///
/// [`Control::links_now`]: crate::Control::links_now
pub struct LinkWatch {
    notifications: Netlink,
}

impl LinkWatch {
    /// Listens in the network namespace of the calling thread.
    ///
    /// # Errors
    /// [`crate::Error::Socket`].
    pub fn open() -> Result<Self> {
        Ok(Self { notifications: Netlink::open(&[LINK_GROUP], BUFFER_BYTES)? })
    }

    /// Whether it rang since the last call. Never waits.
    ///
    /// # Errors
    /// [`crate::Error::Socket`].
    pub fn rang(&mut self) -> Result<bool> {
        let mut rang = false;
        for _ in 0..TAKEN_MAX {
            match self.notifications.receive()? {
                Received::Empty => break,
                Received::Datagram(_) | Received::Overflow => rang = true,
            }
        }
        Ok(rang)
    }
}

impl AsFd for LinkWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notifications.as_fd()
    }
}
