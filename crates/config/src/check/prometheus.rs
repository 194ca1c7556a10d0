use std::{collections::BTreeMap, time::Duration};

use forefend_domain::MetricKind;

use super::Check;
use crate::{
    model::{PrometheusConfig, PrometheusMetricConfig},
    reading::Trail,
};

/// A question a metric, and each costs Prometheus.
const MOST_METRICS: usize = 128;

impl Check<'_, '_, '_> {
    pub(super) fn prometheus(&mut self, at: &Trail<'_>, prometheus: &PrometheusConfig) {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        let window = &self.config.engine.window;
        let interval = at.key("interval");
        self.range(&interval, &prometheus.interval, ms(100), s(300));
        if prometheus.interval < window.step && self.reading.clean(&interval) {
            let remedy = "ask as often as the window has steps, or less: the others would be read in vain";
            self.wrong(&interval, "this is shorter than `engine.window.step`", remedy);
        }
        for (id, service) in &self.config.services {
            let stale_after = service.policy().stale_after;
            if self.reading.clean(&interval) {
                self.at_most(
                    &interval,
                    &prometheus.interval,
                    &stale_after,
                    &format!("services.{id}.policy.stale_after"),
                );
            }
        }
        self.access(at, prometheus);
        self.range(&at.key("timeout"), &prometheus.timeout, ms(100), s(60));
        if let Some(look_back) = &prometheus.look_back {
            self.at_most(&at.key("look_back"), look_back, &window.length, "engine.window.length");
        }
        self.range(&at.key("overlap"), &prometheus.overlap, s(0), s(600));
        self.range(&at.key("fresh_for"), &prometheus.fresh_for, s(1), s(300));
        let labels = at.key("cell_labels");
        if prometheus.cell_labels.is_empty() && self.reading.clean(&labels) {
            let remedy = "name one, for example `[instance]`, or leave the key out";
            self.wrong(&labels, "without a label nothing says which cell a series is of", remedy);
        }
        let metrics = at.key("metrics");
        if prometheus.metrics.is_empty() && self.reading.clean(&metrics) {
            let remedy = "add one: `memory: { query: process_resident_memory_bytes }`";
            self.wrong(&metrics, "nothing is asked for", remedy);
        }
        if prometheus.metrics.len() > MOST_METRICS {
            let what = format!("{} metrics are too many", prometheus.metrics.len());
            self.wrong(&metrics, what, format!("keep at most {MOST_METRICS}: those that announce failures"));
        }
        for (name, metric) in &prometheus.metrics {
            self.prometheus_metric(&metrics.key(name), metric);
        }
    }

    /// What it is shown, and by whom it is vouched for.
    fn access(&mut self, at: &Trail<'_>, prometheus: &PrometheusConfig) {
        for (key, secret) in [("token", &prometheus.token), ("password", &prometheus.password)] {
            if let Some(secret) = secret {
                self.secret(&at.key(key), secret);
            }
        }
        let (user, password) = (&prometheus.user, &prometheus.password);
        if prometheus.token.is_some() && (user.is_some() || password.is_some()) {
            let remedy = "keep either `token`, or `user` and `password`";
            self.wrong(&at.key("token"), "it is shown a token and a user's password", remedy);
        } else if user.is_some() != password.is_some() && self.reading.clean(at) {
            let (key, other) = if user.is_some() {
                ("user", "password: { file: PATH }")
            } else {
                ("password", "user: NAME")
            };
            self.wrong(&at.key(key), "a user and a password go together", format!("add `{other}`"));
        }
        if user.as_ref().is_some_and(|user| user.is_empty() || user.contains(':')) {
            let remedy = "write the name as its file of users has it; the password stands apart";
            self.wrong(&at.key("user"), "this is no name of a user: it is empty or holds a colon", remedy);
        }
        if prometheus.ca.is_some()
            && !prometheus.url.0.starts_with("https://")
            && self.reading.clean(&at.key("url"))
        {
            let remedy = "write its URL with `https://`, or leave `ca` out";
            self.wrong(&at.key("ca"), "nobody vouches for what is not spoken to over TLS", remedy);
        }
    }

    fn prometheus_metric(&mut self, at: &Trail<'_>, metric: &PrometheusMetricConfig) {
        self.expression(&at.key("query"), &metric.query);
        if let Some(query) = &metric.limit_query {
            self.expression(&at.key("limit_query"), query);
        }
        let limited = metric.limit.is_some() || metric.limit_query.is_some();
        if metric.limit.is_some() && metric.limit_query.is_some() {
            self.wrong(at, "a metric has both `limit` and `limit_query`", "keep one of the two");
        }
        if metric.kind.is_some_and(|kind| kind != MetricKind::Unbounded) && !limited && self.reading.clean(at)
        {
            let remedy = "add `limit` or `limit_query`, or make it `kind: unbounded`";
            self.wrong(&at.key("kind"), "a metric of this kind needs a limit", remedy);
        }
        let kind = metric.kind.unwrap_or(MetricKind::Exhaustible);
        self.height(&at.key("limit"), kind, metric.limit.as_ref());
    }

    /// What Prometheus alone can't tell; whether it is PromQL it says itself.
    fn expression(&mut self, at: &Trail<'_>, expression: &str) {
        const LONGEST: usize = 4_096;
        if expression.trim().is_empty() {
            let remedy = "write what Prometheus is to be asked, for example `process_resident_memory_bytes`";
            return self.wrong(at, "an empty expression asks for nothing", remedy);
        }
        if expression.len() > LONGEST {
            let what = format!("an expression of {} bytes is too long to be asked", expression.len());
            return self.wrong(at, what, "make a recording rule of it in Prometheus, and ask for that");
        }
        // At the end of a regular expression it is fine.
        let mut after = expression.split('$').skip(1).filter_map(|rest| rest.chars().next());
        if after.any(|c| c.is_ascii_alphabetic() || c == '_') {
            let remedy = "leave that matcher out, and name its label under `cell_labels`, or at the cells: `known_as: { pod: NAME }`";
            self.wrong(at, "an expression is asked once, of all cells, so `$` stands for no cell", remedy);
        }
    }

    /// By what Prometheus knows cells.
    pub(super) fn known_as(&mut self) {
        let config = self.config;
        let (engine, services) = (Trail::ROOT.key("engine"), Trail::ROOT.key("services"));
        let mut known: BTreeMap<&BTreeMap<String, String>, String> = BTreeMap::new();
        for (id, service) in &config.services {
            let service_at = services.key(id.as_str());
            let cells = service_at.key("cells");
            for (i, cell) in service.cells.iter().enumerate().filter(|(_, cell)| !cell.known_as.is_empty()) {
                let at = cells.index(i);
                let at = at.key("known_as");
                if config.engine.prometheus.is_none() && self.reading.clean(&engine.key("prometheus")) {
                    let remedy = "add `engine.prometheus`, or leave the key out";
                    self.wrong(&at, "there is no Prometheus that could know it so", remedy);
                }
                if let Some(other) = known.insert(&cell.known_as, format!("{cells}[{i}]")) {
                    let what = format!("`{other}` is known by the same labels");
                    self.wrong(&at, what, "give each cell labels that no other has");
                }
            }
        }
    }
}
