//! Keys, and the AEAD they are used with (RFC 5116): ChaCha20-Poly1305 (RFC 8439) or AES-256-GCM (NIST SP 800-38D).
//!
//! The key of the file never meets a packet. Each sender has a key of its own, derived by HKDF-SHA-256 (RFC 5869):
//!
//! ```text
//!  secret     = HKDF-Extract(salt = session, key of the file)
//!  key id     = HKDF-Expand(secret, "tailwater 1 id", 2)
//!  sender key = HKDF-Expand(secret, "tailwater 1 key" | form | sender, 32)
//!  nonce      = 0 (4 bytes) | counter (8 bytes)
//! ```
//!
//! A sender is 64 random bits, drawn for each worker at each start, so a counter that starts again meets another key.
//! With 2^16 senders under one key and session, two are the same with a probability of 2^-33; then it is time for a new key.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use chacha20poly1305::ChaCha20Poly1305;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::block::{Parameter, ParameterError, ValueKind};

pub(crate) const KEY_LEN: usize = 32;
pub(crate) const TAG_LEN: usize = 16;
const NONCE_LEN: usize = 12;
/// Longest session, in bytes.
const SESSION_MAX: usize = 64;
/// A key in hexadecimal digits, and a line's end.
const FILE_MAX: u64 = 2 * KEY_LEN as u64 + 2;
/// Permissions of group and others.
const OTHERS: u32 = 0o077;

pub(crate) const KEY_FILE: Parameter = Parameter {
    key: "key_file",
    kind: ValueKind::Path,
    default: None,
    doc: "file with the key, the same on both sides: 32 bytes, or 64 hexadecimal digits; readable by its owner only",
};
pub(crate) const SESSION: Parameter = Parameter {
    key: "session",
    kind: ValueKind::Text,
    default: Some(""),
    doc: "the same words on both sides, at most 64 bytes; frames of another session count as of another key, so a new \
          one for each insertion keeps recorded frames out",
};

/// An AEAD algorithm; the number is the form in the frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Algorithm {
    ChaCha20Poly1305 = 1,
    Aes256Gcm = 2,
}

impl Algorithm {
    pub(crate) fn from_form(form: u8) -> Option<Self> {
        match form {
            1 => Some(Self::ChaCha20Poly1305),
            2 => Some(Self::Aes256Gcm),
            _ => None,
        }
    }

    /// By its name; `auto` is AES where the processor has instructions for it.
    pub(crate) fn parse(key: &str, text: &str) -> Result<Self, ParameterError> {
        match text {
            "auto" if aes_in_hardware() => Ok(Self::Aes256Gcm),
            "auto" | "chacha20-poly1305" => Ok(Self::ChaCha20Poly1305),
            "aes-256-gcm" => Ok(Self::Aes256Gcm),
            _ => Err(wrong(key, text, "wants auto, chacha20-poly1305 or aes-256-gcm".into())),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn aes_in_hardware() -> bool {
    is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn aes_in_hardware() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn aes_in_hardware() -> bool {
    false
}

/// One sender's key, ready for use.
pub(crate) enum Cipher {
    ChaCha20Poly1305(ChaCha20Poly1305),
    /// Boxed for the size of its expanded key.
    Aes256Gcm(Box<Aes256Gcm>),
}

/// The frame is not what its sender sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forged;

impl Cipher {
    pub(crate) fn new(algorithm: Algorithm, key: &[u8; KEY_LEN]) -> Self {
        match algorithm {
            Algorithm::ChaCha20Poly1305 => Self::ChaCha20Poly1305(ChaCha20Poly1305::new(key.into())),
            Algorithm::Aes256Gcm => Self::Aes256Gcm(Box::new(Aes256Gcm::new(key.into()))),
        }
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Self::ChaCha20Poly1305(_) => Algorithm::ChaCha20Poly1305,
            Self::Aes256Gcm(_) => Algorithm::Aes256Gcm,
        }
    }

    /// Encrypts in place and answers the tag; `None` for a text longer than the algorithm takes (64 GiB).
    pub(crate) fn seal(&self, counter: u64, header: &[u8], text: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        self.seal_with(&nonce(counter), header, text)
    }

    /// Checks the tag over `header` and `text`, and only then decrypts in place.
    pub(crate) fn open(&self, counter: u64, header: &[u8], text: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), Forged> {
        let nonce = nonce(counter);
        let opened = match self {
            Self::ChaCha20Poly1305(key) => key.decrypt_inout_detached((&nonce).into(), header, text.into(), tag.into()),
            Self::Aes256Gcm(key) => key.decrypt_inout_detached((&nonce).into(), header, text.into(), tag.into()),
        };
        opened.map_err(|_| Forged)
    }

    fn seal_with(&self, nonce: &[u8; NONCE_LEN], header: &[u8], text: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        let tag = match self {
            Self::ChaCha20Poly1305(key) => key.encrypt_inout_detached(nonce.into(), header, text.into()),
            Self::Aes256Gcm(key) => key.encrypt_inout_detached(nonce.into(), header, text.into()),
        };
        tag.ok().map(Into::into)
    }
}

/// RFC 5116 §3.2, the fixed part being zero: no two senders share a key.
fn nonce(counter: u64) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    nonce
}

/// What both sides derive senders' keys from.
pub(crate) struct Key {
    secret: Zeroizing<[u8; KEY_LEN]>,
    id: u16,
}

impl Key {
    pub(crate) fn new(bytes: &[u8; KEY_LEN], session: &str) -> Self {
        let (secret, expand) = Hkdf::<Sha256>::extract(Some(session.as_bytes()), bytes);
        let mut id = [0; 2];
        let fits = expand.expand(b"tailwater 1 id", &mut id);
        debug_assert!(fits.is_ok(), "two bytes are fewer than 255 hashes");
        Self { secret: Zeroizing::new(secret.into()), id: u16::from_be_bytes(id) }
    }

    /// Reads the key of parameters `key_file` and `session`.
    pub(crate) fn read(path: &str, session: &str) -> Result<Self, ParameterError> {
        if session.len() > SESSION_MAX {
            return Err(wrong(SESSION.key, session, format!("wants at most {SESSION_MAX} bytes")));
        }
        let bytes = read_file(path).map_err(|wanted| wrong(KEY_FILE.key, path, wanted))?;
        Ok(Self::new(&bytes, session))
    }

    /// Tells keys apart on the wire; says nothing about the key.
    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    /// Whether it is the same key in the same session.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.secret == other.secret
    }

    /// A sender's key.
    pub(crate) fn cipher(&self, algorithm: Algorithm, sender: u64) -> Cipher {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        let sender = sender.to_be_bytes();
        let info: [&[u8]; 3] = [b"tailwater 1 key", &[algorithm as u8], &sender];
        if let Ok(expand) = Hkdf::<Sha256>::from_prk(self.secret.as_slice()) {
            let fits = expand.expand_multi_info(&info, key.as_mut_slice());
            debug_assert!(fits.is_ok(), "32 bytes are one hash");
        }
        Cipher::new(algorithm, &key)
    }
}

/// The key in a file, or what it should be like.
fn read_file(path: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, String> {
    let failed = |error: std::io::Error| format!("cannot be read ({error}); wants a file with a key of 32 bytes");
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err("is no regular file; wants a file with a key of 32 bytes".into());
    }
    if metadata.mode() & OTHERS != 0 {
        let mode = metadata.mode() & 0o777;
        return Err(format!("has mode {mode:04o}, so others can reach the key; `chmod 600 {path}`"));
    }
    let mut content = Zeroizing::new(Vec::with_capacity(FILE_MAX as usize));
    file.take(FILE_MAX).read_to_end(&mut content).map_err(failed)?;
    parse(&content).ok_or_else(|| {
        format!(
            "has the wrong length or digits ({} bytes{}); wants 32 bytes or 64 hexadecimal digits: `head -c 32 \
             /dev/urandom > {path}`",
            content.len(),
            if metadata.len() > FILE_MAX { " and more" } else { "" },
        )
    })
}

/// 32 bytes as they are, or 64 hexadecimal digits with or without a line's end.
fn parse(content: &[u8]) -> Option<Zeroizing<[u8; KEY_LEN]>> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    if content.len() == KEY_LEN {
        key.copy_from_slice(content);
        return Some(key);
    }
    let digits = content.trim_ascii_end();
    if digits.len() != 2 * KEY_LEN || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(key)
}

fn wrong(key: &str, value: &str, wanted: String) -> ParameterError {
    ParameterError::Value { key: key.into(), value: value.into(), wanted }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    #[track_caller]
    fn check(algorithm: Algorithm, [key, nonce, header, text, sealed, tag]: [&str; 6]) {
        let [key, nonce, header, text, sealed, tag] = [key, nonce, header, text, sealed, tag].map(hex);
        let cipher = Cipher::new(algorithm, key.as_slice().try_into().unwrap());
        let mut bytes = text.clone();
        let made = cipher.seal_with(nonce.as_slice().try_into().unwrap(), &header, &mut bytes).unwrap();
        assert_eq!((&bytes, made.as_slice()), (&sealed, tag.as_slice()));
    }

    #[test]
    fn rfc_8439_section_2_8_2() {
        let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                     sunscreen would be it.";
        let text: String = text.iter().map(|byte| format!("{byte:02x}")).collect();
        check(
            Algorithm::ChaCha20Poly1305,
            [
                "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
                "070000004041424344454647",
                "50515253c0c1c2c3c4c5c6c7",
                &text,
                "d31a8d34648e60db7b86afbc53ef7ec2 a4aded51296e08fea9e2b5a736ee62d6
                 3dbea45e8ca9671282fafb69da92728b 1a71de0a9e060b2905d6a5b67ecd3b36
                 92ddbd7f2d778b8c9803aee328091b58 fab324e4fad675945585808b4831d7bc
                 3ff4def08e4b7a9de576d26586cec64b 6116",
                "1ae10b594f09e26a7e902ecbd0600691",
            ],
        );
    }

    /// Test case 16 of the specification of GCM (McGrew and Viega), which NIST SP 800-38D is about.
    #[test]
    fn gcm_specification_test_case_16() {
        check(
            Algorithm::Aes256Gcm,
            [
                "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
                "cafebabefacedbaddecaf888",
                "feedfacedeadbeeffeedfacedeadbeefabaddad2",
                "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525
                 b16aedf5aa0de657ba637b39",
                "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838
                 c5f61e6393ba7a0abcc9f662",
                "76fc6ece0f4e1768cddf8853bb2d551b",
            ],
        );
    }

    #[test]
    fn keys_differ_by_session_algorithm_and_sender() {
        let bytes = [7; KEY_LEN];
        let (one, other) = (Key::new(&bytes, ""), Key::new(&bytes, "x"));
        assert!(one.is(&Key::new(&bytes, "")) && !one.is(&other) && one.id() != other.id());
        let tag = |key: &Key, algorithm, sender| key.cipher(algorithm, sender).seal(1, &[], &mut [0; 8]).unwrap();
        use Algorithm::{Aes256Gcm, ChaCha20Poly1305};
        let tags = [
            tag(&one, ChaCha20Poly1305, 1),
            tag(&one, ChaCha20Poly1305, 2),
            tag(&other, ChaCha20Poly1305, 1),
            tag(&one, Aes256Gcm, 1),
        ];
        for (at, tag) in tags.iter().enumerate() {
            assert!(!tags[..at].contains(tag), "{at}");
        }
    }

    #[test]
    fn key_files_are_taken_raw_and_in_hexadecimal_and_nothing_else() {
        assert_eq!(*parse(&[9; 32]).unwrap(), [9; 32]);
        let digits = "0a".repeat(32);
        for text in [digits.clone(), format!("{digits}\n"), format!("{digits}\r\n"), digits.to_uppercase()] {
            assert_eq!(*parse(text.as_bytes()).unwrap(), [10; 32]);
        }
        for wrong in ["", &digits[1..], &"0g".repeat(32), &format!("{digits}00"), &format!(" {digits}")] {
            assert!(parse(wrong.as_bytes()).is_none(), "{wrong:?}");
        }
        assert!(parse(&[9; 31]).is_none() && parse(&[9; 33]).is_none());
    }

    #[test]
    fn files_that_are_short_long_open_to_others_or_not_there_are_refused_with_a_hint() {
        let path = std::env::temp_dir().join(format!("tailwater-key-{}", std::process::id()));
        let path = path.to_str().unwrap();
        let refused = |content: &[u8], mode: u32| {
            std::fs::write(path, content).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            Key::read(path, "").err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(refused(&[1; 32], 0o600), "");
        assert_eq!(refused(&[1; 32], 0o400), "");
        for (content, length) in
            [(&[1u8; 31][..], "31 bytes"), (&[1; 33], "33 bytes"), (&[1; 4096], "66 bytes and more")]
        {
            let error = refused(content, 0o600);
            assert!(error.contains(length) && error.contains("head -c 32"), "{error}");
        }
        for mode in [0o640, 0o604, 0o660, 0o610] {
            let error = refused(&[1; 32], mode);
            assert!(error.contains("chmod 600"), "{error}");
        }
        std::fs::remove_file(path).unwrap();
        for (path, word) in [(path, "cannot be read"), ("/", "no regular file"), ("", "cannot be read")] {
            let error = Key::read(path, "").err().unwrap().to_string();
            assert!(error.contains(word), "{error}");
        }
        let error = Key::read("/", &"x".repeat(65)).err().unwrap().to_string();
        assert!(error.contains("64 bytes"), "{error}");
    }
}
