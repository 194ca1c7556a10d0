//! From the file to what the loop and its drivers take.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use forefend_cells::{AcceptMissing, ClockLibrary, Protection};
use forefend_config::{Config, model};
use forefend_control::{CellSpec, ServiceSpec, Topology};
use forefend_domain::{OperatingCurve, ServiceId};
use forefend_telemetry::{
    LogOptions,
    logs::{Counted, LogLimit, Pattern, Severity},
};
use forefend_traffic::{Ejection, HealthCheck, Protocol, RetryBudget, ServiceSettings, Sticky};

use super::EngineError;
use crate::api::{Role, Token};

/// Puts the library that sets off clocks into the state directory. `None`, with a warning, where that is not possible: then cells have
/// usual clocks, and `clock-skew` says so.
pub(crate) fn clock_library(state_dir: &Path) -> Option<ClockLibrary> {
    let install = || {
        std::fs::create_dir_all(state_dir)?;
        let library = state_dir.canonicalize()?.join("libforefend_clock.so");
        if library.as_os_str().as_encoded_bytes().iter().any(|byte| matches!(byte, b' ' | b':')) {
            return Err(std::io::Error::other("a path with spaces or colons can't be preloaded"));
        }
        forefend_chaos::install_library(&library)?;
        Ok(library)
    };
    match install() {
        Ok(library) => Some(ClockLibrary {
            library,
            variable: forefend_chaos::CLOCK_VARIABLE,
            new_file: forefend_chaos::new_clock_file,
        }),
        Err(error) => {
            tracing::warn!("clocks of cells can't be set off: {error}");
            None
        }
    }
}

pub(crate) fn topology(config: &Config) -> Topology {
    let mut services: BTreeMap<ServiceId, ServiceSpec> = config
        .services()
        .into_iter()
        .map(|service| {
            let home = config.home_weights(&service.id).unwrap_or_default();
            (service.id.clone(), ServiceSpec { service, home, cells: BTreeMap::new() })
        })
        .collect();
    for configured in config.cells() {
        if let Some(service) = services.get_mut(&configured.cell.service) {
            let spec = CellSpec { cell: configured.cell, address: configured.address };
            service.cells.insert(spec.cell.id.clone(), spec);
        }
    }
    Topology { services }
}

/// The same, with thresholds that follow from how the model that serves did on what it had not learned from, for services that say how many false alarms they
/// tolerate and look as far ahead as the model does. Tells what has moved.
pub(crate) fn topology_by(
    config: &Config,
    curve: &OperatingCurve,
    horizon: Duration,
) -> (Topology, Vec<String>) {
    let (mut topology, mut moved) = (topology(config), Vec::new());
    for (id, spec) in &mut topology.services {
        let tolerated =
            config.services.get(id).and_then(|s| s.policy.trigger.false_alarms_per_1000_cell_weeks);
        let policy = &mut spec.service.policy;
        let Some(tolerated) = tolerated.filter(|_| policy.horizon == horizon) else { continue };
        let trigger = curve.trigger(&policy.trigger, f64::from(tolerated) / 1_000.0);
        let mut by_curve = forefend_domain::Policy { trigger, ..policy.clone() };
        if by_curve.pre_test.from > by_curve.trigger.shift_at {
            by_curve.pre_test.from = by_curve.trigger.shift_at;
        }
        if by_curve.trigger == policy.trigger {
            continue;
        }
        match by_curve.check() {
            Ok(()) => {
                let (from, to) = (policy.trigger.shift_at.get(), by_curve.trigger.shift_at.get());
                moved.push(format!(
                    "{id} shifts at {:.1}% in one tick instead of {:.1}%, by the operating curve of the model that serves",
                    100.0 * to,
                    100.0 * from
                ));
                *policy = by_curve;
            }
            Err(error) => {
                tracing::warn!(service = %id, %error, "thresholds stay as written: those of the operating curve do not fit the rest of the policy")
            }
        }
    }
    (topology, moved)
}

/// What the director must know of each service besides cells and weights.
pub(crate) fn settings(config: &Config) -> BTreeMap<ServiceId, ServiceSettings> {
    config.services.iter().map(|(id, service)| (id.clone(), one(service))).collect()
}

fn percent(share: forefend_config::Share) -> u32 {
    (share.get() * 100.0).round() as u32
}

fn one(service: &model::ServiceConfig) -> ServiceSettings {
    ServiceSettings {
        listen: service.listen.0.clone(),
        protocol: match service.protocol {
            model::Protocol::Http1 => Protocol::Http1,
            model::Protocol::Http2 => Protocol::Http2,
        },
        connect_timeout: service.timeouts.connect,
        try_timeout: service.timeouts.per_try,
        request_timeout: service.timeouts.request,
        max_tries: service.retries.max_tries,
        retry_budget: RetryBudget {
            percent: percent(service.retries.budget),
            min_per_second: service.retries.min_per_second,
        },
        health: HealthCheck {
            path: if service.health.enabled { service.health.path.clone() } else { String::new() },
            interval: service.health.interval,
            timeout: service.health.timeout,
            unhealthy_after: service.health.unhealthy_after,
            healthy_after: service.health.healthy_after,
        },
        ejection: Ejection {
            consecutive_failures: service.ejection.consecutive_failures,
            base_duration: service.ejection.base_duration,
            max_duration: service.ejection.max_duration,
            max_percent: percent(service.ejection.max_share),
        },
        sticky: match &service.sticky {
            model::Sticky::None => Sticky::None,
            model::Sticky::ClientAddress => Sticky::ClientAddress,
            model::Sticky::Header(name) => Sticky::Header { name: name.clone() },
            model::Sticky::Cookie(name) => Sticky::Cookie { name: name.clone() },
        },
        slow_after: service.objective.latency,
        drain_timeout: service.timeouts.drain,
        max_body_buffer: u32::try_from(service.retries.max_body.0).unwrap_or(u32::MAX),
        forwarded_for: service.forwarded_for,
        via: service.via,
    }
}

/// Interval and timeout of the slowest probe: the objective's window must hold a few of each service's.
pub(crate) fn probe_timing(config: &Config) -> (Duration, Duration) {
    let probes = || config.services.values().map(|s| &s.probe);
    let interval = probes().map(|p| p.interval).max().unwrap_or(Duration::from_secs(1));
    let timeout = probes().map(|p| p.timeout).max().unwrap_or(Duration::from_secs(1));
    (interval, timeout)
}

/// What is made of the lines of a service's logs.
pub(crate) fn logs(logs: &model::LogsConfig) -> LogOptions {
    let limit = |limit: &model::LogLimitConfig| {
        let of = match (limit.severity, &limit.line) {
            (Some(severity), _) => Counted::AtLeast(severity_of(severity)),
            // A text that is every line was refused when the file was read.
            (None, line) => Counted::Lines(Pattern::new(line.as_deref()?)?),
        };
        Some(LogLimit { of, per_second: limit.limit.value })
    };
    LogOptions {
        named: usize::try_from(logs.templates).unwrap_or(usize::MAX),
        novel_for: logs.novel_for,
        limits: logs.limits.iter().filter_map(limit).collect(),
        ..LogOptions::default()
    }
}

fn severity_of(severity: model::Severity) -> Severity {
    match severity {
        model::Severity::Debug => Severity::Debug,
        model::Severity::Info => Severity::Info,
        model::Severity::Warning => Severity::Warning,
        model::Severity::Error => Severity::Error,
        model::Severity::Critical => Severity::Critical,
    }
}

pub(crate) fn accept_missing(config: &Config, all: bool) -> AcceptMissing {
    if all {
        return AcceptMissing::All;
    }
    let named: BTreeSet<String> =
        config.engine.cells.accept_missing_protections.iter().map(|p| p.name()).collect();
    let listed: BTreeSet<Protection> =
        Protection::ALL.into_iter().filter(|p| named.contains(p.name())).collect();
    if listed.is_empty() { AcceptMissing::None } else { AcceptMissing::Listed(listed) }
}

/// Reads the tokens' secrets from where the file says they are.
pub(crate) fn tokens(config: &Config) -> Result<Vec<Token>, EngineError> {
    config
        .api()
        .tokens
        .iter()
        .map(|token| {
            let secret = match (&token.env, &token.file) {
                (Some(name), _) => std::env::var(name).map_err(|_| {
                    EngineError::Token(format!(
                        "api.tokens: the variable {name} of token `{}` is not set",
                        token.name
                    ))
                })?,
                (None, Some(path)) => std::fs::read_to_string(path)
                    .map_err(|e| {
                        EngineError::Token(format!(
                            "api.tokens: {} of token `{}`: {e}",
                            path.display(),
                            token.name
                        ))
                    })?
                    .trim_end()
                    .to_owned(),
                (None, None) => {
                    return Err(EngineError::Token(format!(
                        "api.tokens: token `{}` has neither env nor file",
                        token.name
                    )));
                }
            };
            let role = match token.role {
                model::ApiRole::Viewer => Role::Viewer,
                model::ApiRole::Operator => Role::Operator,
                model::ApiRole::Admin => Role::Admin,
            };
            Ok(Token { name: token.name.clone(), secret, role })
        })
        .collect()
}
