//! Prometheus remote write 1.0 and 2.0.

use forefend_telemetry::{
    Report,
    remote_write::{self, Version},
};
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use tonic::body::Body;

use super::{
    answer::Failure,
    http::{Shared, content_encoding, header},
};

const SAMPLES_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-samples-written");
const HISTOGRAMS_WRITTEN: HeaderName =
    HeaderName::from_static("x-prometheus-remote-write-histograms-written");
const EXEMPLARS_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-exemplars-written");

/// Takes what can be taken, and says how much that was. What nobody wants, or is of nobody known, is no error: a
/// Prometheus usually sends more than one receiver needs. What could be wanted and can't be kept is (400).
pub(super) fn take(shared: &Shared, headers: &HeaderMap, body: &[u8]) -> Result<Response<Body>, Failure> {
    let content_type = header(headers, &CONTENT_TYPE).unwrap_or_default();
    let version = Version::of_content_type(content_type).ok_or_else(|| {
        Failure::unsupported(format!(
            "the content type `{}` is no remote write; send `application/x-protobuf`, with `proto=prometheus.WriteRequest` or \
             `proto=io.prometheus.write.v2.Request`",
            content_type.escape_debug()
        ))
    })?;
    let encoding = content_encoding(headers);
    if !encoding.eq_ignore_ascii_case("snappy") {
        let encoding = encoding.escape_debug();
        return Err(Failure::unsupported(format!(
            "remote write is compressed by snappy, and this body is said to be `{encoding}`"
        )));
    }
    let decoded = remote_write::decode(body, version, &shared.limits)?;
    let mut report = shared.intake.push(decoded.taken);
    report.refused.merge(decoded.refused);
    Ok(answer(&report))
}

fn answer(report: &Report) -> Response<Body> {
    let mut response = match &report.refused.first {
        None => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Some(first) => {
            let refused = report.refused.tally.all();
            let words = format!("{refused} samples can't be taken, the others were; the first: {first}");
            Failure::new(StatusCode::BAD_REQUEST, words).plain()
        }
    };
    let headers = response.headers_mut();
    headers.insert(SAMPLES_WRITTEN, HeaderValue::from(report.kept.samples));
    headers.insert(HISTOGRAMS_WRITTEN, HeaderValue::from(report.kept.histograms));
    headers.insert(EXEMPLARS_WRITTEN, HeaderValue::from(0));
    response
}
