//! Which way TCP text leaves. Whoever tends the interface decides, as its settings change while packets flow; each worker
//! looks at it before it sends text.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::train::{IP_LEN_MAX, LONG_LEN_MAX};

/// Which way the text of TCP connections leaves where the kernel copies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum TextWay {
    /// By the ring, segment by segment.
    Ring,
    /// What can be coupled by the packet socket, as trains; the rest by the ring.
    Trains,
    /// All of it by the packet socket, in trains or alone. The ring sends by the queue that it is bound to, for a packet
    /// socket the kernel chooses one by the hash of the flow: where there are several, one way alone keeps the order.
    Socket,
}

/// The way of one interface, shared by its workers and whoever tends it.
#[derive(Debug)]
pub struct TextSwitch {
    way: AtomicU8,
    long: AtomicBool,
}

impl TextSwitch {
    /// A switch that stands at `way`. `long`: trains may be longer than IP can tell, which the kernel cuts and no device does.
    pub fn new(way: TextWay, long: bool) -> Self {
        Self { way: AtomicU8::new(way as u8), long: AtomicBool::new(long) }
    }

    /// Text leaves this way from each worker's next batch on.
    pub fn set(&self, way: TextWay, long: bool) {
        self.way.store(way as u8, Ordering::Relaxed);
        self.long.store(long, Ordering::Relaxed);
    }

    /// Bytes of a train at most, from the IP header on.
    #[inline]
    pub(in crate::port) fn train_len_max(&self) -> usize {
        if self.long.load(Ordering::Relaxed) { LONG_LEN_MAX } else { IP_LEN_MAX }
    }

    /// How it stands.
    #[inline]
    pub fn get(&self) -> TextWay {
        match self.way.load(Ordering::Relaxed) {
            way if way == TextWay::Trains as u8 => TextWay::Trains,
            way if way == TextWay::Socket as u8 => TextWay::Socket,
            _ => TextWay::Ring,
        }
    }
}
