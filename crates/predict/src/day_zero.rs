use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{
    Anomaly, Basis, Driver, Family, HealthScore, MetricKind, MetricWindow, Prediction, Windows,
};

use crate::{
    anomaly::robust_z,
    curve::Curve,
    first_passage,
    normal::quantile,
    trend::{self, Trend, TrendMixture},
};

/// Turns the windows of one cell into a prediction. A model is a value; it is given what it needs and asks nobody.
pub trait Predictor {
    /// The prediction for the cell of `windows`, as of their end. `None` when nothing at all was measured: absent
    /// telemetry is neither health nor failure.
    fn predict(&self, windows: &Windows, horizon: Duration) -> Option<Prediction>;
}

/// The model of the first day: first passage of metrics that have a limit, over a prior hazard.
#[derive(Debug, Clone, PartialEq)]
pub struct DayZero {
    /// Failures per second expected of any cell before anything is known of it.
    pub prior_rate_per_s: f64,
    /// How strongly the age of a trend speaks for its future. A trend seen for T seconds goes on for another t with
    /// probability `(T / (T + t)) ^ doubt`; 1 is Gott's rule (Nature 363, 1993, <https://doi.org/10.1038/363315a0>) for a trend of
    /// which nothing but its age is known, 0 trusts every trend for ever.
    pub doubt: f64,
    /// How much of the newest telemetry may be missing, in steps, before a metric is left out.
    pub max_gap_steps: usize,
    /// Whether anything is forecast at all. Without, every prediction is the prior: the service is then protected by
    /// the reactive floor alone, which is what prediction is measured against.
    pub forecast: bool,
}

impl Default for DayZero {
    /// One failure in thirty days; half of Gott's doubt, since a metric with a limit was declared because it runs into it.
    fn default() -> Self {
        Self { prior_rate_per_s: 1.0 / (30.0 * 86_400.0), doubt: 0.5, max_gap_steps: 4, forecast: true }
    }
}

/// Drifts at which the normal belief about a drift is evaluated: the midpoints of equal slices of probability.
const DRIFT_NODES: usize = 15;

/// A driver below this share of the hazard is not worth a line.
const LEAST_CONTRIBUTION: f64 = 0.01;

/// Robust z from which a metric is named as anomalous.
const NAMED_FROM_Z: f64 = 3.0;

/// What one metric says.
struct Opinion<'a> {
    metric: &'a MetricWindow,
    curve: Curve,
    trend: Option<Trend>,
    level: f64,
}

impl Predictor for DayZero {
    fn predict(&self, windows: &Windows, horizon: Duration) -> Option<Prediction> {
        let measured = |m: &&MetricWindow| m.samples.iter().any(|s| s.value.is_some());
        if !windows.metrics.values().any(|m| measured(&m)) {
            return None;
        }
        let opinions: Vec<Opinion<'_>> = if self.forecast {
            windows.metrics.values().filter_map(|metric| self.opinion(metric, horizon)).collect()
        } else {
            Vec::new()
        };
        // Metrics of a family are mostly views of one cause (median and tail of the same latency): the worst one
        // speaks for it. Families are taken as independent.
        let mut families: BTreeMap<Family, Curve> = BTreeMap::new();
        for opinion in &opinions {
            families
                .entry(opinion.metric.family)
                .and_modify(|curve| curve.envelop(&opinion.curve))
                .or_insert_with(|| opinion.curve.clone());
        }
        let prior = Curve::new(horizon).with_probabilities(|t| -(-self.prior_rate_per_s * t).exp_m1());
        let mut curve = prior.clone();
        for family in families.values() {
            curve.add(family);
        }
        let drivers = drivers(&opinions, &families, horizon);
        let h_s = horizon.as_secs_f64();
        let rests_on_passage = curve.hazard_at(h_s) > 2.0 * prior.hazard_at(h_s);
        let anomalies = anomalies(windows);
        let probability = curve.probability_within(horizon);
        Some(Prediction {
            cell: windows.cell.clone(),
            at: windows.at,
            horizon,
            probability,
            time_to_failure: curve.time_to_failure(),
            health: HealthScore::from_failure(probability),
            anomaly: anomalies.first().map_or(0.0, |a| a.z.abs()),
            anomalies: anomalies.into_iter().filter(|a| a.z.abs() >= NAMED_FROM_Z).collect(),
            basis: if rests_on_passage && !drivers.is_empty() { Basis::FirstPassage } else { Basis::Prior },
            drivers,
            curve: curve.points(),
        })
    }
}

impl DayZero {
    /// The hazard of one metric, if it has a limit whose crossing is a failure and enough fresh samples.
    fn opinion<'a>(&self, metric: &'a MetricWindow, horizon: Duration) -> Option<Opinion<'a>> {
        let limit = metric.limit.filter(|l| l.is_finite())?;
        let (age, _) = metric.latest()?;
        if metric.kind != MetricKind::Exhaustible || age > self.max_gap_steps {
            return None;
        }
        let end = metric.samples.last()?.at;
        let samples: Vec<(f64, f64)> = metric
            .samples
            .iter()
            .filter_map(|s| s.value.filter(|v| v.is_finite()).map(|v| (-end.since(s.at).as_secs_f64(), v)))
            .collect();
        let mixture = trend::estimate(&samples, limit)?;
        let parts = Parts::of(&mixture, limit, self.doubt);
        let curve = Curve::new(horizon).with_probabilities(|t| parts.probability_within(t));
        let trend = mixture.trends.iter().copied().find(|t| t.drift > 0.0 && t.weight > 0.3);
        Some(Opinion { metric, curve, level: trend.map_or(mixture.level, |t| t.level), trend })
    }
}

/// One drift that may be the true one.
struct Part {
    weight: f64,
    distance: f64,
    drift: f64,
    variance: f64,
    /// How long the trend has been seen; infinite where there is none, and so nothing to doubt.
    seen_s: f64,
}

struct Parts {
    parts: Vec<Part>,
    doubt: f64,
}

impl Parts {
    fn of(mixture: &TrendMixture, limit: f64, doubt: f64) -> Self {
        let mut parts = Vec::new();
        let mut still = 1.0;
        for trend in &mixture.trends {
            still -= trend.weight;
            for node in 0..DRIFT_NODES {
                let z = quantile((node as f64 + 0.5) / DRIFT_NODES as f64);
                parts.push(Part {
                    weight: trend.weight / DRIFT_NODES as f64,
                    distance: limit - trend.level,
                    drift: trend.drift + z * trend.standard_error,
                    variance: trend.variance,
                    seen_s: trend.seconds,
                });
            }
        }
        // Without drift there is no reason to walk anywhere in particular, and walks seen in a short window are mostly
        // wanders that come back: half of the variance is believed to last.
        parts.push(Part {
            weight: still.max(0.0),
            distance: limit - mixture.level,
            drift: 0.0,
            variance: 0.5 * mixture.variance,
            seen_s: f64::INFINITY,
        });
        Self { parts, doubt }
    }

    fn probability_within(&self, t: f64) -> f64 {
        self.parts
            .iter()
            .map(|part| {
                let p = first_passage::probability_within(t, part.distance, part.drift, part.variance);
                let lasting = if part.distance <= 0.0 { 1.0 } else { self.still_going(part, t) };
                part.weight * p * lasting
            })
            .sum()
    }

    /// The probability that the trend goes on until it has crossed (or until `t`, if that is sooner).
    fn still_going(&self, part: &Part, t: f64) -> f64 {
        if part.seen_s.is_infinite() {
            return 1.0;
        }
        let arrival = if part.drift > 0.0 { (part.distance / part.drift).min(t) } else { t };
        (part.seen_s / (part.seen_s + arrival)).powf(self.doubt)
    }
}

/// The metrics behind the hazard, largest share first; the shares add up to 1. Empty while the hazard is the prior's.
fn drivers(opinions: &[Opinion<'_>], families: &BTreeMap<Family, Curve>, horizon: Duration) -> Vec<Driver> {
    let h_s = horizon.as_secs_f64();
    let total: f64 = families.values().map(|c| c.hazard_at(h_s)).sum();
    if total <= 1e-6 {
        return Vec::new();
    }
    let mut drivers: Vec<Driver> = opinions
        .iter()
        .map(|opinion| {
            // Within a family the hazard that counts is the largest; it is shared out in proportion.
            let family = opinion.metric.family;
            let within: f64 =
                opinions.iter().filter(|o| o.metric.family == family).map(|o| o.curve.hazard_at(h_s)).sum();
            let mine = opinion.curve.hazard_at(h_s);
            let share =
                if within > 0.0 { mine / within * families[&family].hazard_at(h_s) / total } else { 0.0 };
            Driver {
                metric: opinion.metric.name.clone(),
                family,
                contribution: share,
                detail: detail(opinion),
            }
        })
        .filter(|driver| driver.contribution >= LEAST_CONTRIBUTION)
        .collect();
    let named: f64 = drivers.iter().map(|d| d.contribution).sum();
    drivers.iter_mut().for_each(|d| d.contribution /= named);
    drivers.sort_by(|a, b| b.contribution.total_cmp(&a.contribution).then_with(|| a.metric.cmp(&b.metric)));
    drivers
}

fn detail(opinion: &Opinion<'_>) -> String {
    let unit = opinion.metric.unit.as_str();
    let limit = opinion.metric.limit.unwrap_or(f64::NAN);
    let mut text = format!("{} of {}", quantity(opinion.level, unit), quantity(limit, unit));
    if let Some(trend) = opinion.trend {
        let sign = if trend.drift >= 0.0 { '+' } else { '−' };
        text.push_str(&format!(
            ", {sign}{}/s for {:.0} s",
            quantity(trend.drift.abs(), unit),
            trend.seconds.max(1.0)
        ));
    }
    text
}

/// A value with its unit, for people.
pub(crate) fn quantity(value: f64, unit: &str) -> String {
    match unit {
        "bytes" if value.abs() >= 1024.0 * 1024.0 * 1024.0 => format!("{:.2} GiB", value / 1024f64.powi(3)),
        "bytes" if value.abs() >= 1024.0 * 1024.0 => format!("{:.1} MiB", value / 1024f64.powi(2)),
        "bytes" if value.abs() >= 1024.0 => format!("{:.1} KiB", value / 1024.0),
        "ratio" => format!("{:.1}%", value * 100.0),
        "" => format!("{value:.3}"),
        unit => format!("{value:.1} {unit}"),
    }
}

fn anomalies(windows: &Windows) -> Vec<Anomaly> {
    let mut found: Vec<Anomaly> = windows
        .metrics
        .values()
        .filter_map(|metric| {
            let values: Vec<f64> =
                metric.samples.iter().filter_map(|s| s.value.filter(|v| v.is_finite())).collect();
            robust_z(&values).map(|z| Anomaly { metric: metric.name.clone(), z })
        })
        .collect();
    found.sort_by(|a, b| b.z.abs().total_cmp(&a.z.abs()));
    found
}
