//! What is served: files read at the start, and bytes made on the way.
//!
//! A path is looked up among the names that were found at the start, and nowhere else: what a request says never reaches
//! the file system.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::pattern;
use crate::failure::Failure;

/// Files at most.
const FILES_MAX: usize = 65_536;
/// Bytes of all files together at most; they stay in memory.
const FILES_BYTES_MAX: u64 = 1 << 30;
/// Folders below one another at most.
const DEPTH_MAX: usize = 32;
/// Largest body that is made: 1 TiB.
pub(super) const BYTES_MAX: u64 = 1 << 40;
/// Where bodies are made, of as many bytes as the rest of the path says.
const BYTES_PATH: &str = "/bytes/";
/// Longest path that is looked up; longer ones are not there.
const PATH_MAX: usize = 4_096;

/// A file in memory.
#[derive(Debug)]
struct File {
    bytes: Box<[u8]>,
    media_type: &'static str,
}

/// Everything there is; the same for all workers.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// By path, as in a request.
    names: HashMap<Box<str>, usize>,
    files: Vec<File>,
    /// Bytes made for `/`, if no file is there.
    root_len: Option<u64>,
}

/// Where a body comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Body {
    Text(&'static str),
    File(usize),
    /// Made by offset.
    Pattern,
}

/// A representation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub(super) body: Body,
    pub(super) len: u64,
    pub(super) media_type: &'static str,
}

impl Content {
    /// Reads the files below `root`. `root_len`: bytes made for `/` where it has no `index.html`.
    pub(super) fn load(root: Option<&Path>, root_len: Option<u64>) -> anyhow::Result<Self> {
        let mut content = Self { root_len, ..Self::default() };
        if let Some(root) = root {
            content.load_folder(root)?;
        }
        Ok(content)
    }

    fn load_folder(&mut self, root: &Path) -> anyhow::Result<()> {
        let mut left = FILES_BYTES_MAX;
        let mut folders = vec![(root.to_owned(), "/".to_owned(), 0)];
        while let Some((folder, prefix, depth)) = folders.pop() {
            let entries = fs::read_dir(&folder).map_err(|error| unreadable(&folder, &error))?;
            for entry in entries {
                let entry = entry.map_err(|error| unreadable(&folder, &error))?;
                let path = entry.path();
                // Not through a link: what lies elsewhere is not meant.
                let kind = entry.file_type().map_err(|error| unreadable(&path, &error))?;
                let Ok(name) = entry.file_name().into_string() else {
                    tracing::warn!("{} is not served: its name is not UTF-8", path.display());
                    continue;
                };
                if kind.is_dir() && depth < DEPTH_MAX {
                    folders.push((path, format!("{prefix}{name}/"), depth + 1));
                } else if kind.is_file() {
                    self.load_file(&path, &prefix, &name, &mut left)?;
                } else {
                    tracing::warn!("{} is not served: neither file nor folder, or too deep", path.display());
                }
            }
        }
        Ok(())
    }

    fn load_file(&mut self, path: &Path, prefix: &str, name: &str, left: &mut u64) -> anyhow::Result<()> {
        let len = fs::metadata(path).map_err(|error| unreadable(path, &error))?.len();
        if len > *left || self.files.len() >= FILES_MAX {
            let hint = "files are kept in memory; serve a smaller folder, or /bytes/N for large bodies";
            let message = format!("more than {FILES_MAX} files or {FILES_BYTES_MAX} bytes: {}", path.display());
            return Err(Failure::usage(message, hint).into());
        }
        let bytes = fs::read(path).map_err(|error| unreadable(path, &error))?.into_boxed_slice();
        *left = left.saturating_sub(bytes.len() as u64);
        let number = self.files.len();
        self.files.push(File { bytes, media_type: media_type(name) });
        self.names.insert(format!("{prefix}{name}").into(), number);
        if name == "index.html" {
            self.names.insert(prefix.into(), number);
        }
        Ok(())
    }

    /// What there is to say at the start.
    pub(super) fn describe(&self) -> String {
        let bytes: usize = self.files.iter().map(|file| file.bytes.len()).sum();
        let root = self.root_len.map(|len| format!("/ has {len} bytes made on the way, "));
        format!(
            "{}{} files of {bytes} bytes in memory, {BYTES_PATH}N for N bytes",
            root.unwrap_or_default(),
            self.files.len()
        )
    }

    /// What `path`, percent-encoded, names.
    pub(super) fn find(&self, path: &str) -> Option<Found> {
        if path.len() > PATH_MAX {
            return None;
        }
        let path = decode(path)?;
        if let Some(&number) = self.names.get(path.as_ref()) {
            let file = self.files.get(number)?;
            return Some(Found { body: Body::File(number), len: file.bytes.len() as u64, media_type: file.media_type });
        }
        let asked = path.strip_prefix(BYTES_PATH).and_then(|digits| super::request::number(digits.as_bytes()));
        let len = asked.or(self.root_len.filter(|_| path == "/")).filter(|&len| len <= BYTES_MAX)?;
        Some(Found { body: Body::Pattern, len, media_type: "application/octet-stream" })
    }

    /// Writes the bytes of a body from `offset` on, which must be there.
    #[inline]
    pub(super) fn write(&self, body: Body, offset: u64, room: &mut [u8]) {
        let stored = match body {
            Body::Pattern => return pattern::fill(offset, room),
            Body::Text(text) => text.as_bytes(),
            Body::File(number) => self.files.get(number).map_or(&[][..], |file| &file.bytes),
        };
        let from = (offset as usize).min(stored.len());
        room.iter_mut().zip(&stored[from..]).for_each(|(out, byte)| *out = *byte);
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> anyhow::Error {
    Failure::new(format!("cannot read {}: {error}", path.display()), "--root needs a folder that can be read").into()
}

/// Undoes percent-encoding (RFC 3986 §2.1); `None` if it is broken. Nothing is allocated where there is none.
fn decode(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" | "htm" => "text/html; charset=utf-8",
        "txt" | "md" => "text/plain; charset=utf-8",
        "css" => "text/css",
        "js" => "text/javascript",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        _ => "application/octet-stream",
    }
}

/// A folder that can be served.
pub(super) fn folder(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_dir() { Ok(path) } else { Err("no such folder".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("tailwater-content-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("site/deep")).unwrap();
        fs::write(root.join("secret"), "secret").unwrap();
        fs::write(root.join("site/index.html"), "<p>home").unwrap();
        fs::write(root.join("site/deep/a b.txt"), "text").unwrap();
        std::os::unix::fs::symlink(root.join("secret"), root.join("site/link")).unwrap();
        root
    }

    #[test]
    fn names_found_at_the_start_are_served_and_nothing_else() {
        let root = site("names");
        let content = Content::load(Some(&root.join("site")), None).unwrap();
        assert_eq!(content.find("/").unwrap().media_type, "text/html; charset=utf-8");
        assert_eq!(content.find("/index.html"), content.find("/"));
        assert_eq!(content.find("/deep/a%20b.txt").unwrap().len, 4);
        for path in [
            "/../secret",
            "/%2e%2e/secret",
            "/deep/../../secret",
            "/deep/%2e%2e%2f%2e%2e%2fsecret",
            "//secret",
            "/link",
            "/deep",
            "/deep/",
            "/deep/a%2",
            "/deep/a%zz",
            "/%ff",
            "/index.html%00",
            "",
        ] {
            assert_eq!(content.find(path), None, "{path}");
        }
        let mut text = [0; 2];
        content.write(content.find("/deep/a%20b.txt").unwrap().body, 1, &mut text);
        assert_eq!(&text, b"ex");
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn bodies_of_any_size_up_to_a_bound_are_made() {
        let content = Content::load(None, Some(7)).unwrap();
        assert_eq!(content.find("/").unwrap().len, 7);
        assert_eq!(content.find("/bytes/0").unwrap().len, 0);
        assert_eq!(content.find("/bytes/1073741824").unwrap().body, Body::Pattern);
        let too_many = format!("/bytes/{}", BYTES_MAX + 1);
        for path in ["/bytes/", "/bytes/-1", "/bytes/1x", "/bytes/99999999999999999999", &too_many] {
            assert_eq!(content.find(path), None, "{path}");
        }
        assert_eq!(Content::default().find("/"), None);
    }

    #[test]
    fn folder_that_cannot_be_read_is_named() {
        let error = Content::load(Some(Path::new("/nonexistent/site")), None).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent/site"));
    }
}
