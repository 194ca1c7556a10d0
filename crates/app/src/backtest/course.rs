//! What was seen and done around one event: three tracks over one axis of time.

use std::fmt::Write as _;

use forefend_sim::backtest::{Course, Followed, IncidentReport, ShiftReport};

use super::{
    badge,
    plot::{Plot, Scale},
    words::{esc, percent, quantity, time, utc},
};

const WIDTH: f64 = 400.0;

pub(super) fn incident(incident: &IncidentReport, page: &mut String) {
    let Some(course) = &incident.course else { return };
    let (class, word) = badge(incident.warning);
    let words = match (incident.away_s, incident.warned_s) {
        (Some(away), _) if incident.away >= 0.999 => format!("all traffic away {} before", time(away)),
        (_, Some(warned)) => {
            format!("shift began {} before, {} away at the failure", time(warned), percent(incident.away))
        }
        _ => "no shift before".to_owned(),
    };
    let id = esc(incident.cell.as_str());
    let _ = write!(
        page,
        "<figure class=\"card\"><div class=\"head\"><h3>{id}</h3><span class=\"badge {class}\">{word}</span></div>\
         <figcaption>{} · {} UTC · {words}</figcaption>",
        esc(&incident.kind),
        utc(incident.began),
    );
    let label = format!("Course of {}: {word}, {words}.", incident.cell);
    tracks(course, incident.warned_s.map(|s| -s), "failure", &label, page);
    page.push_str("</figure>");
}

pub(super) fn false_alarm(shift: &ShiftReport, page: &mut String) {
    let Some(course) = &shift.course else { return };
    let lasted = shift.over.map(|over| time(over.since(shift.began).as_secs_f64()));
    let lasted =
        lasted.map_or_else(|| "until the recording's end".to_owned(), |t| format!("home again after {t}"));
    let words = format!("at most {} away, {lasted}", percent(shift.most_away));
    let _ = write!(
        page,
        "<figure class=\"card\"><div class=\"head\"><h3>{}</h3><span class=\"badge false-alarm\">✕ false alarm</span></div>\
         <figcaption>{} UTC · {words}</figcaption>",
        esc(shift.cell.as_str()),
        utc(shift.began),
    );
    let label = format!("Course of the false alarm at {}: {words}.", shift.cell);
    tracks(course, None, "mark", &label, page);
    page.push_str("</figure>");
}

fn tracks(course: &Course, shift: Option<f64>, event: &str, label: &str, page: &mut String) {
    let ends = course.probability.first().zip(course.probability.last());
    let Some((from, to)) = ends.map(|(first, last)| (first.0, last.0.max(first.0 + 1e-3))) else { return };
    let x = Scale::Linear(from, to);
    let times = x.time_ticks(6);
    let none: [f64; 0] = [];
    let marks = |plot: &mut Plot| {
        if let Some(shift) = shift.filter(|s| *s >= from) {
            plot.vertical("mark", shift);
        }
        plot.vertical(event, 0.0);
    };
    if let Some(metric) = course.metric.as_ref().filter(|m| !m.values.is_empty()) {
        page.push_str(&metric_track(metric, x, label, &marks));
    }
    let label_of = |what: &str| format!("{label} {what}.");
    let mut plot = Plot::new(WIDTH, 74.0, x, Scale::Linear(0.0, 1.0), &label_of("Probability of failure"))
        .margins(46.0, 18.0, 10.0, 6.0);
    plot.axes((&none, time), (&[0.0, 1.0], percent));
    plot.text(46.0, 11.0, "start", "name", "probability of failure");
    plot.area("risk", &course.probability);
    plot.line("risk-line", course.probability.iter().copied());
    marks(&mut plot);
    page.push_str(&plot.svg());
    let mut plot = Plot::new(WIDTH, 80.0, x, Scale::Linear(0.0, 1.0), &label_of("Traffic away"))
        .margins(46.0, 18.0, 10.0, 24.0);
    plot.axes((&times, time), (&[0.0, 1.0], percent));
    plot.text(46.0, 11.0, "start", "name", "traffic away");
    plot.steps("away", &course.away);
    marks(&mut plot);
    page.push_str(&plot.svg());
}

fn metric_track(metric: &Followed, x: Scale, label: &str, marks: &dyn Fn(&mut Plot)) -> String {
    let values = || metric.values.iter().map(|(_, v)| *v);
    let highest = values().chain(metric.limit).fold(f64::NEG_INFINITY, f64::max);
    let lowest = values().chain(metric.limit).fold(f64::INFINITY, f64::min);
    // What has a limit is read as a share of it, from zero.
    let lowest = if metric.limit.is_some_and(|l| l > 0.0) && lowest >= 0.0 { 0.0 } else { lowest };
    let top = if highest > lowest { highest + (highest - lowest) * 0.06 } else { lowest + 1.0 };
    let label = format!("{label} Metric {}.", metric.name);
    let mut plot =
        Plot::new(WIDTH, 112.0, x, Scale::Linear(lowest, top), &label).margins(46.0, 20.0, 10.0, 6.0);
    let none: [f64; 0] = [];
    plot.axes((&none, time), (&[lowest], |v| short(v, &metric.unit)));
    let mut name = metric.name.to_string();
    if name.chars().count() > 44 {
        name = format!("{}…", name.chars().take(43).collect::<String>());
    }
    plot.text(46.0, 11.0, "start", "name", &name);
    if let Some(limit) = metric.limit {
        plot.horizontal("limit", limit);
        let at = plot.py(limit);
        plot.text(40.0, at + 3.5, "end", "", "limit");
        plot.text(WIDTH - 10.0, 11.0, "end", "", &format!("limit {}", quantity(limit, &metric.unit)));
    }
    plot.line("metric", metric.values.iter().map(|(t, v)| (*t, Some(*v))));
    marks(&mut plot);
    plot.svg()
}

/// A value in few letters, beside an axis.
fn short(v: f64, unit: &str) -> String {
    let text = quantity(v, unit);
    if v == 0.0 { "0".to_owned() } else { text.split(' ').next().unwrap_or_default().to_owned() }
}
