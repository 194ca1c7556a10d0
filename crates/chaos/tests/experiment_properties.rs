//! What holds for every run, whatever is seen on the way.

#![expect(clippy::unwrap_used, reason = "a test stops where its set-up is wrong")]

#[expect(dead_code, reason = "each test binary uses a part of it")]
mod experiment_support;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use experiment_support::{Machine, NOON, Scene, Story, experiment, id};
use forefend_chaos::{
    experiment::{BlockWindow, Due, Experiment, Schedule, parse},
    run::{Action, InjectionId, Planned, Targets, choose, dry_run},
};
use forefend_domain::{ObjectiveState, Timestamp};
use proptest::prelude::*;

/// Something that may happen in a second.
#[derive(Debug, Clone, Copy)]
enum Event {
    Nothing,
    Errors(f64),
    Silence,
    Sight,
    Frozen,
    Alarm,
    Failure,
    Asked,
    Approved,
    /// The injector forgets or keeps what it should not.
    Residue,
    /// Traffic does not obey, or obeys again.
    Stubborn(bool),
    /// Nothing is looked at for a while.
    Pause(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => Just(Event::Nothing),
        2 => (0.0f64..0.1).prop_map(Event::Errors),
        1 => Just(Event::Silence),
        1 => Just(Event::Sight),
        1 => Just(Event::Frozen),
        1 => Just(Event::Alarm),
        1 => Just(Event::Failure),
        1 => Just(Event::Asked),
        1 => Just(Event::Approved),
        1 => Just(Event::Residue),
        1 => any::<bool>().prop_map(Event::Stubborn),
        1 => (1u64..40).prop_map(Event::Pause),
    ]
}

fn happen(scene: &mut Scene, event: Event) {
    match event {
        Event::Nothing => {}
        Event::Errors(share) => scene.users(share, 50),
        Event::Silence => scene.sighted = false,
        Event::Sight => scene.sighted = true,
        Event::Frozen => scene.world.frozen = true,
        Event::Alarm => scene.foresee("n2", 0.9),
        Event::Failure => scene.cell("n2").objective = ObjectiveState::Failed { since: NOON },
        Event::Asked => scene.end_asked_by = Some("ana".into()),
        Event::Approved => {
            scene.approvals.insert("ana".into());
        }
        Event::Residue => {
            let left = InjectionId { fault: 0, cell: id("n1") };
            scene.injections.insert(left, forefend_chaos::run::InjectionState::Active);
        }
        Event::Stubborn(stubborn) => scene.obedient = !stubborn,
        Event::Pause(seconds) => scene.pass(Duration::from_secs(seconds)),
    }
}

fn faults() -> impl Strategy<Value = String> {
    let ramp = prop_oneof![
        Just("step".to_owned()),
        (1u32..20).prop_map(|s| format!("{{ linear: {s}s }}")),
        (1u32..20).prop_map(|s| format!("{{ exponential: {s}s }}")),
        (1u32..20).prop_map(|s| format!("{{ sawtooth: {s}s }}")),
        (1u32..9, 1u32..9).prop_map(|(on, off)| format!("{{ intermittent: {{ on: {on}s, off: {off}s }} }}")),
    ];
    let one = (ramp, 1u32..=100, 0u32..10, 1u32..20).prop_map(|(ramp, intensity, after, lasts)| {
        format!("{{ fault: {{ memory-leak: {{ bytes: 1MiB }} }}, ramp: {ramp}, intensity: {intensity}%, after: {after}s, lasts: {lasts}s }}")
    });
    prop::collection::vec(one, 1..4).prop_map(|all| format!("[{}]", all.join(", ")))
}

fn a_run() -> impl Strategy<Value = Experiment> {
    (faults(), 0u32..2).prop_map(|(faults, required)| {
        experiment(&format!(
            "target: {{ service: shop, count: 2, regions: [north], blast_radius: {{ max_cells: 2 }} }}\nfaults: {faults}\napprovals: {{ required: {required} }}"
        ))
    })
}

fn a_drill() -> impl Strategy<Value = Experiment> {
    (1u32..=100, 1u32..6, 1u32..20, any::<bool>()).prop_map(|(step, every, hold, broken)| {
        let fault = if broken { ", fault: { fault: partition, ramp: { linear: 5s } }" } else { "" };
        experiment(&format!(
            "outage: {{ service: shop, region: south, step: {step}%, step_every: {every}s, hold: {hold}s{fault} }}"
        ))
    })
}

/// What must hold of all that was asked for: levels are shares, each injection begins once, is changed only while it is in
/// effect, and is undone.
fn every_apply_is_undone(actions: &[(Timestamp, Action)]) -> Result<(), TestCaseError> {
    let mut begun = BTreeSet::new();
    let mut active = BTreeSet::new();
    let mut told_to_end = true;
    for (_, action) in actions {
        match action {
            Action::Apply { injection, level, at_most, .. } => {
                prop_assert!((0.0..=1.0).contains(level), "{level}");
                prop_assert!(!at_most.is_zero());
                prop_assert!(begun.insert(injection.clone()), "{injection:?} began twice");
                active.insert(injection.clone());
                told_to_end = false;
            }
            Action::SetLevel { injection, level } => {
                prop_assert!((0.0..=1.0).contains(level), "{level}");
                prop_assert!(active.contains(injection), "{injection:?} is not in effect");
            }
            Action::Undo { injection } => {
                active.remove(injection);
            }
            Action::EndAll { .. } => told_to_end = true,
            Action::MoveAway { weight, lease, .. } => {
                prop_assert!(weight.bp() > 0 && !lease.is_zero());
            }
            Action::GiveBack { .. } => {}
        }
    }
    prop_assert!(active.is_empty(), "never undone: {active:?}");
    prop_assert!(told_to_end, "the injector was not told to end all");
    Ok(())
}

fn is_over(story: &Story) -> bool {
    match &story.machine {
        Machine::Run(run) => run.ended().is_some(),
        Machine::Drill(drill) => drill.ended().is_some(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happens_each_fault_is_undone_and_the_run_ends(
        experiment in prop_oneof![a_run(), a_drill()],
        events in prop::collection::vec(event(), 0..80),
        asked in 0u64..60,
    ) {
        let mut story = Story::of(experiment);
        for event in events {
            happen(&mut story.scene, event);
            story.step();
        }
        // Somebody ends it, at whichever step; what can be seen can be seen again and obeys.
        story.goes_on(asked);
        story.scene.end_asked_by = Some("ana".into());
        story.scene.sighted = true;
        story.scene.obedient = true;
        story.goes_on(5);
        story.scene.users(0.0, 50);
        story.goes_on(60);
        prop_assert!(is_over(&story), "{}", story.says());
        every_apply_is_undone(&story.actions)?;
        prop_assert!(story.scene.injections.is_empty());
        let view = story.scene.world.services.values().next().unwrap();
        for (key, share) in view.home.shares() {
            prop_assert!((view.effective.as_ref().unwrap().shares()[&key] - share).abs() < 0.001, "{key:?} is not home");
        }
        // Over is over.
        prop_assert!(story.step().is_empty());
    }

    #[test]
    fn a_drill_that_is_stopped_asks_for_nothing_more_to_be_moved(
        experiment in a_drill(), when in 0u64..40, events in prop::collection::vec(event(), 0..30),
    ) {
        let mut story = Story::of(experiment);
        story.goes_on(when);
        story.scene.end_asked_by = Some("ana".into());
        let told = story.actions.len();
        for event in events {
            happen(&mut story.scene, event);
            story.step();
        }
        for (_, action) in &story.actions[told..] {
            let more = matches!(action, Action::MoveAway { .. } | Action::Apply { .. } | Action::SetLevel { .. });
            prop_assert!(!more, "{action:?}");
        }
    }

    #[test]
    fn the_fault_of_a_drill_only_ever_meets_empty_cells(
        experiment in a_drill(), events in prop::collection::vec(event(), 0..60),
    ) {
        let mut story = Story::of(experiment);
        for event in events {
            happen(&mut story.scene, event);
            let seen = story.scene.world.services.values().next().unwrap().effective.clone();
            let begins = story.step().iter().any(|action| matches!(action, Action::Apply { .. }));
            if begins {
                prop_assert_eq!(seen.unwrap().share(&id("s1")), 0.0);
            }
        }
    }

    #[test]
    fn a_dry_run_is_what_the_run_then_does(experiment in prop_oneof![a_run(), a_drill()], seed: u64) {
        let mut scene = Scene::calm();
        scene.approvals.insert("ana".into());
        let dry = dry_run(&experiment, &scene.seen(), seed, scene.now());
        prop_assert!(dry.refusals.is_empty(), "{}", dry.text);
        prop_assert_eq!(dry.approvals_missing, 0);
        let targets = choose(&experiment, &scene.world, seed).unwrap();
        prop_assert_eq!(&dry.cells, &targets.cells);
        let cells = targets.cells.len();
        let drill = experiment.is_drill();
        let mut story = Story::at(scene, experiment, targets);
        story.goes_on(900);
        let (first, _) = story.actions[0];
        let mut done: Vec<(u64, String)> = Vec::new();
        let mut weights = BTreeMap::new();
        for (at, action) in &story.actions {
            let what = match action {
                Action::Apply { injection, .. } => format!("apply {} {}", injection.fault, injection.cell),
                Action::Undo { injection } => format!("undo {} {}", injection.fault, injection.cell),
                Action::MoveAway { cell, weight, .. } if weights.insert(cell.clone(), *weight) != Some(*weight) => {
                    format!("move {cell} {}", weight.bp())
                }
                Action::GiveBack { cell } => format!("give {cell}"),
                Action::SetLevel { .. } | Action::EndAll { .. } | Action::MoveAway { .. } => continue,
            };
            done.push((at.since(first).as_secs(), what));
        }
        let mut planned: Vec<(u64, String)> = dry.planned.iter().map(|p| {
            let what = match p {
                Planned::Apply { fault, cell, .. } => format!("apply {fault} {cell}"),
                Planned::Undo { fault, cell, .. } => format!("undo {fault} {cell}"),
                Planned::MoveAway { cell, bp, .. } => format!("move {cell} {bp}"),
                Planned::GiveBack { cell, .. } => format!("give {cell}"),
            };
            (p.after().as_secs(), what)
        }).collect();
        if drill {
            // Reading back takes a step of the story; what is planned is the earliest, and the order is the same.
            let order = |all: &[(u64, String)]| all.iter().map(|(_, what)| what.clone()).collect::<Vec<_>>();
            prop_assert_eq!(order(&done), order(&planned));
            prop_assert!(done.iter().zip(&planned).all(|(d, p)| d.0 >= p.0 && d.0 <= p.0 + 8));
        } else {
            prop_assert!(cells == 2 && dry.begins == first - Duration::from_secs(first_after(&dry.planned)));
            let offset = first_after(&dry.planned);
            done.iter_mut().for_each(|(at, _)| *at += offset);
            done.sort();
            planned.sort();
            prop_assert_eq!(done, planned);
        }
    }

    #[test]
    fn no_choice_exceeds_the_blast_radius_and_the_same_seed_chooses_the_same(
        homes in prop::collection::vec(0.0f64..1.0, 1..12),
        pick in prop_oneof![
            Just(String::new()),
            (1u32..4).prop_map(|n| format!("count: {n}, ")),
            (1u32..=100).prop_map(|p| format!("percent: {p}%, ")),
            Just("whole: zone, ".to_owned()),
            Just("whole: region, ".to_owned()),
        ],
        max_cells in 3u32..13, max_share in 1u32..=100, seed: u64,
    ) {
        prop_assume!(homes.iter().sum::<f64>() > 0.1);
        let text = format!("target: {{ service: shop, {pick}blast_radius: {{ max_cells: {max_cells}, max_share: {max_share}% }} }}\nfaults: [{{ fault: kill }}]");
        let experiment = experiment(&text);
        let names: Vec<String> = (0..homes.len()).map(|i| format!("c{i}")).collect();
        let template = Scene::calm().cell("n1").clone();
        let cells = names.iter().enumerate().map(|(i, name)| {
            let mut cell = template.clone();
            cell.cell.id = id(name);
            cell.cell.region = forefend_domain::RegionId::new(["north", "south"][i % 2]).unwrap();
            cell.cell.zone = forefend_domain::ZoneId::new(["a", "b", "c"][i % 3]).unwrap();
            cell
        }).collect();
        let shares: Vec<(&str, f64)> = names.iter().map(String::as_str).zip(homes.iter().copied()).collect();
        let mut scene = Scene::with(cells, &shares);
        let Ok(Targets { cells, share }) = choose(&experiment, &scene.world, seed) else { return Ok(()) };
        prop_assert_eq!(choose(&experiment, &scene.world, seed).unwrap().cells, cells.clone());
        prop_assert!(!cells.is_empty() && cells.len() <= max_cells as usize);
        prop_assert!(share <= f64::from(max_share) / 100.0 + 1e-9);
        let home = scene.view().home.clone();
        prop_assert!((cells.iter().map(|c| home.share(c)).sum::<f64>() - share).abs() < 1e-9);
        let distinct: BTreeSet<_> = cells.iter().collect();
        prop_assert_eq!(distinct.len(), cells.len());
    }

    #[test]
    fn windows_block_exactly_where_they_say(
        from in 0u64..1440, to in 0u64..1440, days in prop::collection::vec(0usize..7, 0..3), at in 0u64..(40 * 1440),
    ) {
        prop_assume!(from != to);
        let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let days: BTreeSet<&str> = days.into_iter().map(|d| names[d]).collect();
        let list: Vec<&str> = days.iter().copied().collect();
        let clock = |m: u64| format!("{:02}:{:02}", m / 60, m % 60);
        let text = format!("days: [{}], from: \"{}\", to: \"{}\"", list.join(", "), clock(from), clock(to));
        let window = window(&text);
        let minute = |m: u64| Timestamp::from_unix_ms(m * 60_000);
        // By counting minutes: 1970-01-01, the day 0, was a Thursday.
        let day_fits = |day: u64| days.is_empty() || days.contains(names[((day + 3) % 7) as usize]);
        let blocked = |m: u64| {
            let (day, clock) = (m / 1440, m % 1440);
            if from < to {
                day_fits(day) && (from..to).contains(&clock)
            } else {
                (day_fits(day) && clock >= from) || (day > 0 && day_fits(day - 1) && clock < to)
            }
        };
        prop_assert_eq!(window.blocks(minute(at)), blocked(at));
        let wanted = (at..at + 3 * 1440).find(|m| blocked(*m)).map(minute);
        prop_assert_eq!(window.first_in(minute(at), minute(at + 3 * 1440)), wanted);
    }

    #[test]
    fn a_schedule_always_moves_on(every in 10u64..100_000, last in 0u64..2_000_000, day in 0usize..7, clock in 0u64..1440) {
        let last = Timestamp::from_unix_ms(last * 1_000_000);
        let Due::At(next) = schedule(&format!("every: {every}m")).next(Some(last), NOON) else { panic!("due") };
        prop_assert_eq!(next.since(last), Duration::from_secs(every * 60));
        let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let text = format!("daily_at: \"{:02}:{:02}\", days: [{}]", clock / 60, clock % 60, names[day]);
        let Due::At(next) = schedule(&text).next(Some(last), NOON) else { panic!("due") };
        prop_assert!(next > last && next.since(last) <= Duration::from_secs(7 * 86_400));
        prop_assert_eq!(next.unix_ms() / 60_000 % 1440, clock);
        prop_assert_eq!(names[((next.unix_ms() / 86_400_000 + 3) % 7) as usize], names[day]);
    }
}

fn first_after(planned: &[Planned]) -> u64 {
    planned.iter().map(|p| p.after().as_secs()).min().unwrap()
}

fn file(more: &str) -> Experiment {
    let text = format!(
        "version: 1\nname: x\nhypothesis: {{ says: x }}\ntarget: {{ service: shop }}\nfaults: [{{ fault: kill }}]\n{more}\n"
    );
    parse(&text, "x.yaml").unwrap_or_else(|e| panic!("{e}"))
}

fn window(text: &str) -> BlockWindow {
    file(&format!("block_windows: [{{ {text} }}]")).block_windows.remove(0)
}

fn schedule(text: &str) -> Schedule {
    file(&format!("schedule: {{ {text} }}")).schedule
}

#[test]
fn a_due_run_is_put_off_while_another_goes_on_or_has_just_ended() {
    use forefend_chaos::experiment::Past;
    let schedule = schedule("every: 1d, not_within: 2h");
    let (due, now) = (Due::At(NOON), NOON + Duration::from_secs(60));
    let hours_ago = |h: u64| Some(now - Duration::from_secs(h * 3600));
    let began = NOON - Duration::from_secs(86_400);
    assert!(schedule.may_begin(due, &[], now));
    assert!(!schedule.may_begin(due, &[], NOON - Duration::from_secs(1)));
    assert!(!schedule.may_begin(Due::ByHand, &[], now));
    assert!(!schedule.may_begin(due, &[Past { began, ended: None }], now));
    assert!(!schedule.may_begin(due, &[Past { began, ended: hours_ago(1) }], now));
    assert!(schedule.may_begin(due, &[Past { began, ended: hours_ago(3) }], now));
    assert_eq!(file("").schedule.next(None, NOON), Due::ByHand);
}
