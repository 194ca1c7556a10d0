//! What was pushed, whatever the wire format it came in.

use std::sync::Arc;

use forefend_domain::Timestamp;

pub use crate::buckets::Buckets;

/// Names with values: of a series, or of who sent it.
pub type Labels = Vec<(String, String)>;

/// What the values of a series are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// May go anywhere.
    Level,
    /// Only grows, except when it begins anew.
    Total,
    /// What was added in an interval, over the interval's length: a rate already.
    PerSecond,
}

/// What a point counts as where the sender counts what it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountsAs {
    /// A sample or data point.
    Sample,
    /// A native histogram of Prometheus.
    Histogram,
    /// Nothing: a part of something that is counted elsewhere, as the sum of a histogram is.
    Part,
}

/// One value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PushedPoint {
    /// When it was measured.
    pub at: Timestamp,
    /// `None`: an explicit gap. May be NaN or infinite, which are gaps too.
    pub value: Option<f64>,
    /// Since when a total has been counted, if that is told.
    pub began: Option<Timestamp>,
}

/// The points of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct PushedSeries {
    /// Its name, as sent.
    pub name: String,
    /// Its own labels, sorted by name; no name twice.
    pub labels: Labels,
    /// What is told of the sender apart from the series: the resource of OTLP.
    pub source: Arc<Labels>,
    /// What its values are.
    pub nature: Nature,
    /// Whether it is taken where nothing is selected, as a scrape would.
    pub by_default: bool,
    /// The unit of its values, if it is told.
    pub unit: String,
    /// What its points count as.
    pub counts_as: CountsAs,
    /// In the order they came.
    pub points: Vec<PushedPoint>,
    /// In place of the value of its only point: what the value is to be estimated from, and which quantile.
    pub quantile: Option<(f64, Arc<Buckets>)>,
}

/// A record of a log.
#[derive(Debug, Clone, PartialEq)]
pub struct PushedLog {
    /// What is told of the sender.
    pub source: Arc<Labels>,
    /// When it happened; `None`: not told.
    pub at: Option<Timestamp>,
    /// How bad it is.
    pub severity: Severity,
    /// Its text, cut off at [`PushedLog::MAX_BODY_BYTES`].
    pub body: String,
}

impl PushedLog {
    /// Of a longer text the beginning is kept.
    pub const MAX_BODY_BYTES: usize = 8 * 1024;
}

/// How bad the record of a log is (OpenTelemetry's ranges of severity).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Not told.
    Unspecified,
    /// Every step.
    Trace,
    /// For who looks for a fault.
    Debug,
    /// That something happened.
    Info,
    /// Not yet a fault.
    Warn,
    /// A fault.
    Error,
    /// It can't go on.
    Fatal,
}

impl Severity {
    /// The same in the words of lines of files; `None`: it was not told, and may stand in the text.
    #[must_use]
    pub fn of_lines(self) -> Option<crate::logs::Severity> {
        use crate::logs::Severity as Lines;
        match self {
            Self::Unspecified => None,
            Self::Trace | Self::Debug => Some(Lines::Debug),
            Self::Info => Some(Lines::Info),
            Self::Warn => Some(Lines::Warning),
            Self::Error => Some(Lines::Error),
            Self::Fatal => Some(Lines::Critical),
        }
    }

    /// As it stands in names of series.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

/// How many there were, as the sender counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Samples, data points or records of logs.
    pub samples: u64,
    /// Native histograms of Prometheus.
    pub histograms: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, counts_as: CountsAs, points: usize) {
        let points = points as u64;
        match counts_as {
            CountsAs::Sample => self.samples += points,
            CountsAs::Histogram => self.histograms += points,
            CountsAs::Part => {}
        }
    }

    /// Whether there was none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.samples + self.histograms
    }
}

/// What can't be taken, ever.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refused {
    /// How many.
    pub tally: Tally,
    /// Why, of the first.
    pub first: Option<String>,
}

impl Refused {
    pub(crate) fn add(&mut self, counts_as: CountsAs, points: usize, why: impl FnOnce() -> String) {
        if points > 0 {
            self.tally.add(counts_as, points);
            self.first.get_or_insert_with(why);
        }
    }

    /// Adds what another found.
    pub fn merge(&mut self, other: Self) {
        self.tally.samples += other.tally.samples;
        self.tally.histograms += other.tally.histograms;
        self.first = self.first.take().or(other.first);
    }
}

/// What a body held.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded<T> {
    /// What can be read.
    pub taken: Vec<T>,
    /// What can't; the rest is good all the same.
    pub refused: Refused,
}

impl<T> Default for Decoded<T> {
    fn default() -> Self {
        Self { taken: Vec::new(), refused: Refused::default() }
    }
}

/// What a body may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushLimits {
    /// Bytes, after decompression.
    pub max_bytes: usize,
    /// Points, or records of logs.
    pub max_points: usize,
    /// Bytes of one series, metric, resource or record.
    pub max_part_bytes: usize,
    /// Labels of one series.
    pub max_labels: usize,
    /// Bytes of the name and the labels of one series.
    pub max_name_bytes: usize,
}

impl Default for PushLimits {
    fn default() -> Self {
        Self {
            max_bytes: 16 * 1_024 * 1_024,
            max_points: 50_000,
            max_part_bytes: 1_024 * 1_024,
            max_labels: 128,
            max_name_bytes: 4 * 1_024,
        }
    }
}

/// A body that can't be taken at all, now or later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More than a limit allows.
    #[error("more than {bound} {what}; send less at once")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How many may be.
        bound: usize,
    },
    /// It is not what it is said to be.
    #[error("{place}: {what}; see whether the sender speaks this protocol")]
    Broken {
        /// Where.
        place: String,
        /// What is wrong.
        what: String,
    },
}

/// Sorts labels; says what is wrong with them.
pub(crate) fn sorted(mut labels: Labels, limits: &PushLimits) -> Result<Labels, String> {
    if labels.len() > limits.max_labels {
        return Err(format!("it has {} labels, and {} are allowed", labels.len(), limits.max_labels));
    }
    let bytes: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > limits.max_name_bytes {
        return Err(format!("its labels have {bytes} bytes, and {} are allowed", limits.max_name_bytes));
    }
    labels.sort_unstable();
    if let Some(twice) = labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(format!("it has the label `{}` twice", twice[0].0));
    }
    // An empty value is the same as no label, in Prometheus as here.
    labels.retain(|(_, value)| !value.is_empty());
    Ok(labels)
}
