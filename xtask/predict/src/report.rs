//! Lines of a benchmark, as every bench prints them.

use forefend_learn::evaluate::Estimate;
use serde::Serialize;

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    pub(crate) bench: &'static str,
    pub(crate) case: &'static str,
    pub(crate) peer: Option<&'static str>,
    /// Ends in its unit where it has one.
    pub(crate) metric: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) ours: Option<f64>,
    pub(crate) theirs: Option<f64>,
    /// Ours over theirs.
    pub(crate) ratio: Option<f64>,
    /// The 95% interval of our figure, or its range over parts of the data; docs/benchmarks.md says which.
    pub(crate) spread: Option<[f64; 2]>,
    pub(crate) rounds: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) skipped: Option<String>,
}

impl Line {
    /// A figure of ours.
    pub(crate) fn ours(
        case: &'static str,
        metric: &'static str,
        unit: &'static str,
        value: Option<f64>,
    ) -> Self {
        Self {
            bench: "predict",
            case,
            peer: None,
            metric,
            unit,
            ours: value.map(rounded),
            theirs: None,
            ratio: None,
            spread: None,
            rounds: 1,
            skipped: None,
        }
    }

    /// The same figure of a peer in the same run. There is no ratio to a peer that scores nothing.
    pub(crate) fn against(self, peer: &'static str, theirs: Option<f64>) -> Self {
        let some = theirs.filter(|theirs| *theirs != 0.0);
        let ratio = self.ours.zip(some).map(|(ours, theirs)| rounded(ours / theirs));
        Self { peer: Some(peer), theirs: theirs.map(rounded), ratio, ..self }
    }

    /// A figure of ours with its interval.
    pub(crate) fn estimate(
        case: &'static str,
        metric: &'static str,
        unit: &'static str,
        of: Option<Estimate>,
    ) -> Self {
        let spread = of.map(|of| [rounded(of.low), rounded(of.high)]);
        Self { spread, ..Self::ours(case, metric, unit, of.map(|of| of.value)) }
    }

    /// With its range over parts of the data.
    pub(crate) fn over(self, [low, high]: [f64; 2]) -> Self {
        Self { spread: Some([rounded(low), rounded(high)]), ..self }
    }

    /// A figure that could not be taken, and why.
    pub(crate) fn skipped(case: &'static str, metric: &'static str, unit: &'static str, why: String) -> Self {
        Self { skipped: Some(why), ..Self::ours(case, metric, unit, None) }
    }

    /// As a row of the table in docs/benchmarks.md.
    pub(crate) fn row(&self) -> String {
        let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |v| v.to_string());
        let spread = self.spread.map_or_else(|| "–".to_owned(), |[low, high]| format!("{low} … {high}"));
        format!(
            "| {} | {} | {} | {} | {} | {} | {spread} |",
            self.case,
            self.metric,
            self.peer.unwrap_or("–"),
            number(self.ours),
            number(self.theirs),
            number(self.ratio),
        )
    }
}

/// Four digits that matter.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = 10f64.powf(3.0 - value.abs().log10().floor());
    (value * digits).round() / digits
}
