use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use forefend_domain::{MetricName, Timestamp};

use super::{
    Counted, Drain, LogOptions, Severity,
    drain::TemplateId,
    line,
    mask::mask,
    metrics::{self, LINES, NOVEL},
};
use crate::series::MetricSpec;

/// What it is, when it was measured, and the total then. `None`: it was not measured.
pub type Observation = (MetricSpec, Timestamp, Option<f64>);

/// Lines of which nobody knows a file say nothing of the silence after them: after so long without one it is a gap.
const PUSHED_FRESH: Duration = Duration::from_secs(60);
/// How fast a template that is no longer met gives its name to others.
const SCORE_HALF_LIFE: Duration = Duration::from_secs(300);
/// By how much another template must be more frequent to take a name: names that come and go are windows full of gaps.
const CLEARLY_MORE: f64 = 2.0;

/// Numbers about the logs of a cell, since they are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogCounts {
    /// Lines, blank ones apart.
    pub lines: u64,
    /// Lines of which the end was cut off.
    pub truncated: u64,
    /// Lines that were not UTF-8 and were read with replacements.
    pub not_utf8: u64,
    /// Bytes that were skipped because more was written than may be read.
    pub skipped_bytes: u64,
    /// Files that began anew: rotated, replaced or cut.
    pub restarts: u64,
    /// Templates that are remembered.
    pub templates: usize,
    /// Templates that were forgotten for want of room.
    pub forgotten: u64,
}

/// What is known of a template besides its text.
#[derive(Debug)]
struct Stat {
    name: MetricName,
    /// Its lines are counted under a declared limit, with a name of their own.
    declared: bool,
    since: Timestamp,
    lines: u64,
    /// Lines at the sample before.
    told: u64,
    /// Whether a line of it was a warning or worse.
    bad: bool,
    score: f64,
    scored_at: Timestamp,
}

/// The lines of one cell, counted. Pure: time comes with the lines and the questions.
///
/// Memory is bounded: by the templates of [`super::DrainOptions`] (each of at most a line's bytes), their counts, and the
/// names of one sample.
#[derive(Debug)]
pub struct CellLogs {
    options: LogOptions,
    drain: Drain,
    stats: BTreeMap<TemplateId, Stat>,
    counts: LogCounts,
    by_severity: [u64; Severity::ALL.len()],
    declared: Vec<u64>,
    novel: u64,
    /// Since when the log is known.
    since: Option<Timestamp>,
    last_pushed: Option<Timestamp>,
    named: BTreeSet<MetricName>,
    /// From when on the totals that are told next are known; `None` at first, and where the gap has just begun.
    known_at: Option<Timestamp>,
    /// Totals at the last sample.
    before: BTreeMap<MetricName, u64>,
    /// What was told at the last sample, with its limit; empty during a gap.
    told: BTreeMap<MetricName, Option<f64>>,
}

/// A name, its total, the total at the sample before, and its limit.
struct Total {
    name: MetricName,
    now: u64,
    before: u64,
    limit: Option<f64>,
}

impl CellLogs {
    /// Knows of no log yet.
    #[must_use]
    pub fn new(options: LogOptions) -> Self {
        Self {
            drain: Drain::new(options.drain),
            stats: BTreeMap::new(),
            counts: LogCounts::default(),
            by_severity: [0; Severity::ALL.len()],
            declared: vec![0; options.limits.len()],
            novel: 0,
            since: None,
            last_pushed: None,
            named: BTreeSet::new(),
            known_at: None,
            before: BTreeMap::new(),
            told: BTreeMap::new(),
            options,
        }
    }

    /// What it was made with.
    #[must_use]
    pub fn options(&self) -> &LogOptions {
        &self.options
    }

    /// How it fares.
    #[must_use]
    pub fn counts(&self) -> LogCounts {
        LogCounts { templates: self.drain.len(), forgotten: self.drain.forgotten(), ..self.counts }
    }

    /// The templates that are remembered, oldest first.
    #[must_use]
    pub fn templates(&self) -> Vec<String> {
        self.drain.templates().filter_map(|id| self.drain.text(id)).collect()
    }

    /// The log was seen to be there.
    pub fn present(&mut self, at: Timestamp) {
        self.since.get_or_insert(at);
    }

    /// Takes a line that does not come from a file.
    pub fn pushed(&mut self, at: Timestamp, severity: Option<Severity>, text: &str) {
        self.last_pushed = Some(at);
        self.line(at, severity, text);
    }

    /// Takes a line as it was read from a file.
    pub fn bytes(&mut self, at: Timestamp, line: &[u8], truncated: bool) {
        let text = String::from_utf8_lossy(line);
        self.counts.not_utf8 += u64::from(matches!(text, std::borrow::Cow::Owned(_)));
        self.counts.truncated += u64::from(truncated);
        self.line(at, None, &text);
    }

    /// Notes bytes that were skipped and files that began anew.
    pub fn note(&mut self, skipped_bytes: u64, restarts: u64) {
        self.counts.skipped_bytes += skipped_bytes;
        self.counts.restarts += restarts;
    }

    /// Takes a line. Blank lines do not count.
    pub fn line(&mut self, at: Timestamp, severity: Option<Severity>, text: &str) {
        let cut = cut(text, self.options.max_line_bytes);
        self.counts.truncated += u64::from(cut.len() < text.len());
        let clean = printable(cut);
        if clean.trim().is_empty() {
            return;
        }
        self.present(at);
        self.counts.lines += 1;
        let message = line::read(&clean);
        if message.continues {
            return;
        }
        let severity = severity.or(message.severity);
        if let Some(severity) = severity {
            self.by_severity[severity as usize] += 1;
        }
        self.count_declared(severity, &message.text);
        self.count_template(at, severity, &message.text);
    }

    fn count_declared(&mut self, severity: Option<Severity>, text: &str) {
        if self.options.limits.is_empty() {
            return;
        }
        let spaced = spaced(text);
        for (limit, count) in self.options.limits.iter().zip(&mut self.declared) {
            let counts = match &limit.of {
                Counted::AtLeast(least) => severity.is_some_and(|severity| severity >= *least),
                Counted::Lines(pattern) => pattern.fits(&spaced),
            };
            *count += u64::from(counts);
        }
    }

    fn count_template(&mut self, at: Timestamp, severity: Option<Severity>, text: &str) {
        let learned = self.drain.learn(&mask(text));
        if let Some(forgotten) = learned.forgotten {
            self.stats.remove(&forgotten);
        }
        if learned.changed {
            let text = self.drain.text(learned.template).unwrap_or_default();
            let declared = self.options.limits.iter().any(|limit| match &limit.of {
                Counted::Lines(pattern) => pattern.fits(&text),
                Counted::AtLeast(_) => false,
            });
            let name = metrics::template_name(&text);
            match self.stats.get_mut(&learned.template) {
                Some(stat) => (stat.name, stat.declared) = (name, declared),
                None => drop(self.stats.insert(learned.template, Stat::new(name, declared, at))),
            }
        }
        let known_for = self.since.map_or(Duration::ZERO, |since| at.since(since));
        let Some(stat) = self.stats.get_mut(&learned.template) else { return };
        stat.lines += 1;
        stat.bad |= severity >= Some(Severity::Warning);
        stat.score = stat.score_at(at) + 1.0;
        stat.scored_at = at;
        let novel_for = self.options.novel_for;
        self.novel += u64::from(known_for >= novel_for && at.since(stat.since) < novel_for);
    }

    /// What was measured up to `at`: totals, of which the store makes rates. `present`: whether a file of the log is there.
    ///
    /// A total that was not told before is also told as of the sample before, so that its first rate is one.
    pub fn sample(&mut self, at: Timestamp, present: bool) -> Vec<Observation> {
        let fresh = self.last_pushed.is_some_and(|last| at.since(last) <= PUSHED_FRESH);
        if !present && !fresh {
            // What appears later was written since the last look that found nothing. Only the first look of a gap can't
            // count as that: it would make a measured zero of the gap.
            self.known_at = self.told.is_empty().then_some(at);
            let told = std::mem::take(&mut self.told);
            return told.into_iter().map(|(name, limit)| (metrics::spec(name, limit), at, None)).collect();
        }
        self.present(at);
        let totals = self.totals(at);
        let mut observed = Vec::with_capacity(totals.len() + 1);
        let told_before = std::mem::take(&mut self.told);
        self.before.clear();
        for Total { name, now, before, limit } in totals {
            let spec = metrics::spec(name.clone(), limit);
            if let Some(then) = self.known_at.filter(|_| !told_before.contains_key(&name)) {
                observed.push((spec.clone(), then, Some(before as f64)));
            }
            observed.push((spec, at, Some(now as f64)));
            self.before.insert(name.clone(), now);
            self.told.insert(name, limit);
        }
        self.stats.values_mut().for_each(|stat| stat.told = stat.lines);
        self.known_at = Some(at);
        if !self.known_long(at) {
            observed.push((metrics::spec(MetricName::new(NOVEL), None), at, None));
        }
        observed
    }

    /// Novelty is not known of a log that is new itself.
    fn known_long(&self, at: Timestamp) -> bool {
        self.since.is_some_and(|since| at.since(since) >= self.options.novel_for)
    }

    fn totals(&mut self, at: Timestamp) -> Vec<Total> {
        let mut totals = Vec::new();
        let mut add = |name: MetricName, now: u64, limit: Option<f64>| {
            let before = self.before.get(&name).copied().unwrap_or_default();
            totals.push(Total { name, now, before, limit });
        };
        add(MetricName::new(LINES), self.counts.lines, None);
        // Lines that tell no severity may be anything; no line at all is no error either.
        if self.counts.lines == 0 || self.by_severity.iter().any(|count| *count > 0) {
            for severity in Severity::ALL {
                add(metrics::severity_name(severity), self.by_severity[severity as usize], None);
            }
        }
        for (limit, count) in self.options.limits.iter().zip(&self.declared) {
            add(metrics::counted_name(&limit.of), *count, Some(limit.per_second));
        }
        if self.known_long(at) {
            add(MetricName::new(NOVEL), self.novel, None);
        }
        totals.extend(self.templates_told(at));
        totals
    }

    /// The templates that have names, after the most telling have got theirs: those of warnings and worse first, then the
    /// most frequent.
    fn templates_told(&mut self, at: Timestamp) -> Vec<Total> {
        let mut by_name: BTreeMap<&MetricName, (Rank, u64, u64)> = BTreeMap::new();
        for stat in self.stats.values().filter(|stat| !stat.declared) {
            let (rank, now, before) = by_name.entry(&stat.name).or_default();
            *rank = Rank { bad: rank.bad || stat.bad, score: rank.score + stat.score_at(at) };
            *now += stat.lines;
            *before += stat.told;
        }
        self.named.retain(|name| by_name.contains_key(name));
        let mut others: Vec<(&MetricName, Rank)> = by_name
            .iter()
            .filter(|(name, _)| !self.named.contains(**name))
            .map(|(name, (rank, ..))| (*name, *rank))
            .collect();
        others.sort_by(|a, b| b.1.order(a.1).then_with(|| a.0.cmp(b.0)));
        for (name, rank) in others {
            if self.named.len() >= self.options.named {
                let weakest = self.named.iter().min_by(|a, b| by_name[*a].0.order(by_name[*b].0));
                let Some(holder) = weakest.filter(|n| rank.takes_from(by_name[*n].0)).cloned() else { break };
                self.named.remove(&holder);
            }
            self.named.insert(name.clone());
        }
        let told = |name: &MetricName| {
            let (_, now, before) = by_name[name];
            Total { name: name.clone(), now, before, limit: None }
        };
        self.named.iter().map(told).collect()
    }
}

/// How much a template tells.
#[derive(Debug, Clone, Copy, Default)]
struct Rank {
    bad: bool,
    score: f64,
}

impl Rank {
    fn order(self, other: Self) -> std::cmp::Ordering {
        self.bad.cmp(&other.bad).then_with(|| self.score.total_cmp(&other.score))
    }

    fn takes_from(self, holder: Self) -> bool {
        match (self.bad, holder.bad) {
            (true, false) => true,
            (false, true) => false,
            _ => self.score > CLEARLY_MORE * holder.score,
        }
    }
}

impl Stat {
    fn new(name: MetricName, declared: bool, at: Timestamp) -> Self {
        Self { name, declared, since: at, lines: 0, told: 0, bad: false, score: 0.0, scored_at: at }
    }

    /// Lines, of which those of five minutes ago count half.
    fn score_at(&self, at: Timestamp) -> f64 {
        let half_lives = at.since(self.scored_at).as_secs_f64() / SCORE_HALF_LIFE.as_secs_f64();
        self.score * 0.5f64.powf(half_lives)
    }
}

/// The beginning of `text`, of at most `most` bytes.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Without colours (ECMA-48 control sequences) and other control characters; tabs stay.
fn printable(text: &str) -> std::borrow::Cow<'_, str> {
    let is_odd = |c: char| c.is_control() && c != '\t';
    if !text.contains(is_odd) {
        return text.into();
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_odd) {
        clean.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(sequence) = rest.strip_prefix("\u{1b}[") {
            let end = sequence.find(|c: char| ('@'..='~').contains(&c)).map_or(sequence.len(), |end| end + 1);
            rest = &sequence[end..];
        } else {
            // A file that was cut beneath its writer begins with zeros, which are no indentation.
            clean.push_str(if rest.starts_with('\0') { "" } else { " " });
            rest = rest.split_at(rest.ceil_char_boundary(1)).1;
        }
    }
    clean.push_str(rest);
    clean.into()
}
