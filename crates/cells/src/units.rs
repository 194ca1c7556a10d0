//! Durations and sizes with their unit, as blueprints write them: `250ms`, `10s`, `96MiB`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// For `#[serde(with = "units::duration")]`: a number and `ms`, `s`, `m` or `h`.
pub(crate) mod duration {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &Duration, out: S) -> Result<S::Ok, S::Error> {
        let ms = value.as_millis();
        if ms.is_multiple_of(1000) {
            out.collect_str(&format_args!("{}s", ms / 1000))
        } else {
            out.collect_str(&format_args!("{ms}ms"))
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is not a duration: write a number and ms, s, m or h, like `10s`"
            ))
        })
    }

    pub(crate) fn parse(text: &str) -> Option<Duration> {
        let (number, unit) = split(text)?;
        let ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        number.checked_mul(ms).map(Duration::from_millis)
    }
}

/// For `#[serde(with = "units::bytes")]`: a number and `B`, `KiB`, `MiB` or `GiB`.
pub(crate) mod bytes {
    use forefend_domain::Bytes;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &Bytes, out: S) -> Result<S::Ok, S::Error> {
        let Bytes(n) = *value;
        match n {
            n if n > 0 && n.is_multiple_of(1 << 20) => out.collect_str(&format_args!("{}MiB", n >> 20)),
            n if n > 0 && n.is_multiple_of(1 << 10) => out.collect_str(&format_args!("{}KiB", n >> 10)),
            n => out.collect_str(&format_args!("{n}B")),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(from)?;
        parse(&text).map(Bytes).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is not a size: write a number and B, KiB, MiB or GiB, like `96MiB`"
            ))
        })
    }

    pub(crate) fn parse(text: &str) -> Option<u64> {
        let (number, unit) = split(text)?;
        let factor = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        number.checked_mul(factor)
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_required_and_overflow_is_refused() {
        assert_eq!(duration::parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration::parse("2m"), Some(Duration::from_secs(120)));
        assert_eq!(bytes::parse("96MiB"), Some(96 << 20));
        for bad in ["", "10", "s", "-1s", "1.5s", "10 parsecs", "99999999999999999h"] {
            assert_eq!(duration::parse(bad), None, "{bad}");
        }
        for bad in ["", "10", "96M", "99999999999GiB"] {
            assert_eq!(bytes::parse(bad), None, "{bad}");
        }
    }
}
