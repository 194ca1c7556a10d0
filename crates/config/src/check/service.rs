use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use forefend_domain::{MetricKind, Probability, Weight};

use super::Check;
use crate::{
    model::{CellConfig, Limit, MirrorConfig, ScrapeConfig, ServiceConfig},
    reading::{Trail, suggestion},
    setting::{Share, Size},
    weights::{self, WeightPlace},
};

impl Check<'_, '_, '_> {
    pub(super) fn service(&mut self, at: &Trail<'_>, service: &ServiceConfig) {
        self.objective(at, service);
        self.listen(at, service);
        self.director(at, service);
        self.telemetry(at, service);
        self.logs(at, service);
        self.policy(at, service);
        if let Some(mirror) = &service.mirror {
            self.mirror(&at.key("mirror"), mirror);
        } else if service.policy.standby.min.is_some_and(|min| min > 0) {
            let (policy, remedy) =
                (at.key("policy"), "add `mirror: { blueprint: NAME }`, or leave `min` out");
            let standby = policy.key("standby");
            self.wrong(&standby.key("min"), "there is no mirror to make standbys from", remedy);
        }
        let cells = at.key("cells");
        if service.cells.is_empty() && self.reading.clean(&cells) {
            self.wrong(
                &cells,
                "the service has no cell",
                "add one: `- { id: NAME, zone: ZONE, address: 127.0.0.1:8081 }`",
            );
        }
        for (i, cell) in service.cells.iter().enumerate() {
            self.cell(&cells, i, cell);
        }
        self.weights(at, service);
    }

    fn objective(&mut self, at: &Trail<'_>, service: &ServiceConfig) {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        let at = at.key("objective");
        let objective = &service.objective;
        self.range(&at.key("latency"), &objective.latency, ms(1), s(600));
        self.range(&at.key("failed_for"), &objective.failed_for, s(1), s(3_600));
        self.range(&at.key("slow_share"), &objective.slow_share, Share::percent(0.0), Share::percent(99.0));
        self.range(&at.key("error_share"), &objective.error_share, Share::percent(0.0), Share::percent(99.0));
    }

    fn listen(&mut self, at: &Trail<'_>, service: &ServiceConfig) {
        let at = at.key("listen");
        if service.listen.0.is_empty() && self.reading.clean(&at) {
            self.wrong(
                &at,
                "the service listens nowhere",
                "write at least one address, for example `127.0.0.1:8080`",
            );
        }
        let list = matches!(at.find(self.root).value, crate::tree::Value::List(_));
        for (i, address) in service.listen.0.iter().enumerate() {
            let one = if list { at.index(i) } else { at };
            self.port_number(&one, address.port());
            self.listens(*address, &one);
        }
    }

    fn director(&mut self, at: &Trail<'_>, service: &ServiceConfig) {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        let (timeouts, here) = (&service.timeouts, at.key("timeouts"));
        self.range(&here.key("request"), &timeouts.request, ms(1), s(3_600));
        self.range(&here.key("per_try"), &timeouts.per_try, ms(1), s(3_600));
        self.at_most(&here.key("per_try"), &timeouts.per_try, &timeouts.request, "request");
        self.range(&here.key("connect"), &timeouts.connect, ms(1), s(60));
        self.at_most(&here.key("connect"), &timeouts.connect, &timeouts.request, "request");
        self.range(&here.key("drain"), &timeouts.drain, ms(0), s(3_600));
        let (retries, here) = (&service.retries, at.key("retries"));
        self.range(&here.key("max_tries"), &retries.max_tries, 1, 8);
        self.range(&here.key("max_body"), &retries.max_body, Size(0), Size(16 << 20));
        let (health, here) = (&service.health, at.key("health"));
        self.request_path(&here.key("path"), &health.path);
        self.range(&here.key("interval"), &health.interval, ms(10), s(3_600));
        self.range(&here.key("timeout"), &health.timeout, ms(1), s(3_600));
        self.at_most(&here.key("timeout"), &health.timeout, &health.interval, "interval");
        self.range(&here.key("unhealthy_after"), &health.unhealthy_after, 1, 100);
        self.range(&here.key("healthy_after"), &health.healthy_after, 1, 100);
        let (ejection, here) = (&service.ejection, at.key("ejection"));
        self.range(&here.key("base_duration"), &ejection.base_duration, ms(10), s(86_400));
        self.range(&here.key("max_duration"), &ejection.max_duration, ms(10), s(86_400));
        self.at_most(
            &here.key("base_duration"),
            &ejection.base_duration,
            &ejection.max_duration,
            "max_duration",
        );
        let (probe, here) = (&service.probe, at.key("probe"));
        if let Some(path) = &probe.path {
            self.request_path(&here.key("path"), path);
        }
        self.range(&here.key("interval"), &probe.interval, ms(50), s(3_600));
        self.range(&here.key("timeout"), &probe.timeout, ms(1), s(3_600));
        self.at_most(&here.key("timeout"), &probe.timeout, &probe.interval, "interval");
        self.range(&here.key("expect_from"), &probe.expect_from, 100, 599);
        self.range(&here.key("expect_to"), &probe.expect_to, 100, 599);
        self.at_most(&here.key("expect_from"), &probe.expect_from, &probe.expect_to, "expect_to");
    }

    fn telemetry(&mut self, at: &Trail<'_>, service: &ServiceConfig) {
        let Some(scrape) = &service.telemetry else { return };
        let stale_after = service.policy().stale_after;
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        let at = at.key("telemetry");
        self.request_path(&at.key("path"), &scrape.path);
        self.range(&at.key("interval"), &scrape.interval, ms(100), s(3_600));
        self.range(&at.key("timeout"), &scrape.timeout, ms(1), s(3_600));
        self.at_most(&at.key("timeout"), &scrape.timeout, &scrape.interval, "interval");
        self.at_most(&at.key("interval"), &scrape.interval, &stale_after, "policy.stale_after");
        if let Some(port) = scrape.port {
            self.port_number(&at.key("port"), port);
        }
        self.metrics(&at.key("metrics"), scrape);
    }

    fn metrics(&mut self, at: &Trail<'_>, scrape: &ScrapeConfig) {
        let mut seen = BTreeSet::new();
        for (i, metric) in scrape.metrics.iter().enumerate() {
            let at = at.index(i);
            if metric.name.is_empty() {
                self.wrong(&at.key("name"), "an empty name is no name", "write the name as exposed");
            }
            if !seen.insert((&metric.name, &metric.labels)) {
                let what = format!("the metric `{}` is taken twice", metric.name);
                self.wrong(&at.key("name"), what, "keep one of them, or tell them apart by `labels`");
            }
            if metric.limit.is_some() && metric.limit_metric.is_some() {
                self.wrong(&at, "a metric has both `limit` and `limit_metric`", "keep one of the two");
            }
            let limited = metric.limit.is_some() || metric.limit_metric.is_some();
            if metric.kind != MetricKind::Unbounded && !limited && self.reading.clean(&at) {
                let remedy = "add `limit` or `limit_metric`, or make it `kind: unbounded`";
                self.wrong(&at.key("kind"), "a metric of this kind needs a limit", remedy);
            }
            self.height(&at.key("limit"), metric.kind, metric.limit.as_ref());
        }
    }

    /// What fills up is compared with its limit, so that can't be nothing; what runs out may do so at any height.
    pub(super) fn height(&mut self, at: &Trail<'_>, kind: MetricKind, limit: Option<&Limit>) {
        if kind != MetricKind::Depletable && limit.is_some_and(|limit| limit.value <= 0.0) {
            let remedy =
                "write the value that must not be reached; what is to stay above one is `kind: depletable`";
            self.wrong(at, "a limit must be above 0", remedy);
        }
    }

    fn policy(&mut self, at: &Trail<'_>, service: &ServiceConfig) {
        let at = at.key("policy");
        if !self.reading.clean(&at) {
            return;
        }
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        let policy = service.policy();
        self.range(&at.key("horizon"), &policy.horizon, s(1), s(7 * 86_400));
        self.range(&at.key("stale_after"), &policy.stale_after, s(1), s(3_600));
        let canary = at.key("canary");
        if policy.canary.first == Weight::ZERO {
            self.wrong(&canary.key("first"), "an empty first cohort proves nothing", "choose more than `0%`");
        }
        if policy.canary.steps.first() == Some(&Weight::ZERO) {
            self.wrong(&canary.key("steps"), "a step of `0%` moves nothing", "begin above `0%`");
        }
        let trigger = at.key("trigger");
        if policy.trigger.shift_at == Probability::ZERO {
            self.wrong(
                &trigger.key("shift_at"),
                "at 0% every cell is always given up",
                "choose more than `0%`",
            );
        }
        if let Some(alarms) = &service.policy.trigger.false_alarms_per_1000_cell_weeks {
            self.range(&trigger.key("false_alarms_per_1000_cell_weeks"), alarms, 1, 1_000_000);
        }
        let budgets = at.key("budgets");
        self.range(&budgets.key("max_cells_in_motion"), &policy.budgets.max_cells_in_motion, 0, 100_000);
        self.range(&budgets.key("refractory"), &policy.budgets.refractory, ms(0), s(7 * 86_400));
        let standby = at.key("standby");
        self.range(&standby.key("max"), &policy.standby.max, 0, 10_000);
        // The domain names the broken rule by the same path as this file.
        if let Err(error) = policy.check() {
            let (section, key) = error.what.split_once('.').unwrap_or((error.what, ""));
            let here = at.key(section);
            let what = match error.found.as_str() {
                list if list.starts_with('[') => format!("{} does not fit", error.what),
                one => format!("{} is {}, which does not fit", error.what, show_number(one)),
            };
            let remedy = format!("{} must be {}", error.what, error.expected);
            if key.is_empty() {
                self.wrong(&here, what, remedy)
            } else {
                self.wrong(&here.key(key), what, remedy)
            }
        }
    }

    fn zone(&mut self, at: &Trail<'_>, zone: &forefend_domain::ZoneId) -> bool {
        if !self.zones_known {
            return false;
        }
        let config = self.config;
        let mut zones = config.regions.values().flat_map(|region| &region.zones);
        let known = zones.any(|z| z == zone);
        if !known {
            let all = config.regions.values().flat_map(|region| &region.zones).map(|z| z.as_str());
            self.wrong(at, format!("no region has a zone `{zone}`"), suggestion(zone.as_str(), all));
        }
        known
    }

    fn blueprint_exists(&mut self, at: &Trail<'_>, name: &forefend_domain::BlueprintName) {
        let config = self.config;
        if self.blueprints_known && !config.blueprints.contains_key(name) {
            let all = config.blueprints.keys().map(|b| b.as_str());
            self.wrong(at, format!("there is no blueprint `{name}`"), suggestion(name.as_str(), all));
        }
    }

    fn mirror(&mut self, at: &Trail<'_>, mirror: &MirrorConfig) {
        self.blueprint_exists(&at.key("blueprint"), &mirror.blueprint);
        let zones = at.key("zones");
        let mut seen = BTreeSet::new();
        for (i, zone) in mirror.zones.iter().enumerate() {
            let at = zones.index(i);
            if self.zone(&at, zone) && !seen.insert(zone) {
                self.wrong(&at, format!("zone `{zone}` is named twice"), "keep one of them");
            }
        }
    }

    fn cell(&mut self, cells: &Trail<'_>, i: usize, cell: &CellConfig) {
        let at = &cells.index(i);
        if let Some(other) = self.cells.get(&cell.id) {
            let what = format!("cell `{}` exists already at `{other}`", cell.id);
            self.wrong(&at.key("id"), what, "give each cell its own name, over all services");
        } else {
            self.cells.insert(cell.id.clone(), at.to_string());
        }
        if self.zone(&at.key("zone"), &cell.zone)
            && let Some(region) = &cell.region
        {
            let config = self.config;
            if !config.regions.contains_key(region) {
                let all = config.regions.keys().map(|r| r.as_str());
                self.wrong(
                    &at.key("region"),
                    format!("there is no region `{region}`"),
                    suggestion(region.as_str(), all),
                );
            } else if let Some(real) = weights::region_of(config, cell).filter(|real| *real != region) {
                let what = format!("zone `{}` is in region `{real}`, not in `{region}`", cell.zone);
                self.wrong(&at.key("region"), what, format!("write `{real}`, or leave the key out"));
            }
        }
        match (&cell.address, &cell.blueprint) {
            (Some(address), None) => self.cell_address(at, *address),
            (None, Some(blueprint)) => self.blueprint_exists(&at.key("blueprint"), blueprint),
            (Some(_), Some(_)) => {
                let remedy =
                    "keep `address` if somebody else runs the cell, `blueprint` if Forefend is to run it";
                self.wrong(at, format!("cell `{}` has both `address` and `blueprint`", cell.id), remedy);
            }
            (None, None) if self.reading.clean(at) => {
                let remedy = "add `address: 127.0.0.1:8081` if somebody else runs the cell, `blueprint: NAME` if Forefend is to run it";
                self.wrong(at, format!("cell `{}` has neither `address` nor `blueprint`", cell.id), remedy);
            }
            (None, None) => {}
        }
        if cell.blueprint.is_some() {
            let foreign = [
                ("pid_file", cell.pid_file.is_some()),
                ("cgroup", cell.cgroup.is_some()),
                ("metrics_address", cell.metrics_address.is_some()),
            ];
            for (key, _) in foreign.iter().filter(|(_, set)| *set) {
                let what = format!("`{key}` is for cells that somebody else runs");
                self.wrong(&at.key(key), what, "leave it out: Forefend knows the cells that it makes");
            }
        }
        if let Some(address) = cell.metrics_address {
            self.port_number(&at.key("metrics_address"), address.port());
        }
    }

    fn cell_address(&mut self, at: &Trail<'_>, address: SocketAddr) {
        let at = at.key("address");
        self.port_number(&at, address.port());
        if address.ip().is_unspecified() || address.ip().is_multicast() {
            let what = format!("{} is no address that a cell can be reached at", address.ip());
            self.wrong(
                &at,
                what,
                format!("write its real address, for example `127.0.0.1:{}`", address.port()),
            );
            return;
        }
        self.addresses.entry(address).or_default().push((at.to_string(), at.way()));
    }

    fn weights(&mut self, at: &Trail<'_>, service: &ServiceConfig) {
        let (cells, regions) = (at.key("cells"), at.key("region_weights"));
        let known = self.zones_known && self.reading.clean(&Trail::ROOT.key("regions"));
        if !known || service.cells.is_empty() || !self.reading.clean(&cells) || !self.reading.clean(&regions)
        {
            return;
        }
        if let Some(own) = &service.region_weights {
            let config = self.config;
            if let Some(unknown) = own.keys().find(|r| !config.regions.contains_key(*r)) {
                let all = config.regions.keys().map(|r| r.as_str());
                let remedy = suggestion(unknown.as_str(), all);
                return self.wrong(
                    &regions.key(unknown.as_str()),
                    format!("there is no region `{unknown}`"),
                    remedy,
                );
            }
        }
        if let Err(flaw) = weights::home_weights(self.config, service) {
            match flaw.at {
                None => self.wrong(at, flaw.what, flaw.remedy),
                Some(WeightPlace::Cells) => self.wrong(&cells, flaw.what, flaw.remedy),
                Some(WeightPlace::Cell(i)) => {
                    let cell = cells.index(i);
                    self.wrong(&cell.key("weight"), flaw.what, flaw.remedy);
                }
                Some(WeightPlace::RegionWeights(None)) => self.wrong(&regions, flaw.what, flaw.remedy),
                Some(WeightPlace::RegionWeights(Some(region))) => {
                    self.wrong(&regions.key(region.as_str()), flaw.what, flaw.remedy);
                }
            }
        }
    }
}

/// Shares are numbers from 0 to 1 in the domain and percentages here.
fn show_number(found: &str) -> String {
    match found.parse::<f64>() {
        Ok(share) if found.contains('.') || share == 0.0 => {
            crate::units::show_percent((share * 1e6).round() as u64)
        }
        _ => found.to_owned(),
    }
}
