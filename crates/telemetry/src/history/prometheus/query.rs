//! Questions and answers of the range query (<https://prometheus.io/docs/prometheus/latest/querying/api/#range-queries>), as values.

use std::time::Duration;

use forefend_domain::Timestamp;

use crate::prometheus::api::{self, MOST_POINTS, Unanswered};

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

/// What is wrong with an answer, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) remedy: &'static str,
}

/// The points of the one series of an answer; none when there is no series. NaN is what Prometheus writes for it.
pub(super) fn points(body: &[u8]) -> Result<Vec<(Timestamp, f64)>, Wrong> {
    let mut series = api::series(body).map_err(|unanswered| Wrong::from(&unanswered))?.series.into_iter();
    let points = series.next().map(|one| one.points).unwrap_or_default();
    if series.len() > 0 {
        return Err(Wrong {
            what: format!("it yields {} series where one is wanted", series.len() + 1),
            remedy: "name the labels of the one, or bring them together with sum or max",
        });
    }
    Ok(points.into_iter().map(|point| (point.at, point.value)).collect())
}

impl From<&Unanswered> for Wrong {
    fn from(unanswered: &Unanswered) -> Self {
        let remedy = match unanswered {
            Unanswered::Strange(_) => "see whether the address is that of its API",
            Unanswered::Refused { .. } => "try the expression in Prometheus's own page",
            Unanswered::NoSeries(_) => "ask for an expression that has a value at each instant",
        };
        Self { what: unanswered.to_string(), remedy }
    }
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
        assert!(wrong(&of(r#"{"values":[[1,"x"]]}"#)).contains("`x` is no number"));
        assert!(wrong(&of(r#"{"values":[[-1,"1"]]}"#)).contains("-1 is no instant"));
    }
}
