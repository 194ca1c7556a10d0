//! What no single value can tell: ranges, names that must exist, addresses that must differ, weights that must add up.
//!
//! A part in which something could not be read is not checked further, so that one mistake is told once.

mod blueprint;
mod logs;
mod prometheus;
mod service;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use forefend_domain::{CellId, ZoneId};

use crate::{
    model::{ApiConfig, Config, ReceiveConfig, SecretConfig},
    reading::{Reading, Trail, Way, WayStep},
    setting::{Setting, Size},
    tree::Node,
    weights,
};

/// Checks everything, noting problems in the reading.
pub(crate) fn check(config: &Config, root: &Node, reading: &mut Reading<'_>) {
    let mut cx = Check {
        config,
        root,
        zones_known: reading.clean(&Trail::ROOT.key("regions")),
        blueprints_known: reading.clean(&Trail::ROOT.key("blueprints")),
        reading,
        listens: Vec::new(),
        cells: BTreeMap::new(),
        addresses: BTreeMap::new(),
    };
    let engine = Trail::ROOT.key("engine");
    cx.engine(&engine);
    cx.regions(&Trail::ROOT.key("regions"));
    let blueprints = Trail::ROOT.key("blueprints");
    for (name, blueprint) in &config.blueprints {
        cx.blueprint(&blueprints.key(name.as_str()), blueprint);
    }
    let services = Trail::ROOT.key("services");
    if config.services.is_empty() && cx.reading.clean(&services) {
        cx.wrong(&services, "there is no service", "add the service that is to be protected");
    }
    for (id, service) in &config.services {
        cx.service(&services.key(id.as_str()), service);
    }
    cx.known_as();
    cx.addresses_differ();
}

struct Check<'c, 'r, 't> {
    config: &'c Config,
    root: &'c Node,
    reading: &'r mut Reading<'t>,
    /// Whether the regions could be read, so that a zone that is not among them is unknown.
    zones_known: bool,
    blueprints_known: bool,
    /// Every address on which something of ours listens, and the path that says so.
    listens: Vec<(SocketAddr, String, Way)>,
    /// Where each cell was first seen.
    cells: BTreeMap<CellId, String>,
    /// Where each cell address was first seen, with the way to it.
    addresses: BTreeMap<SocketAddr, Vec<(String, Way)>>,
}

impl<'c> Check<'c, '_, '_> {
    fn wrong(&mut self, at: &Trail<'_>, what: impl Into<String>, remedy: impl Into<String>) {
        let node = at.find(self.root);
        self.reading.wrong(node, at, what, remedy);
    }

    fn range<T: Setting + PartialOrd>(&mut self, at: &Trail<'_>, value: &T, lowest: T, highest: T) {
        self.reading.range(self.root, at, value, lowest, highest);
    }

    fn at_most<T: Setting + PartialOrd>(&mut self, at: &Trail<'_>, value: &T, bound: &T, bound_name: &str) {
        self.reading.at_most(self.root, at, value, bound, bound_name);
    }

    fn request_path(&mut self, at: &Trail<'_>, path: &str) {
        if !path.starts_with('/') {
            let remedy = format!("write `/{}`", path.trim_start_matches("http://"));
            self.wrong(at, format!("`{path}` does not begin with `/`"), remedy);
        } else if path.contains(|c: char| c.is_whitespace() || c.is_control() || !c.is_ascii() || c == '#') {
            let what =
                format!("`{}` holds a character that a request's path can't hold", path.escape_debug());
            self.wrong(at, what, "percent-encode it: `%20` for a space");
        }
    }

    fn engine(&mut self, at: &Trail<'_>) {
        let config = self.config;
        let engine = &config.engine;
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        self.range(&at.key("tick"), &engine.tick, ms(100), s(60));
        let window = at.key("window");
        self.range(&window.key("step"), &engine.window.step, ms(100), s(300));
        let step = engine.window.step.max(ms(100));
        self.range(&window.key("length"), &engine.window.length, step * 12, step * 4096);
        let (learning, of) = (at.key("learning"), &engine.learning);
        self.range(&learning.key("hour"), &of.hour, 0, 23);
        self.range(&learning.key("after_failure"), &of.after_failure, s(1), s(86_400));
        self.range(&learning.key("shadow"), &of.shadow, s(1), s(90 * 86_400));
        let alarms = learning.key("false_alarms_per_1000_cell_weeks");
        self.range(&alarms, &of.false_alarms_per_1000_cell_weeks, 1, 1_000_000);
        self.range(&learning.key("least_failures"), &of.least_failures, 2, 1_000);
        let history = at.key("history");
        self.range(&history.key("keep"), &engine.history.keep, s(3_600), s(3_650 * 86_400));
        self.range(&history.key("size"), &engine.history.size, Size(64 << 20), Size(64 << 40));
        let forecast = at.key("forecast");
        self.range(&forecast.key("every"), &engine.forecast.every, s(60), s(86_400));
        self.range(&forecast.key("least"), &engine.forecast.least, s(86_400), s(365 * 86_400));
        self.api(&at.key("api"), &engine.api);
        if let Some(receive) = &engine.receive {
            self.receive(&at.key("receive"), receive);
        }
        if let Some(prometheus) = &engine.prometheus {
            self.prometheus(&at.key("prometheus"), prometheus);
        }
        if let Some(workers) = self.config.director.workers {
            let director = Trail::ROOT.key("director");
            self.range(&director.key("workers"), &workers, 1, 1024);
        }
    }

    fn api(&mut self, at: &Trail<'_>, api: &ApiConfig) {
        let listen = at.key("listen");
        if !api.listen.ip().is_loopback() && api.tokens.is_empty() && self.reading.clean(&at.key("tokens")) {
            let what =
                format!("the API would listen on {} for everybody who reaches this machine", api.listen.ip());
            self.wrong(&listen, what, "add `tokens`, or listen on `127.0.0.1`");
        }
        self.listens(api.listen, &listen);
        let tokens = at.key("tokens");
        let mut names = BTreeSet::new();
        for (i, token) in api.tokens.iter().enumerate() {
            let at = tokens.index(i);
            if !names.insert(&token.name) {
                let what = format!("there are two tokens of the name `{}`", token.name);
                self.wrong(
                    &at.key("name"),
                    what,
                    "give each its own name: the ledger tells who did what by it",
                );
            }
            match (&token.env, &token.file) {
                (Some(_), None) | (None, Some(_)) => {}
                (Some(_), Some(_)) => {
                    self.wrong(&at, "a token has both `env` and `file`", "keep one of the two");
                }
                (None, None) => {
                    self.wrong(
                        &at,
                        "the token's secret is nowhere",
                        "add `env: NAME_OF_A_VARIABLE` or `file: PATH`",
                    );
                }
            }
            if let Some(env) = &token.env {
                self.variable(&at.key("env"), env);
            }
        }
    }

    fn receive(&mut self, at: &Trail<'_>, receive: &ReceiveConfig) {
        let listen = at.key("listen");
        if !receive.listen.ip().is_loopback()
            && receive.token.is_none()
            && self.reading.clean(&at.key("token"))
        {
            let what = format!(
                "telemetry would be taken on {} from everybody who reaches this machine",
                receive.listen.ip()
            );
            let remedy = "add `token: { env: NAME_OF_A_VARIABLE }`, or listen on `127.0.0.1`";
            self.wrong(&listen, what, remedy);
        }
        self.listens(receive.listen, &listen);
        self.range(&at.key("max_body"), &receive.max_body, Size(64 << 10), Size(256 << 20));
        self.range(&at.key("max_requests"), &receive.max_requests, 1, 1024);
        let labels = at.key("cell_labels");
        if receive.cell_labels.is_empty() && self.reading.clean(&labels) {
            let remedy = "name one, for example `[instance]`, or leave the key out";
            self.wrong(&labels, "without a label nothing says which cell a series is of", remedy);
        }
        if let Some(token) = &receive.token {
            self.secret(&at.key("token"), token);
        }
    }

    /// A secret is in one place, and not here.
    fn secret(&mut self, at: &Trail<'_>, secret: &SecretConfig) {
        match (&secret.env, &secret.file) {
            (Some(env), None) => self.variable(&at.key("env"), env),
            (None, Some(_)) => {}
            (Some(_), Some(_)) => self.wrong(at, "a secret has both `env` and `file`", "keep one of the two"),
            (None, None) => {
                let remedy = "add `env: NAME_OF_A_VARIABLE` or `file: PATH`";
                self.wrong(at, "the secret is nowhere", remedy);
            }
        }
    }

    /// The name of an environment variable.
    fn variable(&mut self, at: &Trail<'_>, name: &str) {
        let fine = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && name.chars().next().is_some_and(|c| !c.is_ascii_digit());
        if !fine {
            let what = format!("`{}` can't be the name of a variable", name.escape_debug());
            self.wrong(at, what, "use letters, digits and `_`, beginning with a letter");
        }
    }

    fn regions(&mut self, at: &Trail<'_>) {
        if !self.zones_known {
            return;
        }
        let config = self.config;
        if config.regions.is_empty() {
            self.wrong(
                at,
                "there is no region",
                "add one with at least one zone: `home: { zones: [home-a] }`",
            );
        }
        let mut seen: BTreeMap<&ZoneId, &str> = BTreeMap::new();
        for (id, region) in &config.regions {
            let zones = at.key(id.as_str());
            let zones = zones.key("zones");
            if region.zones.is_empty() {
                self.wrong(&zones, format!("region `{id}` has no zone"), format!("name one: `[{id}-a]`"));
            }
            for (i, zone) in region.zones.iter().enumerate() {
                if let Some(other) = seen.insert(zone, id.as_str()) {
                    let what = format!("zone `{zone}` is in region `{other}` already");
                    let remedy = format!("zones have names of their own: call this one `{id}-{zone}`, say");
                    self.wrong(&zones.index(i), what, remedy);
                }
            }
        }
        let weights: Vec<u64> =
            config.regions.values().filter_map(|r| r.weight).map(|w| u64::from(w.bp())).collect();
        if weights.is_empty() {
            return;
        }
        if let Some((id, _)) = config.regions.iter().find(|(_, region)| region.weight.is_none()) {
            let what = format!("region `{id}` has no weight, but others have");
            self.wrong(&at.key(id.as_str()), what, "give all regions a weight (`0%` is one), or none");
        } else if weights::complete(&weights).is_none() {
            let what = format!("weights of the regions add up to {}", weights::percent(&weights));
            self.wrong(at, what, "make them add up to `100%`, or leave them all out to share evenly");
        }
    }

    /// Notes that a thing listens; [`Check::addresses_differ`] compares them all.
    fn listens(&mut self, address: SocketAddr, at: &Trail<'_>) {
        self.listens.push((address, at.to_string(), at.way()));
    }

    fn addresses_differ(&mut self) {
        let overlap = |a: &SocketAddr, b: &SocketAddr| {
            let wild = a.ip().is_unspecified() || b.ip().is_unspecified();
            a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || wild)
        };
        let listens = std::mem::take(&mut self.listens);
        for (i, (address, _, way)) in listens.iter().enumerate() {
            if let Some((_, other, _)) = listens[..i].iter().find(|(other, _, _)| overlap(address, other)) {
                self.wrong_way(
                    way,
                    format!("{address} is taken by `{other}`"),
                    "choose another port or address",
                );
            }
        }
        for (address, places) in std::mem::take(&mut self.addresses) {
            for (_, way) in places.iter().skip(1) {
                let what = format!("{address} is the address of `{}` already", places[0].0);
                self.wrong_way(way, what, "give each cell its own address and port");
            }
            if let Some((_, other, _)) = listens.iter().find(|(listen, _, _)| overlap(&address, listen)) {
                let what =
                    format!("the cell has the address of `{other}`: requests would go round in circles");
                self.wrong_way(&places[0].1, what, "write the address on which the cell itself listens");
            }
        }
    }

    fn wrong_way(&mut self, way: &[WayStep], what: String, remedy: &str) {
        fn follow(
            check: &mut Check<'_, '_, '_>,
            at: &Trail<'_>,
            way: &[WayStep],
            what: String,
            remedy: &str,
        ) {
            match way {
                [] => check.wrong(at, what, remedy),
                [WayStep::Key(key), rest @ ..] => follow(check, &at.key(key), rest, what, remedy),
                [WayStep::Index(i), rest @ ..] => follow(check, &at.index(*i), rest, what, remedy),
            }
        }
        follow(self, &Trail::ROOT, way, what, remedy);
    }
}
