use std::time::Duration;

use forefend_config::{Share, section};
use forefend_domain::{RegionId, ServiceId, Weight};

use crate::{Fault, Ramp};

section! {
    /// A drill: the service loses a region. Its traffic there is moved away in steps, kept away, and given back; nothing is
    /// broken unless `fault` says so, and then only once no traffic is left there.
    pub struct Outage {
        /// The service.
        service: ServiceId,
        /// The region.
        region: RegionId,
        /// Refused when the region is home to more than this share of the service's traffic.
        max_share: Share = Share::percent(50.0),
        /// How much of each cell's traffic a step moves away. Above 0%.
        step: Weight = Weight::from_share(0.25),
        /// The shortest time from one step to the next; a step also waits until the one before was read back.
        step_every: Duration = Duration::from_secs(10),
        /// How long all steps together may take; then it is given up.
        moves_within: Duration = Duration::from_secs(10 * 60),
        /// How long the region stays empty.
        hold: Duration = Duration::from_secs(5 * 60),
        /// Every wish to keep traffic away ends by itself after this long unless it is renewed. From 3s to 5m.
        lease: Duration = Duration::from_secs(15),
        /// What is really done to the empty cells while the region is held. Left out: nothing.
        fault: Option<OutageFault>,
    }
}

section! {
    /// What is done to the empty cells.
    pub struct OutageFault {
        /// The fault and its parameters.
        fault: Fault,
        /// How it builds up.
        ramp: Ramp = Ramp::Step,
        /// How much of its full effect. Above 0%.
        intensity: Share = Share::percent(100.0),
    }
}
