//! What a lead is worth. Growth is compressed in the corpus and a shift is not, so a second of the recording stands for many seconds of a failure
//! that takes as long as failures take.

use forefend_chaos::Ramp;

use crate::spec::{Class, DAY_S, EpisodeSpec, What};

/// In which seconds the lead of a warning counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// Those of the recording.
    Recording,
    /// Those of an episode whose day lasts a day: everything that grows is stretched as its load's day is, by a factor that the episode's
    /// recipe fixes.
    Uncompressed,
    /// The same, but only for what piles up (memory, disks, connections, processes), and less what a server takes to react, which nothing compresses.
    Strict,
}

/// What a server takes from a cause that is there at once until its users feel it, in seconds: the 95th percentile of the 105 episodes that can't be
/// foreseen and failed as meant.
const REACTION_S: f64 = 1.74;

impl Clock {
    pub(crate) const ALL: [Self; 3] = [Self::Recording, Self::Uncompressed, Self::Strict];

    /// What a bench calls its figures by this clock.
    pub(crate) fn case(self, unseen_kinds: bool) -> &'static str {
        match (self, unseen_kinds) {
            (Self::Recording, false) => "corpus",
            (Self::Uncompressed, false) => "corpus-uncompressed",
            (Self::Strict, false) => "corpus-strict",
            (Self::Recording, true) => "corpus-unseen-kind",
            (Self::Uncompressed, true) => "corpus-unseen-kind-uncompressed",
            (Self::Strict, true) => "corpus-unseen-kind-strict",
        }
    }

    /// How much faster than by this clock what happens in an episode goes, and how much of a lead is not any faster, in seconds.
    fn pace(self, spec: &EpisodeSpec) -> (f64, f64) {
        let grows = spec.class() == Class::Foreseeable && spec.causes.iter().any(|c| c.ramp != Ramp::Step);
        match self {
            Self::Uncompressed if grows => (compression(spec), 0.0),
            Self::Strict if grows && spec.causes.iter().all(|c| piles_up(&c.what)) => {
                (compression(spec), REACTION_S)
            }
            Self::Recording | Self::Uncompressed | Self::Strict => (1.0, 0.0),
        }
    }

    /// The lead by this clock of a warning so many seconds of the recording before the failure.
    pub(crate) fn lead_s(self, spec: &EpisodeSpec, recorded_s: f64) -> f64 {
        let (factor, real) = self.pace(spec);
        recorded_s.min(real) + (recorded_s - real).max(0.0) * factor
    }

    /// The other way round: how many seconds of the recording a lead by this clock takes.
    pub(crate) fn recorded_s(self, spec: &EpisodeSpec, lead_s: f64) -> f64 {
        let (factor, real) = self.pace(spec);
        lead_s.min(real) + (lead_s - real).max(0.0) / factor
    }
}

/// How many times longer an episode would take, did its load's day last a day.
pub(crate) fn compression(spec: &EpisodeSpec) -> f64 {
    (DAY_S / spec.load.day_s).max(1.0)
}

/// Whether it is taken bit by bit and not given back, as it takes hours and weeks where nobody hurries it. Growing delays, loads and shares of
/// what is spoilt may take as long, or not.
fn piles_up(what: &What) -> bool {
    match what {
        What::Keys { .. }
        | What::AppendLog { .. }
        | What::Rows { .. }
        | What::Uploads { .. }
        | What::ForeignLog { .. }
        | What::OwnLeak { .. }
        | What::SessionState { .. }
        | What::Connections { .. }
        | What::HungJobs { .. } => true,
        What::LoadFactor { .. }
        | What::HeavyShare { .. }
        | What::LockHold { .. }
        | What::OwnDelay { .. }
        | What::DependencyDelay { .. }
        | What::Poison { .. }
        | What::LostUpstreams { .. }
        | What::CpuQuota { .. }
        | What::Job { .. }
        | What::Backup
        | What::Flush
        | What::Reload
        | What::Restart
        | What::Kill
        | What::Stop
        | What::Fault { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{self, Kind};

    fn of(kind: Kind) -> EpisodeSpec {
        spec::all(1).into_iter().find(|s| s.kind == kind).unwrap()
    }

    #[test]
    fn an_episode_is_stretched_until_its_day_is_a_day() {
        let leak = of(Kind::Leak);
        let factor = DAY_S / leak.load.day_s;
        assert!(factor > 1_000.0);
        assert!((Clock::Uncompressed.lead_s(&leak, 0.5) - 0.5 * factor).abs() < 1e-9);
        assert!((Clock::Strict.lead_s(&leak, 2.24) - (1.74 + 0.5 * factor)).abs() < 1e-9);
        // What comes while the server reacts already is as late as it was recorded.
        assert_eq!(Clock::Strict.lead_s(&leak, 1.5), 1.5);
        assert_eq!(Clock::Recording.lead_s(&leak, 1.5), 1.5);
    }

    #[test]
    fn what_may_grow_quickly_and_what_comes_at_once_keep_their_seconds() {
        for kind in [
            Kind::LatencyCreep,
            Kind::CpuSaturation,
            Kind::ErrorCreep,
            Kind::SlowingDependency,
            Kind::LogWarnings,
        ] {
            assert_eq!(Clock::Strict.recorded_s(&of(kind), 6.0), 6.0, "{kind:?}");
            assert!(Clock::Uncompressed.recorded_s(&of(kind), 6.0) < 0.01, "{kind:?}");
        }
        for kind in [Kind::Kill, Kind::Cut, Kind::Step, Kind::Plateau] {
            assert!(Clock::ALL.iter().all(|clock| clock.recorded_s(&of(kind), 6.0) == 6.0), "{kind:?}");
        }
    }

    #[test]
    fn there_and_back_is_the_same() {
        for clock in Clock::ALL {
            for kind in [Kind::Leak, Kind::DiskFill, Kind::LatencyCreep, Kind::Kill] {
                for lead in [0.0, 1.0, 2.0, 6.0, 600.0] {
                    let spec = of(kind);
                    let back = clock.lead_s(&spec, clock.recorded_s(&spec, lead));
                    assert!((back - lead).abs() < 1e-9, "{clock:?} {kind:?} {lead}: {back}");
                }
            }
        }
    }
}
