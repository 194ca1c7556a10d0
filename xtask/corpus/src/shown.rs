//! What models are shown of the episodes, worked out once: it is the same for every model that is trained on some of them and asked about others.

use forefend_domain::{Basis, Policy, Prediction};
use forefend_predict::{
    DayZero, Predictor,
    learned::{Beyond, HELD_FAMILIES, Hazard, Stacked, features, shares_held},
};

use crate::{
    alarm::{HORIZON, Tick, Watch, replay, said},
    episode::Recording,
    score::in_parallel,
};

/// What was known of an episode at a step.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) step: u32,
    /// The features that models learn from.
    pub(crate) row: Vec<f32>,
    /// How full each family has been for a while.
    pub(crate) held: [f32; HELD_FAMILIES.len()],
    /// What the model of the first day said.
    pub(crate) first_day: Prediction,
}

/// All that is known of each episode before its failure.
pub(crate) fn shown(episodes: &[&Recording]) -> Vec<Vec<Shown>> {
    in_parallel(episodes, |recording| {
        let mut all = Vec::new();
        replay(recording, |step, windows| {
            let row = features(windows, HORIZON);
            let first_day = DayZero::default().predict(windows, HORIZON);
            if let Some((row, first_day)) = row.zip(first_day) {
                let held = shares_held(windows);
                all.push(Shown { step, row: row.values, held, first_day });
            }
        });
        all
    })
}

/// What was learned, beside the model of the first day with each of these shares, as [`Stacked`] puts them together.
#[derive(Clone)]
pub(crate) struct Taught {
    pub(crate) hazard: Hazard,
    pub(crate) shares: &'static [f64],
    /// What cells that stayed well never held.
    pub(crate) beyond: Option<Beyond>,
    /// Whether to say what it rests on, which takes its time.
    pub(crate) explains: bool,
}

impl Taught {
    /// All that it says of an episode.
    pub(crate) fn course(&self, shown: &[Shown], policy: &Policy) -> Vec<Tick> {
        shown.iter().map(|shown| Tick::new(shown.step, self.watch(shown, policy))).collect()
    }

    fn watch(&self, shown: &Shown, policy: &Policy) -> Watch {
        let cumulative = self.hazard.cumulative(&shown.row);
        let exceeded = self.beyond.as_ref().filter(|beyond| beyond.is_exceeded(&shown.held));
        let pool = |share: f64, exceeded| {
            let hazard = (&self.hazard, cumulative.as_slice());
            let learned =
                Prediction { basis: Basis::Calibrated, drivers: Vec::new(), ..shown.first_day.clone() };
            let pooled = Stacked::pool_hazard(share, hazard, learned, &shown.first_day, HORIZON, exceeded);
            said(&pooled, policy)
        };
        // The risk is told without: a level is set by those that do not exceed, and whoever does is an alarm wherever it stands.
        let risks = self.shares.iter().flat_map(|share| pool(*share, None).risks).collect();
        let exceeds = match exceeded {
            None => vec![false; self.shares.len()],
            Some(_) => self.shares.iter().flat_map(|share| pool(*share, exceeded).exceeds).collect(),
        };
        let told = self.explains.then(|| self.hazard.drivers(&shown.row));
        let driver = told.and_then(|drivers| drivers.first().map(|(feature, _)| (*feature).to_owned()));
        Watch { risks, exceeds, driver: driver.unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use forefend_predict::learned::{Calibration, Learned, Linear, Scorer, feature_names};

    use super::*;
    use crate::{
        alarm::{LEAD_S, Model, Watcher, policy},
        score::climbing,
    };

    fn hazard() -> Hazard {
        let names = feature_names();
        let weight = |name: &String| match name.as_str() {
            "saturation.fill.max" => 6.0,
            "saturation.pace16.max" => 1.5,
            _ => 0.0,
        };
        let mut weights: Vec<f32> = names.iter().map(weight).collect();
        weights.extend([0.5; 2]);
        let (zeros, ones) = (vec![0.0; weights.len()], vec![1.0; weights.len()]);
        let linear = Scorer::Linear(Linear::new(-6.0, weights, zeros, ones).unwrap());
        Hazard::new(vec![5.0, 15.0, 30.0], names, linear, Calibration::Identity).unwrap()
    }

    #[test]
    fn what_is_kept_is_judged_as_production_judges_it() {
        let (episode, policy) = (climbing(true), policy(LEAD_S));
        let kept = shown(&[&episode]).pop().unwrap();
        let taught = Taught { hazard: hazard(), shares: &[1.0, 0.25], beyond: None, explains: false };
        let ours = taught.course(&kept, &policy);
        let mut steps = 0;
        for (n, share) in [1.0, 0.25].into_iter().enumerate() {
            let model =
                Model(Stacked { learned: Learned { hazard: hazard() }, share, levels: None, beyond: None });
            replay(&episode, |step, windows| {
                let Some(watch) = model.watch(windows, &policy) else { return };
                let tick = ours.iter().find(|tick| tick.step == step).unwrap();
                let scales = watch.risks.len();
                for (scale, risk) in watch.risks.into_iter().enumerate() {
                    let kept = tick.risk(n * scales + scale);
                    assert!(kept == risk || (kept - risk).abs() < 1e-12, "{step} {share}: {kept} and {risk}");
                    steps += usize::from(risk.is_finite());
                }
            });
        }
        // Five times within which a failure is asked for gave more than a hundred; there is one now.
        assert!(steps > 100 / 5, "{steps} risks were due");
    }
}
