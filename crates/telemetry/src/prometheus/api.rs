//! Questions and answers of Prometheus's HTTP API (<https://prometheus.io/docs/prometheus/latest/querying/api/>), as values.

use std::{collections::BTreeMap, fmt, time::Duration};

use forefend_domain::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

/// Prometheus refuses ranges of more than 11 000 points for a series.
pub(crate) const MOST_POINTS: u64 = 10_000;

/// A time with milliseconds, in seconds.
fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

/// The path of a range query, below that of the server.
pub(crate) fn range_path(
    prefix: &str,
    expression: &str,
    range: (Timestamp, Timestamp),
    step: Duration,
) -> String {
    format!(
        "{prefix}/api/v1/query_range?query={}&start={}&end={}&step={}",
        encoded(expression),
        seconds(range.0.unix_ms()),
        seconds(range.1.unix_ms()),
        seconds(u64::try_from(step.as_millis()).unwrap_or(u64::MAX)),
    )
}

/// The path of the question what time it is.
pub(crate) fn time_path(prefix: &str) -> String {
    format!("{prefix}/api/v1/query?query=time%28%29")
}

/// What a question may cost the server: how long it may work on it, and how long it shows a value that is not renewed
/// (`lookback_delta`, which older versions do not know and pass over).
pub(crate) fn bounds(timeout: Duration, fresh_for: Duration) -> String {
    let ms = |time: Duration| seconds(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    format!("&timeout={}&lookback_delta={}", ms(timeout), ms(fresh_for))
}

/// RFC 3986 §2.1: all but the unreserved is encoded.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            for digit in [byte >> 4, byte & 15] {
                encoded.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
            }
        }
    }
    encoded
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reply<T> {
    #[serde(default = "Option::default")]
    data: Option<T>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    error_type: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    #[serde(default)]
    result: Vec<Series>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scalar {
    result: Point,
}

/// One series of an answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Series {
    /// Its labels, with `__name__`.
    #[serde(default, rename = "metric")]
    pub(crate) labels: BTreeMap<String, String>,
    /// Its values, oldest first.
    #[serde(default, rename = "values")]
    pub(crate) points: Vec<Point>,
}

/// An instant with a value, which may be NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(from = "(Instant, Number)")]
pub(crate) struct Point {
    pub(crate) at: Timestamp,
    pub(crate) value: f64,
}

impl From<(Instant, Number)> for Point {
    fn from((at, value): (Instant, Number)) -> Self {
        Self { at: at.0, value: value.0 }
    }
}

/// Seconds since 1970 with a fraction.
struct Instant(Timestamp);

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        let ms = (seconds * 1_000.0).round();
        if !(0.0..9e15).contains(&ms) {
            return Err(Error::custom(format_args!("{seconds} is no instant")));
        }
        Ok(Self(Timestamp::from_unix_ms(ms as u64)))
    }
}

/// A number as text, for JSON has no NaN and no infinity.
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number as text")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
                text.parse().map(Number).map_err(|_| E::custom(format_args!("`{text}` is no number")))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// What an answer holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answered {
    pub(crate) series: Vec<Series>,
    /// Why it may not be whole, as the server says it.
    pub(crate) warning: Option<String>,
}

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// No Prometheus writes this.
    #[error("the answer is none of a Prometheus ({0})")]
    Strange(String),
    /// The server says what is wrong.
    #[error("{what}")]
    Refused { kind: String, what: String },
    /// It is an answer to another kind of question.
    #[error("it yields {0} and no series")]
    NoSeries(String),
}

fn data<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<(T, Vec<String>), Unanswered> {
    let reply: Reply<T> =
        serde_json::from_slice(body).map_err(|error| Unanswered::Strange(error.to_string()))?;
    match reply.data {
        Some(data) => Ok((data, reply.warnings)),
        None => Err(Unanswered::Refused {
            kind: reply.error_type.unwrap_or_default(),
            what: reply.error.unwrap_or_else(|| "it says neither what it found nor what is wrong".to_owned()),
        }),
    }
}

/// The series of the answer to a range query.
pub(crate) fn series(body: &[u8]) -> Result<Answered, Unanswered> {
    let (data, warnings): (Data, _) = data(body)?;
    if data.result_type != "matrix" {
        return Err(Unanswered::NoSeries(data.result_type));
    }
    Ok(Answered { series: data.result, warning: warnings.into_iter().next() })
}

/// The time that the server has.
pub(crate) fn time(body: &[u8]) -> Result<Timestamp, Unanswered> {
    let (scalar, _): (Scalar, _) = data(body)?;
    let ms = (scalar.result.value * 1_000.0).round();
    // As above; the instant of the answer is that of its evaluation, which is the same.
    if (0.0..9e15).contains(&ms) {
        Ok(Timestamp::from_unix_ms(ms as u64))
    } else {
        Err(Unanswered::Strange(format!("its time is {}", scalar.result.value)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    #[test]
    fn a_question_is_a_path_whatever_the_expression_holds() {
        let path = range_path("/p", "a{b=\"é &\"}", (at(1_500), at(61_002)), Duration::from_millis(1_500));
        let expected =
            "/p/api/v1/query_range?query=a%7Bb%3D%22%C3%A9%20%26%22%7D&start=1.500&end=61.002&step=1.500";
        assert_eq!(path, expected);
        let bounds = bounds(Duration::from_millis(2_500), Duration::from_secs(60));
        assert_eq!(bounds, "&timeout=2.500&lookback_delta=60.000");
    }

    #[test]
    fn answers_are_series_or_say_what_is_wrong() {
        let of = |result: &str| {
            format!(
                r#"{{"status":"success","warnings":["half"],"data":{{"resultType":"matrix","result":[{result}]}}}}"#
            )
        };
        let one = r#"{"metric":{"a":"b"},"values":[[1.5,"2"],[3,"NaN"],[4.25,"+Inf"]]}"#;
        let histogram = r#"{"metric":{"a":"c"},"histograms":[[1,{"count":"5","sum":"2"}]]}"#;
        let answered = series(of(&format!("{one},{histogram}")).as_bytes()).unwrap();
        assert_eq!(answered.warning.as_deref(), Some("half"));
        let points = &answered.series[0].points;
        assert_eq!(points.iter().map(|p| p.at.unix_ms()).collect::<Vec<_>>(), [1_500, 3_000, 4_250]);
        assert!(points[0].value == 2.0 && points[1].value.is_nan() && points[2].value == f64::INFINITY);
        assert_eq!(answered.series[0].labels["a"], "b");
        assert_eq!(answered.series[1].points, [], "native histograms have no value");
        let wrong = |body: &str| series(body.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            wrong(r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#),
            "parse error"
        );
        assert_eq!(wrong("{}"), "it says neither what it found nor what is wrong");
        assert_eq!(
            wrong(r#"{"data":{"resultType":"vector","result":[]}}"#),
            "it yields vector and no series"
        );
        for strange in ["<html>", "", &of(r#"{"values":[[1,"x"]]}"#), &of(r#"{"values":[[-1,"1"]]}"#)] {
            assert!(wrong(strange).starts_with("the answer is none of a Prometheus ("), "{strange}");
        }
    }

    #[test]
    fn the_time_is_told_to_the_millisecond() {
        let of = |value: &str| {
            time(format!(r#"{{"data":{{"resultType":"scalar","result":[1.25,"{value}"]}}}}"#).as_bytes())
        };
        assert_eq!(of("1796115953.469"), Ok(at(1_796_115_953_469)));
        assert!(of("NaN").is_err() && of("-1").is_err() && time(b"{}").is_err());
    }

    proptest! {
        #[test]
        fn no_answer_is_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}\":,a-z0-9.-]{0,80}") {
            let _ = (series(&bytes), time(&bytes), series(text.as_bytes()), time(text.as_bytes()));
        }
    }
}
