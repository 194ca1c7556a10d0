use std::{
    cell::RefCell,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use forefend_config::Config;
use forefend_control::{Controller, OperatorCommand, Snapshot};
use forefend_domain::{CellId, EntryKind, LedgerSeq, ports::Clock as _};
use forefend_store::EngineStore as _;
use forefend_telemetry::prometheus::Follower;
use forefend_traffic::DirectorClient;
use tokio::sync::{mpsc, watch};

use super::{
    EngineError, EngineOptions, asked, assemble,
    begin::{
        LOCK_PATIENCE, cell_driver, collector, empty_snapshot, metric_now, open_store, scheduled, serve_api,
        start_director, write_address,
    },
    blueprints::Blueprints,
    clock::SteadyClock,
    director::{Keeper, hello},
    gate::DeclaredGate,
    history::Recorded,
    models::ModelsOfEngine,
    ports::{Cells, Director, Outside},
    pushes,
    reload::{Look, Watched},
    targets,
    wake::{Signals, Woken, wait},
};
use crate::{
    api::{
        ApiOptions, DrillRequest, DrillsHandle, EngineHandle, EvidenceHandle, MemoryHistory, ModelRequest,
        OperatorRequest, WindowsRequest,
    },
    drills::{DrillView, Drills, Look as DrillLook},
    models::{Serving, Wish},
};

/// Each exchange with the director is bounded: a stuck director must not stop the loop.
const DIRECTOR_TIMEOUT: Duration = Duration::from_secs(1);

/// Commands of operators that may wait for the next tick.
const COMMANDS_WAITING: usize = 64;

/// Points of history kept for the dashboard.
const HISTORY_POINTS: usize = 60_000;

/// Runs the engine until SIGTERM or SIGINT. The director and the cells go on without it.
///
/// # Errors
/// When it can't start. Once it runs, what fails is in the snapshot and the ledger, and the loop goes on.
pub fn run(options: &EngineOptions) -> Result<(), EngineError> {
    let config = forefend_config::load(&options.config)?;
    for hint in config.hints() {
        tracing::warn!("{hint}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(EngineError::io("the engine's runtime"))?;
    let mut engine = Engine::start(options, config, &runtime)?;
    engine.loop_until_told(&runtime);
    engine.end(options);
    runtime.shutdown_timeout(Duration::from_secs(2));
    Ok(())
}

struct Engine {
    config: Rc<RefCell<Config>>,
    outside: Outside,
    blueprints: Arc<Blueprints>,
    recorded: Recorded,
    asked: Option<Follower>,
    director_dir: PathBuf,
    keeper: Option<Keeper>,
    controller: Controller<Serving>,
    models: ModelsOfEngine,
    snapshots: watch::Sender<Arc<Snapshot>>,
    history: Arc<MemoryHistory>,
    commands: mpsc::Receiver<OperatorRequest>,
    looks: mpsc::Receiver<WindowsRequest>,
    drills: Drills,
    drill_commands: mpsc::Receiver<DrillRequest>,
    drill_views: watch::Sender<Arc<Vec<DrillView>>>,
    last: Arc<Snapshot>,
    watched: Watched,
    stop: watch::Sender<bool>,
    greeted: Option<u64>,
}

impl Engine {
    fn start(
        options: &EngineOptions,
        config: Config,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<Self, EngineError> {
        let state_dir = config.engine.state_dir.clone();
        std::fs::create_dir_all(&state_dir).map_err(EngineError::io(state_dir.display().to_string()))?;
        let clock = SteadyClock::start();
        let mut store = open_store(&state_dir.join("ledger.redb"))?;
        let blueprints = Arc::new(Blueprints::default());
        blueprints.take_over(&config, &store)?;
        let mut driver = cell_driver(options, &config, &state_dir, &blueprints)?;
        let director_dir = state_dir.join("director");
        let _guard = runtime.enter();
        let collector = Rc::new(RefCell::new(collector(&config, clock, runtime)));
        let recorded = Recorded::start(&config, &state_dir, &collector.borrow(), clock.now());
        let asked = asked::start(&config, &mut collector.borrow_mut(), driver.as_mut())?;
        let client = DirectorClient::new(&director_dir, DIRECTOR_TIMEOUT, assemble::settings(&config));
        let mut director = Director::new(client, Rc::clone(&collector), clock);
        director.take_objectives(&config);
        let (models, models_handle) = ModelsOfEngine::open(options, &config, store.reader(), clock.now())?;
        let topology = assemble::topology(&config);
        let controller =
            Controller::new(models.serving(), topology, assemble::probe_timing(&config), &mut store)?;
        let reader = store.reader();
        let newest = collector.borrow().newest();
        let history = MemoryHistory::new(HISTORY_POINTS, 0, config.engine.tick)
            .with_ledger(move |before, limit| {
                reader.page(before.map(LedgerSeq), limit).map_err(|e| e.to_string())
            })
            .with_metrics(move |cell| newest.of(cell).into_iter().map(metric_now).collect());
        let history = Arc::new(history);
        let (snapshots, watched_snapshots) = watch::channel(Arc::new(empty_snapshot(&clock)));
        let (command_sender, commands) = mpsc::channel(COMMANDS_WAITING);
        let (look_sender, looks) = mpsc::channel(COMMANDS_WAITING);
        let (drill_sender, drill_commands) = mpsc::channel(COMMANDS_WAITING);
        let mut drills = Drills::open(&state_dir.join("drills"), config.engine.drills.allowed, clock.now())
            .map_err(EngineError::io(state_dir.join("drills").display().to_string()))?;
        drills.set(scheduled(&config)?, config.engine.drills.allowed);
        let (drill_views, watched_drills) = watch::channel(Arc::new(drills.views()));
        let (stop, stopping) = watch::channel(false);
        let api = ApiOptions { listen: config.api().listen, tokens: assemble::tokens(&config)? };
        let handle = EngineHandle {
            snapshots: watched_snapshots,
            history: history.clone(),
            commands: command_sender,
            drills: DrillsHandle { runs: watched_drills, commands: drill_sender },
            models: models_handle,
            evidence: EvidenceHandle {
                windows: Some(look_sender),
                past: Arc::new(super::past::episodes(&state_dir)),
            },
        };
        pushes::start(&config, &collector.borrow(), stopping.clone(), LOCK_PATIENCE)?;
        let address = serve_api(&api, handle, stopping, runtime)?;
        write_address(&state_dir, address)?;
        // Last, so that a start that fails leaves no director behind that would try it again and again.
        let keeper = start_director(options, &config, &director_dir)?;
        tracing::info!("the dashboard is at http://{address}/");
        Ok(Self {
            watched: Watched::new(options.config.clone()),
            outside: Outside {
                clock,
                store,
                cells: Cells {
                    driver,
                    collector: Rc::clone(&collector),
                    config: Rc::new(RefCell::new(config.clone())),
                    told: Vec::new(),
                },
                collector,
                director,
                gate: DeclaredGate,
            },
            config: Rc::new(RefCell::new(config)),
            blueprints,
            recorded,
            asked,
            director_dir,
            keeper,
            controller,
            models,
            snapshots,
            history,
            commands,
            looks,
            drills,
            drill_commands,
            drill_views,
            last: Arc::new(empty_snapshot(&clock)),
            stop,
            greeted: None,
        })
    }

    fn loop_until_told(&mut self, runtime: &tokio::runtime::Runtime) {
        let mut signals = runtime.block_on(async { Signals::new() });
        runtime.block_on(asked::past_is_read(self.asked.as_ref()));
        let mut next = Instant::now();
        loop {
            self.take_over_changes();
            self.tick();
            let tick = self.config.borrow().engine.tick;
            next = (next + tick).max(Instant::now());
            loop {
                let asked =
                    (&mut self.commands, &mut self.drill_commands, self.models.commands(), &mut self.looks);
                let woken = wait(asked, &mut signals, next);
                match runtime.block_on(woken) {
                    Woken::Tick => break,
                    Woken::Command(request) => self.obey(request),
                    Woken::Drill(request) => self.obey_drill(request),
                    Woken::Model(request) => self.obey_model(request),
                    Woken::Look(request) => self.show(request),
                    Woken::Stop => return,
                }
            }
        }
    }

    fn tick(&mut self) {
        let mut telemetry = self.recorded.over(self.outside.telemetry());
        let mut snapshot = self.controller.tick(&mut self.outside.ports(&mut telemetry));
        self.recorded.after(&mut snapshot);
        self.greet();
        snapshot.degraded.extend(pushes::problems(&self.outside.collector.borrow()));
        snapshot.degraded.extend(self.asked.iter().flat_map(Follower::problems));
        self.history.record(&snapshot);
        self.last = Arc::new(snapshot);
        self.snapshots.send_replace(self.last.clone());
        self.drill();
        self.learn();
    }

    /// Lets experiments and drills see what the loop saw, and gives the loop what they want.
    fn drill(&mut self) {
        let wanted = {
            let (config, driver) = (self.config.borrow(), self.outside.cells.driver.as_ref());
            let target = |cell: &CellId| targets::of_faults(&config, driver, cell);
            self.drills.step(&DrillLook { snapshot: &self.last, target: &target })
        };
        for (who, command) in wanted {
            if let Err(why) = self.command(&who, &command) {
                tracing::warn!(who, ?command, why, "a drill's wish was refused");
            }
        }
        self.tell_drills();
    }

    fn tell_drills(&self) {
        let views = self.drills.views();
        self.drill_views.send_if_modified(|told| {
            let changed = **told != views;
            if changed {
                *told = Arc::new(views);
            }
            changed
        });
    }

    fn obey_drill(&mut self, request: DrillRequest) {
        let answer = self.drills.obey(&request.who, &request.command, &self.last);
        // Before the answer: who begins a run and then looks for it must find it.
        self.tell_drills();
        tracing::info!(who = request.who, ?answer, "a command for the drills");
        let _ = request.reply.send(answer);
    }

    /// Lets models see what the loop saw. Who serves changes only once the ledger has it.
    fn learn(&mut self) {
        for wish in self.models.step(&self.last) {
            // What fails is told by the view, and not wished for again.
            let _ = self.fulfil(EntryKind::Engine { what: wish.words() }, &wish);
        }
        if let Some((curve, reach)) = self.models.news() {
            let (topology, moved) = assemble::topology_by(&self.config.borrow(), &curve, reach);
            let what =
                if moved.is_empty() { "thresholds are as written".to_owned() } else { moved.join("; ") };
            self.controller.set_topology(topology, what);
        }
        self.models.publish();
    }

    fn fulfil(&mut self, entry: EntryKind, wish: &Wish) -> Result<(), String> {
        let mut telemetry = self.outside.telemetry();
        let mut ports = self.outside.ports(&mut telemetry);
        if let Err(error) = self.controller.remember(entry, &mut ports) {
            tracing::error!(%error, "not done, because it could not be written down");
            return Err(error.to_string());
        }
        self.models.grant(wish, self.outside.clock.now())
    }

    fn obey_model(&mut self, request: ModelRequest) {
        let answer = self.models.command(&request.command, self.outside.clock.now()).and_then(|wish| {
            let entry = EntryKind::Operator { who: request.who.clone(), what: wish.words() };
            self.fulfil(entry, &wish).map(|()| wish.words())
        });
        self.models.publish();
        tracing::info!(who = request.who, ?answer, "a command for the models");
        let _ = request.reply.send(answer);
    }

    /// Shows somebody the windows of a cell.
    fn show(&self, request: WindowsRequest) {
        let windows = self.outside.collector.borrow_mut().windows_of(&request.cell, self.outside.clock.now());
        // Who asked may have gone away.
        let _ = request.reply.send(windows);
    }

    /// Tells a director that was started anew whom to watch.
    fn greet(&mut self) {
        if self.keeper.is_none() {
            return;
        }
        let pid = std::fs::metadata(self.director_dir.join("director.pid"))
            .ok()
            .and_then(|m| m.modified().ok())
            .and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok())
            .map(|d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX));
        if pid.is_some() && self.greeted != pid && hello(&self.director_dir).is_ok() {
            self.greeted = pid;
        }
    }

    fn obey(&mut self, request: OperatorRequest) {
        let answer = self.command(&request.who, &request.command);
        let answer = answer.map(|()| "taken up with the next tick".to_owned());
        // Who asked may have gone away; the command counts all the same.
        let _ = request.reply.send(answer);
    }

    fn command(&mut self, who: &str, command: &OperatorCommand) -> Result<(), String> {
        let mut telemetry = self.outside.telemetry();
        let mut ports = self.outside.ports(&mut telemetry);
        self.controller.command(who, command, &mut ports).map_err(|e| e.to_string())
    }

    fn take_over_changes(&mut self) {
        let new = match self.watched.look() {
            Look::Same => return,
            Look::Wrong(errors) => {
                tracing::error!("the changed configuration is wrong and the old one stays:\n{errors}");
                let what = format!(
                    "a changed configuration was refused: {}",
                    errors.lines().next().unwrap_or_default()
                );
                let (curve, reach) = self.models.operating();
                let (topology, _) = assemble::topology_by(&self.config.borrow(), &curve, reach);
                self.controller.set_topology(topology, what);
                return;
            }
            Look::Changed(new) => *new,
        };
        match scheduled(&new) {
            Ok(experiments) => self.drills.set(experiments, new.engine.drills.allowed),
            Err(error) => {
                tracing::error!(%error, "the changed configuration can't be taken over and the old one stays");
                return;
            }
        }
        let restart = forefend_config::needs_restart(&self.config.borrow(), &new);
        if !restart.is_empty() {
            tracing::warn!("these changes count from the next start on: {}", restart.join(", "));
        }
        if let Err(error) = self.blueprints.take_over(&new, &self.outside.store) {
            tracing::error!(%error, "the changed configuration can't be taken over and the old one stays");
            return;
        }
        let words = forefend_config::diff(&self.config.borrow(), &new).join("; ");
        tracing::info!("configuration taken over: {words}");
        self.outside.director.client.set_settings(assemble::settings(&new));
        self.outside.director.take_objectives(&new);
        self.models.configure(&new);
        let (curve, reach) = self.models.operating();
        let (topology, moved) = assemble::topology_by(&new, &curve, reach);
        let words = std::iter::once(words).chain(moved).collect::<Vec<_>>().join("; ");
        self.controller.set_topology(topology, format!("configuration taken over: {words}"));
        self.outside.cells.config.replace(new.clone());
        self.config.replace(new);
    }

    fn end(mut self, options: &EngineOptions) {
        self.stop.send_replace(true);
        if let Some(keeper) = &self.keeper {
            keeper.let_go();
        }
        if let Err(error) = self.outside.director.client.goodbye() {
            tracing::warn!(%error, "the director was not told");
        }
        tracing::info!(
            "the engine ends; the director and the cells go on serving. `forefend stop -c {}` ends them too",
            options.config.display()
        );
    }
}
