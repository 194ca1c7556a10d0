//! What a configuration must fulfil before anything of it is applied.

use std::collections::{BTreeMap, BTreeSet};

use forefend_domain::{ServiceId, ServiceWeights, Weight, ports::ServiceRouting};
use http::HeaderName;

use crate::wire::{DirectorConfig, ServiceSettings, Sticky};

/// The first thing wrong with `config`, in words that name its place and what would be right.
pub(crate) fn check(config: &DirectorConfig) -> Result<(), String> {
    let mut taken = BTreeMap::new();
    for (service, settings) in &config.services {
        check_settings(settings).map_err(|why| format!("service {service}: {why}"))?;
        for address in &settings.listen {
            if let Some(other) = taken.insert(*address, service) {
                return Err(format!("service {service}: {address} is already the listen address of {other}"));
            }
        }
    }
    for (service, routing) in &config.routing.services {
        let settings = config.services.get(service).ok_or_else(|| {
            format!("service {service} has routing but no settings: add it to `services`, with `listen`")
        })?;
        check_routing(service, routing, settings).map_err(|why| format!("service {service}: {why}"))?;
    }
    let mut owner: BTreeMap<&str, &ServiceId> = BTreeMap::new();
    for (service, routing) in &config.routing.services {
        for route in &routing.cells {
            if let Some(other) = owner.insert(route.cell.as_str(), service) {
                return Err(format!("cell {} is listed for {other} and again for {service}", route.cell));
            }
        }
    }
    Ok(())
}

fn check_settings(settings: &ServiceSettings) -> Result<(), String> {
    if settings.listen.is_empty() {
        return Err("`listen` is empty: name at least one address, such as 127.0.0.1:8080".into());
    }
    if let Some(address) = settings.listen.iter().find(|address| address.port() == 0) {
        return Err(format!(
            "listen address {address} has port 0: name a fixed port, so that clients find it"
        ));
    }
    for (name, value) in [
        ("connect_timeout", settings.connect_timeout),
        ("try_timeout", settings.try_timeout),
        ("request_timeout", settings.request_timeout),
        ("health.interval", settings.health.interval),
        ("health.timeout", settings.health.timeout),
    ] {
        if value.is_zero() {
            return Err(format!("`{name}` is 0 ms: it must be at least 1 ms"));
        }
    }
    if !(1..=8).contains(&settings.max_tries) {
        return Err(format!("`max_tries` is {}: it must be from 1 to 8", settings.max_tries));
    }
    if settings.retry_budget.percent > 100 {
        return Err(format!("`retry_budget.percent` is {}: at most 100", settings.retry_budget.percent));
    }
    if settings.ejection.max_percent > 100 {
        return Err(format!("`ejection.max_percent` is {}: at most 100", settings.ejection.max_percent));
    }
    let path = &settings.health.path;
    if !path.is_empty() && (!path.starts_with('/') || path.parse::<http::Uri>().is_err()) {
        return Err(format!("`health.path` is `{path}`: it must be a path such as /healthz, or empty"));
    }
    match &settings.sticky {
        Sticky::Header { name } if HeaderName::try_from(name.as_str()).is_err() => {
            Err(format!("`sticky.name` is `{name}`, which is not the name of a header"))
        }
        Sticky::Cookie { name } if name.is_empty() || name.contains(['=', ';', ' ']) => {
            Err(format!("`sticky.name` is `{name}`, which is not the name of a cookie"))
        }
        _ => Ok(()),
    }
}

fn check_routing(
    service: &ServiceId,
    routing: &ServiceRouting,
    settings: &ServiceSettings,
) -> Result<(), String> {
    // Weights that came over a wire were not checked when they were read.
    ServiceWeights::new(routing.weights.regions().clone(), routing.weights.cells().clone())
        .map_err(|error| error.to_string())?;
    let listed: BTreeSet<_> = routing.cells.iter().map(|route| (&route.region, &route.cell)).collect();
    if listed.len() > usize::from(u16::MAX) - 1 {
        return Err(format!("{} cells are more than a service of the director can have", listed.len()));
    }
    if let Some(route) = routing.cells.iter().find(|route| settings.listen.contains(&route.address)) {
        return Err(format!(
            "cell {} has the address {} that {service} itself listens at",
            route.cell, route.address
        ));
    }
    for (region, cells) in routing.weights.cells() {
        for (cell, weight) in cells {
            if *weight > Weight::ZERO && !listed.contains(&(region, cell)) {
                return Err(format!("cell {cell} of region {region} has weight but no address in `cells`"));
            }
        }
    }
    Ok(())
}
