//! The pairs there are.

use clap::ValueEnum;

use crate::snapshot::Counts;

/// A pair, named by its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    /// encrypt and decrypt
    Encrypt,
    /// compress and decompress
    Compress,
}

impl Sort {
    /// Kind of the block that sends.
    pub(super) fn sender(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Compress => "compress",
        }
    }

    /// Kind of the block that receives.
    pub(super) fn receiver(self) -> &'static str {
        match self {
            Self::Encrypt => "decrypt",
            Self::Compress => "decompress",
        }
    }

    /// Whether frames of one insertion are told from those of another by a word that both ends share.
    pub(super) fn has_session(self) -> bool {
        self == Self::Encrypt
    }

    /// Frames that came encapsulated to a receiver with these counters, whatever became of them.
    pub(super) fn encapsulated(self, counters: &Counts) -> u64 {
        let keys: &[&str] = match self {
            Self::Encrypt => &["opened", "wrong_key", "tampered", "replayed", "too_old", "refused"],
            Self::Compress => &["decompressed", "stored", "corrupt", "refused"],
        };
        keys.iter().filter_map(|&key| counters.get(key)).sum()
    }
}
