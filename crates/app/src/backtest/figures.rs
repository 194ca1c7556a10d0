//! The figures of the whole past: tiles, comparison, operating curves, calibration, kinds.

use std::{cmp::Ordering, fmt::Write as _};

use forefend_learn::evaluate::Estimate;
use forefend_sim::backtest::{Contender, Figures, Operating, Report};

use super::{
    many, name, of,
    plot::{Plot, Scale},
    words::{count, esc, number, percent, time},
};

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 264.0;

fn interval(low: f64, high: f64, told: impl Fn(f64) -> String) -> String {
    format!("{} – {}", told(low), told(high))
}

pub(super) fn tiles(report: &Report, page: &mut String) {
    let Some(ours) = of(report, Contender::Forefend) else { return };
    page.push_str("<div class=\"tiles\">");
    let mut tile = |title: &str, big: String, words: String| {
        let _ = write!(
            page,
            "<div class=\"tile\"><h2>{title}</h2><div class=\"big\">{big}</div><p>{words}</p></div>"
        );
    };
    let recall = ours.recall.map_or_else(|| "–".to_owned(), |r| percent(r.value));
    let spread = ours.recall.map_or_else(String::new, |r| format!("{}; ", interval(r.low, r.high, percent)));
    tile(
        "Failures met with traffic away",
        format!("{recall} <small>{} of {}</small>", count(ours.in_time), count(ours.incidents)),
        format!(
            "{spread}{} ({}) were warned of at all.",
            ours.recall_any.map_or_else(|| "–".to_owned(), |r| percent(r.value)),
            count(ours.warned)
        ),
    );
    let minutes = |who| of(report, who).map(|f: &Figures| f.failure_minutes);
    let compared =
        [(Contender::Reactive, "with failover after the fact"), (Contender::Nothing, "without any")]
            .into_iter()
            .filter_map(|(who, words)| Some(format!("{} {words}", number(minutes(who)?))))
            .collect::<Vec<_>>();
    tile(
        "Failure minutes that users met",
        format!("{} <small>cell-minutes</small>", number(ours.failure_minutes)),
        format!("{}.", compared.join(", ")),
    );
    let rate = ours.false_per_cell_week;
    tile(
        "False alarms per cell and week",
        rate.map_or_else(|| "–".to_owned(), |r| number(r.value)),
        format!(
            "{}{}; {} undecided.",
            many(ours.false_alarms, "false alarm"),
            rate.map_or_else(String::new, |r| format!(" ({})", interval(r.low, r.high, number))),
            ours.undecided
        ),
    );
    tile(
        "What it cost",
        format!("{} <small>of requests</small>", percent(ours.moved_for_nothing)),
        format!(
            "moved for nothing; {} cell-hours of standbys that ran, {} frozen.",
            number(ours.standby_hours),
            number(ours.parked_hours)
        ),
    );
    page.push_str("</div>");
}

pub(super) fn comparison(report: &Report, page: &mut String) {
    page.push_str(
        "<section aria-labelledby=\"compared\"><h2 id=\"compared\">Compared with</h2><p>All but the last row ran through the same loop, with the same \
         trigger, mirrors and budgets; only what foresees differs.</p>\
         <div class=\"wide\" role=\"region\" aria-label=\"Comparison\" tabindex=\"0\"><table><thead><tr><th scope=\"col\" class=\"text\">Who watches</th>\
         <th scope=\"col\">Traffic away in time</th><th scope=\"col\">Warned of at all</th><th scope=\"col\">Failure minutes</th>\
         <th scope=\"col\">False alarms per cell-week</th><th scope=\"col\">Requests moved for nothing</th><th scope=\"col\">Standby cell-hours</th></tr></thead><tbody>",
    );
    let most = report.figures.iter().map(|f| f.failure_minutes).fold(1e-9, f64::max);
    let mut rows: Vec<&Figures> = report.figures.iter().collect();
    rows.sort_by_key(|f| f.contender == Contender::Nothing);
    for f in rows {
        let share = |e: Option<Estimate>| {
            e.map_or_else(
                || "–".to_owned(),
                |e| {
                    format!(
                        "{}<small>{}</small><span class=\"meter\"><i style=\"width:{:.1}%\"></i></span>",
                        percent(e.value),
                        interval(e.low, e.high, percent),
                        e.value * 100.0
                    )
                },
            )
        };
        let ours = if f.contender == Contender::Forefend { " class=\"ours\"" } else { "" };
        let rate = f.false_per_cell_week.map_or_else(
            || "–".to_owned(),
            |e| format!("{}<small>{}</small>", number(e.value), interval(e.low, e.high, number)),
        );
        let _ = write!(
            page,
            "<tr{ours}><th scope=\"row\">{}<small>{}</small></th><td>{}</td><td>{}</td>\
             <td>{}<span class=\"meter cost\"><i style=\"width:{:.1}%\"></i></span></td><td>{rate}</td><td>{}</td><td>{}</td></tr>",
            name(f.contender),
            esc(f.contender.words()),
            share(f.recall),
            share(f.recall_any),
            number(f.failure_minutes),
            f.failure_minutes / most * 100.0,
            percent(f.moved_for_nothing),
            number(f.standby_hours),
        );
    }
    page.push_str("</tbody></table></div></section>");
}

pub(super) fn curves(report: &Report, page: &mut String) {
    page.push_str(
        "<section aria-labelledby=\"curves\"><h2 id=\"curves\">How far it can be trusted</h2><div class=\"pair\">",
    );
    operating(report, page);
    reliability(report, page);
    leads(report, page);
    page.push_str("</div></section>");
}

fn legend(entries: &[(&str, String)], page: &mut String) {
    page.push_str("<ul class=\"legend\">");
    for (class, words) in entries {
        let _ = write!(
            page,
            "<li><svg viewBox=\"0 0 26 10\" aria-hidden=\"true\"><path class=\"{class}\" d=\"M1 5H25\"/></svg>{}</li>",
            esc(words)
        );
    }
    page.push_str("</ul>");
}

const LINES: [&str; 3] = ["l0", "l1", "l2"];

fn operating(report: &Report, page: &mut String) {
    let rates: Vec<f64> = report
        .operating
        .iter()
        .flat_map(|o| &o.points)
        .filter_map(|p| p.false_per_cell_week.map(|e| e.value))
        .collect();
    let most = rates.iter().copied().fold(0.0, f64::max);
    let least = rates.iter().copied().filter(|r| *r > 0.0).fold(f64::INFINITY, f64::min);
    let scale = if most > 0.0 {
        Scale::Log { least: least.min(most), most: most * 1.05 }
    } else {
        Scale::Linear(0.0, 1.0)
    };
    let label = format!(
        "Operating curves: share of incidents warned of against false alarms per cell-week. {}",
        report.operating.iter().map(in_words).collect::<Vec<_>>().join(" ")
    );
    let mut plot = Plot::new(WIDTH, HEIGHT, scale, Scale::Linear(0.0, 1.0), &label);
    let (xs, ys) = (scale.ticks(5), [0.0, 0.25, 0.5, 0.75, 1.0]);
    plot.axes((&xs, number), (&ys, percent));
    plot.x_title("false alarms per cell-week");
    for (operating, class) in report.operating.iter().zip(LINES) {
        let points = |recall: fn(&forefend_sim::backtest::OperatingPoint) -> Option<f64>| {
            let mut points: Vec<(f64, Option<f64>)> = operating
                .points
                .iter()
                .filter_map(|p| Some((p.false_per_cell_week?.value, Some(recall(p)?))))
                .collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.partial_cmp(&b.1).unwrap_or(Ordering::Equal)));
            points
        };
        plot.line(&format!("{class} faint"), points(|p| p.recall_any.map(|e| e.value)));
        plot.line(class, points(|p| p.recall_in_time.map(|e| e.value)));
    }
    // Where the policy stands on our own curve.
    if let (Some(ours), Some(policy)) = (report.operating.first(), report.policies.first()) {
        let nearest = ours.points.iter().min_by(|a, b| {
            (a.threshold - policy.shift_at).abs().total_cmp(&(b.threshold - policy.shift_at).abs())
        });
        if let Some((point, rate, recall)) =
            nearest.and_then(|p| Some((p, p.false_per_cell_week?.value, p.recall_in_time?.value)))
        {
            let told = format!(
                "at a probability of {}: {} false alarms per cell-week, {} with enough lead",
                percent(point.threshold),
                number(rate),
                percent(recall)
            );
            plot.dot("d0", rate, recall, 5.0, &told);
        }
    }
    page.push_str("<figure class=\"card\"><h3>Every threshold</h3><figcaption>Share of incidents with an alarm, against false alarms. Solid: at least a shift's lead time before the failure; faint: at any time before. The dot is the policy's threshold. Of triggers alone, without the shifts that follow.</figcaption>");
    page.push_str(&plot.svg());
    let entries: Vec<(&str, String)> =
        report.operating.iter().zip(LINES).map(|(o, class)| (class, name(o.contender).to_owned())).collect();
    legend(&entries, page);
    page.push_str("</figure>");
}

/// The curve's best point without and with some false alarms, for those who can't see it.
fn in_words(operating: &Operating) -> String {
    let best = operating
        .points
        .iter()
        .filter_map(|p| Some((p.recall_in_time?.value, p.false_per_cell_week?.value)))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or_else(String::new, |(recall, rate)| {
        format!("{} reaches {} at {}.", name(operating.contender), percent(recall), number(rate))
    })
}

fn reliability(report: &Report, page: &mut String) {
    let found = &report.reliability;
    let label = format!(
        "Reliability diagram: told against seen frequency of failure. {}",
        found
            .bins
            .iter()
            .map(|b| format!("Told {}, seen {}.", percent(b.expected), percent(b.observed.value)))
            .collect::<Vec<_>>()
            .join(" ")
    );
    let mut plot = Plot::new(WIDTH, HEIGHT, Scale::Linear(0.0, 1.0), Scale::Linear(0.0, 1.0), &label);
    let ticks = [0.0, 0.25, 0.5, 0.75, 1.0];
    plot.axes((&ticks, percent), (&ticks, percent));
    plot.x_title("probability that was told");
    plot.line("ideal", [(0.0, Some(0.0)), (1.0, Some(1.0))]);
    plot.line("l0", found.bins.iter().map(|b| (b.expected, Some(b.observed.value))));
    for bin in &found.bins {
        plot.line("band", [(bin.expected, Some(bin.observed.low)), (bin.expected, Some(bin.observed.high))]);
        let told = format!(
            "told {}, seen {} in {} looks",
            percent(bin.expected),
            percent(bin.observed.value),
            count(bin.rows)
        );
        plot.dot("d0", bin.expected, bin.observed.value, 4.0, &told);
    }
    let skill = found.brier_skill.map_or_else(String::new, |s| format!(" Brier skill {s:.2}."));
    let _ = write!(
        page,
        "<figure class=\"card\"><h3>Are probabilities what they say?</h3><figcaption>How often cells failed within the horizon, of those that were told so likely to; on the dashed \
         line they are right. {} looks.{skill} Where the recording ends within the horizon only failures are known, so short recordings look worse than they are.</figcaption>{}</figure>",
        count(found.looks),
        plot.svg()
    );
}

fn leads(report: &Report, page: &mut String) {
    let mut leads: Vec<f64> = report.incidents.iter().filter_map(|i| i.warned_s).collect();
    leads.sort_by(f64::total_cmp);
    let (Some(most), Some(median)) = (leads.last().copied(), leads.get(leads.len() / 2).copied()) else {
        return;
    };
    // Hardly any lead is longer than four times the median; the last bar holds those.
    let end = most.min(median * 4.0).max(1e-3);
    let ticks = Scale::Linear(0.0, end).time_ticks(6);
    let width = ticks.get(1).map_or(end, |second| second - ticks[0]) / 2.0;
    let bins = ((end / width).ceil() as usize).clamp(1, 64);
    let mut bars = vec![0usize; bins];
    for lead in &leads {
        let at = ((lead / width) as usize).min(bins - 1);
        bars[at] += 1;
    }
    let tallest = bars.iter().copied().max().unwrap_or(1).max(1) as f64;
    let right = width * bins as f64;
    let label = format!("Histogram of warnings: median {} before the failure.", time(median));
    let mut plot =
        Plot::new(WIDTH, HEIGHT, Scale::Linear(0.0, right), Scale::Linear(0.0, tallest * 1.08), &label);
    let (xs, ys) = (Scale::Linear(0.0, right).time_ticks(6), Scale::Linear(0.0, tallest).ticks(4));
    let whole: Vec<f64> = ys.into_iter().filter(|y| y.fract() == 0.0).collect();
    plot.axes((&xs, time), (&whole, |n| count(n as usize)));
    plot.x_title("from the beginning of the shift to the failure");
    for (n, bar) in bars.iter().enumerate().filter(|(_, bar)| **bar > 0) {
        let (from, to) = (n as f64 * width, (n + 1) as f64 * width);
        let told = format!("{} to {}: {}", time(from), time(to), many(*bar, "incident"));
        plot.bar("b0", (from, to), *bar as f64, &told);
    }
    let needed = report.policies.first().map(|p| p.lead_time_s);
    if let Some(needed) = needed.filter(|needed| *needed < right) {
        plot.vertical("mark", needed);
    }
    let lasting = needed
        .map_or_else(String::new, |s| format!(" The policy takes a shift to last {} (dashed).", time(s)));
    let _ = write!(
        page,
        "<figure class=\"card\"><h3>How long before?</h3><figcaption>Warnings of {}, median {}.{lasting}</figcaption>{}</figure>",
        many(leads.len(), "incident"),
        time(median),
        plot.svg()
    );
}

pub(super) fn kinds(report: &Report, page: &mut String) {
    if report.kinds.is_empty() {
        return;
    }
    page.push_str(
        "<section aria-labelledby=\"kinds\"><h2 id=\"kinds\">By kind of failure</h2><p>What builds up can be foreseen. What comes at once can't, and is met \
         by failover.</p><div class=\"wide\" role=\"region\" aria-label=\"Kinds of failure\" tabindex=\"0\"><table><thead><tr><th scope=\"col\" class=\"text\">Kind</th><th scope=\"col\">Incidents</th>\
         <th scope=\"col\">Traffic away in time</th><th scope=\"col\">Warned of at all</th><th scope=\"col\">Median warning</th><th scope=\"col\">Failure minutes</th><th scope=\"col\">Reactive failover</th></tr></thead><tbody>",
    );
    for kind in &report.kinds {
        let share = |e: Option<Estimate>| {
            e.map_or_else(
                || "–".to_owned(),
                |e| {
                    format!(
                        "{}<span class=\"meter\"><i style=\"width:{:.1}%\"></i></span>",
                        percent(e.value),
                        e.value * 100.0
                    )
                },
            )
        };
        let _ = write!(
            page,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            esc(&kind.kind),
            kind.incidents,
            share(kind.in_time),
            share(kind.warned),
            kind.warning_s.map_or_else(|| "–".to_owned(), time),
            number(kind.failure_minutes),
            number(kind.reactive_minutes),
        );
    }
    page.push_str("</tbody></table></div></section>");
}
