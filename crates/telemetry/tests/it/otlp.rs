use forefend_telemetry::{
    otlp::{Encoding, decode_logs, decode_metrics},
    pushed::{DecodeError, Decoded, Nature, PushLimits, PushedSeries, Severity},
};
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{
        ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
        NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, metric::Data,
        number_data_point, summary_data_point::ValueAtQuantile,
    },
    resource::v1::Resource,
};
use proptest::prelude::*;
use prost::Message;

const MS: u64 = 1_000_000;
const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn number(value: f64) -> NumberDataPoint {
    NumberDataPoint {
        attributes: vec![attribute("port", Value::IntValue(80))],
        start_time_unix_nano: 1_000 * MS,
        time_unix_nano: 3_000 * MS,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

fn metric(name: &str, data: Data) -> Metric {
    Metric { name: name.into(), unit: "By".into(), data: Some(data), ..Metric::default() }
}

fn sum(point: NumberDataPoint, temporality: i32, monotonic: bool) -> Data {
    Data::Sum(Sum { data_points: vec![point], aggregation_temporality: temporality, is_monotonic: monotonic })
}

fn request(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let resource =
        Resource { attributes: vec![text("service.instance.id", "shop-1")], ..Resource::default() };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }],
    }
}

fn decoded(metrics: Vec<Metric>) -> Decoded<PushedSeries> {
    let request = request(metrics);
    let limits = PushLimits::default();
    let protobuf = decode_metrics(&request.encode_to_vec(), Encoding::Protobuf, &limits).unwrap();
    let json = decode_metrics(&serde_json::to_vec(&request).unwrap(), Encoding::Json, &limits).unwrap();
    assert_eq!(protobuf.taken, json.taken, "both encodings say the same");
    assert_eq!(protobuf.refused.tally, json.refused.tally);
    protobuf
}

fn one(metric: Metric) -> PushedSeries {
    let decoded = decoded(vec![metric]);
    assert!(decoded.refused.tally.is_empty(), "{decoded:?}");
    assert_eq!(decoded.taken.len(), 1);
    decoded.taken[0].clone()
}

#[test]
fn gauges_and_sums() {
    let gauge = one(metric("depth", Data::Gauge(Gauge { data_points: vec![number(7.0)] })));
    assert_eq!((gauge.name.as_str(), gauge.nature, gauge.unit.as_str()), ("depth", Nature::Level, "By"));
    assert_eq!(gauge.labels, [("port".to_owned(), "80".to_owned())]);
    assert_eq!(*gauge.source, [("service.instance.id".to_owned(), "shop-1".to_owned())]);
    assert_eq!((gauge.points[0].at.unix_ms(), gauge.points[0].value), (3_000, Some(7.0)));

    let total = one(metric("hits", sum(number(10.0), CUMULATIVE, true)));
    assert_eq!(total.nature, Nature::Total);
    assert_eq!(total.points[0].began.map(|at| at.unix_ms()), Some(1_000));
    let level = one(metric("open", sum(number(10.0), CUMULATIVE, false)));
    assert_eq!((level.nature, level.points[0].began), (Nature::Level, None));
    let delta = one(metric("hits", sum(number(10.0), DELTA, true)));
    assert_eq!((delta.nature, delta.points[0].value), (Nature::PerSecond, Some(5.0)), "10 in 2 s");
}

#[test]
fn what_has_no_meaning_is_refused_alone_and_says_why() {
    let timeless = NumberDataPoint { time_unix_nano: 0, ..number(1.0) };
    let valueless = NumberDataPoint { value: None, ..number(1.0) };
    let since_never = NumberDataPoint { start_time_unix_nano: 0, ..number(1.0) };
    let decoded = decoded(vec![
        metric("good", Data::Gauge(Gauge { data_points: vec![number(1.0)] })),
        metric("change", sum(number(1.0), DELTA, false)),
        metric("what", sum(number(1.0), 0, true)),
        metric("delta", sum(since_never, DELTA, true)),
        metric("points", Data::Gauge(Gauge { data_points: vec![timeless, valueless] })),
    ]);
    assert_eq!((decoded.taken.len(), decoded.refused.tally.samples), (1, 5));
    let first = decoded.refused.first.unwrap();
    assert!(
        first.starts_with(
            "resource_metrics[0].scope_metrics[0].metrics[1] (`change`), data point 0: it tells"
        ),
        "{first}"
    );
}

#[test]
fn a_point_without_recorded_value_is_a_gap() {
    let gap = NumberDataPoint { flags: 1, value: None, ..number(0.0) };
    let gauge = one(metric("depth", Data::Gauge(Gauge { data_points: vec![gap] })));
    assert_eq!(gauge.points[0].value, None);
    let gap = NumberDataPoint { flags: 1, ..number(3.0) };
    assert_eq!(one(metric("hits", sum(gap, CUMULATIVE, true))).points[0].value, None);
}

fn histogram(temporality: i32) -> Data {
    Data::Histogram(Histogram {
        data_points: vec![HistogramDataPoint {
            start_time_unix_nano: 1_000 * MS,
            time_unix_nano: 3_000 * MS,
            count: 20,
            sum: Some(300.0),
            bucket_counts: vec![10, 10, 0],
            explicit_bounds: vec![10.0, 20.0],
            ..HistogramDataPoint::default()
        }],
        aggregation_temporality: temporality,
    })
}

#[test]
fn histograms_and_summaries_become_counts_sums_and_quantiles() {
    let names = |decoded: &Decoded<PushedSeries>| -> Vec<(String, Nature, Option<f64>)> {
        let brief = |s: &PushedSeries| (s.name.clone(), s.nature, s.points[0].value);
        decoded.taken.iter().map(brief).collect()
    };
    let delta = decoded(vec![metric("took", histogram(DELTA))]);
    assert_eq!(
        names(&delta)[..2],
        [
            ("took_count".to_owned(), Nature::PerSecond, Some(10.0)),
            ("took_sum".to_owned(), Nature::PerSecond, Some(150.0)),
        ]
    );
    assert!(delta.taken.iter().all(|series| !series.by_default));
    let (quantile, buckets) = delta.taken[2].quantile.clone().unwrap();
    assert_eq!(
        (delta.taken[2].name.as_str(), quantile, buckets.quantile(quantile)),
        ("took_p50", 0.5, Some(10.0))
    );
    assert_eq!(delta.taken[3].name, "took_p99");

    let cumulative = decoded(vec![metric("took", histogram(CUMULATIVE))]);
    assert_eq!(names(&cumulative)[0], ("took_count".to_owned(), Nature::Total, Some(20.0)));

    let point = ExponentialHistogramDataPoint {
        time_unix_nano: 3_000 * MS,
        count: 5,
        sum: Some(2.5),
        ..ExponentialHistogramDataPoint::default()
    };
    let exponential = ExponentialHistogram { data_points: vec![point], aggregation_temporality: CUMULATIVE };
    let exponential = decoded(vec![metric("took", Data::ExponentialHistogram(exponential))]);
    assert_eq!(
        names(&exponential),
        [
            ("took_count".to_owned(), Nature::Total, Some(5.0)),
            ("took_sum".to_owned(), Nature::Total, Some(2.5)),
        ]
    );
    let point = SummaryDataPoint {
        time_unix_nano: 3_000 * MS,
        count: 5,
        sum: 2.5,
        quantile_values: vec![ValueAtQuantile { quantile: 0.99, value: 0.7 }],
        ..SummaryDataPoint::default()
    };
    let summary = decoded(vec![metric("took", Data::Summary(Summary { data_points: vec![point] }))]);
    assert_eq!(names(&summary)[2], ("took".to_owned(), Nature::Level, Some(0.7)));
    assert_eq!(summary.taken[2].labels, [("quantile".to_owned(), "0.99".to_owned())]);
}

#[test]
fn a_resource_may_stand_behind_its_metrics() {
    let request = request(vec![metric("depth", Data::Gauge(Gauge { data_points: vec![number(7.0)] }))]);
    let resource = &request.resource_metrics[0];
    // By hand: scope (2) first, then resource (1).
    let field = |number: u8, bytes: Vec<u8>| {
        let mut field = vec![number << 3 | 2];
        prost::encoding::encode_varint(bytes.len() as u64, &mut field);
        [field, bytes].concat()
    };
    let scope = field(2, resource.scope_metrics[0].encode_to_vec());
    let who = field(1, resource.resource.as_ref().unwrap().encode_to_vec());
    let body = field(1, [scope, who].concat());
    let decoded = decode_metrics(&body, Encoding::Protobuf, &PushLimits::default()).unwrap();
    assert_eq!(decoded.taken[0].source.len(), 1);
}

#[test]
fn records_of_logs_have_time_severity_and_text() {
    let record = |number: i32, body: Value| LogRecord {
        time_unix_nano: 5_000 * MS,
        severity_number: number,
        body: Some(AnyValue { value: Some(body) }),
        ..LogRecord::default()
    };
    let observed = LogRecord {
        time_unix_nano: 0,
        observed_time_unix_nano: 6_000 * MS,
        severity_text: "critical".into(),
        ..record(0, Value::IntValue(7))
    };
    let list = opentelemetry_proto::tonic::common::v1::ArrayValue {
        values: vec![
            AnyValue { value: Some(Value::BoolValue(true)) },
            AnyValue { value: Some(Value::StringValue("é".repeat(9_000))) },
        ],
    };
    let log_records = vec![
        record(17, Value::StringValue("disk is full".into())),
        observed,
        record(9, Value::ArrayValue(list)),
    ];
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource {
                attributes: vec![text("forefend.cell", "shop-1")],
                ..Resource::default()
            }),
            scope_logs: vec![ScopeLogs { log_records, ..ScopeLogs::default() }],
            ..ResourceLogs::default()
        }],
    };
    let limits = PushLimits::default();
    let decoded = decode_logs(&request.encode_to_vec(), Encoding::Protobuf, &limits).unwrap();
    let json = decode_logs(&serde_json::to_vec(&request).unwrap(), Encoding::Json, &limits).unwrap();
    assert_eq!(decoded, json);
    let [error, fatal, long] = &decoded.taken[..] else { panic!("{decoded:?}") };
    assert_eq!((error.severity, error.body.as_str()), (Severity::Error, "disk is full"));
    assert_eq!(error.at.map(|at| at.unix_ms()), Some(5_000));
    assert_eq!(error.source[0].1, "shop-1");
    assert_eq!((fatal.severity, fatal.body.as_str()), (Severity::Fatal, "7"));
    assert_eq!(fatal.at.map(|at| at.unix_ms()), Some(6_000));
    assert!(long.body.starts_with("[true,\"é") && long.body.len() <= 8 * 1024, "{}", long.body.len());

    let small = PushLimits { max_part_bytes: 1_000, ..limits };
    let decoded = decode_logs(&request.encode_to_vec(), Encoding::Protobuf, &small).unwrap();
    assert_eq!((decoded.taken.len(), decoded.refused.tally.samples), (2, 1), "a huge record costs itself");
}

#[test]
fn bounds_are_kept_and_broken_bodies_say_where() {
    let body = request(vec![metric("depth", Data::Gauge(Gauge { data_points: vec![number(7.0); 50] }))]);
    let body = body.encode_to_vec();
    let limits = PushLimits { max_points: 49, ..PushLimits::default() };
    assert_eq!(
        decode_metrics(&body, Encoding::Protobuf, &limits).unwrap_err(),
        DecodeError::TooMuch { what: "points", bound: 49 }
    );
    let limits = PushLimits { max_part_bytes: 100, ..PushLimits::default() };
    assert!(matches!(decode_metrics(&body, Encoding::Protobuf, &limits), Err(DecodeError::TooMuch { .. })));
    let error = decode_metrics(&body[..body.len() - 3], Encoding::Protobuf, &PushLimits::default());
    assert!(error.unwrap_err().to_string().starts_with("the request, byte "));
    let error = decode_metrics(b"{\n \"resourceMetrics\": 5}", Encoding::Json, &PushLimits::default());
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("line 2, column "), "{error}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_an_error_or_points(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let limits = PushLimits { max_bytes: 4_096, max_points: 20, max_part_bytes: 200, max_labels: 3, ..PushLimits::default() };
        for encoding in [Encoding::Protobuf, Encoding::Json] {
            let _ = decode_metrics(&bytes, encoding, &limits);
            let _ = decode_logs(&bytes, encoding, &limits);
        }
    }

    #[test]
    fn a_byte_changed_anywhere_never_panics(place: prop::sample::Index, byte: u8) {
        let metrics = vec![metric("took", histogram(DELTA)), metric("hits", sum(number(1.0), CUMULATIVE, true))];
        let mut body = request(metrics).encode_to_vec();
        let place = place.index(body.len());
        body[place] = byte;
        if let Ok(decoded) = decode_metrics(&body, Encoding::Protobuf, &PushLimits::default()) {
            for (quantile, buckets) in decoded.taken.iter().filter_map(|series| series.quantile.as_ref()) {
                prop_assert!(buckets.quantile(*quantile).is_none_or(f64::is_finite));
            }
        }
    }
}
