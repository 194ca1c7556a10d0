//! How often the time of a failure lies in the interval that was told of it, with levels that other episodes gave and without.

use std::collections::BTreeMap;

use anyhow::Result;
use forefend_domain::TimeToFailure;
use forefend_learn::{
    evaluate::Estimate,
    levels::{Ending, choose, coverage, missed},
};
use forefend_predict::{Curve, Levels};

use crate::{
    alarm::HORIZON,
    episode::Recording,
    learned::looks,
    score::{Line, median},
    shown::{Shown, Taught},
};

/// Looks at episodes that took no part, and what was told at them.
#[derive(Default)]
pub(crate) struct Told {
    endings: Vec<Ending>,
    /// The number of the episode.
    blocks: Vec<usize>,
    levels: Vec<Levels>,
    /// As it is, and at the levels.
    times: Vec<(TimeToFailure, TimeToFailure)>,
}

impl Told {
    /// Adds the looks at these episodes, told by a model that did not learn from them.
    pub(crate) fn add(
        &mut self,
        (recordings, seen): (&[Recording], &[Vec<Shown>]),
        episodes: &[usize],
        (model, share): (&Taught, f64),
        levels: Levels,
    ) {
        for episode in episodes {
            let recording = &recordings[*episode];
            for (look, left_s) in looks(recording, &seen[*episode]) {
                let curve = curve(look, model, share);
                self.endings.push(ending(&curve, left_s, recording.failed_step.is_some()));
                self.blocks.push(*episode);
                self.levels.push(levels);
                self.times.push((curve.time_to_failure(), levels.read(&curve)));
            }
        }
    }

    /// The levels that hold on all of it.
    ///
    /// # Errors
    /// With too few failures.
    pub(crate) fn choose(&self) -> Result<Levels> {
        Ok(choose(&self.endings, &self.blocks)?)
    }

    fn coverage(&self, plain: bool) -> Option<Estimate> {
        coverage(&self.endings, &self.blocks, |i| if plain { Levels::PLAIN } else { self.levels[i] })
    }

    /// What `bench predict` prints of it: with the levels, beside without.
    pub(crate) fn lines(&self, case: &'static str) -> Vec<Line> {
        let mut levels: BTreeMap<String, usize> = BTreeMap::new();
        for of in &self.levels {
            *levels.entry(format!("{:.3} and {:.3}", of.low(), of.high())).or_default() += 1;
        }
        eprintln!("levels, and looks told at them: {levels:?}");
        let width = |time: &TimeToFailure| Some((time.p90? - time.p10?).as_secs_f64());
        let plain = self.times.iter().filter_map(|(plain, _)| width(plain)).collect();
        let ours = self.times.iter().filter_map(|(_, ours)| width(ours)).collect();
        // Of the intervals that have an early end, those without a late one.
        let open = |of: &dyn Fn(&(TimeToFailure, TimeToFailure)) -> TimeToFailure| {
            let told: Vec<TimeToFailure> =
                self.times.iter().map(of).filter(|time| time.p10.is_some()).collect();
            let open = told.iter().filter(|time| time.p90.is_none()).count();
            (!told.is_empty()).then(|| open as f64 / told.len() as f64)
        };
        let only = |value: Option<f64>| value.map(|value| Estimate { value, low: f64::NAN, high: f64::NAN });
        let of = |plain: bool| {
            missed(&self.endings, &self.blocks, |i| if plain { Levels::PLAIN } else { self.levels[i] })
        };
        let ([sooner, later], [plain_sooner, plain_later]) = (of(false), of(true));
        vec![
            Line::beside(case, "plain-levels", "sooner_than_p10", "share", sooner, plain_sooner),
            Line::beside(case, "plain-levels", "later_than_p90", "share", later, plain_later),
            Line::beside(
                case,
                "plain-levels",
                "coverage_80",
                "share",
                self.coverage(false),
                self.coverage(true),
            ),
            Line::beside(
                case,
                "plain-levels",
                "interval_width_s",
                "s",
                only(median(ours)),
                only(median(plain)),
            ),
            Line::beside(
                case,
                "plain-levels",
                "interval_open_share",
                "share",
                only(open(&|(_, ours)| *ours)),
                only(open(&|(plain, _)| *plain)),
            ),
        ]
    }
}

/// The curve that is served: what was learned, with this share, and what the model of the first day said.
fn curve(look: &Shown, model: &Taught, share: f64) -> Curve {
    let hazard = &model.hazard;
    let exceeded = model.beyond.as_ref().filter(|beyond| beyond.is_exceeded(&look.held));
    let cumulative = hazard.cumulative(&look.row);
    let log_odds = |p: f64| {
        let p = p.clamp(1e-12, 1.0 - 1e-12);
        (p / (1.0 - p)).ln()
    };
    let first_day = &look.first_day.curve;
    Curve::new(HORIZON).with_probabilities(|t| {
        // Both stand on the same times.
        let first_day =
            first_day.get(first_day.partition_point(|(time, _)| *time < t)).map_or(0.0, |(_, p)| *p);
        let pooled = share * log_odds(hazard.within(&cumulative, t)) + (1.0 - share) * log_odds(first_day);
        let both = 1.0 / (1.0 + (-pooled).exp());
        1.0 - (1.0 - both) * (1.0 - exceeded.map_or(0.0, |beyond| beyond.within(t)))
    })
}

fn ending(curve: &Curve, left_s: f64, failed: bool) -> Ending {
    let points = curve.points();
    let (reach_s, reach) = points.last().copied().unwrap_or_default();
    Ending {
        level: Curve::at(&points, left_s.min(reach_s)).min(reach),
        reach,
        failed: failed && left_s <= reach_s,
        weight: 1.0,
    }
}
