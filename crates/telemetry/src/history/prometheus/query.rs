//! Questions and answers of the range query (<https://prometheus.io/docs/prometheus/latest/querying/api/#range-queries>), as values.

use std::time::Duration;

use forefend_domain::Timestamp;
use serde::Deserialize;

/// Prometheus refuses ranges of more than 11 000 points for a series.
const MOST_POINTS: u64 = 10_000;

/// Cuts a time into ranges that may be asked for, from its first whole step to its last.
pub(super) fn ranges(from: Timestamp, to: Timestamp, step: Duration) -> Vec<(Timestamp, Timestamp)> {
    let step_ms = u64::try_from(step.as_millis()).unwrap_or(u64::MAX).max(1);
    let (first, last) = (from.unix_ms().div_ceil(step_ms), to.unix_ms() / step_ms);
    let at = |step: u64| Timestamp::from_unix_ms(step * step_ms);
    let mut ranges = Vec::new();
    let mut next = first;
    while next <= last {
        let end = last.min(next + MOST_POINTS - 1);
        ranges.push((at(next), at(end)));
        next = end + 1;
    }
    ranges
}

/// The path of a question, below that of the server.
pub(super) fn path(prefix: &str, expression: &str, range: (Timestamp, Timestamp), step: Duration) -> String {
    let seconds = |at: Timestamp| format!("{}.{:03}", at.unix_ms() / 1_000, at.unix_ms() % 1_000);
    format!(
        "{prefix}/api/v1/query_range?query={}&start={}&end={}&step={}.{:03}",
        encoded(expression),
        seconds(range.0),
        seconds(range.1),
        step.as_secs(),
        step.subsec_millis(),
    )
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
struct Reply {
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    #[serde(default)]
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    #[serde(default)]
    values: Vec<(f64, String)>,
}

/// What is wrong with an answer, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) remedy: &'static str,
}

/// The points of the one series of an answer; none when there is no series. NaN is what Prometheus writes for it.
pub(super) fn points(body: &[u8]) -> Result<Vec<(Timestamp, f64)>, Wrong> {
    let wrong = |what: String, remedy| Err(Wrong { what, remedy });
    let reply: Reply = match serde_json::from_slice(body) {
        Ok(reply) => reply,
        Err(error) => {
            return wrong(
                format!("the answer is none of a Prometheus ({error})"),
                "see whether the address is that of its API",
            );
        }
    };
    let Some(data) = reply.data else {
        let error =
            reply.error.unwrap_or_else(|| "it says neither what it found nor what is wrong".to_owned());
        return wrong(error, "try the expression in Prometheus's own page");
    };
    if data.result_type != "matrix" {
        let what = format!("it yields {} and no series", data.result_type);
        return wrong(what, "ask for an expression that has a value at each instant");
    }
    if data.result.len() > 1 {
        return wrong(
            format!("it yields {} series where one is wanted", data.result.len()),
            "name the labels of the one, or bring them together with sum or max",
        );
    }
    let mut points = Vec::new();
    for (seconds, value) in data.result.into_iter().flat_map(|series| series.values) {
        let at = (seconds * 1_000.0).round();
        let Ok(value) = value.parse::<f64>() else {
            return wrong(format!("`{value}` is no number"), "see whether the address is that of its API");
        };
        if !(0.0..9e15).contains(&at) {
            return wrong(format!("{seconds} is no instant"), "see whether the address is that of its API");
        }
        points.push((Timestamp::from_unix_ms(at as u64), value));
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    #[test]
    fn a_long_time_is_cut_below_what_may_be_asked_and_loses_no_step() {
        let step = Duration::from_millis(1_500);
        let ranges = ranges(at(1), at(45_000_000), step);
        assert_eq!(ranges.len(), 3);
        assert_eq!((ranges[0].0, ranges[2].1), (at(1_500), at(45_000_000)));
        for pair in ranges.windows(2) {
            assert_eq!(pair[0].1 + step, pair[1].0);
        }
        assert!(ranges.iter().all(|(a, b)| b.since(*a).as_millis() / 1_500 < 11_000));
        assert_eq!(super::ranges(at(10), at(5), step), []);
        assert_eq!(super::ranges(at(1_500), at(1_500), step), [(at(1_500), at(1_500))]);
    }

    #[test]
    fn a_question_is_a_path_whatever_the_expression_holds() {
        let path = path("/p", "a{b=\"é &\"}", (at(1_500), at(61_002)), Duration::from_millis(1_500));
        let expected =
            "/p/api/v1/query_range?query=a%7Bb%3D%22%C3%A9%20%26%22%7D&start=1.500&end=61.002&step=1.500";
        assert_eq!(path, expected);
    }

    #[test]
    fn answers_are_points_or_say_what_is_wrong() {
        let of = |result: &str| {
            format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{result}]}}}}"#)
        };
        let series = r#"{"metric":{"a":"b"},"values":[[1.5,"2"],[3,"NaN"],[4.25,"+Inf"]]}"#;
        let points = points(of(series).as_bytes()).unwrap();
        assert_eq!(points.iter().map(|p| p.0.unix_ms()).collect::<Vec<_>>(), [1_500, 3_000, 4_250]);
        assert!(points[0].1 == 2.0 && points[1].1.is_nan() && points[2].1 == f64::INFINITY);
        assert_eq!(super::points(of("").as_bytes()), Ok(vec![]));
        let wrong = |body: &str| super::points(body.as_bytes()).unwrap_err().what;
        assert_eq!(wrong(&of(&format!("{series},{series}"))), "it yields 2 series where one is wanted");
        assert_eq!(
            wrong(r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#),
            "parse error"
        );
        assert!(wrong("<html>").starts_with("the answer is none of a Prometheus"));
        assert_eq!(wrong(&of(r#"{"values":[[1,"x"]]}"#)), "`x` is no number");
        assert_eq!(wrong(&of(r#"{"values":[[-1,"1"]]}"#)), "-1 is no instant");
    }
}
