//! Points of a metric to points of series.

use std::sync::Arc;

use forefend_domain::Timestamp;
use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{
        AggregationTemporality, ExponentialHistogram, Gauge, Histogram, NumberDataPoint, Sum, Summary,
        number_data_point::Value,
    },
};

use super::{time, value};
use crate::pushed::{
    Buckets, CountsAs, Decoded, Labels, Nature, PushLimits, PushedPoint, PushedSeries, sorted,
};

/// The flag of a point that says that there is none (`DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK`).
const NO_RECORDED_VALUE: u32 = 1;

/// The quantiles that are estimated from buckets.
const QUANTILES: [(f64, &str); 2] = [(0.5, "p50"), (0.99, "p99")];

/// Characters of a name that are shown in a message.
const SHOWN: usize = 100;

pub(super) struct Points<'a> {
    pub(super) name: &'a str,
    pub(super) unit: &'a str,
    pub(super) place: &'a str,
    pub(super) source: &'a Arc<Labels>,
    pub(super) limits: &'a PushLimits,
    pub(super) out: &'a mut Decoded<PushedSeries>,
}

/// What all kinds of points have.
struct Head {
    attributes: Vec<KeyValue>,
    start: u64,
    at: u64,
    flags: u32,
}

/// A head that was judged.
struct Judged {
    labels: Labels,
    began: Option<Timestamp>,
    at: Timestamp,
    gap: bool,
    /// Of a delta: the length of its interval in seconds.
    seconds: Option<f64>,
}

impl Judged {
    /// A total, or of a delta the rate.
    fn counted(&self, value: f64) -> (Nature, PushedPoint) {
        let value = if self.gap { None } else { Some(value) };
        match self.seconds {
            Some(seconds) => {
                let value = value.map(|added| added / seconds);
                (Nature::PerSecond, PushedPoint { at: self.at, value, began: None })
            }
            None => (Nature::Total, PushedPoint { at: self.at, value, began: self.began }),
        }
    }

    fn level(&self, value: f64) -> (Nature, PushedPoint) {
        let value = if self.gap { None } else { Some(value) };
        (Nature::Level, PushedPoint { at: self.at, value, began: None })
    }
}

/// Which series a point goes to.
#[derive(Default)]
struct Part {
    /// After the metric's name, with a `_` between; empty: the metric itself.
    suffix: &'static str,
    /// Whether it has the metric's unit.
    unitless: bool,
    /// Whether it is only a part of a point that is counted elsewhere.
    uncounted: bool,
    /// Whether it belongs to what a scrape would not take without being told to.
    composed: bool,
    quantile: Option<(f64, Arc<Buckets>)>,
}

impl Points<'_> {
    pub(super) fn gauge(&mut self, data: Gauge) {
        for (i, point) in data.data_points.into_iter().enumerate() {
            let Some((head, value)) = self.number(i, point) else { continue };
            let Some(judged) = self.judge(i, head, AggregationTemporality::Cumulative) else { continue };
            let (nature, point) = judged.level(value);
            self.push(judged.labels, Part::default(), nature, point);
        }
    }

    pub(super) fn sum(&mut self, data: Sum) {
        let temporality = data.aggregation_temporality();
        for (i, point) in data.data_points.into_iter().enumerate() {
            let Some((head, value)) = self.number(i, point) else { continue };
            if temporality == AggregationTemporality::Delta && !data.is_monotonic {
                self.refuse(i, "it tells how much a level changed and not the level; send it cumulative");
                continue;
            }
            let Some(judged) = self.judge(i, head, temporality) else { continue };
            let (nature, point) = if data.is_monotonic { judged.counted(value) } else { judged.level(value) };
            self.push(judged.labels, Part::default(), nature, point);
        }
    }

    pub(super) fn histogram(&mut self, data: Histogram) {
        let temporality = data.aggregation_temporality();
        for (i, point) in data.data_points.into_iter().enumerate() {
            let head = Head {
                attributes: point.attributes,
                start: point.start_time_unix_nano,
                at: point.time_unix_nano,
                flags: point.flags,
            };
            let Some(judged) = self.judge(i, head, temporality) else { continue };
            self.count_and_sum(&judged, point.count as f64, point.sum);
            let buckets = Buckets {
                bounds: point.explicit_bounds,
                counts: point.bucket_counts,
                cumulative: temporality == AggregationTemporality::Cumulative,
            };
            if judged.gap || buckets.counts.len() < 2 || !buckets.fit() {
                continue;
            }
            let buckets = Arc::new(buckets);
            for (quantile, suffix) in QUANTILES {
                let quantile = Some((quantile, Arc::clone(&buckets)));
                let part = Part { suffix, uncounted: true, composed: true, quantile, ..Part::default() };
                let point = PushedPoint { at: judged.at, value: None, began: judged.began };
                self.push(judged.labels.clone(), part, Nature::Level, point);
            }
        }
    }

    pub(super) fn exponential_histogram(&mut self, data: ExponentialHistogram) {
        let temporality = data.aggregation_temporality();
        for (i, point) in data.data_points.into_iter().enumerate() {
            let head = Head {
                attributes: point.attributes,
                start: point.start_time_unix_nano,
                at: point.time_unix_nano,
                flags: point.flags,
            };
            let Some(judged) = self.judge(i, head, temporality) else { continue };
            self.count_and_sum(&judged, point.count as f64, point.sum);
        }
    }

    pub(super) fn summary(&mut self, data: Summary) {
        for (i, point) in data.data_points.into_iter().enumerate() {
            let head = Head {
                attributes: point.attributes,
                start: point.start_time_unix_nano,
                at: point.time_unix_nano,
                flags: point.flags,
            };
            let Some(judged) = self.judge(i, head, AggregationTemporality::Cumulative) else { continue };
            self.count_and_sum(&judged, point.count as f64, Some(point.sum));
            for told in point.quantile_values {
                let mut labels = judged.labels.clone();
                labels.push(("quantile".to_owned(), told.quantile.to_string()));
                let Ok(labels) = sorted(labels, self.limits) else { continue };
                let part = Part { uncounted: true, composed: true, ..Part::default() };
                let (nature, point) = judged.level(told.value);
                self.push(labels, part, nature, point);
            }
        }
    }

    fn count_and_sum(&mut self, judged: &Judged, count: f64, sum: Option<f64>) {
        let part = Part { suffix: "count", unitless: true, composed: true, ..Part::default() };
        let (nature, point) = judged.counted(count);
        self.push(judged.labels.clone(), part, nature, point);
        if let Some(sum) = sum {
            let part = Part { suffix: "sum", uncounted: true, composed: true, ..Part::default() };
            let (nature, point) = judged.counted(sum);
            self.push(judged.labels.clone(), part, nature, point);
        }
    }

    /// `None`: refused.
    fn number(&mut self, index: usize, point: NumberDataPoint) -> Option<(Head, f64)> {
        let gap = point.flags & NO_RECORDED_VALUE != 0;
        let value = match point.value {
            Some(Value::AsDouble(value)) => value,
            Some(Value::AsInt(value)) => value as f64,
            None if gap => f64::NAN,
            None => {
                self.refuse(index, "it has no value, nor the flag that says so");
                return None;
            }
        };
        let (start, at) = (point.start_time_unix_nano, point.time_unix_nano);
        Some((Head { attributes: point.attributes, start, at, flags: point.flags }, value))
    }

    /// `None`: refused.
    fn judge(&mut self, index: usize, head: Head, temporality: AggregationTemporality) -> Option<Judged> {
        let labels = match sorted(value::labels(head.attributes), self.limits) {
            Ok(_) if self.name.len() > self.limits.max_name_bytes => {
                self.refuse(index, "the metric's name is longer than labels may be");
                return None;
            }
            Ok(labels) => labels,
            Err(why) => {
                self.refuse(index, &why);
                return None;
            }
        };
        let Some(at) = time(head.at) else {
            self.refuse(index, "it does not say when it was measured (`time_unix_nano`)");
            return None;
        };
        let seconds = match temporality {
            AggregationTemporality::Cumulative => None,
            AggregationTemporality::Delta if head.start > 0 && head.start < head.at => {
                Some((head.at - head.start) as f64 / 1e9)
            }
            AggregationTemporality::Delta => {
                self.refuse(
                    index,
                    "a delta that does not say since when (`start_time_unix_nano`) is no rate",
                );
                return None;
            }
            AggregationTemporality::Unspecified => {
                self.refuse(index, "whether it is cumulative or a delta is not said");
                return None;
            }
        };
        let gap = head.flags & NO_RECORDED_VALUE != 0;
        // That it began when it was measured is how a start that nobody knows is told.
        Some(Judged { labels, began: time(head.start), at, gap, seconds })
    }

    fn refuse(&mut self, index: usize, why: &str) {
        let (place, name) = (self.place, self.name);
        self.out.refused.add(CountsAs::Sample, 1, || {
            let name: String = name.chars().take(SHOWN).collect();
            format!("{place} (`{}`), data point {index}: {why}", name.escape_debug())
        });
    }

    fn push(&mut self, labels: Labels, part: Part, nature: Nature, point: PushedPoint) {
        let separator = if part.suffix.is_empty() { "" } else { "_" };
        self.out.taken.push(PushedSeries {
            name: format!("{}{separator}{}", self.name, part.suffix),
            labels,
            source: Arc::clone(self.source),
            nature,
            by_default: !part.composed,
            unit: if part.unitless { String::new() } else { self.unit.to_owned() },
            counts_as: if part.uncounted { CountsAs::Part } else { CountsAs::Sample },
            points: vec![point],
            quantile: part.quantile,
        });
    }
}
