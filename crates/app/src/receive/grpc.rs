//! OTLP over gRPC. The framing, compression and statuses are tonic's; messages stay bytes until our own decoders, which
//! bound what they become, read them.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes};
use forefend_telemetry::otlp::Encoding;
use hyper::{Request, Response, body::Incoming};
use tonic::{
    Status,
    body::Body,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{Grpc, UnaryService},
};

use super::{
    answer::Failure,
    http::{Shared, Signal, work},
    otlp,
};

/// A call must have come and been answered by then.
const CALL_WITHIN: Duration = Duration::from_secs(30);

/// Answers `Export` of metrics or logs.
pub(super) async fn export(
    shared: &Arc<Shared>,
    signal: Signal,
    request: Request<Incoming>,
) -> Response<Body> {
    let mut grpc = Grpc::new(Raw)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(shared.limits.max_bytes);
    let export = Export { shared: Arc::clone(shared), signal };
    let late = |_| Failure::later(format!("the message did not come within {CALL_WITHIN:?}")).grpc();
    tokio::time::timeout(CALL_WITHIN, grpc.unary(export, request)).await.unwrap_or_else(late)
}

/// Answers what nobody answers.
pub(super) fn unknown() -> Response<Body> {
    Status::unimplemented("metrics and logs of OTLP are taken here, nothing else").into_http()
}

struct Export {
    shared: Arc<Shared>,
    signal: Signal,
}

impl UnaryService<Bytes> for Export {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let (shared, signal) = (Arc::clone(&self.shared), self.signal);
        Box::pin(async move {
            let message = request.into_inner();
            let taken = work(move || otlp::export(&shared, signal, &message, Encoding::Protobuf)).await;
            let outcome = taken.and_then(|taken| taken.map_err(Failure::from)).map_err(Failure::status)?;
            Ok(tonic::Response::new(outcome.protobuf()))
        })
    }
}

/// Messages as bytes.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
