//! The model: boosted trees for the hazard of the first thirty days and of the thirty after.
//!
//! All choices were made on the training part, with drives and months held out of it.

use anyhow::Result;
use forefend_learn::{
    boost,
    hazard::{Learner, Watched, train},
};
use forefend_predict::learned::Hazard;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{
    drives::{Drive, directions, names},
    looks::{AHEAD_H, HORIZON_H, Look},
    ranks::{self, Ranks},
    rates::Rates,
};

/// Looks without a failure ahead are kept one in so many, and count for as many.
const KEPT_ONE_IN: u32 = 4;

pub(super) struct Model {
    hazard: Hazard,
    rates: Rates,
    ranks: Ranks,
}

impl Model {
    /// Learns from `looks`, whose ends are those known at one instant.
    pub(super) fn fit(looks: &[Look], drives: &[Drive]) -> Result<Self> {
        let (rates, ranks) = (Rates::of(looks, drives), Ranks::of(looks, drives));
        let mut watched = Watched::default();
        for look in kept(looks) {
            let drive = &drives[look.drive];
            if let Some(mut row) = drive.row(look.hour) {
                row.extend(ranks.row(drive, look.hour));
                row.push(rates.of_own(look.drive, drive));
                watched.push(row, look.left, look.failed, look.weight);
            }
        }
        let mut features = names();
        let mut monotone = directions();
        features.extend(ranks::names());
        monotone.resize(features.len(), 0);
        features.push("model_rate".to_owned());
        // A model's rate speaks for risk and nothing else, and time is free.
        monotone.extend([1, 0]);
        let settings = boost::Settings {
            rounds: 500,
            learning_rate: 0.03,
            leaves: 12,
            min_rows_in_leaf: 50,
            min_hessian: 2.0,
            l2: 10.0,
            row_share: 0.7,
            column_share: 0.5,
            seed: 1,
            monotone,
            ..boost::Settings::default()
        };
        let hazard = train(&watched, None, &features, &[HORIZON_H, AHEAD_H], &Learner::Trees(settings))?;
        Ok(Self { hazard, rates, ranks })
    }

    /// How likely a drive that was not learned from fails within the horizon.
    pub(super) fn risk(&self, drive: &Drive, hour: f64) -> f64 {
        let Some(mut row) = drive.row(hour) else { return 0.0 };
        row.extend(self.ranks.row(drive, hour));
        row.push(self.rates.of_other(drive));
        self.hazard.within(&self.hazard.cumulative(&row), HORIZON_H)
    }
}

/// All looks before a failure and some of the others, with weights that make up for it.
fn kept(looks: &[Look]) -> impl Iterator<Item = Look> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    looks.iter().filter_map(move |look| {
        if look.failed && look.left <= AHEAD_H {
            return Some(look.clone());
        }
        let weight = look.weight * KEPT_ONE_IN as f32;
        (random.random_range(0..KEPT_ONE_IN) == 0).then(|| Look { weight, ..look.clone() })
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{drives::made_up, looks::learned},
        *,
    };

    #[test]
    fn thinning_keeps_failures_and_the_weight_of_all() {
        let look = |n: u32| Look {
            drive: 0,
            hour: 0.0,
            at: 0.0,
            left: f64::from(n),
            failed: n.is_multiple_of(100),
            weight: 1.0,
            drawn: true,
        };
        let looks: Vec<Look> = (0..20_000).map(look).collect();
        let kept: Vec<Look> = kept(&looks).collect();
        let due = |look: &&Look| look.failed && look.left <= AHEAD_H;
        assert_eq!(kept.iter().filter(due).count(), looks.iter().filter(due).count());
        assert!(kept.iter().filter(due).all(|look| look.weight == 1.0));
        let weight: f32 = kept.iter().map(|look| look.weight).sum();
        assert!(kept.len() < 6_000 && (weight / 20_000.0 - 1.0).abs() < 0.05, "{weight}");
    }

    #[test]
    fn a_drive_that_counts_errors_is_at_risk() {
        // Every third drive counts errors for its last forty days.
        let life = 4_000.0;
        let drives: Vec<Drive> = (0..300)
            .map(|n| match n % 3 {
                0 => made_up(&[(1.0, 0.0), (life - 960.0, 50.0)], life, true),
                _ => made_up(&[(1.0, 0.0)], 2.0 * life, false),
            })
            .collect();
        let looks: Vec<Look> = drives.iter().enumerate().flat_map(|(n, d)| learned(n, d, 1e9)).collect();
        let model = Model::fit(&looks, &drives).unwrap();
        let (ill, well) = (model.risk(&drives[0], life - 100.0), model.risk(&drives[1], life - 100.0));
        assert!(ill > 0.5 && well < 0.1, "{ill} and {well}");
    }
}
