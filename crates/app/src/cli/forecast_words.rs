//! A forecast in words, numbers and a plot.

use std::{fmt::Write as _, time::Duration};

use forefend_domain::Timestamp;

use super::{forecast::Told, terminal::sparkline};

/// Instants of the table.
const ROWS: usize = 8;

pub(super) fn text(told: &Told) -> String {
    let mut text = format!(
        "{} of {}: forecast from {} values over {}\n",
        told.metric,
        told.target,
        told.values,
        span(told.to.since(told.from))
    );
    plot(told, &mut text);
    let unit = |value: f64| quantity(value, &told.unit);
    let _ = writeln!(text, "\n  {:<17} {:>14} {:>14} {:>14}", "at (UTC)", "expected", "low", "high");
    let every = told.ahead.len().div_ceil(ROWS).max(1);
    for ahead in told.ahead.iter().skip(every - 1).step_by(every) {
        let _ = writeln!(
            text,
            "  {:<17} {:>14} {:>14} {:>14}",
            clock(ahead.at),
            unit(ahead.value),
            unit(ahead.low),
            unit(ahead.high)
        );
    }
    let _ = writeln!(text, "  low to high holds {:.0} of 100", 100.0 * told.coverage);
    let _ = writeln!(text, "\nIts parts:\n  trend: {} a day now", signed(told.trend_per_day, &told.unit));
    for change in &told.changes {
        let by = signed(change.by_per_day, &told.unit);
        let _ = writeln!(text, "  the trend changed at {} by {by} a day", clock(change.at));
    }
    for season in &told.seasons {
        let _ = writeln!(
            text,
            "  {}: {} to {}, highest next at {}",
            season.name,
            signed(season.least, &told.unit),
            signed(season.most, &told.unit),
            clock(season.highest)
        );
    }
    for event in &told.events {
        let _ = writeln!(text, "  {}: {}", event.name, signed(event.adds, &told.unit));
    }
    if let Some(limit) = &told.limit {
        let words = match &limit.outlook {
            None => "hardly reached, as far ahead as the past reaches back".to_owned(),
            Some(outlook) => format!("reached {}", reached(outlook)),
        };
        let _ = writeln!(text, "\nIts limit of {}: {words}", unit(limit.limit));
    }
    text
}

/// When a limit is reached, in words.
pub(crate) fn reached(outlook: &forefend_domain::Outlook) -> String {
    let told = |time: Option<Duration>| time.map_or_else(|| "beyond".to_owned(), span);
    let chance = format!("{:.0}% within {}", 100.0 * outlook.probability.get(), span(outlook.within));
    match outlook.reaches.p50 {
        Some(middle) => format!(
            "in {} (p10 {}, p90 {}; {chance})",
            span(middle),
            told(outlook.reaches.p10),
            told(outlook.reaches.p90)
        ),
        None => format!("no sooner than in {} (p10; {chance})", told(outlook.reaches.p10)),
    }
}

fn plot(told: &Told, text: &mut String) {
    let values: Vec<Option<f64>> = told
        .before
        .iter()
        .map(|(_, value)| Some(*value))
        .chain(told.ahead.iter().map(|a| Some(a.value)))
        .collect();
    let known = || values.iter().copied().flatten();
    let (low, high) = (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max));
    let line = sparkline(&values, low, high);
    let past: String = line.chars().take(told.before.len()).collect();
    let coming: String = line.chars().skip(told.before.len()).collect();
    let _ = writeln!(text, "\n  {past}│{coming}");
    let _ = writeln!(
        text,
        "  {:<width$}now, {} to {}",
        "",
        quantity(low, &told.unit),
        quantity(high, &told.unit),
        width = past.chars().count()
    );
}

/// `2026-11-21 14:30`.
fn clock(at: Timestamp) -> String {
    let text = forefend_telemetry::history::instant_word(at);
    text.get(..16).map_or_else(|| text.clone(), |minutes| minutes.replace('T', " "))
}

fn span(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3_600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

fn signed(value: f64, unit: &str) -> String {
    format!("{}{}", if value < 0.0 { '−' } else { '+' }, quantity(value.abs(), unit))
}

fn quantity(value: f64, unit: &str) -> String {
    forefend_predict::quantity(value, unit)
}
