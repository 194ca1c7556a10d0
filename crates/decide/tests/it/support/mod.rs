//! A small world to tell stories in: two regions, a primary in each, and whatever standbys the story asks for.
//!
//! Its data plane applies weights at once and its driver makes cells when the story says so, so that what a test sees
//! follows from the decisions alone. Every decision is checked against every invariant on the way.

#![expect(clippy::unwrap_used, reason = "a test stops where its set-up is wrong")]

mod parts;

use std::{collections::BTreeMap, time::Duration};

use forefend_decide::{
    Decision, Guards, Memory, ShiftMemory, decide,
    invariants::{self, Case},
};
use forefend_domain::{
    Basis, BlueprintName, Cell, CellHealth, CellId, CellRole, CellView, Effect, EntryKind, Evidence,
    LeadTimeProfile, LifeState, Objective, ObjectiveState, Policy, Prediction, RegionId, Service,
    ServiceView, ServiceWeights, Tier, Timestamp, TrafficView, World, ZoneId,
};

pub(crate) use parts::*;

/// What is foreseen of a cell, until the story says otherwise.
#[derive(Debug, Clone, Copy)]
struct Outlook {
    probability: f64,
    p10: Option<Duration>,
    basis: Basis,
    exceeds: bool,
}

const CALM: Outlook = Outlook { probability: 0.001, p10: None, basis: Basis::Prior, exceeds: false };

/// A world, what is remembered, and everything that was said and done.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) world: World,
    pub(crate) memory: Memory,
    /// What was decided in the last tick.
    pub(crate) last: Decision,
    /// `(tick, cell, word)` of everything that was explained.
    pub(crate) said: Vec<(u32, String, String)>,
    /// What the ledger got.
    pub(crate) events: Vec<EntryKind>,
    /// Every effect asked for, with its tick.
    pub(crate) done: Vec<(u32, Effect)>,
    pub(crate) tick: u32,
    /// Requests per second of the whole service.
    pub(crate) users_per_s: f64,
    /// Cells that send no telemetry.
    pub(crate) blind: Vec<&'static str>,
    /// Share of requests that a cell answers badly.
    pub(crate) bad_share: BTreeMap<CellId, f64>,
    /// Whether the data plane answers; what it applies stays.
    pub(crate) data_plane_answers: bool,
    /// Whether cells that are asked for are ready in the same instant.
    pub(crate) instant_cells: bool,
    outlook: BTreeMap<CellId, Outlook>,
    applied: ServiceWeights,
    owed: BTreeMap<CellId, f64>,
}

impl Story {
    /// A primary `north` in zone north-a and a primary `south` in zone south-a, half of 1 000 requests per second each,
    /// and a warm standby `spare` in zone north-b.
    pub(crate) fn begin() -> Self {
        Self::without_standby().with_standby("spare", "north", "north-b")
    }

    /// The same with the two primaries only.
    pub(crate) fn without_standby() -> Self {
        let now = Timestamp::from_unix_ms(1_700_000_000_000);
        let cells: BTreeMap<CellId, CellView> = [
            cell("north", "north", "north-a", CellRole::Primary, now),
            cell("south", "south", "south-a", CellRole::Primary, now),
        ]
        .into_iter()
        .map(|c| (c.cell.id.clone(), c))
        .collect();
        let home = weights(&cells, &[("north", 0.5), ("south", 0.5)]);
        let place = |region: &str, zone: &str| (RegionId::new(region).unwrap(), ZoneId::new(zone).unwrap());
        let service = Service {
            id: shop(),
            tier: Tier::Standard,
            objective: Objective {
                latency: Duration::from_millis(250),
                slow_share: 0.01,
                error_share: 0.01,
                failed_for: Duration::from_secs(1),
            },
            policy: policy(),
            mirror_blueprint: Some(BlueprintName::new("shop").unwrap()),
            mirror_zones: vec![
                place("north", "north-a"),
                place("north", "north-b"),
                place("south", "south-a"),
                place("south", "south-b"),
            ],
        };
        let view = ServiceView {
            service,
            home: home.clone(),
            effective: Some(home.clone()),
            cells,
            lead_times: LeadTimeProfile::default(),
        };
        let world = World {
            now,
            frozen: false,
            services: BTreeMap::from([(shop(), view)]),
            approved: Default::default(),
            requested: BTreeMap::new(),
        };
        Self {
            world,
            memory: Memory::default(),
            last: Decision::default(),
            said: Vec::new(),
            events: Vec::new(),
            done: Vec::new(),
            tick: 0,
            users_per_s: 1_000.0,
            blind: Vec::new(),
            bad_share: BTreeMap::new(),
            data_plane_answers: true,
            instant_cells: true,
            outlook: BTreeMap::new(),
            applied: home,
            owed: BTreeMap::new(),
        }
    }

    pub(crate) fn with_standby(self, name: &str, region: &str, zone: &str) -> Self {
        self.with_cell(name, region, zone, CellRole::Synthetic)
    }

    pub(crate) fn with_cell(mut self, name: &str, region: &str, zone: &str, role: CellRole) -> Self {
        let made = cell(name, region, zone, role, self.world.now);
        self.service().cells.insert(id(name), made);
        self
    }

    /// No standby can be made.
    pub(crate) fn without_blueprint(mut self) -> Self {
        self.service().service.mirror_blueprint = None;
        self
    }

    /// Where traffic goes in normal times, and now.
    pub(crate) fn with_home(mut self, shares: &[(&str, f64)]) -> Self {
        let home = weights(&self.service().cells, shares);
        self.service().home = home.clone();
        self.applied = home;
        self
    }

    pub(crate) fn with_policy(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        change(&mut self.service().service.policy);
        self
    }

    pub(crate) fn service(&mut self) -> &mut ServiceView {
        self.world.services.get_mut("shop").unwrap()
    }

    pub(crate) fn at(&mut self, name: &str) -> &mut CellView {
        self.service().cells.get_mut(name).unwrap_or_else(|| panic!("no cell {name}"))
    }

    // ── what happens ────────────────────────────────────────────────────────────────────────────────────────────

    /// A grounded prediction: fails with 90% within the horizon, and one time in ten sooner than `p10_s`.
    pub(crate) fn failure_is_foreseen(&mut self, name: &str, p10_s: f64) {
        let p10 = Some(Duration::from_secs_f64(p10_s));
        self.outlook
            .insert(id(name), Outlook { probability: 0.9, p10, basis: Basis::FirstPassage, exceeds: false });
    }

    pub(crate) fn is_predicted(&mut self, name: &str, probability: f64, p10_s: Option<f64>, basis: Basis) {
        let p10 = p10_s.map(Duration::from_secs_f64);
        self.outlook.insert(id(name), Outlook { probability, p10, basis, exceeds: false });
    }

    /// It holds more than any cell that stayed well.
    pub(crate) fn exceeds(&mut self, name: &str, probability: f64) {
        let p10 = Some(Duration::from_secs_f64(SOON_S));
        self.outlook.insert(id(name), Outlook { probability, p10, basis: Basis::Calibrated, exceeds: true });
    }

    pub(crate) fn nothing_is_foreseen(&mut self, name: &str) {
        self.outlook.remove(name);
    }

    pub(crate) fn fails(&mut self, name: &str) {
        let since = self.world.now;
        let cell = self.at(name);
        cell.objective = ObjectiveState::Failed { since };
        cell.health = CellHealth::Down;
    }

    pub(crate) fn is_well(&mut self, name: &str) {
        let since = self.world.now;
        let cell = self.at(name);
        cell.objective = ObjectiveState::Met { since };
        cell.health = CellHealth::Up;
        cell.life = LifeState::Idle;
    }

    /// The data plane applies these, whatever was asked for.
    pub(crate) fn weights_are(&mut self, shares: &[(&str, f64)]) {
        self.applied = weights(&self.service().cells, shares);
    }

    pub(crate) fn answers_badly(&mut self, name: &str, share: f64) {
        self.bad_share.insert(id(name), share);
    }

    /// One turn of the loop, checked against every invariant, and carried out.
    pub(crate) fn tick(&mut self) {
        self.tick += 1;
        self.look();
        let predictions = self.predictions();
        let decision = decide(&self.world, &predictions, &self.memory, Guards::ALL);
        let case = Case {
            world: &self.world,
            predictions: &predictions,
            plan: &decision.plan,
            memory: &decision.memory,
        };
        if let Err(violation) = invariants::check_all(case) {
            panic!("tick {}: {violation:?}", self.tick);
        }
        self.memory = decision.memory.clone();
        self.events.extend(decision.events.iter().map(|(_, kind)| kind.clone()));
        for e in &decision.plan.explanations {
            self.said.push((self.tick, e.cell.to_string(), e.what.clone()));
        }
        for effect in &decision.plan.effects {
            self.done.push((self.tick, effect.clone()));
            self.carry_out(effect);
        }
        self.last = decision;
    }

    pub(crate) fn ticks(&mut self, n: u32) {
        (0..n).for_each(|_| self.tick());
    }

    pub(crate) fn seconds(&mut self, s: u32) {
        self.ticks(s * 4);
    }

    /// Ticks until `done` holds, for at most a minute.
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..240 {
            if done(self) {
                return;
            }
            self.tick();
        }
        panic!("not within a minute: {what}; said: {:?}; shifts: {:#?}", self.said, self.memory.shifts);
    }

    /// Decides again on the world that the last plan brought about, in the same instant and with nothing new seen.
    pub(crate) fn decide_again(&self) -> Decision {
        let mut world = self.world.clone();
        let service = world.services.get_mut("shop").unwrap();
        service.effective = Some(self.applied.clone());
        service.cells.values_mut().for_each(|c| c.traffic.since_last = Some(Evidence::default()));
        decide(&world, &self.predictions(), &self.memory, Guards::ALL)
    }

    // ── what is seen ────────────────────────────────────────────────────────────────────────────────────────────

    /// The cell's share of the service, as the data plane applies it.
    pub(crate) fn share(&self, name: &str) -> f64 {
        self.applied.share(&id(name))
    }

    pub(crate) fn applied(&self) -> &ServiceWeights {
        &self.applied
    }

    /// How often the word was said of the cell.
    pub(crate) fn times_said(&self, name: &str, what: &str) -> usize {
        self.said.iter().filter(|(_, cell, word)| cell == name && word == what).count()
    }

    /// How often the ledger was told that a cell had answered traffic of another badly.
    pub(crate) fn rejected(&self, name: &str, traffic_of: &str) -> usize {
        let is = |event: &&EntryKind| match event {
            EntryKind::Rejected { cell, from, evidence } => {
                assert!(evidence.bad > 0, "{event:?}");
                cell.as_str() == name && from.as_str() == traffic_of
            }
            _ => false,
        };
        self.events.iter().filter(is).count()
    }

    pub(crate) fn shift(&self, name: &str) -> &ShiftMemory {
        self.memory.shifts.get(name).unwrap_or_else(|| panic!("no shift of {name}"))
    }

    pub(crate) fn moves(&self) -> usize {
        self.done.iter().filter(|(_, e)| matches!(e, Effect::SetWeights { .. })).count()
    }

    pub(crate) fn created(&self) -> Vec<&Cell> {
        self.done
            .iter()
            .filter_map(|(_, e)| if let Effect::Create { cell, .. } = e { Some(cell) } else { None })
            .collect()
    }

    pub(crate) fn predictions(&self) -> BTreeMap<CellId, Prediction> {
        let service = &self.world.services["shop"];
        service
            .cells
            .keys()
            .map(|cell| {
                let o = self.outlook.get(cell).copied().unwrap_or(CALM);
                let said = prediction(cell, self.world.now, o.probability, o.p10, o.basis);
                (cell.clone(), Prediction { exceeds: o.exceeds, ..said })
            })
            .collect()
    }

    /// Time goes on, telemetry arrives, the data plane tells what it saw.
    fn look(&mut self) {
        self.world.now = self.world.now + TICK;
        let now = self.world.now;
        let (blind, bad, users) = (&self.blind, &self.bad_share, self.users_per_s);
        let service = self.world.services.get_mut("shop").unwrap();
        service.effective = self.data_plane_answers.then(|| self.applied.clone());
        for (id, cell) in &mut service.cells {
            if !blind.contains(&id.as_str()) {
                cell.telemetry_at = Some(now);
            }
            let share = self.applied.share(id);
            if cell.life.can_take_traffic() {
                cell.life = if share > 0.0 { LifeState::Serving } else { LifeState::Idle };
            }
            if share > 0.0 {
                cell.used_at = Some(now);
            }
            let owed = self.owed.entry(id.clone()).or_default();
            *owed += share * users * TICK.as_secs_f64();
            let requests = owed.floor();
            *owed -= requests;
            let bad = (requests * bad.get(id).copied().unwrap_or(0.0)).round() as u64;
            cell.traffic = if self.data_plane_answers {
                TrafficView {
                    rate: Some(per_second(share * users)),
                    in_flight: Some(0),
                    since_last: Some(Evidence { requests: requests as u64, bad }),
                    ..TrafficView::default()
                }
            } else {
                TrafficView::default()
            };
        }
    }

    fn carry_out(&mut self, effect: &Effect) {
        let (now, instant) = (self.world.now, self.instant_cells);
        match effect {
            Effect::SetWeights { weights, .. } if self.data_plane_answers => self.applied = weights.clone(),
            Effect::SetWeights { .. } | Effect::AskApproval { .. } => {}
            Effect::Create { cell: wanted, .. } => {
                let mut made = cell(wanted.id.as_str(), "north", "north-b", wanted.role, now);
                made.cell = wanted.clone();
                if !instant {
                    (made.life, made.passport) = (LifeState::Creating, None);
                }
                self.service().cells.insert(wanted.id.clone(), made);
            }
            Effect::Recreate { cell } if instant => self.is_well(cell.as_str()),
            Effect::Recreate { .. } => {}
            Effect::Park { cell } => self.at(cell.as_str()).parked = true,
            Effect::Unpark { cell } => self.at(cell.as_str()).parked = false,
            Effect::Rewarm { cell } => self.at(cell.as_str()).passport = Some(passport(now)),
            Effect::Retire { cell } => {
                self.service().cells.remove(cell);
            }
        }
    }
}
