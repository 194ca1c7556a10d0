//! A small world to tell stories in: a shop with two cells in the north and one in the south, as many requests as they can
//! carry twice over, and a data plane and an injector that obey at once unless the story says otherwise.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use forefend_chaos::{
    drill::{Drill, DrillPhase},
    experiment::{Experiment, parse},
    run::{Action, InjectionId, InjectionState, OtherRun, Run, RunPhase, Seen, ServiceSeen, Targets, choose},
};
use forefend_domain::{
    Basis, Cell, CellHealth, CellId, CellRole, CellView, DataGateView, DataPolicy, HealthScore,
    LeadTimeProfile, LifeState, Objective, ObjectiveState, Policy, Prediction, Probability, Rate, RegionId,
    Service, ServiceId, ServiceView, ServiceWeights, ShiftRequest, Tier, TimeToFailure, Timestamp,
    TrafficView, Weight, World, ZoneId,
};

/// One step of a story.
pub(crate) const TICK: Duration = Duration::from_secs(1);

pub(crate) fn id(name: &str) -> CellId {
    CellId::new(name).unwrap()
}

pub(crate) fn shop() -> ServiceId {
    ServiceId::new("shop").unwrap()
}

pub(crate) fn per_second(rate: f64) -> Rate {
    Rate::per_second(rate).unwrap()
}

/// A Tuesday, 2026-11-17 12:00 UTC.
pub(crate) const NOON: Timestamp = Timestamp::from_unix_ms(1_794_916_800_000);

/// What is seen, owned.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) predictions: BTreeMap<CellId, Prediction>,
    pub(crate) services: BTreeMap<ServiceId, ServiceSeen>,
    pub(crate) shifting: BTreeSet<CellId>,
    pub(crate) others: Vec<OtherRun>,
    pub(crate) approvals: BTreeSet<String>,
    pub(crate) injections: BTreeMap<InjectionId, InjectionState>,
    pub(crate) end_asked_by: Option<String>,
    /// Whether the data plane reports.
    pub(crate) sighted: bool,
    /// Whether it does what a drill wants.
    pub(crate) obedient: bool,
    away: BTreeMap<CellId, Weight>,
}

fn cell(name: &str, region: &str, zone: &str, role: CellRole) -> CellView {
    CellView {
        cell: Cell {
            id: id(name),
            service: shop(),
            region: RegionId::new(region).unwrap(),
            zone: ZoneId::new(zone).unwrap(),
            role,
            home_weight: Weight::ZERO,
            blueprint: None,
        },
        life: LifeState::Serving,
        parked: false,
        health: CellHealth::Up,
        objective: ObjectiveState::Met { since: NOON },
        traffic: TrafficView::default(),
        telemetry_at: Some(NOON),
        utilisation: None,
        capacity: Some(per_second(1_000.0)),
        passport: None,
        data: DataGateView { open: true, lag: None, why: "stateless".into() },
        used_at: None,
    }
}

impl Scene {
    /// Everything is well: 25% at `n1` and `n2` (zones `n-a` and `n-b`), 50% at `s1`; each could carry 800/s and 400/s come.
    pub(crate) fn calm() -> Self {
        let cells = [
            cell("n1", "north", "n-a", CellRole::Primary),
            cell("n2", "north", "n-b", CellRole::Primary),
            cell("s1", "south", "s-a", CellRole::Primary),
        ];
        Self::with(cells.into(), &[("n1", 0.25), ("n2", 0.25), ("s1", 0.5)])
    }

    pub(crate) fn with(cells: Vec<CellView>, home: &[(&str, f64)]) -> Self {
        let cells: BTreeMap<CellId, CellView> = cells.into_iter().map(|c| (c.cell.id.clone(), c)).collect();
        let shares = cells
            .values()
            .map(|c| {
                let share =
                    home.iter().find(|(name, _)| *name == c.cell.id.as_str()).map_or(0.0, |(_, s)| *s);
                ((c.cell.region.clone(), c.cell.id.clone()), share)
            })
            .collect();
        let home = ServiceWeights::from_shares(&shares).unwrap();
        let mut policy = Policy { data: DataPolicy::Stateless, ..Policy::default() };
        policy.budgets.max_cells_in_motion = 2;
        let service = Service {
            id: shop(),
            tier: Tier::Standard,
            objective: Objective {
                latency: Duration::from_millis(250),
                slow_share: 0.01,
                error_share: 0.01,
                failed_for: Duration::from_secs(5),
            },
            policy,
            mirror_blueprint: None,
            mirror_zones: Vec::new(),
        };
        let view = ServiceView {
            service,
            effective: Some(home.clone()),
            home,
            cells,
            lead_times: LeadTimeProfile::default(),
        };
        let mut scene = Self {
            world: World {
                now: NOON,
                frozen: false,
                services: [(shop(), view)].into(),
                approved: BTreeSet::new(),
                requested: BTreeMap::new(),
            },
            predictions: BTreeMap::new(),
            services: BTreeMap::new(),
            shifting: BTreeSet::new(),
            others: Vec::new(),
            approvals: BTreeSet::new(),
            injections: BTreeMap::new(),
            end_asked_by: None,
            sighted: true,
            obedient: true,
            away: BTreeMap::new(),
        };
        scene.users(0.0, 50);
        scene.pass(Duration::ZERO);
        scene
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.world.now
    }

    pub(crate) fn view(&mut self) -> &mut ServiceView {
        self.world.services.get_mut(&shop()).unwrap()
    }

    pub(crate) fn cell(&mut self, name: &str) -> &mut CellView {
        self.view().cells.get_mut(&id(name)).unwrap()
    }

    /// What users get from now on.
    pub(crate) fn users(&mut self, error_share: f64, p99_ms: u64) {
        let seen = ServiceSeen {
            at: Some(self.now()),
            error_share: Some(error_share),
            p99: Some(Duration::from_millis(p99_ms)),
            rate: Some(per_second(400.0)),
            requests: Some(400),
            failed: Some((error_share * 400.0).round() as u64),
        };
        self.services.insert(shop(), seen);
    }

    pub(crate) fn foresee(&mut self, name: &str, probability: f64) {
        let probability = Probability::new(probability).unwrap();
        let prediction = Prediction {
            cell: id(name),
            at: self.now(),
            horizon: Duration::from_secs(900),
            probability,
            time_to_failure: TimeToFailure::default(),
            interval: forefend_domain::Interval::Plain,
            outlooks: Vec::new(),
            exceeds: false,
            health: HealthScore::from_failure(probability),
            anomaly: 0.0,
            anomalies: Vec::new(),
            drivers: Vec::new(),
            basis: Basis::FirstPassage,
            curve: Vec::new(),
        };
        self.predictions.insert(id(name), prediction);
    }

    /// Time goes on; what can be seen is seen anew.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.world.now = self.world.now + time;
        if !self.sighted {
            return;
        }
        let now = self.now();
        for seen in self.services.values_mut() {
            seen.at = Some(now);
        }
        if self.obedient {
            let wanted = self
                .world
                .requested
                .keys()
                .filter_map(|cell| Some((cell.clone(), self.world.request(cell)?.weight)));
            self.away = wanted.collect();
        }
        let away = self.away.clone();
        let view = self.view();
        for cell in view.cells.values_mut() {
            cell.telemetry_at = Some(now);
        }
        let mut shares = view.home.shares();
        let mut freed = 0.0;
        for ((_, cell), share) in &mut shares {
            if let Some(weight) = away.get(cell) {
                freed += *share * weight.share();
                *share *= 1.0 - weight.share();
            }
        }
        let stay: Vec<_> = shares.keys().filter(|(_, cell)| !away.contains_key(cell)).cloned().collect();
        for key in &stay {
            *shares.get_mut(key).unwrap() += freed / stay.len() as f64;
        }
        if !away.is_empty() || view.effective.is_some() {
            view.effective = ServiceWeights::from_shares(&shares);
        }
    }

    /// Does what is asked for.
    pub(crate) fn obey(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Apply { injection, .. } => {
                    self.injections.insert(injection.clone(), InjectionState::Active);
                }
                Action::Undo { injection } => {
                    self.injections.remove(injection);
                }
                Action::EndAll { .. } => self.injections.clear(),
                Action::SetLevel { .. } => {}
                Action::MoveAway { cell, weight, lease } => {
                    let until = Some(self.world.now + *lease);
                    let request = ShiftRequest { weight: *weight, until, drill: true };
                    self.world.requested.insert(cell.clone(), request);
                }
                Action::GiveBack { cell } => {
                    self.world.requested.remove(cell);
                }
            }
        }
    }

    pub(crate) fn seen(&self) -> Seen<'_> {
        Seen {
            world: &self.world,
            predictions: &self.predictions,
            services: &self.services,
            shifting: &self.shifting,
            others: &self.others,
            approvals: &self.approvals,
            injections: &self.injections,
            end_asked_by: self.end_asked_by.as_deref(),
        }
    }
}

/// An experiment on the shop: `more` is added to a hypothesis whose times are short.
pub(crate) fn experiment(more: &str) -> Experiment {
    let text = format!(
        "version: 1\nname: try\nhypothesis: {{ says: nobody notices, holds_for: 5s, waits_at_most: 20s, recovers_within: 30s }}\n{more}\n"
    );
    parse(&text, "try.yaml").unwrap_or_else(|e| panic!("{e}"))
}

pub(crate) fn faults(faults: &str) -> Experiment {
    experiment(&format!("target: {{ service: shop, cells: [n1] }}\nfaults: {faults}"))
}

/// Either machine.
pub(crate) enum Machine {
    Run(Box<Run>),
    Drill(Box<Drill>),
}

/// A scene and a machine that goes on in it, second by second.
pub(crate) struct Story {
    pub(crate) scene: Scene,
    pub(crate) machine: Machine,
    pub(crate) actions: Vec<(Timestamp, Action)>,
}

impl Story {
    pub(crate) fn of(experiment: Experiment) -> Self {
        Self::in_scene(Scene::calm(), experiment)
    }

    pub(crate) fn in_scene(scene: Scene, experiment: Experiment) -> Self {
        let targets = choose(&experiment, &scene.world, 1).unwrap_or_else(|r| panic!("{r:?}"));
        Self::at(scene, experiment, targets)
    }

    pub(crate) fn at(scene: Scene, experiment: Experiment, targets: Targets) -> Self {
        let machine = if experiment.is_drill() {
            Machine::Drill(Box::new(Drill::new("run-1", experiment, targets).unwrap()))
        } else {
            Machine::Run(Box::new(Run::new("run-1", experiment, targets, 1)))
        };
        Self { scene, machine, actions: Vec::new() }
    }

    /// One step, and what it asked for.
    pub(crate) fn step(&mut self) -> Vec<Action> {
        let (seen, now) = (self.scene.seen(), self.scene.now());
        let actions = match &mut self.machine {
            Machine::Run(run) => run.step(&seen, now),
            Machine::Drill(drill) => drill.step(&seen, now),
        };
        self.scene.obey(&actions);
        self.actions.extend(actions.iter().map(|action| (now, action.clone())));
        self.scene.pass(TICK);
        actions
    }

    /// So many steps of a second.
    pub(crate) fn goes_on(&mut self, seconds: u64) -> &mut Self {
        for _ in 0..seconds {
            self.step();
        }
        self
    }

    /// Where it stands and how it ended, in one line.
    pub(crate) fn says(&self) -> String {
        use forefend_chaos::run::Ended;
        let ended = match &self.machine {
            Machine::Run(run) => match run.phase() {
                RunPhase::Over(ended) => ended,
                RunPhase::WaitingForApproval { needed } => return format!("waits for {needed} approvals"),
                RunPhase::CheckingReadiness => return "checks readiness".into(),
                RunPhase::SteadyBefore { .. } => return "steady before".into(),
                RunPhase::Injecting { .. } => return "injecting".into(),
                RunPhase::Recovering { .. } => return "recovering".into(),
            },
            Machine::Drill(drill) => match drill.phase() {
                DrillPhase::Over(ended) => ended,
                DrillPhase::WaitingForApproval { needed } => return format!("waits for {needed} approvals"),
                DrillPhase::CheckingReadiness => return "checks readiness".into(),
                DrillPhase::SteadyBefore { .. } => return "steady before".into(),
                DrillPhase::MovingAway { weight, .. } => return format!("moving away {weight}"),
                DrillPhase::Holding { .. } => return "holding".into(),
                DrillPhase::Mending { .. } => return "mending".into(),
                DrillPhase::GivingBack { .. } => return "giving back".into(),
                DrillPhase::Recovering { .. } => return "recovering".into(),
            },
        };
        match ended {
            Ended::Finished { hypothesis } => format!("finished, {hypothesis}"),
            Ended::Stopped { why, hypothesis } => format!("stopped: {why}; {hypothesis}"),
            Ended::Refused { reasons } => {
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                format!("refused: {}", reasons.join("; "))
            }
        }
    }

    /// What was asked for, each with the seconds since the first of them.
    pub(crate) fn log(&self) -> Vec<String> {
        let Some((first, _)) = self.actions.first() else { return Vec::new() };
        self.actions
            .iter()
            .map(|(at, action)| format!("+{} {}", at.since(*first).as_secs(), words(action)))
            .collect()
    }
}

pub(crate) fn words(action: &Action) -> String {
    match action {
        Action::Apply { injection, fault, level, .. } => {
            format!("apply {} to {} at {level:.2}", fault.kind(), injection.cell)
        }
        Action::SetLevel { injection, level } => format!("set {} to {level:.2}", injection.cell),
        Action::Undo { injection } => format!("undo {}", injection.cell),
        Action::EndAll { .. } => "end all".into(),
        Action::MoveAway { cell, weight, .. } => format!("move {weight} of {cell} away"),
        Action::GiveBack { cell } => format!("give {cell} back"),
    }
}
