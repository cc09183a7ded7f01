//! The blocks that come with Tailwater, one file each.

mod counter;
mod forward;

use crate::block::Kind;

/// All built-in kinds.
pub(crate) const KINDS: &[Kind] = &[counter::KIND, forward::KIND];
