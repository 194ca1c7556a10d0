//! How instants and the words of metrics are written in files.

use chrono::{DateTime, SecondsFormat};
use forefend_domain::{Family, MetricKind, Timestamp};

use super::error::Complaint;

const FAMILIES: [Family; 7] = [
    Family::Saturation,
    Family::Latency,
    Family::Traffic,
    Family::Errors,
    Family::Logs,
    Family::Restarts,
    Family::Custom,
];
const KINDS: [MetricKind; 4] =
    [MetricKind::Exhaustible, MetricKind::Depletable, MetricKind::Saturable, MetricKind::Unbounded];

pub(super) fn family_word(family: Family) -> &'static str {
    match family {
        Family::Saturation => "saturation",
        Family::Latency => "latency",
        Family::Traffic => "traffic",
        Family::Errors => "errors",
        Family::Logs => "logs",
        Family::Restarts => "restarts",
        Family::Custom => "custom",
    }
}

pub(super) fn kind_word(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Exhaustible => "exhaustible",
        MetricKind::Depletable => "depletable",
        MetricKind::Saturable => "saturable",
        MetricKind::Unbounded => "unbounded",
    }
}

pub(super) fn family_of(word: &str) -> Result<Family, Complaint> {
    FAMILIES.into_iter().find(|f| family_word(*f) == word).ok_or_else(|| {
        let all = FAMILIES.map(family_word).join(", ");
        Complaint::new("column family", format!("`{word}` is no family"), format!("write one of {all}"))
    })
}

pub(super) fn kind_of(word: &str) -> Result<MetricKind, Complaint> {
    KINDS.into_iter().find(|k| kind_word(*k) == word).ok_or_else(|| {
        let all = KINDS.map(kind_word).join(", ");
        Complaint::new("column kind", format!("`{word}` is no kind"), format!("write one of {all}"))
    })
}

/// Milliseconds since 1970, or RFC 3339 with its offset. Fractions of a millisecond are cut off.
///
/// # Errors
/// When it is neither, in words.
pub fn instant(text: &str) -> Result<Timestamp, String> {
    if let Ok(ms) = text.parse::<u64>() {
        return Ok(Timestamp::from_unix_ms(ms));
    }
    DateTime::parse_from_rfc3339(text)
        .ok()
        .and_then(|at| u64::try_from(at.timestamp_millis()).ok())
        .map(Timestamp::from_unix_ms)
        .ok_or_else(|| format!("`{text}` is no instant since 1970"))
}

pub(super) const HOW_INSTANTS_ARE_WRITTEN: &str =
    "write whole milliseconds since 1970, or RFC 3339 as 2026-11-21T10:00:00Z";

/// RFC 3339 in UTC with milliseconds; beyond what calendars hold, plain milliseconds.
#[must_use]
pub fn instant_word(at: Timestamp) -> String {
    i64::try_from(at.unix_ms())
        .ok()
        .and_then(DateTime::from_timestamp_millis)
        .map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true))
        .filter(|word| instant(word).is_ok())
        .unwrap_or_else(|| at.unix_ms().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_families_and_kinds_are_those_of_the_rest_of_the_program() {
        for family in FAMILIES {
            assert_eq!(serde_json::to_value(family).unwrap(), family_word(family));
            assert_eq!(family_of(family_word(family)), Ok(family));
        }
        for kind in KINDS {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind_word(kind));
            assert_eq!(kind_of(kind_word(kind)), Ok(kind));
        }
    }

    #[test]
    fn instants_are_read_in_both_ways_of_writing_them() {
        let ms = |text| instant(text).map(Timestamp::unix_ms);
        assert_eq!(ms("1763719200123"), Ok(1_763_719_200_123));
        assert_eq!(ms("2025-11-21T10:00:00.123Z"), Ok(1_763_719_200_123));
        assert_eq!(ms("2025-11-21T12:00:00.1239+02:00"), Ok(1_763_719_200_123));
        for wrong in ["", "-1", "1.5", "2025-11-21", "2025-11-21T10:00:00", "1969-12-31T23:59:59Z"] {
            assert!(ms(wrong).is_err(), "{wrong}");
        }
        for at in [0, 1, 1_763_719_200_123, 8_000_000_000_000_000, u64::MAX] {
            let at = Timestamp::from_unix_ms(at);
            assert_eq!(instant(&instant_word(at)), Ok(at));
        }
    }
}
