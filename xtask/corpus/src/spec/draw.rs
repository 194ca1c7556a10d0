use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    Burst, Cause, Class, EpisodeSpec, Kind, Limits, LoadProfile, Subject, foreseeable, healthy, unforeseeable,
};

/// The only source of chance in the making of a corpus.
#[derive(Debug, Clone)]
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Uniform in `[low, high)`.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.0.random::<f64>()
    }

    /// Uniform in `low..high`.
    pub(crate) fn pick(&mut self, low: u32, high: u32) -> u32 {
        self.0.random_range(low..high)
    }

    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.0.random::<f64>() < p
    }

    /// Exponential with this mean.
    pub(crate) fn waiting(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.0.random::<f64>()).ln()
    }

    /// Normal with mean 0 and deviation 1, well enough: twelve uniforms.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.0.random::<f64>()).sum::<f64>() - 6.0
    }

    pub(crate) fn seed(&mut self) -> u64 {
        // Parquet and JSON hold signed numbers everywhere.
        self.0.random::<u64>() >> 1
    }

    pub(crate) fn shuffle<T>(&mut self, of: &mut [T]) {
        for last in (1..of.len()).rev() {
            of.swap(last, self.0.random_range(0..=last));
        }
    }
}

/// An episode while its recipe draws it.
pub(super) struct Draft {
    pub(super) subject: Subject,
    pub(super) random: Random,
    pub(super) limits: Limits,
    pub(super) load: LoadProfile,
    pub(super) causes: Vec<Cause>,
    pub(super) length_s: f64,
    /// When trouble begins: late enough for a healthy stretch before.
    pub(super) onset_s: f64,
}

impl Draft {
    pub(super) fn cause(&mut self, cause: Cause) {
        self.causes.push(cause);
    }
}

/// One way to make an episode of a kind.
pub(super) type Recipe = (Subject, fn(&mut Draft));

/// Bytes of a mebibyte.
pub(super) const MIB: f64 = 1_048_576.0;

fn recipes(kind: Kind) -> Vec<Recipe> {
    match kind.class() {
        Class::Foreseeable => foreseeable::recipes(kind),
        Class::Unforeseeable => unforeseeable::recipes(kind),
        Class::Healthy => healthy::recipes(kind),
    }
}

/// How many episodes of a kind the whole corpus has: somewhat more than is asked of it, since not each comes out as
/// it was meant.
fn wanted(kind: Kind) -> u32 {
    match kind.class() {
        Class::Foreseeable => 44,
        Class::Unforeseeable => 36,
        Class::Healthy => 43,
    }
}

/// The whole corpus of a seed.
pub(crate) fn all(seed: u64) -> Vec<EpisodeSpec> {
    make(seed, wanted)
}

/// An ordinary quarter of a minute of a server, in which nothing happens.
pub(crate) fn rehearsal(subject: Subject, seed: u64) -> EpisodeSpec {
    let draft = |_: &mut Draft| {};
    let spec = one(0, seed, Kind::Season, 0, subject, draft);
    EpisodeSpec { length_s: 12.0, ..spec }
}

/// A small one: each recipe of each kind `times` times, with the same parameters as in the whole one.
pub(crate) fn reduced(seed: u64, times: u32) -> Vec<EpisodeSpec> {
    make(seed, |kind| times * recipes(kind).len() as u32)
}

fn make(seed: u64, count: impl Fn(Kind) -> u32) -> Vec<EpisodeSpec> {
    let mut specs = Vec::new();
    for (number, kind) in (0u32..).zip(Kind::ALL) {
        let mut seeds = Random::from_seed(seed.wrapping_mul(1_000_003).wrapping_add(u64::from(number)));
        let recipes = recipes(kind);
        for n in 0..count(kind) {
            let (subject, recipe) = recipes[n as usize % recipes.len()];
            // Ways with few episodes begin in different groups.
            let group = ((n as usize / recipes.len() + 3 * (n as usize % recipes.len())) % 10) as u8;
            // The number tells the kind, and stays when the corpus grows.
            specs.push(one(number * 1_000 + n, seeds.seed(), kind, group, subject, recipe));
        }
    }
    specs
}

fn one(id: u32, seed: u64, kind: Kind, group: u8, subject: Subject, recipe: fn(&mut Draft)) -> EpisodeSpec {
    let mut random = Random::from_seed(seed);
    let limits = limits(subject);
    let load = load(subject, &mut random);
    let onset_s = random.between(11.0, 20.0);
    let mut draft = Draft { subject, random, limits, load, causes: Vec::new(), length_s: 60.0, onset_s };
    recipe(&mut draft);
    let Draft { limits, load, causes, length_s, .. } = draft;
    EpisodeSpec { id, seed, subject, kind, group, length_s, limits, load, causes }
}

fn limits(subject: Subject) -> Limits {
    let mib = |n: u64| n << 20;
    let base = Limits {
        memory_bytes: mib(64),
        cpu_cores: 0.15,
        tasks: 64,
        disk_bytes: mib(24),
        files: 1_024,
        connections: 512,
        max_memory_bytes: 0,
    };
    match subject {
        Subject::Nginx | Subject::Shop => base,
        Subject::Redis => Limits { connections: 500, ..base },
        Subject::Postgres => {
            // A process for every connection: it needs more of everything.
            Limits {
                memory_bytes: mib(160),
                cpu_cores: 0.5,
                disk_bytes: mib(112),
                connections: 60,
                tasks: 120,
                ..base
            }
        }
    }
}

fn load(subject: Subject, random: &mut Random) -> LoadProfile {
    // Connections to PostgreSQL cost milliseconds of CPU time each, and its users know that. Half of its writes append, the
    // other half want the same few rows.
    let (low, high, fresh, writes) = match subject {
        Subject::Postgres => (22.0, 34.0, 0.1, 0.4),
        Subject::Nginx | Subject::Redis | Subject::Shop => (24.0, 44.0, 0.4, 0.22),
    };
    let bursts = (0..random.pick(0, 3))
        .map(|_| Burst {
            at_s: random.between(2.0, 55.0),
            for_s: random.between(1.0, 4.0),
            factor: random.between(1.3, 2.0),
        })
        .collect();
    LoadProfile {
        base_per_s: random.between(low, high),
        season: random.between(0.15, 0.4),
        day_s: random.between(35.0, 70.0),
        phase: random.between(0.0, 1.0),
        noise: random.between(0.05, 0.15),
        bursts,
        write_share: random.between(writes, writes + 0.12),
        fresh_share: random.between(fresh, fresh * 1.5),
        heavy_share: 0.0,
        retries: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use forefend_chaos::Foresight;

    use super::{super::What, *};

    #[test]
    fn the_same_seed_makes_the_same_corpus_and_another_seed_another() {
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
    }

    #[test]
    fn there_are_as_many_of_each_kind_as_were_promised() {
        let mut kinds: BTreeMap<Kind, u32> = BTreeMap::new();
        let mut classes: BTreeMap<Class, u32> = BTreeMap::new();
        for spec in all(1) {
            *kinds.entry(spec.kind).or_default() += 1;
            *classes.entry(spec.class()).or_default() += 1;
        }
        assert_eq!(kinds.len(), Kind::ALL.len());
        assert!(kinds.iter().all(|(kind, n)| kind.class() != Class::Foreseeable || *n >= 40), "{kinds:?}");
        assert!(classes[&Class::Unforeseeable] >= 100 && classes[&Class::Healthy] >= 500, "{classes:?}");
    }

    #[test]
    fn every_group_has_every_kind() {
        let pairs: BTreeSet<(u8, Kind)> = all(1).iter().map(|s| (s.group, s.kind)).collect();
        assert_eq!(pairs.len(), 10 * Kind::ALL.len());
    }

    #[test]
    fn each_subject_fails_and_each_is_well() {
        let pairs: BTreeSet<(Subject, Class)> = all(1).iter().map(|s| (s.subject, s.class())).collect();
        assert_eq!(pairs.len(), 12, "{pairs:?}");
    }

    #[test]
    fn what_is_marked_foreseeable_builds_up_and_what_is_marked_unforeseeable_does_not() {
        for spec in all(3) {
            for cause in &spec.causes {
                let gradual = match &cause.what {
                    What::Fault { fault } => fault.foresight(cause.ramp) == Foresight::Foreseeable,
                    _ => cause.ramp.is_gradual(),
                };
                match spec.class() {
                    Class::Foreseeable => assert!(gradual, "{spec:?}"),
                    Class::Unforeseeable => assert!(!gradual, "{spec:?}"),
                    Class::Healthy => {}
                }
            }
        }
    }

    #[test]
    fn trouble_begins_after_a_healthy_stretch_and_ends_within_the_episode() {
        for spec in all(5) {
            let onset = spec.onset_s();
            assert!(onset.is_none_or(|s| (3.0..spec.length_s - 10.0).contains(&s)), "{spec:?}");
            assert_eq!(onset.is_none(), spec.kind == Kind::Season, "{spec:?}");
            assert!(spec.length_s <= 75.0);
        }
    }

    #[test]
    fn a_spec_survives_being_written_down() {
        for spec in reduced(2, 1) {
            let text = serde_json::to_string(&spec).expect("JSON");
            assert_eq!(serde_json::from_str::<EpisodeSpec>(&text).expect("a spec"), spec);
        }
    }

    #[test]
    fn the_reduced_corpus_is_a_part_of_the_whole() {
        let whole: BTreeMap<u32, EpisodeSpec> = all(4).into_iter().map(|s| (s.id, s)).collect();
        assert!(reduced(4, 1).iter().all(|s| whole[&s.id] == *s));
    }
}
