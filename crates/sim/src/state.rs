//! The made-up world itself: cells that leak, creep, die and recover, and a data plane between them and the users.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use forefend_domain::{
    Cell, CellHealth, CellId, Effect, EntryKind, LedgerEntry, Sample, ServiceId, ServiceWeights, Stage,
    Timestamp, Weight,
    ports::{CellReport, Routing},
};

use crate::{
    random::Random,
    topology::{LATENCY_OBJECTIVE_MS, MEMORY_LIMIT, TICK},
};

/// Samples kept per metric.
const WINDOW: usize = 64;

/// How long the data plane takes to notice that a cell is gone.
const NOTICED_AFTER: Duration = Duration::from_millis(750);

/// How far a made-up driver is with a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Making {
    Creating { until: Timestamp },
    Warming { until: Timestamp },
    Ready,
    Parked,
    Failed,
}

#[derive(Debug, Clone)]
pub(crate) struct SimCell {
    pub(crate) cell: Cell,
    pub(crate) address: SocketAddr,
    /// Whether the driver made it.
    pub(crate) managed: bool,
    pub(crate) making: Making,
    pub(crate) warmed_at: Option<Timestamp>,
    pub(crate) warm_ok: u32,
    pub(crate) took: Vec<(Stage, Duration)>,
    pub(crate) down_since: Option<Timestamp>,
    /// When a cell that somebody else runs comes back by itself.
    pub(crate) revives_at: Option<Timestamp>,
    pub(crate) memory: f64,
    pub(crate) leak_per_s: f64,
    pub(crate) latency_ms: f64,
    pub(crate) creep_ms_per_s: f64,
    /// Share of requests it answers with an error although it seems well: a bad mirror.
    pub(crate) bad_share: f64,
    pub(crate) rate: f64,
    pub(crate) totals: Totals,
    pub(crate) metrics: BTreeMap<&'static str, VecDeque<Sample>>,
    pub(crate) blind_until: Timestamp,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) slow: u64,
}

/// Until when each port misbehaves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outages {
    pub(crate) data_plane: Timestamp,
    pub(crate) applies_lost: Timestamp,
    pub(crate) store: Timestamp,
    pub(crate) driver: Timestamp,
    pub(crate) creations_fail: Timestamp,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) random: Random,
    pub(crate) now: Timestamp,
    pub(crate) users_per_s: f64,
    pub(crate) spike: f64,
    pub(crate) spike_until: Timestamp,
    pub(crate) cells: BTreeMap<CellId, SimCell>,
    /// What the data plane applies.
    pub(crate) applied: Routing,
    pub(crate) incarnation: u64,
    pub(crate) applying: VecDeque<(Timestamp, Routing)>,
    pub(crate) outages: Outages,
    pub(crate) ledger: Vec<LedgerEntry>,
    pub(crate) memory: Option<Vec<u8>>,
    /// Effects that the ledger holds and that were not yet carried out in this tick.
    pub(crate) authorised: Vec<Effect>,
    pub(crate) frozen: bool,
    /// What the world itself found wrong, for the run to report.
    pub(crate) findings: Vec<String>,
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) slow: u64,
    pub(crate) next_port: u16,
    pub(crate) vanished: BTreeSet<CellId>,
}

impl SimCell {
    pub(crate) fn new(
        cell: Cell,
        address: SocketAddr,
        managed: bool,
        making: Making,
        random: &mut Random,
    ) -> Self {
        Self {
            cell,
            address,
            managed,
            making,
            warmed_at: None,
            warm_ok: 0,
            took: Vec::new(),
            down_since: None,
            revives_at: None,
            memory: random.between(18.0, 24.0) * 1024.0 * 1024.0,
            leak_per_s: 0.0,
            latency_ms: random.between(3.0, 12.0),
            creep_ms_per_s: 0.0,
            bad_share: 0.0,
            rate: 0.0,
            totals: Totals::default(),
            metrics: BTreeMap::new(),
            blind_until: Timestamp::default(),
        }
    }

    pub(crate) fn answers(&self) -> bool {
        self.down_since.is_none() && matches!(self.making, Making::Ready | Making::Warming { .. })
    }

    fn is_noticed_down(&self, now: Timestamp) -> bool {
        self.down_since.is_some_and(|since| now.since(since) >= NOTICED_AFTER)
            || matches!(self.making, Making::Failed | Making::Parked | Making::Creating { .. })
    }

    pub(crate) fn break_down(&mut self, now: Timestamp) {
        if self.down_since.is_none() {
            self.down_since = Some(now);
        }
        if self.managed {
            self.making = Making::Failed;
        } else {
            self.revives_at = Some(now + Duration::from_secs(4));
        }
    }

    pub(crate) fn heal(&mut self) {
        self.down_since = None;
        self.leak_per_s = 0.0;
        self.creep_ms_per_s = 0.0;
        self.latency_ms = self.latency_ms.min(12.0);
        self.memory = self.memory.min(22.0 * 1024.0 * 1024.0);
    }
}

impl State {
    pub(crate) fn weights(&self, service: &ServiceId) -> Option<&ServiceWeights> {
        self.applied.services.get(service).map(|s| &s.weights)
    }

    /// One tick of the world, before the loop looks at it.
    pub(crate) fn advance(&mut self) {
        self.now = self.now + TICK;
        self.apply_what_is_due();
        self.make_progress();
        self.serve_users();
        self.age_cells();
        self.measure();
    }

    fn apply_what_is_due(&mut self) {
        while self.applying.front().is_some_and(|(at, _)| *at <= self.now) {
            if let Some((_, routing)) = self.applying.pop_front()
                && routing.generation > self.applied.generation
            {
                self.applied = routing;
            }
        }
    }

    fn make_progress(&mut self) {
        let creations_fail = self.now < self.outages.creations_fail;
        let now = self.now;
        for cell in self.cells.values_mut() {
            match cell.making {
                Making::Creating { until } if until <= now => {
                    if creations_fail {
                        cell.making = Making::Failed;
                        continue;
                    }
                    cell.took.push((Stage::Create, Duration::from_millis(500)));
                    cell.heal();
                    cell.making =
                        Making::Warming { until: now + Duration::from_millis(self.random.pick(250, 2_000)) };
                }
                Making::Warming { until } if until <= now => {
                    cell.took.push((Stage::WarmUp, Duration::from_millis(800)));
                    cell.warmed_at = Some(now);
                    cell.warm_ok = 40;
                    cell.making = Making::Ready;
                }
                Making::Creating { .. }
                | Making::Warming { .. }
                | Making::Ready
                | Making::Parked
                | Making::Failed => {}
            }
            if cell.revives_at.is_some_and(|at| at <= now) {
                cell.revives_at = None;
                cell.heal();
            }
        }
    }

    fn serve_users(&mut self) {
        let spike = if self.now < self.spike_until { self.spike } else { 1.0 };
        let total = self.users_per_s * spike * TICK.as_secs_f64();
        let shares: BTreeMap<CellId, f64> = self
            .applied
            .services
            .values()
            .flat_map(|s| s.weights.shares())
            .map(|((_, cell), share)| (cell, share))
            .filter(|(_, share)| *share > 0.0)
            .collect();
        let now = self.now;
        // The data plane's own ejection: who is noticed as down gets nothing, unless all are.
        let usable: f64 = shares
            .iter()
            .filter(|(id, _)| self.cells.get(*id).is_some_and(|c| !c.is_noticed_down(now)))
            .map(|(_, share)| share)
            .sum();
        for cell in self.cells.values_mut() {
            cell.rate = 0.0;
        }
        for (id, share) in shares {
            let Some(cell) = self.cells.get_mut(&id) else {
                self.failed += self.random.about(total * share);
                continue;
            };
            if usable > 0.0 && cell.is_noticed_down(now) {
                continue;
            }
            let part = if usable > 0.0 { share / usable } else { share };
            let requests = self.random.about(total * part);
            let errors =
                if cell.answers() { self.random.about(requests as f64 * cell.bad_share) } else { requests };
            let slow = if cell.latency_ms > LATENCY_OBJECTIVE_MS { requests - errors } else { 0 };
            cell.rate = requests as f64 / TICK.as_secs_f64();
            cell.totals.requests += requests;
            cell.totals.errors += errors;
            cell.totals.slow += slow;
            self.requests += requests;
            self.failed += errors;
            self.slow += slow;
        }
    }

    fn age_cells(&mut self) {
        let seconds = TICK.as_secs_f64();
        for cell in self.cells.values_mut().filter(|c| c.making == Making::Ready && c.down_since.is_none()) {
            cell.memory += cell.leak_per_s * seconds * self.random.between(0.9, 1.1);
            cell.latency_ms = (cell.latency_ms + cell.creep_ms_per_s * seconds).max(2.0);
            if cell.memory >= MEMORY_LIMIT {
                cell.break_down(self.now);
            }
        }
    }

    fn measure(&mut self) {
        let now = self.now;
        for cell in self.cells.values_mut() {
            let seen = cell.answers() && now >= cell.blind_until;
            let noise = self.random.between(-1.0, 1.0);
            let readings = [
                ("memory_working_set_bytes", cell.memory + noise * 200_000.0),
                ("latency_p99_ms", cell.latency_ms * (1.0 + 0.2 * noise.abs())),
                ("cpu_utilisation_ratio", (cell.rate / 1_000.0 + 0.02 * noise).max(0.0)),
            ];
            for (name, value) in readings {
                let samples = cell.metrics.entry(name).or_default();
                samples.push_back(Sample { at: now, value: seen.then_some(value) });
                if samples.len() > WINDOW {
                    samples.pop_front();
                }
            }
        }
    }

    pub(crate) fn reports(&self) -> BTreeMap<CellId, CellReport> {
        self.cells
            .iter()
            .filter(|(id, _)| self.applied.services.values().any(|s| s.cells.iter().any(|r| r.cell == **id)))
            .map(|(id, cell)| {
                let parked = cell.making == Making::Parked;
                let report = CellReport {
                    requests: cell.totals.requests,
                    errors: cell.totals.errors,
                    slow: cell.totals.slow,
                    in_flight: 0,
                    p50: None,
                    p99: None,
                    health: if parked {
                        CellHealth::Unknown
                    } else if cell.is_noticed_down(self.now) {
                        CellHealth::Down
                    } else {
                        CellHealth::Up
                    },
                    why: String::new(),
                };
                (id.clone(), report)
            })
            .collect()
    }

    /// What only the world can know of weights that are asked for: growth goes to cells that are ready in truth, never during a
    /// freeze, and only when the ledger holds it.
    pub(crate) fn judge_weights(&mut self, asked: &Routing) {
        for (service, routing) in &asked.services {
            let Some(old) = self.applied.services.get(service).map(|s| s.weights.clone()) else { continue };
            if old == routing.weights {
                continue;
            }
            let written = self.authorised.iter().any(
                |e| matches!(e, Effect::SetWeights { service: s, weights } if s == service && *weights == routing.weights),
            );
            let resent = self
                .applying
                .iter()
                .any(|(_, r)| r.services.get(service).is_some_and(|s| s.weights == routing.weights));
            if !written && !resent {
                self.findings
                    .push(format!("ledger_before_action: weights of {service} were asked for unwritten"));
            }
            for ((_, id), share) in routing.weights.shares() {
                if share <= old.share(&id) + 0.000_3 {
                    continue;
                }
                if self.frozen {
                    self.findings
                        .push(format!("frozen_holds: {id} would grow to {share:.4} during a freeze"));
                }
                let ready = self.cells.get(&id).is_some_and(|c| c.making == Making::Ready || !c.managed);
                let standby = self.cells.get(&id).is_some_and(|c| c.cell.home_weight == Weight::ZERO);
                if !ready && standby && !self.is_home(service, &id) {
                    let making = self.cells.get(&id).map(|c| c.making.clone());
                    self.findings.push(format!(
                        "only_ready_cells_get_weight: {id} is {making:?} and would get {share:.4}"
                    ));
                }
            }
        }
    }

    fn is_home(&self, _service: &ServiceId, cell: &CellId) -> bool {
        self.cells.get(cell).is_some_and(|c| c.cell.role != forefend_domain::CellRole::Synthetic)
    }

    pub(crate) fn take_authorisation(&mut self, effect: &Effect) {
        match self.authorised.iter().position(|e| e == effect) {
            Some(at) => {
                self.authorised.remove(at);
            }
            None => self
                .findings
                .push(format!("ledger_before_action: {effect:?} was not written before it was asked for")),
        }
    }

    pub(crate) fn write(
        &mut self,
        kinds: &[(Option<ServiceId>, EntryKind)],
        at: Timestamp,
        memory: &[u8],
    ) -> Vec<forefend_domain::LedgerSeq> {
        self.authorised.clear();
        let mut seqs = Vec::new();
        for (service, kind) in kinds {
            if let EntryKind::Decision { effects, .. } = kind {
                self.authorised.extend(effects.iter().cloned());
            }
            if let EntryKind::InvariantBroken { invariant, detail } = kind {
                self.findings.push(format!("{invariant}: {detail}"));
            }
            let seq = forefend_domain::LedgerSeq(self.ledger.len() as u64 + 1);
            self.ledger.push(LedgerEntry { seq, at, service: service.clone(), kind: kind.clone() });
            seqs.push(seq);
        }
        self.memory = Some(memory.to_vec());
        seqs
    }
}
