use forefend_telemetry::exposition::{Exposition, ExpositionError, FamilyType, Format, Limits, parse};
use proptest::prelude::*;

fn text(body: &str) -> Exposition {
    parse(body.as_bytes(), Format::Text, &Limits::default()).unwrap()
}

fn open(body: &str) -> Exposition {
    parse(body.as_bytes(), Format::OpenMetrics, &Limits::default()).unwrap()
}

#[test]
fn text_with_types_escapes_odd_values_and_timestamps() {
    let body = r#"# A remark.
# HELP http_requests_total Requests \\ with\na break.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200",} 1027 1395066363000
http_requests_total{ code = "400" , method="a\"b\\c\nd}" }	3

# TYPE temperature gauge
temperature -Inf
odd NaN
odd_too +Inf
tiny 1.5e-3 -1
"#;
    let seen = text(body);
    assert_eq!((seen.broken_lines, &seen.first_error), (0, &None));
    let requests = &seen.families[0];
    assert_eq!(requests.name, "http_requests_total");
    assert_eq!(requests.family_type, FamilyType::Counter);
    assert_eq!(requests.help.as_deref(), Some("Requests \\ with\na break."));
    let [first, second] = &requests.samples[..] else { panic!("{requests:?}") };
    assert_eq!(first.value, 1027.0);
    assert_eq!(first.timestamp_ms, Some(1_395_066_363_000));
    // Sorted, whatever the order in the body.
    assert_eq!(first.labels, [("code".into(), "200".into()), ("method".into(), "post".into())]);
    assert_eq!(second.labels[1].1, "a\"b\\c\nd}");
    let value = |name: &str| seen.samples().find(|(_, s)| s.name == name).unwrap().1.value;
    assert_eq!(value("temperature"), f64::NEG_INFINITY);
    assert!(value("odd").is_nan());
    assert_eq!(value("odd_too"), f64::INFINITY);
    assert_eq!(value("tiny"), 0.0015);
}

#[test]
fn open_metrics_with_units_exemplars_and_histograms() {
    let body = r#"# TYPE latency_seconds histogram
# UNIT latency_seconds seconds
# HELP latency_seconds "Quoted" \"help\"
latency_seconds_bucket{le="0.1"} 8 # {trace_id="K#}\"x"} 0.054 1520879607.789
latency_seconds_bucket{le="+Inf"} 17 1520879607.789
latency_seconds_count 17
latency_seconds_sum 324789.3
latency_seconds_created 1520430000.123
# TYPE jobs counter
jobs_total 5 # {} 1
# TYPE build info
build_info{version="1.2"} 1
# EOF
"#;
    let seen = open(body);
    assert_eq!((seen.broken_lines, &seen.first_error), (0, &None));
    let names: Vec<_> =
        seen.families.iter().map(|f| (f.name.as_str(), f.family_type, f.samples.len())).collect();
    let expected = [
        ("latency_seconds", FamilyType::Histogram, 5),
        ("jobs", FamilyType::Counter, 1),
        ("build", FamilyType::Info, 1),
    ];
    assert_eq!(names, expected);
    assert_eq!(seen.families[0].unit.as_deref(), Some("seconds"));
    assert_eq!(seen.families[0].help.as_deref(), Some("\"Quoted\" \"help\""));
    assert_eq!(seen.families[0].samples[1].timestamp_ms, Some(1_520_879_607_789));
}

/// Each broken line costs itself only, and says where and what.
#[test]
fn broken_lines_are_skipped_counted_and_named() {
    for (line, column, word) in [
        ("9lives 1", 1, "name"),
        ("a{b=\"c\" 1", 9, "not closed"),
        ("a{b=\"c} 1", 10, "not closed"),
        ("a{b=c} 1", 5, "double quotes"),
        ("a{b=\"1\",b=\"2\"} 1", 9, "twice"),
        ("a{é=\"1\"} 1", 3, "can't begin"),
        ("a{b=\"éé\"} x", 11, "`x` is not a number"),
        ("a", 2, "a value is missing"),
        ("a 1 1.5", 5, "timestamp"),
        ("a 1 2 3", 7, "unexpected"),
        ("# TYPE a speed", 10, "`speed` is not a metric type"),
    ] {
        let seen = text(&format!("before 1\n{line}\nafter 2\n"));
        let error = seen.first_error.clone().unwrap_or_else(|| panic!("{line} was accepted"));
        assert_eq!((error.line, error.column), (2, column), "{line}: {error}");
        assert!(error.to_string().contains(word), "{line}: {error}");
        let values: Vec<f64> = seen.samples().map(|(_, s)| s.value).collect();
        assert_eq!((values, seen.broken_lines), (vec![1.0, 2.0], 1), "{line}");
    }
}

#[test]
fn a_series_twice_and_a_late_type_are_broken_lines() {
    let seen = text("a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 2\n# TYPE a gauge\n");
    assert_eq!((seen.len(), seen.broken_lines), (1, 2));
    assert!(seen.first_error.unwrap().to_string().contains("twice"));
}

#[test]
fn what_is_cut_off_or_broken_throughout_or_too_large_is_refused() {
    let limits = Limits { max_lines: 10, max_line_bytes: 40, max_samples: 5, max_broken_lines: 2 };
    let refused = |body: &str, format| parse(body.as_bytes(), format, &limits).unwrap_err();
    assert_eq!(refused("a 1\nb 12", Format::OpenMetrics), ExpositionError::CutOff { line: 2 });
    assert!(matches!(refused("<a>\n<b>\n<c>\n", Format::Text), ExpositionError::TooBroken { bound: 2, .. }));
    let lines = "\n".repeat(20);
    assert!(matches!(
        refused(&lines, Format::Text),
        ExpositionError::TooMuch { what: "lines", line: 11, .. }
    ));
    let samples = "a 1\nb 1\nc 1\nd 1\ne 1\nf 1\n";
    assert!(matches!(
        refused(samples, Format::Text),
        ExpositionError::TooMuch { what: "samples", line: 6, .. }
    ));
    let long = format!("a{{b=\"{}\"}} 1\nb 2\n", "x".repeat(50));
    let seen = parse(long.as_bytes(), Format::Text, &limits).unwrap();
    assert_eq!((seen.len(), seen.broken_lines), (1, 1));
    let seen = parse(b"a 1\nb \xff\xfe\n", Format::Text, &limits).unwrap();
    let error = seen.first_error.unwrap();
    assert_eq!((seen.families.len(), error.line, error.column), (1, 2, 3));
    let seen = parse(b"a 1\n# EOF\nb 2\n", Format::OpenMetrics, &limits).unwrap();
    assert_eq!((seen.len(), seen.broken_lines), (1, 1));
}

#[test]
fn the_content_type_decides() {
    let of = |text| Format::of_content_type(Some(text));
    assert_eq!(of("application/openmetrics-text; version=1.0.0; charset=utf-8"), Format::OpenMetrics);
    assert_eq!(of("text/plain; version=0.0.4"), Format::Text);
    assert_eq!(Format::of_content_type(None), Format::Text);
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
        for format in [Format::Text, Format::OpenMetrics] {
            let _ = parse(&body, format, &Limits::default());
        }
    }

    /// Bytes that look like expositions reach deeper.
    #[test]
    fn no_text_of_the_grammars_characters_makes_it_panic(
        body in "([a-z_:]{0,3}[{}\"=, \t\\\\#é]{0,4}(# TYPE|# EOF|NaN|1e9|-)?\n?){0,30}",
    ) {
        for format in [Format::Text, Format::OpenMetrics] {
            if let Ok(seen) = parse(body.as_bytes(), format, &Limits::default()) {
                prop_assert_eq!(seen.broken_lines > 0, seen.first_error.is_some());
            }
        }
    }

    /// What was written is what is read.
    #[test]
    fn labels_and_values_come_back(
        labels in prop::collection::btree_map("[a-zA-Z_][a-zA-Z0-9_]{0,8}", "\\PC{0,12}|[\\\\\"\n]{0,6}", 0..6),
        value in any::<f64>(),
        stamp in prop::option::of(-1_000_000i64..4_000_000_000_000),
    ) {
        let inner: Vec<String> =
            labels.iter().rev().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let stamp_text = stamp.map(|ms| format!(" {ms}")).unwrap_or_default();
        let seen = text(&format!("name{{{}}} {value}{stamp_text}\n", inner.join(",")));
        prop_assert_eq!(&seen.first_error, &None);
        let sample = seen.samples().next().unwrap().1;
        prop_assert_eq!(sample.labels.clone(), labels.into_iter().collect::<Vec<_>>());
        prop_assert!(sample.value == value || (sample.value.is_nan() && value.is_nan()));
        prop_assert_eq!(sample.timestamp_ms, stamp);
    }
}
