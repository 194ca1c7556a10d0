use forefend_domain::{Family, MetricKind, Timestamp};
use forefend_telemetry::{
    MetricSelector,
    exposition::{Format, Limits, parse},
    select::{Selected, select, take_all},
};

const BODY: &str = r#"# TYPE errors_total counter
errors_total{code="500",path="/a"} 7
errors_total{code="500",path="/b"} 8
errors_total{code="404",path="/a"} 9
# TYPE pool_used gauge
pool_used{pool="db"} 3 1000
pool_used{pool="http"} 4 9999999
pool_max{pool="db"} 10
pool_max{pool="http"} +Inf
# TYPE process_open_fds gauge
process_open_fds 12
process_max_fds 1024
# TYPE took histogram
took_bucket{le="+Inf"} 1
took_count 1
took_sum 2
"#;

fn selector(name: &str) -> MetricSelector {
    MetricSelector {
        name: name.into(),
        labels: Vec::new(),
        rename: None,
        family: Family::Saturation,
        kind: MetricKind::Exhaustible,
        unit: "count".into(),
        limit: None,
        limit_metric: None,
        counter: false,
    }
}

fn names(selected: &[Selected]) -> Vec<(&str, f64)> {
    selected.iter().map(|s| (s.spec.name.as_str(), s.value)).collect()
}

#[test]
fn labels_that_are_not_fixed_make_series_of_their_own() {
    let exposition = parse(BODY.as_bytes(), Format::Text, &Limits::default()).unwrap();
    let server_errors = MetricSelector {
        labels: vec![("code".into(), "500".into())],
        rename: Some("server_errors".into()),
        counter: true,
        ..selector("errors_total")
    };
    let rest = selector("errors_total");
    let selected = select(&exposition, &[server_errors, rest], Timestamp::from_unix_ms(5_000));
    let expected = [
        (r#"server_errors{path="/a"}"#, 7.0),
        (r#"server_errors{path="/b"}"#, 8.0),
        (r#"errors_total{code="404",path="/a"}"#, 9.0),
    ];
    assert_eq!(names(&selected), expected);
    assert!(selected[0].spec.counter && !selected[2].spec.counter);
}

#[test]
fn limits_come_from_the_sample_with_the_same_labels_and_infinity_is_none() {
    let exposition = parse(BODY.as_bytes(), Format::Text, &Limits::default()).unwrap();
    let pools = MetricSelector { limit_metric: Some("pool_max".into()), ..selector("pool_used") };
    let selected = select(&exposition, &[pools], Timestamp::from_unix_ms(5_000));
    assert_eq!(selected.iter().map(|s| s.spec.limit).collect::<Vec<_>>(), [Some(10.0), None]);
    // The cell's own time counts, unless it lies in the future.
    assert_eq!(selected.iter().map(|s| s.at.unix_ms()).collect::<Vec<_>>(), [1_000, 5_000]);
}

#[test]
fn without_selectors_gauges_and_counters_are_taken_up_to_the_bound() {
    let exposition = parse(BODY.as_bytes(), Format::Text, &Limits::default()).unwrap();
    let (all, left_out) = take_all(&exposition, 64, Timestamp::from_unix_ms(5_000));
    assert_eq!((all.len(), left_out), (9, 0));
    assert!(all.iter().all(|s| !s.spec.name.as_str().starts_with("took")));
    let fds = all.iter().find(|s| s.spec.name.as_str() == "process_open_fds").unwrap();
    assert_eq!((fds.spec.limit, fds.spec.kind), (Some(1_024.0), MetricKind::Exhaustible));
    let others = all.iter().filter(|s| s.spec.name != fds.spec.name);
    assert!(others.clone().all(|s| s.spec.kind == MetricKind::Unbounded && s.spec.family == Family::Custom));
    let (some, left_out) = take_all(&exposition, 4, Timestamp::from_unix_ms(5_000));
    assert_eq!((some.len(), left_out), (4, 5));
}
