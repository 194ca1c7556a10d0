use std::time::Duration;

use forefend_domain::{CellId, Family, MetricKind, MetricName, Timestamp};
use forefend_telemetry::{MetricSpec, SeriesStore, StoreOptions, series::Recorded};
use proptest::prelude::*;

fn spec(name: &str, counter: bool) -> MetricSpec {
    let (family, kind) = (Family::Custom, MetricKind::Unbounded);
    MetricSpec { name: MetricName::new(name), family, kind, unit: String::new(), limit: None, counter }
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(ms)
}

fn cell() -> CellId {
    CellId::new("shop-1").unwrap()
}

fn store(length: usize) -> SeriesStore {
    SeriesStore::new(StoreOptions { length, rate_lookback: 4, ..StoreOptions::default() })
}

fn values(store: &mut SeriesStore, now: u64) -> Vec<Option<f64>> {
    let windows = store.windows(at(now));
    windows[0].metrics.values().next().unwrap().samples.iter().map(|s| s.value).collect()
}

/// Steps of 1 s; the window shows steps that have ended, each with its last observation.
#[test]
fn a_gauge_shows_the_last_observation_of_each_step_and_gaps_where_there_is_none() {
    let mut store = store(4);
    let gauge = spec("depth", false);
    for (ms, value) in [
        (100_200, Some(1.0)),
        (100_900, Some(2.0)),
        (101_500, Some(f64::NAN)),
        (103_000, Some(4.0)),
        (103_001, Some(5.0)),
    ] {
        store.record(&cell(), &gauge, at(ms), value).unwrap();
    }
    // 103 000 still belongs to the step that ends there.
    assert_eq!(values(&mut store, 103_999), [None, Some(2.0), None, Some(4.0)]);
    assert_eq!(values(&mut store, 104_000), [Some(2.0), None, Some(4.0), Some(5.0)]);
    assert_eq!(values(&mut store, 200_000), [None; 4]);
    // The clock stepped back: the answer does not.
    assert_eq!(store.windows(at(103_000))[0].at, at(200_000));
}

#[test]
fn a_counter_shows_rates_and_a_reset_or_a_marked_gap_is_a_gap() {
    let mut store = store(8);
    let counter = spec("requests_total", true);
    for (second, value) in [
        (1, Some(10.0)), // nothing before it
        (2, Some(30.0)), // 20/s
        // 3: nothing
        (4, Some(40.0)),  // 10 in 2 s
        (5, Some(3.0)),   // began anew
        (6, Some(4.0)),   // 1/s
        (7, None),        // stale
        (8, Some(100.0)), // nothing to compare with
    ] {
        store.record(&cell(), &counter, at(100_000 + second * 1_000), value).unwrap();
    }
    let expected = [None, Some(20.0), None, Some(5.0), None, Some(1.0), None, None];
    assert_eq!(values(&mut store, 108_000), expected);
}

#[test]
fn late_samples_find_their_place_and_ancient_ones_are_counted() {
    let mut store = store(4);
    let gauge = spec("depth", false);
    let mut record = |ms, value| store.record(&cell(), &gauge, at(ms), Some(value)).unwrap();
    assert_eq!(record(200_000, 9.0), Recorded::Kept);
    assert_eq!(record(198_000, 7.0), Recorded::Kept);
    assert_eq!(record(197_500, 6.0), Recorded::Superseded);
    assert_eq!(record(198_000, 8.0), Recorded::Kept);
    assert_eq!(record(100_000, 1.0), Recorded::TooOld);
    assert_eq!(values(&mut store, 200_000), [None, Some(8.0), None, Some(9.0)]);
    assert_eq!(store.dropped_too_old(), 1);
}

#[test]
fn one_observation_from_the_far_future_does_not_shut_out_the_rest() {
    let mut store = store(4);
    let gauge = spec("depth", false);
    store.record(&cell(), &gauge, at(100_000), Some(1.0)).unwrap();
    store.windows(at(100_000));
    store.record(&cell(), &gauge, at(u64::MAX - 1), Some(2.0)).unwrap();
    assert_eq!(store.record(&cell(), &gauge, at(101_000), Some(3.0)), Ok(Recorded::Kept));
    assert_eq!(values(&mut store, 101_000)[3], Some(3.0));
}

#[test]
fn limits_are_carried_along_until_they_change() {
    let mut store = store(4);
    let name = MetricName::new("pool");
    let limit = |store: &mut SeriesStore| store.windows(at(100_000))[0].metrics[&name].limit;
    let with = |limit| MetricSpec { limit, ..spec("pool", false) };
    for (told, expected) in [
        (Some(10.0), Some(10.0)),
        (None, Some(10.0)),
        (Some(f64::INFINITY), Some(10.0)),
        (Some(20.0), Some(20.0)),
    ] {
        store.record(&cell(), &with(told), at(100_000), Some(1.0)).unwrap();
        assert_eq!(limit(&mut store), expected);
    }
    let exhaustible = MetricSpec { kind: MetricKind::Exhaustible, ..with(Some(30.0)) };
    store.record(&cell(), &exhaustible, at(100_000), Some(1.0)).unwrap();
    assert_eq!(limit(&mut store), Some(30.0));
    // The limit was lifted: the kind says so.
    store.record(&cell(), &with(None), at(100_000), Some(1.0)).unwrap();
    assert_eq!(limit(&mut store), None);
    assert!(store.set_limit(&cell(), &name, Some(5.0)));
    assert_eq!(limit(&mut store), Some(5.0));
    assert!(store.set_limit(&cell(), &name, None));
    assert_eq!(limit(&mut store), None);
    assert!(!store.set_limit(&cell(), &MetricName::new("other"), None));
}

#[test]
fn memory_is_bounded_and_series_that_ended_make_room() {
    let options = StoreOptions {
        length: 4,
        rate_lookback: 4,
        max_cells: 2,
        max_series_per_cell: 3,
        ..StoreOptions::default()
    };
    let mut store = SeriesStore::new(options);
    let record = |store: &mut SeriesStore, cell: &str, metric: usize, ms| {
        store.record(&CellId::new(cell).unwrap(), &spec(&format!("m{metric}"), false), at(ms), Some(1.0))
    };
    for metric in 0..3 {
        record(&mut store, "a", metric, 100_000).unwrap();
    }
    let refusal = record(&mut store, "a", 3, 100_000).unwrap_err().to_string();
    assert!(
        refusal.contains("cell a") && refusal.contains("`m3`") && refusal.contains("bounded at 3"),
        "{refusal}"
    );
    record(&mut store, "b", 0, 100_000).unwrap();
    assert!(record(&mut store, "c", 0, 100_000).unwrap_err().to_string().contains("cells are bounded at 2"));
    assert_eq!((store.series_count(), store.refused()), (4, 2));
    // Much later all of that is over.
    record(&mut store, "a", 3, 200_000).unwrap();
    record(&mut store, "c", 0, 200_000).unwrap();
    assert_eq!(store.series_count(), 2);
}

/// Observations with distinct times, as pairs of milliseconds and value.
fn observations() -> impl Strategy<Value = Vec<(u64, Option<f64>)>> {
    let value = prop_oneof![4 => (0u32..100).prop_map(|v| Some(f64::from(v))), 1 => Just(None), 1 => Just(Some(f64::NAN))];
    prop::collection::btree_map(1u64..30_000, value, 0..60)
        .prop_map(|all| all.into_iter().map(|(ms, value)| (1_000_000 + ms, value)).collect())
}

fn fed(all: &[(u64, Option<f64>)], counter: bool, length: usize) -> SeriesStore {
    let mut store = store(length);
    for (ms, value) in all {
        store.record(&cell(), &spec("m", counter), at(*ms), *value).unwrap();
    }
    store
}

proptest! {
    #[test]
    fn windows_are_aligned_finite_and_rates_are_never_negative(
        all in observations(), counter: bool, length in 1usize..40, now in 0u64..60_000,
    ) {
        let now = 1_000_000 + now;
        for windows in fed(&all, counter, length).windows(at(now)) {
            prop_assert!(windows.at.unix_ms() <= now && now - windows.at.unix_ms() < 1_000);
            for window in windows.metrics.values() {
                prop_assert_eq!(window.samples.len(), length);
                prop_assert_eq!(window.samples.last().unwrap().at, windows.at);
                for pair in window.samples.windows(2) {
                    prop_assert_eq!(pair[1].at.since(pair[0].at), Duration::from_secs(1));
                }
                for sample in &window.samples {
                    prop_assert!(sample.value.is_none_or(|v| v.is_finite() && v >= 0.0));
                }
            }
        }
    }

    /// A step without observations, or whose last one is no number, is a gap, for gauges and counters alike; a gauge
    /// has a value in every other one.
    #[test]
    fn gaps_stay_gaps(all in observations(), counter: bool) {
        let now = 1_030_000;
        for windows in fed(&all, counter, 30).windows(at(now)) {
            for sample in &windows.metrics[&MetricName::new("m")].samples {
                let end = sample.at.unix_ms();
                let last = all.iter().rfind(|(ms, _)| *ms <= end && *ms > end - 1_000);
                let observed = last.and_then(|(_, value)| *value).filter(|v| !v.is_nan());
                if counter {
                    prop_assert!(observed.is_some() || sample.value.is_none());
                } else {
                    prop_assert_eq!(sample.value, observed);
                }
            }
        }
    }

    #[test]
    fn the_order_of_arrival_does_not_matter(
        (all, shuffled) in observations().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        counter: bool,
        length in 1usize..40,
    ) {
        let now = at(1_030_000);
        prop_assert_eq!(fed(&all, counter, length).windows(now), fed(&shuffled, counter, length).windows(now));
    }

    /// With an observation in every step, rates give back what was counted.
    #[test]
    fn rates_add_up_to_the_increase(increments in prop::collection::vec(0u32..1_000, 2..30)) {
        let mut total = 0.0;
        let all: Vec<_> = increments.iter().enumerate().map(|(second, more)| {
            total += f64::from(*more);
            (1_000_500 + second as u64 * 1_000, Some(total))
        }).collect();
        let seen = values(&mut fed(&all, true, 40), 1_030_000 + 1_000);
        let sum: f64 = seen.iter().flatten().sum();
        let expected: u32 = increments[1..].iter().sum();
        prop_assert!((sum - f64::from(expected)).abs() < 1e-6);
    }
}

#[test]
fn cells_come_in_order_whether_all_at_once_one_by_one_or_a_few_at_a_time() {
    let mut store = store(5);
    for n in [3, 1, 4, 0, 2] {
        let cell = CellId::new(&format!("c{n}")).unwrap();
        store.record(&cell, &spec("m", false), at(1_000), Some(f64::from(n))).unwrap();
    }
    let all = store.windows(at(1_000));
    let mut one_by_one = Vec::new();
    store.each_windows(at(1_000), &mut |windows| one_by_one.push(windows.clone()));
    assert_eq!(all, one_by_one);
    let (mut few, mut places) = (Vec::new(), Vec::new());
    loop {
        let last = few.last().map(|w: &forefend_domain::Windows| w.cell.clone());
        let next = store.next_windows(at(1_000), last.as_ref(), 2, &mut places);
        if next == 0 {
            break;
        }
        assert!(next <= 2);
        few.extend(places[..next].iter().flatten().cloned());
    }
    assert_eq!(all, few);
    assert_eq!(all.len(), 5);
}

proptest! {
    #[test]
    fn windows_made_in_the_place_of_others_are_those_made_anew(
        told in prop::collection::vec((0u8..4, 0u8..3, 1u64..30, prop::option::weighted(0.9, 0.0..100.0f64)), 0..120),
        now in 1u64..40,
    ) {
        let mut store = store(8);
        for (cell, metric, second, value) in told {
            let cell = CellId::new(&format!("c{cell}")).unwrap();
            let spec = spec(&format!("m{metric}"), metric == 1);
            store.record(&cell, &spec, at(second * 1_000), value).unwrap();
        }
        let anew = store.windows(at(now * 1_000));
        let mut in_place = Vec::new();
        store.each_windows(at(now * 1_000), &mut |windows| {
            in_place.push(windows.clone());
            for metric in windows.metrics.values_mut() {
                // As the loop does with limits that it learned, and worse.
                (metric.limit, metric.kind) = (Some(1.0), MetricKind::Exhaustible);
                metric.samples.iter_mut().for_each(|sample| sample.value = Some(-1.0));
            }
        });
        prop_assert_eq!(anew, in_place);
    }

    #[test]
    fn a_window_shows_the_last_of_each_step_and_rates_between_them(
        told in prop::collection::vec((1u64..60_000, prop::option::weighted(0.97, 0.0..100.0f64)), 0..400),
        counter in any::<bool>(),
        now in 1u64..60,
        length in prop::sample::select(vec![8usize, 50]),
        // Long after 1970 most rates are worked out several at once.
        since in prop::sample::select(vec![0u64, 1_000_000]),
    ) {
        let lookback = 4;
        let mut store = store(length);
        let (mut told, now) = (told, now + since);
        told.iter_mut().for_each(|(ms, _)| *ms += since * 1_000);
        // In order, so that nothing comes too late.
        told.sort_by_key(|(ms, _)| *ms);
        let mut of_step = std::collections::BTreeMap::new();
        for (ms, value) in told.into_iter().filter(|(ms, _)| *ms <= now * 1_000) {
            store.record(&cell(), &spec("m", counter), at(ms), value).unwrap();
            of_step.insert(ms.div_ceil(1_000), (ms, value));
        }
        prop_assume!(!of_step.is_empty());
        let expected: Vec<Option<f64>> = ((now + 1).saturating_sub(length as u64)..=now)
            .map(|step| {
                let (ms, value) = of_step.get(&step)?;
                if !counter {
                    return *value;
                }
                let (_, before) = of_step.range(step.saturating_sub(lookback)..step).next_back()?;
                let grown = (*value)? - before.1?;
                (grown >= 0.0).then(|| grown * 1_000.0 / (ms - before.0) as f64)
            })
            .collect();
        prop_assert_eq!(values(&mut store, now * 1_000), expected);
    }
}
