//! Which way TCP text leaves. Whoever tends the interface decides, as its settings change while packets flow; each worker
//! looks at it before it sends text.

use std::sync::atomic::{AtomicU8, Ordering};

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
pub struct TextSwitch(AtomicU8);

impl TextSwitch {
    /// A switch that stands at `way`.
    pub fn new(way: TextWay) -> Self {
        Self(AtomicU8::new(way as u8))
    }

    /// Text leaves this way from each worker's next batch on.
    pub fn set(&self, way: TextWay) {
        self.0.store(way as u8, Ordering::Relaxed);
    }

    /// How it stands.
    #[inline]
    pub fn get(&self) -> TextWay {
        match self.0.load(Ordering::Relaxed) {
            way if way == TextWay::Trains as u8 => TextWay::Trains,
            way if way == TextWay::Socket as u8 => TextWay::Socket,
            _ => TextWay::Ring,
        }
    }
}
