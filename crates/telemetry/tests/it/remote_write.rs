//! Remote write, encoded here by messages of the tests' own.

use forefend_telemetry::{
    pushed::{CountsAs, DecodeError, Nature, PushLimits, PushedSeries},
    remote_write::{STALE_MARKER_BITS, Version, decode, decode_plain},
};
use proptest::prelude::*;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(sint64, repeated, tag = "12")]
    positive_deltas: Vec<i64>,
    #[prost(int32, tag = "14")]
    reset_hint: i32,
    #[prost(int64, tag = "15")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct RequestV2 {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<TimeSeriesV2>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeriesV2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<Metadata>,
    #[prost(int64, tag = "6")]
    created: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint32, tag = "4")]
    unit_ref: u32,
}

fn labels(of: &[(&str, &str)]) -> Vec<Label> {
    of.iter().map(|(name, value)| Label { name: (*name).into(), value: (*value).into() }).collect()
}

fn series(of: &[(&str, &str)], samples: &[(f64, i64)]) -> TimeSeries {
    let samples = samples.iter().map(|(value, timestamp)| Sample { value: *value, timestamp: *timestamp });
    TimeSeries { labels: labels(of), samples: samples.collect(), histograms: Vec::new() }
}

fn sent(timeseries: Vec<TimeSeries>) -> Vec<u8> {
    let plain = WriteRequest { timeseries }.encode_to_vec();
    snap::raw::Encoder::new().compress_vec(&plain).unwrap()
}

fn values(series: &PushedSeries) -> Vec<(u64, Option<f64>)> {
    series.points.iter().map(|point| (point.at.unix_ms(), point.value)).collect()
}

#[test]
fn series_have_their_names_labels_and_natures() {
    let body = sent(vec![
        series(&[("__name__", "hits_total"), ("code", "200"), ("empty", "")], &[(1.0, 1_000), (2.0, 2_000)]),
        series(&[("zone", "a"), ("__name__", "depth"), ("app", "x")], &[(7.0, 1_000)]),
        series(&[("__name__", "took_bucket"), ("le", "1")], &[(3.0, 1_000)]),
    ]);
    let decoded = decode(&body, Version::V1, &PushLimits::default()).unwrap();
    assert!(decoded.refused.tally.is_empty());
    let [hits, depth, bucket] = &decoded.taken[..] else { panic!("{decoded:?}") };
    assert_eq!((hits.name.as_str(), hits.nature, hits.by_default), ("hits_total", Nature::Total, true));
    assert_eq!(hits.labels, [("code".to_owned(), "200".to_owned())], "an empty label is none");
    assert_eq!(values(hits), [(1_000, Some(1.0)), (2_000, Some(2.0))]);
    assert_eq!((depth.nature, depth.labels[0].0.as_str()), (Nature::Level, "app"), "sorted");
    assert_eq!((bucket.nature, bucket.by_default), (Nature::Total, false));
}

#[test]
fn a_stale_marker_is_a_gap_and_another_nan_is_told_as_it_is() {
    let stale = f64::from_bits(STALE_MARKER_BITS);
    let body = sent(vec![series(&[("__name__", "x")], &[(stale, 1_000), (f64::NAN, 2_000)])]);
    let decoded = decode(&body, Version::V1, &PushLimits::default()).unwrap();
    let points = &decoded.taken[0].points;
    assert_eq!(points[0].value, None);
    assert!(points[1].value.is_some_and(f64::is_nan), "the store makes a gap of it");
}

#[test]
fn what_is_wrong_in_one_series_does_not_cost_the_others() {
    let body = sent(vec![
        series(&[("no", "name")], &[(1.0, 1_000)]),
        series(&[("__name__", "x"), ("a", "1"), ("a", "2")], &[(1.0, 1_000), (1.0, 2_000)]),
        series(&[("__name__", "early")], &[(1.0, -5), (1.0, 1_000)]),
        series(&[("__name__", "good")], &[(1.0, 1_000)]),
    ]);
    let decoded = decode(&body, Version::V1, &PushLimits::default()).unwrap();
    assert_eq!(decoded.refused.tally.samples, 4);
    let first = decoded.refused.first.unwrap();
    assert!(first.starts_with("timeseries[0]: it has no name"), "{first}");
    let names: Vec<&str> = decoded.taken.iter().map(|series| series.name.as_str()).collect();
    assert_eq!(names, ["early", "good"]);
}

#[test]
fn of_a_native_histogram_count_and_sum_are_kept() {
    let histogram = Histogram {
        count: 12,
        sum: 3.5,
        schema: 3,
        positive_deltas: vec![1, 2, -1],
        reset_hint: 0,
        timestamp: 4_000,
    };
    let stale = Histogram { sum: f64::from_bits(STALE_MARKER_BITS), timestamp: 5_000, ..histogram.clone() };
    let reset = Histogram { reset_hint: 1, timestamp: 6_000, ..histogram.clone() };
    let histograms = vec![histogram, stale, reset];
    let body = sent(vec![TimeSeries { histograms, ..series(&[("__name__", "took")], &[]) }]);
    let decoded = decode(&body, Version::V1, &PushLimits::default()).unwrap();
    let [count, sum] = &decoded.taken[..] else { panic!("{decoded:?}") };
    assert_eq!((count.name.as_str(), count.counts_as), ("took_count", CountsAs::Histogram));
    assert_eq!(values(count), [(4_000, Some(12.0)), (5_000, None), (6_000, Some(12.0))]);
    assert_eq!((sum.name.as_str(), sum.counts_as), ("took_sum", CountsAs::Part));
    assert_eq!(sum.points[2].began, Some(sum.points[2].at), "it began anew, nobody knows when");
}

#[test]
fn the_second_version_tells_types_units_and_beginnings() {
    let symbols = ["", "__name__", "work", "odd", "seconds", "bytes_total"].map(String::from).to_vec();
    let series = |refs: &[u32], kind, unit_ref| TimeSeriesV2 {
        labels_refs: refs.to_vec(),
        samples: vec![Sample { value: 5.0, timestamp: 9_000 }],
        metadata: Some(Metadata { kind, unit_ref }),
        created: 8_000,
    };
    let timeseries = vec![
        series(&[1, 2], 1, 4),
        series(&[1, 5], 2, 0),
        series(&[1, 5], 0, 0),
        series(&[1, 99], 1, 0),
        series(&[1], 1, 0),
    ];
    let body = RequestV2 { symbols, timeseries }.encode_to_vec();
    let decoded = decode_plain(&body, Version::V2, &PushLimits::default()).unwrap();
    let [work, level, by_name] = &decoded.taken[..] else { panic!("{decoded:?}") };
    assert_eq!((work.name.as_str(), work.nature, work.unit.as_str()), ("work", Nature::Total, "seconds"));
    assert_eq!(work.points[0].began.map(|at| at.unix_ms()), Some(8_000));
    assert_eq!((level.name.as_str(), level.nature), ("bytes_total", Nature::Level), "the metadata decide");
    assert_eq!(by_name.nature, Nature::Total);
    assert_eq!(decoded.refused.tally.samples, 2);
    let first = decoded.refused.first.unwrap();
    assert_eq!(first, "timeseries[3].labels_refs: there is no symbol 99, only 6");
}

#[test]
fn a_body_of_the_other_version_is_no_series() {
    let v1 = WriteRequest { timeseries: vec![series(&[("__name__", "x")], &[(1.0, 1)])] }.encode_to_vec();
    assert!(decode_plain(&v1, Version::V2, &PushLimits::default()).unwrap().taken.is_empty());
}

#[test]
fn bounds_are_kept() {
    let many: Vec<(f64, i64)> = (0..50).map(|i| (0.0, i)).collect();
    let body = sent(vec![series(&[("__name__", "x")], &many)]);
    let limits = |limits: PushLimits| decode(&body, Version::V1, &limits).unwrap_err();
    let default = PushLimits::default();
    assert_eq!(
        limits(PushLimits { max_points: 49, ..default }),
        DecodeError::TooMuch { what: "samples", bound: 49 }
    );
    assert!(matches!(
        limits(PushLimits { max_bytes: 100, ..default }),
        DecodeError::TooMuch { bound: 100, .. }
    ));
    assert!(matches!(
        limits(PushLimits { max_part_bytes: 100, ..default }),
        DecodeError::TooMuch { what: "bytes in one series", .. }
    ));
    let wide: Vec<String> = (0..200).map(|i| format!("l{i}")).collect();
    let wide: Vec<(&str, &str)> = wide.iter().map(|l| (l.as_str(), "v")).chain([("__name__", "x")]).collect();
    let decoded = decode(&sent(vec![series(&wide, &[(1.0, 1)])]), Version::V1, &default).unwrap();
    assert!(decoded.refused.first.unwrap().contains("201 labels, and 128 are allowed"));
    let long = "x".repeat(5_000);
    let decoded = decode(&sent(vec![series(&[("__name__", &long)], &[(1.0, 1)])]), Version::V1, &default);
    assert!(decoded.unwrap().refused.first.unwrap().contains("5008 bytes, and 4096 are allowed"));
}

#[test]
fn symbols_are_bounded_too() {
    let limits = PushLimits { max_points: 10, ..PushLimits::default() };
    let body = [0x22, 0].repeat(41);
    let bound = DecodeError::TooMuch { what: "symbols", bound: 40 };
    assert_eq!(decode_plain(&body, Version::V2, &limits), Err(bound));
    assert!(decode_plain(&body[2..], Version::V2, &limits).is_ok());
}

#[test]
fn broken_protobuf_says_where() {
    let error = decode_plain(&[0x0a, 50, 1], Version::V1, &PushLimits::default()).unwrap_err().to_string();
    assert!(error.contains("the request, byte 2") && error.contains("longer than what holds it"), "{error}");
    let error = decode_plain(&[0x0a, 2, 0x0a, 9], Version::V1, &PushLimits::default()).unwrap_err();
    assert!(error.to_string().starts_with("timeseries[0]: "), "{error}");
    let error = decode_plain(&[0x22, 1, 0xff], Version::V2, &PushLimits::default()).unwrap_err().to_string();
    assert!(error.starts_with("symbols[0], byte 0: this is no UTF-8"), "{error}");
}

#[test]
fn versions_are_told_by_content_type() {
    let of = Version::of_content_type;
    assert_eq!(of("application/x-protobuf"), Some(Version::V1));
    assert_eq!(of("application/x-protobuf;proto=prometheus.WriteRequest"), Some(Version::V1));
    assert_eq!(of("application/x-protobuf; proto=io.prometheus.write.v2.Request"), Some(Version::V2));
    assert_eq!(of("application/x-protobuf;proto=io.prometheus.write.v3.Request"), None);
    assert_eq!(of("application/json"), None);
    assert_eq!(of(""), None);
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_an_error_or_series(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let limits = PushLimits { max_bytes: 4_096, max_points: 20, max_part_bytes: 200, max_labels: 3, ..PushLimits::default() };
        for version in [Version::V1, Version::V2] {
            let _ = decode(&bytes, version, &limits);
            if let Ok(decoded) = decode_plain(&bytes, version, &limits) {
                let points: usize =
                    decoded.taken.iter().filter(|s| s.counts_as != CountsAs::Part).map(|s| s.points.len()).sum();
                prop_assert!(points <= 20);
            }
        }
    }

    #[test]
    fn every_sample_arrives_or_is_counted(
        sent_series in proptest::collection::vec(
            (proptest::option::of("[a-z]{1,4}"), proptest::collection::vec((any::<f64>(), -3i64..5_000), 0..5)),
            0..6,
        ),
    ) {
        let all: usize = sent_series.iter().map(|(_, samples)| samples.len()).sum();
        let timeseries = sent_series.iter().map(|(name, samples)| match name {
            Some(name) => series(&[("__name__", name)], samples),
            None => series(&[("label", "only")], samples),
        });
        let decoded = decode(&sent(timeseries.collect()), Version::V1, &PushLimits::default()).unwrap();
        let taken: usize = decoded.taken.iter().map(|series| series.points.len()).sum();
        prop_assert_eq!(taken as u64 + decoded.refused.tally.samples, all as u64);
        prop_assert_eq!(decoded.refused.tally.samples > 0, decoded.refused.first.is_some());
    }
}
