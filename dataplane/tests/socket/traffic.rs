//! Bytes that tell where they belong, sent and compared.

use std::io::{Read, Write};
use std::time::Duration;

/// Longest that anything in these tests may take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Byte at this place of a stream; `stream` makes them differ.
pub(crate) fn byte(stream: u64, at: u64) -> u8 {
    ((at ^ at >> 8 ^ at >> 16) ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// Writes this part of a stream, in pieces of changing lengths.
pub(crate) fn send(mut to: impl Write, stream: u64, len: u64) {
    let (mut at, mut piece) = (0, Vec::new());
    while at < len {
        let n = [1, 1_448, 100, 65_536, 7, 16_384][(at % 6) as usize].min(len - at);
        piece.clear();
        piece.extend((at..at + n).map(|at| byte(stream, at)));
        to.write_all(&piece).unwrap_or_else(|error| panic!("writing at {at} of {len}: {error}"));
        at += n;
    }
}

/// Reads until the end; the bytes must be those of the stream.
pub(crate) fn expect(mut from: impl Read, stream: u64, len: u64) {
    let (mut at, mut room) = (0, vec![0; 50_000]);
    loop {
        let n = from.read(&mut room).unwrap_or_else(|error| panic!("reading at {at} of {len}: {error}"));
        if n == 0 {
            break;
        }
        let wrong = room[..n].iter().zip(at..).find(|&(&got, at)| got != byte(stream, at));
        assert!(wrong.is_none(), "another byte at {}", wrong.unwrap().1);
        at += n as u64;
    }
    assert_eq!(at, len, "bytes until the end");
}

/// Sends back what comes, until the end.
pub(crate) fn echo(mut stream: impl Read + Write) -> std::io::Result<u64> {
    let (mut total, mut room) = (0, vec![0; 20_000]);
    loop {
        let n = stream.read(&mut room)?;
        if n == 0 {
            return Ok(total);
        }
        stream.write_all(&room[..n])?;
        total += n as u64;
    }
}
