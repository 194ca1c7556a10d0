use std::{collections::BTreeMap, time::Duration};

use forefend_config::{Share, section};
use forefend_domain::{Rate, ServiceId};

section! {
    /// What is believed, so that it can turn out wrong.
    pub struct Hypothesis {
        /// In words: what users and services will notice, and what not.
        says: String,
        /// What must hold for `holds_for` before it begins and again after it ended, by the service's name. Left out: the
        /// defaults for the service that it is done to.
        steady_state: BTreeMap<ServiceId, Objectives> = BTreeMap::new(),
        /// How long the steady state must hold without a break before it counts. From 1s to 1h.
        holds_for: Duration = Duration::from_secs(30),
        /// How long is waited for it before the beginning; then the run is refused. At least `holds_for`.
        waits_at_most: Duration = Duration::from_secs(10 * 60),
        /// The recovery time objective: how long after the end the steady state must have begun to hold again.
        recovers_within: Duration = Duration::from_secs(2 * 60),
        /// Whether the steady state must hold while the faults last, too.
        throughout: bool = false,
    }
}

section! {
    /// What a service keeps when it is well. What was not seen is not kept.
    pub struct Objectives {
        /// The share of answers that may be errors.
        error_share: Share = Share::percent(1.0),
        /// The longest time that 99 of 100 answers may take. Left out: any.
        p99: Option<Duration>,
        /// At least so many requests come: without traffic nothing is shown.
        min_rate: Rate = one_per_second(),
    }
}

fn one_per_second() -> Rate {
    Rate::per_second(1.0).unwrap_or(Rate::ZERO)
}
