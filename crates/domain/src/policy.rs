use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{MetricName, OutOfRange, Probability, Rate, Stage, Weight};

/// What a cell must keep. Breaking it for `failed_for` is a failure: so failures label themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// An answer that takes longer is slow.
    pub latency: Duration,
    /// The share of answers that may be slow before the objective is broken, for example 0.01.
    pub slow_share: f64,
    /// The share of answers that may be errors (5xx, reset, timeout), for example 0.01.
    pub error_share: f64,
    /// How long it must be broken without a break until the cell counts as failed.
    pub failed_for: Duration,
}

/// What Forefend may do by itself for a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Say what it would do.
    Observe,
    /// Ask before traffic moves; completing a failover of a cell that has failed needs no approval.
    Approve,
    /// Do it.
    Auto,
}

/// When a prediction is acted on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TriggerPolicy {
    /// At this probability a standby is made ready.
    pub prepare_at: Probability,
    /// At this probability, and when the lead-time race is due, traffic moves.
    pub shift_at: Probability,
    /// Below this probability a cell is well again. Under `shift_at`, so that noise around one threshold can't flap.
    pub clear_below: Probability,
    /// The trigger must hold in this many …
    pub hits: u32,
    /// … of the last this many ticks.
    pub of_ticks: u32,
    /// Where `shift_at` follows from an operating curve: the probability from which on traffic moves away from a cell that holds more than any that stayed well;
    /// otherwise `shift_at` is asked of all.
    #[serde(default)]
    pub exceeding_at: Option<Probability>,
    /// Added to the lead time: a shift begins when p10 of time to failure < p95 of the lead time + margin.
    pub margin: Duration,
}

/// How a mirror earns traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CanaryPolicy {
    /// The first cohort of real users, given on the strength of the passport alone.
    pub first: Weight,
    /// The weights at which the shift may pause, ascending, ending in full.
    pub steps: Vec<Weight>,
    /// The expected share of all of the service's requests that a step may spoil, as far as evidence can bound it:
    /// step × upper 95% bound of the mirror's bad share ≤ this.
    pub tolerated_harm: f64,
    /// At least this many requests must have been replayed and checked in warm-up.
    pub warm_requests: u32,
}

/// How a mirror is tried with a little real traffic while risk rises and is not yet acted on, so that the step that
/// matters is never its first. Not a shift; may rest on a prior; only in mode auto.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreTestPolicy {
    /// At most this much of the cell's home traffic, reached at `trigger.shift_at`. Zero: no pre-tests.
    pub cap: Weight,
    /// From this probability on.
    pub from: Probability,
}

impl Default for PreTestPolicy {
    /// One per cent, from the probability below which a cell counts as well: enough users to earn the first steps within
    /// minutes, and too few to be felt when the mirror turns out bad.
    fn default() -> Self {
        Self { cap: Weight::from_share(0.01), from: Probability::clamped(0.1, Probability::ZERO) }
    }
}

/// How traffic is given back to a cell that is well again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReturnPolicy {
    /// How long it must have been well.
    pub healthy_for: Duration,
    /// Basis points of the cell's home traffic returned per second.
    pub bp_per_second: u32,
}

/// Relief of a primary that is overloaded but not failing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReliefPolicy {
    /// Utilisation (0 to 1) above which it begins.
    pub above: f64,
    /// Utilisation below which it ends. Computed with the relieved load added back, so that relief can't end itself.
    pub below: f64,
    /// At most this much of the primary's traffic is moved.
    pub at_most: Weight,
}

/// How many synthetic cells stand by, and how cheaply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandbyPolicy {
    /// Always kept warm, even when nothing is foreseen.
    pub min: u32,
    /// Never more than this many of the service.
    pub max: u32,
    /// Freeze idle cells, so that they cost memory only.
    pub freeze_when_idle: bool,
    /// Cells beyond `min` are removed after this long without use.
    pub retire_after: Duration,
    /// A standby warmed longer ago than this must warm up again to count as capacity.
    pub passport_valid_for: Duration,
}

/// The bounds of the blast radius.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Budgets {
    /// Cells of the service whose traffic may be away from home at once (failed cells are not counted: they are
    /// already down).
    pub max_cells_in_motion: u32,
    /// Share of the service's traffic that may be away from home at once.
    pub max_weight_in_motion: Weight,
    /// After a rollback or a false alarm the cell is left alone this long, unless it fails.
    pub refractory: Duration,
    /// Share of a standby's measured capacity that is never used.
    pub headroom: f64,
}

/// What the service's data allows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DataPolicy {
    /// Cells share no state that must follow the traffic: any standby may take it.
    Stateless,
    /// A standby may take traffic while this metric of it, a lag in seconds, is at most `rpo`. Unknown lag: closed.
    Lag {
        /// The metric that tells the lag.
        metric: MetricName,
        /// The recovery point objective.
        rpo: Duration,
    },
    /// Traffic never moves by prediction.
    Pinned,
}

/// How a service is to be protected. Defaults are the safe ones; `mode` is observe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// What may be done without asking.
    pub mode: Mode,
    /// How far ahead the probability looks.
    pub horizon: Duration,
    /// When to act.
    pub trigger: TriggerPolicy,
    /// How a mirror earns traffic.
    pub canary: CanaryPolicy,
    /// How a mirror is tried before it is needed.
    #[serde(default)]
    pub pre_test: PreTestPolicy,
    /// How traffic goes home.
    pub give_back: ReturnPolicy,
    /// Relief of overload, if wanted.
    pub relief: Option<ReliefPolicy>,
    /// How many cells stand by.
    pub standby: StandbyPolicy,
    /// How much may be in motion.
    pub budgets: Budgets,
    /// What the data allows.
    pub data: DataPolicy,
    /// What one cell of the service can carry; `None`: only what its warm-up measured counts.
    pub capacity_per_cell: Option<Rate>,
    /// Lead times assumed until measured.
    pub lead_time_priors: BTreeMap<Stage, Duration>,
    /// Telemetry older than this is absent.
    pub stale_after: Duration,
}

/// More than this is no test: whoever wants it wants a shift, with a shift's triggers and budgets.
const MOST_PRE_TEST_BP: u32 = 1_000;

impl Default for Policy {
    fn default() -> Self {
        let p = |v| Probability::clamped(v, Probability::ZERO);
        let bp = |v| Weight::from_share(f64::from(v) / 10_000.0);
        Self {
            mode: Mode::Observe,
            horizon: Duration::from_secs(15 * 60),
            trigger: TriggerPolicy {
                prepare_at: p(0.2),
                shift_at: p(0.6),
                clear_below: p(0.1),
                hits: 3,
                of_ticks: 5,
                exceeding_at: None,
                margin: Duration::from_secs(30),
            },
            canary: CanaryPolicy {
                first: bp(100),
                steps: vec![bp(100), bp(500), bp(2_500), bp(5_000), Weight::FULL],
                tolerated_harm: 0.005,
                warm_requests: 20,
            },
            pre_test: PreTestPolicy::default(),
            give_back: ReturnPolicy { healthy_for: Duration::from_secs(120), bp_per_second: 50 },
            relief: None,
            standby: StandbyPolicy {
                min: 0,
                max: 2,
                freeze_when_idle: true,
                retire_after: Duration::from_secs(30 * 60),
                passport_valid_for: Duration::from_secs(60 * 60),
            },
            budgets: Budgets {
                max_cells_in_motion: 1,
                max_weight_in_motion: bp(5_000),
                refractory: Duration::from_secs(5 * 60),
                headroom: 0.2,
            },
            data: DataPolicy::Pinned,
            capacity_per_cell: None,
            lead_time_priors: [
                (Stage::Create, 5),
                (Stage::WarmUp, 30),
                (Stage::Earn, 60),
                (Stage::Drain, 10),
                (Stage::Propagate, 2),
            ]
            .into_iter()
            .map(|(stage, s)| (stage, Duration::from_secs(s)))
            .collect(),
            stale_after: Duration::from_secs(30),
        }
    }
}

impl Policy {
    /// Checks what single fields can't: that thresholds are in order and steps ascend to full.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let t = &self.trigger;
        if t.clear_below > t.shift_at {
            return Err(OutOfRange::new(
                "trigger.clear_below",
                "at most trigger.shift_at",
                t.clear_below.get(),
            ));
        }
        if t.prepare_at > t.shift_at {
            return Err(OutOfRange::new(
                "trigger.prepare_at",
                "at most trigger.shift_at",
                t.prepare_at.get(),
            ));
        }
        if t.hits == 0 || t.hits > t.of_ticks {
            return Err(OutOfRange::new("trigger.hits", "from 1 to trigger.of_ticks", t.hits));
        }
        if t.of_ticks > 64 {
            return Err(OutOfRange::new("trigger.of_ticks", "at most 64", t.of_ticks));
        }
        let steps = &self.canary.steps;
        if steps.last() != Some(&Weight::FULL) || !steps.windows(2).all(|w| w[0] < w[1]) {
            return Err(OutOfRange::new("canary.steps", "ascending and end in 100%", format!("{steps:?}")));
        }
        if !(self.canary.tolerated_harm > 0.0 && self.canary.tolerated_harm <= 0.1) {
            return Err(OutOfRange::new(
                "canary.tolerated_harm",
                "above 0 and at most 0.1",
                self.canary.tolerated_harm,
            ));
        }
        if self.pre_test.cap.bp() > MOST_PRE_TEST_BP {
            return Err(OutOfRange::new("pre_test.cap", "at most 10%", self.pre_test.cap.share()));
        }
        if self.pre_test.from > t.shift_at {
            return Err(OutOfRange::new(
                "pre_test.from",
                "at most trigger.shift_at",
                self.pre_test.from.get(),
            ));
        }
        if self.give_back.bp_per_second == 0 {
            return Err(OutOfRange::new("give_back.rate", "above 0", 0));
        }
        if !(0.0..1.0).contains(&self.budgets.headroom) {
            return Err(OutOfRange::new("budgets.headroom", "from 0 to below 1", self.budgets.headroom));
        }
        if self.standby.min > self.standby.max {
            return Err(OutOfRange::new("standby.min", "at most standby.max", self.standby.min));
        }
        if let Some(relief) = &self.relief
            && !(0.0 < relief.below && relief.below < relief.above && relief.above <= 1.0)
        {
            return Err(OutOfRange::new("relief.below", "above 0 and below relief.above", relief.below));
        }
        Ok(())
    }

    /// What is assumed for a stage until it was measured.
    #[must_use]
    pub fn lead_time_prior(&self, stage: Stage) -> Duration {
        self.lead_time_priors.get(&stage).copied().unwrap_or(Duration::from_secs(60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_legal_and_moves_nothing() {
        let policy = Policy::default();
        policy.check().expect("the default must be legal");
        assert_eq!(policy.mode, Mode::Observe);
        assert_eq!(policy.data, DataPolicy::Pinned);
    }

    #[test]
    fn thresholds_out_of_order_are_refused() {
        let mut policy = Policy::default();
        policy.trigger.clear_below = Probability::ONE;
        assert!(policy.check().is_err());
        let mut policy = Policy::default();
        policy.canary.steps = vec![Weight::FULL, Weight::ZERO];
        assert!(policy.check().is_err());
        let mut policy = Policy::default();
        policy.pre_test.from = Probability::ONE;
        assert_eq!(policy.check().map_err(|e| e.what), Err("pre_test.from"));
        let mut policy = Policy::default();
        policy.pre_test.cap = Weight::from_share(0.11);
        assert_eq!(policy.check().map_err(|e| e.what), Err("pre_test.cap"));
    }
}
