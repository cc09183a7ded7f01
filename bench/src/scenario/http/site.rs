//! What is served: two files, in a folder of this measurement's own that goes with its value.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tailwater_lab::Namespace;

pub(super) const SMALL: File = File { name: "64", bytes: 64 };
pub(super) const LARGE: File = File { name: "65536", bytes: 65_536 };
const FETCH: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub name: &'static str,
    bytes: usize,
}

impl File {
    /// Letters that differ from place to place.
    fn text(self) -> String {
        (0..self.bytes).map(|at| char::from(b'a' + ((at + at / 251) % 26) as u8)).collect()
    }

    pub(super) fn url(self) -> String {
        format!("http://{}/{}", super::server::LISTEN, self.name)
    }
}

/// The folder.
pub(super) struct Site(PathBuf);

impl Site {
    pub(super) fn make(name: &str) -> Result<Self> {
        let site = Self(std::env::temp_dir().join(format!("tailwater-bench-http-{name}")));
        fs::create_dir_all(site.root()).with_context(|| format!("making {}", site.root().display()))?;
        // nginx's worker is another user.
        fs::set_permissions(&site.0, fs::Permissions::from_mode(0o755))?;
        for file in [SMALL, LARGE] {
            fs::write(site.root().join(file.name), file.text())?;
        }
        Ok(site)
    }

    /// Where the files are.
    pub(super) fn root(&self) -> PathBuf {
        self.0.join("site")
    }

    /// For settings and scripts.
    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    /// Sees that the server answers with the files and nothing else; returns how long the small one's head is.
    pub(super) fn verify(&self, client: &Namespace) -> Result<usize> {
        let mut heads = Vec::new();
        for file in [SMALL, LARGE] {
            let got = client.program("curl").args(["-sSf", "-w", "\n%{size_header}", &file.url()]).run(FETCH)?;
            let (text, head) = got.trim_end().rsplit_once('\n').context("curl printed no length of the head")?;
            ensure!(text == file.text(), "{} is not what was to be served: {} bytes", file.url(), text.len());
            heads.push(head.parse().with_context(|| format!("curl says that the head has {head} bytes"))?);
        }
        heads.first().copied().context("no file was fetched")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_there_with_their_lengths_and_go_with_the_value() {
        let site = Site::make(&format!("test-{}", std::process::id())).unwrap();
        let folder = site.folder().to_owned();
        for file in [SMALL, LARGE] {
            assert_eq!(fs::read_to_string(site.root().join(file.name)).unwrap().len(), file.bytes);
        }
        drop(site);
        assert!(!folder.exists());
    }
}
