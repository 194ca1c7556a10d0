use proptest::prelude::*;

use super::*;

const DAY: f64 = 86_400.0;
const HOUR: f64 = 3_600.0;

/// Numbers without pattern in [-1, 1].
fn noise(n: usize) -> f64 {
    ((n * 7919 + 104_729) % 1009) as f64 / 504.5 - 1.0
}

/// Every half hour of so many days.
fn half_hours(days: usize, value: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
    (0..days * 48).map(|n| n as f64 * HOUR / 2.0).map(|t| (t, value(t))).collect()
}

fn daily(t: f64) -> f64 {
    (t / DAY * std::f64::consts::TAU).sin()
}

fn fit(points: &[(f64, f64)]) -> Forecast {
    Forecast::fit(points, &Settings::default()).unwrap()
}

/// The instants of the next day.
fn next_day(forecast: &Forecast) -> Vec<f64> {
    (1..=24).map(|n| forecast.newest_s() + f64::from(n) * HOUR).collect()
}

#[test]
fn a_trend_goes_on_and_a_season_comes_back() {
    let truth = |t: f64| 100.0 + 3.0 * t / DAY + 10.0 * daily(t);
    let forecast = fit(&half_hours(10, truth));
    for t in next_day(&forecast) {
        assert!((forecast.at(t) - truth(t)).abs() < 0.5, "{} for {}", forecast.at(t), truth(t));
        assert!((forecast.season(t) - 10.0 * daily(t)).abs() < 0.5);
        assert!((forecast.trend(t) - 100.0 - 3.0 * t / DAY).abs() < 0.5);
    }
    // What never changed, and never was off, is certain.
    let (low, high) = forecast.interval(forecast.newest_s() + HOUR, 0.8);
    assert!(high - low < 1.0, "{low} to {high}");
}

#[test]
fn a_slope_that_changed_is_the_new_one() {
    let truth = |t: f64| if t < 6.0 * DAY { 0.0 } else { 5.0 * (t / DAY - 6.0) };
    let forecast = fit(&half_hours(12, truth));
    let at = forecast.newest_s() + DAY;
    assert!((forecast.at(at) - truth(at)).abs() < 2.0, "{} for {}", forecast.at(at), truth(at));
    assert!((forecast.slope_per_s(at) * DAY - 5.0).abs() < 0.5, "{}", forecast.slope_per_s(at) * DAY);
    let changes = forecast.changes();
    let most = changes.iter().max_by(|a, b| a.by_per_s.total_cmp(&b.by_per_s)).unwrap();
    assert!((most.at_s / DAY - 6.0).abs() < 0.6, "{changes:?}");
    let all: f64 = changes.iter().map(|change| change.by_per_s * DAY).sum();
    assert!((all - 5.0).abs() < 0.7, "{changes:?}");
}

#[test]
fn a_trend_that_never_changed_has_no_changes_to_tell() {
    let forecast =
        fit(&half_hours(10, |t| 3.0 * t / DAY + 2.0 * daily(t) + 0.3 * noise((t / 1_800.0) as usize)));
    assert_eq!(forecast.changes(), []);
    assert_eq!(forecast.seasons_s(), [DAY]);
    let highest =
        (0..48).map(|n| f64::from(n) * HOUR / 2.0).map(|t| forecast.season_of(DAY, t)).fold(0.0, f64::max);
    assert!((highest - 2.0).abs() < 0.3 && forecast.season_of(7.0 * DAY, 5.0) == 0.0, "{highest}");
}

#[test]
fn weekends_differ_from_weekdays() {
    let weekend = |t: f64| (t / DAY).rem_euclid(7.0) >= 5.0;
    let truth = |t: f64| if weekend(t) { 20.0 } else { 60.0 + 20.0 * daily(t) };
    let forecast = fit(&half_hours(40, truth));
    for hours in 0..7 * 24 {
        let at = forecast.newest_s() + f64::from(hours) * HOUR;
        let middle = ((at / DAY).fract() - 0.5).abs() < 0.3;
        if middle {
            assert!((forecast.at(at) - truth(at)).abs() < 8.0, "{} for {}", forecast.at(at), truth(at));
        }
    }
}

#[test]
fn events_come_back_where_they_are_announced() {
    let backups: Vec<(f64, f64)> = [1.3, 4.6, 8.2, 13.4].map(|day| (day * DAY, (day + 0.1) * DAY)).to_vec();
    let event = Event { name: "backup".into(), windows_s: backups.clone() };
    let inside = |t: f64| event.holds(t);
    let points = half_hours(12, |t| 50.0 + 5.0 * daily(t) + if inside(t) { 30.0 } else { 0.0 });
    let settings = Settings { events: vec![event.clone()], ..Settings::default() };
    let forecast = Forecast::fit(&points, &settings).unwrap();
    let during = 13.45 * DAY;
    assert!((forecast.events(during) - 30.0).abs() < 3.0, "{}", forecast.events(during));
    assert!((forecast.at(during) - 80.0 - 5.0 * daily(during)).abs() < 4.0);
    assert_eq!(forecast.events(13.6 * DAY), 0.0);
}

#[test]
fn outliers_do_not_move_it() {
    let truth = |t: f64| 50.0 + 5.0 * daily(t);
    let clean = half_hours(8, truth);
    let mut hit = clean.clone();
    for n in (7..hit.len() - 5).step_by(29) {
        hit[n].1 += 400.0;
    }
    let forecast = fit(&hit);
    for t in next_day(&forecast) {
        assert!((forecast.at(t) - truth(t)).abs() < 2.0, "{} for {}", forecast.at(t), truth(t));
    }
}

#[test]
fn gaps_are_no_values() {
    let truth = |t: f64| 50.0 + t / DAY + 5.0 * daily(t) + 0.3 * noise((t / HOUR) as usize);
    let whole = half_hours(10, truth);
    let mut broken = whole.clone();
    broken.iter_mut().skip(100).take(60).for_each(|point| point.1 = f64::NAN);
    let without: Vec<(f64, f64)> = broken.iter().copied().filter(|point| !point.1.is_nan()).collect();
    assert_eq!(fit(&broken), fit(&without));
    let (whole, broken) = (fit(&whole), fit(&broken));
    for t in next_day(&whole) {
        assert!((whole.at(t) - broken.at(t)).abs() < 0.7, "{} and {}", whole.at(t), broken.at(t));
    }
}

#[test]
fn what_is_off_stays_off_for_as_long_as_it_used_to() {
    // A walk that comes back to 0, slowly.
    let mut off = 0.0;
    let mut points: Vec<(f64, f64)> = (0..2_000)
        .map(|n| {
            off = 0.97 * off + noise(n * 31 % 1_013);
            (n as f64 * 600.0, 50.0 + off)
        })
        .collect();
    let end = points.last().unwrap().0;
    for n in 1..=20 {
        points.push((end + f64::from(n) * 600.0, 62.0));
    }
    let forecast = fit(&points);
    let ahead = |seconds: f64| forecast.at(forecast.newest_s() + seconds);
    assert!(ahead(600.0) > 57.0, "{}", ahead(600.0));
    assert!(ahead(2.0 * DAY) < 55.0, "{}", ahead(2.0 * DAY));
    let width = |seconds: f64| {
        let (low, high) = forecast.interval(forecast.newest_s() + seconds, 0.8);
        high - low
    };
    assert!(width(600.0) < width(DAY), "{} and {}", width(600.0), width(DAY));
}

#[test]
fn intervals_hold_what_they_promise_of_noise() {
    let value = |n: usize| 50.0 + 5.0 * daily(n as f64 * HOUR / 2.0) + 3.0 * noise(n * 17 % 1_019);
    let points: Vec<(f64, f64)> = (0..960).map(|n| (n as f64 * HOUR / 2.0, value(n))).collect();
    let (past, coming) = points.split_at(720);
    let forecast = fit(past);
    let inside = coming.iter().filter(|(t, value)| {
        let (low, high) = forecast.interval(*t, 0.8);
        (low..=high).contains(value)
    });
    let share = inside.count() as f64 / coming.len() as f64;
    assert!((0.7..0.9).contains(&share), "{share}");
}

#[test]
fn a_disk_that_fills_up_by_day_and_rests_by_night_is_full_when_it_is() {
    // 40 at first, 4 more a day, 3 up and down with the day: 100 is reached near the end of day 15.
    let value = |n: usize| {
        let t = n as f64 * HOUR / 2.0;
        40.0 + 4.0 * t / DAY + 3.0 * daily(t) + 0.2 * noise(n)
    };
    let points: Vec<(f64, f64)> = (0..12 * 48).map(|n| (n as f64 * HOUR / 2.0, value(n))).collect();
    let forecast = fit(&points);
    let full = forecast.crossing(100.0, true, 6.0 * DAY, 400, 7);
    let truth = (0..).find(|n| value(*n) >= 100.0).unwrap() as f64 * HOUR / 2.0 - forecast.newest_s();
    let median = full.quantile(0.5).unwrap();
    assert!((median - truth).abs() < 0.5 * DAY, "{} days for {}", median / DAY, truth / DAY);
    // Who does not cross at the height of a day crosses at that of the next.
    assert!(full.within(truth - 0.9 * DAY) < 0.05 && full.within(truth + DAY) > 0.95, "{full:?}");
    assert!(full.crossed.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
    assert_eq!(full, forecast.crossing(100.0, true, 6.0 * DAY, 400, 7));
    assert_ne!(full, forecast.crossing(100.0, true, 6.0 * DAY, 400, 8));
    // The other way, and never.
    assert_eq!(forecast.crossing(0.0, false, 6.0 * DAY, 400, 7).within(6.0 * DAY), 0.0);
    assert_eq!(forecast.crossing(100.0, false, 6.0 * DAY, 400, 7).within(1.0), 0.0);
    assert_eq!(forecast.crossing(100.0, false, 6.0 * DAY, 400, 7).within(DAY), 1.0);
}

/// What the package prophet 1.5.0 says of the same four weeks of hours, as it comes: hours ahead, forecast, lower and upper end of 80%.
const GOLDEN: [(f64, f64, f64, f64); 11] = [
    (1.0, 119.109, 116.796, 121.335),
    (4.0, 125.976, 123.886, 128.177),
    (7.0, 128.703, 126.532, 130.933),
    (10.0, 125.395, 123.266, 127.675),
    (13.0, 118.13, 115.973, 120.381),
    (16.0, 110.58, 108.391, 112.819),
    (19.0, 107.2, 105.027, 109.314),
    (22.0, 109.693, 107.36, 111.867),
    (24.0, 113.825, 111.581, 116.058),
    (36.0, 116.382, 114.258, 118.706),
    (48.0, 108.489, 106.344, 110.733),
];

#[test]
fn where_prophet_is_right_it_says_the_same() {
    let week = |t: f64| (t / DAY / 7.0 * std::f64::consts::TAU).cos();
    let value = |n: usize| {
        let t = n as f64 * HOUR;
        let trend = 2.0 * (t / DAY).min(14.0) - (t / DAY - 14.0).max(0.0);
        100.0 + trend + 10.0 * daily(t) + 5.0 * week(t) + 3.0 * noise(n * 17 % 1_019)
    };
    let points: Vec<(f64, f64)> = (0..28 * 24).map(|n| (n as f64 * HOUR, value(n))).collect();
    let forecast = fit(&points);
    for (hours, said, low, high) in GOLDEN {
        let at = forecast.newest_s() + hours * HOUR;
        // A third of the noise.
        assert!((forecast.at(at) - said).abs() < 1.0, "{hours}: {} for {said}", forecast.at(at));
        let (ours_low, ours_high) = forecast.interval(at, 0.8);
        // Theirs are not widened for what a fit did not see coming: here the day on which the slope changed.
        let wide = (ours_high - ours_low) / (high - low) / forecast.widen;
        assert!((0.75..1.25).contains(&wide), "{hours}: {wide} times as wide");
    }
}

#[test]
fn levels_that_wander_from_day_to_day_are_held_as_often_as_promised() {
    let (mut narrow, mut wide, mut all) = (0, 0, 0);
    for seed in 0..40 {
        // A level that is another on each day, by up to as much as the day's own round.
        let mut level = 0.0;
        let levels: Vec<f64> = (0..15)
            .map(|day| {
                level += 10.0 * noise(seed * 389 + day * 61 + seed * day);
                level
            })
            .collect();
        let value = |n: usize| 50.0 + levels[n / 24] + 5.0 * daily(n as f64 * HOUR) + noise(n * 17 + seed);
        let points: Vec<(f64, f64)> = (0..15 * 24).map(|n| (n as f64 * HOUR, value(n))).collect();
        let (past, coming) = points.split_at(14 * 24);
        let inside = |forecast: &Forecast| {
            let held = coming.iter().filter(|(t, value)| {
                let (low, high) = forecast.interval(*t, 0.8);
                (low..=high).contains(value)
            });
            held.count()
        };
        narrow += inside(&Forecast::narrow(past, &Settings::default()).unwrap());
        wide += inside(&fit(past));
        all += coming.len();
    }
    let (narrow, wide) = (narrow as f64 / all as f64, wide as f64 / all as f64);
    assert!(narrow < wide - 0.05 && (0.7..0.92).contains(&wide), "{narrow} and {wide}");
}

#[test]
fn noise_needs_no_widening_and_too_little_past_gives_none() {
    let noisy = fit(&half_hours(20, |t| 50.0 + 5.0 * daily(t) + 3.0 * noise((t / 1_800.0) as usize * 17)));
    assert!((0.8..1.3).contains(&noisy.widen), "{}", noisy.widen);
    assert_eq!(fit(&half_hours(1, |t| t)).widen, 1.0);
}

#[test]
fn too_little_and_what_is_out_of_order_are_told() {
    let few = half_hours(1, |_| 1.0)[..9].to_vec();
    let told = Forecast::fit(&few, &Settings::default()).unwrap_err();
    assert_eq!(told, FitError::TooFew { have: 9, need: 10 });
    let mut points = half_hours(2, |t| t);
    points[7].0 = points[6].0;
    let told = Forecast::fit(&points, &Settings::default()).unwrap_err();
    assert_eq!(told, FitError::NotAscending { point: 7 });
    points[3].0 = f64::NAN;
    let told = Forecast::fit(&points, &Settings::default()).unwrap_err();
    assert_eq!(told, FitError::NotAscending { point: 3 });
}

#[test]
fn a_forecast_survives_being_written_down() {
    let forecast = fit(&half_hours(5, |t| 50.0 + 5.0 * daily(t) + noise((t / 1_800.0) as usize)));
    let text = serde_json::to_string(&forecast).unwrap();
    assert_eq!(serde_json::from_str::<Forecast>(&text).unwrap(), forecast);
}

fn series() -> impl Strategy<Value = Vec<(f64, f64)>> {
    (prop::collection::vec((1.0f64..7_200.0, -50f64..50.0), 12..150), 0f64..30.0, -2f64..2.0).prop_map(
        |(steps, size, slope)| {
            let mut t = 0.0;
            let point = |(step, off): (f64, f64)| {
                t += step;
                (t, size * daily(t) + slope * t / HOUR + off)
            };
            steps.into_iter().map(point).collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn quantiles_are_ordered_and_finite(points in series(), ahead in 0.0f64..30.0) {
        let forecast = fit(&points);
        let at = forecast.newest_s() + ahead * DAY;
        let quantiles = [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99].map(|p| forecast.quantile(at, p));
        prop_assert!(quantiles.iter().all(|q| q.is_finite()), "{quantiles:?}");
        prop_assert!(quantiles.windows(2).all(|pair| pair[0] <= pair[1]), "{quantiles:?}");
        prop_assert_eq!(forecast.at(at), forecast.quantile(at, 0.5));
        let (low, high) = forecast.interval(at, 0.8);
        let (wide_low, wide_high) = forecast.interval(at, 0.9);
        prop_assert!(wide_low <= low && high <= wide_high);
    }

    #[test]
    fn scale_and_level_do_not_matter(points in series(), scale in 1e-3f64..1e6, level in -1e3f64..1e3) {
        let other: Vec<(f64, f64)> = points.iter().map(|(t, v)| (*t, level * scale + scale * v)).collect();
        let (one, other) = (fit(&points), fit(&other));
        let unit = points.iter().map(|point| point.1.abs()).fold(0.0, f64::max);
        for hours in [1.0, 24.0, 100.0] {
            let at = one.newest_s() + hours * HOUR;
            let (a, b) = (one.at(at), other.at(at) / scale - level);
            prop_assert!((a - b).abs() < 1e-4 * (unit + level.abs()), "{a} and {b}");
        }
    }

    #[test]
    fn whatever_comes_in_nothing_panics(
        points in prop::collection::vec((any::<f64>(), any::<f64>()), 0..40),
        at in any::<f64>(),
    ) {
        let mut points = points;
        points.retain(|point| point.0.is_finite());
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points.dedup_by(|a, b| a.0 == b.0);
        if let Ok(forecast) = Forecast::fit(&points, &Settings::default()) {
            let _ = forecast.quantile(at, 0.9);
            let _ = forecast.crossing(1.0, true, 1e4, 2, 1);
        }
    }
}
