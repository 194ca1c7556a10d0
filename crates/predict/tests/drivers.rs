//! Whatever is measured can be what a prediction rests on, alone.

mod support;

use forefend_domain::{Family, MetricWindow};
use support::{metric, predict, windows};

/// Name, family and limit of one metric of each sort that is watched.
const WATCHED: [(&str, Family, f64); 8] = [
    ("cpu_utilisation_ratio", Family::Saturation, 1.0),
    ("memory_working_set_bytes", Family::Saturation, 96.0),
    ("disk_io_utilisation_ratio", Family::Saturation, 1.0),
    ("requests_per_second", Family::Traffic, 900.0),
    ("inter_zone_latency_ms", Family::Latency, 40.0),
    ("error_ratio", Family::Errors, 0.05),
    ("log_template{id=\"connection reset by *\"}", Family::Logs, 30.0),
    ("orders_waiting", Family::Custom, 5_000.0),
];

/// All of them, quiet far below their limits but for the one with this number, which climbs to 95% of its own.
fn cell(climbing: usize) -> Vec<MetricWindow> {
    let of = |(n, (name, family, limit)): (usize, &(&str, Family, f64))| {
        let share = |i: i32| if n == climbing { 0.3 + 0.65 * f64::from(i) / 99.0 } else { 0.2 };
        let tremble = |i: i32| 0.004 * f64::from((i * 37 + n as i32 * 11) % 17 - 8) / 8.0;
        let values: Vec<Option<f64>> = (0..100).map(|i| Some(limit * (share(i) + tremble(i)))).collect();
        metric(name, *family, *limit, &values)
    };
    WATCHED.iter().enumerate().map(of).collect()
}

#[test]
fn each_sort_of_metric_is_named_alone_when_it_alone_nears_its_limit() {
    for (n, (name, family, _)) in WATCHED.iter().enumerate() {
        let prediction = predict(&windows(cell(n)));
        assert!(prediction.probability.get() > 0.6, "{name}: {:?}", prediction.probability);
        let drivers: Vec<(&str, Family)> =
            prediction.drivers.iter().map(|driver| (driver.metric.as_str(), driver.family)).collect();
        assert_eq!(drivers, [(*name, *family)]);
        assert!((prediction.drivers[0].contribution - 1.0).abs() < 1e-9, "{name}");
    }
}

#[test]
fn where_none_climbs_none_is_named() {
    let prediction = predict(&windows(cell(WATCHED.len())));
    assert!(prediction.drivers.is_empty(), "{:?}", prediction.drivers);
    assert!(prediction.probability.get() < 0.01);
}
