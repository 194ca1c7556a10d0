use std::sync::Arc;

use opentelemetry_proto::tonic::{collector::logs::v1::ExportLogsServiceRequest, logs::v1::LogRecord};

use super::{Encoding, Sink, json, message, spend, time, value, walk};
use crate::pushed::{CountsAs, DecodeError, Decoded, Labels, PushLimits, PushedLog, Severity};

/// Reads a body of logs that is not compressed any more.
///
/// # Errors
/// When nothing of it can be taken: it is too large, or not what it is said to be.
pub fn decode(
    body: &[u8],
    encoding: Encoding,
    limits: &PushLimits,
) -> Result<Decoded<PushedLog>, DecodeError> {
    if body.len() > limits.max_bytes {
        return Err(DecodeError::TooMuch { what: "bytes", bound: limits.max_bytes });
    }
    let mut logs =
        Logs { limits: *limits, budget: limits.max_points, source: Arc::default(), out: Decoded::default() };
    match encoding {
        Encoding::Protobuf => walk(body, ["resource_logs", "scope_logs", "log_records"], limits, &mut logs)?,
        Encoding::Json => logs.request(json(body, limits)?)?,
    }
    Ok(logs.out)
}

struct Logs {
    limits: PushLimits,
    budget: usize,
    source: Arc<Labels>,
    out: Decoded<PushedLog>,
}

impl Sink for Logs {
    fn resource(&mut self, attributes: Arc<Labels>) {
        self.source = attributes;
    }

    fn item(&mut self, bytes: &[u8], place: &str) -> Result<(), DecodeError> {
        spend(&mut self.budget, 1, &self.limits)?;
        if bytes.len() > self.limits.max_part_bytes {
            // One record with a whole file in it must not cost the others.
            let bound = self.limits.max_part_bytes;
            let why = || format!("{place}: a record of more than {bound} bytes");
            self.out.refused.add(CountsAs::Sample, 1, why);
            return Ok(());
        }
        self.record(message(bytes, place, &self.limits)?);
        Ok(())
    }
}

impl Logs {
    fn request(&mut self, request: ExportLogsServiceRequest) -> Result<(), DecodeError> {
        for resource in request.resource_logs {
            let attributes = resource.resource.map(|resource| value::labels(resource.attributes));
            self.resource(Arc::new(attributes.unwrap_or_default()));
            for record in resource.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                spend(&mut self.budget, 1, &self.limits)?;
                self.record(record);
            }
        }
        Ok(())
    }

    fn record(&mut self, record: LogRecord) {
        self.out.taken.push(PushedLog {
            source: Arc::clone(&self.source),
            at: time(record.time_unix_nano).or_else(|| time(record.observed_time_unix_nano)),
            severity: severity(record.severity_number, &record.severity_text),
            body: value::text(record.body, PushedLog::MAX_BODY_BYTES),
        });
    }
}

/// By number; where there is none, by the words that programs use.
fn severity(number: i32, text: &str) -> Severity {
    match number {
        1..=4 => Severity::Trace,
        5..=8 => Severity::Debug,
        9..=12 => Severity::Info,
        13..=16 => Severity::Warn,
        17..=20 => Severity::Error,
        21..=24 => Severity::Fatal,
        _ => match text.trim().to_ascii_lowercase().as_str() {
            "trace" => Severity::Trace,
            "debug" => Severity::Debug,
            "info" | "information" | "notice" => Severity::Info,
            "warn" | "warning" => Severity::Warn,
            "error" | "err" => Severity::Error,
            "fatal" | "critical" | "crit" | "alert" | "emergency" | "emerg" | "panic" => Severity::Fatal,
            _ => Severity::Unspecified,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_are_told_by_number_or_word() {
        assert_eq!(severity(17, "INFO"), Severity::Error, "the number goes first");
        assert_eq!(severity(0, " Warning "), Severity::Warn);
        assert_eq!(severity(99, "whatever"), Severity::Unspecified);
        assert_eq!(severity(24, ""), Severity::Fatal);
    }
}
