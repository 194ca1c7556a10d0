use std::collections::BTreeMap;

use forefend_domain::{CellId, MetricKind, MetricWindow, Sample};
use proptest::prelude::*;

use super::*;
use crate::{DayZero, Predictor as _};

const DAY: f64 = 86_400.0;
const GIB: f64 = 1_073_741_824.0;
const LIMIT: f64 = 100.0 * GIB;
/// A Monday at midnight.
const BEGIN_S: f64 = 1_699_833_600.0;

fn at(s: f64) -> Timestamp {
    Timestamp::from_unix_ms((s * 1_000.0) as u64)
}

/// Numbers without pattern in [-1, 1].
fn noise(n: usize) -> f64 {
    ((n * 7919 + 104_729) % 1009) as f64 / 504.5 - 1.0
}

/// Every ten minutes of so many days, in GiB.
fn past(days: usize, value: impl Fn(f64) -> f64) -> Vec<(Timestamp, f64)> {
    let instant = |n: usize| n as f64 * 600.0;
    (0..days * 144)
        .map(|n| (at(BEGIN_S + instant(n)), GIB * (value(instant(n) / DAY) + 0.1 * noise(n))))
        .collect()
}

/// Rises by day and rests by night; so many GiB a day.
fn filling(from: f64, a_day: f64) -> impl Fn(f64) -> f64 {
    move |day| from + a_day * day + 1.5 * (day * std::f64::consts::TAU).sin()
}

fn forecast(past: &[(Timestamp, f64)]) -> Option<LimitForecast> {
    let metric = MetricName::new("disk_used_bytes");
    let (family, kind, limit) = (Family::Saturation, MetricKind::Exhaustible, LIMIT);
    let limited = Limited { metric: &metric, family, kind, unit: "bytes", limit, past };
    LimitForecast::of(&limited, Duration::from_secs_f64(3.0 * DAY), 7).unwrap()
}

fn days(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_secs_f64() / DAY)
}

/// The windows of half an hour of a cell whose disk stands still at `used` GiB.
fn windows(now: Timestamp, used: f64, limit: f64) -> Windows {
    let name = MetricName::new("disk_used_bytes");
    let sample = |n: u64| Sample {
        at: Timestamp::from_unix_ms(now.unix_ms() - (359 - n) * 5_000),
        value: Some(used * GIB),
    };
    let metric = MetricWindow {
        name: name.clone(),
        family: Family::Saturation,
        kind: MetricKind::Exhaustible,
        unit: "bytes".into(),
        limit: Some(limit),
        samples: (0..360).map(sample).collect(),
    };
    let metrics = BTreeMap::from([(name, metric)]);
    Windows { cell: CellId::new("a").unwrap(), at: now, step: Duration::from_secs(5), metrics }
}

#[test]
fn a_disk_that_fills_by_day_is_full_on_the_day_that_it_is() {
    // 55 at first and 3 a day: full 15 days later, 5 after the end of what was seen.
    let past = past(10, filling(55.0, 3.0));
    let (newest, _) = *past.last().unwrap();
    let forecast = forecast(&past).unwrap();
    let told = forecast.told(newest).unwrap();
    let (early, middle, late) =
        (days(told.reaches.p10).unwrap(), days(told.reaches.p50).unwrap(), days(told.reaches.p90).unwrap());
    assert!(early <= 5.0 + 0.4 && 5.0 - 0.6 <= late && (middle - 5.0).abs() < 0.7, "{early} {middle} {late}");
    assert!(late - early < 3.0, "{early} to {late}");
    assert!(told.probability.get() > 0.95 && (days(Some(told.seen)).unwrap() - 10.0).abs() < 0.1);
    // Half a day later it is half a day nearer, and after a day and more without a new one nothing is said.
    let later = forecast.told(newest + Duration::from_secs_f64(0.5 * DAY)).unwrap();
    assert!((days(later.reaches.p50).unwrap() - middle + 0.5).abs() < 0.1, "{later:?}");
    assert_eq!(forecast.told(newest + Duration::from_secs_f64(1.1 * DAY)), None);
}

#[test]
fn what_stays_and_what_was_seen_too_shortly_gives_no_outlook() {
    assert_eq!(forecast(&past(10, |day| 60.0 + 2.0 * (day * std::f64::consts::TAU).sin())), None);
    assert_eq!(forecast(&past(10, |day| 80.0 - day)), None);
    assert_eq!(forecast(&past(2, filling(90.0, 3.0))), None);
    assert_eq!(forecast(&[]), None);
    assert_eq!(forecast(&[(at(BEGIN_S), f64::NAN)]), None);
    let metric = MetricName::new("m");
    let backwards = [(at(9.0), 1.0), (at(5.0), 2.0)];
    let (family, kind) = (Family::Custom, MetricKind::Exhaustible);
    let limited = Limited { metric: &metric, family, kind, unit: "", limit: 3.0, past: &backwards };
    assert!(LimitForecast::of(&limited, Duration::ZERO, 1).is_err());
}

#[test]
fn a_forecast_is_told_as_long_as_what_is_seen_agrees() {
    let past = past(10, filling(55.0, 3.0));
    let (newest, used) = *past.last().unwrap();
    let forecasts = [forecast(&past).unwrap()];
    let now = newest + Duration::from_secs(3_600);
    let said = |windows: &Windows| {
        let prediction = DayZero::default().predict(windows, Duration::from_secs(900)).unwrap();
        with_forecasts(prediction, &forecasts, windows).outlooks.len()
    };
    assert_eq!(said(&windows(now, used / GIB, LIMIT)), 1);
    assert_eq!(said(&windows(now, 20.0, LIMIT)), 0, "somebody made room");
    assert_eq!(said(&windows(now, used / GIB, 2.0 * LIMIT)), 0, "the disk was enlarged");
    let mut unknown = windows(now, used / GIB, LIMIT);
    let other = MetricName::new("other");
    unknown.metrics.insert(
        other.clone(),
        MetricWindow { name: other, ..unknown.metrics.values().next().unwrap().clone() },
    );
    let disk = unknown.metrics.get_mut(&MetricName::new("disk_used_bytes")).unwrap();
    disk.samples.iter_mut().for_each(|sample| sample.value = None);
    assert_eq!(said(&unknown), 1, "a value that is missing says nothing against it");
}

#[test]
fn within_a_long_horizon_the_forecast_speaks_where_windows_know_nothing_and_moves_no_traffic() {
    let past = past(10, filling(64.0, 3.0));
    let (newest, used) = *past.last().unwrap();
    let forecasts = [forecast(&past).unwrap()];
    let windows = windows(newest, used / GIB, LIMIT);
    let horizon = Duration::from_secs_f64(3.0 * DAY);
    let before = DayZero::default().predict(&windows, horizon).unwrap();
    let after = with_forecasts(before.clone(), &forecasts, &windows);
    assert!(before.probability.get() < 0.2 && after.probability.get() > 0.5, "{:?}", after.probability);
    assert_eq!((before.basis, after.basis), (Basis::Prior, Basis::Prior));
    assert_eq!(after.drivers[0].metric.as_str(), "disk_used_bytes");
    assert!(after.drivers[0].detail.contains("forecast from 10.0 days"), "{}", after.drivers[0].detail);
    assert!((after.drivers.iter().map(|driver| driver.contribution).sum::<f64>() - 1.0).abs() < 1e-9);
    // With more than a prior to rest on, what is said of the horizon stands; the forecast counts after it.
    let horizon = Duration::from_secs_f64(0.7 * DAY);
    let before = DayZero::default().predict(&windows, horizon).unwrap();
    let known = Prediction { basis: Basis::Calibrated, ..before };
    let after = with_forecasts(known.clone(), &forecasts, &windows);
    assert_eq!((after.probability, &after.drivers), (known.probability, &known.drivers));
    assert!(known.time_to_failure.p10.is_none() && after.time_to_failure.p50.unwrap() > horizon);
    // And where windows foresee a time, it is only told.
    let soon = TimeToFailure { p10: Some(Duration::from_secs(60)), ..TimeToFailure::default() };
    let known = Prediction { time_to_failure: soon, ..known };
    let after = with_forecasts(known.clone(), &forecasts, &windows);
    assert_eq!(after.outlooks.len(), 1);
    assert_eq!(Prediction { outlooks: Vec::new(), ..after }, known);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_curve_with_a_forecast_rises_is_never_lower_and_agrees_with_itself(
        from in 40.0f64..75.0, a_day in 0.5f64..6.0, horizon_h in 0.1f64..200.0, later_h in 0.0f64..20.0,
        basis in prop_oneof![Just(Basis::Prior), Just(Basis::FirstPassage), Just(Basis::Calibrated)],
    ) {
        let past = past(5, filling(from, a_day));
        let (newest, used) = *past.last().unwrap();
        if let Some(forecast) = forecast(&past) {
            let windows = windows(newest + Duration::from_secs_f64(later_h * 3_600.0), used / GIB, LIMIT);
            let horizon = Duration::from_secs_f64(horizon_h * 3_600.0);
            let before = Prediction { basis, ..DayZero::default().predict(&windows, horizon).unwrap() };
            let after = with_forecasts(before.clone(), &[forecast], &windows);
            prop_assert!(after.curve.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
            prop_assert!(before.curve.iter().zip(&after.curve).all(|(b, a)| b.0 == a.0 && a.1 >= b.1 - 1e-12));
            prop_assert!(after.time_to_failure.is_ordered());
            prop_assert_eq!(after.basis, basis);
            prop_assert_eq!(after.health, HealthScore::from_failure(after.probability));
            prop_assert!(basis == Basis::Prior || after.probability == before.probability);
            let read = Curve::at(&after.curve, horizon.as_secs_f64());
            prop_assert!((read - after.probability.get()).abs() < 1e-6, "{read} for {}", after.probability.get());
            for outlook in &after.outlooks {
                prop_assert!(outlook.reaches.is_ordered());
                prop_assert!(outlook.reaches.p10.is_none_or(|t| t <= outlook.within));
            }
        }
    }
}

#[test]
fn free_space_is_gone_on_the_day_that_it_is_and_room_that_was_made_ends_the_forecast() {
    let metric = MetricName::new("disk_free_bytes");
    let used = past(10, filling(55.0, 3.0));
    let free: Vec<(Timestamp, f64)> = used.iter().map(|(at, used)| (*at, LIMIT - used)).collect();
    let (newest, left) = *free.last().unwrap();
    let limited = |limit, past| Limited {
        metric: &metric,
        family: Family::Saturation,
        kind: MetricKind::Depletable,
        unit: "bytes",
        limit,
        past,
    };
    let least = Duration::from_secs_f64(3.0 * DAY);
    let found = LimitForecast::of(&limited(0.0, &free), least, 7).unwrap().unwrap();
    let filling = forecast(&used).unwrap();
    let (free_at, full_at) = (found.told(newest).unwrap(), filling.told(newest).unwrap());
    // One is the other in a mirror; what is drawn for it is not the same.
    let (free_at, full_at) = (days(free_at.reaches.p50).unwrap(), days(full_at.reaches.p50).unwrap());
    assert!((free_at - full_at).abs() < 0.5, "{free_at} and {full_at} days");
    assert!((free_at - 5.0).abs() < 1.0, "{free_at} days");
    // Ten GiB earlier with ten to spare.
    let sooner = LimitForecast::of(&limited(10.0 * GIB, &free), least, 7).unwrap().unwrap();
    let sooner = days(sooner.told(newest).unwrap().reaches.p50).unwrap();
    assert!((sooner - (free_at - 10.0 / 3.0)).abs() < 1.0, "{sooner} days");

    let shown = |left: f64, kind| {
        let mut windows = windows(newest, left / GIB, 0.0);
        let mut shown = windows.metrics.pop_first().unwrap().1;
        (shown.name, shown.kind) = (metric.clone(), kind);
        windows.metrics.insert(metric.clone(), shown);
        windows
    };
    assert!(found.holds(&shown(left, MetricKind::Depletable)));
    assert!(!found.holds(&shown(left + 20.0 * GIB, MetricKind::Depletable)), "somebody made room");
    assert!(!found.holds(&shown(left, MetricKind::Exhaustible)), "it was declared to be something else");
}
