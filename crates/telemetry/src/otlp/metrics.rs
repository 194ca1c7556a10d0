use std::sync::Arc;

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{Metric, metric::Data},
};

use super::{Encoding, Sink, json, message, points::Points, spend, value, walk};
use crate::pushed::{DecodeError, Decoded, Labels, PushLimits, PushedSeries};

/// Reads a body of metrics that is not compressed any more.
///
/// # Errors
/// When nothing of it can be taken: it is too large, or not what it is said to be.
pub fn decode(
    body: &[u8],
    encoding: Encoding,
    limits: &PushLimits,
) -> Result<Decoded<PushedSeries>, DecodeError> {
    if body.len() > limits.max_bytes {
        return Err(DecodeError::TooMuch { what: "bytes", bound: limits.max_bytes });
    }
    let mut metrics = Metrics {
        limits: *limits,
        budget: limits.max_points,
        source: Arc::default(),
        out: Decoded::default(),
    };
    match encoding {
        Encoding::Protobuf => {
            walk(body, ["resource_metrics", "scope_metrics", "metrics"], limits, &mut metrics)?;
        }
        Encoding::Json => metrics.request(json(body, limits)?)?,
    }
    Ok(metrics.out)
}

struct Metrics {
    limits: PushLimits,
    budget: usize,
    source: Arc<Labels>,
    out: Decoded<PushedSeries>,
}

impl Sink for Metrics {
    fn resource(&mut self, attributes: Arc<Labels>) {
        self.source = attributes;
    }

    fn item(&mut self, bytes: &[u8], place: &str) -> Result<(), DecodeError> {
        let metric: Metric = message(bytes, place, &self.limits)?;
        self.metric(metric, place)
    }
}

impl Metrics {
    fn request(&mut self, request: ExportMetricsServiceRequest) -> Result<(), DecodeError> {
        for (r, resource) in request.resource_metrics.into_iter().enumerate() {
            let attributes = resource.resource.map(|resource| value::labels(resource.attributes));
            self.resource(Arc::new(attributes.unwrap_or_default()));
            for (s, scope) in resource.scope_metrics.into_iter().enumerate() {
                for (m, metric) in scope.metrics.into_iter().enumerate() {
                    self.metric(metric, &format!("resourceMetrics[{r}].scopeMetrics[{s}].metrics[{m}]"))?;
                }
            }
        }
        Ok(())
    }

    fn metric(&mut self, metric: Metric, place: &str) -> Result<(), DecodeError> {
        let Some(data) = metric.data else { return Ok(()) };
        let sent = match &data {
            Data::Gauge(data) => data.data_points.len(),
            Data::Sum(data) => data.data_points.len(),
            Data::Histogram(data) => data.data_points.len(),
            Data::ExponentialHistogram(data) => data.data_points.len(),
            Data::Summary(data) => data.data_points.len(),
        };
        spend(&mut self.budget, sent, &self.limits)?;
        let mut points = Points {
            name: &metric.name,
            unit: &metric.unit,
            place,
            source: &self.source,
            limits: &self.limits,
            out: &mut self.out,
        };
        match data {
            Data::Gauge(data) => points.gauge(data),
            Data::Sum(data) => points.sum(data),
            Data::Histogram(data) => points.histogram(data),
            Data::ExponentialHistogram(data) => points.exponential_histogram(data),
            Data::Summary(data) => points.summary(data),
        }
        Ok(())
    }
}
