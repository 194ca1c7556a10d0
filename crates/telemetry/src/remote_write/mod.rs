//! Prometheus remote write 1.0 and 2.0: bodies to series.
//!
//! Sources: <https://prometheus.io/docs/specs/prw/remote_write_spec/> and
//! <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>.
//!
//! 1.0 does not say what a series is, so its name does: `_total`, `_count`, `_sum` and `_bucket` are totals, all else are
//! levels. 2.0 says it in metadata; where it does not, the name does. Of a native histogram the count and the sum are
//! kept, as totals `NAME_count` and `NAME_sum`: buckets are for people who ask for quantiles later, and a window has one
//! value a step. Exemplars are not kept.

mod message;
mod v1;
mod v2;

use std::sync::Arc;

use forefend_domain::Timestamp;

use self::message::Histogram;
use crate::{
    inflate,
    pushed::{CountsAs, DecodeError, Decoded, Labels, Nature, PushLimits, PushedPoint, PushedSeries, sorted},
    wire::NotAMessage,
};

/// The value by which Prometheus says that a series has ended: a NaN of its own.
pub const STALE_MARKER_BITS: u64 = 0x7ff0_0000_0000_0002;

const NAME: &str = "__name__";

/// Which of the two messages a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

impl Version {
    /// From a `Content-Type`; `None`: it is neither.
    #[must_use]
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        let mut parts = content_type.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case("application/x-protobuf") {
            return None;
        }
        let proto = parts.find_map(|part| {
            let (key, value) = part.split_once('=')?;
            key.trim().eq_ignore_ascii_case("proto").then(|| value.trim().trim_matches('"'))
        });
        match proto {
            None | Some("prometheus.WriteRequest") => Some(Self::V1),
            Some("io.prometheus.write.v2.Request") => Some(Self::V2),
            Some(_) => None,
        }
    }
}

/// Reads a body as it was sent: compressed by snappy.
///
/// # Errors
/// When nothing of it can be taken: it is too large, or not what it is said to be.
pub fn decode(
    body: &[u8],
    version: Version,
    limits: &PushLimits,
) -> Result<Decoded<PushedSeries>, DecodeError> {
    decode_plain(&inflate::snappy(body, limits.max_bytes)?, version, limits)
}

/// Reads a body that is not compressed any more.
///
/// # Errors
/// As [`decode`].
pub fn decode_plain(
    body: &[u8],
    version: Version,
    limits: &PushLimits,
) -> Result<Decoded<PushedSeries>, DecodeError> {
    match version {
        Version::V1 => v1::decode(body, limits),
        Version::V2 => v2::decode(body, limits),
    }
}

fn no_message(place: &str, flaw: NotAMessage) -> DecodeError {
    DecodeError::Broken {
        place: format!("{place}, byte {}", flaw.offset),
        what: format!("no protobuf: {}", flaw.what),
    }
}

/// A series with everything that one body tells of it, before it is judged.
struct Raw<'a> {
    place: &'a str,
    labels: Labels,
    unit: String,
    told: Told,
    samples: Vec<PushedPoint>,
    /// Times that can't be: their samples are refused.
    bad_times: usize,
    histograms: Vec<Histogram>,
    began: Option<Timestamp>,
}

/// What the metadata say a series is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Counter,
    Gauge,
    /// A histogram or summary: totals by name, and not taken by default.
    Composed,
    /// The same of things that may go down.
    GaugeHistogram,
    /// Text, or states.
    Other,
}

/// A time in milliseconds; `None`: before 1970, which nobody measured.
fn time(ms: i64) -> Option<Timestamp> {
    u64::try_from(ms).ok().map(Timestamp::from_unix_ms)
}

/// A time that is told only where it is not 0.
fn began(ms: i64) -> Option<Timestamp> {
    time(ms).filter(|at| at.unix_ms() > 0)
}

fn value(value: f64) -> Option<f64> {
    (value.to_bits() != STALE_MARKER_BITS).then_some(value)
}

fn add(raw: Raw<'_>, out: &mut Decoded<PushedSeries>, limits: &PushLimits) {
    if raw.bad_times > 0 {
        let why = || format!("{}: a sample was measured before 1970", raw.place);
        out.refused.add(CountsAs::Sample, raw.bad_times, why);
    }
    let named = named(raw.labels, limits);
    let (name, labels) = match named {
        Ok(named) => named,
        Err(why) => {
            let why = || format!("{}: {why}", raw.place);
            out.refused.add(CountsAs::Sample, raw.samples.len(), why);
            out.refused.add(CountsAs::Histogram, raw.histograms.len(), why);
            return;
        }
    };
    let (nature, by_default) = nature(&name, &labels, raw.told);
    let source = Arc::new(Labels::new());
    if !raw.samples.is_empty() {
        let with_began = |point: PushedPoint| PushedPoint { began: point.began.or(raw.began), ..point };
        out.taken.push(PushedSeries {
            name: name.clone(),
            labels: labels.clone(),
            source: Arc::clone(&source),
            nature,
            by_default,
            unit: raw.unit.clone(),
            counts_as: CountsAs::Sample,
            points: raw.samples.into_iter().map(with_began).collect(),
            quantile: None,
        });
    }
    add_histograms(&raw.histograms, raw.place, raw.began, (&name, &labels, &raw.unit), &source, out);
}

fn named(labels: Labels, limits: &PushLimits) -> Result<(String, Labels), String> {
    let mut labels = sorted(labels, limits)?;
    let at = labels.iter().position(|(name, _)| name == NAME).ok_or("it has no name (label `__name__`)")?;
    let (_, name) = labels.remove(at);
    Ok((name, labels))
}

/// What a series is, and whether it is taken where nothing is selected.
fn nature(name: &str, labels: &Labels, told: Told) -> (Nature, bool) {
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
    let total = ends(&["_total", "_count", "_sum", "_bucket"]);
    let by_name = if total { Nature::Total } else { Nature::Level };
    match told {
        Told::Counter => (Nature::Total, !ends(&["_created"])),
        Told::Gauge => (Nature::Level, true),
        Told::Composed => (by_name, false),
        Told::GaugeHistogram | Told::Other => (Nature::Level, false),
        Told::Nothing => {
            let part = ends(&["_bucket", "_created"]) || labels.iter().any(|(label, _)| label == "quantile");
            (by_name, !part)
        }
    }
}

fn add_histograms(
    histograms: &[Histogram],
    place: &str,
    series_began: Option<Timestamp>,
    (name, labels, unit): (&str, &Labels, &str),
    source: &Arc<Labels>,
    out: &mut Decoded<PushedSeries>,
) {
    let (mut counts, mut sums) = (Vec::new(), Vec::new());
    let mut nature = Nature::Total;
    for histogram in histograms {
        let Some(at) = time(histogram.timestamp) else {
            let why = || format!("{place}: a histogram was measured before 1970");
            out.refused.add(CountsAs::Histogram, 1, why);
            continue;
        };
        let stale = value(histogram.sum).is_none();
        let mut start = began(histogram.start_timestamp).or(series_began);
        match histogram.reset_hint {
            // It began anew at some time since the one before: its own time says so without a rate that nobody knows.
            message::RESET_YES => start = start.or(Some(at)),
            message::RESET_GAUGE => nature = Nature::Level,
            _ => {}
        }
        let point = |value: f64| PushedPoint { at, value: (!stale).then_some(value), began: start };
        counts.push(point(histogram.count()));
        sums.push(point(histogram.sum));
    }
    if counts.is_empty() {
        return;
    }
    let parts = [
        ("count", String::new(), CountsAs::Histogram, counts),
        ("sum", unit.to_owned(), CountsAs::Part, sums),
    ];
    for (part, unit, counts_as, points) in parts {
        out.taken.push(PushedSeries {
            name: format!("{name}_{part}"),
            labels: labels.clone(),
            source: Arc::clone(source),
            nature,
            by_default: false,
            unit,
            counts_as,
            points,
            quantile: None,
        });
    }
}
