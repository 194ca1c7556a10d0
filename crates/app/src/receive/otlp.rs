//! OTLP, whichever way it came.

use bytes::Bytes;
use forefend_telemetry::{
    Report, inflate,
    otlp::{Encoding, decode_logs, decode_metrics},
    pushed::DecodeError,
};
use http_body_util::Full;
use hyper::{
    HeaderMap, Response,
    header::{CONTENT_TYPE, HeaderValue},
};
use opentelemetry_proto::tonic::collector::{
    logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse},
    metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse},
};
use prost::Message as _;
use tonic::body::Body;

use super::{
    answer::Failure,
    http::{Shared, Signal, content_encoding, header},
};

/// How the body is written; `None`: as nothing that is known.
pub(super) fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    header(headers, &CONTENT_TYPE).and_then(Encoding::of_content_type)
}

/// Over HTTP.
pub(super) fn take(
    shared: &Shared,
    signal: Signal,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response<Body>, Failure> {
    let encoding = encoding(headers).ok_or_else(|| {
        Failure::unsupported("OTLP over HTTP is sent as `application/x-protobuf` or `application/json`")
    })?;
    let inflated;
    let plain = match content_encoding(headers) {
        "identity" | "" => body,
        gzip if gzip.eq_ignore_ascii_case("gzip") => {
            inflated = inflate::gzip(body, shared.limits.max_bytes)?;
            &inflated
        }
        other => {
            let other = other.escape_debug();
            return Err(Failure::unsupported(format!("`{other}` can't be decompressed; send gzip, or none")));
        }
    };
    let outcome = export(shared, signal, plain, encoding)?;
    let (content_type, body) = match encoding {
        Encoding::Protobuf => ("application/x-protobuf", outcome.protobuf()),
        Encoding::Json => ("application/json", outcome.json()),
    };
    let mut response = Response::new(Body::new(Full::new(body)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(response)
}

/// What the sender is told: how much was not taken, and why.
pub(super) struct Outcome {
    signal: Signal,
    rejected: i64,
    words: String,
}

/// Takes what can be taken of a body that is not compressed any more.
pub(super) fn export(
    shared: &Shared,
    signal: Signal,
    plain: &[u8],
    encoding: Encoding,
) -> Result<Outcome, DecodeError> {
    let report = match signal {
        Signal::Metrics => {
            let decoded = decode_metrics(plain, encoding, &shared.limits)?;
            let mut report = shared.intake.push(decoded.taken);
            report.refused.merge(decoded.refused);
            report
        }
        Signal::Logs => {
            let decoded = decode_logs(plain, encoding, &shared.limits)?;
            let mut report = shared.intake.push_logs(decoded.taken);
            report.refused.merge(decoded.refused);
            report
        }
    };
    Ok(Outcome::of(signal, &report))
}

impl Outcome {
    /// Unlike a Prometheus, who speaks OTLP to us is mostly a cell itself: that it is not known is worth telling it.
    fn of(signal: Signal, report: &Report) -> Self {
        let rejected = report.refused.tally.all() + report.unknown.all();
        let words = report.refused.first.as_deref().or(report.stranger.as_deref()).unwrap_or_default();
        Self { signal, rejected: i64::try_from(rejected).unwrap_or(i64::MAX), words: words.to_owned() }
    }

    pub(super) fn protobuf(self) -> Bytes {
        let partial = self.rejected > 0;
        let encoded = match self.signal {
            Signal::Metrics => ExportMetricsServiceResponse {
                partial_success: partial.then_some(ExportMetricsPartialSuccess {
                    rejected_data_points: self.rejected,
                    error_message: self.words,
                }),
            }
            .encode_to_vec(),
            Signal::Logs => ExportLogsServiceResponse {
                partial_success: partial.then_some(ExportLogsPartialSuccess {
                    rejected_log_records: self.rejected,
                    error_message: self.words,
                }),
            }
            .encode_to_vec(),
        };
        encoded.into()
    }

    fn json(self) -> Bytes {
        let count = match self.signal {
            Signal::Metrics => "rejectedDataPoints",
            Signal::Logs => "rejectedLogRecords",
        };
        let answer = if self.rejected > 0 {
            // 64-bit numbers are text in the JSON of protobuf.
            serde_json::json!({ "partialSuccess": { count: self.rejected.to_string(), "errorMessage": self.words } })
        } else {
            serde_json::json!({})
        };
        answer.to_string().into()
    }
}
