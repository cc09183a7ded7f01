//! What a layer above may do with a connection: speak in options, place the text itself, say how large
//! the window is, and learn how things go. TCP does not know which layer it is.

use alloc::boxed::Box;
use core::fmt::Debug;

use super::event::CloseReason;
use crate::time::Instant;
use crate::wire::tcp_option::OptionsWriter;

/// A segment as a layer above sees it.
#[derive(Clone, Copy, Debug)]
pub struct SegmentView<'a> {
    /// Bytes of the stream before it: 0 is the first byte behind the SYN.
    pub offset: u32,
    /// Bytes of text.
    pub len: u32,
    pub syn: bool,
    pub ack: bool,
    pub fin: bool,
    pub rst: bool,
    /// Bytes of our stream that it acknowledges.
    pub acked: u32,
    /// Its options, as they came.
    pub options: &'a [u8],
}

/// What is to become of a connection, or of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ruling {
    /// As TCP would.
    Go,
    /// The segment is thrown away.
    Drop,
    /// The connection is reset.
    Reset,
}

/// Where received text went.
#[derive(Debug)]
pub enum Placement<B> {
    /// To the connection's own queue, as without the layer.
    Own(B),
    /// The layer has it.
    Taken,
}

/// Makes the layer above a connection that a listener is about to take, from the peer's SYN; `None`: this one has none.
pub type Extend<B> = dyn FnMut(&SegmentView<'_>) -> Option<Box<dyn Extension<B>>> + Send;

/// The hooks of one connection. All of them are called in the middle of TCP's work: they note what
/// they learn and return.
pub trait Extension<B>: Debug + Send {
    /// A segment leaves: adds options behind TCP's own; `to` knows how much room there is.
    fn write_options(&mut self, leaving: &SegmentView<'_>, to: &mut OptionsWriter);

    /// Bytes that [`write_options`](Self::write_options) needs in a full segment: these are kept free.
    fn options_len_max(&self) -> usize {
        0
    }

    /// A segment that TCP finds acceptable arrived.
    fn on_segment(&mut self, arrived: &SegmentView<'_>, now: Instant) -> Ruling {
        let _ = (arrived, now);
        Ruling::Go
    }

    /// Text in order, from `offset` of the stream on.
    fn place(&mut self, offset: u32, text: B) -> Placement<B> {
        let _ = offset;
        Placement::Own(text)
    }

    /// RCV.WND, if it is not for the connection's own buffer to decide; less is told where the stack has no memory for it.
    fn receive_window(&self) -> Option<u32> {
        None
    }

    /// The peer has sent a FIN: everything of its stream was placed.
    fn on_finished(&mut self) {}

    /// The connection is over.
    fn on_closed(&mut self, reason: CloseReason) {
        let _ = reason;
    }
}
