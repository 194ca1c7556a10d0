//! Why something was not taken, in the words and forms of each protocol.

use bytes::Bytes;
use forefend_telemetry::{otlp::Encoding, pushed::DecodeError};
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};
use prost::Message as _;
use tonic::{Code, Status, body::Body};

/// A request that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    status: StatusCode,
    words: String,
}

/// `google.rpc.Status`, the body of every refusal over OTLP/HTTP.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, words: impl Into<String>) -> Self {
        Self { status, words: words.into() }
    }

    /// What a later try can mend.
    pub(super) fn later(words: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, words)
    }

    pub(super) fn unsupported(words: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, words)
    }

    /// As text.
    pub(super) fn plain(self) -> Response<Body> {
        let words = format!("{}\n", self.words);
        self.with_body("text/plain; charset=utf-8", words.into())
    }

    /// As OTLP over HTTP wants it.
    pub(super) fn otlp(self, encoding: Option<Encoding>) -> Response<Body> {
        let status = RpcStatus { code: self.code() as i32, message: self.words.clone() };
        match encoding {
            Some(Encoding::Json) => {
                let body = serde_json::json!({ "code": status.code, "message": status.message });
                self.with_body("application/json", body.to_string().into())
            }
            _ => self.with_body("application/x-protobuf", status.encode_to_vec().into()),
        }
    }

    /// As gRPC wants it.
    pub(super) fn grpc(self) -> Response<Body> {
        self.status().into_http()
    }

    /// As the status of a call.
    pub(super) fn status(self) -> Status {
        Status::new(self.code(), self.words)
    }

    fn code(&self) -> Code {
        match self.status {
            StatusCode::UNAUTHORIZED => Code::Unauthenticated,
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Code::Unimplemented,
            _ => Code::InvalidArgument,
        }
    }

    fn with_body(self, content_type: &'static str, body: Bytes) -> Response<Body> {
        let mut response = Response::new(Body::new(Full::new(body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(ALLOW, HeaderValue::from_static("POST"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        let status = match error {
            DecodeError::TooMuch { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            DecodeError::Broken { .. } => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}
