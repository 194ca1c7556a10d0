//! OTLP 1.x: bodies of metrics and logs to series and records.
//!
//! Sources: <https://opentelemetry.io/docs/specs/otlp/> and
//! <https://opentelemetry.io/docs/specs/otel/metrics/data-model/>.
//!
//! | Sent | Becomes |
//! |---|---|
//! | gauge | a level |
//! | sum, cumulative and monotonic | a total |
//! | sum, cumulative, not monotonic | a level |
//! | sum, delta and monotonic | its rate over the interval it was added in |
//! | sum, delta, not monotonic | refused: changes of an unknown level tell no level |
//! | histogram | `NAME_count` and `NAME_sum` like sums; `NAME_p50` and `NAME_p99` estimated from the buckets |
//! | exponential histogram | `NAME_count` and `NAME_sum` |
//! | summary | `NAME_count`, `NAME_sum`, and a level for each quantile, labelled `quantile` |
//!
//! A point with the flag "no recorded value" is an explicit gap. A series has the attributes of its points as labels;
//! attributes of the resource say who sent it. Scopes, descriptions and exemplars are not kept.

mod logs;
mod metrics;
mod points;
mod value;

use std::sync::Arc;

use forefend_domain::Timestamp;
use opentelemetry_proto::tonic::resource::v1::Resource;

pub use logs::decode as decode_logs;
pub use metrics::decode as decode_metrics;

use crate::{
    pushed::{DecodeError, Labels, PushLimits},
    wire::{self, NotAMessage},
};

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Protobuf.
    Protobuf,
    /// JSON as the protocol maps it.
    Json,
}

impl Encoding {
    /// From a `Content-Type`; `None`: it is neither.
    #[must_use]
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        let media = content_type.split(';').next().unwrap_or_default().trim();
        if media.eq_ignore_ascii_case("application/x-protobuf") {
            Some(Self::Protobuf)
        } else if media.eq_ignore_ascii_case("application/json") {
            Some(Self::Json)
        } else {
            None
        }
    }
}

/// JSON grows in memory as a whole, so that less of it is taken.
const JSON_SHARE: usize = 16;

fn no_message(place: &str, flaw: NotAMessage) -> DecodeError {
    DecodeError::Broken {
        place: format!("{place}, byte {}", flaw.offset),
        what: format!("no protobuf: {}", flaw.what),
    }
}

/// What the walk through resources, scopes and their items finds, in this order for each resource.
trait Sink {
    /// Begins a resource.
    fn resource(&mut self, attributes: Arc<Labels>);
    /// One metric or record.
    fn item(&mut self, bytes: &[u8], place: &str) -> Result<(), DecodeError>;
}

/// Both kinds of bodies have the same bones: resources (1) hold one description (1) and scopes (2), which hold items (2).
fn walk(body: &[u8], names: [&str; 3], limits: &PushLimits, sink: &mut impl Sink) -> Result<(), DecodeError> {
    for (r, resource) in children(body, 1, "the request").enumerate() {
        let (resource, here) = (resource?, format!("{}[{r}]", names[0]));
        let mut attributes = Labels::new();
        for description in children(resource, 1, &here) {
            let description: Resource = message(description?, &format!("{here}.resource"), limits)?;
            attributes.extend(value::labels(description.attributes));
        }
        sink.resource(Arc::new(attributes));
        for (s, scope) in children(resource, 2, &here).enumerate() {
            let (scope, here) = (scope?, format!("{here}.{}[{s}]", names[1]));
            for (i, item) in children(scope, 2, &here).enumerate() {
                sink.item(item?, &format!("{here}.{}[{i}]", names[2]))?;
            }
        }
    }
    Ok(())
}

fn children<'a>(
    parent: &'a [u8],
    number: u64,
    place: &str,
) -> impl Iterator<Item = Result<&'a [u8], DecodeError>> {
    wire::fields(parent).filter_map(move |field| match field {
        Ok(field) => field.bytes.filter(|_| field.number == number).map(Ok),
        Err(flaw) => Some(Err(no_message(place, flaw))),
    })
}

/// Builds a part of a body.
fn message<T: prost::Message + Default>(
    bytes: &[u8],
    place: &str,
    limits: &PushLimits,
) -> Result<T, DecodeError> {
    if bytes.len() > limits.max_part_bytes {
        return Err(DecodeError::TooMuch {
            what: "bytes in one part of a request",
            bound: limits.max_part_bytes,
        });
    }
    T::decode(bytes).map_err(|e| DecodeError::Broken { place: place.to_owned(), what: e.to_string() })
}

/// The whole of a JSON body.
fn json<T: serde::de::DeserializeOwned>(body: &[u8], limits: &PushLimits) -> Result<T, DecodeError> {
    let bound = limits.max_bytes / JSON_SHARE;
    if body.len() > bound {
        return Err(DecodeError::TooMuch { what: "bytes of JSON", bound });
    }
    serde_json::from_slice(body).map_err(|e| DecodeError::Broken {
        place: format!("line {}, column {}", e.line(), e.column()),
        what: e.to_string(),
    })
}

fn spend(budget: &mut usize, points: usize, limits: &PushLimits) -> Result<(), DecodeError> {
    *budget = budget
        .checked_sub(points)
        .ok_or(DecodeError::TooMuch { what: "points", bound: limits.max_points })?;
    Ok(())
}

/// `None`: 0, which stands for "not told".
fn time(unix_nano: u64) -> Option<Timestamp> {
    (unix_nano > 0).then(|| Timestamp::from_unix_ms(unix_nano / 1_000_000))
}
