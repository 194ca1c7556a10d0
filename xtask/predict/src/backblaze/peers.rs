//! What one would do without a model: thresholds, straight lines, first passages.

use forefend_learn::evaluate::quantile;
use forefend_predict::first_passage::probability_within;

use super::{
    drives::{DAY_H, Drive, TELLING},
    looks::{HORIZON_H, Look},
};

/// A straight line goes through the value now and that of so long ago.
const LINE_H: f64 = 30.0 * DAY_H;
/// Drift and trembling are those of so long.
const PATH_H: f64 = 90.0 * DAY_H;
/// A limit is what so many looks of the training part are below of.
const BELOW: f64 = 0.99;

/// The provider's own rule as a score: how many of the telling attributes are above zero.
pub(super) fn static_threshold(drive: &Drive, hour: f64) -> usize {
    TELLING.iter().filter(|i| value(drive, hour, **i).is_some_and(|v| v > 0.0)).count()
}

/// The share of failures for each score of [`static_threshold`], of looks whose outcome is known.
pub(super) fn static_rates(looks: &[Look], drives: &[Drive]) -> [f64; TELLING.len() + 1] {
    let mut counts = [[0.0f64; 2]; TELLING.len() + 1];
    for look in looks.iter().filter(|look| look.drawn) {
        if let Some(failed) = look.outcome() {
            counts[static_threshold(&drives[look.drive], look.hour)][usize::from(failed)] += 1.0;
        }
    }
    counts.map(|[well, failed]| failed / (well + failed).max(1.0))
}

/// What Prometheus's `predict_linear` would say, as a score: the largest value that a telling attribute has in a horizon from now if it
/// goes on straight.
pub(super) fn predict_linear(drive: &Drive, hour: f64) -> f64 {
    let reached = TELLING.iter().filter_map(|i| {
        let now = value(drive, hour, *i)?;
        let before = value(drive, hour - LINE_H, *i).unwrap_or(now);
        Some((now + (now - before) * HORIZON_H / LINE_H).max(0.0))
    });
    reached.fold(0.0, f64::max)
}

/// For each telling attribute the limit that first passages are computed for; a count, so 1 at least.
pub(super) fn limits(looks: &[Look], drives: &[Drive]) -> [f64; TELLING.len()] {
    TELLING.map(|i| {
        let regular = looks.iter().filter(|look| look.drawn);
        let mut values: Vec<f64> =
            regular.filter_map(|look| value(&drives[look.drive], look.hour, i)).collect();
        values.sort_by(f64::total_cmp);
        quantile(&values, BELOW).unwrap_or(f64::INFINITY).max(1.0)
    })
}

/// How likely a telling attribute reaches its limit within the horizon, as a Brownian motion with the drift and the trembling of its
/// last ninety days; the largest of all.
pub(super) fn first_passage(drive: &Drive, hour: f64, limits: &[f64; TELLING.len()]) -> f64 {
    let Some(at) = drive.at(hour) else { return 0.0 };
    let begun = (hour - PATH_H).max(drive.begins());
    let seen = (hour - begun).max(DAY_H);
    let likely = TELLING.iter().zip(limits).filter_map(|(i, limit)| {
        let now = value(drive, hour, *i)?;
        let (mut rise, mut squares) = (0.0, 0.0);
        for n in (1..=at).rev().take_while(|n| drive.spans[*n].from > begun) {
            let step = f64::from(drive.spans[n].smart[*i] - drive.spans[n - 1].smart[*i]);
            if step.is_finite() {
                rise += step;
                squares += step * step;
            }
        }
        Some(probability_within(HORIZON_H, limit - now, rise / seen, squares / seen))
    });
    likely.fold(0.0, f64::max)
}

/// An attribute at an hour, where it is known.
fn value(drive: &Drive, hour: f64, attribute: usize) -> Option<f64> {
    let value = f64::from(drive.spans[drive.at(hour)?].smart[attribute]);
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::{super::drives::made_up, *};

    const DAYS_60: f64 = 60.0 * DAY_H;

    fn rising() -> Drive {
        let values: Vec<(f64, f32)> = (0u8..70).map(|d| (f64::from(d) * DAY_H, f32::from(d))).collect();
        made_up(&values, 70.0 * DAY_H, false)
    }

    #[test]
    fn thresholds_count_the_attributes_above_zero() {
        let mut drive = made_up(&[(0.0, 0.0), (10.0, 1.0)], 20.0, false);
        assert_eq!([5.0, 15.0].map(|hour| static_threshold(&drive, hour)), [0, 1]);
        drive.spans[1].smart[8] = f32::NAN;
        drive.spans[1].smart[4] = 7.0;
        drive.spans[1].smart[2] = 99.0;
        assert_eq!(static_threshold(&drive, 15.0), 2, "what is unknown or not telling does not count");
    }

    #[test]
    fn a_straight_line_goes_on() {
        assert_eq!(predict_linear(&rising(), DAYS_60), 90.0);
        assert_eq!(predict_linear(&made_up(&[(0.0, 5.0)], 1e6, false), DAYS_60), 5.0);
    }

    #[test]
    fn first_passage_knows_the_limit_and_the_way_there() {
        let mut limits = [f64::INFINITY; TELLING.len()];
        let mut at = |limit| {
            limits[0] = limit;
            first_passage(&rising(), DAYS_60, &limits)
        };
        assert_eq!(at(50.0), 1.0, "it is there");
        assert!(at(75.0) > 0.9 && at(120.0) < 0.1, "{} and {}", at(75.0), at(120.0));
    }

    #[test]
    fn rates_and_limits_are_those_of_the_looks() {
        let drives = [made_up(&[(0.0, 0.0)], 1e5, false), made_up(&[(0.0, 40.0)], 1e5, false)];
        let look = |drive: usize, failed| {
            let left = if failed { 1.0 } else { 1e5 };
            Look { drive, hour: 0.0, at: 0.0, left, failed, weight: 1.0, drawn: true }
        };
        let looks: Vec<Look> = (0..200).map(|n| look(n % 2, n % 8 == 1)).collect();
        let rates = static_rates(&looks, &drives);
        assert_eq!(rates, [0.0, 0.25, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(limits(&looks, &drives), [40.0, 1.0, 1.0, 1.0, 1.0]);
    }
}
