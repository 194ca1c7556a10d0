//! The Prometheus text format 0.0.4 and OpenMetrics 1.0 text, read into families of samples.
//!
//! Sources: <https://prometheus.io/docs/instrumenting/exposition_formats/> and
//! <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>.
//!
//! One broken line does not cost the operator the rest of the scrape: it is skipped, counted, and the first error is
//! kept with its place. Beyond [`Limits::max_broken_lines`] the body is no exposition at all and is refused. An
//! OpenMetrics body without `# EOF` is refused too: it was cut off, and its last number may be half a number.
//!
//! Blanks and tabs separate tokens in both formats (OpenMetrics asks for exactly one space, and exporters differ).

mod line;
mod parse;

pub use parse::parse;

/// Which of the two formats a body is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text 0.0.4: timestamps in milliseconds.
    Text,
    /// OpenMetrics 1.0 text: timestamps in seconds, units, exemplars, `# EOF`.
    OpenMetrics,
}

impl Format {
    /// From a `Content-Type`; whatever is not OpenMetrics is taken for text.
    #[must_use]
    pub fn of_content_type(content_type: Option<&str>) -> Self {
        let media = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if media.eq_ignore_ascii_case("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }
}

/// What a body may cost. A body beyond a limit is refused, a single line beyond its limit is a broken line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Lines of the body.
    pub max_lines: usize,
    /// Bytes of one line.
    pub max_line_bytes: usize,
    /// Samples of the body.
    pub max_samples: usize,
    /// Lines that may be broken before the whole body is refused.
    pub max_broken_lines: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_lines: 200_000, max_line_bytes: 16 * 1024, max_samples: 50_000, max_broken_lines: 100 }
    }
}

/// The type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FamilyType {
    /// Only grows, except when it begins anew.
    Counter,
    /// May go anywhere.
    Gauge,
    /// Counts per bucket.
    Histogram,
    /// Counts per bucket that may shrink (OpenMetrics).
    GaugeHistogram,
    /// Quantiles that the cell computed.
    Summary,
    /// Text in labels (OpenMetrics).
    Info,
    /// One of several states (OpenMetrics).
    StateSet,
    /// Not told: `unknown`, `untyped` or no type line.
    Unknown,
}

/// One line with a value.
#[derive(Debug, Clone, PartialEq)]
pub struct ExposedSample {
    /// As exposed, with suffixes such as `_total` or `_bucket`.
    pub name: String,
    /// Sorted by label name; no name twice.
    pub labels: Vec<(String, String)>,
    /// May be NaN or infinite.
    pub value: f64,
    /// Milliseconds since 1970, if the cell gave a time.
    pub timestamp_ms: Option<i64>,
}

/// The samples of one name with what is told about them.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricFamily {
    /// Without suffixes.
    pub name: String,
    /// Its type.
    pub family_type: FamilyType,
    /// Its unit (OpenMetrics).
    pub unit: Option<String>,
    /// Its help text, unescaped.
    pub help: Option<String>,
    /// In the order they came.
    pub samples: Vec<ExposedSample>,
}

/// What a body told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Exposition {
    /// In the order they came.
    pub families: Vec<MetricFamily>,
    /// How many lines were skipped because they were broken.
    pub broken_lines: usize,
    /// The first of them.
    pub first_error: Option<LineError>,
}

impl Exposition {
    /// All samples with their families.
    pub fn samples(&self) -> impl Iterator<Item = (&MetricFamily, &ExposedSample)> {
        self.families.iter().flat_map(|family| family.samples.iter().map(move |sample| (family, sample)))
    }

    /// How many samples there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.families.iter().map(|family| family.samples.len()).sum()
    }

    /// Whether there is no sample.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A line that could not be read: where, what is wrong, what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}; {remedy}")]
pub struct LineError {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub remedy: &'static str,
}

/// A body that was refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpositionError {
    /// More than a limit allows.
    #[error(
        "line {line}, column 1: more than {bound} {what}; expose less on this path or select another path"
    )]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How many may be.
        bound: usize,
        /// Where the limit was passed.
        line: usize,
    },
    /// Too many lines are broken.
    #[error("more than {bound} lines are broken, so this is no exposition; the first: {first}")]
    TooBroken {
        /// How many may be.
        bound: usize,
        /// The first of them.
        first: LineError,
    },
    /// OpenMetrics that does not end with `# EOF`.
    #[error(
        "line {line}, column 1: the body ends without `# EOF`, so it was cut off; send it whole, with `# EOF` last"
    )]
    CutOff {
        /// The last line.
        line: usize,
    },
}
