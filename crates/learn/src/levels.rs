//! Where a survival curve has to be read so that the interval it is told with holds what it promises.
//!
//! The place of a failure on its own curve, `U = F(T | x)`, is uniform if curves are right (the probability integral transform; as a test of
//! survival curves, D-calibration, Haider et al., JMLR 21, 2020, <https://jmlr.org/papers/v21/18-772.html>). Where it is not, the levels at which one in ten
//! comes sooner and one in ten later are read off its distribution over failures that were held out: split conformal prediction with that place as the
//! score. A look of which no failure was seen has a place above where its curve was when watching ended, so the
//! distribution is Kaplan's and Meier's. That asks of watching what they ask: that it does not end because a failure is near.

use std::collections::BTreeMap;

use forefend_predict::Levels;
use serde::{Deserialize, Serialize};

use crate::{
    TrainError,
    evaluate::{Estimate, bootstrap::Bootstrap, split::folds},
};

/// A look that the model had not learned from, and how far up its curve watching came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ending {
    /// P(fail by then), of the instant of the failure or of the end of watching; 0 to 1.
    pub level: f64,
    /// The same of all that the curve speaks for; not below `level`.
    pub reach: f64,
    /// Whether it ended with a failure.
    pub failed: bool,
    /// How many looks it stands for, above 0.
    pub weight: f64,
}

/// How the intervals of a model hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intervals {
    /// The share of times that the interval told promises to hold.
    pub promised: f64,
    /// Events with a held-out failure before which an interval was told, both ends of it.
    pub failures: usize,
    /// Where the curve is read; `None`: where it would be anyway, for `why`.
    pub levels: Option<Levels>,
    /// The share that was held where the curve is read plainly.
    pub plain: Option<Estimate>,
    /// The share that was held where it is read at levels that other events gave.
    pub calibrated: Option<Estimate>,
    /// Why no levels were taken; empty if they were.
    #[serde(default)]
    pub why: String,
}

/// What either end may miss.
const TAIL: f64 = 0.1;
/// With fewer events that failed, the one to come takes more than half of what an end may miss: intervals would be wide for want of failures.
pub const LEAST_FAILURES: usize = 18;
/// Parts in which levels are checked on events that did not give them.
const FOLDS: usize = 5;

/// The levels at which either end is missed by one in ten of what is to come, each from the looks at which that end is told at all. Looks of one
/// block (an event, a stretch of quiet) are one witness.
///
/// The correction for a finite sample is that of split conformal prediction: the block to come counts as missed.
///
/// # Errors
/// [`TrainError::TooFew`] with fewer than [`LEAST_FAILURES`] blocks that failed; otherwise where lengths differ.
pub fn choose<G: Ord>(endings: &[Ending], blocks: &[G]) -> Result<Levels, TrainError> {
    let (have, promised) = (failures(endings, blocks)?, 1.0 - 2.0 * TAIL);
    if have < LEAST_FAILURES {
        return Err(TrainError::TooFew { have, need: LEAST_FAILURES, coverage: promised });
    }
    let all: Vec<usize> = (0..endings.len()).collect();
    Ok(levels(endings, blocks, &all))
}

fn levels<G: Ord>(endings: &[Ending], blocks: &[G], of: &[usize]) -> Levels {
    let end = |plain: f64, is_reached: &dyn Fn(f64, f64) -> bool| {
        let told: Vec<usize> = of.iter().copied().filter(|i| endings[*i].reach >= plain).collect();
        let (masses, count) = masses(endings, blocks, &told);
        let may_miss = TAIL - (1.0 - TAIL) / count.max(1) as f64;
        let places: Vec<Place> = told.iter().map(|i| Place::plain(&endings[*i], masses[*i])).collect();
        outlasting(&places).into_iter().find(|(_, left)| is_reached(*left, may_miss)).map(|(level, _)| level)
    };
    let low = end(Levels::PLAIN.low(), &|left, may_miss| 1.0 - left > may_miss);
    let high = end(Levels::PLAIN.high(), &|left, may_miss| left <= may_miss);
    Levels::new(low.unwrap_or(0.5), high.unwrap_or(1.0))
}

/// Events with a failure before which both ends were told.
fn failures<G: Ord>(endings: &[Ending], blocks: &[G]) -> Result<usize, TrainError> {
    if endings.len() != blocks.len() {
        return Err(TrainError::Lengths { what: "blocks", have: blocks.len(), want: endings.len() });
    }
    let told = endings.iter().zip(blocks).filter(|(e, _)| e.failed && e.reach >= Levels::PLAIN.high());
    Ok(told.map(|(_, block)| block).collect::<std::collections::BTreeSet<_>>().len())
}

/// The share of looks, of those at which an interval is told, whose failure lies in it; a late end that lies beyond holds whatever comes
/// late. `levels_of` may differ by look, so that each is judged by levels that others gave.
///
/// `None` where nothing is told, or lengths differ.
#[must_use]
pub fn coverage<G: Ord>(
    endings: &[Ending],
    blocks: &[G],
    levels_of: impl Fn(usize) -> Levels,
) -> Option<Estimate> {
    if endings.len() != blocks.len() {
        return None;
    }
    let (places, of) = told(endings, blocks, levels_of);
    Bootstrap { resamples: 300, ..Bootstrap::default() }
        .interval(&of, |drawn| held(&drawn.iter().map(|i| places[*i]).collect::<Vec<_>>()))
}

/// The looks at which an interval is told, each on the scale of its own levels, and their blocks.
fn told<'a, G: Ord>(
    endings: &[Ending],
    blocks: &'a [G],
    levels_of: impl Fn(usize) -> Levels,
) -> (Vec<Place>, Vec<&'a G>) {
    let told: Vec<usize> = (0..endings.len()).filter(|i| endings[*i].reach >= Levels::PLAIN.low()).collect();
    let (masses, _) = masses(endings, blocks, &told);
    let place = |i: &usize| Place::at(&endings[*i], levels_of(*i), masses[*i]);
    (told.iter().map(place).collect(), told.iter().map(|i| &blocks[*i]).collect())
}

/// The share of these that is in its interval.
fn held(places: &[Place]) -> Option<f64> {
    let late = late(places);
    let (all, told) = (mass(places), mass(&late));
    (all > 0.0).then(|| 1.0 - sooner(places) - later(&late) * told / all)
}

/// The share of looks at which an end is told that is missed there: before the early ones, after the late ones. A tenth each is promised.
///
/// `None` where that end is never told, or lengths differ.
#[must_use]
pub fn missed<G: Ord>(
    endings: &[Ending],
    blocks: &[G],
    levels_of: impl Fn(usize) -> Levels,
) -> [Option<Estimate>; 2] {
    if endings.len() != blocks.len() {
        return [None, None];
    }
    let (places, of) = told(endings, blocks, levels_of);
    let drawn = |numbers: &[usize]| numbers.iter().map(|i| places[*i]).collect::<Vec<_>>();
    let bootstrap = Bootstrap { resamples: 300, ..Bootstrap::default() };
    let after = |places: &[Place]| {
        let late = late(places);
        (mass(&late) > 0.0).then(|| later(&late))
    };
    [
        bootstrap.interval(&of, |numbers| Some(sooner(&drawn(numbers)))),
        bootstrap.interval(&of, |numbers| after(&drawn(numbers))),
    ]
}

fn late(places: &[Place]) -> Vec<Place> {
    places.iter().copied().filter(|place| place.late_end_told).collect()
}

fn mass(places: &[Place]) -> f64 {
    places.iter().map(|place| place.mass).sum()
}

/// The share that fails before the early end.
fn sooner(places: &[Place]) -> f64 {
    1.0 - left(places, |level| level < Levels::PLAIN.low())
}

/// The share that fails after the late end.
fn later(places: &[Place]) -> f64 {
    left(places, |level| level <= Levels::PLAIN.high())
}

/// The share that outlasts all levels of this sort.
fn left(places: &[Place], is_before: impl Fn(f64) -> bool) -> f64 {
    let steps = outlasting(places);
    steps.into_iter().take_while(|(level, _)| is_before(*level)).last().map_or(1.0, |(_, left)| left)
}

impl Intervals {
    /// The levels that held-out looks give, and how those hold that other events gave.
    ///
    /// # Errors
    /// Where lengths differ.
    pub fn of<G: Ord>(endings: &[Ending], blocks: &[G]) -> Result<Self, TrainError> {
        let failures = failures(endings, blocks)?;
        let (levels, why) = match choose(endings, blocks) {
            Ok(levels) => (Some(levels), String::new()),
            Err(error @ TrainError::TooFew { .. }) => (None, error.to_string()),
            Err(error) => return Err(error),
        };
        let calibrated = levels.and_then(|_| {
            let mut of_row = vec![Levels::PLAIN; endings.len()];
            for split in folds(blocks, FOLDS).ok()? {
                let levels = self::levels(endings, blocks, &split.train);
                split.test.iter().for_each(|i| of_row[*i] = levels);
            }
            coverage(endings, blocks, |i| of_row[i])
        });
        let plain = coverage(endings, blocks, |_| Levels::PLAIN);
        Ok(Self { promised: 1.0 - 2.0 * TAIL, failures, levels, plain, calibrated, why })
    }
}

/// A look on the scale of levels, where the two ends are at one tenth and nine tenths.
#[derive(Debug, Clone, Copy)]
struct Place {
    level: f64,
    failed: bool,
    mass: f64,
    late_end_told: bool,
}

impl Place {
    fn plain(ending: &Ending, mass: f64) -> Self {
        Self::at(ending, Levels::PLAIN, mass)
    }

    fn at(ending: &Ending, levels: Levels, mass: f64) -> Self {
        Self {
            level: placed(ending.level, levels),
            failed: ending.failed,
            mass,
            late_end_told: ending.reach >= Levels::PLAIN.high().max(levels.high()),
        }
    }
}

/// Where a level lies if the two ends lie at one tenth and nine tenths; the median stays.
fn placed(level: f64, levels: Levels) -> f64 {
    let (low, high) = (levels.low(), levels.high());
    match level {
        level if level < low => TAIL * level / low,
        level if level < 0.5 => TAIL + (0.5 - TAIL) * (level - low) / (0.5 - low),
        level if level <= high && high > 0.5 => 0.5 + (0.5 - TAIL) * (level - 0.5) / (high - 0.5),
        level => 1.0 - TAIL * (1.0 - level) / (1.0 - high),
    }
}

/// What each look counts, so that all blocks count the same, and how many blocks there are. Looks that are not among `of` count nothing.
fn masses<G: Ord>(endings: &[Ending], blocks: &[G], of: &[usize]) -> (Vec<f64>, usize) {
    let mut sums: BTreeMap<&G, f64> = BTreeMap::new();
    for i in of {
        *sums.entry(&blocks[*i]).or_default() += endings[*i].weight;
    }
    let mut masses = vec![0.0; endings.len()];
    for i in of {
        let sum = sums[&blocks[*i]];
        masses[*i] = if sum > 0.0 { endings[*i].weight / sum } else { 0.0 };
    }
    (masses, sums.len())
}

/// Levels of failures, ascending, and the share of looks that outlast each (Kaplan and Meier 1958,
/// <https://doi.org/10.1080/01621459.1958.10501452>). At one level failures come before ends of watching.
fn outlasting(places: &[Place]) -> Vec<(f64, f64)> {
    let mut sorted = places.to_vec();
    sorted.sort_by(|a, b| a.level.total_cmp(&b.level));
    let mut at_risk: f64 = sorted.iter().map(|place| place.mass).sum();
    let (mut left, mut steps) = (1.0, Vec::new());
    for tied in sorted.chunk_by(|a, b| a.level == b.level) {
        let failed: f64 = tied.iter().filter(|place| place.failed).map(|place| place.mass).sum();
        if failed > 0.0 && at_risk > 0.0 {
            left *= (1.0 - failed / at_risk).max(0.0);
            steps.push((tied[0].level, left));
        }
        at_risk -= tied.iter().map(|place| place.mass).sum::<f64>();
    }
    steps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;
    use statrs::distribution::{ContinuousCDF, Normal};

    use super::*;

    /// Looks whose logarithm of the time to failure is normal, told by curves that take its scatter for `told` of what it is, and its mean for `off`
    /// of it later. Each is watched for some time; in blocks of up to eight looks whose errors are alike.
    fn looks(seed: u64, blocks: u32, told: f64, off: f64, watched: f64) -> (Vec<Ending>, Vec<u32>) {
        let normal = Normal::standard();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (mut endings, mut of) = (Vec::new(), Vec::new());
        for block in 0..blocks {
            let shared = normal.inverse_cdf(random.random_range(1e-6..1.0 - 1e-6));
            for _ in 0..random.random_range(1..9) {
                let own = normal.inverse_cdf(random.random_range(1e-6..1.0 - 1e-6));
                // In units of the true scatter, about the true mean.
                let error = 0.6 * shared + 0.8 * own;
                let until = watched + normal.inverse_cdf(random.random_range(1e-6..1.0 - 1e-6));
                let on_curve = |z: f64| normal.cdf((z - off) / told);
                endings.push(Ending {
                    level: on_curve(error.min(until)),
                    reach: on_curve(8.0),
                    failed: error <= until,
                    weight: 1.0,
                });
                of.push(block);
            }
        }
        (endings, of)
    }

    fn share(of: &(Vec<Ending>, Vec<u32>), levels: Levels) -> f64 {
        held(&told(&of.0, &of.1, |_| levels).0).unwrap()
    }

    #[test]
    fn a_spread_that_is_wrong_is_made_to_hold_on_looks_that_nobody_had_seen() {
        // Too narrow, too narrow and late, too wide; all failures seen, and a good half of them.
        for (told, off, before) in [(0.45, 0.0, 0.35..0.6), (0.6, 0.5, 0.35..0.65), (2.0, 0.0, 0.95..1.01)] {
            for watched in [9.0, 0.3] {
                let fresh = looks(2, 4_000, told, off, 9.0);
                let (endings, blocks) = looks(1, 400, told, off, watched);
                let plain = share(&fresh, Levels::PLAIN);
                assert!(before.contains(&plain), "{plain} before, {told} {off}");
                let levels = choose(&endings, &blocks).unwrap();
                let after = share(&fresh, levels);
                assert!((0.765..0.845).contains(&after), "{after} at {levels:?}, {told} {off} {watched}");
            }
        }
    }

    #[test]
    fn curves_that_are_right_are_read_where_they_were() {
        for watched in [9.0, 0.5] {
            let (endings, blocks) = looks(3, 4_000, 1.0, 0.0, watched);
            let few = 900;
            for share in missed(&endings[..few], &blocks[..few], |_| Levels::PLAIN) {
                let share = share.unwrap();
                assert!(share.low < 0.1 && 0.1 < share.high, "{share:?}");
            }
            let levels = choose(&endings, &blocks).unwrap();
            assert!((levels.low() - 0.1).abs() < 0.02 && (levels.high() - 0.9).abs() < 0.025, "{levels:?}");
        }
    }

    #[test]
    fn who_is_lost_sight_of_is_not_taken_for_one_that_outlived() {
        // Seen until the median at most: to leave out who was not seen to fail would call every failure early.
        let (endings, blocks) = looks(5, 4_000, 1.0, 0.0, 0.0);
        let seen: Vec<(Ending, u32)> =
            endings.iter().copied().zip(blocks.iter().copied()).filter(|(e, _)| e.failed).collect();
        let (only_seen, of): (Vec<Ending>, Vec<u32>) = seen.into_iter().unzip();
        let honest = choose(&endings, &blocks).unwrap();
        let naive = choose(&only_seen, &of).unwrap();
        assert!((honest.high() - 0.9).abs() < 0.05, "{honest:?}");
        assert!(naive.high() < 0.8 && naive.low() < honest.low(), "{naive:?}");
    }

    #[test]
    fn the_promise_is_kept_on_average_though_failures_are_few() {
        let fresh = looks(77, 1_500, 0.5, 0.3, 9.0);
        let shares: Vec<f64> = (0..60)
            .map(|seed| {
                let (endings, blocks) = looks(100 + seed, LEAST_FAILURES as u32 + 6, 0.5, 0.3, 9.0);
                share(&fresh, choose(&endings, &blocks).unwrap())
            })
            .collect();
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        assert!((0.78..0.9).contains(&mean), "{mean}");
    }

    #[test]
    fn too_few_failures_leave_the_plain_levels_and_say_so() {
        let (endings, blocks) = looks(4, LEAST_FAILURES as u32 - 1, 0.5, 0.0, 9.0);
        let told = Intervals::of(&endings, &blocks).unwrap();
        assert_eq!((told.levels, told.calibrated, told.failures), (None, None, LEAST_FAILURES - 1));
        assert!(told.why.contains("17 groups") && told.why.contains("takes 18"), "{}", told.why);
        // Ten thousand looks before one failure are one failure.
        let many = vec![Ending { level: 0.5, reach: 1.0, failed: true, weight: 1.0 }; 10_000];
        assert!(choose(&many, &vec![1; 10_000]).is_err());
        assert!(choose(&many, &[1, 2]).unwrap_err().to_string().contains("2 blocks for 10000"));
    }

    #[test]
    fn before_and_after_are_told_from_events_that_did_not_give_the_levels() {
        let (endings, blocks) = looks(9, 300, 0.45, 0.0, 9.0);
        let told = Intervals::of(&endings, &blocks).unwrap();
        let (plain, after) = (told.plain.unwrap(), told.calibrated.unwrap());
        assert!(plain.high < 0.65, "{plain:?}");
        assert!(after.low < 0.8 && 0.8 < after.high + 0.03 && after.value > 0.75, "{after:?}");
        let text = serde_json::to_string(&told).unwrap();
        assert_eq!(serde_json::from_str::<Intervals>(&text).unwrap().levels, told.levels);
    }

    #[test]
    fn what_comes_after_an_end_beyond_is_held() {
        let beyond = |failed: bool, level: f64| Ending { level, reach: 0.6, failed, weight: 1.0 };
        // None of these curves comes to nine tenths: only what comes early is missed.
        let endings = [beyond(false, 0.6), beyond(true, 0.3), beyond(true, 0.05), beyond(false, 0.6)];
        let told = coverage(&endings, &[1, 2, 3, 4], |_| Levels::PLAIN).unwrap();
        assert!((told.value - 0.75).abs() < 1e-9, "{told:?}");
        assert_eq!(coverage(&[], &[] as &[u8], |_| Levels::PLAIN), None);
    }

    proptest! {
        #[test]
        fn whatever_was_seen_the_levels_are_on_their_sides(
            of in prop::collection::vec((0.0f64..=1.0, 0.0f64..=1.0, any::<bool>(), 0u8..60), 0..200),
        ) {
            let ending = |(a, b, failed, _): &(f64, f64, bool, u8)| Ending { level: a.min(*b), reach: a.max(*b), failed: *failed, weight: 1.0 };
            let endings: Vec<Ending> = of.iter().map(ending).collect();
            let blocks: Vec<u8> = of.iter().map(|row| row.3).collect();
            let told = Intervals::of(&endings, &blocks).unwrap();
            if let Some(levels) = told.levels {
                prop_assert!(levels.low() <= 0.5 && 0.5 <= levels.high());
            }
            for share in [told.plain, told.calibrated].into_iter().flatten() {
                prop_assert!((-1e-9..=1.0 + 1e-9).contains(&share.value), "{share:?}");
            }
        }
    }
}
