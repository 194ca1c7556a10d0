use std::time::Duration;

use forefend_domain::{Family, MetricKind, Sample, ZoneId};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const STEP_S: u64 = 300;
const LENGTH: u64 = 48;
/// A Monday, at midnight.
const BEGIN_S: u64 = 1_699_833_600;

struct World {
    fleet: Fleet,
    random: ChaCha8Rng,
    service: ServiceId,
    zone: ZoneId,
    past: BTreeMap<String, Vec<Vec<Option<f64>>>>,
    step: u64,
}

fn id(name: &str) -> CellId {
    CellId::new(name).unwrap()
}

impl World {
    fn new() -> Self {
        Self {
            fleet: Fleet::default(),
            random: ChaCha8Rng::seed_from_u64(7),
            service: ServiceId::new("shop").unwrap(),
            zone: ZoneId::new("north-a").unwrap(),
            past: BTreeMap::new(),
            step: 0,
        }
    }

    fn noise(&mut self) -> f64 {
        self.random.random_range(-1.0..1.0) + self.random.random_range(-1.0..1.0)
    }

    /// One tick: the values of each cell's metrics.
    fn tick(&mut self, values: &[(&str, Vec<Option<f64>>)]) {
        self.step += 1;
        for (cell, now) in values {
            let past = self.past.entry((*cell).to_owned()).or_default();
            past.push(now.clone());
            let from = past.len().saturating_sub(LENGTH as usize);
            let at = |n: usize| {
                let back = (past.len() - 1 - n) as u64;
                Timestamp::from_unix_ms((BEGIN_S + (self.step - back) * STEP_S) * 1_000)
            };
            let metric = |m: usize| {
                let name = MetricName::new(&format!("metric_{m}"));
                let samples = (from..past.len()).map(|n| Sample { at: at(n), value: past[n][m] }).collect();
                let window = MetricWindow {
                    name: name.clone(),
                    family: Family::Custom,
                    kind: MetricKind::Unbounded,
                    unit: String::new(),
                    limit: None,
                    samples,
                };
                (name, window)
            };
            let windows = Windows {
                cell: id(cell),
                at: at(past.len() - 1),
                step: Duration::from_secs(STEP_S),
                metrics: (0..now.len()).map(metric).collect(),
            };
            let place =
                Place { service: &self.service, role: CellRole::Primary, zone: &self.zone, failed: false };
            self.fleet.observe(&windows, &place);
        }
    }

    fn unusual(&mut self, cell: &str) -> Unusual {
        self.fleet.unusual(&id(cell)).unwrap()
    }

    /// What is named, with its z.
    fn named(&mut self, cell: &str) -> Vec<(String, f64)> {
        self.unusual(cell).metrics.into_iter().map(|a| (a.metric.to_string(), a.z)).collect()
    }
}

/// Noise in three metrics of a cell.
fn quiet(world: &mut World) -> Vec<Option<f64>> {
    (0..3).map(|m| Some(100.0 * f64::from(m + 1) + 4.0 * world.noise())).collect()
}

#[test]
fn noise_is_usual_and_a_leap_is_named_with_its_sign() {
    let mut world = World::new();
    let mut loud = 0;
    for tick in 0..2_000 {
        let values = quiet(&mut world);
        world.tick(&[("a", values)]);
        loud += u32::from(tick > 200 && world.unusual("a").score > 6.0);
    }
    assert!(loud <= 4, "{loud} of 1800 ticks of noise are unusual");
    let mut values = quiet(&mut world);
    values[1] = Some(120.0);
    world.tick(&[("a", values)]);
    let named = world.named("a");
    assert_eq!(named[0].0, "metric_1");
    assert!(named[0].1 < -6.0, "{named:?}");
}

#[test]
fn the_score_rises_at_once_falls_slowly_and_is_the_same_however_often_it_is_asked_for() {
    let mut world = World::new();
    for _ in 0..400 {
        let values = quiet(&mut world);
        world.tick(&[("a", values)]);
        world.unusual("a");
    }
    let before = world.unusual("a").score;
    world.tick(&[("a", vec![Some(130.0), Some(230.0), Some(330.0)])]);
    let leap = world.unusual("a").score;
    assert!(leap > before + 5.0, "{before}, then {leap}");
    let mut last = leap;
    for _ in 0..10 {
        let values = quiet(&mut world);
        world.tick(&[("a", values)]);
        let now = world.unusual("a").score;
        assert_eq!(world.unusual("a").score, now);
        assert!(now < last && now > 0.9 * last, "{last}, then {now}");
        last = now;
    }
}

#[test]
fn many_metrics_off_by_some_are_more_than_one_that_is_off_by_very_much() {
    let mut world = World::new();
    let many = |world: &mut World, off: &dyn Fn(usize) -> f64| -> Vec<Option<f64>> {
        (0..24).map(|m| Some(100.0 + 4.0 * world.noise() + off(m))).collect()
    };
    for _ in 0..600 {
        let values = many(&mut world, &|_| 0.0);
        world.tick(&[("a", values.clone()), ("b", values)]);
    }
    let one = many(&mut world, &|m| if m == 7 { 1_000.0 } else { 0.0 });
    let all = many(&mut world, &|_| 14.0);
    world.tick(&[("a", one), ("b", all)]);
    let (one, all) = (world.unusual("a").score, world.unusual("b").score);
    assert!(one > 4.0 && all > one, "{one} and {all}");
    assert_eq!(world.named("a")[0].0, "metric_7");
}

#[test]
fn a_small_shift_that_lasts_adds_up() {
    let mut world = World::new();
    for _ in 0..400 {
        let values = quiet(&mut world);
        world.tick(&[("a", values)]);
    }
    let shifted = |world: &mut World, by: f64| {
        for _ in 0..30 {
            let mut values = quiet(world);
            values[0] = values[0].map(|v| v + by);
            world.tick(&[("a", values)]);
        }
        world.named("a").iter().any(|(name, z)| name == "metric_0" && *z > 4.5)
    };
    assert!(!shifted(&mut world, 0.0));
    // One and a half standard deviations: no single value is remarkable.
    assert!(shifted(&mut world, 5.0));
}

#[test]
fn what_is_usual_at_noon_is_remarkable_at_midnight() {
    let mut world = World::new();
    let day = 86_400 / STEP_S;
    let wave = |step: u64| 100.0 - 40.0 * (step as f64 / day as f64 * std::f64::consts::TAU).cos();
    let (mut early, mut late) = (0.0f64, 0.0f64);
    for step in 1..=12 * day {
        let noise = world.noise();
        world.tick(&[("a", vec![Some(wave(step) + noise)])]);
        let score = world.unusual("a").score;
        if step > 10 * day {
            late += score / (2 * day) as f64;
        } else if (day..3 * day).contains(&step) {
            early += score / (2 * day) as f64;
        }
    }
    assert!(
        late < early,
        "the season is learned: {early} on the second and third day, {late} on the last two"
    );
    // Midnight comes; noon's value with it.
    world.tick(&[("a", vec![Some(wave(day / 2))])]);
    let at_midnight = world.unusual("a").score;
    assert!(at_midnight > 2.0 * late && at_midnight > 3.0, "{at_midnight} after {late}");
}

#[test]
fn what_all_siblings_do_is_told_apart_from_what_one_does() {
    let mut world = World::new();
    let cells = ["a", "b", "c", "d", "e", "f"];
    let round = |world: &mut World, add: &dyn Fn(usize) -> f64| {
        let values: Vec<(&str, Vec<Option<f64>>)> = cells
            .iter()
            .enumerate()
            .map(|(n, cell)| {
                let mut values = quiet(world);
                values[0] = values[0].map(|v| v + add(n));
                (*cell, values)
            })
            .collect();
        world.tick(&values);
    };
    for _ in 0..200 {
        round(&mut world, &|_| 0.0);
    }
    // All but one get more to do, and that one does not: nothing about it has changed.
    round(&mut world, &|n| if n == 3 { 0.0 } else { 40.0 });
    let named = world.named("d");
    assert_eq!(named.first().map(|(name, _)| name.as_str()), Some("metric_0"), "{named:?}");
    assert!(named[0].1 < -4.0, "{named:?}");
}

#[test]
fn a_pair_that_parts_is_named_though_each_of_it_is_usual() {
    let mut world = World::new();
    for _ in 0..600 {
        let common = 8.0 * world.noise();
        let values = [100.0, 200.0, 300.0].map(|level| Some(level + common + 0.3 * world.noise()));
        world.tick(&[("a", values.to_vec())]);
    }
    let named = world.named("a");
    world.tick(&[("a", vec![Some(112.0), Some(188.0), Some(312.0)])]);
    let parted = world.named("a");
    assert_eq!(parted.first().map(|(name, _)| name.as_str()), Some("metric_1"), "{named:?} then {parted:?}");
    assert!(parted[0].1 < -3.0, "{parted:?}");
}

#[test]
fn what_is_missing_is_neither_usual_nor_unusual() {
    let mut world = World::new();
    for _ in 0..300 {
        let values = quiet(&mut world);
        world.tick(&[("a", values)]);
    }
    for _ in 0..20 {
        let mut values = quiet(&mut world);
        values[1] = None;
        world.tick(&[("a", values)]);
        assert!(world.named("a").iter().all(|(name, _)| name != "metric_1"));
        let score = world.unusual("a").score;
        assert!(score < 6.0, "{score}");
    }
}

#[test]
fn it_comes_back_from_text_and_stays_small() {
    let mut world = World::new();
    for _ in 0..100 {
        let values = quiet(&mut world);
        world.tick(&[("a", values.clone()), ("b", values)]);
    }
    let text = serde_json::to_string(&world.fleet).unwrap();
    let mut back: Fleet = serde_json::from_str(&text).unwrap();
    assert_eq!(back.unusual(&id("a")), world.fleet.unusual(&id("a")));
    assert_eq!(std::mem::size_of::<Habit>(), 32);
    assert!(std::mem::size_of::<Season>() <= 400, "{}", std::mem::size_of::<Season>());
    world.fleet.keep_only(|_| false);
    assert_eq!(world.fleet.unusual(&id("a")), None);
    assert!(world.fleet.cells.is_empty());
}

mod hazards {
    use super::*;

    const HORIZON: Duration = Duration::from_secs(900);

    struct Zoo {
        hazards: Hazards,
        services: [ServiceId; 2],
        zones: [ZoneId; 2],
        now: Timestamp,
    }

    impl Zoo {
        /// Four cells of either service, two of each in either zone, watched for so many days.
        fn watched(days: u64) -> Self {
            let mut zoo = Self {
                hazards: Hazards::default(),
                services: ["shop", "mail"].map(|name| ServiceId::new(name).unwrap()),
                zones: ["north-a", "south-a"].map(|name| ZoneId::new(name).unwrap()),
                now: Timestamp::from_unix_ms(BEGIN_S * 1_000),
            };
            for _ in 0..days * 1_440 {
                zoo.look(None);
            }
            zoo
        }

        /// A minute passes, in which one cell is seen to have failed.
        fn look(&mut self, failed: Option<usize>) {
            self.now = self.now + Duration::from_secs(60);
            for n in 0..8 {
                let mut hazards = std::mem::take(&mut self.hazards);
                hazards.look(&id(&format!("c{n}")), &self.place(n, failed == Some(n)), self.now);
                self.hazards = hazards;
            }
        }

        fn place(&self, n: usize, failed: bool) -> Place<'_> {
            Place {
                service: &self.services[n % 2],
                role: CellRole::Primary,
                zone: &self.zones[n / 2 % 2],
                failed,
            }
        }

        fn rate(&self, n: usize) -> f64 {
            self.hazards.rate_per_s(&id(&format!("c{n}")), &self.place(n, false), self.now, HORIZON)
        }
    }

    #[test]
    fn nothing_seen_is_a_failure_in_thirty_days_and_peace_makes_it_less() {
        assert!((Zoo::watched(0).rate(0) * 30.0 * 86_400.0 - 1.0).abs() < 1e-9);
        let zoo = Zoo::watched(10);
        assert!(zoo.rate(0) < 0.5 / (30.0 * 86_400.0) && zoo.rate(0) > 0.0);
    }

    #[test]
    fn a_class_that_fails_is_expected_to_fail_and_one_that_does_not_is_not() {
        let mut zoo = Zoo::watched(2);
        for _ in 0..5 {
            zoo.look(Some(0));
            (0..600).for_each(|_| zoo.look(None));
        }
        // Long after, when nothing of the last failure is left.
        (0..1_440).for_each(|_| zoo.look(None));
        // The fourth of shop against mail, in the zone of neither failure.
        assert!(zoo.rate(2) > 2.0 * zoo.rate(3), "{} and {}", zoo.rate(2), zoo.rate(3));
    }

    #[test]
    fn a_failure_raises_its_zone_for_a_while_and_itself_for_longer() {
        let mut zoo = Zoo::watched(2);
        zoo.look(None);
        let (beside, elsewhere) = (zoo.rate(1), zoo.rate(3));
        zoo.look(Some(0));
        assert!(zoo.rate(1) > 10.0 * beside, "same zone, another service: {} from {beside}", zoo.rate(1));
        assert!(zoo.rate(3) < 2.0 * elsewhere, "another zone: {} from {elsewhere}", zoo.rate(3));
        (0..100).for_each(|_| zoo.look(None));
        assert!(zoo.rate(1) < 1.5 * zoo.rate(3), "later: {} and {}", zoo.rate(1), zoo.rate(3));
        assert!(zoo.rate(0) > 10.0 * beside, "itself: {}", zoo.rate(0));
    }

    #[test]
    fn no_prior_makes_a_failure_likely() {
        let mut zoo = Zoo::watched(0);
        for tick in 0..200 {
            zoo.look((tick % 2 == 0).then_some(tick / 2 % 8));
        }
        for n in 0..8 {
            let within = 1.0 - (-zoo.rate(n) * HORIZON.as_secs_f64()).exp();
            assert!(within <= 0.05, "{within}");
        }
    }

    #[test]
    fn one_failure_counts_once_however_long_it_lasts() {
        let mut zoo = Zoo::watched(0);
        (0..50).for_each(|_| zoo.look(Some(0)));
        let text = serde_json::to_value(&zoo.hazards).unwrap();
        assert_eq!(text["fleet"]["failures"], 1.0);
    }
}
