//! The words and quantities of predictive failover, and the ports through which the rest of the program meets
//! the world.
//!
//! Everything here is a value: ranges are checked once, at construction, and no item does I/O, reads a clock or
//! draws a random number. `predict` and `decide` share only this crate, which is what keeps them apart.
//!
//! Start from [`Prediction`] (what is foreseen for a cell), [`World`] (what is seen now), [`Plan`] (what shall be
//! done) and [`ports`] (who does it).

mod error;
mod evidence;
mod ids;
mod lead_time;
mod ledger;
mod life;
mod metric;
mod operating;
mod plan;
mod policy;
pub mod ports;
mod prediction;
mod quantity;
mod topology;
mod weights;
mod world;

pub use error::{DomainError, OutOfRange};
pub use evidence::Evidence;
pub use ids::{BlueprintHash, BlueprintName, CellId, MetricName, RegionId, ServiceId, ZoneId};
pub use lead_time::{LeadTimeProfile, Stage};
pub use ledger::{EntryKind, LedgerEntry, LedgerSeq, Verdict};
pub use life::{LifeEvent, LifeState, RefusedTransition};
pub use metric::{Family, MetricKind, MetricWindow, Sample, Windows};
pub use operating::{OperatingCurve, OperatingPoint};
pub use plan::{Effect, Explanation, Plan, ShiftReason};
pub use policy::{
    Budgets, CanaryPolicy, DataPolicy, Mode, Objective, Policy, PreTestPolicy, ReliefPolicy, ReturnPolicy,
    StandbyPolicy, TriggerPolicy,
};
pub use prediction::{Anomaly, Basis, Driver, Interval, Outlook, Prediction, TimeToFailure};
pub use quantity::{Bytes, HealthScore, Probability, Rate, Timestamp, Weight};
pub use topology::{Cell, CellRole, Service, Tier};
pub use weights::ServiceWeights;
pub use world::{
    CellHealth, CellView, DataGateView, ObjectiveState, Passport, ServiceView, ShiftRequest, TrafficView,
    World,
};
