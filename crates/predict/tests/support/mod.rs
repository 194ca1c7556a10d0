//! Made-up telemetry: streams of one metric and the windows that hold them.

#![expect(clippy::unwrap_used, reason = "a test stops where its set-up is wrong")]

use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{
    CellId, Family, MetricKind, MetricName, MetricWindow, Prediction, Sample, Timestamp, Windows,
};
use forefend_predict::{DayZero, Predictor};

/// The step of all windows here, as in production.
pub(crate) const STEP: Duration = Duration::from_millis(250);

/// The horizon of all predictions here, unless a test says otherwise.
pub(crate) const HORIZON: Duration = Duration::from_secs(20);

pub(crate) const MIB: f64 = 1024.0 * 1024.0;

/// One metric whose samples end now; `None` is a gap.
pub(crate) fn metric(name: &str, family: Family, limit: f64, values: &[Option<f64>]) -> MetricWindow {
    let begin = Timestamp::from_unix_ms(1_700_000_000_000);
    let samples = values
        .iter()
        .enumerate()
        .map(|(i, value)| Sample { at: begin + STEP * u32::try_from(i).unwrap(), value: *value })
        .collect();
    MetricWindow {
        name: MetricName::new(name),
        family,
        kind: MetricKind::Exhaustible,
        unit: "bytes".into(),
        limit: Some(limit),
        samples,
    }
}

pub(crate) fn windows(metrics: impl IntoIterator<Item = MetricWindow>) -> Windows {
    let metrics: BTreeMap<_, _> = metrics.into_iter().map(|m| (m.name.clone(), m)).collect();
    let at = metrics.values().filter_map(|m| m.samples.last().map(|s| s.at)).max().unwrap_or_default();
    Windows { cell: CellId::new("cell").unwrap(), at, step: STEP, metrics }
}

/// Memory of a cell with a limit of 96 MiB, in MiB.
pub(crate) fn memory(mib: &[f64]) -> MetricWindow {
    let values: Vec<Option<f64>> = mib.iter().map(|v| Some(v * MIB)).collect();
    metric("memory_working_set_bytes", Family::Saturation, 96.0 * MIB, &values)
}

pub(crate) fn predict(windows: &Windows) -> Prediction {
    DayZero::default().predict(windows, HORIZON).expect("something was measured")
}

pub(crate) fn probability(windows: &Windows) -> f64 {
    predict(windows).probability.get()
}

/// What is predicted of a cell of which nothing but its existence is known.
pub(crate) fn prior() -> f64 {
    probability(&windows([memory(&[10.0])]))
}
