use std::time::Duration;

section! {
    /// Learning from failures: models that are trained on what was recorded, tried in the shadow, and promoted when they are better.
    pub struct LearningConfig {
        /// Whether models are trained without being asked: every night, and after each failure.
        train: bool = true,
        /// The hour at which a night's training begins, in UTC. From 0 to 23.
        hour: u32 = 3,
        /// After a failure, so long is waited before training begins: what follows from it is still to come. From 1s to 1d.
        after_failure: Duration = Duration::from_secs(30 * 60),
        /// Who lets a model serve that has passed the gate.
        promotion: Promotion = Promotion::Approve,
        /// A model is tried in the shadow for at least so long before it may serve. From 1s to 90d.
        shadow: Duration = Duration::from_secs(24 * 3600),
        /// False alarms that are tolerated, in a thousand weeks of a cell: a model must foresee no fewer failures than the one before, at no
        /// more false alarms than these. From 1 to 1000000.
        false_alarms_per_1000_cell_weeks: u32 = 1_000,
        /// So many failures must have been seen before anything is learned, and as many again before a model may serve. From 2 to 1000.
        least_failures: u32 = 5,
    }
}

/// Who lets a model serve that has passed the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promotion {
    /// An operator.
    Approve,
    /// The engine.
    Auto,
}

words!(Promotion, "promotion", "Who lets a model serve that has passed the gate. A model that turns bad goes back by itself in either case.", {
    "approve" => Promotion::Approve,
    "auto" => Promotion::Auto,
});
