//! Taking bytes out of the frames that they arrived in: one copy, and each frame goes back when its last byte was taken.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::connection::Connection;
use super::error;
use crate::frame::Frame;

/// Where a stream's reading stands.
#[derive(Default)]
pub(super) struct Reader {
    frame: Option<Frame>,
    /// Bytes of it that were taken.
    offset: usize,
}

impl Reader {
    pub(super) fn take_frame(&mut self) -> Option<Frame> {
        self.frame.take()
    }

    /// Copies what there is.
    fn read(&mut self, connection: &Connection, to: &mut [u8], peek: bool) -> usize {
        let mut done = 0;
        while done < to.len() {
            let Some(frame) = self.frame.take().or_else(|| connection.inbox.pop()) else { break };
            let n = frame.read_at(self.offset, &mut to[done..]);
            done += n;
            if peek {
                self.frame = Some(frame);
                break;
            }
            self.offset += n;
            if self.offset < frame.total_len() {
                self.frame = Some(frame);
                break;
            }
            self.offset = 0;
            connection.lane.give_back(frame);
        }
        connection.leftover.store(self.frame.is_some(), Ordering::Release);
        done
    }
}

impl Connection {
    /// Reads what there is; 0 at the end. Waits for it, unless the stream does not block.
    pub(super) fn read(self: &Arc<Self>, to: &mut [u8], peek: bool) -> std::io::Result<usize> {
        let mut until = None;
        loop {
            if let Some(n) = self.try_read(to, peek)? {
                return Ok(n);
            }
            if self.manners.nonblocking.load(Ordering::Relaxed) {
                // What the worker brought before the level could fall, which tells nothing then. Each pass takes that.
                if self.is_readable() {
                    continue;
                }
                return Err(error::would_block());
            }
            let until =
                until.get_or_insert_with(|| super::connection::Manners::deadline(&self.manners.read_timeout_ns));
            if !self.await_readable(*until) {
                return Err(error::would_block());
            }
        }
    }

    /// `None`: nothing there yet.
    fn try_read(self: &Arc<Self>, to: &mut [u8], peek: bool) -> std::io::Result<Option<usize>> {
        // Before the inbox: what is in it came first.
        let at_end = self.is_at_end();
        let n = {
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.read(self, to, peek)
        };
        if n > 0 {
            self.make_room();
            self.pass_on();
        } else if !to.is_empty() {
            self.demand();
        }
        self.settle();
        match (n, at_end) {
            (0, _) if to.is_empty() => Ok(Some(0)),
            (0, false) => Ok(None),
            (0, true) => self.take_error().map_or(Ok(Some(0)), Err),
            (n, _) => Ok(Some(n)),
        }
    }
}
