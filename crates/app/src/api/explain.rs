//! The state of a cell in plain words: the same for the API, the dashboard and the terminal.

use std::{fmt::Write, time::Duration};

use forefend_control::{PreTestView, ShiftView, Snapshot};
use forefend_domain::{
    Basis, CellHealth, CellId, CellRole, CellView, Interval, LifeState, Mode, ObjectiveState, Outlook,
    Prediction, ServiceView, ShiftReason, Timestamp, Weight,
};

use super::view;

/// What is known, foreseen and done about a cell, in a few lines of plain text; `None` when there is no such cell.
#[must_use]
pub fn words(snapshot: &Snapshot, id: &CellId) -> Option<String> {
    let (service, cell) = view::find(snapshot, id)?;
    let place = &cell.cell;
    let mut text = format!(
        "{id} is a {} cell of {} in {}/{}, {}{}. {}\n",
        word(&place.role),
        place.service,
        place.region,
        place.zone,
        word(&cell.life),
        if cell.parked { ", parked" } else { "" },
        condition(snapshot.world.now, cell),
    );
    text.push_str(&foreseen(snapshot, service, cell));
    text.push('\n');
    if let Some(margin) = snapshot.plan.race_margin_s.get(id) {
        let _ = writeln!(text, "{}", race(*margin));
    }
    let weights = view::weights(snapshot, service, cell);
    let _ = writeln!(
        text,
        "Traffic of {}: home {}, configured {}, effective {}, observed {}.",
        place.service,
        basis_points(Some(weights.home_bp)),
        basis_points(weights.configured_bp),
        basis_points(weights.effective_bp),
        basis_points(weights.observed_bp),
    );
    for shift in view::shifts_of(snapshot, id) {
        let _ = writeln!(text, "{}", shift_words(snapshot.world.now, shift));
    }
    for test in view::pre_tests_of(snapshot, id) {
        let _ = writeln!(text, "{}", pre_test_words(snapshot.world.now, test));
    }
    for explanation in snapshot.plan.explanations.iter().filter(|e| e.cell == *id) {
        let _ = writeln!(text, "Decided now: {}.", explanation.why.trim_end_matches('.'));
    }
    let _ = write!(text, "Next: {}", next(snapshot, service, cell));
    Some(text)
}

/// The whole state in one sentence.
#[must_use]
pub fn headline(snapshot: &Snapshot) -> String {
    let cells = || snapshot.world.services.values().flat_map(|s| s.cells.values().map(move |c| (s, c)));
    let graded = |grade: &str| -> Vec<(&ServiceView, &CellView)> {
        cells().filter(|(s, c)| view::risk(s, c, snapshot.predictions.get(&c.cell.id)) == grade).collect()
    };
    let away = |id: &CellId| {
        let shift = snapshot.shifts.iter().find(|s| s.from == *id)?;
        (shift.moved > Weight::ZERO).then(|| format!("{} of its traffic is away", whole(shift.moved)))
    };
    let failed = graded("failed");
    if let [(_, cell), more @ ..] = failed.as_slice() {
        let id = &cell.cell.id;
        let away = away(id).map_or_else(String::new, |away| format!("; {away}"));
        return format!("{id} has failed{}{away}.", and_more(more.len()));
    }
    let mut danger = graded("danger");
    danger.sort_by(|(_, a), (_, b)| {
        let p = |c: &CellView| snapshot.predictions.get(&c.cell.id).map_or(0.0, |p| p.probability.get());
        p(b).total_cmp(&p(a))
    });
    if let [(_, cell), more @ ..] = danger.as_slice() {
        let id = &cell.cell.id;
        let when = snapshot.predictions.get(id).and_then(|p| p.time_to_failure.p50);
        let when = when.map_or_else(String::new, |t| format!(" in about {}", seconds(t)));
        let away = away(id).unwrap_or_else(|| "its traffic is still at home".into());
        let frozen = if snapshot.world.frozen { ", and everything is frozen" } else { "" };
        return format!("{id} is likely to fail{when}{}; {away}{frozen}.", and_more(more.len()));
    }
    if let [(service, cell), more @ ..] = graded("watch").as_slice() {
        let is_tried = snapshot.pre_tests.iter().any(|test| test.from == cell.cell.id);
        let then = match service.service.policy.mode {
            _ if snapshot.world.frozen => "everything is frozen",
            _ if is_tried => "its mirror is tried with a little of its traffic",
            Mode::Observe => "mode observe, so nothing is done",
            Mode::Approve | Mode::Auto => "a standby is made ready",
        };
        return format!("{} is being watched{}; {then}.", cell.cell.id, and_more(more.len()));
    }
    if let [shift, more @ ..] = snapshot.shifts.as_slice() {
        let (from, others) = (&shift.from, and_more(more.len()));
        return match (shift.outbound, shift.moved > Weight::ZERO) {
            (true, true) => format!("{} of the traffic of {from} is away{others}.", whole(shift.moved)),
            (true, false) if shift.bound_by == "approval" => {
                format!("A shift of {from} waits for approval{others}.")
            }
            (true, false) => format!("Traffic of {from} is about to move away{others}."),
            (false, _) => format!("Traffic of {from} is on its way home{others}."),
        };
    }
    match (cells().count(), graded("unknown").len()) {
        (0, _) => "No cells yet.".into(),
        (all, unknown) if unknown == all => "Nothing can be foreseen yet: no cell has a prediction.".into(),
        (all, 0) => format!("All {all} cells are well; nothing is foreseen."),
        (all, unknown) => {
            format!("{} cells are well; {unknown} can't be foreseen yet.", all - unknown)
        }
    }
}

/// What will happen to the cell's traffic next, or to the cell itself.
pub(super) fn next(snapshot: &Snapshot, service: &ServiceView, cell: &CellView) -> String {
    let id = &cell.cell.id;
    if let Some(shift) = snapshot.shifts.iter().find(|s| s.from == *id) {
        return next_of_shift(snapshot, shift);
    }
    if let Some(shift) = snapshot.shifts.iter().find(|s| s.to.contains(id)) {
        let verb = if shift.outbound { "takes over" } else { "gives back" };
        return format!("{verb} traffic of {}", shift.from);
    }
    let prediction = snapshot.predictions.get(id);
    let policy = &service.service.policy;
    let risk = view::risk(service, cell, prediction);
    if matches!(risk, "danger" | "watch") {
        if snapshot.world.frozen {
            return "frozen: nothing moves until an operator ends the freeze".into();
        }
        if policy.mode == Mode::Observe {
            return "mode observe: would shift, but only says so".into();
        }
        if view::approval_asked(snapshot, id) {
            return "waits for an operator's approval to shift".into();
        }
        return match snapshot.plan.race_margin_s.get(id) {
            Some(margin) if *margin > 0.0 => {
                format!("a shift begins in {} if the forecast holds", seconds_f(*margin))
            }
            Some(_) => "a shift begins as soon as a standby is ready".into(),
            None => "a standby is being made ready".into(),
        };
    }
    if let Some(test) = view::pre_tests_of(snapshot, id).next() {
        return if test.from == *id {
            format!("{} is tried with {} of its traffic", test.to, whole(test.share))
        } else {
            format!("is tried with a little traffic of {}", test.from)
        };
    }
    match (cell.life, cell.cell.role) {
        (LifeState::Planned | LifeState::Creating, _) => "starts, then warms up".into(),
        (LifeState::Warming, _) => "warms up, then stands by".into(),
        (LifeState::Draining, _) => "finishes what is in flight, then rests".into(),
        (LifeState::Failed, _) => "is made again if it is needed".into(),
        (LifeState::Retired, _) => "is gone".into(),
        (LifeState::Idle, _) if cell.parked => "stands by, frozen; thawed when needed".into(),
        (LifeState::Idle, _) => "stands by".into(),
        (LifeState::Canary | LifeState::Serving, CellRole::Synthetic) => "carries traffic".into(),
        (LifeState::Canary | LifeState::Serving, _) => "serves; nothing planned".into(),
    }
}

fn next_of_shift(snapshot: &Snapshot, shift: &ShiftView) -> String {
    let (moved, target) = (whole(shift.moved), whole(shift.target));
    if view::approval_asked(snapshot, &shift.from) {
        return "waits for an operator's approval to shift".into();
    }
    if !shift.outbound {
        return format!("traffic returns: {moved} still away");
    }
    if shift.moved < shift.target {
        return format!("moves on from {moved} to {target} away");
    }
    match shift.bound_by.as_str() {
        "none" | "" => format!("{moved} away; holds"),
        bound => format!("holds at {moved} away, bound by {bound}"),
    }
}

/// The cell's own condition: its objective, its reachability, its telemetry.
fn condition(now: Timestamp, cell: &CellView) -> String {
    let objective = match cell.objective {
        ObjectiveState::Unknown => "Too little was seen to judge its objective".into(),
        ObjectiveState::Met { since } => {
            format!("It has kept its objective for {}", seconds(now.since(since)))
        }
        ObjectiveState::Breaking { since } => {
            format!("It has been breaking its objective for {}", seconds(now.since(since)))
        }
        ObjectiveState::Failed { since } => {
            format!("It has failed: its objective has been broken for {}", seconds(now.since(since)))
        }
    };
    match cell.health {
        CellHealth::Up => format!("{objective}."),
        CellHealth::Down => format!("{objective}; the data plane's checks fail."),
        CellHealth::Unknown => format!("{objective}; the data plane does not check it."),
    }
}

fn foreseen(snapshot: &Snapshot, service: &ServiceView, cell: &CellView) -> String {
    let Some(prediction) = snapshot.predictions.get(&cell.cell.id) else {
        let stale_after = service.service.policy.stale_after;
        return match cell.telemetry_at {
            _ if cell.objective.is_failed() || cell.life == LifeState::Failed => {
                "Nothing is left to foresee: it has failed.".into()
            }
            _ if cell.parked => {
                "Nothing is foreseen: a parked cell does nothing that could be judged.".into()
            }
            Some(at) if snapshot.world.now.since(at) <= stale_after => {
                "Nothing is foreseen: it has not been seen for long enough.".into()
            }
            None => "Nothing is foreseen: no telemetry has ever arrived.".into(),
            Some(at) => format!(
                "Nothing is foreseen: telemetry last arrived {} ago.",
                seconds(snapshot.world.now.since(at))
            ),
        };
    };
    let trigger = &service.service.policy.trigger;
    let p = prediction.probability;
    let grade = if p >= trigger.shift_at {
        "It is likely to fail"
    } else if p >= trigger.prepare_at {
        "It may fail"
    } else {
        "No failure is foreseen"
    };
    let mut text = format!(
        "{grade}: P(fail within {}) = {}, health {:.0} of 100, {}. This rests on {}.",
        seconds(prediction.horizon),
        percent(p.get()),
        prediction.health.get(),
        when(prediction),
        basis(prediction),
    );
    for driver in &prediction.drivers {
        let _ = write!(text, "\n  {:>4} {}: {}", percent(driver.contribution), driver.metric, driver.detail);
    }
    for outlook in &prediction.outlooks {
        let _ = write!(text, "\n{}", outlook_words(outlook));
    }
    for anomaly in &prediction.anomalies {
        let _ = write!(text, "\n  unusual {}: {:+.1} times its usual spread", anomaly.metric, anomaly.z);
    }
    text
}

/// A limit that is days away.
fn outlook_words(outlook: &Outlook) -> String {
    format!(
        "Outlook: {} is at its limit of {} {}, by a forecast from {} of its past.",
        outlook.metric,
        forefend_predict::quantity(outlook.limit, &outlook.unit),
        crate::cli::reached(outlook),
        seconds(outlook.seen)
    )
}

fn when(prediction: &Prediction) -> String {
    let ttf = &prediction.time_to_failure;
    let q = |q: Option<Duration>| q.map_or_else(|| "beyond what can be foreseen".to_owned(), seconds);
    match (ttf.p10, ttf.p50) {
        (None, _) => "no time to failure within what can be foreseen".into(),
        (Some(p10), None) => format!("no sooner than {} (p10)", seconds(p10)),
        (Some(p10), Some(p50)) => {
            let interval = interval(prediction.interval);
            format!(
                "as likely before as after {} (p10 {}, p90 {}; {interval})",
                seconds(p50),
                seconds(p10),
                q(ttf.p90)
            )
        }
    }
}

/// How much the ends of an interval are worth.
fn interval(found: Interval) -> &'static str {
    match found {
        Interval::Plain => "not checked on failures",
        Interval::Calibrated => "eight in ten held-out failures lay between",
    }
}

fn basis(prediction: &Prediction) -> String {
    let basis = match prediction.basis {
        Basis::Prior => "the base rate only, too little was seen",
        Basis::FirstPassage => "a metric on its way to its limit",
        Basis::Calibrated => "a learned model, calibrated on held-out failures",
    };
    match prediction.anomaly {
        z if z >= 6.0 => format!("{basis}; it behaves unlike its past (anomaly {z:.1})"),
        _ => basis.into(),
    }
}

fn race(margin: f64) -> String {
    if margin > 0.0 {
        format!("Race: {} left until a shift must begin to be done in time.", seconds_f(margin))
    } else {
        format!(
            "Race: due; a shift begun now would end {} after the early estimate (p10).",
            seconds_f(-margin)
        )
    }
}

fn pre_test_words(now: Timestamp, test: &PreTestView) -> String {
    format!(
        "Pre-test: {} is tried with {} of {}'s home traffic (since {}); it answered {} requests, {} badly.",
        test.to,
        whole(test.share),
        test.from,
        seconds(now.since(test.since)),
        test.evidence.requests,
        test.evidence.bad,
    )
}

fn shift_words(now: Timestamp, shift: &ShiftView) -> String {
    let to: Vec<&str> = shift.to.iter().map(CellId::as_str).collect();
    let reason = match shift.reason {
        ShiftReason::Predicted => "a failure is foreseen",
        ShiftReason::Failed => "the cell has failed",
        ShiftReason::Relief => "the cell is overloaded",
        ShiftReason::Operator => "an operator asked",
        ShiftReason::Drill => "a drill asked",
    };
    let bound = match shift.bound_by.as_str() {
        "none" | "" => String::new(),
        bound => format!("; bound by {bound}"),
    };
    format!(
        "Shift: {} of {}'s home traffic is away{} ({reason}, since {}), {} wanted{bound}; the mirror answered {} \
         requests, {} badly.",
        whole(shift.moved),
        shift.from,
        if to.is_empty() { String::new() } else { format!(" at {}", to.join(", ")) },
        seconds(now.since(shift.since)),
        whole(shift.target),
        shift.evidence.requests,
        shift.evidence.bad,
    )
}

/// Whether the cell could take traffic, and what its passport says.
pub(super) fn readiness(now: Timestamp, service: &ServiceView, cell: &CellView) -> String {
    let can = if cell.life.can_take_traffic() { "can take traffic" } else { "can't take traffic" };
    let state = format!("{}, {can}", word(&cell.life));
    let Some(passport) = &cell.passport else { return state };
    let age = now.since(passport.warmed_at);
    let valid = age <= service.service.policy.standby.passport_valid_for && passport.current;
    format!(
        "{state}; passport {}: warmed {} ago, {} of {} requests answered well{}",
        if valid { "valid" } else { "not valid" },
        seconds(age),
        passport.warm_ok,
        passport.warm_requests,
        if passport.current { "" } else { ", made from an older blueprint" },
    )
}

/// What the cell can carry and carries.
pub(super) fn capacity(service: &ServiceView, cell: &CellView) -> String {
    let carries = cell.traffic.rate.map_or_else(
        || "what it carries is not measured".to_owned(),
        |rate| format!("carries {:.0}/s", rate.get()),
    );
    let headroom = service.service.policy.budgets.headroom;
    match cell.capacity {
        None => format!("not measured, so none is counted; {carries}"),
        Some(capacity) => format!(
            "{:.0}/s measured, {} of it kept as headroom; {carries}",
            capacity.get(),
            percent(headroom)
        ),
    }
}

/// The word that JSON has for a value, without the quotes.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

fn and_more(more: usize) -> String {
    if more == 0 { String::new() } else { format!(", and {more} more") }
}

/// A share as a percentage with as many digits as say something.
pub(super) fn percent(share: f64) -> String {
    let p = share * 100.0;
    match p {
        _ if p > 0.0 && p < 0.1 => "<0.1%".into(),
        _ if p > 99.9 && p < 100.0 => ">99.9%".into(),
        _ if p < 10.0 && p.fract() != 0.0 => format!("{p:.1}%"),
        _ => format!("{p:.0}%"),
    }
}

/// A weight as a percentage.
pub(super) fn whole(weight: Weight) -> String {
    percent(weight.share())
}

fn basis_points(bp: Option<u32>) -> String {
    bp.map_or_else(|| "unknown".into(), |bp| percent(f64::from(bp) / 10_000.0))
}

/// A time with a unit that suits it.
pub(super) fn seconds(time: Duration) -> String {
    seconds_f(time.as_secs_f64())
}

fn seconds_f(s: f64) -> String {
    match s {
        _ if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        _ if s < 10.0 => format!("{s:.1} s"),
        _ if s < 120.0 => format!("{s:.0} s"),
        _ if s < 7200.0 => format!("{:.0} min", s / 60.0),
        _ if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        _ => format!("{:.1} d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(percent(0.0), "0%");
        assert_eq!(percent(0.0004), "<0.1%");
        assert_eq!(percent(0.034), "3.4%");
        assert_eq!(percent(0.87), "87%");
        assert_eq!(percent(0.9999), ">99.9%");
        assert_eq!(percent(1.0), "100%");
        assert_eq!(seconds_f(0.25), "250 ms");
        assert_eq!(seconds_f(59.6), "60 s");
        assert_eq!(seconds_f(600.0), "10 min");
    }
}
