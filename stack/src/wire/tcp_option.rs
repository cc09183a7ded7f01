//! TCP options (RFC 9293 §3.2): maximum segment size, window scale and timestamps (RFC 7323),
//! SACK (RFC 2018), user timeout (RFC 5482).
//!
//! A length that does not fit ends the list: what came before it counts (RFC 9293 MUST-7). An option
//! with the wrong length for its kind is passed over. Kinds that are not known are passed over too;
//! layers above find them by [`find`].

pub mod kind {
    pub const END: u8 = 0;
    pub const NOP: u8 = 1;
    pub const MSS: u8 = 2;
    pub const WINDOW_SCALE: u8 = 3;
    pub const SACK_PERMITTED: u8 = 4;
    pub const SACK: u8 = 5;
    pub const TIMESTAMPS: u8 = 8;
    pub const USER_TIMEOUT: u8 = 28;
}

/// Bytes of options that a header can have.
pub const OPTIONS_LEN_MAX: usize = 40;
/// Blocks that fit into 40 bytes (RFC 2018 §3).
pub const SACK_BLOCKS_MAX: usize = 4;
/// RFC 7323 §2.3: larger shifts are taken as this one.
pub const WINDOW_SCALE_MAX: u8 = 14;
/// Bytes that timestamps take, padded to a word boundary (RFC 7323 appendix A).
pub const TIMESTAMPS_LEN: usize = 12;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub value: u32,
    /// TSecr: the receiver's clock, as the sender last saw it.
    pub echo: u32,
}

impl Timestamps {
    /// The first four bytes of [`padded`](Self::padded).
    pub const PADDED_HEAD: u32 = u32::from_be_bytes([kind::NOP, kind::NOP, kind::TIMESTAMPS, 10]);

    /// The option behind two fillers, as RFC 7323 appendix A has it.
    #[inline]
    pub fn padded(self) -> [u8; TIMESTAMPS_LEN] {
        let ([a, b, c, d], [e, f, g, h]) = (self.value.to_be_bytes(), self.echo.to_be_bytes());
        [kind::NOP, kind::NOP, kind::TIMESTAMPS, 10, a, b, c, d, e, f, g, h]
    }

    /// Reads options that are nothing but this.
    #[inline]
    pub fn of_padded(bytes: &[u8; TIMESTAMPS_LEN]) -> Option<Self> {
        let (head, body) = bytes.split_first_chunk()?;
        if u32::from_be_bytes(*head) != Self::PADDED_HEAD {
            return None;
        }
        timestamps(body)
    }
}

/// A range of sequence numbers: first of it, first behind it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SackBlock {
    pub left: u32,
    pub right: u32,
}

/// At most [`SACK_BLOCKS_MAX`] blocks, in the order of the option.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SackBlocks {
    blocks: [SackBlock; SACK_BLOCKS_MAX],
    len: u8,
}

impl SackBlocks {
    /// Adds a block; one too many is left out.
    pub fn push(&mut self, block: SackBlock) {
        if let Some(slot) = self.blocks.get_mut(usize::from(self.len)) {
            *slot = block;
            self.len += 1;
        }
    }

    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(u8::try_from(len).unwrap_or(u8::MAX));
    }

    pub fn as_slice(&self) -> &[SackBlock] {
        self.blocks.get(..usize::from(self.len)).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The options that TCP itself acts on.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TcpOptions {
    pub mss: Option<u16>,
    /// At most [`WINDOW_SCALE_MAX`].
    pub window_scale: Option<u8>,
    pub sack_permitted: bool,
    pub timestamps: Option<Timestamps>,
    pub sack: SackBlocks,
    /// RFC 5482 §2, in seconds.
    pub user_timeout_s: Option<u32>,
}

impl TcpOptions {
    /// Reads the bytes between header and payload.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Self {
        // RFC 7323 appendix A: what nearly every segment carries.
        if let [kind::NOP, kind::NOP, kind::TIMESTAMPS, 10, body @ ..] = bytes
            && body.len() == 8
        {
            return Self { timestamps: timestamps(body), ..Self::default() };
        }
        let mut parsed = Self::default();
        for (kind, body) in options(bytes) {
            parsed.take(kind, body);
        }
        parsed
    }

    fn take(&mut self, kind: u8, body: &[u8]) {
        match (kind, body) {
            (kind::MSS, &[high, low]) => self.mss = Some(u16::from_be_bytes([high, low])),
            (kind::WINDOW_SCALE, &[shift]) => self.window_scale = Some(shift.min(WINDOW_SCALE_MAX)),
            (kind::SACK_PERMITTED, []) => self.sack_permitted = true,
            (kind::TIMESTAMPS, body) if body.len() == 8 => self.timestamps = timestamps(body),
            (kind::SACK, body) if body.len().is_multiple_of(8) => self.take_sack(body),
            (kind::USER_TIMEOUT, &[high, low]) => self.user_timeout_s = Some(user_timeout(high, low)),
            _ => {}
        }
    }

    fn take_sack(&mut self, body: &[u8]) {
        let (words, _) = body.as_chunks::<8>();
        for &[a, b, c, d, e, f, g, h] in words {
            let (left, right) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
            self.sack.push(SackBlock { left, right });
        }
    }

    /// Writes the options and pads them to whole words.
    #[inline]
    pub fn write(&self, to: &mut OptionsWriter) {
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            to.put(&[kind::MSS, 4, high, low]);
        }
        if let Some(Timestamps { value, echo }) = self.timestamps {
            to.put(&[kind::NOP, kind::NOP, kind::TIMESTAMPS, 10]);
            to.put(&value.to_be_bytes());
            to.put(&echo.to_be_bytes());
        }
        if let Some(shift) = self.window_scale {
            to.put(&[kind::NOP, kind::WINDOW_SCALE, 3, shift]);
        }
        if self.sack_permitted {
            to.put(&[kind::NOP, kind::NOP, kind::SACK_PERMITTED, 2]);
        }
        if let Some(seconds) = self.user_timeout_s {
            let [high, low] = user_timeout_field(seconds);
            to.put(&[kind::USER_TIMEOUT, 4, high, low]);
        }
        if !self.sack.is_empty() {
            let blocks = self.sack.as_slice();
            to.put(&[kind::NOP, kind::NOP, kind::SACK, 2 + 8 * blocks.len() as u8]);
            for block in blocks {
                to.put(&block.left.to_be_bytes());
                to.put(&block.right.to_be_bytes());
            }
        }
    }
}

/// Each option with its kind and body, up to the end or the first length that does not fit. At most
/// 40 bytes, so at most 40 steps.
pub fn options(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        loop {
            let (&kind, after) = rest.split_first()?;
            match kind {
                kind::END => return None,
                kind::NOP => rest = after,
                _ => {
                    let (&len, body) = after.split_first()?;
                    let (body, tail) = body.split_at_checked(usize::from(len).checked_sub(2)?)?;
                    rest = tail;
                    return Some((kind, body));
                }
            }
        }
    })
}

/// The body of the first option of this kind.
pub fn find(bytes: &[u8], kind: u8) -> Option<&[u8]> {
    options(bytes).find(|&(found, _)| found == kind).map(|(_, body)| body)
}

fn timestamps(body: &[u8]) -> Option<Timestamps> {
    let (value, echo) = body.split_first_chunk::<4>()?;
    let echo = echo.first_chunk::<4>()?;
    Some(Timestamps { value: u32::from_be_bytes(*value), echo: u32::from_be_bytes(*echo) })
}

/// RFC 5482 §2: the top bit says minutes.
fn user_timeout(high: u8, low: u8) -> u32 {
    let value = u32::from(u16::from_be_bytes([high & 0x7f, low]));
    if high & 0x80 != 0 { value * 60 } else { value }
}

fn user_timeout_field(seconds: u32) -> [u8; 2] {
    match seconds {
        0..=0x7fff => (seconds as u16).to_be_bytes(),
        _ => (0x8000 | (seconds / 60).min(0x7fff) as u16).to_be_bytes(),
    }
}

/// Options on their way into a header: at most [`OPTIONS_LEN_MAX`] bytes.
#[derive(Clone, Copy, Debug)]
pub struct OptionsWriter {
    bytes: [u8; OPTIONS_LEN_MAX],
    len: usize,
    len_max: usize,
}

impl OptionsWriter {
    /// For at most `len_max` bytes.
    pub fn new(len_max: usize) -> Self {
        Self { bytes: [0; OPTIONS_LEN_MAX], len: 0, len_max: len_max.min(OPTIONS_LEN_MAX) & !3 }
    }

    /// Adds bytes, or nothing and `false` if there is no room for all of them.
    pub fn put(&mut self, bytes: &[u8]) -> bool {
        let end = self.len + bytes.len();
        if end > self.len_max {
            return false;
        }
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(bytes);
            self.len = end;
        }
        true
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        self.len_max - self.len
    }

    /// What was written, padded with zeros (end of list) to whole words.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len.next_multiple_of(4)).unwrap_or_default()
    }
}
