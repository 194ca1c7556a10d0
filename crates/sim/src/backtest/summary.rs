//! From traces to the report.

use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{CellId, MetricName, ServiceId, ShiftReason, Timestamp};
use forefend_learn::evaluate::{
    Estimate, events::WEEK_S, poisson, probability, quantile, reliability, wilson,
};
use forefend_telemetry::history::{History, RecordedSeries};

use super::{
    Contender, Options, Planned,
    alarms::{CURVES, Stood},
    judge::{Alarm, Came},
    report::{
        Course, Fate, Figures, Followed, IncidentReport, KindRow, Operating, OperatingPoint, PolicyLine,
        Recorded, Reliability, Report, ShiftReport, Warning,
    },
    trace::{IncidentTrace, Known, Point, ShiftTrace, Trace},
};

const CONFIDENCE: f64 = 0.95;
/// Traffic counts as away from this share on: what is less is rounding of weights.
const ALL: f64 = 0.999;
/// Points that a course is thinned to.
const POINTS: usize = 120;
/// Courses of false alarms that are told.
const MOST_FALSE: usize = 12;
const BINS: usize = 10;

type Traces = BTreeMap<(Contender, ServiceId), Trace>;

/// The traces of one contender, by service.
fn of(traces: &Traces, who: Contender) -> impl Iterator<Item = (&ServiceId, &Trace)> {
    traces.iter().filter(move |((c, _), _)| *c == who).map(|((_, service), trace)| (service, trace))
}

pub(crate) fn summarise(history: &History, planned: &Planned, traces: &Traces, options: &Options) -> Report {
    let judging = Judging { planned };
    let incidents = incidents(history, &judging, traces);
    let shifts = shifts(history, &judging, traces, &incidents);
    let all = || of(traces, Contender::Forefend).map(|(_, trace)| trace);
    let rows: Vec<(f64, bool)> = all().flat_map(|t| t.rows.iter().copied()).collect();
    let (from, until) = history.span().unwrap_or_default();
    let mut broken: Vec<String> = traces.values().flat_map(|t| t.broken.iter().cloned()).collect();
    broken.sort();
    broken.dedup();
    let mut figures: Vec<Figures> =
        Contender::REPLAYED.into_iter().map(|who| judging.figures(who, traces)).collect();
    figures.insert(2, nothing(&figures[0], traces));
    Report {
        version: 1,
        recorded: Recorded {
            from,
            until,
            step_s: history.step.as_secs_f64(),
            tick_s: options.tick.as_secs_f64(),
            services: planned.topology.services.len(),
            cells: history.cells.len(),
            series: history.cells.values().map(|cell| cell.series.len()).sum(),
            cell_weeks: all().map(|t| t.exposure_s).sum::<f64>() / WEEK_S,
            unwatched_incidents: planned.unwatched,
            assumed_ends: incidents.iter().filter(|i| i.end_is_assumed).count(),
            requests: all().map(|t| t.requests).sum(),
        },
        policies: policies(planned),
        assumed: assumed(planned, &incidents, options),
        broken,
        kinds: kinds(&incidents),
        operating: judging.operating(traces),
        reliability: calibration(&rows),
        figures,
        incidents,
        shifts,
    }
}

struct Judging<'a> {
    planned: &'a Planned,
}

impl Judging<'_> {
    fn grace_and_horizon(&self, service: &ServiceId) -> (Duration, Duration) {
        let policy = self.planned.topology.services.get(service).map(|s| &s.service.policy);
        policy.map_or((Duration::ZERO, Duration::ZERO), |p| (p.give_back.healthy_for, p.horizon))
    }

    fn came(
        &self,
        service: &ServiceId,
        trace: &Trace,
        cell: &CellId,
        stood: (Timestamp, Option<Timestamp>),
    ) -> (Came, Option<usize>) {
        let (grace, horizon) = self.grace_and_horizon(service);
        // Places among the incidents of the service, of those of this cell.
        let of_cell: Vec<usize> =
            (0..trace.incidents.len()).filter(|i| trace.incidents[*i].known.cell == *cell).collect();
        let known: Vec<Known> = of_cell.iter().map(|i| trace.incidents[*i].known.clone()).collect();
        let recorded_until = trace.until.get(cell).copied().unwrap_or_default();
        let (since, until) = stood;
        let came = Alarm { known: &known, since, until, recorded_until, horizon, grace }.came();
        let incident = if let Came::Incident(i) = came { of_cell.get(i).copied() } else { None };
        (came, incident)
    }

    /// The shift on a prediction that was on, or answered for, an incident; the first of them.
    fn warned_s(&self, service: &ServiceId, trace: &Trace, index: usize) -> Option<f64> {
        let incident = &trace.incidents[index].known;
        let good = trace.shifts.iter().filter(|s| s.reason == ShiftReason::Predicted).filter(|s| {
            s.cell == incident.cell && self.came(service, trace, &s.cell, (s.began, s.over)).1 == Some(index)
        });
        good.map(|s| seconds(s.began, incident.began)).reduce(f64::max)
    }

    fn figures(&self, who: Contender, traces: &Traces) -> Figures {
        let (mut incidents, mut in_time, mut undecided, mut false_alarms, mut shifts) = (0, 0, 0, 0, 0);
        let (mut leads, mut warnings) = (Vec::new(), Vec::new());
        let mut moved = 0.0;
        for (service, trace) in of(traces, who) {
            for (i, incident) in trace.incidents.iter().enumerate().filter(|(_, i)| i.watched) {
                incidents += 1;
                // What was away for other reasons, or after the last failure, is no foresight, but it is away.
                if incident.away >= ALL {
                    in_time += 1;
                    leads.extend(incident.away_since.map(|since| seconds(since, incident.known.began)));
                }
                warnings.extend(self.warned_s(service, trace, i));
            }
            for shift in &trace.shifts {
                shifts += 1;
                match self.fate(service, trace, shift).0 {
                    Fate::FalseAlarm => {
                        false_alarms += 1;
                        moved += shift.requests_away;
                    }
                    Fate::Undecided => undecided += 1,
                    _ => {}
                }
            }
        }
        let sum = |of_trace: fn(&Trace) -> f64| of(traces, who).map(|(_, t)| of_trace(t)).sum::<f64>();
        let every = |of_one: fn(&IncidentTrace) -> f64| {
            of(traces, who).flat_map(|(_, t)| &t.incidents).map(of_one).sum::<f64>()
        };
        let exposure = sum(|t| t.exposure_s) / WEEK_S;
        Figures {
            contender: who,
            incidents,
            in_time,
            recall: wilson(in_time, incidents, CONFIDENCE),
            warned: warnings.len(),
            recall_any: wilson(warnings.len(), incidents, CONFIDENCE),
            shifts,
            false_alarms,
            undecided,
            false_per_cell_week: poisson(false_alarms as u64, exposure, CONFIDENCE),
            failure_minutes: every(|i| i.exposed_s) / 60.0,
            failed_requests: every(|i| i.failed_requests),
            moved_for_nothing: moved / sum(|t| t.requests).max(1.0),
            standby_hours: sum(|t| t.live_s) / 3_600.0,
            parked_hours: sum(|t| t.parked_s) / 3_600.0,
            lead_s: three(leads),
            warning_s: three(warnings),
        }
    }

    fn fate(&self, service: &ServiceId, trace: &Trace, shift: &ShiftTrace) -> (Fate, Option<usize>) {
        match shift.reason {
            ShiftReason::Failed | ShiftReason::Operator | ShiftReason::Drill => (Fate::Reactive, None),
            ShiftReason::Relief => (Fate::Relief, None),
            ShiftReason::Predicted => match self.came(service, trace, &shift.cell, (shift.began, shift.over))
            {
                (Came::Incident(_), Some(i)) => {
                    let away = trace.incidents[i].away >= ALL;
                    (if away { Fate::InTime } else { Fate::Late }, Some(i))
                }
                (Came::Incident(_) | Came::During, _) => (Fate::During, None),
                (Came::Nothing, _) => (Fate::FalseAlarm, None),
                (Came::Unknown, _) => (Fate::Undecided, None),
            },
        }
    }

    fn operating(&self, traces: &Traces) -> Vec<Operating> {
        let curve = |(rule, (who, levels)): (usize, (Contender, &[f64]))| {
            let points = levels.iter().enumerate().map(|(level, at)| {
                let (mut false_alarms, mut any, mut in_time, mut incidents) = (0, 0, 0, 0);
                for (service, trace) in of(traces, Contender::Forefend) {
                    let mut warned: BTreeMap<usize, f64> = BTreeMap::new();
                    let stood = trace.alarms.get(rule).and_then(|levels| levels.get(level));
                    for Stood { cell, since, until } in stood.into_iter().flatten() {
                        match self.came(service, trace, cell, (*since, Some(*until))) {
                            (Came::Incident(_), Some(i)) => {
                                let lead = seconds(*since, trace.incidents[i].known.began);
                                let best = warned.entry(i).or_insert(lead);
                                *best = best.max(lead);
                            }
                            (Came::Nothing, _) => false_alarms += 1,
                            _ => {}
                        }
                    }
                    let watched = |i: &usize| trace.incidents[*i].watched;
                    incidents += trace.incidents.iter().filter(|i| i.watched).count();
                    any += warned.keys().filter(|i| watched(i)).count();
                    let enough = |(i, lead): &(&usize, &f64)| watched(i) && **lead >= trace.lead_time_s;
                    in_time += warned.iter().filter(enough).count();
                }
                let exposure: f64 =
                    of(traces, Contender::Forefend).map(|(_, t)| t.exposure_s).sum::<f64>() / WEEK_S;
                OperatingPoint {
                    threshold: *at,
                    false_alarms,
                    false_per_cell_week: poisson(false_alarms as u64, exposure, CONFIDENCE),
                    recall_any: wilson(any, incidents, CONFIDENCE),
                    recall_in_time: wilson(in_time, incidents, CONFIDENCE),
                }
            });
            Operating { contender: who, points: points.collect() }
        };
        CURVES.into_iter().enumerate().map(curve).collect()
    }
}

/// Nobody moves anything: known without a replay.
fn nothing(ours: &Figures, traces: &Traces) -> Figures {
    let every = |of_one: fn(&IncidentTrace) -> f64| {
        of(traces, Contender::Forefend).flat_map(|(_, t)| &t.incidents).map(of_one).sum::<f64>()
    };
    Figures {
        contender: Contender::Nothing,
        in_time: 0,
        recall: wilson(0, ours.incidents, CONFIDENCE),
        warned: 0,
        recall_any: wilson(0, ours.incidents, CONFIDENCE),
        shifts: 0,
        false_alarms: 0,
        undecided: 0,
        false_per_cell_week: None,
        failure_minutes: every(|i| i.lasted_s) / 60.0,
        failed_requests: every(|i| i.all_requests),
        moved_for_nothing: 0.0,
        standby_hours: 0.0,
        parked_hours: 0.0,
        lead_s: None,
        warning_s: None,
        ..ours.clone()
    }
}

fn incidents(history: &History, judging: &Judging<'_>, traces: &Traces) -> Vec<IncidentReport> {
    let mut all = Vec::new();
    for (service, trace) in of(traces, Contender::Forefend) {
        for (i, incident) in trace.incidents.iter().enumerate() {
            let known = &incident.known;
            let minutes = |who: Contender| {
                let other = traces.get(&(who, service.clone())).and_then(|t| t.incidents.get(i));
                other.map(|o| (who, o.exposed_s / 60.0))
            };
            let mut failure_minutes: BTreeMap<Contender, f64> =
                Contender::REPLAYED.into_iter().filter_map(minutes).collect();
            failure_minutes.insert(Contender::Nothing, incident.lasted_s / 60.0);
            let warned_s = judging.warned_s(service, trace, i);
            let warning = match (incident.watched, incident.away, warned_s) {
                (_, away, _) if away >= ALL => Warning::InTime,
                (false, ..) => Warning::NotWatched,
                (true, away, _) if away > 0.0 => Warning::Partly,
                (true, _, Some(_)) => Warning::TooLate,
                (true, _, None) => Warning::Missed,
            };
            all.push(IncidentReport {
                cell: known.cell.clone(),
                service: service.clone(),
                kind: known.kind.clone(),
                event: known.event.clone(),
                began: known.began,
                ended: known.ended,
                end_is_assumed: known.end_is_assumed,
                warning,
                warned_s,
                away_s: incident.away_since.map(|since| seconds(since, known.began)),
                away: incident.away,
                probability: incident.probability,
                failure_minutes,
                course: course(history, &known.cell, known.began, &incident.course, incident.driver.as_ref()),
            });
        }
    }
    all.sort_by(|a, b| (a.began, &a.cell).cmp(&(b.began, &b.cell)));
    all
}

fn shifts(
    history: &History,
    judging: &Judging<'_>,
    traces: &Traces,
    incidents: &[IncidentReport],
) -> Vec<ShiftReport> {
    let mut all = Vec::new();
    for (service, trace) in of(traces, Contender::Forefend) {
        for shift in &trace.shifts {
            let (fate, incident) = judging.fate(service, trace, shift);
            let incident = incident.map(|i| &trace.incidents[i].known);
            let place =
                |known: &Known| incidents.iter().position(|i| i.cell == known.cell && i.began == known.began);
            let is_false = fate == Fate::FalseAlarm;
            let course = || course(history, &shift.cell, shift.began, &shift.course, shift.driver.as_ref());
            all.push(ShiftReport {
                cell: shift.cell.clone(),
                service: service.clone(),
                reason: shift.reason,
                why: shift.why.clone(),
                began: shift.began,
                done: shift.done,
                over: shift.over,
                probability: shift.probability,
                driver: shift.driver.clone(),
                most_away: shift.most_away,
                fate,
                incident: incident.and_then(place),
                verdict: shift.verdict,
                course: if is_false { course() } else { None },
            });
        }
    }
    all.sort_by(|a, b| (a.began, &a.cell).cmp(&(b.began, &b.cell)));
    for (n, shift) in all.iter_mut().filter(|s| s.course.is_some()).enumerate() {
        if n >= MOST_FALSE {
            shift.course = None;
        }
    }
    all
}

/// Seconds from one instant to another; negative when it is the earlier one.
fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    if to >= from { to.since(from).as_secs_f64() } else { -from.since(to).as_secs_f64() }
}

fn thinned<T: Copy>(all: &[T]) -> impl Iterator<Item = T> + '_ {
    let every = all.len().div_ceil(POINTS).max(1);
    // The last one stays, whatever is left out.
    all.iter().enumerate().filter(move |(i, _)| (all.len() - 1 - i).is_multiple_of(every)).map(|(_, t)| *t)
}

fn course(
    history: &History,
    cell: &CellId,
    event: Timestamp,
    points: &[Point],
    driver: Option<&MetricName>,
) -> Option<Course> {
    let (first, last) = (points.first()?.at, points.last()?.at);
    let probability = thinned(points).map(|p| {
        let known = Some(f64::from(p.probability)).filter(|p| !p.is_nan());
        (seconds(event, p.at), known)
    });
    let series = &history.cells.get(cell)?.series;
    // Where nothing spoke for a failure, what was nearest to its limit is looked at.
    let driver = driver.or_else(|| fullest(series, event));
    let metric = driver.and_then(|name| Some((name, series.get(name)?))).map(|(name, series)| {
        let within: Vec<(Timestamp, f64)> = series
            .samples
            .iter()
            .filter(|(at, v)| first <= *at && *at <= last && v.is_finite())
            .copied()
            .collect();
        Followed {
            name: name.clone(),
            unit: series.unit.clone(),
            limit: series.limit_at(event),
            values: thinned(&within).map(|(at, v)| (seconds(event, at), v)).collect(),
        }
    });
    Some(Course {
        probability: probability.collect(),
        away: thinned(points).map(|p| (seconds(event, p.at), f64::from(p.away))).collect(),
        metric,
    })
}

/// The metric whose last value before an instant was the largest share of its limit.
fn fullest(series: &BTreeMap<MetricName, RecordedSeries>, at: Timestamp) -> Option<&MetricName> {
    let share = |of: &RecordedSeries| {
        let limit = of.limit_at(at).filter(|limit| *limit > 0.0)?;
        let known = of.samples.partition_point(|(when, _)| *when < at);
        let newest = of.samples[..known].iter().rev().find(|(_, v)| v.is_finite())?;
        Some(newest.1 / limit)
    };
    let filled = series.iter().filter_map(|(name, of)| Some((share(of)?, name)));
    filled.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

fn three(mut values: Vec<f64>) -> Option<[f64; 3]> {
    values.sort_by(f64::total_cmp);
    Some([quantile(&values, 0.1)?, quantile(&values, 0.5)?, quantile(&values, 0.9)?])
}

fn kinds(incidents: &[IncidentReport]) -> Vec<KindRow> {
    let mut by_kind: BTreeMap<&str, Vec<&IncidentReport>> = BTreeMap::new();
    for incident in incidents.iter().filter(|i| i.warning != Warning::NotWatched) {
        by_kind.entry(&incident.kind).or_default().push(incident);
    }
    let mut rows: Vec<KindRow> = by_kind
        .into_iter()
        .map(|(kind, of)| {
            let count = |which: &dyn Fn(&IncidentReport) -> bool| of.iter().filter(|i| which(i)).count();
            let share = |hits: usize| -> Option<Estimate> { wilson(hits, of.len(), CONFIDENCE) };
            let minutes = |who: Contender| of.iter().filter_map(|i| i.failure_minutes.get(&who)).sum::<f64>();
            KindRow {
                kind: kind.to_owned(),
                incidents: of.len(),
                in_time: share(count(&|i| i.warning == Warning::InTime)),
                warned: share(count(&|i| i.warned_s.is_some())),
                warning_s: three(of.iter().filter_map(|i| i.warned_s).collect()).map(|[_, median, _]| median),
                failure_minutes: minutes(Contender::Forefend),
                reactive_minutes: minutes(Contender::Reactive),
            }
        })
        .collect();
    rows.sort_by(|a, b| b.incidents.cmp(&a.incidents).then_with(|| a.kind.cmp(&b.kind)));
    rows
}

fn calibration(rows: &[(f64, bool)]) -> Reliability {
    let (risks, outcomes): (Vec<f64>, Vec<bool>) = rows.iter().copied().unzip();
    let base = outcomes.iter().filter(|failed| **failed).count() as f64 / outcomes.len().max(1) as f64;
    Reliability {
        looks: rows.len(),
        bins: reliability::curve(&risks, &outcomes, BINS, CONFIDENCE).unwrap_or_default(),
        brier: probability::brier(&risks, &outcomes, None),
        brier_skill: probability::brier_skill(&risks, &outcomes, None, base),
    }
}

fn policies(planned: &Planned) -> Vec<PolicyLine> {
    let mut lines: Vec<PolicyLine> = Vec::new();
    for (id, spec) in &planned.topology.services {
        let policy = planned.by_curve.get(id).unwrap_or(&spec.service.policy);
        let stages = forefend_domain::Stage::ALL;
        let line = PolicyLine {
            service: id.clone(),
            more: 0,
            horizon_s: policy.horizon.as_secs_f64(),
            shift_at: policy.trigger.shift_at.get(),
            hits: policy.trigger.hits,
            of_ticks: policy.trigger.of_ticks,
            lead_time_s: stages.iter().map(|s| policy.lead_time_prior(*s).as_secs_f64()).sum(),
            margin_s: policy.trigger.margin.as_secs_f64(),
        };
        let same = |known: &&mut PolicyLine| {
            PolicyLine { service: line.service.clone(), more: 0, ..(**known).clone() } == line
        };
        match lines.iter_mut().find(same) {
            Some(known) => known.more += 1,
            None => lines.push(line),
        }
    }
    lines
}

fn assumed(planned: &Planned, incidents: &[IncidentReport], options: &Options) -> Vec<String> {
    let mut words = vec![
        "Telemetry goes on as recorded after traffic was moved away, and incidents come as recorded: a shift that would have spared the cell is not counted as having done so.".to_owned(),
        "All requests to a cell in an incident fail; the data plane ejects nobody. With a file of incidents nothing finer is known.".to_owned(),
    ];
    words.extend(planned.assumed.iter().cloned());
    words.push(match options.standby_capacity_per_s {
        Some(rate) => format!("A standby carries {rate:.0} requests a second."),
        None => "A standby can carry all of its service.".to_owned(),
    });
    words.push(format!(
        "Requests are counted by `{}`; a cell that has no such metric gets {:.0} a second.",
        options.traffic, options.requests_per_s
    ));
    let without_end = incidents.iter().filter(|i| i.end_is_assumed).count();
    if without_end > 0 {
        words.push(format!(
            "{without_end} of {} incidents have no recorded end; they are taken to have lasted {:.0} s.",
            incidents.len(),
            options.unended.as_secs_f64()
        ));
    }
    words
}
