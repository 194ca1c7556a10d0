//! Numbers with units: read exactly, written in the shortest form that reads back the same.

use std::time::Duration;

/// Why a text is no such quantity, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotAQuantity {
    pub(crate) what: String,
    pub(crate) remedy: String,
}

fn not(what: impl Into<String>, remedy: impl Into<String>) -> NotAQuantity {
    NotAQuantity { what: what.into(), remedy: remedy.into() }
}

/// Units of time in nanoseconds, largest first.
const TIME: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];
/// Units of size in bytes, largest first, powers of 2 before powers of 10.
const SIZE: [(&str, u128); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];
/// No timeout, window or interval is longer; far below what arithmetic on instants can't stand.
const LONGEST: u128 = 366 * TIME[0].1;

/// A decimal number at the beginning of `text` as (digits without the point, number of decimals), and what follows.
fn decimal(text: &str) -> Option<(u128, u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').map_or((number, ""), |(w, f)| (w, f));
    if whole.is_empty() || number.ends_with('.') || fraction.contains('.') || number.len() > 24 {
        return None;
    }
    let digits = format!("{whole}{fraction}").parse().ok()?;
    Some((digits, u32::try_from(fraction.len()).ok()?, rest))
}

/// `digits / 10^decimals × factor`, if that is a whole number.
fn whole(digits: u128, decimals: u32, factor: u128) -> Option<u128> {
    let product = digits.checked_mul(factor)?;
    let divisor = 10u128.pow(decimals);
    product.is_multiple_of(divisor).then(|| product / divisor)
}

/// `10s`, `250ms`, `1m30s`, `1.5h`.
pub(crate) fn duration(text: &str) -> Result<Duration, NotAQuantity> {
    const REMEDY: &str =
        "write a number with its unit, for example `10s`, `250ms`, `5m` or `1m30s` (d, h, m, s, ms, us)";
    let mut rest = text.trim();
    let mut total = 0u128;
    let mut smallest = u128::MAX;
    if rest.is_empty() {
        return Err(not("a duration is missing", REMEDY));
    }
    while !rest.is_empty() {
        let Some((digits, decimals, after)) = decimal(rest) else {
            return Err(not(format!("`{text}` is not a duration"), REMEDY));
        };
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let unit = unit.trim();
        if unit.is_empty() {
            return Err(not(
                format!("`{text}` has no unit"),
                format!("write `{rest}s` for seconds or `{rest}ms` for milliseconds"),
            ));
        }
        let Some((_, factor)) = TIME.iter().find(|(name, _)| *name == unit) else {
            let meant = match unit.to_ascii_lowercase().as_str() {
                "sec" | "secs" | "second" | "seconds" => Some("s"),
                "min" | "mins" | "minute" | "minutes" => Some("m"),
                "hour" | "hours" | "hr" => Some("h"),
                "day" | "days" => Some("d"),
                "msec" | "millis" | "milliseconds" => Some("ms"),
                "µs" => Some("us"),
                _ => None,
            };
            let remedy =
                meant.map_or_else(|| REMEDY.to_owned(), |unit| format!("write the unit as `{unit}`"));
            return Err(not(format!("`{unit}` is not a unit of time"), remedy));
        };
        if *factor >= smallest {
            return Err(not(
                format!("`{text}` names a unit twice or out of order"),
                "write `1m30s`: larger units first, each once",
            ));
        }
        smallest = *factor;
        let Some(part) = whole(digits, decimals, *factor) else {
            return Err(not(format!("`{text}` is finer than a nanosecond or far too long"), REMEDY));
        };
        total = total.saturating_add(part);
        rest = next.trim_start();
    }
    if total > LONGEST {
        return Err(not(format!("`{text}` is longer than a year"), "durations reach up to `366d`"));
    }
    let seconds = u64::try_from(total / 1_000_000_000).unwrap_or(u64::MAX);
    Ok(Duration::new(seconds, u32::try_from(total % 1_000_000_000).unwrap_or(0)))
}

/// The shortest text of a duration that reads back as the same.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let mut left = duration.as_nanos();
    if left == 0 {
        return "0s".into();
    }
    let mut parts = Vec::new();
    for (name, factor) in TIME {
        if left >= factor {
            parts.push(format!("{}{name}", left / factor));
            left %= factor;
        }
    }
    parts.concat()
}

/// `96MiB`, `2GB`, `1.5GiB`, `512B`.
pub(crate) fn size(text: &str) -> Result<u64, NotAQuantity> {
    const REMEDY: &str =
        "write a number with its unit, for example `96MiB` (96·1024² bytes) or `2GB` (2·1000³ bytes)";
    let text = text.trim();
    let Some((digits, decimals, unit)) = decimal(text) else {
        return Err(not(format!("`{text}` is not a size"), REMEDY));
    };
    let unit = unit.trim();
    if unit.is_empty() {
        return Err(not(
            format!("`{text}` has no unit"),
            format!("write `{text}MiB`, or `{text}B` for bytes"),
        ));
    }
    let Some((_, factor)) = SIZE.iter().find(|(name, _)| *name == unit) else {
        let first = unit.chars().next().map_or('M', |c| c.to_ascii_uppercase());
        let remedy = if "KMGT".contains(first) {
            format!("write `{first}iB` for powers of 1024 or `{first}B` for powers of 1000")
        } else {
            REMEDY.to_owned()
        };
        return Err(not(format!("`{unit}` is not a unit of size"), remedy));
    };
    whole(digits, decimals, *factor)
        .and_then(|bytes| u64::try_from(bytes).ok())
        .ok_or_else(|| not(format!("`{text}` is not a whole number of bytes below 16 EiB"), REMEDY))
}

/// The shortest text of a size in bytes that reads back as the same.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    if bytes == 0 {
        return "0B".into();
    }
    SIZE.iter()
        .filter(|(_, factor)| u128::from(bytes).is_multiple_of(*factor))
        .map(|(name, factor)| format!("{}{name}", u128::from(bytes) / factor))
        .min_by_key(String::len)
        .unwrap_or_default()
}

/// `5%` or `0.25%` in units of a ten-thousandth of a percent (1 000 000 is 100%). Not limited to 100%.
pub(crate) fn percent(text: &str) -> Result<u64, NotAQuantity> {
    const REMEDY: &str = "write a percentage, for example `5%` or `0.25%`";
    let text = text.trim();
    let Some((digits, decimals, unit)) = decimal(text) else {
        return Err(not(format!("`{text}` is not a percentage"), REMEDY));
    };
    match unit.trim() {
        "%" => {}
        "" => {
            let remedy = match text.parse::<f64>() {
                Ok(x) if x < 1.0 && x > 0.0 => {
                    format!("write `{}%` if that share is meant", show_decimal((x * 1e6).round() as u64, 4))
                }
                _ => format!("write `{text}%`"),
            };
            return Err(not(format!("`{text}` has no unit"), remedy));
        }
        _ => return Err(not(format!("`{text}` is not a percentage"), REMEDY)),
    }
    whole(digits, decimals, 10_000)
        .and_then(|units| u64::try_from(units).ok())
        .ok_or_else(|| not(format!("`{text}` has more than four decimals or is far too large"), REMEDY))
}

/// The shortest text of a percentage (in units of a ten-thousandth of a percent) that reads back as the same.
#[must_use]
pub fn show_percent(units: u64) -> String {
    format!("{}%", show_decimal(units, 4))
}

fn show_decimal(units: u64, decimals: u32) -> String {
    let scale = 10u64.pow(decimals);
    let width = decimals as usize;
    let text = format!("{}.{:0width$}", units / scale, units % scale);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `400/s`, `24000/m` in events per second.
pub(crate) fn rate(text: &str) -> Result<f64, NotAQuantity> {
    const REMEDY: &str = "write a number per time, for example `400/s` or `24000/m`";
    let text = text.trim();
    let Some((number, unit)) = text.split_once('/') else {
        return Err(match text.parse::<f64>() {
            Ok(_) => not(format!("`{text}` has no unit"), format!("write `{text}/s` for so many per second")),
            Err(_) => not(format!("`{text}` is not a rate"), REMEDY),
        });
    };
    let seconds = match unit.trim() {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(not(format!("`{text}` is not a rate"), REMEDY)),
    };
    let number = number.trim();
    // Digits and a point only: `parse` alone would take `inf`, `nan` and signs.
    decimal(number)
        .filter(|(_, _, rest)| rest.is_empty())
        .and_then(|_| number.parse::<f64>().ok())
        .map(|number| number / seconds)
        .ok_or_else(|| not(format!("`{text}` is not a rate"), REMEDY))
}

/// A text that [`rate`] reads back as the same.
pub(crate) fn show_rate(per_second: f64) -> String {
    format!("{per_second}/s")
}

/// `1.5 cores`, `2cores`, `50%` (of one core) in thousandths of a core.
pub(crate) fn cpu(text: &str) -> Result<u32, NotAQuantity> {
    const REMEDY: &str = "write a share of one core (`50%`) or a number of cores (`1.5 cores`)";
    let text = text.trim();
    let parts = decimal(text).ok_or_else(|| not(format!("`{text}` is not an amount of CPU"), REMEDY))?;
    let factor = match parts.2.trim() {
        "%" => 10,
        "core" | "cores" => 1_000,
        "" => {
            return Err(not(
                format!("`{text}` has no unit"),
                format!("write `{text} cores`, or a share of one core such as `50%`"),
            ));
        }
        _ => return Err(not(format!("`{text}` is not an amount of CPU"), REMEDY)),
    };
    whole(parts.0, parts.1, factor)
        .and_then(|milli| u32::try_from(milli).ok())
        .ok_or_else(|| not(format!("`{text}` is finer than a thousandth of a core or far too large"), REMEDY))
}

/// The shortest text that [`cpu`] reads back as the same.
pub(crate) fn show_cpu(milli: u32) -> String {
    format!("{}%", show_decimal(u64::from(milli), 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(
            ns in 0..=(LONGEST as u64), bytes: u64, units in 0u64..10_000_000_000, milli: u32, per_second in 0.0f64..1e15
        ) {
            let time = Duration::from_nanos(ns);
            prop_assert_eq!(duration(&show_duration(time)), Ok(time));
            prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
            prop_assert_eq!(percent(&show_percent(units)), Ok(units));
            prop_assert_eq!(cpu(&show_cpu(milli)), Ok(milli));
            let per_second = (per_second * 1000.0).round() / 1000.0;
            prop_assert_eq!(rate(&show_rate(per_second)), Ok(per_second));
        }

        #[test]
        fn no_text_makes_them_panic(text in "\\PC{0,12}|[0-9.]{0,30}[a-zA-Z%/]{0,3}") {
            let _ = (duration(&text), size(&text), percent(&text), rate(&text), cpu(&text));
        }
    }

    #[test]
    fn units_mean_what_they_say() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration(" 250 ms "), Ok(Duration::from_millis(250)));
        assert_eq!(show_duration(Duration::from_millis(90_500)), "1m30s500ms");
        assert_eq!(size("96MiB"), Ok(96 << 20));
        assert_eq!(size("2GB"), Ok(2_000_000_000));
        assert_eq!(show_size(96 << 20), "96MiB");
        assert_eq!(show_size(1_500_000), "1500KB");
        assert_eq!(percent("0.5%"), Ok(5_000));
        assert_eq!(rate("24000/m"), Ok(400.0));
        assert_eq!(cpu("1.5 cores"), Ok(1_500));
        assert_eq!(cpu("50%"), Ok(500));
    }

    #[test]
    fn a_bare_number_is_refused_with_a_remedy() {
        assert!(duration("10").unwrap_err().remedy.contains("`10s`"));
        assert!(size("96").unwrap_err().remedy.contains("`96MiB`"));
        assert!(percent("0.05").unwrap_err().remedy.contains("`5%`"));
        assert!(rate("400").unwrap_err().remedy.contains("`400/s`"));
        assert!(cpu("2").unwrap_err().remedy.contains("`2 cores`"));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for bad in
            ["", "s", "-1s", "1e3s", "1s1m", "1s1s", "10 parsecs", "400d", "1..5s", "5.s", ".5s", "0.5ns"]
        {
            assert!(duration(bad).is_err(), "{bad}");
        }
        for bad in ["", "MiB", "-1B", "1mb", "96M", "0.5B", "99999999TiB", "99999999999999999999999999B"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        for bad in ["", "%", "-5%", "5", "5 percent", "0.00001%"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
        for bad in ["inf/s", "nan/s", "-1/s", "1/d", "/s", "1//s"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
