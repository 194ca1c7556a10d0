//! Alarms at every threshold at once, for the operating curves: the policy's trigger alone, without the shift that follows.

use std::collections::VecDeque;

use forefend_domain::{CellId, Policy, Prediction, Timestamp, Windows};

use super::contender::{Contender, fill, left_s};

/// When an alarm stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stood {
    pub(crate) cell: CellId,
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
}

/// Those that have an operating curve, with the levels at which it is looked at, all rising.
pub(crate) const CURVES: [(Contender, &[f64]); 3] = [
    (
        Contender::Forefend,
        &[
            0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995,
            0.999,
        ],
    ),
    (Contender::StaticThreshold, &[0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0]),
    // Minus the horizons until the line is at the limit.
    (Contender::PredictLinear, &[-4.0, -2.0, -1.5, -1.0, -0.75, -0.5, -0.35, -0.25, -0.15, -0.1, -0.05, 0.0]),
];

/// Never reaches any level.
const NOTHING: f64 = f64::NEG_INFINITY;

/// How high the alarms of [`CURVES`] are raised by what is known of a cell. `due`: whether the race says that it is time to act.
pub(crate) fn risks(prediction: &Prediction, due: bool, windows: &Windows) -> [f64; CURVES.len()] {
    let horizon_s = prediction.horizon.as_secs_f64().max(1e-3);
    let grounded = prediction.basis != forefend_domain::Basis::Prior;
    [
        if due && grounded { prediction.probability.get() } else { NOTHING },
        fill(windows).map_or(NOTHING, |(share, _)| share),
        left_s(windows).map_or(NOTHING, |(s, _)| -s / horizon_s),
    ]
}

/// The alarms of one cell and one rule.
#[derive(Debug)]
pub(crate) struct Alarms {
    levels: &'static [f64],
    newest: VecDeque<f64>,
    /// By level: since when it stands, and when the trigger last held.
    standing: Vec<Option<(Timestamp, Timestamp)>>,
}

impl Alarms {
    pub(crate) fn new(levels: &'static [f64]) -> Self {
        Self { levels, newest: VecDeque::new(), standing: vec![None; levels.len()] }
    }

    /// Takes the risk of a tick. An alarm ends when its trigger has not held for as long as a cell must be well to get its traffic
    /// back.
    pub(crate) fn note(
        &mut self,
        cell: &CellId,
        now: Timestamp,
        risk: f64,
        policy: &Policy,
        stood: &mut [Vec<Stood>],
    ) {
        let (hits, of) = (policy.trigger.hits.max(1) as usize, policy.trigger.of_ticks.max(1) as usize);
        self.newest.push_back(risk);
        while self.newest.len() > of {
            self.newest.pop_front();
        }
        let mut sorted: Vec<f64> = self.newest.iter().copied().collect();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let level = sorted.get(hits - 1).copied().unwrap_or(NOTHING);
        for ((at, standing), stood) in self.levels.iter().zip(&mut self.standing).zip(stood) {
            match standing {
                Some((_, held)) if level >= *at => *held = now,
                None if level >= *at => *standing = Some((now, now)),
                Some((since, held)) if now.since(*held) >= policy.give_back.healthy_for => {
                    stood.push(Stood { cell: cell.clone(), since: *since, until: *held });
                    *standing = None;
                }
                Some(_) | None => {}
            }
        }
    }

    /// Ends all that stand.
    pub(crate) fn end(&mut self, cell: &CellId, stood: &mut [Vec<Stood>]) {
        for (standing, stood) in self.standing.iter_mut().zip(stood) {
            if let Some((since, held)) = standing.take() {
                stood.push(Stood { cell: cell.clone(), since, until: held });
            }
        }
    }
}
