//! Numbers and instants as people read them, and text that is safe in HTML.

use forefend_domain::Timestamp;

/// Text with what HTML would take for markup written out.
pub(super) fn esc(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Control characters have no place in a page.
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// A length of time with a unit that suits it.
pub(super) fn time(s: f64) -> String {
    let (sign, s) = if s < 0.0 { ("−", -s) } else { ("", s) };
    let text = match s {
        s if s < 0.001 => "0 s".to_owned(),
        s if s < 0.95 => format!("{:.0} ms", s * 1_000.0),
        s if s < 9.95 && (s - s.round()).abs() > 1e-9 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3_600.0),
        s => format!("{:.1} d", s / 86_400.0),
    };
    format!("{sign}{text}")
}

/// How many.
pub(super) fn count(n: usize) -> String {
    // Thin spaces between groups of three.
    let digits = n.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|g| std::str::from_utf8(g).ok()).collect();
    groups.join("\u{202f}")
}

/// A number with as many digits as say something.
pub(super) fn number(v: f64) -> String {
    let a = v.abs();
    match a {
        _ if !v.is_finite() => "–".to_owned(),
        _ if a < 1e-9 => "0".to_owned(),
        _ if a < 0.01 => format!("{v:.1e}"),
        _ if a < 1.0 => format!("{v:.2}"),
        _ if a < 10.0 => format!("{v:.1}"),
        _ if a < 10_000.0 => format!("{v:.0}"),
        _ => format!("{}{}", if v < 0.0 { "−" } else { "" }, count(a.round() as usize)),
    }
}

/// A share as a percentage.
pub(super) fn percent(share: f64) -> String {
    let p = share * 100.0;
    match p {
        _ if p > 0.0 && p < 0.1 => "<0.1%".to_owned(),
        _ if p > 99.9 && p < 100.0 => ">99.9%".to_owned(),
        _ if p < 10.0 && p.fract().abs() > 1e-9 => format!("{p:.1}%"),
        _ => format!("{p:.0}%"),
    }
}

/// A value in its unit.
pub(super) fn quantity(v: f64, unit: &str) -> String {
    let a = v.abs();
    match unit {
        "bytes" if a >= 1024f64.powi(3) => format!("{:.2} GiB", v / 1024f64.powi(3)),
        "bytes" if a >= 1024f64.powi(2) => format!("{:.1} MiB", v / 1024f64.powi(2)),
        "bytes" if a >= 1024.0 => format!("{:.1} KiB", v / 1024.0),
        "ratio" => percent(v),
        "" => number(v),
        unit => format!("{} {unit}", number(v)),
    }
}

/// An instant in UTC, to the second. The date is by days from civil reversed (H. Hinnant, chrono-compatible low-level date algorithms,
/// <https://howardhinnant.github.io/date_algorithms.html>).
pub(super) fn utc(at: Timestamp) -> String {
    let s = at.unix_ms() / 1_000;
    let z = (s / 86_400).cast_signed() + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", s / 3_600 % 24, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_written_out() {
        assert_eq!(esc("<b a='1'>&\"\n"), "&lt;b a=&#39;1&#39;&gt;&amp;&quot; ");
    }

    #[test]
    fn instants_are_dates() {
        for (s, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_700_000_000, "2023-11-14 22:13:20"),
            (4_107_542_399, "2100-02-28 23:59:59"),
        ] {
            assert_eq!(utc(Timestamp::from_unix_ms(s * 1_000)), text);
        }
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(number(1_234_567.0), "1\u{202f}234\u{202f}567");
        assert_eq!((count(2), count(1_000)), ("2".to_owned(), "1\u{202f}000".to_owned()));
        assert_eq!(number(0.25), "0.25");
        assert_eq!(number(f64::NAN), "–");
        assert_eq!(time(-75.0), "−75 s");
        assert_eq!(time(900.0), "15 min");
        assert_eq!(percent(0.074), "7.4%");
        assert_eq!(quantity(3.0 * 1024.0 * 1024.0, "bytes"), "3.0 MiB");
    }
}
