//! How a connection goes on, in a few bits: found out once, after work that may change it, and not for each segment.
//!
//! Whatever could be otherwise than it mostly is (a gap, a loss, a probe, a layer above, a change of state) is worked on under
//! [`with`](crate::Stack::with), which looks over the connection at the end, or takes the bits away itself. Expected segments (`prediction`), text of the
//! application's and new segments (`straight`) leave it on its course.

use super::state::State;
use super::tcb::Tcb;
use crate::buffer::Buffer;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Course(u8);

impl Course {
    const SMOOTH: u8 = 1;
    const EXPECTS: u8 = 2;
    const PACED: u8 = 4;
    const SENDS: u8 = 8;

    /// All that is queued was sent once or never, nothing is missing in either direction, and nobody above has a say in it.
    #[inline]
    pub(super) fn is_smooth(self) -> bool {
        self.0 & Self::SMOOTH != 0
    }

    /// The same, and what is queued may leave as far as the windows go: nothing has segments leave at a rate, nor wants to know
    /// one.
    #[inline]
    pub(super) fn is_straight(self) -> bool {
        self.0 & (Self::SMOOTH | Self::PACED | Self::SENDS) == Self::SMOOTH | Self::SENDS
    }

    /// It is a smooth one of an established connection with an application: what comes next is known ([`prediction`]).
    ///
    /// [`prediction`]: super::prediction
    #[inline]
    pub(super) fn expects(self) -> bool {
        self.0 & Self::EXPECTS != 0
    }

    /// Whether what is known still is so, now that the course `is` this.
    fn holds(self, is: Self) -> bool {
        let known = self.0 & !Self::PACED;
        known & !is.0 == 0 && (known == 0 || (self.0 ^ is.0) & Self::PACED == 0)
    }
}

impl<B: Buffer> Tcb<B> {
    /// Finds out how the connection goes on.
    pub(super) fn look_over(&mut self) {
        self.course = self.its_course();
    }

    /// Whether the course holds that was found out last: a connection on none is looked at in every respect.
    pub(super) fn is_on_course(&self) -> bool {
        self.course.holds(self.its_course()) || self.state == State::Closed
    }

    fn its_course(&self) -> Course {
        let alone = self.extension.is_none() && self.mtu_search.is_none();
        let smooth = alone && self.is_calm() && self.queue.is_plain() && self.recovery.counts_none();
        let quiet = self.state == State::Established && !self.orphan && self.listener.is_none();
        let expects = smooth && quiet && !self.probe.is_out();
        let paced = self.options.pacing || self.congestion.wants_rate();
        let bit = |is: bool, bit: u8| if is { bit } else { 0 };
        Course(
            bit(smooth, Course::SMOOTH)
                | bit(expects, Course::EXPECTS)
                | bit(paced, Course::PACED)
                | bit(smooth && self.state.transmits(), Course::SENDS),
        )
    }
}
