//! What was measured, put into lines.

use serde::Serialize;

use super::peers::Peer;

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One JSON object a line, for programs.
    Json,
    /// Rows for docs/benchmarks.md.
    Markdown,
    /// For people.
    Table,
}

/// A figure, e.g. `cpu_us_per_request` in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Metric {
    /// Its name, ending in its unit.
    pub(super) name: &'static str,
    /// The unit spelled out.
    pub(super) unit: &'static str,
}

/// What a run of one program gave, or why it gave nothing.
type Outcome = Result<f64, String>;

/// Everything that a bench measured, round by round.
pub(super) struct Report {
    bench: &'static str,
    samples: Vec<Sample>,
    notes: Vec<String>,
}

struct Sample {
    case: String,
    metric: Metric,
    peer: Peer,
    round: u32,
    outcome: Outcome,
}

/// One line of the result. The ratio is ours/theirs: the median over rounds, each round compared within itself.
#[derive(Serialize, Debug, PartialEq)]
struct Line {
    bench: &'static str,
    case: String,
    peer: Option<&'static str>,
    metric: &'static str,
    unit: &'static str,
    ours: Option<f64>,
    theirs: Option<f64>,
    ratio: Option<f64>,
    /// Lowest and highest ratio of a round; without a ratio, of our figure, or of theirs if there is none of ours.
    spread: Option<[f64; 2]>,
    rounds: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<String>,
}

impl Report {
    /// An empty one.
    pub(super) fn new(bench: &'static str) -> Self {
        Self { bench, samples: Vec::new(), notes: Vec::new() }
    }

    /// Keeps a figure.
    pub(super) fn record(&mut self, case: &str, metric: Metric, peer: Peer, round: u32, value: f64) {
        self.samples.push(Sample { case: case.to_owned(), metric, peer, round, outcome: Ok(value) });
    }

    /// Keeps why there are no figures.
    pub(super) fn skip(&mut self, case: &str, metrics: &[Metric], peer: Peer, round: u32, why: &str) {
        for metric in metrics {
            let outcome = Err(why.to_owned());
            self.samples.push(Sample { case: case.to_owned(), metric: *metric, peer, round, outcome });
        }
    }

    /// Something a reader of the table should know.
    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Prints all lines to standard output.
    pub(super) fn print(&self, format: Format) {
        let lines = self.lines();
        match format {
            Format::Json => {
                for line in &lines {
                    match serde_json::to_string(line) {
                        Ok(text) => println!("{text}"),
                        Err(error) => eprintln!("error: a line can't be written as JSON: {error}"),
                    }
                }
            }
            Format::Markdown => {
                println!("| case | metric | Forefend | peer | its figure | ratio | spread |");
                println!("|---|---|--:|---|--:|--:|---|");
                for line in &lines {
                    println!("| {} |", line.columns().join(" | "));
                }
            }
            Format::Table => self.print_table(&lines),
        }
        // Standard output is for programs unless it is the table.
        for note in &self.notes {
            if format == Format::Table { println!("{note}") } else { eprintln!("{note}") }
        }
    }

    fn print_table(&self, lines: &[Line]) {
        let heads =
            ["case", "metric", "forefend", "peer", "its figure", "ratio", "spread"].map(str::to_owned);
        let rows: Vec<[String; 7]> = std::iter::once(heads).chain(lines.iter().map(Line::columns)).collect();
        let mut widths = [0; 7];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &rows {
            let cells: Vec<String> =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            println!("{}", cells.join("  ").trim_end());
        }
    }

    fn lines(&self) -> Vec<Line> {
        let mut keys: Vec<(&str, Metric)> = Vec::new();
        for sample in &self.samples {
            if !keys.contains(&(&sample.case, sample.metric)) {
                keys.push((&sample.case, sample.metric));
            }
        }
        let mut lines = Vec::new();
        for (case, metric) in keys {
            let mut peers: Vec<Peer> = Vec::new();
            for sample in self.of(case, metric) {
                if sample.peer != Peer::Forefend && !peers.contains(&sample.peer) {
                    peers.push(sample.peer);
                }
            }
            if peers.is_empty() {
                lines.push(self.line(case, metric, None));
            }
            lines.extend(peers.into_iter().map(|peer| self.line(case, metric, Some(peer))));
        }
        lines
    }

    fn of<'a>(&'a self, case: &'a str, metric: Metric) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |s| s.case == case && s.metric == metric)
    }

    /// The figures of `peer` by round, and the first reason for a missing one.
    fn figures(&self, case: &str, metric: Metric, peer: Peer) -> (Vec<(u32, f64)>, Option<String>) {
        let mut figures = Vec::new();
        let mut why = None;
        for sample in self.of(case, metric).filter(|s| s.peer == peer) {
            match &sample.outcome {
                Ok(value) => figures.push((sample.round, *value)),
                Err(reason) => why = why.or_else(|| Some(reason.clone())),
            }
        }
        (figures, why)
    }

    fn line(&self, case: &str, metric: Metric, peer: Option<Peer>) -> Line {
        let (ours, our_reason) = self.figures(case, metric, Peer::Forefend);
        let (theirs, their_reason) = peer.map_or((Vec::new(), None), |peer| self.figures(case, metric, peer));
        let ratios: Vec<f64> = ours
            .iter()
            .filter_map(|(round, our)| {
                let (_, their) = theirs.iter().find(|(r, _)| r == round)?;
                (*their != 0.0).then(|| our / their)
            })
            .collect();
        let values = |figures: &[(u32, f64)]| figures.iter().map(|(_, value)| *value).collect::<Vec<_>>();
        let (our_values, their_values) = (values(&ours), values(&theirs));
        let spread = [&ratios, &our_values, &their_values].into_iter().find_map(|v| extremes(v));
        let mut reasons = Vec::new();
        reasons.extend(our_reason.map(|why| format!("forefend: {why}")));
        reasons.extend(their_reason);
        Line {
            bench: self.bench,
            case: case.to_owned(),
            peer: peer.map(Peer::name),
            metric: metric.name,
            unit: metric.unit,
            ours: median(&our_values).map(rounded),
            theirs: median(&their_values).map(rounded),
            ratio: median(&ratios).map(rounded),
            spread: spread.map(|s| s.map(rounded)),
            rounds: if peer.is_some() { their_values.len() } else { our_values.len() },
            skipped: (!reasons.is_empty()).then(|| reasons.join("; ")),
        }
    }
}

impl Line {
    fn columns(&self) -> [String; 7] {
        let figure = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |v| format!("{v}"));
        let spread = match (&self.skipped, self.spread) {
            (Some(why), _) => format!("skipped: {why}"),
            (None, Some([low, high])) => format!("{low} … {high}"),
            (None, None) => "–".to_owned(),
        };
        [
            self.case.clone(),
            self.metric.to_owned(),
            figure(self.ours),
            self.peer.unwrap_or("–").to_owned(),
            figure(self.theirs),
            figure(self.ratio),
            spread,
        ]
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

fn extremes(values: &[f64]) -> Option<[f64; 2]> {
    let low = values.iter().copied().min_by(f64::total_cmp)?;
    let high = values.iter().copied().max_by(f64::total_cmp)?;
    Some([low, high])
}

/// Four significant digits: more than the spread of any round deserves.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    let scale = 10_f64.powi(digits);
    if digits > 0 { (value * scale).round() / scale } else { value.round() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: Metric = Metric { name: "cpu_us_per_request", unit: "µs" };

    fn report(ours: &[f64], theirs: &[f64]) -> Report {
        let mut report = Report::new("proxy");
        for (round, value) in (0..).zip(ours) {
            report.record("http1", CPU, Peer::Forefend, round, *value);
        }
        for (round, value) in (0..).zip(theirs) {
            report.record("http1", CPU, Peer::Haproxy, round, *value);
        }
        report
    }

    #[test]
    fn the_ratio_is_the_median_of_rounds_compared_within_themselves() {
        // A machine that got three times slower in the last round burdened both.
        let lines = report(&[10.0, 12.0, 33.0], &[10.0, 10.0, 30.0]).lines();
        assert_eq!(lines.len(), 1);
        assert_eq!(
            serde_json::to_value(&lines[0]).expect("JSON"),
            serde_json::json!({
                "bench": "proxy", "case": "http1", "peer": "haproxy", "metric": "cpu_us_per_request", "unit": "µs",
                "ours": 12.0, "theirs": 10.0, "ratio": 1.1, "spread": [1.0, 1.2], "rounds": 3
            })
        );
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        let line = &report(&[0.0, 0.0], &[0.0, 0.0]).lines()[0];
        assert_eq!((line.ours, line.theirs, line.ratio), (Some(0.0), Some(0.0), None));
    }

    #[test]
    fn without_a_peer_its_fields_are_null() {
        let line = &report(&[3.0], &[]).lines()[0];
        let value = serde_json::to_value(line).expect("JSON");
        assert!(value["peer"].is_null() && value["theirs"].is_null() && value["ratio"].is_null());
        assert_eq!(value["ours"], 3.0);
    }

    #[test]
    fn a_missing_peer_is_a_line_that_says_why() {
        let mut report = report(&[3.0], &[]);
        report.skip("http1", &[CPU], Peer::Envoy, 0, "no network");
        let lines = report.lines();
        assert_eq!((lines[0].peer, lines[0].skipped.as_deref()), (Some("envoy"), Some("no network")));
    }

    #[test]
    fn figures_have_four_significant_digits() {
        assert_eq!(
            [rounded(13.456_78), rounded(0.001_234_56), rounded(123_456.7)],
            [13.46, 0.001_235, 123_457.0]
        );
    }
}
