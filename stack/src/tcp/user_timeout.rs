//! User timeout (RFC 5482): how long data may stay unacknowledged.

use core::time::Duration;

use super::tcb::Tcb;
use crate::buffer::Buffer;

/// RFC 5482 §3.1: L_LIMIT and U_LIMIT, so that no peer keeps us for days or kills us at a hiccup.
const LOWER_LIMIT_S: u32 = 100;
const UPPER_LIMIT_S: u32 = 3_600;

impl<B: Buffer> Tcb<B> {
    /// RFC 5482 §3.1: USER_TIMEOUT = min(U_LIMIT, max(ADV_UTO, REMOTE_UTO, L_LIMIT)), where both
    /// ends speak of it.
    pub(super) fn user_timeout(&self) -> Option<Duration> {
        let own = self.options.user_timeout;
        match self.user_timeout_s {
            None => own,
            Some(remote_s) => {
                let remote = Duration::from_secs(remote_s.get().clamp(LOWER_LIMIT_S, UPPER_LIMIT_S).into());
                Some(own.map_or(remote, |own| own.max(remote)))
            }
        }
    }

    /// ADV_UTO, for our SYN.
    pub(super) fn user_timeout_option(&self) -> Option<u32> {
        let own = self.options.user_timeout.filter(|_| self.options.user_timeout_option)?;
        Some(u32::try_from(own.as_secs()).unwrap_or(u32::MAX).max(1))
    }
}
