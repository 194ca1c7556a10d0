//! How often cells fail, before any metric of theirs is looked at.

use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{CellId, CellRole, ServiceId, Timestamp, ZoneId};
use serde::{Deserialize, Serialize};

/// What is expected of any cell before anything was seen: a failure in thirty days of one cell.
const FIRST_EXPOSURE_S: f64 = 30.0 * 86_400.0;
/// How many failures of its own a class is asked for before it counts as much as the fleet.
const FLEET_COUNTS_AS: f64 = 1.0;
/// For how long the failure of a cell speaks for others in its zone. Assumed.
const ZONE_S: f64 = 600.0;
/// For how long its own failure speaks against a cell. Assumed.
const OWN_S: f64 = 3_600.0;
/// How far a share of failed cells is believed to carry over to those that are left. Assumed.
const CARRIES_OVER: f64 = 0.2;
/// No prior makes a failure within the horizon likelier than about this: it moves nothing by itself, and it never hides that a
/// metric is on its way to its limit.
const MOST_WITHIN_HORIZON: f64 = 0.05;
/// A gap longer than this is no exposure: nobody was looking.
const LONGEST_LOOK: Duration = Duration::from_secs(60);

/// Failures and the time in which they happened: a Gamma–Poisson model of each class, shrunk to the fleet (empirical Bayes;
/// Carlin & Louis 2008, ch. 3), with what happened lately to the cell and in its zone. Small enough to be stored with every decision:
/// a few numbers for a class, a zone and each cell that ever failed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Hazards {
    fleet: Counts,
    classes: BTreeMap<ServiceId, Vec<(CellRole, Counts)>>,
    zones: BTreeMap<ZoneId, Fading>,
    failed: BTreeMap<CellId, Own>,
    /// Not stored: after a start nobody was looking before.
    #[serde(skip)]
    looks: Looks,
}

/// When each cell was last looked at.
#[derive(Debug, Clone, Default, PartialEq)]
struct Looks {
    at: BTreeMap<CellId, (Timestamp, ZoneId)>,
    in_zone: BTreeMap<ZoneId, usize>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Counts {
    exposure_s: f64,
    failures: f64,
}

/// A sum that fades.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Fading {
    sum: f64,
    at: Timestamp,
}

impl Fading {
    fn now(&self, now: Timestamp) -> f64 {
        self.sum * (-now.since(self.at).as_secs_f64() / ZONE_S).exp()
    }

    fn add(&mut self, now: Timestamp) {
        *self = Self { sum: self.now(now) + 1.0, at: self.at.max(now) };
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Own {
    at: Timestamp,
    /// Whether that failure is not over.
    lasts: bool,
}

/// Where a cell belongs, and how it does.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The service.
    pub service: &'a ServiceId,
    /// What it is for. Cells of one service and role are siblings.
    pub role: CellRole,
    /// Where it runs.
    pub zone: &'a ZoneId,
    /// Whether it breaks its objective for as long as makes a failure.
    pub failed: bool,
}

impl Hazards {
    /// A cell was looked at. A failure counts when it begins, and no time counts while it lasts.
    pub(super) fn look(&mut self, cell: &CellId, place: &Place<'_>, now: Timestamp) {
        let before = self.looks.look(cell, place.zone, now);
        let lasted = self.failed.get(cell).is_some_and(|own| own.lasts);
        let begins = place.failed && !lasted;
        if !place.failed
            && let Some(own) = self.failed.get_mut(cell)
        {
            own.lasts = false;
        }
        let seen = before.map_or(Duration::ZERO, |before| now.since(before).min(LONGEST_LOOK));
        let more = Counts {
            exposure_s: if place.failed { 0.0 } else { seen.as_secs_f64() },
            failures: f64::from(u8::from(begins)),
        };
        self.fleet.add(more);
        self.class_mut(place).add(more);
        if begins {
            self.failed.insert(cell.clone(), Own { at: now, lasts: true });
            self.zones.entry(place.zone.clone()).or_default().add(now);
        }
    }

    fn class_mut(&mut self, place: &Place<'_>) -> &mut Counts {
        if !self.classes.contains_key(place.service) {
            self.classes.insert(place.service.clone(), Vec::new());
        }
        let classes = self.classes.entry(place.service.clone()).or_default();
        let at = classes.iter().position(|(role, _)| *role == place.role).unwrap_or_else(|| {
            classes.push((place.role, Counts::default()));
            classes.len() - 1
        });
        &mut classes[at].1
    }

    /// Failures per second to be expected of a cell, whatever its metrics say; never so many that one within the horizon were
    /// likelier than about 5%.
    #[must_use]
    pub fn rate_per_s(&self, cell: &CellId, place: &Place<'_>, now: Timestamp, horizon: Duration) -> f64 {
        let fleet = (self.fleet.failures + 1.0) / (self.fleet.exposure_s + FIRST_EXPOSURE_S);
        let class = self
            .classes
            .get(place.service)
            .and_then(|classes| classes.iter().find(|(role, _)| *role == place.role))
            .map(|(_, counts)| *counts)
            .unwrap_or_default();
        let usual = (class.failures + FLEET_COUNTS_AS) / (class.exposure_s + FLEET_COUNTS_AS / fleet);
        let own = self.failed.get(cell);
        let own_now = own.map_or(0.0, |own| (-now.since(own.at).as_secs_f64() / OWN_S).exp());
        let zone = self.zones.get(place.zone).map_or(0.0, |zone| zone.now(now));
        // What it did itself is told by its own failure already.
        let mine = own.map_or(0.0, |own| (-now.since(own.at).as_secs_f64() / ZONE_S).exp());
        let others = self.looks.in_zone.get(place.zone).copied().unwrap_or(0).saturating_sub(1);
        let share = ((zone - mine).max(0.0) / others.max(1) as f64).min(1.0);
        let lately = CARRIES_OVER * (own_now / OWN_S + share / ZONE_S);
        (usual + lately).min(MOST_WITHIN_HORIZON / horizon.as_secs_f64().max(1e-3))
    }

    /// A copy of what outlives the process.
    #[must_use]
    pub fn to_keep(&self) -> Self {
        let Self { fleet, classes, zones, failed, .. } = self;
        Self {
            fleet: *fleet,
            classes: classes.clone(),
            zones: zones.clone(),
            failed: failed.clone(),
            looks: Looks::default(),
        }
    }

    /// Forgets cells that are no more. What their class has shown stays.
    pub(super) fn keep_only(&mut self, known: impl Fn(&CellId) -> bool) {
        let in_zone = &mut self.looks.in_zone;
        self.looks.at.retain(|cell, (_, zone)| {
            let stays = known(cell);
            if let Some(count) = in_zone.get_mut(zone).filter(|_| !stays) {
                *count = count.saturating_sub(1);
            }
            stays
        });
        self.failed.retain(|cell, _| known(cell));
        in_zone.retain(|_, count| *count > 0);
    }
}

impl Looks {
    /// Notes a look, and gives the one before.
    fn look(&mut self, cell: &CellId, zone: &ZoneId, now: Timestamp) -> Option<Timestamp> {
        if let Some((at, was_in)) = self.at.get_mut(cell)
            && was_in == zone
        {
            return Some(std::mem::replace(at, now));
        }
        let before = self.at.insert(cell.clone(), (now, zone.clone()));
        *self.in_zone.entry(zone.clone()).or_default() += 1;
        let (at, moved_from) = before?;
        if let Some(count) = self.in_zone.get_mut(&moved_from) {
            *count = count.saturating_sub(1);
        }
        Some(at)
    }
}

impl Counts {
    fn add(&mut self, more: Self) {
        self.exposure_s += more.exposure_s;
        self.failures += more.failures;
    }
}
