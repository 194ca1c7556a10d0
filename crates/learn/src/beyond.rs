//! What cells that stayed well never held, learned from cells that stayed well; and how soon those failed that held more.
//!
//! The largest of `n` shares is exceeded by the next cell that stays well with probability 1 / (n + 1), whatever it is of (conformal anomaly detection, Laxhammar &
//! Falkman 2010). That takes no failure. How likely one follows is counted on what took no part in setting the mark.

use std::collections::BTreeMap;

use forefend_domain::Family;
use forefend_predict::learned::{Beyond, BeyondParts, HELD_FAMILIES};

use crate::{
    TrainError,
    evaluate::{split::Split, survival::Followed},
};

/// A look at a cell, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Held {
    /// How full each of [`HELD_FAMILIES`] has been for a while; NaN: not known.
    pub shares: [f32; HELD_FAMILIES.len()],
    /// What became of it.
    pub followed: Followed,
    /// Whether it was well for as long as these shares look back. What a cell still shows of a failure that is over is no mark of being well.
    pub was_well: bool,
}

/// What was learned, and what it says of each look that it had not learned from.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnedBeyond {
    /// From all looks.
    pub beyond: Beyond,
    /// What the others gave, fold by fold.
    folds: Vec<Beyond>,
    /// The fold of each look that holds more than all others did.
    exceeding: Vec<Option<usize>>,
}

impl LearnedBeyond {
    /// P(fail ≤ t) of a look by what the other folds gave; 0 where it holds no more than others did.
    #[must_use]
    pub fn within(&self, look: usize, t_s: f64) -> f64 {
        let fold = self.exceeding.get(look).copied().flatten().and_then(|fold| self.folds.get(fold));
        fold.map_or(0.0, |beyond| beyond.within(t_s))
    }

    /// Looks that hold more than all others did.
    pub fn exceeding(&self) -> impl Iterator<Item = usize> + '_ {
        self.exceeding.iter().enumerate().filter_map(|(look, fold)| fold.map(|_| look))
    }
}

/// Learns from these looks. `blocks`: what is never divided, one witness each. `splits`: folds by block, in which marks are set by the training part and
/// counted in the test part. `edges_s`: as of [`BeyondParts`]; the last is how long a cell must have stayed well to set a mark.
///
/// `None` where nobody that holds more than others was ever seen to fail.
///
/// # Errors
/// Where lengths differ.
pub fn learn<G: Ord>(
    looks: &[Held],
    blocks: &[G],
    splits: &[Split],
    edges_s: &[f64],
) -> Result<Option<LearnedBeyond>, TrainError> {
    if looks.len() != blocks.len() {
        return Err(TrainError::Lengths { what: "blocks", have: blocks.len(), want: looks.len() });
    }
    let Some(horizon_s) = edges_s.last().copied() else { return Ok(None) };
    let beyond = |most: BTreeMap<Family, f64>, failed: Vec<f64>| {
        let parts = BeyondParts { most, edges_s: edges_s.to_vec(), failed };
        Beyond::new(parts).map_err(|why| TrainError::Model { why })
    };
    // Whoever holds more than the others' marks, fold by fold.
    let nothing = vec![0.0; edges_s.len()];
    let (mut marks, mut exceeding) = (Vec::new(), vec![None; looks.len()]);
    for (fold, split) in splits.iter().enumerate() {
        let most = most(looks, &split.train, horizon_s);
        let of_others = beyond(most.clone(), nothing.clone())?;
        split
            .test
            .iter()
            .filter(|i| of_others.is_exceeded(&looks[**i].shares))
            .for_each(|i| exceeding[*i] = Some(fold));
        marks.push(most);
    }
    let but = |fold: Option<usize>| -> Vec<usize> {
        (0..looks.len()).filter(|i| exceeding[*i].is_some_and(|of| Some(of) != fold)).collect()
    };
    let failed = failed_by(edges_s, looks, blocks, &but(None));
    let all: Vec<usize> = (0..looks.len()).collect();
    let most = most(looks, &all, horizon_s);
    if most.is_empty() || failed.last().is_none_or(|last| *last <= 0.0) {
        return Ok(None);
    }
    let folds = marks
        .into_iter()
        .enumerate()
        .map(|(fold, most)| beyond(most, failed_by(edges_s, looks, blocks, &but(Some(fold)))))
        .collect::<Result<Vec<_>, _>>()?;
    let beyond = beyond(most, failed)?;
    Ok(Some(LearnedBeyond { beyond, folds, exceeding }))
}

/// The most that each family held in those of these looks that no failure is known to follow within the horizon; a family of which cells that stayed well
/// held all of their limit or more has no mark: beyond such a limit nothing is foretold.
fn most(looks: &[Held], of: &[usize], horizon_s: f64) -> BTreeMap<Family, f64> {
    let mut most = BTreeMap::new();
    let well = |look: &&Held| look.was_well && !(look.followed.failed && look.followed.time_s <= horizon_s);
    for look in of.iter().map(|i| &looks[*i]).filter(well) {
        for (family, share) in HELD_FAMILIES.into_iter().zip(look.shares) {
            if share.is_finite() {
                let known = most.entry(family).or_insert(LEAST_MARK);
                *known = f64::from(share).max(*known);
            }
        }
    }
    most.retain(|_, most| *most < 1.0);
    most
}

/// A mark is no lower: whoever stays this far from every limit is well.
const LEAST_MARK: f64 = 0.05;

/// P(fail by each edge) of these looks, each block one witness however often it was looked at, by the product-limit estimate over intervals (Kaplan & Meier 1958), with one
/// witness more who is watched for ever and does not fail.
fn failed_by<G: Ord>(edges_s: &[f64], looks: &[Held], blocks: &[G], of: &[usize]) -> Vec<f64> {
    let mut times: BTreeMap<&G, f64> = BTreeMap::new();
    for i in of {
        *times.entry(&blocks[*i]).or_default() += 1.0;
    }
    let mut survival = 1.0;
    let mut from = 0.0;
    edges_s
        .iter()
        .map(|edge| {
            let (mut failed, mut at_risk) = (0.0, 1.0);
            for i in of {
                let Followed { time_s, failed: fails } = looks[*i].followed;
                let weight = 1.0 / times[&blocks[*i]];
                // Who is lost sight of within the interval was not seen to survive it.
                let falls_here = fails && time_s > from && time_s <= *edge;
                if falls_here || time_s > *edge {
                    at_risk += weight;
                    failed += if falls_here { weight } else { 0.0 };
                }
            }
            survival *= 1.0 - failed / at_risk;
            from = *edge;
            1.0 - survival
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::evaluate::split::folds;

    const EDGES_S: [f64; 3] = [10.0, 30.0, 60.0];

    fn held(errors: f32, time_s: f64, failed: bool) -> Held {
        let shares = HELD_FAMILIES.map(|family| if family == Family::Errors { errors } else { f32::NAN });
        Held { shares, followed: Followed { time_s, failed }, was_well: true }
    }

    /// Forty cells that stay well and hold up to 0.4; ten that hold `share` before they fail, looked at 5, 20 and 40 s before.
    fn made_up(share: f32) -> (Vec<Held>, Vec<usize>) {
        let well = (0..40)
            .flat_map(|n| (0..3).map(move |k| (held(0.01 * (n as f32 + 0.3 * k as f32), 600.0, false), n)));
        let failing = (0..10).flat_map(|n| [5.0, 20.0, 40.0].map(|t| (held(share, t, true), 100 + n)));
        well.chain(failing).unzip()
    }

    fn learned(share: f32) -> Option<LearnedBeyond> {
        let (looks, blocks) = made_up(share);
        learn(&looks, &blocks, &folds(&blocks, 4).unwrap(), &EDGES_S).unwrap()
    }

    #[test]
    fn those_that_hold_more_are_told_to_fail_as_often_as_they_did_and_those_that_do_not_nothing() {
        let learned = learned(0.9).unwrap();
        let parts = learned.beyond.parts();
        let most = parts.most[&Family::Errors];
        assert!((most - 0.396).abs() < 1e-6, "{most}");
        assert!(!parts.most.contains_key(&Family::Latency), "nobody has one");
        // All ten fail within a minute, a third of the looks within each interval; the few that stayed well and hold more than those of other folds do not,
        // nor does the witness who is never seen.
        let failed = &parts.failed;
        assert!(failed[0] > 0.2 && failed[0] < 0.34 && failed[2] > 0.7 && failed[2] < 0.95, "{failed:?}");
        let (looks, _) = made_up(0.9);
        for (i, look) in looks.iter().enumerate() {
            let within = learned.within(i, 60.0);
            assert!(if look.followed.failed { within > 0.6 } else { within < 0.95 });
        }
        let still = looks.iter().filter(|look| !look.followed.failed).count();
        assert!(learned.exceeding().filter(|i| *i < still).count() < 12);
        assert_eq!(learned.exceeding().filter(|i| *i >= still).count(), 30);
    }

    #[test]
    fn failures_that_hold_no_more_than_others_teach_nothing() {
        assert_eq!(learned(0.2), None);
    }

    #[test]
    fn a_limit_that_cells_which_stay_well_hold_all_of_tells_nothing() {
        let (mut looks, blocks) = made_up(1.5);
        looks[0].shares = held(1.2, 0.0, false).shares;
        assert_eq!(learn(&looks, &blocks, &folds(&blocks, 4).unwrap(), &EDGES_S).unwrap(), None);
    }

    #[test]
    fn what_is_left_of_a_failure_that_is_over_sets_no_mark() {
        let (mut looks, mut blocks) = made_up(0.9);
        looks.push(Held { was_well: false, ..held(3.0, 600.0, false) });
        blocks.push(39);
        let learned = learn(&looks, &blocks, &folds(&blocks, 4).unwrap(), &EDGES_S).unwrap().unwrap();
        assert!((learned.beyond.parts().most[&Family::Errors] - 0.396).abs() < 1e-6);
    }

    #[test]
    fn a_mark_is_never_so_low_that_calm_is_beyond_it() {
        let (mut looks, blocks) = made_up(0.04);
        looks
            .iter_mut()
            .filter(|l| !l.followed.failed)
            .for_each(|l| l.shares = held(0.001, 0.0, false).shares);
        assert_eq!(learn(&looks, &blocks, &folds(&blocks, 4).unwrap(), &EDGES_S).unwrap(), None);
    }

    #[test]
    fn lengths_that_differ_are_an_error() {
        let (looks, blocks) = made_up(0.9);
        assert!(learn(&looks, &blocks[1..], &[], &EDGES_S).is_err());
    }

    proptest! {
        #[test]
        fn how_often_an_event_was_looked_at_does_not_matter(times in 1usize..6) {
            let (looks, blocks) = made_up(0.9);
            let failing: Vec<usize> = (0..looks.len()).filter(|i| looks[*i].followed.failed).collect();
            let once = failed_by(&EDGES_S, &looks, &blocks, &failing);
            let often: Vec<usize> = failing.iter().flat_map(|i| std::iter::repeat_n(*i, times)).collect();
            for (once, often) in once.iter().zip(failed_by(&EDGES_S, &looks, &blocks, &often)) {
                prop_assert!((once - often).abs() < 1e-12);
            }
            prop_assert!(once.windows(2).all(|pair| pair[0] <= pair[1]) && once[2] < 1.0);
        }
    }
}
