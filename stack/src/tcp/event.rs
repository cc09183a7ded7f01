//! What a connection has to tell. Nothing is lost: each connection keeps its own news, and stands in
//! line once, so the line is no longer than there are connections.

use alloc::collections::VecDeque;
use core::net::SocketAddr;
use core::num::NonZeroU32;

/// Names a connection of one [`Stack`](crate::Stack); not used again after it was closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl ConnectionId {
    /// Its place among the stack's connections, from 0 on; the next that comes there has another id. For
    /// tables of what an application keeps for each.
    pub fn place(self) -> usize {
        self.index as usize
    }
}

/// Names a listener of one [`Stack`](crate::Stack); not used again after it was closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ListenerId {
    pub(super) index: u32,
    /// Not zero, so that each connection needs no more room for "none".
    pub(super) generation: NonZeroU32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TcpEvent {
    /// A peer has connected to a listener. The connection is the application's from here on.
    Accepted { listener: ListenerId, connection: ConnectionId, remote: SocketAddr },
    /// [`tcp_connect`](crate::Stack::tcp_connect) has succeeded.
    Connected(ConnectionId),
    /// There is something to read: text, or the end of it. Comes again after more has arrived.
    Readable(ConnectionId),
    /// There is room again, after [`tcp_send`](crate::Stack::tcp_send) took less than it was given.
    Writable(ConnectionId),
    /// The connection is over, and forgotten with this. If it ended well, everything was read before.
    Closed(ConnectionId, CloseReason),
}

impl TcpEvent {
    /// Whose it is.
    #[inline]
    pub fn connection(&self) -> ConnectionId {
        match *self {
            Self::Accepted { connection, .. }
            | Self::Connected(connection)
            | Self::Readable(connection)
            | Self::Writable(connection)
            | Self::Closed(connection, _) => connection,
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// Both ends have closed, and all has been acknowledged.
    Finished,
    /// The peer reset it.
    Reset,
    /// The peer refused it.
    Refused,
    /// The peer did not answer.
    TimedOut,
    /// An ICMP error told that the peer cannot be reached, while connecting (RFC 5927 §5).
    Unreachable,
}

/// Bits of [`News`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Piece {
    Accepted = 1,
    Connected = 2,
    Readable = 4,
    Writable = 8,
    /// No news: the connection stands in line.
    Queued = 16,
}

/// News of one connection that have not been told.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct News {
    pieces: u8,
    pub(super) closed: Option<CloseReason>,
}

impl News {
    /// Nobody is to be told any more; its place in the line stays.
    pub(super) fn clear(&mut self) {
        *self = Self { pieces: self.pieces & Piece::Queued as u8, closed: None };
    }

    #[inline]
    pub(super) fn add(&mut self, piece: Piece) {
        self.pieces |= piece as u8;
    }

    #[inline]
    pub(super) fn has(&self, piece: Piece) -> bool {
        self.pieces & piece as u8 != 0
    }

    /// Whether it was there.
    #[inline]
    pub(super) fn take(&mut self, piece: Piece) -> bool {
        let had = self.has(piece);
        self.pieces &= !(piece as u8);
        had
    }

    #[inline]
    pub(super) fn is_readable_only(&self) -> bool {
        self.pieces & !(Piece::Queued as u8) == Piece::Readable as u8 && self.closed.is_none()
    }

    #[inline]
    pub(super) fn any(&self) -> bool {
        self.pieces & !(Piece::Queued as u8) != 0 || self.closed.is_some()
    }
}

/// Connections that have news, each once, in order.
#[derive(Debug, Default)]
pub(super) struct NewsQueue {
    /// `None`: there is none behind it either. One that is alone passes through here, without a look at the ring.
    first: Option<ConnectionId>,
    others: VecDeque<ConnectionId>,
}

impl NewsQueue {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    #[inline]
    pub(super) fn push_back(&mut self, id: ConnectionId) {
        match self.first {
            None => self.first = Some(id),
            Some(_) => self.others.push_back(id),
        }
    }

    #[inline]
    pub(super) fn front(&self) -> Option<ConnectionId> {
        self.first
    }

    #[inline]
    pub(super) fn pop_front(&mut self) {
        self.first = self.others.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_have_news_are_told_of_in_their_order_whether_one_stands_there_or_many() {
        let id = |index| ConnectionId { index, generation: 0 };
        let mut queue = NewsQueue::default();
        for count in [1, 3, 1, 4] {
            (0..count).for_each(|index| queue.push_back(id(index)));
            for index in 0..count {
                assert_eq!(queue.front(), Some(id(index)));
                queue.pop_front();
                // One that comes while others stand there goes behind them.
                if index == 0 {
                    queue.push_back(id(count));
                }
            }
            assert_eq!(queue.front(), Some(id(count)));
            queue.pop_front();
            assert!(queue.is_empty() && queue.front().is_none());
        }
    }
}
