//! From the file's words to the domain's.

use std::{net::SocketAddr, time::Duration};

use forefend_domain::{
    Cell, DataPolicy, MetricKind, Objective, Policy, Probability, RegionId, ReliefPolicy, Service, ServiceId,
    ServiceWeights, Stage, Tier, Weight, ZoneId,
};

use crate::{
    model::{Config, ObjectiveConfig, PolicyConfig, PrometheusMetricConfig, ServiceConfig},
    weights,
};

/// A cell of the file: identity, place, and where it listens if somebody else runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredCell {
    /// Identity and place.
    pub cell: Cell,
    /// Where it listens; `None` for a cell made from a blueprint, which its driver places.
    pub address: Option<SocketAddr>,
}

impl Config {
    /// The services as the domain knows them, by name.
    #[must_use]
    pub fn services(&self) -> Vec<Service> {
        let service = |(id, config): (&ServiceId, &ServiceConfig)| Service {
            id: id.clone(),
            tier: config.tier,
            objective: (&config.objective).into(),
            policy: config.policy(),
            mirror_blueprint: config.mirror.as_ref().map(|mirror| mirror.blueprint.clone()),
            mirror_zones: self.mirror_zones(config),
        };
        self.services.iter().map(service).collect()
    }

    /// Where synthetic cells of the service may be placed, most wanted first; every zone when the file names none.
    fn mirror_zones(&self, service: &ServiceConfig) -> Vec<(RegionId, ZoneId)> {
        let Some(mirror) = &service.mirror else { return Vec::new() };
        let all: Vec<(RegionId, ZoneId)> = self
            .regions
            .iter()
            .flat_map(|(id, region)| region.zones.iter().map(|zone| (id.clone(), zone.clone())))
            .collect();
        if mirror.zones.is_empty() {
            return all;
        }
        mirror.zones.iter().filter_map(|zone| all.iter().find(|(_, z)| z == zone).cloned()).collect()
    }

    /// The cells of all services in the order of the file.
    #[must_use]
    pub fn cells(&self) -> Vec<ConfiguredCell> {
        let mut cells = Vec::new();
        for (id, service) in &self.services {
            let home = weights::home_weights(self, service).ok();
            for cell in &service.cells {
                let Some(region) = weights::region_of(self, cell) else { continue };
                let home_weight = home
                    .as_ref()
                    .and_then(|home| home.cells().get(region)?.get(&cell.id).copied())
                    .unwrap_or(Weight::ZERO);
                cells.push(ConfiguredCell {
                    cell: Cell {
                        id: cell.id.clone(),
                        service: id.clone(),
                        region: region.clone(),
                        zone: cell.zone.clone(),
                        role: cell.role.into(),
                        home_weight,
                        blueprint: cell.blueprint.clone(),
                    },
                    address: cell.address,
                });
            }
        }
        cells
    }

    /// Where the service's traffic goes when nothing is shifted; `None` when there is no such service.
    #[must_use]
    pub fn home_weights(&self, service: &ServiceId) -> Option<ServiceWeights> {
        weights::home_weights(self, self.services.get(service)?).ok()
    }

    /// What is legal and yet probably not meant, in words.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        let mut hints = Vec::new();
        if let Some(prometheus) = &self.engine.prometheus
            && (prometheus.token.is_some() || prometheus.password.is_some())
            && prometheus.url.0.starts_with("http://")
        {
            hints.push(
                "engine.prometheus shows a secret over plain HTTP: everybody on the way can read it; write `https://` if it speaks TLS".to_owned(),
            );
        }
        if let Some(prometheus) = &self.engine.prometheus {
            let fills = |metric: &PrometheusMetricConfig| {
                metric.kind.is_none_or(|kind| kind == MetricKind::Exhaustible)
            };
            let limited = prometheus
                .metrics
                .iter()
                .filter(|(_, m)| fills(m) && (m.limit.is_some() || m.limit_query.is_some()));
            hints.extend(limited.filter_map(|(name, _)| is_rather_left("engine.prometheus", name)));
        }
        for (id, service) in &self.services {
            let metrics = service.telemetry.iter().flat_map(|telemetry| &telemetry.metrics);
            let fills = metrics.filter(|metric| metric.kind == MetricKind::Exhaustible);
            hints.extend(fills.filter_map(|m| is_rather_left(&format!("services.{id}.telemetry"), &m.name)));
            let policy = service.policy();
            if policy.mode != forefend_domain::Mode::Observe && policy.data == DataPolicy::Pinned {
                hints.push(format!(
                    "services.{id}.policy.data is `pinned`, so no prediction moves traffic; say `data: stateless` if cells share no state"
                ));
            }
            if service.mirror.is_none() && service.cells.len() < 2 {
                hints.push(format!(
                    "services.{id} has one cell and no mirror: nothing could take its traffic"
                ));
            }
        }
        hints
    }
}

/// A hint where the name of a metric says that it runs out, and its kind that it fills up: its limit would count as reached for ever.
fn is_rather_left(place: &str, name: &str) -> Option<String> {
    const LEFT: [&str; 6] = ["free", "avail", "available", "remaining", "left", "headroom"];
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let word = words.find(|word| LEFT.iter().any(|left| word.eq_ignore_ascii_case(left)))?;
    Some(format!(
        "{place}: `{name}` is `exhaustible`, so it must not rise to its limit; if it is what is {word}, it must not fall to it: say `kind: depletable`"
    ))
}

impl From<&ObjectiveConfig> for Objective {
    fn from(config: &ObjectiveConfig) -> Self {
        Self {
            latency: config.latency,
            slow_share: config.slow_share.get(),
            error_share: config.error_share.get(),
            failed_for: config.failed_for,
        }
    }
}

/// What a policy is when nothing is written about it.
#[must_use]
pub fn default_policy(tier: Tier) -> Policy {
    let mut policy = Policy::default();
    let p = |share| Probability::clamped(share, Probability::ZERO);
    match tier {
        Tier::Standard => {}
        Tier::Critical => {
            // One warm cell at all times, made ready earlier and with more time to spare.
            policy.standby.min = 1;
            policy.standby.max = 4;
            policy.standby.passport_valid_for = Duration::from_secs(30 * 60);
            policy.trigger.prepare_at = p(0.1);
            policy.trigger.margin = Duration::from_secs(60);
        }
        Tier::BestEffort => {
            // Cheap: a move must be more likely to be needed before anything is made.
            policy.standby.max = 1;
            policy.standby.retire_after = Duration::from_secs(10 * 60);
            policy.trigger.prepare_at = p(0.4);
            policy.trigger.shift_at = p(0.8);
            policy.canary.warm_requests = 5;
        }
    }
    policy
}

impl ServiceConfig {
    /// The policy with its tier's defaults filled in.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let mut policy = default_policy(self.tier);
        if self.mirror.is_none() {
            // Nothing to make synthetic cells from.
            policy.standby.min = 0;
        }
        self.policy.apply_to(&mut policy);
        policy
    }
}

fn set<T: Clone>(target: &mut T, written: &Option<T>) {
    if let Some(value) = written {
        *target = value.clone();
    }
}

impl PolicyConfig {
    fn apply_to(&self, policy: &mut Policy) {
        set(&mut policy.mode, &self.mode);
        set(&mut policy.horizon, &self.horizon);
        set(&mut policy.stale_after, &self.stale_after);
        policy.capacity_per_cell = self.capacity_per_cell;
        if let Some(data) = &self.data {
            policy.data = data.into();
        }
        let (from, to) = (&self.trigger, &mut policy.trigger);
        set(&mut to.prepare_at, &from.prepare_at);
        set(&mut to.shift_at, &from.shift_at);
        set(&mut to.clear_below, &from.clear_below);
        set(&mut to.hits, &from.hits);
        set(&mut to.of_ticks, &from.of_ticks);
        set(&mut to.margin, &from.margin);
        let (from, to) = (&self.canary, &mut policy.canary);
        set(&mut to.first, &from.first);
        set(&mut to.steps, &from.steps);
        set(&mut to.tolerated_harm, &from.tolerated_harm.map(|share| share.get()));
        set(&mut to.warm_requests, &from.warm_requests);
        let (from, to) = (&self.pre_test, &mut policy.pre_test);
        set(&mut to.cap, &from.cap);
        set(&mut to.from, &from.from);
        let (from, to) = (&self.give_back, &mut policy.give_back);
        set(&mut to.healthy_for, &from.healthy_for);
        set(&mut to.bp_per_second, &from.rate.map(|rate| rate.bp_per_second));
        policy.relief = self.relief.as_ref().map(|relief| ReliefPolicy {
            above: relief.above.get(),
            below: relief.below.get(),
            at_most: relief.at_most,
        });
        let (from, to) = (&self.standby, &mut policy.standby);
        set(&mut to.min, &from.min);
        set(&mut to.max, &from.max);
        set(&mut to.freeze_when_idle, &from.freeze_when_idle);
        set(&mut to.retire_after, &from.retire_after);
        set(&mut to.passport_valid_for, &from.passport_valid_for);
        let (from, to) = (&self.budgets, &mut policy.budgets);
        set(&mut to.max_cells_in_motion, &from.max_cells_in_motion);
        set(&mut to.max_weight_in_motion, &from.max_weight_in_motion);
        set(&mut to.refractory, &from.refractory);
        set(&mut to.headroom, &from.headroom.map(|share| share.get()));
        let priors = &self.lead_times;
        let stages = [
            (Stage::Create, priors.create),
            (Stage::WarmUp, priors.warm_up),
            (Stage::Earn, priors.earn),
            (Stage::Drain, priors.drain),
            (Stage::Propagate, priors.propagate),
        ];
        for (stage, prior) in stages {
            if let Some(prior) = prior {
                policy.lead_time_priors.insert(stage, prior);
            }
        }
    }
}
