use prost::Message as _;

use super::{
    Raw, Told, add, began,
    message::{Metadata, TimeSeriesV2},
    no_message,
    v1::{points, spend},
};
use crate::{
    pushed::{CountsAs, DecodeError, Decoded, Labels, PushLimits, PushedSeries},
    wire,
};

/// The fields of `io.prometheus.write.v2.Request`.
const SYMBOLS: u64 = 4;
const TIMESERIES: u64 = 5;

pub(super) fn decode(body: &[u8], limits: &PushLimits) -> Result<Decoded<PushedSeries>, DecodeError> {
    let symbols = symbols(body, limits)?;
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
        let series = TimeSeriesV2::decode(bytes)
            .map_err(|e| DecodeError::Broken { place: place.clone(), what: e.to_string() })?;
        spend(&mut budget, series.samples.len() + series.histograms.len(), limits)?;
        let (samples, bad_times) = points(&series.samples);
        let labels = match labels(&series.labels_refs, &symbols, limits) {
            Ok(labels) => labels,
            Err(why) => {
                let why = || format!("{place}.labels_refs: {why}");
                out.refused.add(CountsAs::Sample, series.samples.len(), why);
                out.refused.add(CountsAs::Histogram, series.histograms.len(), why);
                continue;
            }
        };
        let metadata = series.metadata.unwrap_or_default();
        let unit = symbols.get(metadata.unit_ref as usize).copied().unwrap_or_default().to_owned();
        let raw = Raw {
            place: &place,
            labels,
            unit,
            told: told(metadata),
            samples,
            bad_times,
            histograms: series.histograms,
            began: began(series.created_timestamp),
        };
        add(raw, &mut out, limits);
    }
    Ok(out)
}

/// Symbols for each point that a body may have: more than labels that no two series share would need.
const SYMBOLS_PER_POINT: usize = 4;

/// They stand anywhere in the body, usually first.
fn symbols<'a>(body: &'a [u8], limits: &PushLimits) -> Result<Vec<&'a str>, DecodeError> {
    let bound = limits.max_points.saturating_mul(SYMBOLS_PER_POINT);
    let mut symbols = Vec::new();
    for field in wire::fields(body) {
        let field = field.map_err(|flaw| no_message("the request", flaw))?;
        let Some(bytes) = field.bytes.filter(|_| field.number == SYMBOLS) else { continue };
        if symbols.len() == bound {
            return Err(DecodeError::TooMuch { what: "symbols", bound });
        }
        let text = std::str::from_utf8(bytes).map_err(|e| DecodeError::Broken {
            place: format!("symbols[{}], byte {}", symbols.len(), e.valid_up_to()),
            what: "this is no UTF-8".to_owned(),
        })?;
        symbols.push(text);
    }
    Ok(symbols)
}

fn labels(refs: &[u32], symbols: &[&str], limits: &PushLimits) -> Result<Labels, String> {
    if !refs.len().is_multiple_of(2) {
        return Err(format!("{} references are no pairs of name and value", refs.len()));
    }
    if refs.len() / 2 > limits.max_labels {
        return Err(format!("it has {} labels, and {} are allowed", refs.len() / 2, limits.max_labels));
    }
    let symbol = |reference: u32| {
        let symbol = symbols.get(reference as usize).copied();
        symbol.ok_or_else(|| format!("there is no symbol {reference}, only {}", symbols.len()))
    };
    refs.chunks_exact(2).map(|pair| Ok((symbol(pair[0])?.to_owned(), symbol(pair[1])?.to_owned()))).collect()
}

fn told(metadata: Metadata) -> Told {
    match metadata.kind {
        1 => Told::Counter,
        2 => Told::Gauge,
        3 | 5 => Told::Composed,
        4 => Told::GaugeHistogram,
        6 | 7 => Told::Other,
        _ => Told::Nothing,
    }
}
