use std::time::Duration;

use forefend_config::{Share, section};
use forefend_domain::Probability;

section! {
    /// When it is refused. While everything is frozen, and while the service can't be seen, it always is.
    pub struct GuardRails {
        /// When a cell of a watched service fails within the policy's horizon with at least this probability.
        risk_at: Probability = Probability::clamped(0.2, Probability::ZERO),
        /// When what the service's other cells can carry, less the policy's headroom, is below its present rate.
        capacity: bool = true,
        /// When traffic of the service is away from home or on its way.
        running_shift: bool = true,
        /// When another experiment or drill runs, of whichever service.
        another_running: bool = true,
        /// When the last experiment or drill of the service ended less than this ago.
        pause: Duration = Duration::from_secs(60 * 60),
    }
}

section! {
    /// When it ends at once, everything undone. They are looked at for every watched service. Freezing everything, an
    /// operator's word and a block window end it too.
    pub struct StopConditions {
        /// More than this share of answers are errors.
        error_share: Share = Share::percent(5.0),
        /// One answer in 100 takes longer. Left out: this does not end it.
        p99: Option<Duration>,
        /// More cells than this that are no targets have failed.
        failed_cells: u32 = 0,
        /// A cell that is no target fails within the policy's horizon with at least this probability.
        alarm_at: Probability = Probability::clamped(0.6, Probability::ZERO),
        /// Nothing fresh was seen of a watched service for this long. From 1s to 5m.
        blind_for: Duration = Duration::from_secs(10),
    }
}

section! {
    /// Who must agree first.
    pub struct Approvals {
        /// So many persons, whatever is hit.
        required: u32 = 0,
        /// One person at least, when the targets are home to more than this share of the service's traffic.
        above: Share = Share::percent(50.0),
        /// Whose word counts. Left out: anybody's who may approve shifts.
        by: Vec<String> = Vec::new(),
        /// A run that waits longer for approval is refused.
        within: Duration = Duration::from_secs(24 * 60 * 60),
    }
}
