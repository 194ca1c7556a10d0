//! Intervals that hold the truth as often as promised, whatever the remaining lives of the engines that are asked about.
//!
//! An interval grows from what is believed most; how much of the belief it takes until it reaches the truth is its error, as conformal
//! prediction has it (Vovk, Gammerman & Shafer 2005). How test engines were cut off is not known, so how many of them have much left and
//! how many have little is not known either. Therefore the promise is kept for each number of cycles left on its own, among looks at engines
//! that had about as many.

use std::collections::BTreeSet;

use super::{
    data::LONGEST,
    looks::Look,
    model::{FOLDS, Said},
};

/// How often intervals should hold the truth.
const PROMISED: f64 = 0.9;
/// Looks count for a number of cycles if theirs is no further away.
const ABOUT: f64 = 12.0;

/// The share of belief that it takes, for 1 cycle, 2 cycles …
#[derive(Debug, Clone)]
pub(super) struct Promise {
    shares: Vec<f64>,
}

impl Promise {
    /// From what was said at looks of engines that were held out.
    pub(super) fn of(looks: &[Look], said: &[Said]) -> Self {
        let reach =
            |(look, said): (&Look, &Said)| (said.posterior.reaches(LONGEST as usize, look.left), *look);
        let mut reached: Vec<(f64, Look)> = looks.iter().zip(said).map(reach).collect();
        reached.sort_by(|a, b| a.0.total_cmp(&b.0));
        let share = |left: usize| {
            let left = left as f64;
            // What is clipped is a number of its own.
            let about = |look: &Look| match left < LONGEST {
                true => look.left < LONGEST && (look.left - left).abs() <= ABOUT,
                false => look.left >= LONGEST,
            };
            enough(reached.iter().filter(|(_, look)| about(look)))
        };
        Self { shares: (1..=LONGEST as usize).map(share).collect() }
    }

    /// The interval to be believed.
    pub(super) fn interval(&self, said: &Said) -> (f64, f64) {
        let share = |left: usize| self.shares.get(left - 1).copied().unwrap_or(1.0);
        said.posterior.interval_by(LONGEST as usize, share)
    }
}

/// The share that reaches the truth of as many as promised, by weight, where the engine to come counts as one more that none reaches.
fn enough<'a>(ascending: impl Iterator<Item = &'a (f64, Look)> + Clone) -> f64 {
    let engines = ascending.clone().map(|(_, look)| look.unit).collect::<BTreeSet<_>>().len() as f64;
    let whole: f64 = ascending.clone().map(|(_, look)| look.weight).sum();
    let needed = PROMISED * (engines + 1.0) / engines * whole - 1e-9;
    let mut have = 0.0;
    for (share, look) in ascending {
        have += look.weight;
        if have >= needed {
            return *share;
        }
    }
    1.0
}

/// How often intervals hold the truth, and how wide they are, if one half of the engines makes the promise for the other.
pub(super) fn cross_calibrated(looks: &[Look], said: &[Said]) -> (f64, f64) {
    let (mut held, mut wide, mut whole) = (0.0, 0.0, 0.0);
    for half in 0..2 {
        // Folds are remainders: halves of the quotients have some of each.
        let (mine, others): (Vec<_>, Vec<_>) =
            looks.iter().zip(said).partition(|(look, _)| look.unit / FOLDS % 2 == half);
        let (other_looks, other_said): (Vec<Look>, Vec<Said>) =
            others.into_iter().map(|(look, said)| (*look, said.clone())).unzip();
        let promise = Promise::of(&other_looks, &other_said);
        for (look, said) in mine {
            let (low, high) = promise.interval(said);
            held += look.weight * f64::from(u8::from((low..=high).contains(&look.clipped())));
            wide += look.weight * (high - low);
            whole += look.weight;
        }
    }
    (held / whole, wide / whole)
}

#[cfg(test)]
mod tests {
    use super::{super::posterior::Posterior, *};

    /// Belief that is highest at `at` and falls to either side, said of an engine with `left`.
    fn look(unit: usize, at: i32, left: f64) -> (Look, Said) {
        let weights: Vec<f64> = (1..=200).map(|some: i32| -0.2 * f64::from((some - at).abs())).collect();
        let said = Said { posterior: Posterior::new(&weights), trees: 0.0, worn: 0.0 };
        (Look { unit, seen: 50, weight: 1.0, left }, said)
    }

    /// Right of those that have little left, three off for those that have more.
    fn looks() -> (Vec<Look>, Vec<Said>) {
        let all = (0..30).flat_map(|unit| (1..=150).step_by(3).map(move |at| (unit, at)));
        all.map(|(unit, at)| look(unit, at, f64::from(if at < 60 { at } else { at + 3 }))).unzip()
    }

    #[test]
    fn the_promise_is_kept_on_its_own_for_little_and_for_much() {
        let (looks, said) = looks();
        let promise = Promise::of(&looks, &said);
        let at = |at: i32| promise.interval(&look(0, at, 0.0).1);
        assert_eq!(at(20), (20.0, 20.0));
        let (low, high) = at(90);
        assert!(high == 93.0 && low >= 87.0, "{low} to {high}");
        let (held, wide) = cross_calibrated(&looks, &said);
        assert!((held - 1.0).abs() < 1e-9, "{held}");
        assert!((1.0..5.0).contains(&wide), "{wide}");
    }

    #[test]
    fn where_no_engine_ever_was_everything_is_possible() {
        let (looks, said) =
            [look(0, 20, 20.0), look(1, 80, 83.0)].into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
        let promise = Promise::of(&looks, &said);
        assert_eq!(promise.shares[49], 1.0);
        assert_eq!(promise.shares[124], 1.0);
    }

    #[test]
    fn one_in_ten_may_be_missed_and_no_more() {
        let needed = |missed: usize| {
            let reached = |unit: usize| if unit < 100 - missed { 0.2 } else { 0.7 };
            let ascending: Vec<(f64, Look)> =
                (0..100).map(|unit| (reached(unit), look(unit, 50, 50.0).0)).collect();
            enough(ascending.iter())
        };
        assert_eq!(needed(9), 0.2);
        assert_eq!(needed(10), 0.7);
        // Eight engines can't promise that of a ninth.
        let few: Vec<(f64, Look)> = (0..8).map(|unit| (0.2, look(unit, 50, 50.0).0)).collect();
        assert_eq!(enough(few.iter()), 1.0);
    }
}
