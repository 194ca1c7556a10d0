use serde::{Deserialize, Serialize};

/// Where a cell stands in its life.
///
/// `Planned → Creating → Warming → Idle → Canary → Serving → Draining → Idle → Retired`, and `Failed` from
/// anywhere but `Retired`. Cells that somebody else runs are `Serving` or `Idle` for us and never created or retired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LifeState {
    /// Decided on, not begun.
    Planned,
    /// Its processes are being started.
    Creating,
    /// It runs; its warm-up plan is being executed and checked.
    Warming,
    /// Warm, without traffic; frozen if its policy says so.
    Idle,
    /// Carries its first, sticky cohort of real users.
    Canary,
    /// Carries traffic.
    Serving,
    /// Gets no new requests; those in flight finish.
    Draining,
    /// Stopped for good; its resources are released.
    Retired,
    /// Broke. Says nothing about why: that is in the ledger.
    Failed,
}

/// What may happen to a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LifeEvent {
    /// The driver was told to create it.
    CreationStarted,
    /// Its processes run and answer.
    Started,
    /// The warm-up plan was executed and its checks hold.
    WarmedUp,
    /// It got its first weight.
    CanaryStarted,
    /// It earned more than the canary's weight.
    Promoted,
    /// Its weight went to zero.
    DrainStarted,
    /// Nothing is in flight any more.
    Drained,
    /// Warm-up must be done again: too long idle, or its blueprint changed.
    WentStale,
    /// It was stopped and removed.
    Removed,
    /// A process died, a check failed or a step timed out.
    Broke,
    /// It is to be made again after it broke.
    Recreated,
}

/// The event does not fit the state: the caller saw an older state than the real one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cell that is {state:?} can't be {event:?}")]
pub struct RefusedTransition {
    /// The state the cell is in.
    pub state: LifeState,
    /// The event that was refused.
    pub event: LifeEvent,
}

impl LifeState {
    /// The state after `event`.
    ///
    /// # Errors
    /// [`RefusedTransition`] when `event` can't happen in this state.
    pub fn after(self, event: LifeEvent) -> Result<Self, RefusedTransition> {
        use LifeEvent as E;
        use LifeState as S;
        let next = match (self, event) {
            (S::Planned, E::CreationStarted) => S::Creating,
            (S::Creating, E::Started) => S::Warming,
            (S::Warming, E::WarmedUp) => S::Idle,
            (S::Idle, E::CanaryStarted) => S::Canary,
            // A secondary with a home weight, or a failover already authorised, needs no canary.
            (S::Idle | S::Canary, E::Promoted) => S::Serving,
            (S::Canary | S::Serving, E::DrainStarted) => S::Draining,
            // Needed again while it drains: its connections are still warm.
            (S::Draining, E::CanaryStarted) => S::Canary,
            (S::Draining, E::Promoted) => S::Serving,
            (S::Draining, E::Drained) => S::Idle,
            (S::Idle, E::WentStale) => S::Warming,
            (S::Planned | S::Idle | S::Failed, E::Removed) => S::Retired,
            (S::Failed, E::Recreated) => S::Creating,
            (
                S::Planned
                | S::Creating
                | S::Warming
                | S::Idle
                | S::Canary
                | S::Serving
                | S::Draining
                | S::Failed,
                E::Broke,
            ) => S::Failed,
            (state, event) => return Err(RefusedTransition { state, event }),
        };
        Ok(next)
    }

    /// Whether the cell could be given traffic now, as far as its life goes.
    #[must_use]
    pub fn can_take_traffic(self) -> bool {
        match self {
            Self::Idle | Self::Canary | Self::Serving | Self::Draining => true,
            Self::Planned | Self::Creating | Self::Warming | Self::Retired | Self::Failed => false,
        }
    }

    /// Whether it is on its way to be able to take traffic.
    #[must_use]
    pub fn is_coming(self) -> bool {
        matches!(self, Self::Planned | Self::Creating | Self::Warming)
    }
}

#[cfg(test)]
mod tests {
    use super::{LifeEvent as E, LifeState as S};

    #[test]
    fn a_synthetic_cell_lives_serves_rests_and_serves_again() {
        let mut state = S::Planned;
        for event in [
            E::CreationStarted,
            E::Started,
            E::WarmedUp,
            E::CanaryStarted,
            E::Promoted,
            E::DrainStarted,
            E::Drained,
            E::CanaryStarted,
            E::DrainStarted,
            E::Drained,
            E::Removed,
        ] {
            state = state.after(event).expect("the story is a legal life");
        }
        assert_eq!(state, S::Retired);
    }

    #[test]
    fn nothing_comes_back_from_retirement_and_nothing_serves_unwarmed() {
        for event in [E::CreationStarted, E::Started, E::Broke, E::Promoted, E::Recreated] {
            assert!(S::Retired.after(event).is_err());
        }
        for state in [S::Planned, S::Creating, S::Warming] {
            assert!(state.after(E::Promoted).is_err());
            assert!(state.after(E::CanaryStarted).is_err());
        }
    }
}
