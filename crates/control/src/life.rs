//! Brings a cell's life into step with what its driver and the weights show.

use forefend_domain::{LifeEvent, LifeState, Weight, ports::DriverStage};

/// What is seen of a cell from outside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seen<'a> {
    /// How far its driver is; `None` for a cell that somebody else runs, or that no driver has (yet).
    pub(crate) stage: Option<&'a DriverStage>,
    /// Whether we make it.
    pub(crate) managed: bool,
    /// Its share of the service, as the data plane applies it.
    pub(crate) share: f64,
    /// Shares up to this are a canary's.
    pub(crate) canary: Weight,
    /// Requests begun and not ended.
    pub(crate) in_flight: u64,
}

/// The life after what was seen: single legal transitions of [`LifeState::after`] until nothing fits any more.
///
/// A state that can't be reached by legal steps (the driver lost a cell and made another of the same name) begins anew
/// at `Planned`.
pub(crate) fn follow(mut state: LifeState, seen: Seen<'_>) -> LifeState {
    // The longest legal life between two looks is Failed → Creating → Warming → Idle → Canary → Serving.
    for _ in 0..8 {
        let Some(event) = next_event(state, seen) else { return state };
        state = match state.after(event) {
            Ok(next) => next,
            Err(_) => LifeState::Planned,
        };
    }
    state
}

fn next_event(state: LifeState, seen: Seen<'_>) -> Option<LifeEvent> {
    use LifeEvent as E;
    use LifeState as S;
    if !seen.managed {
        return by_traffic(if state < S::Idle || state > S::Draining { S::Idle } else { state }, seen);
    }
    let Some(stage) = seen.stage else {
        // No driver has it: not made yet, or made and gone.
        return match state {
            S::Planned | S::Retired => None,
            S::Failed | S::Idle => Some(E::Removed),
            S::Creating | S::Warming | S::Canary | S::Serving | S::Draining => Some(E::Broke),
        };
    };
    match (state, stage) {
        (S::Failed, DriverStage::Failed { .. }) => None,
        (_, DriverStage::Failed { .. }) => Some(E::Broke),
        (S::Planned, _) => Some(E::CreationStarted),
        (S::Failed, _) => Some(E::Recreated),
        (S::Creating, DriverStage::Creating) => None,
        (S::Creating, DriverStage::Warming | DriverStage::Ready | DriverStage::Parked) => Some(E::Started),
        (S::Warming, DriverStage::Creating | DriverStage::Warming) => None,
        (S::Warming, DriverStage::Ready | DriverStage::Parked) => Some(E::WarmedUp),
        (S::Idle, DriverStage::Creating | DriverStage::Warming) => Some(E::WentStale),
        (S::Canary | S::Serving | S::Draining, DriverStage::Creating | DriverStage::Warming) => {
            Some(E::Broke)
        }
        (S::Idle | S::Canary | S::Serving | S::Draining, DriverStage::Ready | DriverStage::Parked) => {
            by_traffic(state, seen)
        }
        (S::Retired, _) => Some(E::CreationStarted),
    }
}

fn by_traffic(state: LifeState, seen: Seen<'_>) -> Option<LifeEvent> {
    use LifeEvent as E;
    use LifeState as S;
    let has = seen.share > 0.0;
    let beyond_canary = seen.share > seen.canary.share();
    match state {
        S::Idle | S::Draining if has && beyond_canary => Some(E::Promoted),
        S::Idle | S::Draining if has => Some(E::CanaryStarted),
        S::Canary if beyond_canary => Some(E::Promoted),
        S::Canary | S::Serving if !has => Some(E::DrainStarted),
        S::Draining if seen.in_flight == 0 => Some(E::Drained),
        S::Idle | S::Draining | S::Canary | S::Serving => None,
        S::Planned | S::Creating | S::Warming | S::Retired | S::Failed => None,
    }
}

/// The life of a cell that was never seen before.
pub(crate) fn first(managed: bool) -> LifeState {
    if managed { LifeState::Planned } else { LifeState::Idle }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(stage: Option<&DriverStage>, share: f64, in_flight: u64) -> Seen<'_> {
        let canary = Weight::from_bp(500).expect("in range");
        Seen { stage, managed: true, share, canary, in_flight }
    }

    #[test]
    fn a_cell_adopted_in_full_swing_is_serving_at_once() {
        assert_eq!(follow(LifeState::Planned, seen(Some(&DriverStage::Ready), 0.5, 3)), LifeState::Serving);
    }

    #[test]
    fn it_drains_before_it_idles() {
        let stage = DriverStage::Ready;
        assert_eq!(follow(LifeState::Serving, seen(Some(&stage), 0.0, 3)), LifeState::Draining);
        assert_eq!(follow(LifeState::Draining, seen(Some(&stage), 0.0, 0)), LifeState::Idle);
    }

    #[test]
    fn a_cell_that_breaks_while_serving_is_failed_and_then_made_again() {
        let broken = DriverStage::Failed { why: "killed".into() };
        assert_eq!(follow(LifeState::Serving, seen(Some(&broken), 0.5, 3)), LifeState::Failed);
        assert_eq!(
            follow(LifeState::Failed, seen(Some(&DriverStage::Creating), 0.0, 0)),
            LifeState::Creating
        );
    }

    #[test]
    fn every_sight_of_every_state_settles() {
        let stages = [
            DriverStage::Creating,
            DriverStage::Warming,
            DriverStage::Ready,
            DriverStage::Parked,
            DriverStage::Failed { why: String::new() },
        ];
        let states = [
            LifeState::Planned,
            LifeState::Creating,
            LifeState::Warming,
            LifeState::Idle,
            LifeState::Canary,
            LifeState::Serving,
            LifeState::Draining,
            LifeState::Retired,
            LifeState::Failed,
        ];
        for state in states {
            for stage in stages.iter().map(Some).chain([None]) {
                for (share, in_flight) in [(0.0, 0), (0.0, 1), (0.01, 1), (1.0, 1)] {
                    let look = seen(stage, share, in_flight);
                    let once = follow(state, look);
                    assert_eq!(follow(once, look), once, "{state:?} {stage:?} {share}");
                }
            }
        }
    }
}
