use std::time::Duration;

use forefend_domain::{Mode, Probability, Rate, Weight};

use super::{DataRule, GiveBackRate};
use crate::setting::{Share, all_defaults};

section! {
    /// How a service is protected. What is left out is set by the service's tier.
    pub struct PolicyConfig {
        /// What may be done without asking: `observe` says what it would do, `approve` asks, `auto` does it.
        mode: Option<Mode>,
        /// How far ahead the probability of failure looks. From 1s to 7d.
        horizon: Option<Duration>,
        /// When a prediction is acted on.
        trigger: TriggerConfig = all_defaults(),
        /// How a mirror earns traffic.
        canary: CanaryConfig = all_defaults(),
        /// How a mirror is tried with a little real traffic while risk rises and is not yet acted on.
        pre_test: PreTestConfig = all_defaults(),
        /// How traffic goes home.
        give_back: GiveBackConfig = all_defaults(),
        /// Relief of a primary that is overloaded but not failing. Left out: none.
        relief: Option<ReliefConfig>,
        /// How many synthetic cells stand by.
        standby: StandbyConfig = all_defaults(),
        /// How much may be in motion at once.
        budgets: BudgetsConfig = all_defaults(),
        /// What the service's data allows. By default `pinned`: traffic never moves by prediction.
        data: Option<DataRule>,
        /// What one cell can carry. Left out: only what its warm-up measured counts.
        capacity_per_cell: Option<Rate>,
        /// How long each stage of a shift is taken to last until it was measured.
        lead_times: LeadTimesConfig = all_defaults(),
        /// Telemetry older than this is absent. At least 1s.
        stale_after: Option<Duration>,
    }
}

words!(Mode, "mode", "What may be done without asking.", {
    "observe" => Mode::Observe,
    "approve" => Mode::Approve,
    "auto" => Mode::Auto,
});

section! {
    /// When a prediction is acted on.
    pub struct TriggerConfig {
        /// At this probability a standby is made ready. At most `shift_at`.
        prepare_at: Option<Probability>,
        /// At this probability, and when the lead time demands it, traffic moves.
        shift_at: Option<Probability>,
        /// Below this probability a cell is well again. At most `shift_at`.
        clear_below: Option<Probability>,
        /// The trigger must hold in this many of the last `of_ticks` ticks.
        hits: Option<u32>,
        /// The ticks looked back at. At most 64.
        of_ticks: Option<u32>,
        /// Tolerated false alarms, in a thousand weeks of a cell: once a learned model serves, traffic moves at the probability at which the
        /// model gave no more than these on failures that it had not learned from, and `prepare_at` and `clear_below` move with it. One tick
        /// suffices then, whatever `hits` and `of_ticks` say, for that is how alarms were counted; and a cell that holds more of a limit than
        /// any that stayed well is acted on from `shift_at` as written. Left out: `shift_at` counts as it is. From 1 to 1000000.
        false_alarms_per_1000_cell_weeks: Option<u32>,
        /// Added to the lead time: a shift begins when the 10th percentile of time to failure is below the 95th percentile of the lead
        /// time plus this.
        margin: Option<Duration>,
    }
}

section! {
    /// How a mirror earns traffic.
    pub struct CanaryConfig {
        /// The first cohort of real users.
        first: Option<Weight>,
        /// Where the shift may pause, ascending, ending in `100%`.
        steps: Option<Vec<Weight>>,
        /// The share of all requests that a step may be expected to spoil. Above 0%, at most 10%.
        tolerated_harm: Option<Share>,
        /// At least so many requests were replayed and checked in warm-up.
        warm_requests: Option<u32>,
    }
}

section! {
    /// How a mirror is tried before it is needed. No shift; in mode `auto` only.
    pub struct PreTestConfig {
        /// At most this share of the cell's traffic, reached at `trigger.shift_at`. At most 10%; `0%` switches pre-tests off.
        cap: Option<Weight>,
        /// From this probability on, and then until it was lower for `give_back.healthy_for`. At most `trigger.shift_at`.
        from: Option<Probability>,
    }
}

section! {
    /// How traffic is given back.
    pub struct GiveBackConfig {
        /// How long the cell must have been well.
        healthy_for: Option<Duration>,
        /// The share of the cell's traffic returned per time.
        rate: Option<GiveBackRate>,
    }
}

section! {
    /// Relief of an overloaded primary.
    pub struct ReliefConfig {
        /// Utilisation above which it begins.
        above: Share,
        /// Utilisation, with the relieved load added back, below which it ends. Below `above`.
        below: Share,
        /// At most this share of the primary's traffic is moved.
        at_most: Weight,
    }
}

section! {
    /// How many synthetic cells stand by, and how cheaply.
    pub struct StandbyConfig {
        /// Always kept warm. At most `max`.
        min: Option<u32>,
        /// Never more than this.
        max: Option<u32>,
        /// Whether idle cells are frozen, so that they cost memory only.
        freeze_when_idle: Option<bool>,
        /// Cells beyond `min` are removed after this long without use.
        retire_after: Option<Duration>,
        /// A standby warmed longer ago must warm up again to count as capacity.
        passport_valid_for: Option<Duration>,
    }
}

section! {
    /// The bounds of the blast radius.
    pub struct BudgetsConfig {
        /// Cells whose traffic may be away from home at once; failed cells are not counted.
        max_cells_in_motion: Option<u32>,
        /// Share of the service's traffic that may be away from home at once.
        max_weight_in_motion: Option<Weight>,
        /// After a rollback or a false alarm the cell is left alone this long, unless it fails.
        refractory: Option<Duration>,
        /// Share of a standby's measured capacity that is never used. Below 100%.
        headroom: Option<Share>,
    }
}

section! {
    /// How long stages are taken to last until they were measured.
    pub struct LeadTimesConfig {
        /// Until the processes of a new cell run.
        create: Option<Duration>,
        /// The warm-up plan.
        warm_up: Option<Duration>,
        /// From the first cohort to full weight.
        earn: Option<Duration>,
        /// Until nothing is in flight at the old cell.
        drain: Option<Duration>,
        /// Until new weights were read back from the data plane.
        propagate: Option<Duration>,
    }
}
