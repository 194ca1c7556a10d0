//! Trying a mirror with a little real traffic while risk rises and is not yet acted on.
//!
//! A pre-test is no shift: it needs no trigger, may rest on a prior, and is not judged. It moves at most the policy's cap, and no more
//! than a shift's canary would get on the same evidence. When the shift begins, its weight stays and what it has earned
//! is the shift's.

use std::collections::BTreeSet;

use forefend_domain::{
    CellId, CellView, EntryKind, Evidence, Mode, Policy, ServiceId, ShiftReason, Timestamp, Weight,
};

use crate::{
    Memory, PreTestMemory, ShiftMemory, bad_share_lower_bound,
    decide::{Decision, Scene, why},
    earned_share,
    memory::ROUNDING,
    mirrors, shift,
};

/// It grows by this part of its cap, so that a risk that creeps up is not a new routing in every tick.
const PARTS: u32 = 10;

/// Good answers that earn a full weight are 3 / tolerated harm (the rule of three). This many times as many are remembered: then the
/// older half fades, a full weight stays earned, and a mirror that turns bad is found out within one such span.
const SPANS_REMEMBERED: f64 = 4.0;

/// What a mirror shall carry to be tried.
pub(crate) struct Tried {
    pub(crate) from: CellId,
    pub(crate) mirror: CellId,
    /// Share of the service.
    pub(crate) share: f64,
}

/// Why a pre-test ends.
enum End {
    /// The risk has passed: nothing speaks against the next one.
    Calm(String),
    /// It can't go on, and is not tried again at once, so that nothing flaps.
    BrokenOff(String),
    /// The mirror answered badly.
    Failed(String),
}

/// Goes on with the pre-tests that run, ends those whose time is over and begins new ones. `taken` are the mirrors of the shifts,
/// which come first: a pre-test in their way yields.
pub(crate) fn advance(scene: &Scene<'_>, taken: &BTreeSet<CellId>, decision: &mut Decision) -> Vec<Tried> {
    let service = &scene.service.service.id;
    let mut busy: BTreeSet<CellId> = shift::engaged(&decision.memory).chain(taken.iter()).cloned().collect();
    let mut room = room(scene, service, &decision.memory);
    let mut tried = Vec::new();
    let mut give = |from: &CellId, test: &PreTestMemory, busy: &mut BTreeSet<CellId>, room: &mut f64| {
        let share = test.share.share() * scene.home_share(from);
        *room -= share;
        busy.extend([from.clone(), test.mirror.clone()]);
        tried.push(Tried { from: from.clone(), mirror: test.mirror.clone(), share });
    };
    let running: Vec<CellId> = decision
        .memory
        .pre_tests
        .iter()
        .filter(|(_, test)| test.service == *service)
        .map(|(from, _)| from.clone())
        .collect();
    for from in running {
        let Some(mut test) = decision.memory.pre_tests.remove(&from) else { continue };
        observe(scene, &mut test);
        if scene.world.frozen && scene.guards.freeze {
            // What has moved stays, whatever is seen of it.
            give(&from, &test, &mut busy, &mut room);
            decision.memory.pre_tests.insert(from, test);
            continue;
        }
        match go_on(scene, &from, &mut test, &busy, room, &decision.memory) {
            Ok(share) => {
                if share > test.share {
                    decision.explain(&from, "pre-test-grows", carries(&test.mirror, share, test.evidence));
                }
                test.share = share;
                give(&from, &test, &mut busy, &mut room);
                decision.memory.pre_tests.insert(from, test);
            }
            Err(end) => finish(scene, &from, &test, end, decision),
        }
    }
    if scene.world.frozen && scene.guards.freeze {
        return tried;
    }
    for cell in scene.home_cells() {
        let from = &cell.cell.id;
        let moves = decision.memory.shifts.contains_key(from) || decision.memory.pre_tests.contains_key(from);
        if moves || busy.contains(from) {
            continue;
        }
        if let Some(test) = begin(scene, cell, &decision.memory, &busy, room) {
            let carries = carries(&test.mirror, test.share, test.evidence);
            let because = why(scene, cell, ShiftReason::Predicted);
            decision.explain(from, "pre-test-begins", format!("{because}: {carries}"));
            give(from, &test, &mut busy, &mut room);
            decision.memory.pre_tests.insert(from.clone(), test);
        }
    }
    tried
}

/// Gives a shift that begins what the pre-test of the same cell has earned, and ends the pre-test.
pub(crate) fn hand_over(from: &CellId, begun: &mut ShiftMemory, decision: &mut Decision) {
    let Some(test) = decision.memory.pre_tests.remove(from) else { return };
    decision.explain(
        from,
        "pre-test-ends",
        format!("its shift begins with what {} has shown: {}", test.mirror, shown(test.evidence)),
    );
    begun.head_start = test.share;
    // It is away already, or on its way, and so counts with what others of this tick may move.
    begun.target = test.share;
    begun.mirrors.insert(test.mirror.clone(), test.evidence);
    begun.carriers.insert(test.mirror);
}

/// Mirrors that answered a pre-test badly a short while ago: nobody's traffic goes there on a prediction. For a cell that has
/// failed a bad mirror may still be better than none.
pub(crate) fn distrusted<'m>(
    scene: &Scene<'_>,
    memory: &'m Memory,
    from: &CellView,
) -> impl Iterator<Item = &'m CellId> + use<'m> {
    let (now, failed) = (scene.world.now, scene.has_failed(from));
    let is_distrusted = move |until: Option<Timestamp>| !failed && until.is_some_and(|until| now < until);
    memory.cells.iter().filter(move |(_, mem)| is_distrusted(mem.distrusted_until)).map(|(id, _)| id)
}

/// Takes note of what the mirror has shown since the last tick.
fn observe(scene: &Scene<'_>, test: &mut PreTestMemory) {
    if let Some(seen) = scene.service.cells.get(&test.mirror).and_then(|m| m.traffic.since_last) {
        test.evidence = test.evidence.plus(seen);
    }
    let remembered = SPANS_REMEMBERED * 3.0 / scene.policy().canary.tolerated_harm;
    while test.evidence.requests as f64 > remembered {
        let Evidence { requests, bad } = test.evidence;
        test.evidence = Evidence { requests: requests / 2, bad: bad.div_ceil(2) };
    }
}

/// The share that a pre-test goes on with.
fn go_on(
    scene: &Scene<'_>,
    from: &CellId,
    test: &mut PreTestMemory,
    busy: &BTreeSet<CellId>,
    room: f64,
    memory: &Memory,
) -> Result<Weight, End> {
    let policy = scene.policy();
    let broken_off = |why: &str| End::BrokenOff(why.to_owned());
    let Some(cell) = scene.service.cells.get(from).filter(|_| scene.home_share(from) > 0.0) else {
        return Err(broken_off("the cell has no traffic of its own any more"));
    };
    if !is_wanted(policy) {
        return Err(broken_off("the policy allows none any more"));
    }
    if scene.has_failed(cell) || busy.contains(from) {
        return Err(broken_off("the cell has failed, or its capacity is needed for others"));
    }
    let tolerable = shift::tolerable_bad_share(scene);
    if bad_share_lower_bound(test.evidence) > tolerable {
        return Err(End::Failed(format!(
            "{} answered {} of {} requests badly: surely above {:.1}%",
            test.mirror,
            test.evidence.bad,
            test.evidence.requests,
            tolerable * 100.0
        )));
    }
    if let Some(prediction) = scene.predictions.get(from) {
        test.wanted = test.wanted.max(called_for(scene, prediction.probability.get()));
        test.below_since = (prediction.probability < policy.pre_test.from)
            .then(|| test.below_since.unwrap_or(scene.world.now));
    } else {
        // Nothing seen is no good news: the time in which the risk was low begins anew.
        test.below_since = None;
    }
    if test.below_since.is_some_and(|since| scene.world.now.since(since) >= policy.give_back.healthy_for) {
        return Err(End::Calm(format!(
            "the probability of failure has been below {:.2} for {:.0} s; {}",
            policy.pre_test.from.get(),
            policy.give_back.healthy_for.as_secs_f64(),
            shown(test.evidence)
        )));
    }
    let fit = fit(scene, cell, busy);
    // Tried shall be who would take the shift: a cell that only stands by, once there is one, not one busy with its own.
    let stands_by = |mirror: &CellId| scene.home_share(mirror) == 0.0;
    if let Some(best) = fit.first().map(|m| &m.cell.id)
        && stands_by(best)
        && !stands_by(&test.mirror)
        && may_be_tried(memory, best, scene.world.now)
    {
        return Err(End::Calm(format!(
            "{best} stands by now and is tried instead; {}",
            shown(test.evidence)
        )));
    }
    let Some(mirror) = fit.into_iter().find(|m| m.cell.id == test.mirror) else {
        return Err(End::BrokenOff(format!("{} is not fit to take traffic any more", test.mirror)));
    };
    match granted(scene, cell, mirror, test, room) {
        Weight::ZERO => Err(broken_off("capacity, evidence or budget leave no room for it")),
        share => Ok(share),
    }
}

/// A pre-test of the cell, if it is time for one and a mirror is fit: the one that a shift would choose.
fn begin(
    scene: &Scene<'_>,
    cell: &CellView,
    memory: &Memory,
    busy: &BTreeSet<CellId>,
    room: f64,
) -> Option<PreTestMemory> {
    let (now, id) = (scene.world.now, &cell.cell.id);
    let risk = scene.predictions.get(id)?.probability;
    let resting = memory.cells.get(id).and_then(|m| m.refractory_until).is_some_and(|until| now < until);
    if !is_wanted(scene.policy()) || risk < scene.policy().pre_test.from || resting || scene.has_failed(cell)
    {
        return None;
    }
    let avoided = busy.iter().chain(distrusted(scene, memory, cell)).cloned().collect();
    fit(scene, cell, &avoided)
        .into_iter()
        .find_map(|mirror| {
            let mut test = PreTestMemory {
                service: scene.service.service.id.clone(),
                mirror: mirror.cell.id.clone(),
                began: now,
                evidence: Evidence::default(),
                wanted: called_for(scene, risk.get()),
                share: Weight::ZERO,
                below_since: None,
            };
            test.share = granted(scene, cell, mirror, &test, room);
            (test.share > Weight::ZERO).then_some(test)
        })
        .filter(|test| may_be_tried(memory, &test.mirror, now))
}

/// Whether nothing went wrong with a test of this mirror a short while ago.
fn may_be_tried(memory: &Memory, mirror: &CellId, now: Timestamp) -> bool {
    let mem = memory.cells.get(mirror);
    let until = mem.and_then(|m| m.untested_until).max(mem.and_then(|m| m.distrusted_until));
    until.is_none_or(|until| now >= until)
}

/// Whether the policy lets anything be tried at all: nothing moves by itself in modes observe and approve, nor where no shift might.
fn is_wanted(policy: &Policy) -> bool {
    policy.mode == Mode::Auto && policy.pre_test.cap > Weight::ZERO && policy.budgets.max_cells_in_motion > 0
}

/// Cells fit to be tried, best first. Judged as newcomers are even while they carry: a test is no rescue, and any doubt ends it.
fn fit<'w>(scene: &Scene<'w>, from: &CellView, avoided: &BTreeSet<CellId>) -> Vec<&'w CellView> {
    let none = BTreeSet::new();
    let (fit, _) = mirrors::candidates(
        scene.world,
        scene.service,
        from,
        scene.predictions,
        avoided,
        &none,
        scene.guards,
    );
    fit
}

/// The share of the cell's home traffic that a probability calls for: from next to nothing at `pre_test.from` to the cap at
/// `trigger.shift_at`.
fn called_for(scene: &Scene<'_>, probability: f64) -> Weight {
    let policy = scene.policy();
    let cap = cap(scene);
    let (from, full) = (policy.pre_test.from.get(), policy.trigger.shift_at.get());
    let way = if full > from { (probability - from) / (full - from) } else { 1.0 };
    in_parts(Weight::from_share(cap.share() * way.clamp(0.0, 1.0)).max(Weight::ONE_BP), cap)
}

fn cap(scene: &Scene<'_>) -> Weight {
    if scene.guards.pre_test_cap { scene.policy().pre_test.cap } else { Weight::FULL }
}

/// Rounded down to parts of the cap, but not to nothing.
fn in_parts(share: Weight, cap: Weight) -> Weight {
    let part = (cap.bp() / PARTS).max(1);
    let whole = Weight::from_bp(share.bp() / part * part).unwrap_or(share);
    whole.max(share.min(Weight::ONE_BP))
}

/// What of it the mirror may have: what its spare capacity, the evidence and the budget allow.
fn granted(scene: &Scene<'_>, cell: &CellView, mirror: &CellView, test: &PreTestMemory, room: f64) -> Weight {
    let canary = &scene.policy().canary;
    let home = scene.home_share(&cell.cell.id);
    let first = canary.first.share() * home;
    let capacity = mirrors::spare_share(scene.service, mirror, scene.home_share(&mirror.cell.id))
        // Unmeasured is unknown, not infinite; nor is it a reason to take back what is there.
        .unwrap_or(first.max(test.share.share() * home));
    let earned = earned_share(test.evidence, canary.tolerated_harm).max(first);
    let most = capacity.min(earned).min(room).max(0.0) / home;
    in_parts(test.wanted.min(cap(scene)).min(Weight::from_share_floor(most)), cap(scene))
}

/// The share of the service that the blast radius leaves for pre-tests: shifts do not wait for them.
fn room(scene: &Scene<'_>, service: &ServiceId, memory: &Memory) -> f64 {
    let away: f64 = memory
        .shifts
        .iter()
        .filter(|(_, s)| s.service == *service && s.reason != ShiftReason::Failed)
        .map(|(from, s)| s.moved.max(s.target).share() * scene.home_share(from))
        .sum();
    scene.policy().budgets.max_weight_in_motion.share() - away - ROUNDING
}

fn finish(scene: &Scene<'_>, from: &CellId, test: &PreTestMemory, end: End, decision: &mut Decision) {
    let until = Some(scene.world.now + scene.policy().budgets.refractory);
    let mirror = decision.memory.cells.entry(test.mirror.clone()).or_default();
    let (what, why) = match end {
        End::Calm(why) => ("pre-test-ends", why),
        End::BrokenOff(why) => {
            mirror.untested_until = until;
            ("pre-test-ends", why)
        }
        End::Failed(why) => {
            (mirror.untested_until, mirror.distrusted_until) = (until, until);
            let (cell, evidence) = (test.mirror.clone(), test.evidence);
            let rejected = EntryKind::Rejected { cell, from: from.clone(), evidence };
            decision.events.push((test.service.clone(), rejected));
            ("pre-test-failed", why)
        }
    };
    decision.explain(from, what, why);
}

fn carries(mirror: &CellId, share: Weight, evidence: Evidence) -> String {
    format!("{mirror} is tried with {share} of its traffic; {}", shown(evidence))
}

fn shown(evidence: Evidence) -> String {
    format!("{} requests answered, {} of them badly", evidence.requests, evidence.bad)
}
