//! `forefend explain`: words, numbers and plots of one prediction.

use std::{fmt::Write as _, time::Duration};

use forefend_domain::{Anomaly, Interval, MetricKind, TimeToFailure};
use forefend_predict::learned::Neighbour;
use serde::Deserialize;

use super::terminal::{area, read_at, sparkline};

const COLUMNS: usize = 60;
const LINES: usize = 6;

/// What `GET /api/v1/cells/{id}/explanation` tells.
#[derive(Debug, Deserialize)]
pub(super) struct Explained {
    words: String,
    horizon_s: Option<f64>,
    probability: Option<f64>,
    time_to_failure: Option<TimeToFailure>,
    #[serde(default)]
    interval: Option<Interval>,
    curve: Vec<(f64, f64)>,
    contributions: Vec<Contribution>,
    anomalies: Vec<Anomaly>,
    nearest: Vec<Neighbour>,
    past: usize,
}

#[derive(Debug, Deserialize)]
struct Contribution {
    metric: String,
    share: f64,
    detail: String,
    course: Option<Course>,
}

#[derive(Debug, Deserialize)]
struct Course {
    kind: MetricKind,
    limit: Option<f64>,
    values: Vec<(f64, Option<f64>)>,
    forecast: Option<Forecast>,
}

#[derive(Debug, Deserialize)]
struct Forecast {
    belief: f64,
    reaches_limit_s: Option<f64>,
}

fn time(s: f64) -> String {
    match s {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3_600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

/// All of it as text.
pub(super) fn text(told: &Explained) -> String {
    let mut text = format!("{}\n", told.words.trim_end());
    curve(told, &mut text);
    contributions(told, &mut text);
    if !told.anomalies.is_empty() {
        text.push_str("\nUnlike its past:\n");
        for anomaly in &told.anomalies {
            let _ = writeln!(text, "  {}: {:+.1} times its usual spread", anomaly.metric, anomaly.z);
        }
    }
    text.push_str("\nPast failures that looked like this:\n");
    match (told.nearest.as_slice(), told.past) {
        ([], 0) => text.push_str("  no past failures recorded\n"),
        ([], n) => {
            let _ = writeln!(text, "  none of {n} looks can be compared with it");
        }
        (nearest, _) => {
            for n in nearest {
                let kind = if n.kind.is_empty() { "failed" } else { &n.kind };
                let _ = writeln!(
                    text,
                    "  {} ({kind}) looked like this {} before it failed; distance {:.2}",
                    n.cell,
                    time(n.lead_s),
                    n.distance
                );
            }
        }
    }
    text
}

fn curve(told: &Explained, text: &mut String) {
    let (Some(horizon), Some(probability)) = (told.horizon_s, told.probability) else { return };
    let end = horizon * 2.0;
    let at = |column: usize| (column as f64 + 0.5) / COLUMNS as f64 * end;
    let values: Vec<f64> = (0..COLUMNS).map(|c| read_at(&told.curve, at(c))).collect();
    let _ = writeln!(
        text,
        "\nProbability of having failed by then ({:.1}% within {}):",
        probability * 100.0,
        time(horizon)
    );
    for (n, line) in area(&values, LINES).iter().enumerate() {
        let label = if n == 0 {
            "100%"
        } else if n + 1 == LINES {
            "0%"
        } else {
            ""
        };
        let _ = writeln!(text, "{label:>6} │{}", line.trim_end());
    }
    let mut axis: Vec<char> = std::iter::repeat_n('─', COLUMNS).collect();
    let column = |s: f64| ((s / end * COLUMNS as f64) as usize).min(COLUMNS - 1);
    axis[column(horizon)] = '┬';
    let quantiles = told.time_to_failure.unwrap_or_default();
    let marks = [("p10", quantiles.p10), ("p50", quantiles.p50), ("p90", quantiles.p90)];
    for (_, at) in marks.iter().filter_map(|(name, at)| Some((name, (*at)?.as_secs_f64()))) {
        if at <= end {
            axis[column(at)] = '●';
        }
    }
    let _ = writeln!(text, "       └{}", axis.into_iter().collect::<String>());
    let half = format!("{} (horizon)", time(horizon));
    let _ = writeln!(
        text,
        "        now{half:>width$}{:>rest$}",
        time(end),
        width = COLUMNS / 2,
        rest = COLUMNS / 2 - 3
    );
    let told_quantile = |at: Option<Duration>| at.map_or("beyond".to_owned(), |at| time(at.as_secs_f64()));
    let words: Vec<String> =
        marks.iter().map(|(name, at)| format!("{name} {}", told_quantile(*at))).collect();
    let checked = match told.interval {
        Some(Interval::Calibrated) => "; eight in ten held-out failures lay between p10 and p90",
        Some(Interval::Plain) => "; how often it lies between, no failures have shown yet",
        None => "",
    };
    let _ = writeln!(text, "  ●    time to failure: {}{checked}", words.join(", "));
}

fn contributions(told: &Explained, text: &mut String) {
    if told.contributions.is_empty() {
        return;
    }
    text.push_str("\nWhat speaks for a failure:\n");
    for c in &told.contributions {
        let _ = writeln!(text, "  {:>4.0}% {}: {}", c.share * 100.0, c.metric, c.detail);
        let Some(course) = &c.course else { continue };
        let known = || course.values.iter().filter_map(|(_, v)| *v);
        let low = known().fold(f64::INFINITY, f64::min);
        let high = known().chain(course.limit).fold(f64::NEG_INFINITY, f64::max);
        let low = match course.limit {
            Some(limit) if course.kind == MetricKind::Depletable => low.min(limit),
            Some(_) if low >= 0.0 => 0.0,
            _ => low,
        };
        let newest = course.values.len().saturating_sub(COLUMNS);
        let shown: Vec<Option<f64>> = course.values[newest..].iter().map(|(_, v)| *v).collect();
        let since = course.values.get(newest).map_or(0.0, |(t, _)| -t);
        let _ = writeln!(text, "        {}  last {}", sparkline(&shown, low, high), time(since));
        let _ = writeln!(text, "        {}", forecast(course));
    }
}

fn forecast(course: &Course) -> String {
    let limit = match (course.limit, course.kind) {
        (None, _) => "",
        (Some(_), MetricKind::Depletable) => "bottom: its limit; ",
        (Some(_), _) => "top: its limit; ",
    };
    match &course.forecast {
        Some(Forecast { reaches_limit_s: Some(s), belief }) => {
            format!("{limit}its trend (belief {:.0}%) is at the limit in {}", belief * 100.0, time(*s))
        }
        Some(_) => format!("{limit}no trend leads to a limit soon"),
        None => format!("{limit}too few values for a trend"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> serde_json::Value {
        serde_json::json!({
            "words": "a-1 is a primary cell.", "horizon_s": 600.0, "probability": 0.87,
            "time_to_failure": {"p10": {"secs": 200, "nanos": 0}, "p50": {"secs": 400, "nanos": 0}, "p90": null},
            "interval": "calibrated", "curve": [[100.0, 0.01], [300.0, 0.3], [600.0, 0.87], [2400.0, 0.99]],
            "contributions": [{"metric": "memory", "share": 1.0, "detail": "90 of 100", "course": {
                "kind": "exhaustible", "limit": 100.0, "values": [[-10.0, 80.0], [-5.0, null], [0.0, 90.0]],
                "forecast": {"belief": 0.9, "reaches_limit_s": 380.0}}}],
            "anomalies": [{"metric": "memory", "z": 7.2}],
            "nearest": [{"cell": "a-2", "began": 1, "lead_s": 240.0, "kind": "memory leak", "distance": 0.31}],
            "past": 12
        })
    }

    #[test]
    fn everything_that_is_known_is_told() {
        let text = text(&serde_json::from_value(told()).expect("as the API tells it"));
        for part in [
            "87.0% within 10 min",
            "p10 3 min, p50 7 min, p90 beyond; eight in ten held-out failures",
            "100% memory: 90 of 100",
            "▇·▇",
            "top: its limit; its trend (belief 90%) is at the limit in 6 min",
            "+7.2 times",
            "a-2 (memory leak) looked like this 4 min before",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        let plot = text.lines().filter(|line| line.contains('│')).count();
        assert_eq!(plot, LINES);
    }

    #[test]
    fn what_is_left_is_drawn_above_its_limit() {
        let mut left = told();
        let course = &mut left["contributions"][0]["course"];
        (course["kind"], course["limit"]) = (serde_json::json!("depletable"), serde_json::json!(75.0));
        let text = text(&serde_json::from_value(left).expect("as the API tells it"));
        assert!(text.contains("bottom: its limit; ") && text.contains("▃·█"), "{text}");
    }

    #[test]
    fn without_a_past_that_is_said() {
        let mut none = told();
        none["nearest"] = serde_json::json!([]);
        none["past"] = serde_json::json!(0);
        none["horizon_s"] = serde_json::Value::Null;
        let text = text(&serde_json::from_value(none).expect("as the API tells it"));
        assert!(text.contains("no past failures recorded") && !text.contains('│'), "{text}");
    }
}
