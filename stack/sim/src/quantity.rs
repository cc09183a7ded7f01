//! Quantities as people write them: `5 ms`, `10 Mbit/s`, `1 %`, `64 KiB`.

use std::time::Duration;

use thiserror::Error;

/// What a quantity should look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("expected {0}")]
pub(crate) struct QuantityError(pub(crate) &'static str);

pub(crate) const TIME: QuantityError = QuantityError("a time such as \"250 us\", \"5 ms\", \"1.5 s\" or \"2 min\"");
pub(crate) const RATE: QuantityError =
    QuantityError("a rate such as \"64 kbit/s\", \"10 Mbit/s\" or \"1 Gbit/s\", or \"unlimited\"");
pub(crate) const SHARE: QuantityError = QuantityError("a share from \"0 %\" to \"100 %\", such as \"0.5 %\"");
pub(crate) const SIZE: QuantityError = QuantityError("a size such as \"1200 B\", \"64 KiB\" or \"1 MB\"");

/// The number in front and the unit behind it.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    Some((number, unit.trim()))
}

pub(crate) fn time(text: &str) -> Result<Duration, QuantityError> {
    let (number, unit) = split(text).ok_or(TIME)?;
    let nanos = match unit {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "min" => 60e9,
        "h" => 3_600e9,
        _ => return Err(TIME),
    };
    Ok(Duration::from_nanos((number * nanos).round() as u64))
}

/// Bits per second; 0: unlimited.
pub(crate) fn rate(text: &str) -> Result<u64, QuantityError> {
    if text.trim() == "unlimited" {
        return Ok(0);
    }
    let (number, unit) = split(text).ok_or(RATE)?;
    let factor = match unit {
        "bit/s" => 1.0,
        "kbit/s" => 1e3,
        "Mbit/s" => 1e6,
        "Gbit/s" => 1e9,
        _ => return Err(RATE),
    };
    match (number * factor).round() as u64 {
        0 => Err(RATE),
        rate_bps => Ok(rate_bps),
    }
}

/// From 0 to 1.
pub(crate) fn share(text: &str) -> Result<f64, QuantityError> {
    match split(text).ok_or(SHARE)? {
        (percent, "%") if percent <= 100.0 => Ok(percent / 100.0),
        _ => Err(SHARE),
    }
}

/// Bytes.
pub(crate) fn size(text: &str) -> Result<u64, QuantityError> {
    let (number, unit) = split(text).ok_or(SIZE)?;
    let factor = match unit {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1_024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        _ => return Err(SIZE),
    };
    Ok((number * factor).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_understood() {
        assert_eq!(time("5 ms"), Ok(Duration::from_millis(5)));
        assert_eq!(time("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(time("250 us"), Ok(Duration::from_micros(250)));
        assert_eq!(rate("10 Mbit/s"), Ok(10_000_000));
        assert_eq!(rate("unlimited"), Ok(0));
        assert_eq!(share("0.5 %"), Ok(0.005));
        assert_eq!(size("64 KiB"), Ok(65_536));
    }

    #[test]
    fn anything_else_is_refused_with_examples() {
        for wrong in ["5", "ms", "5 m", "", "-5 ms", "5 Ms", "1e3 s"] {
            assert_eq!(time(wrong), Err(TIME), "{wrong}");
        }
        for wrong in ["10", "10 Mb", "0 bit/s", "10 MB/s"] {
            assert_eq!(rate(wrong), Err(RATE), "{wrong}");
        }
        for wrong in ["101 %", "0.5", "half"] {
            assert_eq!(share(wrong), Err(SHARE), "{wrong}");
        }
        assert_eq!(size("12"), Err(SIZE));
        assert!(TIME.to_string().contains("5 ms"));
    }
}
