//! Takes down what a replay does. It knows the incidents to come; the loop does not.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use forefend_control::{ServiceSpec, Snapshot};
use forefend_decide::race;
use forefend_domain::{
    CellId, EntryKind, LeadTimeProfile, LedgerEntry, Policy, Prediction, ServiceWeights, Timestamp,
};

use super::{
    Contender,
    alarms::{Alarms, CURVES, risks},
    trace::{IncidentTrace, Known, Point, ShiftTrace, Trace},
    world::State,
};

/// Points of a course before the event that it is about.
const POINTS: usize = 160;
/// Points of a course at most.
const MOST_POINTS: usize = 480;
/// A look at the calibration so many times in a horizon, for each cell.
const LOOKS: u32 = 8;
/// Looks at the calibration that are kept of a service.
const MOST_ROWS: usize = 500_000;

/// What is kept of a cell while it is replayed.
struct Watched {
    ring: VecDeque<Point>,
    seen: u64,
    predicted_at: Option<Timestamp>,
    looked_at: Option<Timestamp>,
    prediction: Option<(f64, Option<forefend_domain::MetricName>)>,
    away: f64,
    away_since: Option<Timestamp>,
    alarms: Vec<Alarms>,
    home: f64,
}

/// Where points still go.
enum Following {
    Shift(usize),
    Incident(usize),
}

pub(crate) struct Recorder {
    policy: Policy,
    contender: Contender,
    tick: Duration,
    stride: u64,
    lookback: Duration,
    cells: BTreeMap<CellId, Watched>,
    open: BTreeMap<CellId, usize>,
    following: Vec<(CellId, Following, Timestamp)>,
    /// Incidents that have not begun yet, the next one last.
    coming: Vec<Known>,
    known: Vec<Known>,
    trace: Trace,
}

impl Recorder {
    pub(crate) fn new(
        spec: &ServiceSpec,
        known: Vec<Known>,
        state: &State<'_>,
        contender: Contender,
        tick: Duration,
    ) -> Self {
        let policy = spec.service.policy.clone();
        let lookback = (policy.horizon * 2).max(tick * 60);
        let stride = (lookback.as_secs_f64() / tick.as_secs_f64() / POINTS as f64).ceil().max(1.0) as u64;
        let ours = contender == Contender::Forefend;
        let watched = |home: f64| Watched {
            ring: VecDeque::new(),
            seen: 0,
            predicted_at: None,
            looked_at: None,
            prediction: None,
            away: 0.0,
            away_since: None,
            alarms: if ours { CURVES.map(|(_, levels)| Alarms::new(levels)).into() } else { Vec::new() },
            home,
        };
        let cells = state.recorded().map(|(id, ..)| (id.clone(), watched(spec.home.share(id)))).collect();
        let stages = forefend_domain::Stage::ALL;
        let trace = Trace {
            until: state.recorded().map(|(id, _, last)| (id.clone(), last)).collect(),
            lead_time_s: stages.iter().map(|s| policy.lead_time_prior(*s).as_secs_f64()).sum(),
            alarms: CURVES.iter().map(|(_, levels)| vec![Vec::new(); levels.len()]).collect(),
            ..Trace::default()
        };
        let mut coming = known.clone();
        coming.reverse();
        Self {
            policy,
            contender,
            tick,
            stride,
            lookback,
            cells,
            open: BTreeMap::new(),
            following: Vec::new(),
            coming,
            known,
            trace,
        }
    }

    /// Takes down a tick: what was decided, and what happens until the next.
    pub(crate) fn note(&mut self, snapshot: &Snapshot, state: &mut State<'_>) {
        let now = state.now;
        // Before anything of this tick: what an incident that has begun since the last tick met.
        while self.coming.last().is_some_and(|i| i.began <= now) {
            if let Some(incident) = self.coming.pop() {
                self.incident(incident, now, state.requests_per_s());
            }
        }
        let entries = std::mem::take(&mut state.ledger);
        self.shifts(&entries, snapshot, now);
        let weights = state.weights().cloned().unwrap_or_default();
        let requests_per_s = state.requests_per_s();
        self.trace.requests += requests_per_s * self.tick.as_secs_f64();
        self.cells(snapshot, &weights, state);
        self.account(now, requests_per_s, &weights);
        let (live, parked) = state.standbys.count();
        self.trace.live_s += live as f64 * self.tick.as_secs_f64();
        self.trace.parked_s += parked as f64 * self.tick.as_secs_f64();
        for said in &snapshot.degraded {
            if said.starts_with("invariant")
                && self.trace.broken.len() < 20
                && !self.trace.broken.contains(said)
            {
                self.trace.broken.push(said.clone());
            }
        }
    }

    fn incident(&mut self, known: Known, now: Timestamp, requests_per_s: f64) {
        let Some(cell) = self.cells.get(&known.cell) else { return };
        let recent = self.policy.stale_after.max(self.tick * 4);
        let watched = cell.predicted_at.is_some_and(|at| known.began.since(at) <= recent);
        let (probability, driver) = match &cell.prediction {
            Some((p, driver)) if watched => (Some(*p), driver.clone()),
            _ => (None, None),
        };
        let shift = self.open.get(&known.cell).and_then(|i| self.trace.shifts[*i].driver.clone());
        let until = known.began + self.lookback / 3;
        let index = self.trace.incidents.len();
        self.following.push((known.cell.clone(), Following::Incident(index), until));
        // What it met until now were the weights of the last tick. One from before the replay counts from its start.
        let lasted_s = now.since(known.began).min(self.tick).as_secs_f64();
        let all_requests = lasted_s * requests_per_s * cell.home;
        self.trace.incidents.push(IncidentTrace {
            watched,
            away: cell.away,
            away_since: cell.away_since,
            exposed_s: lasted_s * (1.0 - cell.away),
            lasted_s,
            failed_requests: all_requests * (1.0 - cell.away),
            all_requests,
            driver: shift.or(driver),
            probability,
            course: cell.ring.iter().copied().collect(),
            known,
        });
    }

    fn shifts(&mut self, entries: &[LedgerEntry], snapshot: &Snapshot, now: Timestamp) {
        for entry in entries {
            match &entry.kind {
                EntryKind::ShiftBegan { cell, reason } => {
                    let said = snapshot.plan.explanations.iter();
                    let mut why =
                        said.filter(|e| e.cell == *cell && e.what == "shift-begins").map(|e| e.why.clone());
                    let prediction = snapshot.predictions.get(cell);
                    let index = self.trace.shifts.len();
                    let course = self.cells.get(cell).map(|c| c.ring.iter().copied().collect());
                    self.trace.shifts.push(ShiftTrace {
                        cell: cell.clone(),
                        reason: *reason,
                        began: now,
                        why: why.next_back().unwrap_or_default(),
                        driver: prediction.and_then(|p| p.drivers.first()).map(|d| d.metric.clone()),
                        probability: prediction.map(|p| p.probability.get()),
                        done: None,
                        over: None,
                        most_away: 0.0,
                        requests_away: 0.0,
                        verdict: None,
                        course: course.unwrap_or_default(),
                    });
                    self.open.insert(cell.clone(), index);
                    let until = Timestamp::from_unix_ms(u64::MAX);
                    self.following.push((cell.clone(), Following::Shift(index), until));
                }
                EntryKind::ShiftDone { cell, .. } => {
                    if let Some(shift) = self.open.get(cell).map(|i| &mut self.trace.shifts[*i]) {
                        shift.done = Some(now);
                    }
                }
                EntryKind::Judged { cell, verdict, .. } => {
                    if let Some(shift) = self.open.get(cell).map(|i| &mut self.trace.shifts[*i]) {
                        shift.verdict = Some(*verdict);
                    }
                }
                _ => {}
            }
        }
        let trace = &mut self.trace;
        self.open.retain(|cell, index| {
            let runs = snapshot.shifts.iter().any(|s| s.from == *cell);
            if !runs {
                trace.shifts[*index].over = Some(now);
            }
            runs
        });
    }

    fn cells(&mut self, snapshot: &Snapshot, weights: &ServiceWeights, state: &mut State<'_>) {
        let (now, tick_s) = (state.now, self.tick.as_secs_f64());
        let due = |p: &Prediction| race(p, &self.policy, &LeadTimeProfile::default(), false).is_due();
        let windows =
            if self.contender == Contender::Forefend { state.windows().to_vec() } else { Vec::new() };
        for (id, cell) in &mut self.cells {
            let share = weights.share(id);
            cell.away = if cell.home > 0.0 { (1.0 - share / cell.home).clamp(0.0, 1.0) } else { 0.0 };
            // Weights are whole basis points on two levels.
            let all = cell.home > 0.0 && share < 0.000_3_f64.min(cell.home * 0.01);
            cell.away_since = if all { cell.away_since.or(Some(now)) } else { None };
            let prediction = snapshot.predictions.get(id);
            let point = Point {
                at: now,
                probability: prediction.map_or(f32::NAN, |p| p.probability.get() as f32),
                away: cell.away as f32,
            };
            if cell.seen.is_multiple_of(self.stride) {
                cell.ring.push_back(point);
                if cell.ring.len() > POINTS {
                    cell.ring.pop_front();
                }
                follow(&mut self.following, &mut self.trace, id, point);
            }
            cell.seen += 1;
            let Some(prediction) = prediction else { continue };
            cell.predicted_at = Some(now);
            let driver = prediction.drivers.first().map(|d| d.metric.clone());
            cell.prediction = Some((prediction.probability.get(), driver));
            if self.known.iter().any(|i| i.cell == *id && i.began <= now && now < i.ended) {
                continue;
            }
            self.trace.exposure_s += tick_s;
            let Some(windows) = windows.iter().find(|w| w.cell == *id) else { continue };
            let risks = risks(prediction, due(prediction), windows);
            for ((alarms, risk), stood) in cell.alarms.iter_mut().zip(risks).zip(&mut self.trace.alarms) {
                alarms.note(id, now, risk, &self.policy, stood);
            }
            let every = (self.policy.horizon / LOOKS).max(self.tick);
            if cell.looked_at.is_none_or(|at| now.since(at) >= every) && self.trace.rows.len() < MOST_ROWS {
                cell.looked_at = Some(now);
                let ahead = now + self.policy.horizon;
                let fails = self.known.iter().any(|i| i.cell == *id && now < i.began && i.began <= ahead);
                // What comes after the recording's end is not known to be well.
                if fails || self.trace.until.get(id).is_some_and(|until| ahead <= *until) {
                    self.trace.rows.push((prediction.probability.get(), fails));
                }
            }
        }
        for index in self.open.values() {
            let shift = &mut self.trace.shifts[*index];
            let away = self.cells.get(&shift.cell).map_or(0.0, |c| c.away);
            let home = self.cells.get(&shift.cell).map_or(0.0, |c| c.home);
            shift.most_away = shift.most_away.max(away);
            shift.requests_away += away * home * state.requests_per_s() * tick_s;
        }
    }

    /// Counts what failures cost from now until the next tick.
    fn account(&mut self, now: Timestamp, requests_per_s: f64, weights: &ServiceWeights) {
        let next = now + self.tick;
        // An incident that begins before the next tick meets the weights of this one.
        let begun = self.trace.incidents.iter_mut().filter(|i| i.known.ended > now);
        for incident in begun {
            let Some(cell) = self.cells.get(&incident.known.cell).filter(|c| c.home > 0.0) else { continue };
            let seconds = incident.known.ended.min(next).since(now).as_secs_f64();
            let left = weights.share(&incident.known.cell);
            incident.lasted_s += seconds;
            incident.exposed_s += seconds * (left / cell.home).min(1.0);
            incident.failed_requests += seconds * requests_per_s * left;
            incident.all_requests += seconds * requests_per_s * cell.home;
        }
    }

    pub(crate) fn end(mut self) -> Trace {
        for (id, cell) in &mut self.cells {
            for (alarms, stood) in cell.alarms.iter_mut().zip(&mut self.trace.alarms) {
                alarms.end(id, stood);
            }
        }
        self.trace
    }
}

/// Gives a point to every course that is still followed.
fn follow(following: &mut Vec<(CellId, Following, Timestamp)>, trace: &mut Trace, id: &CellId, point: Point) {
    following.retain(|(cell, what, until)| {
        if cell != id {
            return true;
        }
        let (course, over) = match what {
            Following::Shift(i) => {
                let shift = &mut trace.shifts[*i];
                (&mut shift.course, shift.over.is_some())
            }
            Following::Incident(i) => (&mut trace.incidents[*i].course, false),
        };
        course.push(point);
        !over && point.at < *until && course.len() < MOST_POINTS
    });
}
