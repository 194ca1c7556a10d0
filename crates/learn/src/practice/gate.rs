//! Whether a challenger may take the champion's place.
//!
//! What both said of the same cells at the same instants is held against what became of them. A challenger passes only if it is better
//! beyond chance, foresees no fewer failures at the false alarms that are tolerated, and is worse for nobody: for no service and for
//! no kind of failure. The same question, asked with the roles changed, tells when a champion has turned bad.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use forefend_domain::{OperatingCurve, OperatingPoint, Probability, Timestamp};
use serde::{Deserialize, Serialize};

use super::Judged;
use crate::evaluate::{
    Estimate,
    bootstrap::Bootstrap,
    events::WEEK_S,
    poisson,
    survival::{Followed, ipcw},
};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How far ahead both look.
    pub horizon: Duration,
    /// The distance between two looks at a cell: what a look stands for in time.
    pub every: Duration,
    /// A failure counts as foreseen when it was told at least this long before.
    pub lead: Duration,
    /// False alarms that are tolerated for each cell and week.
    pub false_alarms_per_cell_week: f64,
    /// Failures (by event) from which a difference can be told at all.
    pub least_events: usize,
    /// Events and quiet stretches from which an interval can be told.
    pub least_blocks: usize,
}

impl Settings {
    /// For this horizon and distance of looks: a tenth of the horizon as lead, one false alarm for each cell and week, five events, ten
    /// blocks.
    #[must_use]
    pub fn new(horizon: Duration, every: Duration) -> Self {
        Self {
            horizon,
            every,
            lead: horizon / 10,
            false_alarms_per_cell_week: 1.0,
            least_events: 5,
            least_blocks: 10,
        }
    }
}

/// What is known of the two models beside what they said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Papers {
    /// The last instant that the champion learned from; `None`: it learned from nothing.
    pub champion_until: Option<Timestamp>,
    /// The last instant that the challenger learned from.
    pub challenger_until: Option<Timestamp>,
    /// Features of the challenger that nobody here can compute.
    pub unknown_features: Vec<String>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// `features`, `freshness`, `evidence`, `brier`, `recall`, `classes`.
    pub name: String,
    /// Whether it holds.
    pub passed: bool,
    /// What was found, in words and numbers.
    pub detail: String,
}

/// How one of the two did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The Brier score within the horizon, weighted for what was not seen to its end; 0 is perfect.
    pub brier: f64,
    /// The threshold from which on it gives no more false alarms than are tolerated; `None`: it gives more at every one.
    pub threshold: Option<f64>,
    /// The share of events foreseen at that threshold with enough lead; `None` without events.
    pub recall: Option<f64>,
    /// False alarms at that threshold for each cell and week.
    pub false_alarms_per_cell_week: f64,
}

/// What the gate says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the challenger may take the champion's place.
    pub passed: bool,
    /// Each condition.
    pub checks: Vec<Check>,
    /// How the champion did; `None` where nothing could be judged.
    pub champion: Option<Score>,
    /// How the challenger did.
    pub challenger: Option<Score>,
    /// The champion's Brier score less the challenger's, by bootstrap over incidents and quiet stretches: above 0, the challenger is better.
    pub gain: Option<Estimate>,
    /// Events among what was judged.
    pub events: usize,
    /// Looks that were judged.
    pub looks: usize,
}

impl Verdict {
    /// The conditions that do not hold, in words.
    #[must_use]
    pub fn why_not(&self) -> String {
        let failed = self.checks.iter().filter(|check| !check.passed);
        failed.map(|check| format!("{}: {}", check.name, check.detail)).collect::<Vec<_>>().join("; ")
    }

    /// The most specific condition that does not hold.
    #[must_use]
    pub fn fails(&self, name: &str) -> bool {
        self.checks.iter().any(|check| check.name == name && !check.passed)
    }
}

/// Holds what both said against what became of the cells. `rows` in any order.
#[must_use]
pub fn gate(rows: &[Judged], papers: &Papers, settings: &Settings) -> Verdict {
    let mut rows: Vec<&Judged> = rows.iter().collect();
    rows.sort_by(|a, b| (&a.mark.cell, a.mark.at).cmp(&(&b.mark.cell, b.mark.at)));
    let events: BTreeSet<&str> = failing(&rows, settings).map(|row| row.mark.block.as_str()).collect();
    let mut checks = vec![features(papers), freshness(papers), evidence(events.len(), settings)];
    let (champion, challenger) = (
        Side::of(&rows, settings, Judged::champion_alarm),
        Side::of(&rows, settings, Judged::challenger_alarm),
    );
    let losses = losses(&rows, settings);
    let gain = losses.as_ref().and_then(|losses| gain(losses, settings));
    checks.push(brier(gain));
    checks.push(recall(&champion, &challenger));
    checks.push(classes(&champion, &challenger, losses.as_deref().unwrap_or_default(), settings));
    let mean = |of: fn(&Loss<'_>) -> f64| losses.as_ref().map(|losses| weighted(losses, of));
    let score = |side: &Side<'_>, brier: Option<f64>| {
        Some(Score {
            brier: brier?,
            threshold: Some(side.threshold).filter(|t| t.is_finite()),
            recall: side.recall(),
            false_alarms_per_cell_week: side.false_alarms,
        })
    };
    Verdict {
        passed: checks.iter().all(|check| check.passed),
        champion: score(&champion, mean(|loss| loss.champion)),
        challenger: score(&challenger, mean(|loss| loss.challenger)),
        gain,
        events: events.len(),
        looks: rows.len(),
        checks,
    }
}

/// Whether the champion does worse than the one before it, beyond chance, and by how much. `champion` and `challenger` of the rows are the
/// one that serves and the one before it.
///
/// In quiet whoever says less is better by a little, however right the other is; so either enough failures have come, or the champion must
/// have foretold more than twice what the failures that came can be explained by: who cries wolf is found out by quiet alone.
#[must_use]
pub fn has_turned_bad(rows: &[Judged], settings: &Settings) -> Option<Estimate> {
    let rows: Vec<&Judged> = rows.iter().collect();
    let gain = gain(&losses(&rows, settings)?, settings).filter(|gain| gain.low > 0.0)?;
    let events: BTreeSet<&str> = failing(&rows, settings).map(|row| row.mark.block.as_str()).collect();
    // A look stands for its share of the horizon that it looks over.
    let share = settings.every.as_secs_f64() / settings.horizon.as_secs_f64();
    let foretold: f64 = rows.iter().map(|row| f64::from(row.mark.weight) * row.champion * share).sum();
    let cries_wolf = poisson(events.len() as u64, foretold, 0.95).is_some_and(|came| came.high < 0.5);
    (events.len() >= settings.least_events || cries_wolf).then_some(gain)
}

fn check(name: &str, passed: bool, detail: String) -> Check {
    Check { name: name.to_owned(), passed, detail }
}

fn features(papers: &Papers) -> Check {
    let unknown = &papers.unknown_features;
    let detail = if unknown.is_empty() {
        "all can be computed from live telemetry".to_owned()
    } else {
        format!(
            "{} can't be computed from live telemetry; train it with the features of this version",
            unknown.iter().take(3).cloned().collect::<Vec<_>>().join(", ")
        )
    };
    check("features", unknown.is_empty(), detail)
}

fn freshness(papers: &Papers) -> Check {
    match (papers.champion_until, papers.challenger_until) {
        (Some(champion), Some(challenger)) if challenger < champion => {
            let behind_s = champion.since(challenger).as_secs_f64();
            check(
                "freshness",
                false,
                format!(
                    "it learned from data that ends {behind_s:.0} s before the champion's; train on newer data"
                ),
            )
        }
        _ => check("freshness", true, "it saw what the champion saw, or newer".to_owned()),
    }
}

fn evidence(events: usize, settings: &Settings) -> Check {
    let least = settings.least_events;
    let detail = if events >= least {
        format!("{events} events were judged")
    } else {
        format!("{events} events are too few to tell: {least} are needed; it stays in the shadow until then")
    };
    check("evidence", events >= least, detail)
}

fn brier(gain: Option<Estimate>) -> Check {
    let Some(gain) = gain else {
        return check("brier", false, "too little is known to tell which is better".to_owned());
    };
    let Estimate { value, low, high } = gain;
    let words = if low > 0.0 {
        "better"
    } else if high < 0.0 {
        "worse"
    } else {
        "not better beyond chance"
    };
    check("brier", low > 0.0, format!("{words}: the Brier score falls by {value:.5} ({low:.5} to {high:.5})"))
}

fn recall(champion: &Side<'_>, challenger: &Side<'_>) -> Check {
    let (Some(before), Some(after)) = (champion.recall(), challenger.recall()) else {
        return check("recall", true, "no event to foresee".to_owned());
    };
    let detail = format!(
        "it foresees {:.0}% of {} events, the champion {:.0}%",
        100.0 * after,
        champion.told.len(),
        100.0 * before
    );
    check("recall", after >= before, detail)
}

/// Fewer foreseen of a kind count as worse from two on: one is chance.
const FEWER: usize = 2;

fn classes(champion: &Side<'_>, challenger: &Side<'_>, losses: &[Loss<'_>], settings: &Settings) -> Check {
    let mut worse = Vec::new();
    let (before, after) = (champion.told_by_kind(), challenger.told_by_kind());
    for (kind, told) in &before {
        let now = after.get(kind).copied().unwrap_or(0);
        if now + FEWER <= *told {
            let kind = if kind.is_empty() { "failures of no named kind" } else { kind };
            worse.push(format!("{kind}: {now} foreseen, the champion {told}"));
        }
    }
    let services: BTreeSet<&str> = losses.iter().map(|loss| loss.row.mark.service.as_str()).collect();
    for service in services.iter().filter(|_| services.len() > 1) {
        let of: Vec<Loss<'_>> =
            losses.iter().filter(|loss| loss.row.mark.service.as_str() == *service).copied().collect();
        if let Some(Estimate { value, low, high }) = gain(&of, settings).filter(|gain| gain.high < 0.0) {
            worse.push(format!(
                "service {service}: the Brier score rises by {:.5} ({:.5} to {:.5})",
                -value, -high, -low
            ));
        }
    }
    let detail = if worse.is_empty() { "none is worse".to_owned() } else { worse.join("; ") };
    check("classes", worse.is_empty(), detail)
}

/// What a row costs both.
#[derive(Debug, Clone, Copy)]
struct Loss<'a> {
    row: &'a Judged,
    weight: f64,
    champion: f64,
    challenger: f64,
}

/// `None` where the horizon is longer than anything was watched, or a probability is none.
fn losses<'a>(rows: &[&'a Judged], settings: &Settings) -> Option<Vec<Loss<'a>>> {
    let followed: Vec<Followed> = rows.iter().map(|row| row.mark.followed).collect();
    let known = ipcw(settings.horizon.as_secs_f64(), &followed)?;
    let sound = |row: &Judged| (0.0..=1.0).contains(&row.champion) && (0.0..=1.0).contains(&row.challenger);
    if !rows.iter().all(|row| sound(row)) {
        return None;
    }
    let loss = |(row, known): (&&'a Judged, Option<(bool, f64)>)| {
        let (failed, weight) = known?;
        let distance = |said: f64| (f64::from(failed) - said).powi(2);
        let weight = weight * f64::from(row.mark.weight);
        let (champion, challenger) = (distance(row.champion), distance(row.challenger));
        Some(Loss { row, weight, champion, challenger })
    };
    Some(rows.iter().zip(known).filter_map(loss).collect())
}

fn weighted(losses: &[Loss<'_>], of: impl Fn(&Loss<'_>) -> f64) -> f64 {
    let total: f64 = losses.iter().map(|loss| loss.weight).sum();
    losses.iter().map(|loss| loss.weight * of(loss)).sum::<f64>() / total
}

/// By bootstrap over blocks; `None` with too few of them.
fn gain(losses: &[Loss<'_>], settings: &Settings) -> Option<Estimate> {
    let mut blocks: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for loss in losses {
        let (sum, weight) = blocks.entry(loss.row.mark.block.as_str()).or_default();
        *sum += loss.weight * (loss.champion - loss.challenger);
        *weight += loss.weight;
    }
    if blocks.len() < settings.least_blocks {
        return None;
    }
    let blocks: Vec<(f64, f64)> = blocks.into_values().collect();
    let each_its_own: Vec<usize> = (0..blocks.len()).collect();
    Bootstrap::default().interval(&each_its_own, |drawn| {
        let (sum, weight) =
            drawn.iter().fold((0.0, 0.0), |(sum, weight), i| (sum + blocks[*i].0, weight + blocks[*i].1));
        (weight > 0.0).then_some(sum / weight)
    })
}

fn failing<'a>(rows: &'a [&'a Judged], settings: &'a Settings) -> impl Iterator<Item = &'a Judged> {
    rows.iter().copied().filter(|row| row.mark.fails_within(settings.horizon))
}

/// What one of the two tells at its threshold.
struct Side<'a> {
    threshold: f64,
    false_alarms: f64,
    /// By event: its kind, and whether it was told in time. Events that nobody looked at in time are left out.
    told: BTreeMap<&'a str, (&'a str, bool)>,
}

impl<'a> Side<'a> {
    /// Rows are ordered by cell and time.
    fn of(rows: &[&'a Judged], settings: &Settings, said: impl Fn(&Judged) -> f64) -> Self {
        let (threshold, false_alarms) = threshold(rows, settings, &said);
        Self::at(rows, settings, threshold, false_alarms, said)
    }

    fn at(
        rows: &[&'a Judged],
        settings: &Settings,
        threshold: f64,
        false_alarms: f64,
        said: impl Fn(&Judged) -> f64,
    ) -> Self {
        let lead_s = settings.lead.as_secs_f64();
        let mut told: BTreeMap<&str, (&str, bool)> = BTreeMap::new();
        for row in
            rows.iter().filter(|r| r.mark.fails_within(settings.horizon) && r.mark.followed.time_s >= lead_s)
        {
            let (_, told) = told.entry(&row.mark.block).or_insert((&row.mark.kind, false));
            *told |= said(row) >= threshold;
        }
        Self { threshold, false_alarms, told }
    }

    fn recall(&self) -> Option<f64> {
        let told = self.told.values().filter(|(_, told)| *told).count();
        (!self.told.is_empty()).then(|| told as f64 / self.told.len() as f64)
    }

    fn told_by_kind(&self) -> BTreeMap<&'a str, usize> {
        let mut kinds = BTreeMap::new();
        for (kind, told) in self.told.values() {
            *kinds.entry(*kind).or_default() += usize::from(*told);
        }
        kinds
    }
}

/// Thresholds that are tried.
const TRIED: usize = 200;

/// The lowest threshold from which on upwards no more false alarms are given than are tolerated, and how many it gives.
fn threshold(rows: &[&Judged], settings: &Settings, said: &impl Fn(&Judged) -> f64) -> (f64, f64) {
    let mut levels: Vec<f64> = rows.iter().map(|row| said(row)).filter(|p| p.is_finite()).collect();
    levels.sort_by(|a, b| b.total_cmp(a));
    levels.dedup();
    let step = levels.len().div_ceil(TRIED).max(1);
    // Nothing is ever that likely.
    let mut chosen = (f64::INFINITY, 0.0);
    for level in levels.into_iter().step_by(step) {
        let alarms = false_alarms(rows, settings, |row| said(row) >= level);
        if alarms > settings.false_alarms_per_cell_week {
            break;
        }
        chosen = (level, alarms);
    }
    chosen
}

/// What acting from each probability on would have cost and brought, of the one that would like to serve. `rows` in any order.
#[must_use]
pub fn operating_curve(rows: &[Judged], settings: &Settings) -> OperatingCurve {
    /// Points of the curve: a person reads it, and a threshold between two of them is as good as the upper one.
    const POINTS: usize = 50;
    let mut rows: Vec<&Judged> = rows.iter().collect();
    rows.sort_by(|a, b| (&a.mark.cell, a.mark.at).cmp(&(&b.mark.cell, b.mark.at)));
    let mut levels: Vec<f64> =
        rows.iter().map(|row| row.challenger_alarm()).filter(|p| p.is_finite()).collect();
    levels.sort_by(|a, b| b.total_cmp(a));
    levels.dedup();
    // Closer together at the top: nobody acts on what almost all looks reach.
    let steps = POINTS.min(levels.len());
    let mut chosen: Vec<usize> = (0..steps)
        .map(|i| ((levels.len() as f64).powf((i + 1) as f64 / steps as f64) - 1.0).round() as usize)
        .collect();
    chosen.dedup();
    let point = |level: f64| OperatingPoint {
        threshold: Probability::clamped(level, Probability::ONE),
        false_alarms_per_cell_week: false_alarms(&rows, settings, |row| row.challenger_alarm() >= level),
        recall: Side::at(&rows, settings, level, 0.0, Judged::challenger_alarm).recall(),
    };
    OperatingCurve(chosen.into_iter().filter_map(|i| levels.get(i)).map(|level| point(*level)).collect())
}

/// Alarms for each cell and week that no failure followed within two horizons. One that stands is one.
fn false_alarms(rows: &[&Judged], settings: &Settings, alarmed: impl Fn(&Judged) -> bool) -> f64 {
    let horizon_s = settings.horizon.as_secs_f64();
    let (mut alarms, mut looks) = (0.0, 0.0);
    let mut before: Option<(&Judged, bool)> = None;
    for row in rows {
        let weight = f64::from(row.mark.weight);
        let fails = row.mark.followed.failed && row.mark.followed.time_s <= 2.0 * horizon_s;
        let is_alarmed = alarmed(row);
        let stood = before.is_some_and(|(other, stood)| {
            stood
                && other.mark.cell == row.mark.cell
                && row.mark.at.since(other.mark.at) <= settings.horizon.max(settings.every * 2)
        });
        if !fails {
            looks += weight;
            alarms += if is_alarmed && !stood { weight } else { 0.0 };
        }
        before = Some((row, is_alarmed));
    }
    let weeks = looks * settings.every.as_secs_f64() / WEEK_S;
    if weeks > 0.0 { alarms / weeks } else { 0.0 }
}

#[cfg(test)]
mod tests;
