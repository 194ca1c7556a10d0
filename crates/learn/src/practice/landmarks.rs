use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{CellId, ServiceId, Timestamp};
use forefend_predict::{
    Curve, HELD_STEPS,
    learned::{HELD_FAMILIES, Lately, features_and_first_day, shares_held, steps_in_a_look},
};
use forefend_telemetry::history::{CellHistory, History, Incident};
use serde::{Deserialize, Serialize};

use super::{Away, Outcomes, parallel::in_parallel};
use crate::evaluate::survival::Followed;

/// How instants are laid over a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// How far ahead predictions look.
    pub horizon: Duration,
    /// Steps in a window.
    pub length: usize,
    /// The distance between two looks at a cell; the history's step at least.
    pub every: Duration,
    /// At most about so many looks in all. Where there are more, those far from any failure are thinned out, and those that are left
    /// count for those that are not: base rates stay as they are.
    pub most: usize,
}

/// Steps that a cell must have been watched before it is first looked at.
const LEAST_PAST: u32 = 12;

/// How much a failure that was caused on purpose weighs beside a real one: real causes come in mixtures that no list of faults has. So does one that
/// only a canary found: it may have been the load that was put on the cell.
const CAUSED_WEIGHT: f32 = 0.5;

/// A cell at an instant, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Landmark {
    /// Which cell.
    pub cell: CellId,
    /// Its service.
    pub service: ServiceId,
    /// When it is looked at. Nothing later is known then.
    pub at: Timestamp,
    /// Until it failed, or until nothing more was seen of it.
    pub followed: Followed,
    /// What is never divided: the event whose failure it comes before, or the stretch of quiet that it is of.
    pub block: String,
    /// The kind of that failure, if it comes within the horizon; empty without, or where nobody said.
    pub kind: String,
    /// How many looks it stands for.
    pub weight: f32,
    /// Whether a failure of the cell had been over for no longer than what it holds looks back ([`forefend_predict::HELD_STEPS`] steps).
    #[serde(default)]
    pub after_failure: bool,
}

impl Landmark {
    /// Whether it is known to fail within the horizon.
    #[must_use]
    pub fn fails_within(&self, horizon: Duration) -> bool {
        self.followed.failed && self.followed.time_s <= horizon.as_secs_f64()
    }
}

/// All looks at the cells of `history`, ordered by cell and time.
///
/// A cell is not looked at while it is broken (until it was well again; where that is not known, for a horizon after the failure
/// began), while its traffic is away, or before a dozen steps of it are known.
#[must_use]
pub fn landmarks(history: &History, outcomes: &Outcomes, grid: &Grid) -> Vec<Landmark> {
    let every_ms = u64::try_from(grid.every.max(history.step).as_millis()).unwrap_or(u64::MAX).max(1);
    let looks_back = history.step * u32::try_from(HELD_STEPS).unwrap_or(u32::MAX);
    let mut all = Vec::new();
    for (cell, recorded) in &history.cells {
        let Some((first, last)) = span(recorded) else { continue };
        let past = Past::of(cell, outcomes, grid.horizon);
        let from = first + history.step * LEAST_PAST;
        let begin = from.unix_ms().div_ceil(every_ms);
        // The last look must leave something to be seen after it.
        for n in begin..last.unix_ms().div_ceil(every_ms) {
            let at = Timestamp::from_unix_ms(n * every_ms);
            if past.is_hidden(at) {
                continue;
            }
            let (followed, next) = past.from(at, last);
            let near = next.filter(|_| followed.time_s <= 2.0 * grid.horizon.as_secs_f64());
            let within = next.filter(|_| followed.time_s <= grid.horizon.as_secs_f64());
            let caused = within.is_some_and(|i| i.source.may_be_of_our_making());
            all.push((
                near.is_some(),
                Landmark {
                    cell: cell.clone(),
                    service: recorded.service.clone(),
                    at,
                    followed,
                    block: near.map_or_else(|| quiet(cell, at, grid.horizon), event),
                    kind: within.map(|i| i.kind.clone()).unwrap_or_default(),
                    weight: if caused { CAUSED_WEIGHT } else { 1.0 },
                    after_failure: past.failed_since(at, looks_back),
                },
            ));
        }
    }
    thinned(all, grid.most)
}

/// The name of what an incident shares with others of one cause.
fn event(incident: &Incident) -> String {
    if incident.event.is_empty() {
        format!("{}@{}", incident.cell, incident.began.unix_ms())
    } else {
        incident.event.clone()
    }
}

/// Quiet times of a cell are cut into stretches of eight horizons: what one of them shows, its neighbour mostly shows again.
pub(super) fn quiet(cell: &CellId, at: Timestamp, horizon: Duration) -> String {
    let stretch = u64::try_from(horizon.as_millis()).unwrap_or(u64::MAX).saturating_mul(8).max(1);
    format!("{cell}~{}", at.unix_ms() / stretch)
}

fn span(recorded: &CellHistory) -> Option<(Timestamp, Timestamp)> {
    let all = || recorded.series.values();
    let first = all().filter_map(|s| s.samples.first()).map(|(at, _)| *at).min()?;
    let last = all().filter_map(|s| s.samples.last()).map(|(at, _)| *at).max()?;
    Some((first, last))
}

fn thinned(all: Vec<(bool, Landmark)>, most: usize) -> Vec<Landmark> {
    let near = all.iter().filter(|(near, _)| *near).count();
    let far = all.len() - near;
    let keep_every = far.div_ceil(most.saturating_sub(near).max(1)).max(1);
    let mut seen = 0;
    all.into_iter()
        .filter_map(|(near, mut mark)| {
            if near {
                return Some(mark);
            }
            seen += 1;
            // Counted over all cells, so that no phase of the grid is preferred in each.
            (seen % keep_every == 0).then(|| {
                mark.weight *= keep_every as f32;
                mark
            })
        })
        .collect()
}

/// What happened to one cell.
struct Past<'a> {
    incidents: Vec<&'a Incident>,
    /// From, to.
    broken: Vec<(Timestamp, Timestamp)>,
    hidden: Vec<(Timestamp, Timestamp)>,
    away: Vec<&'a Away>,
}

impl<'a> Past<'a> {
    fn of(cell: &CellId, outcomes: &'a Outcomes, horizon: Duration) -> Self {
        let incidents: Vec<&Incident> = outcomes.incidents.iter().filter(|i| i.cell == *cell).collect();
        let away: Vec<&Away> = outcomes.away.iter().filter(|a| a.cell == *cell).collect();
        let broken: Vec<(Timestamp, Timestamp)> =
            incidents.iter().map(|i| (i.began, i.ended.unwrap_or(i.began + horizon))).collect();
        let for_ever = Timestamp::from_unix_ms(u64::MAX);
        let gone = away.iter().map(|a| (a.from, a.until.unwrap_or(for_ever)));
        let hidden = broken.iter().copied().chain(gone).collect();
        Self { incidents, broken, hidden, away }
    }

    fn is_hidden(&self, at: Timestamp) -> bool {
        self.hidden.iter().any(|(from, until)| (*from..=*until).contains(&at))
    }

    /// Whether it was broken within so long before.
    fn failed_since(&self, at: Timestamp, looks_back: Duration) -> bool {
        self.broken.iter().any(|(_, until)| *until <= at && at.since(*until) < looks_back)
    }

    /// What becomes of the cell from `at` on, and the failure that it ends in.
    fn from(&self, at: Timestamp, last: Timestamp) -> (Followed, Option<&'a Incident>) {
        let seconds = |until: Timestamp| until.since(at).as_secs_f64();
        let next = self.incidents.iter().find(|i| i.began > at && i.began <= last);
        if let Some(incident) = next {
            return (Followed { time_s: seconds(incident.began), failed: true }, Some(incident));
        }
        let gone = self.away.iter().map(|a| a.from).filter(|from| *from > at).min();
        let until = gone.map_or(last, |gone| gone.min(last));
        (Followed { time_s: seconds(until), failed: false }, None)
    }
}

/// Landmarks with what was known at them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Looks {
    /// Where.
    pub marks: Vec<Landmark>,
    /// Features at each, in the order of [`forefend_predict::learned::feature_names`].
    pub rows: Vec<Vec<f32>>,
    /// What the model of the first day said at each.
    pub first_day: Vec<FirstDay>,
    /// How full each of [`HELD_FAMILIES`] had been for a while at each; NaN: not known.
    pub held: Vec<[f32; HELD_FAMILIES.len()]>,
    /// What was seen lately at each ([`Lately::rows`]); nothing in a build that trains no memory.
    pub lately: Vec<Vec<f32>>,
    /// Steps of a window in a look of that.
    pub steps: usize,
}

/// The curve of the model of the first day at a look, as far as what became of the cell asks for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FirstDay {
    /// P(fail by the end of watching), or of what the curve speaks for, if that is sooner.
    pub by_end: f64,
    /// P(fail by the end of what the curve speaks for).
    pub by_reach: f64,
    /// Whether the cell failed before that.
    pub in_reach: bool,
}

impl FirstDay {
    fn of(curve: &[(f64, f64)], followed: Followed) -> Self {
        let (reach_s, by_reach) = curve.last().copied().unwrap_or_default();
        let in_reach = followed.failed && followed.time_s <= reach_s;
        Self { by_end: Curve::at(curve, followed.time_s.min(reach_s)), by_reach, in_reach }
    }
}

/// The features at each landmark, made of nothing later than it. Landmarks at which nothing was measured are left out.
#[must_use]
pub fn look(history: &History, marks: Vec<Landmark>, grid: &Grid) -> Looks {
    let steps = steps_in_a_look(grid.length);
    let seen = in_parallel(&marks, |mark| {
        let windows = history.windows(&mark.cell, mark.at, grid.length)?;
        let (row, first_day) = features_and_first_day(&windows, grid.horizon)?;
        let lately = cfg!(feature = "lstm").then(|| Lately::of(&windows, steps).rows);
        let first_day = FirstDay::of(&first_day.curve, mark.followed);
        Some((row.values, first_day, shares_held(&windows), lately.unwrap_or_default()))
    });
    let mut looks = Looks { steps, ..Looks::default() };
    for (mark, (row, first_day, held, lately)) in
        marks.into_iter().zip(seen).filter_map(|(mark, seen)| Some((mark, seen?)))
    {
        looks.marks.push(mark);
        looks.rows.push(row);
        looks.first_day.push(first_day);
        looks.held.push(held);
        looks.lately.push(lately);
    }
    looks
}

impl Looks {
    /// Those with these numbers.
    #[must_use]
    pub fn of(&self, numbers: &[usize]) -> Self {
        let marks = numbers.iter().map(|i| self.marks[*i].clone()).collect();
        let rows = numbers.iter().map(|i| self.rows[*i].clone()).collect();
        let first_day = numbers.iter().map(|i| self.first_day[*i]).collect();
        let held = numbers.iter().map(|i| self.held[*i]).collect();
        let lately = numbers.iter().map(|i| self.lately[*i].clone()).collect();
        Self { marks, rows, first_day, held, lately, steps: self.steps }
    }

    /// How many incidents, by what they share, are within the horizon of a landmark.
    #[must_use]
    pub fn events(&self, horizon: Duration) -> BTreeMap<&str, usize> {
        let mut events = BTreeMap::new();
        for mark in self.marks.iter().filter(|mark| mark.fails_within(horizon)) {
            *events.entry(mark.block.as_str()).or_default() += 1;
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use forefend_domain::{Family, MetricKind, MetricName};
    use forefend_telemetry::history::{IncidentSource, RecordedSeries};
    use proptest::prelude::*;

    use super::*;

    fn at(s: u64) -> Timestamp {
        Timestamp::from_unix_ms(s * 1_000)
    }

    fn cell() -> CellId {
        CellId::new("a").unwrap()
    }

    fn history(seconds: u64) -> History {
        let series = RecordedSeries {
            family: Family::Saturation,
            kind: MetricKind::Exhaustible,
            unit: "bytes".into(),
            limits: vec![(at(0), Some(1_000.0))],
            samples: (1..=seconds).map(|s| (at(s), s as f64)).collect(),
        };
        let service = ServiceId::new("shop").unwrap();
        let recorded = CellHistory { service, series: BTreeMap::from([(MetricName::new("m"), series)]) };
        History { step: Duration::from_secs(1), cells: BTreeMap::from([(cell(), recorded)]) }
    }

    fn incident(began: u64, ended: Option<u64>) -> Incident {
        let (kind, event) = ("leak".to_owned(), String::new());
        let source = IncidentSource::Imported;
        Incident { cell: cell(), began: at(began), ended: ended.map(at), kind, event, source }
    }

    fn grid(most: usize) -> Grid {
        Grid { horizon: Duration::from_secs(30), length: 60, every: Duration::from_secs(5), most }
    }

    #[test]
    fn each_look_knows_what_became_of_the_cell_and_none_is_made_while_it_is_broken_or_empty() {
        let away = vec![Away { cell: cell(), from: at(300), until: Some(at(350)) }];
        let outcomes = Outcomes { incidents: vec![incident(100, Some(120))], away };
        let marks = landmarks(&history(400), &outcomes, &grid(usize::MAX));
        let of = |s: u64| marks.iter().find(|m| m.at == at(s));
        assert!(of(10).is_none(), "nothing is known of it yet");
        assert_eq!(of(15).unwrap().followed, Followed { time_s: 85.0, failed: true });
        assert_eq!((of(15).unwrap().kind.as_str(), of(15).unwrap().block.as_str()), ("", "a~0"));
        assert_eq!((of(70).unwrap().kind.as_str(), of(70).unwrap().block.as_str()), ("leak", "a@100000"));
        // A second after it was well again, what it holds still looks back into the failure.
        assert!(of(125).unwrap().after_failure && !of(130).unwrap().after_failure);
        assert!(!of(95).unwrap().after_failure, "it has not failed yet");
        assert!([100, 110, 120, 300, 325, 350].into_iter().all(|s| of(s).is_none()));
        assert_eq!(
            of(125).unwrap().followed,
            Followed { time_s: 175.0, failed: false },
            "censored by the shift"
        );
        assert_eq!(of(355).unwrap().followed, Followed { time_s: 45.0, failed: false }, "and by the end");
        assert!(of(400).is_none(), "after it, nothing was seen");
    }

    #[test]
    fn a_failure_of_which_the_end_is_not_known_hides_a_horizon() {
        let marks =
            landmarks(&history(300), &Outcomes::of_incidents(vec![incident(100, None)]), &grid(usize::MAX));
        assert!(marks.iter().all(|m| m.at < at(100) || m.at > at(130)));
        assert!(marks.iter().any(|m| m.at == at(135)));
    }

    #[test]
    fn what_somebody_did_to_a_cell_counts_half() {
        for (source, weight) in [
            (IncidentSource::Objective, 1.0),
            (IncidentSource::Operator, 1.0),
            (IncidentSource::Canary, 0.5),
            (IncidentSource::Fault, 0.5),
            (IncidentSource::Drill, 0.5),
        ] {
            let outcomes = Outcomes::of_incidents(vec![Incident { source, ..incident(100, Some(120)) }]);
            let marks = landmarks(&history(400), &outcomes, &grid(usize::MAX));
            let of = |s: u64| marks.iter().find(|m| m.at == at(s)).map(|m| m.weight);
            assert_eq!((of(90), of(200)), (Some(weight), Some(1.0)), "{source:?}");
        }
    }

    proptest! {
        #[test]
        fn thinning_keeps_all_that_is_near_a_failure_and_the_weight_of_the_rest(
            began in prop::collection::btree_set(50u64..900, 0..4),
            most in 20usize..200,
        ) {
            let incidents: Vec<Incident> = began.into_iter().map(|b| incident(b, None)).collect();
            let outcomes = Outcomes::of_incidents(incidents);
            let all = landmarks(&history(1_000), &outcomes, &grid(usize::MAX));
            let few = landmarks(&history(1_000), &outcomes, &grid(most));
            let near = |marks: &[Landmark]| marks.iter().filter(|m| m.followed.failed && m.followed.time_s <= 60.0).count();
            prop_assert_eq!(near(&all), near(&few));
            let weight = |marks: &[Landmark]| marks.iter().map(|m| f64::from(m.weight)).sum::<f64>();
            let largest = few.iter().map(|m| f64::from(m.weight)).fold(1.0, f64::max);
            prop_assert!((weight(&all) - weight(&few)).abs() <= largest);
            prop_assert!(few.len() <= most.max(near(&all)) + near(&all) + 1);
        }

        #[test]
        fn what_comes_later_changes_no_row(cut in 100u64..390) {
            let grid = grid(usize::MAX);
            let (long, short) = (history(400), history(cut));
            let marks = landmarks(&short, &Outcomes::default(), &grid);
            let bits = |looks: Looks| -> Vec<u32> { looks.rows.concat().iter().map(|v| v.to_bits()).collect() };
            prop_assert!(bits(look(&long, marks.clone(), &grid)) == bits(look(&short, marks, &grid)));
        }
    }
}
