use forefend_domain::{CellId, ServiceId};
use proptest::prelude::*;

use super::*;
use crate::{evaluate::made_up::MadeUp, practice::Landmark};

const HORIZON_S: u64 = 60;
const EVERY_S: u64 = 10;

fn settings() -> Settings {
    Settings::new(Duration::from_secs(HORIZON_S), Duration::from_secs(EVERY_S))
}

/// Looks at cells that live for `LIFE_S`; every third fails at its end. A true risk rises over the last two minutes.
const LIFE_S: u64 = 600;

struct Look {
    at_s: u64,
    life: usize,
    time_s: f64,
    fails: bool,
    kind: &'static str,
    service: &'static str,
}

fn looks(lives: usize) -> Vec<Look> {
    let mut all = Vec::new();
    for life in 0..lives {
        let fails = life % 3 == 0;
        for at_s in (0..LIFE_S).step_by(EVERY_S as usize) {
            all.push(Look {
                at_s,
                life,
                time_s: (LIFE_S - at_s) as f64,
                fails,
                kind: ["leak", "disk"][life / 3 % 2],
                service: ["shop", "bank"][life % 2],
            });
        }
    }
    all
}

fn rows(
    lives: usize,
    mut champion: impl FnMut(&Look) -> f64,
    mut challenger: impl FnMut(&Look) -> f64,
) -> Vec<Judged> {
    looks(lives)
        .iter()
        .map(|look| {
            let near = look.fails && look.time_s <= 2.0 * HORIZON_S as f64;
            let within = look.fails && look.time_s <= HORIZON_S as f64;
            let mark = Landmark {
                cell: CellId::new(&format!("c{}", look.life)).unwrap(),
                service: ServiceId::new(look.service).unwrap(),
                at: Timestamp::from_unix_ms(1_000 * look.at_s),
                followed: Followed { time_s: look.time_s, failed: look.fails },
                block: if near {
                    format!("e{}", look.life)
                } else {
                    format!("q{}-{}", look.life, look.at_s / 300)
                },
                kind: if within { look.kind.to_owned() } else { String::new() },
                weight: 1.0,
                after_failure: false,
            };
            let (champion, challenger) = (champion(look), challenger(look));
            Judged { mark, champion, challenger, champion_exceeds: false, challenger_exceeds: false }
        })
        .collect()
}

/// Sees the last minute before a failure, mostly.
fn foresees(look: &Look, noise: f64) -> f64 {
    if look.fails && look.time_s <= HORIZON_S as f64 { 0.8 - 0.2 * noise } else { 0.02 + 0.05 * noise }
}

/// Knows the base rate and nothing else.
fn knows_nothing(noise: f64) -> f64 {
    0.03 + 0.01 * noise
}

fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut chance = MadeUp::new(seed);
    move || chance.uniform()
}

fn names(verdict: &Verdict) -> Vec<&str> {
    verdict.checks.iter().filter(|check| !check.passed).map(|check| check.name.as_str()).collect()
}

#[test]
fn a_better_challenger_passes() {
    let (mut a, mut b) = (noise(1), noise(2));
    let rows = rows(60, |_| knows_nothing(a()), |look| foresees(look, b()));
    let verdict = gate(&rows, &Papers::default(), &settings());
    assert!(verdict.passed, "{}", verdict.why_not());
    assert_eq!((verdict.events, verdict.looks), (20, 60 * 60));
    let (before, after) = (verdict.champion.unwrap(), verdict.challenger.unwrap());
    assert!(after.brier < before.brier && after.recall == Some(1.0), "{before:?} {after:?}");
    assert!(after.false_alarms_per_cell_week <= 1.0);
}

#[test]
fn the_operating_curve_says_what_each_threshold_costs_and_brings() {
    let mut a = noise(4);
    let rows = rows(60, |_| 0.0, |look| foresees(look, a()));
    let OperatingCurve(points) = operating_curve(&rows, &settings());
    assert!(points.len() > 10 && points.len() <= 50);
    assert!(points.is_sorted_by(|a, b| a.threshold > b.threshold && a.recall <= b.recall), "{points:?}");
    // What is said before failures is well above what is said in quiet.
    let good = points.iter().find(|p| p.threshold.get() < 0.6).unwrap();
    assert_eq!(good.recall, Some(1.0));
    let quiet = points.iter().rev().find(|p| p.threshold.get() > 0.1).unwrap();
    assert_eq!(quiet.false_alarms_per_cell_week, 0.0);
    assert!(points.last().unwrap().false_alarms_per_cell_week > 10.0);
    assert!(operating_curve(&[], &settings()).0.is_empty());
}

#[test]
fn an_alarm_of_its_own_costs_and_brings_at_every_threshold() {
    let mut a = noise(4);
    let mut rows = rows(60, |_| 0.0, |look| foresees(look, a()));
    // It foresees nothing, but for one failure by what that cell holds; and one cell holds as much and stays well.
    rows.iter_mut().for_each(|row| row.challenger = 0.01);
    let OperatingCurve(without) = operating_curve(&rows, &settings());
    assert_eq!(without[0].threshold, Probability::clamped(0.01, Probability::ONE));
    let failing = rows.iter().position(|row| row.mark.fails_within(settings().horizon)).unwrap();
    let quiet = rows.iter().position(|row| !row.mark.followed.failed).unwrap();
    rows[failing].challenger_exceeds = true;
    rows[quiet].challenger_exceeds = true;
    let OperatingCurve(with) = operating_curve(&rows, &settings());
    assert_eq!(with[0].threshold, Probability::ONE);
    assert!(with[0].false_alarms_per_cell_week > 0.0 && with[0].recall.unwrap() > 0.0, "{with:?}");
    // The Brier score is of what was said, not of the alarm.
    let verdict = gate(&rows, &Papers::default(), &settings());
    rows[quiet].challenger_exceeds = false;
    assert_eq!(gate(&rows, &Papers::default(), &settings()).gain, verdict.gain);
}

#[test]
fn the_same_again_and_one_that_knows_nothing_are_refused() {
    let mut a = noise(1);
    let alike = rows(60, |look| foresees(look, 0.5), |look| foresees(look, 0.5));
    assert_eq!(names(&gate(&alike, &Papers::default(), &settings())), ["brier"]);
    let worse = rows(60, |look| foresees(look, 0.5), |_| knows_nothing(a()));
    let verdict = gate(&worse, &Papers::default(), &settings());
    assert_eq!(names(&verdict), ["brier", "recall", "classes"], "{}", verdict.why_not());
}

#[test]
fn one_that_learned_from_shuffled_labels_is_refused() {
    let mut chance = noise(3);
    // It speaks up as often as one that foresees, at other times.
    let rows = rows(60, |_| 0.03, |_| if chance() < 0.033 { 0.8 } else { 0.02 });
    assert!(gate(&rows, &Papers::default(), &settings()).fails("brier"));
}

#[test]
fn better_on_the_whole_and_worse_for_one_kind_or_one_service_is_refused() {
    // What it gains on leaks is more than what it loses on full disks.
    let champion = |look: &Look| if look.kind == "disk" { foresees(look, 0.0) } else { knows_nothing(0.5) };
    let challenger = |look: &Look| if look.kind == "leak" { foresees(look, 0.0) } else { knows_nothing(0.5) };
    let verdict = gate(&rows(120, champion, challenger), &Papers::default(), &settings());
    assert!(
        verdict.fails("classes") && verdict.why_not().contains("disk: 0 foreseen"),
        "{}",
        verdict.why_not()
    );
    let champion = |look: &Look| if look.fails && look.time_s <= 60.0 { 0.5 } else { 0.02 };
    let challenger = |look: &Look| match (look.service, foresees(look, 0.0)) {
        // Of the shop's cells that are well it says one in five.
        ("shop", p) if p < 0.5 => 0.2,
        (_, p) if p > 0.5 => 0.999,
        _ => 0.001,
    };
    let verdict = gate(&rows(120, champion, challenger), &Papers::default(), &settings());
    assert!(verdict.fails("classes") && verdict.why_not().contains("service shop"), "{}", verdict.why_not());
}

#[test]
fn stale_data_unknown_features_and_too_few_events_are_told() {
    let at = |s: u64| Some(Timestamp::from_unix_ms(1_000 * s));
    let papers = Papers {
        champion_until: at(900),
        challenger_until: at(600),
        unknown_features: vec!["seconds_until_the_incident".into()],
    };
    let rows = rows(9, |_| knows_nothing(0.0), |look| foresees(look, 0.0));
    let verdict = gate(&rows, &papers, &settings());
    assert_eq!(names(&verdict), ["features", "freshness", "evidence"], "{}", verdict.why_not());
    assert!(verdict.why_not().contains("300 s before the champion's"));
    assert!(verdict.why_not().contains("seconds_until_the_incident"));
}

#[test]
fn nothing_and_nonsense_pass_nothing() {
    let verdict = gate(&[], &Papers::default(), &settings());
    assert!(!verdict.passed && verdict.gain.is_none() && verdict.champion.is_none());
    let rows = rows(30, |_| 0.1, |_| f64::NAN);
    assert!(gate(&rows, &Papers::default(), &settings()).fails("brier"));
}

#[test]
fn who_cries_wolf_has_turned_bad_though_nothing_fails() {
    let quiet = |champion: f64| {
        let mut rows = rows(30, |_| champion, |_| 0.02);
        rows.retain(|row| !row.mark.followed.failed);
        has_turned_bad(&rows, &settings())
    };
    assert!(quiet(0.7).is_some());
    assert!(quiet(0.02).is_none());
    assert!(quiet(0.01).is_none(), "better is not bad");
    // Who says a little more than the other in quiet is not yet wrong.
    assert!(quiet(0.03).is_none());
}

#[test]
fn who_raises_more_alarms_must_raise_its_threshold() {
    // Both foresee all; one of them also speaks up in every quiet stretch, as loudly.
    let wolf = |look: &Look| if look.at_s.is_multiple_of(300) { 0.8 } else { foresees(look, 0.0) };
    let verdict = gate(&rows(60, |look| foresees(look, 0.0), wolf), &Papers::default(), &settings());
    let (before, after) = (verdict.champion.unwrap(), verdict.challenger.unwrap());
    assert_eq!((before.recall, after.recall), (Some(1.0), Some(0.0)));
    assert!(verdict.fails("recall") && verdict.fails("brier"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_order_of_rows_and_who_is_called_what_change_only_the_sign(seed in any::<u64>(), turn in 0usize..500) {
        let (mut a, mut b) = (noise(seed), noise(!seed));
        let there = rows(30, |look| foresees(look, a()), |look| foresees(look, 2.0 * b()));
        let mut turned = there.clone();
        turned.rotate_left(turn);
        let one = gate(&there, &Papers::default(), &settings());
        prop_assert_eq!(&gate(&turned, &Papers::default(), &settings()).checks, &one.checks);
        let back: Vec<Judged> =
            there.iter().map(|r| Judged { champion: r.challenger, challenger: r.champion, ..r.clone() }).collect();
        let other = gate(&back, &Papers::default(), &settings());
        prop_assert!((one.gain.unwrap().value + other.gain.unwrap().value).abs() < 1e-12);
        prop_assert!(!(one.passed && other.passed));
    }
}
