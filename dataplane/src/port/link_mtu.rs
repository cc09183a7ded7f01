//! The MTU of an interface, which changes while its ports are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// An interface's MTU in bytes, shared by its workers and whoever tends it.
#[derive(Clone, Debug)]
pub struct LinkMtu(Arc<AtomicU32>);

impl LinkMtu {
    /// What it is now.
    #[inline]
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Notes what it has become.
    pub fn set(&self, mtu: u32) {
        self.0.store(mtu, Ordering::Relaxed);
    }
}

impl From<u32> for LinkMtu {
    fn from(mtu: u32) -> Self {
        Self(Arc::new(AtomicU32::new(mtu)))
    }
}
