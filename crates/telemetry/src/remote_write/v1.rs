use prost::Message as _;

use super::{
    Raw, Told, add,
    message::{Sample, TimeSeriesV1},
    no_message, time, value,
};
use crate::{
    pushed::{DecodeError, Decoded, PushLimits, PushedPoint, PushedSeries},
    wire,
};

/// The field of `prometheus.WriteRequest` that holds series.
const TIMESERIES: u64 = 1;

pub(super) fn decode(body: &[u8], limits: &PushLimits) -> Result<Decoded<PushedSeries>, DecodeError> {
    let mut out = Decoded::default();
    let mut budget = limits.max_points;
    let mut index = 0;
    for field in wire::fields(body) {
        let field = field.map_err(|flaw| no_message("the request", flaw))?;
        let Some(bytes) = field.bytes.filter(|_| field.number == TIMESERIES) else { continue };
        let place = format!("timeseries[{index}]");
        index += 1;
        if bytes.len() > limits.max_part_bytes {
            return Err(DecodeError::TooMuch { what: "bytes in one series", bound: limits.max_part_bytes });
        }
        let series = TimeSeriesV1::decode(bytes)
            .map_err(|e| DecodeError::Broken { place: place.clone(), what: e.to_string() })?;
        let labels = series.labels.into_iter().map(|label| (label.name, label.value)).collect();
        let (samples, bad_times) = points(&series.samples);
        spend(&mut budget, series.samples.len() + series.histograms.len(), limits)?;
        let raw = Raw {
            place: &place,
            labels,
            unit: String::new(),
            told: Told::Nothing,
            samples,
            bad_times,
            histograms: series.histograms,
            began: None,
        };
        add(raw, &mut out, limits);
    }
    Ok(out)
}

/// The points, and how many have a time that can't be.
pub(super) fn points(samples: &[Sample]) -> (Vec<PushedPoint>, usize) {
    let points: Vec<PushedPoint> = samples
        .iter()
        .filter_map(|sample| {
            let began = super::began(sample.start_timestamp);
            Some(PushedPoint { at: time(sample.timestamp)?, value: value(sample.value), began })
        })
        .collect();
    let bad = samples.len() - points.len();
    (points, bad)
}

pub(super) fn spend(budget: &mut usize, points: usize, limits: &PushLimits) -> Result<(), DecodeError> {
    *budget = budget
        .checked_sub(points)
        .ok_or(DecodeError::TooMuch { what: "samples", bound: limits.max_points })?;
    Ok(())
}
