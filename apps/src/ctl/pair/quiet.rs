//! Waiting until a count stands still.

use std::time::{Duration, Instant};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Looks at which the count must be the same. A look makes each worker finish a turn, so frames in its rings get counted
/// between looks.
const LOOKS: u32 = 5;
/// Longest wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether `count` stood still within [`PATIENCE`]. `None` counts as a change.
pub(super) fn stands_still(mut count: impl FnMut() -> anyhow::Result<Option<u64>>) -> anyhow::Result<bool> {
    let end = Instant::now() + PATIENCE;
    let (mut last, mut same) = (None, 0);
    while Instant::now() < end {
        let now = count()?;
        same = if now.is_some() && now == last { same + 1 } else { 1 };
        if same == LOOKS && now.is_some() {
            return Ok(true);
        }
        last = now;
        std::thread::sleep(LOOK);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_must_be_the_same_at_every_look() {
        let mut counts =
            [Some(1), Some(1), Some(1), Some(1), Some(2), None, None, None, None, None, Some(2)].into_iter();
        let mut looks = 0;
        let still = stands_still(|| {
            looks += 1;
            Ok(counts.next().unwrap_or(Some(2)))
        });
        assert!(still.unwrap());
        assert_eq!(looks, 10 + LOOKS);
    }

    #[test]
    fn an_error_ends_the_wait() {
        assert!(stands_still(|| anyhow::bail!("gone")).is_err());
    }
}
