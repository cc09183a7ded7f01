//! State of a block on loan to its successor.

use std::any::Any;

/// What a block keeps between packets, lent for an exchange: nothing is copied, allocated or freed on the way, and what
/// is refused has never left its block. Typed, so that a block of another kind refuses it.
pub struct State<'a> {
    /// Name of its type: [`Kind::state`](super::Kind::state).
    pub kind: &'static str,
    /// The content, in its owner.
    pub content: &'a mut (dyn Any + Send),
}

/// Why a block did not take over a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// It keeps none.
    #[error("this block keeps no state; replace it with --drop")]
    Stateless,
    /// The state is another kind's.
    #[error("the state is of a {found:?} block, this one needs that of {wanted:?}")]
    Kind {
        /// Name of the state offered.
        found: &'static str,
        /// Name of the state wanted.
        wanted: &'static str,
    },
    /// The state is of the right kind but does not fit this block's parameters.
    #[error("the state does not fit: {0}")]
    Unfit(&'static str),
}

impl<'a> State<'a> {
    /// Lends `content` under the name `kind`.
    pub fn lend<T: Any + Send>(kind: &'static str, content: &'a mut T) -> Self {
        Self { kind, content }
    }

    /// The content, if it is a `T` under the name `kind`.
    pub fn content<T: Any + Send>(self, kind: &'static str) -> Result<&'a mut T, ImportError> {
        let wrong = ImportError::Kind { found: self.kind, wanted: kind };
        if self.kind != kind {
            return Err(wrong);
        }
        self.content.downcast_mut().ok_or(wrong)
    }

    /// Exchanges the content for `own`, if it is of the same type and name.
    pub fn exchange<T: Any + Send>(self, kind: &'static str, own: &mut T) -> Result<(), ImportError> {
        std::mem::swap(own, self.content(kind)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_changes_places_or_stays_where_it_was() {
        let (mut old, mut new) = (7u64, 0u64);
        State::lend("counter", &mut old).exchange("counter", &mut new).unwrap();
        assert_eq!((old, new), (0, 7));
        let refused = State::lend("filter", &mut new).exchange("counter", &mut old);
        assert_eq!(refused, Err(ImportError::Kind { found: "filter", wanted: "counter" }));
        assert!(State::lend("counter", &mut new).exchange("counter", &mut 1u32).is_err(), "same name, other type");
        assert_eq!((old, new), (0, 7));
    }
}
