use std::collections::BTreeMap;

use forefend_domain::{CellId, MetricName, ServiceId, ShiftReason, Timestamp, Verdict};
use forefend_learn::evaluate::{Estimate, reliability::Bin};
use serde::{Deserialize, Serialize};

use super::Contender;

/// What a backtest found. Times are of the recording; intervals are 95% ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The layout of this value.
    pub version: u32,
    /// What was replayed.
    pub recorded: Recorded,
    /// With which policies.
    pub policies: Vec<PolicyLine>,
    /// What was assumed, in words.
    pub assumed: Vec<String>,
    /// What the invariants of the loop found wrong; must be empty.
    pub broken: Vec<String>,
    /// Forefend first, then what it is compared with.
    pub figures: Vec<Figures>,
    /// Incidents by kind, most frequent first.
    pub kinds: Vec<KindRow>,
    /// Recall against false alarms, threshold by threshold, of the triggers alone.
    pub operating: Vec<Operating>,
    /// Whether probabilities can be believed.
    pub reliability: Reliability,
    /// Every incident of a recorded cell, oldest first.
    pub incidents: Vec<IncidentReport>,
    /// Every shift of Forefend's, oldest first.
    pub shifts: Vec<ShiftReport>,
}

/// What was replayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// The first value.
    pub from: Timestamp,
    /// The last value.
    pub until: Timestamp,
    /// The distance between values, in seconds.
    pub step_s: f64,
    /// From one decision to the next, in seconds.
    pub tick_s: f64,
    /// How many.
    pub services: usize,
    /// How many.
    pub cells: usize,
    /// Series of one metric of one cell.
    pub series: usize,
    /// Cell-weeks in which something was foreseen and nothing was wrong: the time in which an alarm would have been false.
    pub cell_weeks: f64,
    /// Incidents of which nothing can be said, because their cell was not recorded when they began.
    pub unwatched_incidents: usize,
    /// Incidents whose end is not recorded and was assumed.
    pub assumed_ends: usize,
    /// Users' requests, as recorded or assumed.
    pub requests: f64,
}

/// The policy of some services.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyLine {
    /// The first service with it.
    pub service: ServiceId,
    /// How many more have the same.
    pub more: usize,
    /// In seconds.
    pub horizon_s: f64,
    /// The probability from which traffic moves.
    pub shift_at: f64,
    /// In so many ticks …
    pub hits: u32,
    /// … of so many.
    pub of_ticks: u32,
    /// What a shift takes until all traffic is away, in seconds, as the policy assumes before any was measured.
    pub lead_time_s: f64,
    /// Added to it, in seconds.
    pub margin_s: f64,
}

/// How one way of watching would have done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Who.
    pub contender: Contender,
    /// Incidents that could have been warned of.
    pub incidents: usize,
    /// Of those, with all traffic away before they began.
    pub in_time: usize,
    /// The share of those.
    pub recall: Option<Estimate>,
    /// Of the incidents, with a shift that began before them and was still on.
    pub warned: usize,
    /// The share of those.
    pub recall_any: Option<Estimate>,
    /// Shifts that began, for whatever reason.
    pub shifts: usize,
    /// Shifts on a prediction after which nothing happened.
    pub false_alarms: usize,
    /// Shifts on a prediction of which the recording does not tell what came.
    pub undecided: usize,
    /// False alarms per cell and week.
    pub false_per_cell_week: Option<Estimate>,
    /// Cell-minutes of failure that had traffic, weighted by the share of the cell's traffic that was there.
    pub failure_minutes: f64,
    /// Requests that came to a cell in an incident.
    pub failed_requests: f64,
    /// The share of all requests that false alarms sent elsewhere.
    pub moved_for_nothing: f64,
    /// Cell-hours of standbys that ran.
    pub standby_hours: f64,
    /// Cell-hours of standbys that were frozen.
    pub parked_hours: f64,
    /// Seconds from the moment all traffic was away to the incident, of those in time: 10th, 50th and 90th percentile.
    pub lead_s: Option<[f64; 3]>,
    /// Seconds from the beginning of the shift to the incident, of those warned of: 10th, 50th and 90th percentile.
    pub warning_s: Option<[f64; 3]>,
}

/// Incidents of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KindRow {
    /// In the words of those who wrote it down.
    pub kind: String,
    /// How many could have been warned of.
    pub incidents: usize,
    /// The share with all traffic away before.
    pub in_time: Option<Estimate>,
    /// The share with a shift that began before and was still on.
    pub warned: Option<Estimate>,
    /// Median of seconds from the beginning of the shift to the incident, of those warned of.
    pub warning_s: Option<f64>,
    /// Cell-minutes of failure with traffic, with Forefend.
    pub failure_minutes: f64,
    /// The same with the reactive floor alone.
    pub reactive_minutes: f64,
}

/// An operating curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operating {
    /// Whose.
    pub contender: Contender,
    /// By rising threshold.
    pub points: Vec<OperatingPoint>,
}

/// A threshold, and what it brings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperatingPoint {
    /// A probability; a share of the limit; minus the horizons left to the limit.
    pub threshold: f64,
    /// False alarms.
    pub false_alarms: usize,
    /// The same per cell and week.
    pub false_per_cell_week: Option<Estimate>,
    /// The share of incidents with an alarm before.
    pub recall_any: Option<Estimate>,
    /// The share of incidents with an alarm at least a shift's lead time before.
    pub recall_in_time: Option<Estimate>,
}

/// Whether probabilities can be believed, looked at eight times in a horizon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// How often was looked.
    pub looks: usize,
    /// In bins of equal numbers of looks. Their intervals take looks for independent, and are too narrow.
    pub bins: Vec<Bin>,
    /// The Brier score; 0 is best.
    pub brier: Option<f64>,
    /// Over the score of always telling the base rate; 1 is best, 0 as good as that.
    pub brier_skill: Option<f64>,
}

/// What came of a shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// All traffic was away before the incident.
    InTime,
    /// It began before the incident and was not done, or had gone home again.
    Late,
    /// It began in an incident, or in its wake.
    During,
    /// Nothing happened.
    FalseAlarm,
    /// The recording ends too early to know.
    Undecided,
    /// It was no prediction: the cell had failed.
    Reactive,
    /// It was no prediction: the cell was overloaded.
    Relief,
}

/// A shift of Forefend's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShiftReport {
    /// Whose traffic.
    pub cell: CellId,
    /// Of which service.
    pub service: ServiceId,
    /// Why it began, in a word.
    pub reason: ShiftReason,
    /// Why it began, as the ledger has it.
    pub why: String,
    /// When it began.
    pub began: Timestamp,
    /// When all traffic was away.
    pub done: Option<Timestamp>,
    /// When all of it was home again.
    pub over: Option<Timestamp>,
    /// The probability that began it.
    pub probability: Option<f64>,
    /// The metric that it rests on most.
    pub driver: Option<MetricName>,
    /// The largest share of the cell's traffic that was away.
    pub most_away: f64,
    /// What came of it.
    pub fate: Fate,
    /// The place of the incident that it was good for, in [`Report::incidents`].
    pub incident: Option<usize>,
    /// What the ledger says came of it: it knows less than hindsight.
    pub verdict: Option<Verdict>,
    /// Its course, where it was a false alarm.
    pub course: Option<Course>,
}

/// How well an incident was foreseen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Warning {
    /// All traffic was away before it began.
    InTime,
    /// Some was.
    Partly,
    /// A shift had begun, and nothing was away yet.
    TooLate,
    /// Nothing had begun.
    Missed,
    /// Nothing could be foreseen: the cell's telemetry was not recorded, or stale.
    NotWatched,
}

/// An incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncidentReport {
    /// Which cell failed.
    pub cell: CellId,
    /// Of which service.
    pub service: ServiceId,
    /// What sort of failure it was.
    pub kind: String,
    /// Incidents with one name share a cause.
    pub event: String,
    /// Since when it broke its objective.
    pub began: Timestamp,
    /// When it was well again.
    pub ended: Timestamp,
    /// Whether that is assumed.
    pub end_is_assumed: bool,
    /// How well it was foreseen.
    pub warning: Warning,
    /// Seconds from the beginning of the shift to the incident.
    pub warned_s: Option<f64>,
    /// Seconds from the moment all traffic was away to the incident.
    pub away_s: Option<f64>,
    /// The share of the cell's traffic that was away when it began.
    pub away: f64,
    /// The probability that was told last before.
    pub probability: Option<f64>,
    /// Cell-minutes of failure that had traffic, by who watched.
    pub failure_minutes: BTreeMap<Contender, f64>,
    /// What was seen and done around it.
    pub course: Option<Course>,
}

/// What was seen of a cell and done around an event. Times are seconds after it; before it they are negative.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// Time and probability of failure within the horizon; `None`: nothing was foreseen.
    pub probability: Vec<(f64, Option<f64>)>,
    /// Time and share of the cell's traffic that was away.
    pub away: Vec<(f64, f64)>,
    /// The metric that was looked at most.
    pub metric: Option<Followed>,
}

/// A metric's course.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Followed {
    /// Its name.
    pub name: MetricName,
    /// Its unit.
    pub unit: String,
    /// What it must not reach.
    pub limit: Option<f64>,
    /// Time and value.
    pub values: Vec<(f64, f64)>,
}
