//! One secret for all stacks of this machine until it is booted anew.
//!
//! Sequence numbers and timestamps grow with the clock from offsets that a secret hides (RFC 9293 §3.4.1, RFC 7323 §5.4). A
//! process with a secret of its own would begin below the last one's, and its SYNs look old to peers that still have the
//! last one's connections in TIME-WAIT.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::entropy::Entropy;

/// Where things lie that last until the next boot.
const FOLDER: &str = "/run/tailwater";
const LEN: usize = 8;

/// The folder of what lasts until the next boot, for its owner only: `TAILWATER_RUN_DIR`, or `/run/tailwater`.
pub fn run_folder() -> PathBuf {
    std::env::var_os("TAILWATER_RUN_DIR").map_or_else(|| PathBuf::from(FOLDER), PathBuf::from)
}

/// The secret, or without the right to keep one, a random number.
pub(super) fn seed(entropy: &mut Entropy) -> u64 {
    let folder = run_folder();
    let random = entropy.next();
    read(&folder).or_else(|_| make(&folder, random)).unwrap_or_else(|error| {
        tracing::debug!(folder = %folder.display(), %error, "no secret is kept; peers may refuse the next process for a minute");
        random
    })
}

fn path(folder: &Path) -> PathBuf {
    folder.join("secret")
}

fn read(folder: &Path) -> io::Result<u64> {
    let mut bytes = [0; LEN];
    File::open(path(folder))?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Whole before it has its name; whoever comes second takes what the first one left.
fn make(folder: &Path, secret: u64) -> io::Result<u64> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let draft = folder.join(format!("secret.{}.{secret:x}", std::process::id()));
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft);
    let linked = written.and_then(|mut file| file.write_all(&secret.to_ne_bytes())).and_then(|()| {
        match std::fs::hard_link(&draft, path(folder)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    });
    let removed = std::fs::remove_file(&draft);
    linked.and(removed)?;
    read(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn all_who_come_at_once_get_the_same_secret_which_only_the_owner_can_read() {
        let folder = std::env::temp_dir().join(format!("tailwater-secret-{}", std::process::id()));
        let secrets: Vec<u64> = std::thread::scope(|scope| {
            let one = |n: u64| {
                let folder = &folder;
                scope.spawn(move || read(folder).or_else(|_| make(folder, n)).unwrap())
            };
            let threads: Vec<_> = (1..9).map(one).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(secrets.iter().all(|&secret| secret == secrets[0] && (1..9).contains(&secret)), "{secrets:?}");
        assert_eq!(path(&folder).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
