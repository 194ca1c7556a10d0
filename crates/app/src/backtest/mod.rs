//! The report of a backtest as one file of HTML: no script, no resource from elsewhere, light and dark, for narrow screens and wide ones, for
//! paper and for screen readers.
//!
//! Pure: a [`Report`] in, text out.

mod course;
mod figures;
mod plot;
mod words;

use std::fmt::Write as _;

use forefend_sim::backtest::{Contender, Fate, Figures, IncidentReport, Report, Warning};

use self::words::{count, esc, number, percent, time, utc};

const STYLE: &str = include_str!("page.css");
/// Incidents, and false alarms, that are shown with their courses.
const MOST_COURSES: usize = 18;
/// Rows of the long tables; all are in the JSON.
const MOST_ROWS: usize = 400;

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>Backtest · {} incidents</title><style>{STYLE}</style></head><body>",
        report.incidents.len()
    );
    header(report, &mut page);
    page.push_str("<main>");
    if !report.broken.is_empty() {
        let all: Vec<String> = report.broken.iter().map(|b| esc(b)).collect();
        let _ = write!(
            page,
            "<p class=\"alarm\" role=\"alert\">The loop broke its own promises: {}</p>",
            all.join("; ")
        );
    }
    figures::tiles(report, &mut page);
    figures::comparison(report, &mut page);
    figures::curves(report, &mut page);
    figures::kinds(report, &mut page);
    courses(report, &mut page);
    tables(report, &mut page);
    assumptions(report, &mut page);
    page.push_str("</main></body></html>\n");
    page
}

/// The figures of one contender.
fn of(report: &Report, who: Contender) -> Option<&Figures> {
    report.figures.iter().find(|f| f.contender == who)
}

/// What a contender is called.
fn name(who: Contender) -> &'static str {
    match who {
        Contender::Forefend => "Forefend",
        Contender::Reactive => "Reactive failover",
        Contender::Nothing => "No failover",
        Contender::StaticThreshold => "Static threshold",
        Contender::PredictLinear => "predict_linear",
    }
}

fn header(report: &Report, page: &mut String) {
    let recorded = &report.recorded;
    page.push_str(
        "<header><div><div class=\"brand\"><svg viewBox=\"0 0 24 24\" aria-hidden=\"true\">\
         <path d=\"M3 17 9 11l4 4 8-9\" style=\"stroke:var(--accent);stroke-width:2.6;stroke-linecap:round;stroke-linejoin:round\"/>\
         </svg>Forefend <span>backtest</span></div>",
    );
    let _ = write!(page, "<h1>{}</h1>", headline(report));
    let _ = write!(
        page,
        "<p class=\"when num\">{} to {} UTC · {} of {} · {} series, a value every {} · decided every {}</p></div></header>",
        utc(recorded.from),
        utc(recorded.until),
        many(recorded.cells, "cell"),
        many(recorded.services, "service"),
        count(recorded.series),
        time(recorded.step_s),
        time(recorded.tick_s),
    );
}

fn many(n: usize, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

/// The result in a sentence.
fn headline(report: &Report) -> String {
    let Some(ours) = of(report, Contender::Forefend) else { return "Nothing was replayed.".to_owned() };
    if ours.incidents == 0 {
        return format!(
            "No incident could have been warned of; {} in {} cell-weeks.",
            many(ours.false_alarms, "false alarm"),
            number(report.recorded.cell_weeks)
        );
    }
    let saved = of(report, Contender::Reactive)
        .filter(|r| r.failure_minutes > 0.0)
        .map(|r| 1.0 - ours.failure_minutes / r.failure_minutes);
    let saved = saved.map_or_else(String::new, |share| {
        let way = if share >= 0.0 { "fewer" } else { "more" };
        format!(
            ", and users would have met <em>{} {way}</em> failure minutes than with failover alone",
            percent(share.abs())
        )
    });
    format!(
        "Traffic would have been away before <em>{} of {}</em>{saved}.",
        count(ours.in_time),
        many(ours.incidents, "failure")
    )
}

fn badge(warning: Warning) -> (&'static str, &'static str) {
    match warning {
        Warning::InTime => ("in-time", "✓ in time"),
        Warning::Partly => ("partly", "◐ partly away"),
        Warning::TooLate => ("too-late", "◔ too late"),
        Warning::Missed => ("missed", "✕ missed"),
        Warning::NotWatched => ("other", "not watched"),
    }
}

fn fate(fate: Fate) -> (&'static str, &'static str) {
    match fate {
        Fate::InTime => ("in-time", "✓ in time"),
        Fate::Late => ("too-late", "◔ too late"),
        Fate::During => ("other", "during an incident"),
        Fate::FalseAlarm => ("false-alarm", "✕ false alarm"),
        Fate::Undecided => ("other", "undecided"),
        Fate::Reactive => ("other", "after the failure"),
        Fate::Relief => ("other", "relief"),
    }
}

/// Incidents to show: of each way they went, in turn, so that neither the good nor the bad ones fill the page.
fn chosen(report: &Report) -> Vec<&IncidentReport> {
    let mut by_way: Vec<Vec<&IncidentReport>> =
        [Warning::Missed, Warning::InTime, Warning::Partly, Warning::TooLate]
            .map(|way| report.incidents.iter().filter(|i| i.warning == way && i.course.is_some()).collect())
            .into();
    // Of one way, each kind once before any comes again.
    for incidents in &mut by_way {
        let mut seen: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
        let mut ranked: Vec<(usize, &IncidentReport)> = incidents
            .iter()
            .map(|i| {
                let rank = seen.entry(i.kind.clone()).or_default();
                *rank += 1;
                (*rank, *i)
            })
            .collect();
        ranked.sort_by_key(|(rank, i)| (*rank, i.began));
        *incidents = ranked.into_iter().rev().map(|(_, i)| i).collect();
    }
    let mut chosen = Vec::new();
    while chosen.len() < MOST_COURSES && by_way.iter().any(|way| !way.is_empty()) {
        chosen.extend(by_way.iter_mut().filter_map(Vec::pop));
    }
    chosen.truncate(MOST_COURSES);
    chosen.sort_by_key(|i| (i.began, i.cell.clone()));
    chosen
}

fn courses(report: &Report, page: &mut String) {
    let shown = chosen(report);
    if !shown.is_empty() {
        let _ = write!(
            page,
            "<section aria-labelledby=\"incidents\"><h2 id=\"incidents\">Incident by incident</h2><p>{} of {}. The metric it rests on most with its limit, \
             the probability of failure, and how much traffic was away. The vertical line is the beginning of the failure.</p><div class=\"grid\">",
            shown.len(),
            report.incidents.len()
        );
        for incident in shown {
            course::incident(incident, page);
        }
        page.push_str("</div></section>");
    }
    let wrong: Vec<_> = report.shifts.iter().filter(|s| s.course.is_some()).take(MOST_COURSES).collect();
    if !wrong.is_empty() {
        let all = report.shifts.iter().filter(|s| s.fate == Fate::FalseAlarm).count();
        let _ = write!(
            page,
            "<section aria-labelledby=\"wrong\"><h2 id=\"wrong\">False alarms</h2><p>{} of {all}. The vertical line is the moment at which traffic began to \
             move; no failure followed.</p><div class=\"grid\">",
            wrong.len()
        );
        for shift in wrong {
            course::false_alarm(shift, page);
        }
        page.push_str("</div></section>");
    }
}

fn tables(report: &Report, page: &mut String) {
    page.push_str("<section aria-labelledby=\"all\"><h2 id=\"all\">Everything</h2>");
    if !report.incidents.is_empty() {
        let _ = write!(page, "<details><summary>{}</summary>", many(report.incidents.len(), "incident"));
        begin_table(
            page,
            "Incidents",
            &[
                "Began (UTC)",
                "Cell",
                "Kind",
                "Outcome",
                "Shift began before",
                "Traffic away before",
                "Failure minutes",
                "Reactive",
            ],
        );
        for i in report.incidents.iter().take(MOST_ROWS) {
            let (class, word) = badge(i.warning);
            let before = |s: Option<f64>| s.map_or_else(|| "–".to_owned(), time);
            let minutes = |who| i.failure_minutes.get(&who).map_or_else(|| "–".to_owned(), |m| number(*m));
            let _ = write!(
                page,
                "<tr><td class=\"text num\">{}</td><td class=\"text\">{}</td><td class=\"text\">{}</td><td class=\"text\"><span class=\"badge {class}\">{word}</span></td>\
                 <td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                utc(i.began),
                esc(i.cell.as_str()),
                esc(&i.kind),
                before(i.warned_s),
                before(i.away_s),
                minutes(Contender::Forefend),
                minutes(Contender::Reactive),
            );
        }
        end_table(page, report.incidents.len());
    }
    if !report.shifts.is_empty() {
        let _ = write!(page, "<details><summary>{}</summary>", many(report.shifts.len(), "shift"));
        begin_table(
            page,
            "Shifts",
            &["Began (UTC)", "Cell", "Outcome", "Most away", "Took", "Lasted", "Why"],
        );
        for s in report.shifts.iter().take(MOST_ROWS) {
            let (class, word) = fate(s.fate);
            let since = |at: Option<forefend_domain::Timestamp>| {
                at.map_or_else(|| "–".to_owned(), |at| time(at.since(s.began).as_secs_f64()))
            };
            let _ = write!(
                page,
                "<tr><td class=\"text num\">{}</td><td class=\"text\">{}</td><td class=\"text\"><span class=\"badge {class}\">{word}</span></td>\
                 <td>{}</td><td>{}</td><td>{}</td><td class=\"text\">{}</td></tr>",
                utc(s.began),
                esc(s.cell.as_str()),
                percent(s.most_away),
                since(s.done),
                since(s.over),
                esc(&s.why),
            );
        }
        end_table(page, report.shifts.len());
    }
    page.push_str("</section>");
}

fn begin_table(page: &mut String, label: &str, columns: &[&str]) {
    let _ = write!(
        page,
        "<div class=\"wide\" role=\"region\" aria-label=\"{label}\" tabindex=\"0\"><table><thead><tr>"
    );
    for column in columns {
        let text = matches!(*column, "Cell" | "Kind" | "Outcome" | "Why" | "Began (UTC)");
        let _ = write!(page, "<th scope=\"col\"{}>{column}</th>", if text { " class=\"text\"" } else { "" });
    }
    page.push_str("</tr></thead><tbody>");
}

fn end_table(page: &mut String, rows: usize) {
    page.push_str("</tbody></table></div>");
    if rows > MOST_ROWS {
        let _ = write!(page, "<p class=\"muted\">The first {MOST_ROWS}; all {rows} are in the JSON.</p>");
    }
    page.push_str("</details>");
}

fn assumptions(report: &Report, page: &mut String) {
    page.push_str(
        "<section aria-labelledby=\"assumed\"><h2 id=\"assumed\">What this rests on</h2><p>The loop that was replayed is the one that runs in production. What the \
         recording can't tell was assumed.</p><ul class=\"notes\">",
    );
    for policy in &report.policies {
        let more =
            if policy.more > 0 { format!(" and {}", many(policy.more, "other")) } else { String::new() };
        let _ = write!(
            page,
            "<li>{}{more}: traffic moves when a failure within {} is at least {} likely in {} of {} decisions, and no sooner than the lead time of {} and a \
             margin of {} demand.</li>",
            esc(policy.service.as_str()),
            time(policy.horizon_s),
            percent(policy.shift_at),
            policy.hits,
            policy.of_ticks,
            time(policy.lead_time_s),
            time(policy.margin_s),
        );
    }
    for assumption in &report.assumed {
        let _ = write!(page, "<li>{}</li>", esc(assumption));
    }
    let recorded = &report.recorded;
    if recorded.unwatched_incidents > 0 {
        let _ = write!(
            page,
            "<li>{} of cells, or at times, that are not recorded: left out.</li>",
            many(recorded.unwatched_incidents, "incident")
        );
    }
    let _ = write!(
        page,
        "<li>A false alarm is a shift on a prediction with no incident while it lasts nor within the horizon. {} cell-weeks were watched in which \
         nothing was wrong. Intervals are 95% ones, by Wilson for shares and by Garwood for rates.</li></ul></section>",
        number(recorded.cell_weeks)
    );
}

#[cfg(test)]
mod tests;
