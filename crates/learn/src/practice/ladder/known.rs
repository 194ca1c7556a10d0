use std::time::Duration;

use forefend_predict::learned::Calibration;

use super::{super::Looks, SHARES};
use crate::{
    TrainError, calibrate,
    evaluate::{
        Estimate,
        bootstrap::Bootstrap,
        survival::{Followed, ipcw},
    },
};

/// What is known of the horizon, row by row.
pub(super) struct Known {
    /// Whether it failed, and how much that counts; `None`: it was not watched long enough.
    rows: Vec<Option<(bool, f64)>>,
}

/// Two that speak together, the first with a share of the say.
pub(super) struct Pooled {
    pub(super) share: f64,
    pub(super) brier: f64,
    /// Of each row.
    pub(super) said: Vec<f64>,
    pub(super) losses: Vec<(f64, f64)>,
}

impl Known {
    pub(super) fn of(looks: &Looks, horizon: Duration) -> Option<Self> {
        let followed: Vec<Followed> = looks.marks.iter().map(|mark| mark.followed).collect();
        let rows = ipcw(horizon.as_secs_f64(), &followed)?
            .into_iter()
            .zip(&looks.marks)
            .map(|(known, mark)| known.map(|(failed, weight)| (failed, weight * f64::from(mark.weight))))
            .collect();
        Some(Self { rows })
    }

    /// `(loss times weight, weight)` of every row.
    pub(super) fn losses(&self, said: &[f64]) -> Vec<(f64, f64)> {
        let loss = |(known, said): (&Option<(bool, f64)>, &f64)| {
            known.map_or((0.0, 0.0), |(failed, weight)| (weight * (f64::from(failed) - said).powi(2), weight))
        };
        self.rows.iter().zip(said).map(loss).collect()
    }

    pub(super) fn mean(&self, losses: &[(f64, f64)]) -> f64 {
        let (loss, weight) = losses.iter().fold((0.0, 0.0), |sum, l| (sum.0 + l.0, sum.1 + l.1));
        loss / weight
    }

    /// The share of the say at which what `pooled` makes of it loses least.
    pub(super) fn best_share(&self, pooled: impl Fn(f64) -> Vec<f64>) -> Option<Pooled> {
        let of = |share: f64| {
            let said = pooled(share);
            let losses = self.losses(&said);
            Pooled { share, brier: self.mean(&losses), said, losses }
        };
        SHARES.map(of).into_iter().min_by(|a, b| a.brier.total_cmp(&b.brier))
    }

    /// Without the rows for which this does not hold.
    #[cfg(feature = "lstm")]
    pub(super) fn only(&self, holds: impl Fn(usize) -> bool) -> Self {
        let row = |(n, row): (usize, &Option<(bool, f64)>)| row.filter(|_| holds(n));
        Self { rows: self.rows.iter().enumerate().map(row).collect() }
    }

    pub(super) fn gain(
        &self,
        blocks: &[&str],
        before: &[(f64, f64)],
        after: &[(f64, f64)],
    ) -> Option<Estimate> {
        let rows: Vec<(f64, f64)> = before.iter().zip(after).map(|(b, a)| (b.0 - a.0, b.1)).collect();
        Bootstrap { resamples: 500, ..Bootstrap::default() }.interval(blocks, |drawn| {
            let (sum, weight) =
                drawn.iter().fold((0.0, 0.0), |sum, i| (sum.0 + rows[*i].0, sum.1 + rows[*i].1));
            (weight > 0.0).then_some(sum / weight)
        })
    }

    pub(super) fn calibration(&self, said: &[f64], blocks: &[&str]) -> Result<Calibration, TrainError> {
        let mut known = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for ((row, said), block) in self.rows.iter().zip(said).zip(blocks) {
            let Some((failed, weight)) = row else { continue };
            known.0.push(*said);
            known.1.push(f32::from(u8::from(*failed)));
            known.2.push(*block);
            known.3.push(*weight as f32);
        }
        calibrate::choose(&known.0, &known.1, &known.2, Some(&known.3))
    }
}
