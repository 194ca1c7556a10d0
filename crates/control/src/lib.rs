//! The one loop: observe, predict, decide, act.
//!
//! [`Controller::tick`] asks the ports what there is, turns it into a [`forefend_domain::World`], predicts, decides, writes the
//! decision to the ledger, and only then hands the effects to the ports. It waits for nothing: whether an effect came
//! about is seen at a later tick. The simulator runs this very code on a made-up world.
//!
//! It knows no concrete driver; the binary and the simulator choose them.

mod controller;
mod entries;
mod foresee;
mod life;
mod limits;
mod observe;
mod operator;
mod persisted;
mod rates;
mod request;
mod routing;
mod snapshot;
mod topology;
mod views;

pub use controller::{Controller, ControllerError, Ports};
pub use operator::{OperatorCommand, OperatorRefusal};
pub use snapshot::{PreTestView, ShiftView, Snapshot};
pub use topology::{CellSpec, ServiceSpec, Topology};
