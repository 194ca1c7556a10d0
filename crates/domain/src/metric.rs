use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{CellId, MetricName, Timestamp};

/// What a metric tells about a cell. Models learn families, not names, so that what they learn carries over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// How full something with a limit is: memory, disk, file descriptors, pool, CPU.
    Saturation,
    /// How long requests take.
    Latency,
    /// How many requests there are.
    Traffic,
    /// The share of requests that go wrong.
    Errors,
    /// Counts of log templates.
    Logs,
    /// How often processes started again.
    Restarts,
    /// Anything else the service tells by name.
    Custom,
}

/// What crossing its limit means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetricKind {
    /// Reaching the limit is a failure of the cell: memory, disk, file descriptors, the objective itself.
    Exhaustible,
    /// Falling to the limit is a failure of the cell: free space, free memory, tokens left, days until a certificate expires.
    Depletable,
    /// Reaching the limit is not yet a failure: CPU, queue length. Informs anomaly and overload relief only.
    Saturable,
    /// No limit is known. Informs anomaly only.
    Unbounded,
}

impl MetricKind {
    /// Whether a cell fails that reaches the limit.
    #[must_use]
    pub fn fails(self) -> bool {
        matches!(self, Self::Exhaustible | Self::Depletable)
    }

    /// A length that matters to a metric of this kind, in its unit: its limit. What depletes may do so at 0, so of that it is no less than what is left.
    #[must_use]
    pub fn length(self, limit: f64, newest: f64) -> f64 {
        if self == Self::Depletable { limit.abs().max(newest.abs()) } else { limit.abs() }
    }

    /// 1, or −1 where it is by falling that the limit is reached: values times this rise towards the limit times this.
    #[must_use]
    pub fn sign(self) -> f64 {
        if self == Self::Depletable { -1.0 } else { 1.0 }
    }
}

/// A value at an instant. `None` is a gap: nothing was measured, which is neither zero nor health.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The end of the interval it stands for.
    pub at: Timestamp,
    /// Finite, or `None` for a gap, a counter reset, NaN or staleness.
    pub value: Option<f64>,
}

/// One metric of one cell over the aligned window: one sample per step, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricWindow {
    /// As the cell or the reader names it.
    pub name: MetricName,
    /// What it tells.
    pub family: Family,
    /// What crossing the limit means.
    pub kind: MetricKind,
    /// The unit its values are in, for people: `bytes`, `ms`, `ratio`.
    pub unit: String,
    /// The value it must not reach, if one is known or was learned; by rising, or by falling where it is [`MetricKind::Depletable`].
    pub limit: Option<f64>,
    /// Aligned to the step of [`Windows`].
    pub samples: Vec<Sample>,
}

/// The aligned telemetry of one cell: what `predict` reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Windows {
    /// Whose telemetry.
    pub cell: CellId,
    /// The end of the newest step.
    pub at: Timestamp,
    /// The distance between samples.
    pub step: Duration,
    /// By name.
    pub metrics: BTreeMap<MetricName, MetricWindow>,
}

impl MetricWindow {
    /// The limit that values fill up to: finite and not 0. `None` without one, and of what depletes, for nobody says how much there was.
    #[must_use]
    pub fn fills_up_to(&self) -> Option<f64> {
        self.limit.filter(|limit| limit.is_finite() && *limit != 0.0 && self.kind != MetricKind::Depletable)
    }

    /// The newest value that is not a gap, with its age in steps.
    #[must_use]
    pub fn latest(&self) -> Option<(usize, f64)> {
        self.samples.iter().rev().enumerate().find_map(|(age, sample)| sample.value.map(|v| (age, v)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_says_what_its_limit_is_to_values() {
        use MetricKind::{Depletable, Exhaustible, Saturable, Unbounded};
        assert_eq!(
            [Exhaustible, Depletable, Saturable, Unbounded].map(MetricKind::fails),
            [true, true, false, false]
        );
        assert_eq!([Exhaustible, Depletable].map(MetricKind::sign), [1.0, -1.0]);
        // Of what runs out at 0 the limit is no length.
        assert_eq!((Depletable.length(0.0, 7.0), Depletable.length(9.0, 7.0)), (7.0, 9.0));
        assert_eq!(Exhaustible.length(9.0, 70.0), 9.0);
        let fills_up_to = |kind, limit| {
            let (name, family) = (MetricName::new("m"), Family::Saturation);
            MetricWindow { name, family, kind, unit: String::new(), limit, samples: Vec::new() }.fills_up_to()
        };
        assert_eq!(fills_up_to(Exhaustible, Some(9.0)), Some(9.0));
        assert_eq!(fills_up_to(Saturable, Some(9.0)), Some(9.0));
        for none in [None, Some(0.0), Some(f64::NAN), Some(f64::INFINITY)] {
            assert_eq!(fills_up_to(Exhaustible, none), None);
        }
        assert_eq!(fills_up_to(Depletable, Some(9.0)), None);
    }
}
