//! Rules that anybody can write into a monitoring system: what a model has to beat.

use forefend_domain::{Family, MetricKind, MetricWindow, Windows};

/// The metrics that a rule is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    /// Every metric that has a limit.
    All,
    /// Resources alone: latency and errors touch their limits in passing, resources do so once.
    Resources,
}

impl Among {
    /// Both.
    pub const ALL: [Self; 2] = [Self::All, Self::Resources];

    fn has(self, metric: &MetricWindow) -> bool {
        match self {
            Self::All => true,
            Self::Resources => metric.family == Family::Saturation,
        }
    }
}

/// The metric whose newest value is the largest share of its limit, with that share; a static threshold is set on it.
#[must_use]
pub fn fullest(windows: &Windows, among: Among) -> Option<(f64, &MetricWindow)> {
    let filled = limited(windows, among).filter_map(|(metric, limit)| {
        let (_, value) = metric.latest()?;
        let share = match metric.kind {
            // As such rules are written of what is left.
            MetricKind::Depletable if value > limit => limit.max(0.0) / value.max(f64::MIN_POSITIVE),
            MetricKind::Depletable => 1.0,
            _ => value / limit,
        };
        Some((share, metric))
    });
    filled.max_by(|a, b| a.0.total_cmp(&b.0))
}

/// The metric that a straight line through its newest `past` steps takes to its limit first, with how many steps that takes: as Prometheus'
/// `predict_linear` would be used. Infinite for a line that never gets there; `None` where no line can be laid.
#[must_use]
pub fn soonest(windows: &Windows, among: Among, past: usize) -> Option<(f64, &MetricWindow)> {
    let lines = limited(windows, among)
        .filter_map(|(metric, limit)| Some((steps_to_limit(metric, limit, past)?, metric)));
    lines.min_by(|a, b| a.0.total_cmp(&b.0))
}

fn limited(windows: &Windows, among: Among) -> impl Iterator<Item = (&MetricWindow, f64)> {
    windows.metrics.values().filter(move |metric| among.has(metric)).filter_map(|metric| {
        let depletes = metric.kind == MetricKind::Depletable;
        let limit = metric.limit.filter(|limit| limit.is_finite() && (*limit > 0.0 || depletes))?;
        Some((metric, limit))
    })
}

/// Steps until the line of least squares through the newest `past` steps is at the limit: 0 where it is already, infinite where it does not
/// go there. `None` with fewer than three values.
fn steps_to_limit(metric: &MetricWindow, limit: f64, past: usize) -> Option<f64> {
    let begin = metric.samples.len().saturating_sub(past);
    let points: Vec<(f64, f64)> = (0i32..)
        .zip(&metric.samples[begin..])
        .filter_map(|(i, sample)| Some((f64::from(i), metric.kind.sign() * sample.value?)))
        .collect();
    let n = points.len() as f64;
    if points.len() < 3 {
        return None;
    }
    let (mx, my) = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let sxx: f64 = points.iter().map(|p| (p.0 - mx).powi(2)).sum();
    let slope = points.iter().map(|p| (p.0 - mx) * (p.1 - my)).sum::<f64>() / sxx;
    let now = my + slope * (points.last()?.0 - mx);
    let left = (metric.kind.sign() * limit - now).max(0.0);
    Some(if left == 0.0 {
        0.0
    } else if slope > 0.0 {
        left / slope
    } else {
        f64::INFINITY
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use forefend_domain::{CellId, MetricName, Sample, Timestamp};

    use super::*;

    fn windows(values: &[f64], limit: Option<f64>, family: Family) -> Windows {
        let at = |n: usize| Timestamp::from_unix_ms(1_000_000 + 500 * n as u64);
        let name = MetricName::new("m");
        let samples = values.iter().enumerate().map(|(n, v)| Sample { at: at(n), value: Some(*v) }).collect();
        let metric = MetricWindow {
            name: name.clone(),
            family,
            kind: MetricKind::Exhaustible,
            unit: String::new(),
            limit,
            samples,
        };
        Windows {
            cell: CellId::new("a").unwrap(),
            at: at(values.len()),
            step: Duration::from_millis(500),
            metrics: BTreeMap::from([(name, metric)]),
        }
    }

    #[test]
    fn a_threshold_sees_the_newest_value_as_a_share_of_the_limit() {
        let saturation = windows(&[9.0, 1.0, 3.0], Some(4.0), Family::Saturation);
        assert_eq!(fullest(&saturation, Among::Resources).map(|(share, _)| share), Some(0.75));
        assert_eq!(fullest(&windows(&[3.0], None, Family::Saturation), Among::All), None);
        let latency = windows(&[9.0, 1.0, 3.0], Some(4.0), Family::Latency);
        assert_eq!(fullest(&latency, Among::Resources), None);
        assert_eq!(fullest(&latency, Among::All).map(|(share, _)| share), Some(0.75));
    }

    #[test]
    fn a_line_says_in_how_many_steps_the_limit_is_reached() {
        let steps = |values: &[f64]| {
            soonest(&windows(values, Some(43.0), Family::Saturation), Among::All, 10).map(|(steps, _)| steps)
        };
        let rising: Vec<f64> = (0..20).map(f64::from).collect();
        assert!((steps(&rising).unwrap() - 24.0).abs() < 1e-9);
        let falling: Vec<f64> = (0..20).rev().map(f64::from).collect();
        assert_eq!(steps(&falling), Some(f64::INFINITY));
        assert_eq!(steps(&[50.0; 5]), Some(0.0));
        assert_eq!(steps(&[1.0, 2.0]), None);
    }

    #[test]
    fn what_runs_out_is_nearest_its_limit_where_least_is_left() {
        let left = |values: &[f64], limit| {
            let mut windows = windows(values, Some(limit), Family::Saturation);
            windows.metrics.values_mut().for_each(|metric| metric.kind = MetricKind::Depletable);
            windows
        };
        let falling = left(&[9.0, 8.0, 7.0, 6.0], 2.0);
        assert_eq!(soonest(&falling, Among::All, 4).map(|(steps, _)| steps), Some(4.0));
        assert_eq!(fullest(&falling, Among::All).map(|(share, _)| share), Some(2.0 / 6.0));
        assert_eq!(
            fullest(&left(&[1.0, 0.0], 0.0), Among::All).map(|(share, _)| share),
            Some(1.0),
            "it is gone"
        );
        let growing = left(&[6.0, 7.0, 8.0, 9.0], 0.0);
        assert_eq!(soonest(&growing, Among::All, 4).map(|(steps, _)| steps), Some(f64::INFINITY));
        assert_eq!(soonest(&left(&[3.0, 2.0, 1.0, 0.0], 0.0), Among::All, 4).map(|(s, _)| s), Some(0.0));
    }
}
