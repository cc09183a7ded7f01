//! Where the sockets lie, and sweeping out those whose process is gone.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Sockets looked at in one listing.
const SOCKETS_MAX: usize = 1024;

pub(crate) use tailwater_dataplane::service::run_folder as path;

/// The socket of a process.
pub(crate) fn socket(folder: &Path, pid: u32) -> PathBuf {
    folder.join(format!("{pid}.sock"))
}

/// Makes the folder, for its owner only, so that nobody reaches a socket before its own mode is set.
pub(crate) fn make(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

/// Process ids with a socket that somebody listens at, in order. Sockets that nobody listens at are removed.
pub(crate) fn living(folder: &Path) -> io::Result<Vec<u32>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut pids = Vec::new();
    for entry in entries.flatten().take(SOCKETS_MAX) {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_suffix(".sock")).and_then(|pid| pid.parse().ok());
        let Some(pid) = pid else { continue };
        match UnixStream::connect(entry.path()) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => remove(&entry.path()),
            _ => pids.push(pid),
        }
    }
    pids.sort_unstable();
    Ok(pids)
}

/// Removes a socket file; another process may have been faster.
pub(crate) fn remove(socket: &Path) {
    if let Err(error) = fs::remove_file(socket) {
        tracing::debug!(socket = %socket.display(), %error, "could not remove a control socket");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn sockets_of_dead_processes_are_swept_and_others_listed() {
        let folder = std::env::temp_dir().join(format!("tailwater-folder-{}", std::process::id()));
        make(&folder).unwrap();
        drop(UnixListener::bind(socket(&folder, 1)).unwrap());
        let _alive = UnixListener::bind(socket(&folder, 2)).unwrap();
        fs::write(folder.join("notes.txt"), "no socket").unwrap();
        assert_eq!(living(&folder).unwrap(), [2]);
        assert!(!socket(&folder, 1).exists() && folder.join("notes.txt").exists());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_holds_no_process() {
        assert_eq!(living(Path::new("/nonexistent/tailwater")).unwrap(), [0u32; 0]);
    }
}
