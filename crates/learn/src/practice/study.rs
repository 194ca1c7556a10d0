use std::time::Duration;

use forefend_domain::Timestamp;
use forefend_predict::learned::{Episode, Model};
use forefend_telemetry::history::History;

use super::{
    Card, Fingerprint, Grid, Judged, Landmark, Looks, Outcomes, Scores, Spread, Stored,
    gate::{self, Papers},
    judge,
    ladder::{self, LadderError},
    landmarks, look,
};
use crate::{
    evaluate::{
        probability, rank, reliability,
        split::{Row, by_time},
        survival::{Followed, ipcw},
    },
    lstm::DeviceChoice,
};

/// How a challenger is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Study {
    /// How far ahead it looks.
    pub horizon: Duration,
    /// Steps in a window.
    pub length: usize,
    /// The distance between two looks at a cell.
    pub every: Duration,
    /// About how many looks it learns from at most.
    pub most: usize,
    /// The share of events, the newest, that it does not learn from and is judged by.
    pub held_out: f64,
    /// What the gate asks for.
    pub gate: gate::Settings,
    /// Events from which anything is learned.
    pub least_events: usize,
    /// Of draws.
    pub seed: u64,
    /// Where networks learn.
    pub device: DeviceChoice,
}

impl Study {
    /// For this horizon and these windows: a look every sixteenth of the horizon, but no oftener than telemetry comes; the newest three in
    /// ten events are held out; on the CPU.
    #[must_use]
    pub fn new(horizon: Duration, step: Duration, length: usize) -> Self {
        let every = (horizon / 16).max(step);
        Self {
            horizon,
            length,
            every,
            most: 60_000,
            held_out: 0.3,
            gate: gate::Settings::new(horizon, every),
            least_events: 5,
            seed: 1,
            device: DeviceChoice::Cpu,
        }
    }

    fn grid(&self) -> Grid {
        Grid { horizon: self.horizon, length: self.length, every: self.every, most: self.most }
    }

    /// Learns from the older part of what happened, and is judged beside the champion by the newer part, with at least a horizon between
    /// them. `until` is the last instant that the champion learned from. The card has no name yet.
    ///
    /// # Errors
    /// With too few failures, or when nothing can be trained.
    pub fn challenger(
        &self,
        history: &History,
        outcomes: &Outcomes,
        champion: &Model,
        until: Option<Timestamp>,
        made: Timestamp,
    ) -> Result<Stored, LadderError> {
        let grid = self.grid();
        let looks = look(history, landmarks(history, outcomes, &grid), &grid);
        let (older, newer) = self.divide(&looks)?;
        let settings = ladder::Settings {
            least_events: self.least_events,
            seed: self.seed,
            device: self.device,
            ..ladder::Settings::new(self.horizon, self.every)
        };
        let trained = ladder::climb(&older, &settings)?;
        let judged = judge(history, &newer.marks, &grid, champion, &trained.model);
        let data = Fingerprint::of(&older, outcomes);
        let papers = Papers {
            champion_until: until,
            challenger_until: data.span.map(|(_, last)| last),
            unknown_features: trained.model.unknown_features(),
        };
        let (scores, reliability) = scores(&judged, &older, self.horizon);
        let card = Card {
            id: String::new(),
            made,
            horizon_s: self.horizon.as_secs_f64(),
            rung: trained.rung,
            ladder: trained.ladder,
            left_out: trained.left_out,
            data,
            scores,
            reliability,
            gate: gate::gate(&judged, &papers, &self.gate),
            operating: gate::operating_curve(&judged, &self.gate),
            spread: Spread::of(&older.rows),
            intervals: trained.intervals,
            suspects: trained.suspects,
            beyond: trained.beyond,
            trained_on: trained.trained_on,
        };
        Ok(Stored { card, model: trained.model })
    }

    /// How past failures looked before they came, for who explains a prediction by what it resembles: the looks within a horizon before each, the newest
    /// `most`.
    #[must_use]
    pub fn past_failures(&self, history: &History, outcomes: &Outcomes, most: usize) -> Vec<Episode> {
        let grid = self.grid();
        let mut marks = landmarks(history, outcomes, &grid);
        marks.retain(|mark| mark.fails_within(self.horizon));
        marks.sort_by_key(|mark| std::cmp::Reverse(mark.at));
        marks.truncate(most);
        let Looks { marks, rows, .. } = look(history, marks, &grid);
        let episode = |(mark, features): (Landmark, Vec<f32>)| Episode {
            began: mark.at + Duration::from_secs_f64(mark.followed.time_s),
            lead_s: mark.followed.time_s,
            cell: mark.cell,
            service: mark.service,
            kind: mark.kind,
            features,
        };
        marks.into_iter().zip(rows).map(episode).collect()
    }

    /// The older looks to learn from, the newer ones to judge by.
    fn divide(&self, looks: &Looks) -> Result<(Looks, Looks), LadderError> {
        let horizon_s = self.horizon.as_secs_f64();
        let mut events: Vec<(Timestamp, &str)> = looks
            .marks
            .iter()
            .filter(|mark| mark.fails_within(self.horizon))
            .map(|mark| (mark.at + Duration::from_secs_f64(mark.followed.time_s), mark.block.as_str()))
            .collect();
        events.sort();
        let mut known = std::collections::BTreeSet::new();
        events.retain(|(_, event)| known.insert(*event));
        let too_few = |events| LadderError::TooFewEvents { events, least: self.least_events };
        let learned = ((1.0 - self.held_out.clamp(0.0, 0.9)) * events.len() as f64).ceil() as usize;
        if learned < self.least_events {
            return Err(too_few(learned));
        }
        // What is judged by begins where the next event could first be seen coming.
        let cut = events.get(learned).map_or_else(
            || Timestamp::from_unix_ms(u64::MAX),
            |(next, _)| Timestamp::from_unix_ms(next.unix_ms().saturating_sub((2_000.0 * horizon_s) as u64)),
        );
        let rows: Vec<Row<&str>> = looks
            .marks
            .iter()
            .map(|mark| Row { group: mark.block.as_str(), begun: mark.at, ended: mark.at })
            .collect();
        let split = by_time(&rows, cut, self.horizon, self.horizon)?;
        Ok((looks.of(&split.train), looks.of(&split.test)))
    }
}

/// How the challenger did, and its reliability curve.
fn scores(judged: &[Judged], learned_from: &Looks, horizon: Duration) -> (Scores, Vec<reliability::Bin>) {
    let horizon_s = horizon.as_secs_f64();
    let mut scores = Scores { looks: judged.len(), ..Scores::default() };
    let failing = judged.iter().filter(|j| j.mark.fails_within(horizon)).map(|j| j.mark.block.as_str());
    scores.events = failing.collect::<std::collections::BTreeSet<_>>().len();
    let followed: Vec<Followed> = judged.iter().map(|j| j.mark.followed).collect();
    let Some(known) = ipcw(horizon_s, &followed) else { return (scores, Vec::new()) };
    let (mut risks, mut outcomes, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for (judged, known) in judged.iter().zip(known) {
        let Some((failed, weight)) = known else { continue };
        risks.push(judged.challenger);
        outcomes.push(failed);
        weights.push(weight * f64::from(judged.mark.weight));
    }
    // The base rate that was known beforehand.
    let of: f64 = learned_from.marks.iter().map(|mark| f64::from(mark.weight)).sum();
    let failed = learned_from.marks.iter().filter(|mark| mark.fails_within(horizon));
    let base = failed.map(|mark| f64::from(mark.weight)).sum::<f64>() / of;
    scores.brier = probability::brier(&risks, &outcomes, Some(&weights));
    scores.skill = probability::brier_skill(&risks, &outcomes, Some(&weights), base);
    scores.auc = rank::auc(&risks, &outcomes, Some(&weights));
    scores.slope = reliability::recalibration(&risks, &outcomes).map(|found| found.slope);
    scores.top = reliability::top(&risks, &outcomes, 0.05, 0.95).map(|top| top.ratio.value);
    (scores, reliability::curve(&risks, &outcomes, 10, 0.95).unwrap_or_default())
}
