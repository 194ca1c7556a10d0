use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{
    Anomaly, Basis, Driver, Family, HealthScore, Interval, MetricKind, MetricWindow, Prediction, Windows,
};

use crate::{
    anomaly::robust_z,
    curve::Curve,
    first_passage,
    trend::{Course, LONGEST, NEGLIGIBLE, Teeth, Trend, TrendMixture},
};

/// Turns the windows of one cell into a prediction. A model is a value; it is given what it needs and asks nobody.
pub trait Predictor {
    /// The prediction for the cell of `windows`, as of their end. `None` when nothing at all was measured: absent
    /// telemetry is neither health nor failure.
    fn predict(&self, windows: &Windows, horizon: Duration) -> Option<Prediction>;

    /// The same with what is known of the cell beside its windows. A model that makes nothing of it still tells how unusual
    /// the cell is.
    fn predict_knowing(&self, windows: &Windows, horizon: Duration, known: &Known) -> Option<Prediction> {
        let prediction = self.predict(windows, horizon)?;
        Some(known.told(prediction))
    }
}

/// What is known of a cell beside its windows: from the memory of earlier ticks and from other cells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// Failures per second expected of the cell before its metrics are looked at; `None`: as of any cell. Finite, not negative.
    pub prior_rate_per_s: Option<f64>,
    /// How unusual it is; `None`: to be judged by its windows alone.
    pub unusual: Option<Unusual>,
}

/// How unlike its own past and its siblings a cell is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unusual {
    /// From 0, in the way of a robust z-score: 0 is usual, above 6 is rare.
    pub score: f64,
    /// The metrics behind it, most unusual first.
    pub metrics: Vec<Anomaly>,
}

impl Unusual {
    /// By windows alone: the robust z-score of every metric.
    pub(crate) fn of_windows(windows: &Windows) -> Self {
        let metrics = anomalies(windows);
        Self { score: metrics.first().map_or(0.0, |a| a.z.abs()), metrics }
    }

    fn named(self) -> (f64, Vec<Anomaly>) {
        (self.score, self.metrics.into_iter().filter(|a| a.z.abs() >= NAMED_FROM_Z).collect())
    }
}

impl Known {
    /// A prediction that tells how unusual the cell is, if that is known.
    #[must_use]
    pub fn told(&self, prediction: Prediction) -> Prediction {
        let mut told = prediction;
        self.tell(&mut told);
        told
    }

    /// The same in place.
    pub fn tell(&self, prediction: &mut Prediction) {
        if let Some(unusual) = &self.unusual {
            (prediction.anomaly, prediction.anomalies) = unusual.clone().named();
        }
    }
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

/// Drifts at which the normal belief about a drift is evaluated, in standard errors: the midpoints of fifteen equal slices of
/// probability.
const DRIFT_NODES: [f64; 15] = [
    -1.833_914_635_816,
    -1.281_551_565_545,
    -0.967_421_566_102,
    -0.727_913_290_882,
    -0.524_400_512_708,
    -0.340_694_827_088,
    -0.167_894_004_788,
    0.0,
    0.167_894_004_788,
    0.340_694_827_088,
    0.524_400_512_708,
    0.727_913_290_882,
    0.967_421_566_102,
    1.281_551_565_545,
    1.833_914_635_816,
];

/// A driver below this share of the hazard is not worth a line.
const LEAST_CONTRIBUTION: f64 = 0.01;

/// Robust z from which a metric is named as anomalous.
pub(crate) const NAMED_FROM_Z: f64 = 3.0;

/// What one metric says; upwards is towards its limit.
struct Opinion<'a> {
    metric: &'a MetricWindow,
    curve: Curve,
    trend: Option<Trend>,
    level: f64,
}

impl Predictor for DayZero {
    fn predict(&self, windows: &Windows, horizon: Duration) -> Option<Prediction> {
        self.predict_knowing(windows, horizon, &Known::default())
    }

    fn predict_knowing(&self, windows: &Windows, horizon: Duration, known: &Known) -> Option<Prediction> {
        self.foreseen(windows, horizon, &[known.prior_rate_per_s])?.pop().map(|(said, curve)| {
            let prediction = Prediction { curve: curve.points(), ..said };
            let unusual = known.unusual.clone().unwrap_or_else(|| Unusual::of_windows(windows));
            Known { unusual: Some(unusual), ..Known::default() }.told(prediction)
        })
    }
}

impl DayZero {
    /// A prediction for each prior, without anomalies, and its curve, which is not drawn yet; they differ in nothing else.
    pub(crate) fn foreseen(
        &self,
        windows: &Windows,
        horizon: Duration,
        priors: &[Option<f64>],
    ) -> Option<Vec<(Prediction, Curve)>> {
        let measured = |m: &&MetricWindow| m.samples.iter().any(|s| s.value.is_some());
        if !windows.metrics.values().any(|m| measured(&m)) {
            return None;
        }
        let blank = Curve::new(horizon);
        let mut values = Vec::new();
        let opinions: Vec<Opinion<'_>> = if self.forecast {
            let of = |metric| self.opinion(metric, &blank, &mut values);
            windows.metrics.values().filter_map(of).collect()
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
        let drivers = drivers(&opinions, &families, horizon);
        let of_prior = |rate: &Option<f64>| {
            let rate = rate.filter(|rate| rate.is_finite() && *rate >= 0.0).unwrap_or(self.prior_rate_per_s);
            let prior = blank.clone().with_rate(rate);
            let mut curve = prior.clone();
            families.values().for_each(|family| curve.add(family));
            (self.prediction(windows, horizon, (&prior, &curve), &drivers), curve)
        };
        Some(priors.iter().map(of_prior).collect())
    }

    fn prediction(
        &self,
        windows: &Windows,
        horizon: Duration,
        (prior, curve): (&Curve, &Curve),
        drivers: &[Driver],
    ) -> Prediction {
        let h_s = horizon.as_secs_f64();
        let of_prior = prior.hazard_at(h_s);
        let rests_on_passage = curve.hazard_at(h_s) > 2.0 * of_prior && !drivers.is_empty();
        let probability = curve.probability_within(horizon);
        Prediction {
            cell: windows.cell.clone(),
            at: windows.at,
            horizon,
            probability,
            time_to_failure: curve.time_to_failure(),
            interval: Interval::Plain,
            health: HealthScore::from_failure(probability),
            anomaly: 0.0,
            anomalies: Vec::new(),
            basis: if rests_on_passage { Basis::FirstPassage } else { Basis::Prior },
            drivers: drivers.to_vec(),
            outlooks: Vec::new(),
            exceeds: false,
            curve: Vec::new(),
        }
    }

    /// The hazard of one metric, if it has a limit whose crossing is a failure, enough fresh samples, and anything to say.
    fn opinion<'a>(
        &self,
        metric: &'a MetricWindow,
        blank: &Curve,
        values: &mut Vec<f64>,
    ) -> Option<Opinion<'a>> {
        let limit = metric.limit.filter(|l| l.is_finite() && metric.kind.fails())?;
        let (age, newest) = metric.latest()?;
        if age > self.max_gap_steps {
            return None;
        }
        let scale = metric.kind.length(limit, newest);
        // From here on it rises towards its limit.
        let limit = metric.kind.sign() * limit;
        let even = Course::of_even(metric, scale, values);
        if even.as_ref().is_some_and(|course| course.is_negligible(limit, blank.reach_s())) {
            return None;
        }
        let newest = Newest::of(metric);
        let course = match even {
            Some(course) => course.with(newest.samples()),
            None => Course::new(newest.samples(), scale)
                .filter(|course| !course.is_negligible(limit, blank.reach_s()))?,
        };
        let mixture = course.mixture();
        let mut parts = Parts::of(&mixture, limit, self.doubt, None);
        // Teeth make nothing likelier.
        if parts.most_within(blank.reach_s()) < NEGLIGIBLE {
            return None;
        }
        if let Some(teeth) = course.teeth().filter(|_| !mixture.trends.is_empty()) {
            parts = Parts::of(&mixture, limit, self.doubt, Some(teeth));
        }
        let mut probabilities = parts.probabilities(blank.times_s()).into_iter();
        let curve = blank.clone().with_probabilities(|_| probabilities.next().unwrap_or(f64::NAN));
        let trend = mixture.trends.iter().copied().find(|t| t.drift > 0.0 && t.weight > 0.3);
        Some(Opinion { metric, curve, level: trend.map_or(mixture.level, |t| t.level), trend })
    }
}

/// The newest samples of a metric that are no gaps, in seconds before its end, oldest first: as many as matter. Upwards is towards its limit.
struct Newest {
    samples: [(f64, f64); LONGEST],
    begin: usize,
}

impl Newest {
    fn of(metric: &MetricWindow) -> Self {
        let mut newest = Self { samples: [(0.0, 0.0); LONGEST], begin: LONGEST };
        let end = metric.samples.last().map_or(0, |s| s.at.unix_ms());
        for sample in metric.samples.iter().rev() {
            let Some(value) = sample.value.filter(|v| v.is_finite()) else { continue };
            let Some(place) = newest.begin.checked_sub(1) else { break };
            let age_s = end.saturating_sub(sample.at.unix_ms()) as f64 / 1_000.0;
            newest.samples[place] = (-age_s, metric.kind.sign() * value);
            newest.begin = place;
        }
        newest
    }

    fn samples(&self) -> &[(f64, f64)] {
        &self.samples[self.begin..]
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

impl Part {
    fn probability_within(&self, t: f64) -> f64 {
        first_passage::probability_within(t, self.distance, self.drift, self.variance)
    }
}

struct Parts {
    parts: Vec<Part>,
    doubt: f64,
}

impl Parts {
    fn of(mixture: &TrendMixture, limit: f64, doubt: f64, teeth: Option<Teeth>) -> Self {
        let mut parts = Vec::new();
        let mut still = 1.0;
        for trend in &mixture.trends {
            still -= trend.weight;
            // A tooth of a sawtooth most likely ends where those before it did, short of the limit: it counts for nothing then.
            let tooth = teeth.filter(|_| trend.drift > 0.0);
            let weight = trend.weight * tooth.map_or(1.0, |teeth| teeth.goes_beyond(trend.level));
            for z in DRIFT_NODES {
                parts.push(Part {
                    weight: weight / DRIFT_NODES.len() as f64,
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

    /// The probability that the limit is reached within each of some times, which ascend.
    fn probabilities(&self, times_s: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; times_s.len()];
        for part in &self.parts {
            // The later, the likelier: what has no probability by then has none before.
            for (t, sum) in times_s.iter().zip(&mut sums).rev() {
                let p = part.probability_within(*t);
                if p == 0.0 {
                    break;
                }
                let lasting = if part.distance <= 0.0 { 1.0 } else { self.still_going(part, *t) };
                *sum += part.weight * p * lasting;
            }
        }
        sums
    }

    /// No less than the probability within any time up to this one: as if every trend went on for ever.
    fn most_within(&self, t: f64) -> f64 {
        self.parts.iter().map(|part| part.weight * part.probability_within(t)).sum()
    }

    /// The probability that the trend goes on until it has crossed (or until `t`, if that is sooner).
    fn still_going(&self, part: &Part, t: f64) -> f64 {
        if part.seen_s.is_infinite() {
            return 1.0;
        }
        let arrival = if part.drift > 0.0 { (part.distance / part.drift).min(t) } else { t };
        let share = part.seen_s / (part.seen_s + arrival);
        // The same but for rounding, and a power costs more than all else here.
        if self.doubt == 0.5 { share.sqrt() } else { share.powf(self.doubt) }
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
    let (sign, depletes) = (opinion.metric.kind.sign(), opinion.metric.kind == MetricKind::Depletable);
    let between = if depletes { "left, must stay above" } else { "of" };
    let mut text = format!("{} {between} {}", quantity(sign * opinion.level, unit), quantity(limit, unit));
    if let Some(trend) = opinion.trend {
        let sign = if sign * trend.drift >= 0.0 { '+' } else { '−' };
        text.push_str(&format!(
            ", {sign}{}/s for {:.0} s",
            quantity(trend.drift.abs(), unit),
            trend.seconds.max(1.0)
        ));
    }
    text
}

/// A value with its unit, for people.
#[must_use]
pub fn quantity(value: f64, unit: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normal::quantile;

    #[test]
    fn the_nodes_are_the_midpoints_of_equal_slices() {
        for (n, node) in DRIFT_NODES.iter().enumerate() {
            assert!((quantile((n as f64 + 0.5) / DRIFT_NODES.len() as f64) - node).abs() < 1e-9);
        }
    }
}
