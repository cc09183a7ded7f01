//! Names for holders of frames, so that a debug build can say who leaked one.

use std::sync::{Mutex, PoisonError};

static NAMES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A number for a holder's name; the same name gets the same number. 0 is nobody.
pub(crate) fn number(name: &str) -> u16 {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let at = names.iter().position(|known| known == name).unwrap_or_else(|| {
        // Past the last number there is no use for a name.
        if names.len() < usize::from(u16::MAX) {
            names.push(name.to_owned());
            return names.len() - 1;
        }
        names.len()
    });
    u16::try_from(at + 1).unwrap_or(0)
}

/// The name behind a number.
pub(crate) fn name(number: u16) -> String {
    let names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    (number as usize).checked_sub(1).and_then(|at| names.get(at)).cloned().unwrap_or_else(|| "a ring".into())
}
