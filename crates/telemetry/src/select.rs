//! Which of the exposed samples become series, and as what.

use std::{collections::HashMap, fmt::Write as _};

use forefend_domain::{Family, MetricKind, MetricName, Timestamp};

use crate::{
    exposition::{ExposedSample, Exposition, FamilyType, MetricFamily},
    pushed::{Nature, PushedSeries},
    series::MetricSpec,
};

/// Picks the samples of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricSelector {
    /// The sample's exact name, as exposed: with `_total` and the like.
    pub name: String,
    /// Labels that the sample must have with these values. Others may be there too: each combination of them is a
    /// series of its own.
    pub labels: Vec<(String, String)>,
    /// What to call it. The labels not fixed by `labels` are appended, if there are any.
    pub rename: Option<String>,
    /// What it tells.
    pub family: Family,
    /// What crossing the limit means.
    pub kind: MetricKind,
    /// The unit of the window's values: for a counter, of its rate.
    pub unit: String,
    /// The value it must not reach.
    pub limit: Option<f64>,
    /// The exposed metric that tells the limit: the sample with the same labels, or else the only one of that name.
    /// Used when `limit` is absent.
    pub limit_metric: Option<String>,
    /// Whether it only grows and its rate is wanted.
    pub counter: bool,
}

/// A sample on its way into the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Selected {
    /// What it is.
    pub spec: MetricSpec,
    /// When it was measured: the cell's own time where it gives one that is not in the future, otherwise the scrape's.
    pub at: Timestamp,
    /// Its value; may be NaN.
    pub value: f64,
}

/// The samples that selectors pick. A sample is taken once, by the first selector that fits it.
#[must_use]
pub fn select(exposition: &Exposition, selectors: &[MetricSelector], scraped_at: Timestamp) -> Vec<Selected> {
    let limits =
        LimitIndex::new(exposition, |name| selectors.iter().any(|s| s.limit_metric.as_deref() == Some(name)));
    exposition
        .samples()
        .filter_map(|(_, sample)| {
            let selector = selectors.iter().find(|selector| selector.fits(&sample.name, &sample.labels))?;
            let limit = selector.limit.or_else(|| {
                let name = selector.limit_metric.as_deref()?;
                limits.get(name, &sample.labels)
            });
            let spec = MetricSpec {
                name: selector.series_name(&sample.name, &sample.labels),
                family: selector.family,
                kind: selector.kind,
                unit: selector.unit.clone(),
                limit,
                counter: selector.counter,
            };
            Some(Selected { spec, at: measured_at(sample, scraped_at), value: sample.value })
        })
        .collect()
}

/// What is taken when nothing is selected: every gauge, counter and untyped sample as a custom metric without limit,
/// the first `bound` of them. The second value is how many were left out. `process_open_fds`, which client libraries
/// name alike everywhere, gets its limit from `process_max_fds`.
#[must_use]
pub fn take_all(exposition: &Exposition, bound: usize, scraped_at: Timestamp) -> (Vec<Selected>, usize) {
    let limits = LimitIndex::new(exposition, |name| name == MAX_FDS);
    let mut left_out = 0;
    let mut taken = Vec::new();
    for (family, sample) in exposition.samples() {
        let counter = match family.family_type {
            FamilyType::Counter if sample.name.ends_with("_created") => continue,
            FamilyType::Counter => true,
            FamilyType::Gauge | FamilyType::Unknown => false,
            FamilyType::Histogram
            | FamilyType::GaugeHistogram
            | FamilyType::Summary
            | FamilyType::Info
            | FamilyType::StateSet => continue,
        };
        if taken.len() == bound {
            left_out += 1;
            continue;
        }
        let spec = default_spec(&limits, family, sample, counter);
        taken.push(Selected { spec, at: measured_at(sample, scraped_at), value: sample.value });
    }
    (taken, left_out)
}

fn default_spec(
    limits: &LimitIndex<'_>,
    family: &MetricFamily,
    sample: &ExposedSample,
    counter: bool,
) -> MetricSpec {
    let unit = family.unit.clone().unwrap_or_default();
    let fds = sample.name == OPEN_FDS;
    let limit = fds.then(|| limits.get(MAX_FDS, &sample.labels)).flatten();
    MetricSpec {
        name: named(&sample.name, sample.labels.iter()),
        family: if limit.is_some() { Family::Saturation } else { Family::Custom },
        kind: if limit.is_some() { MetricKind::Exhaustible } else { MetricKind::Unbounded },
        unit: if counter { per_second(&unit) } else { unit },
        limit,
        counter,
    }
}

fn measured_at(sample: &ExposedSample, scraped_at: Timestamp) -> Timestamp {
    sample
        .timestamp_ms
        .and_then(|ms| u64::try_from(ms).ok())
        .map_or(scraped_at, |ms| Timestamp::from_unix_ms(ms).min(scraped_at))
}

const OPEN_FDS: &str = "process_open_fds";
const MAX_FDS: &str = "process_max_fds";

/// Name and labels.
type Series<'a> = (&'a str, &'a [(String, String)]);

/// The samples that tell limits, found without a search for each sample.
struct LimitIndex<'a> {
    by_labels: HashMap<Series<'a>, f64>,
    /// `None`: there are several of that name.
    only: HashMap<&'a str, Option<f64>>,
}

impl<'a> LimitIndex<'a> {
    fn new(exposition: &'a Exposition, wanted: impl Fn(&str) -> bool) -> Self {
        let mut index = Self { by_labels: HashMap::new(), only: HashMap::new() };
        for (_, sample) in exposition.samples().filter(|(_, sample)| wanted(&sample.name)) {
            let name = sample.name.as_str();
            index.by_labels.insert((name, &sample.labels), sample.value);
            index.only.entry(name).and_modify(|only| *only = None).or_insert(Some(sample.value));
        }
        index
    }

    fn get(&self, name: &str, labels: &[(String, String)]) -> Option<f64> {
        let same = self.by_labels.get(&(name, labels)).copied();
        // Exporters tell "no limit" as an infinity.
        same.or_else(|| *self.only.get(name)?).filter(|limit| limit.is_finite())
    }
}

fn named<'a>(name: &str, labels: impl Iterator<Item = &'a (String, String)>) -> MetricName {
    let mut text = name.to_owned();
    let mut separator = '{';
    for (label, value) in labels {
        // Writing to a String can't fail.
        let _ = write!(text, "{separator}{label}={value:?}");
        separator = ',';
    }
    if separator == ',' {
        text.push('}');
    }
    MetricName::new(&text)
}

impl MetricSelector {
    pub(crate) fn fits(&self, name: &str, labels: &[(String, String)]) -> bool {
        self.name == name && self.labels.iter().all(|wanted| labels.contains(wanted))
    }

    fn series_name(&self, name: &str, labels: &[(String, String)]) -> MetricName {
        match &self.rename {
            Some(rename) => named(rename, labels.iter().filter(|label| !self.labels.contains(label))),
            None => named(name, labels.iter()),
        }
    }

    /// What a series that it fits is.
    pub(crate) fn pushed(&self, series: &PushedSeries, limits: &KnownLimits) -> MetricSpec {
        let told = || limits.get(self.limit_metric.as_deref()?, &series.labels);
        MetricSpec {
            name: self.series_name(&series.name, &series.labels),
            family: self.family,
            kind: self.kind,
            unit: self.unit.clone(),
            limit: self.limit.or_else(told),
            // What is a rate already can't be kept as a total.
            counter: self.counter && series.nature != Nature::PerSecond,
        }
    }
}

/// What a pushed series is where nothing is selected; as with [`take_all`].
pub(crate) fn pushed_by_default(series: &PushedSeries, limits: &KnownLimits) -> MetricSpec {
    let fds = series.name == OPEN_FDS;
    let limit = fds.then(|| limits.get(MAX_FDS, &series.labels)).flatten();
    let rate = series.nature != Nature::Level;
    MetricSpec {
        name: named(&series.name, series.labels.iter()),
        family: if limit.is_some() { Family::Saturation } else { Family::Custom },
        kind: if limit.is_some() { MetricKind::Exhaustible } else { MetricKind::Unbounded },
        unit: if rate { per_second(&series.unit) } else { series.unit.clone() },
        limit,
        counter: series.nature == Nature::Total,
    }
}

/// Whether a series tells the limit of another.
pub(crate) fn tells_limit(name: &str, selectors: &[MetricSelector]) -> bool {
    if selectors.is_empty() {
        return name == MAX_FDS;
    }
    selectors.iter().any(|selector| selector.limit_metric.as_deref() == Some(name))
}

/// Limits that metrics told last. Metrics of one cell are pushed one by one, so they are remembered, where a scrape
/// has them all at once.
#[derive(Debug, Default)]
pub(crate) struct KnownLimits(HashMap<(String, Vec<(String, String)>), f64>);

impl KnownLimits {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn has(&self, series: &PushedSeries) -> bool {
        self.0.keys().any(|(name, labels)| *name == series.name && *labels == series.labels)
    }

    pub(crate) fn learn(&mut self, series: &PushedSeries, value: f64) {
        self.0.insert((series.name.clone(), series.labels.clone()), value);
    }

    /// The one with the same labels, or else the only one of that name. An infinity says that there is none.
    fn get(&self, name: &str, labels: &[(String, String)]) -> Option<f64> {
        let mut of_name = self.0.iter().filter(|((known, _), _)| known == name);
        let same = of_name.clone().find(|((_, of), _)| of == labels);
        let only = of_name.next().filter(|_| of_name.next().is_none());
        same.or(only).map(|(_, limit)| *limit).filter(|limit| limit.is_finite())
    }
}

fn per_second(unit: &str) -> String {
    format!("{unit}/s").trim_start_matches('/').to_owned()
}
