//! Shifts that somebody asked for, and leases that run out.

use std::time::Duration;

use forefend_domain::{CellId, EntryKind, ServiceId, ShiftRequest, Timestamp, Weight};

use crate::{OperatorRefusal, persisted::Persisted};

/// Longer than this is not a lease but a wish: whoever holds it has had every chance to renew.
const LONGEST_LEASE: Duration = Duration::from_secs(24 * 3_600);

/// Shorter could not be renewed over a slow link.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// What was asked for.
pub(crate) struct Asked<'a> {
    pub(crate) cell: &'a CellId,
    pub(crate) weight: Weight,
    pub(crate) lease: Option<Duration>,
    pub(crate) drill: bool,
}

impl Asked<'_> {
    /// Puts it among the requests and tells it in words; `None` when it only renews a lease.
    pub(crate) fn put(
        &self,
        now: Timestamp,
        kept: &mut Persisted,
    ) -> Result<Option<String>, OperatorRefusal> {
        let &Self { cell, weight, lease, drill } = self;
        let known = kept.requested.get(cell).filter(|request| request.holds(now)).copied();
        let bad_lease = lease.is_some_and(|l| !(SHORTEST_LEASE..=LONGEST_LEASE).contains(&l));
        if bad_lease || (drill && lease.is_none()) {
            return Err(OperatorRefusal::BadLease);
        }
        if drill && kept.frozen {
            return Err(OperatorRefusal::Frozen);
        }
        if drill && known.is_some_and(|request| !request.drill) {
            return Err(OperatorRefusal::OperatorsOwn(cell.clone()));
        }
        let request = ShiftRequest { weight, until: lease.map(|lease| now + lease), drill };
        kept.requested.insert(cell.clone(), request);
        let same = |known: ShiftRequest| ShiftRequest { until: request.until, ..known } == request;
        if lease.is_some() && known.is_some_and(|known| known.until.is_some() && same(known)) {
            return Ok(None);
        }
        let whose = if drill { " for a drill" } else { "" };
        let how_long = lease
            .map_or_else(String::new, |l| format!(", for {:.0} s unless it is renewed", l.as_secs_f64()));
        Ok(Some(format!("asked{whose} to move {weight} of the traffic of {cell} away{how_long}")))
    }
}

/// Forgets requests whose lease has run out, and tells of each: what they moved goes home.
pub(crate) fn run_out(now: Timestamp, kept: &mut Persisted) -> Vec<(Option<ServiceId>, EntryKind)> {
    let over = kept.requested.extract_if(.., |_, request| !request.holds(now));
    over.map(|(cell, request)| {
        let whose = if request.drill { "drill" } else { "operator" };
        let what = format!("let the {whose}'s shift of {cell} end: its lease was not renewed");
        (None, EntryKind::Engine { what })
    })
    .collect()
}
