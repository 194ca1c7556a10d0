use forefend_domain::{Family, MetricWindow, Windows};

/// The newest steps over which a level must hold.
pub const HELD_STEPS: usize = 8;
/// The fewest values among them that make a mean.
const LEAST: usize = 4;

/// How full the fullest metric of a family has been for a while and still is: the mean of its newest eight steps, or its newest value if that is less, as a share of its limit.
/// `None` where no metric of the family has a limit and values. A cell that has just recovered holds nothing any more.
///
/// A forecast asks where a metric is going. Shares of errors and tails of latency tremble too much to be going anywhere; what they keep up for some
/// time tells more, and how much a cell that is well keeps up can be read off cells that stayed well, without a failure ever seen.
#[must_use]
pub fn held(windows: &Windows, family: Family) -> Option<f64> {
    fullest(windows, family).map(|(share, _)| share)
}

/// The same, with the metric.
pub(crate) fn fullest(windows: &Windows, family: Family) -> Option<(f64, &MetricWindow)> {
    let of_family = windows.metrics.values().filter(|metric| metric.family == family);
    of_family.filter_map(|metric| Some((share(metric)?, metric))).max_by(|a, b| a.0.total_cmp(&b.0))
}

fn share(metric: &MetricWindow) -> Option<f64> {
    let limit = metric.fills_up_to().filter(|limit| *limit > 0.0)?;
    let newest = metric.samples.len().saturating_sub(HELD_STEPS);
    let known = metric.samples[newest..].iter().filter_map(|s| s.value).filter(|v| v.is_finite());
    let (sum, count) = known.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    let still = metric.latest().map_or(f64::INFINITY, |(_, newest)| newest);
    (count >= LEAST).then(|| (sum / count as f64).min(still) / limit).filter(|share| share.is_finite())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use forefend_domain::{CellId, MetricKind, MetricName, Sample, Timestamp};
    use proptest::prelude::*;

    use super::*;

    /// Name, family, limit and values of a metric.
    type Told<'a> = (&'a str, Family, Option<f64>, Vec<Option<f64>>);

    fn windows(metrics: &[Told<'_>]) -> Windows {
        let at = |n: usize| Timestamp::from_unix_ms(1_000_000 + 500 * n as u64);
        let metrics: BTreeMap<MetricName, MetricWindow> = metrics
            .iter()
            .map(|(name, family, limit, values)| {
                let samples =
                    values.iter().enumerate().map(|(n, v)| Sample { at: at(n), value: *v }).collect();
                let (name, kind) = (MetricName::new(name), MetricKind::Exhaustible);
                let (unit, limit, family) = (String::new(), *limit, *family);
                (name.clone(), MetricWindow { name, family, kind, unit, limit, samples })
            })
            .collect();
        Windows { cell: CellId::new("a").unwrap(), at: at(60), step: Duration::from_millis(500), metrics }
    }

    #[test]
    fn the_fullest_of_a_family_speaks_for_it_and_a_single_peak_does_not() {
        let steady = vec![Some(6.0); 20];
        let mut peak = vec![Some(0.0); 20];
        peak[19] = Some(16.0);
        let windows = windows(&[
            ("a", Family::Errors, Some(10.0), peak),
            ("b", Family::Errors, Some(10.0), steady.clone()),
            ("c", Family::Errors, None, steady.clone()),
            ("d", Family::Latency, Some(5.0), steady),
        ]);
        assert_eq!(held(&windows, Family::Errors), Some(0.6));
        assert_eq!(held(&windows, Family::Latency), Some(1.2));
        assert_eq!(held(&windows, Family::Saturation), None);
    }

    #[test]
    fn of_what_runs_out_nobody_says_how_much_there_was() {
        let mut left = windows(&[("a", Family::Saturation, Some(2.0), vec![Some(6.0); 20])]);
        assert_eq!(held(&left, Family::Saturation), Some(3.0));
        left.metrics.values_mut().for_each(|metric| metric.kind = MetricKind::Depletable);
        assert_eq!(held(&left, Family::Saturation), None);
    }

    #[test]
    fn what_is_over_is_not_held() {
        let mut recovered = vec![Some(9.0); 20];
        recovered[19] = Some(0.5);
        assert_eq!(
            held(&windows(&[("a", Family::Errors, Some(10.0), recovered)]), Family::Errors),
            Some(0.05)
        );
    }

    #[test]
    fn what_is_old_or_hardly_known_says_nothing() {
        let mut gone = vec![Some(9.0); 20];
        gone[15..].fill(None);
        assert_eq!(held(&windows(&[("a", Family::Errors, Some(10.0), gone)]), Family::Errors), None);
        let mut calm = vec![Some(9.0); 20];
        calm[12..].fill(Some(1.0));
        assert_eq!(held(&windows(&[("a", Family::Errors, Some(10.0), calm)]), Family::Errors), Some(0.1));
    }

    proptest! {
        #[test]
        fn the_unit_does_not_matter_and_more_is_never_less(
            values in prop::collection::vec(0.0f64..100.0, 8..40),
            more in 0.0f64..50.0,
            scale in 0.01f64..1e6,
        ) {
            let of = |values: Vec<f64>, limit: f64| {
                let values = values.into_iter().map(Some).collect();
                held(&windows(&[("a", Family::Latency, Some(limit), values)]), Family::Latency).unwrap()
            };
            let one = of(values.clone(), 120.0);
            let scaled = of(values.iter().map(|v| v * scale).collect(), 120.0 * scale);
            prop_assert!((one - scaled).abs() <= 1e-9 * one.max(1.0));
            prop_assert!(of(values.iter().map(|v| v + more).collect(), 120.0) >= one);
        }

        #[test]
        fn what_is_said_is_finite(values in prop::collection::vec(prop::option::of(prop::num::f64::ANY), 0..30), limit in prop::option::of(prop::num::f64::ANY)) {
            let said = held(&windows(&[("a", Family::Errors, limit, values)]), Family::Errors);
            prop_assert!(said.is_none_or(f64::is_finite));
        }
    }
}
