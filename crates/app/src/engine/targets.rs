//! From whom to collect: follows the cells that there are.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use forefend_cells::{CellUsage, SandboxDriver};
use forefend_config::{Config, model};
use forefend_domain::{CellId, ports::CellObservation, ports::DriverStage};
use forefend_telemetry::{
    HostTarget, LogTarget, MetricSelector, ProbeTarget, PushTarget, ScrapeTarget, Target,
    host::cgroup::CgroupDirs,
};

use super::assemble;

/// A target for every cell that listens somewhere.
pub(crate) fn targets(
    config: &Config,
    observations: &[CellObservation],
    driver: Option<&SandboxDriver>,
) -> Vec<Target> {
    let observed: BTreeMap<&CellId, &CellObservation> =
        observations.iter().map(|o| (&o.cell.id, o)).collect();
    let mut targets = Vec::new();
    for (id, service) in &config.services {
        for cell in &service.cells {
            let Some(address) = cell.address else { continue };
            let metrics_at = cell.metrics_address.unwrap_or(address);
            let host = foreign_host(cell, service);
            let logs = logs_of(&cell.id, service, &cell.logs, None);
            let target = target(cell.id.clone(), service, address, metrics_at, host, false);
            targets.push(known_as(Some(cell), Target { logs, ..target }));
        }
        for seen in observed.values().filter(|o| o.cell.service == *id) {
            let Some(address) = seen.address else { continue };
            // Before it is warm its answers say nothing of how it will serve.
            let paused = !matches!(seen.stage, DriverStage::Ready | DriverStage::Failed { .. });
            let host = driver.and_then(|d| d.usage(&seen.cell.id)).map(|usage| own_host(&usage, service));
            let declared = service.cells.iter().find(|cell| cell.id == seen.cell.id);
            let own = declared.map_or(&[][..], |cell| &cell.logs);
            let output = driver.map(|d| d.log_path(&seen.cell.id));
            let logs = logs_of(&seen.cell.id, service, own, output);
            let target = target(seen.cell.id.clone(), service, address, address, host, paused);
            targets.push(known_as(declared, Target { logs, ..target }));
        }
    }
    targets
}

/// How faults reach a cell, or why they can't.
pub(crate) fn of_faults(
    config: &Config,
    driver: Option<&SandboxDriver>,
    cell: &CellId,
) -> Result<forefend_chaos::Target, String> {
    if let Some((driver, usage)) = driver.and_then(|d| Some((d, d.usage(cell)?))) {
        let pid = usage.pid.ok_or_else(|| format!("{cell} has no process now"))?;
        return Ok(forefend_chaos::Target {
            cell: cell.clone(),
            pid,
            address: driver.address(cell),
            data: Some(driver.data_dir(cell)),
            log: Some(driver.log_path(cell)),
            clock: driver.clock_file(cell),
        });
    }
    let foreign = config.services.values().flat_map(|s| &s.cells).find(|c| c.id == *cell);
    let foreign = foreign.ok_or_else(|| format!("there is no cell {cell} now"))?;
    let remedy = "name its `pid_file` in the configuration; faults reach cells on this machine only";
    let path =
        foreign.pid_file.as_ref().ok_or_else(|| format!("the process of {cell} is not known: {remedy}"))?;
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}; {remedy}", path.display()))?;
    let pid = text.split_whitespace().next().and_then(|word| word.parse().ok());
    Ok(forefend_chaos::Target {
        cell: cell.clone(),
        pid: pid.ok_or_else(|| format!("{} holds no process id; {remedy}", path.display()))?,
        address: foreign.address,
        data: None,
        log: None,
        clock: None,
    })
}

fn target(
    cell: CellId,
    service: &model::ServiceConfig,
    address: SocketAddr,
    metrics_at: SocketAddr,
    host: Option<HostTarget>,
    paused: bool,
) -> Target {
    let probe = ProbeTarget {
        address,
        path: service.probe.path.clone(),
        interval: service.probe.interval,
        timeout: service.probe.timeout,
        expect: status(service.probe.expect_from)..=status(service.probe.expect_to),
        // That a connection comes about in time says nothing of how long a request takes.
        objective: service.probe.path.as_ref().map(|_| service.objective.latency),
    };
    let selectors = || service.telemetry.iter().flat_map(|t| &t.metrics).map(selector).collect();
    let scraped = service.telemetry.as_ref().filter(|telemetry| telemetry.scrape);
    let scrape = scraped.map(|telemetry| ScrapeTarget {
        address: telemetry.port.map_or(metrics_at, |port| SocketAddr::new(metrics_at.ip(), port)),
        path: telemetry.path.clone(),
        interval: telemetry.interval,
        timeout: telemetry.timeout,
        metrics: selectors(),
    });
    // Whoever scrapes a cell names it by where it scrapes it.
    let mut addresses = vec![address, metrics_at];
    addresses.extend(scrape.as_ref().map(|scrape| scrape.address));
    addresses.dedup();
    let push = PushTarget { addresses, metrics: selectors(), known_as: Vec::new() };
    Target { cell, scrape, probe: Some(probe), host, logs: None, push, paused }
}

/// With the labels by which a Prometheus knows the cell.
fn known_as(declared: Option<&model::CellConfig>, mut target: Target) -> Target {
    let labels = declared.into_iter().flat_map(|cell| &cell.known_as);
    target.push.known_as = labels.map(|(name, value)| (name.clone(), value.clone())).collect();
    target
}

/// The logs of a cell: those of its service, its own, and what it prints where the driver keeps that.
fn logs_of(
    cell: &CellId,
    service: &model::ServiceConfig,
    own: &[PathBuf],
    output: Option<PathBuf>,
) -> Option<LogTarget> {
    let logs = service.logs.as_ref()?;
    let ours = output.is_some();
    // Of a cell of ours nothing else is known before it is made, so a path without its name is not its own.
    let shared = logs.paths.iter().filter(|path| !ours || path.to_string_lossy().contains("{cell}"));
    let named = |path: &PathBuf| PathBuf::from(path.to_string_lossy().replace("{cell}", cell.as_str()));
    let paths = shared.chain(own).map(named).chain(output.filter(|_| logs.output)).collect();
    Some(LogTarget { paths, interval: logs.interval, options: assemble::logs(logs) })
}

fn status(code: u32) -> u16 {
    u16::try_from(code).unwrap_or(599)
}

fn selector(metric: &model::MetricConfig) -> MetricSelector {
    MetricSelector {
        name: metric.name.clone(),
        labels: metric.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        rename: metric.rename.clone(),
        family: metric.family,
        kind: metric.kind,
        unit: metric.unit.clone(),
        limit: metric.limit.as_ref().map(|l| l.value),
        limit_metric: metric.limit_metric.clone(),
        counter: metric.counter,
    }
}

/// How often the kernel is asked: as often as metrics are scraped, or as the cell is probed.
fn host_interval(service: &model::ServiceConfig) -> std::time::Duration {
    service.telemetry.as_ref().map_or(service.probe.interval, |t| t.interval.min(service.probe.interval))
}

fn own_host(usage: &CellUsage, service: &model::ServiceConfig) -> HostTarget {
    HostTarget {
        proc_root: PathBuf::from("/proc"),
        pid: usage.pid.and_then(|pid| u32::try_from(pid).ok()),
        cgroup: cgroup_dirs(&usage.cgroup_dirs),
        memory_limit: usage.memory_limit_bytes,
        interval: host_interval(service),
    }
}

fn foreign_host(cell: &model::CellConfig, service: &model::ServiceConfig) -> Option<HostTarget> {
    let pid = cell
        .pid_file
        .as_ref()
        .and_then(|file| std::fs::read_to_string(file).ok())
        .and_then(|text| text.trim().parse().ok());
    let cgroup = cell.cgroup.clone();
    (pid.is_some() || cgroup.is_some()).then(|| HostTarget {
        proc_root: PathBuf::from("/proc"),
        pid,
        cgroup: cgroup_dirs(cgroup.as_slice()),
        memory_limit: None,
        interval: host_interval(service),
    })
}

/// Which directory tells what: on v1 and hybrid hosts each controller has its own.
fn cgroup_dirs(dirs: &[PathBuf]) -> CgroupDirs {
    let with = |files: [&str; 2]| {
        dirs.iter().find(|dir| files.iter().any(|file| Path::new(dir).join(file).exists())).cloned()
    };
    CgroupDirs {
        memory: with(["memory.current", "memory.usage_in_bytes"]),
        cpu: with(["cpu.max", "cpu.cfs_quota_us"]),
        cpuacct: with(["cpuacct.usage", "cpuacct.usage"]),
        pids: with(["pids.current", "pids.current"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(logs: &str) -> Config {
        let text = format!(
            "version: 1\nregions: {{ here: {{ zones: [a] }} }}\nservices:\n  shop:\n    objective: {{ latency: 1s }}\n    \
             listen: 127.0.0.1:8080\n    logs: {logs}\n    cells:\n      - {{ id: shop-1, zone: a, address: 127.0.0.1:8081, logs: [/own.log] }}\n"
        );
        forefend_config::parse(&text, "test.yaml").unwrap()
    }

    fn paths(logs: &str, output: Option<&str>) -> Vec<PathBuf> {
        let config = config(logs);
        let service = config.services.values().next().unwrap();
        let cell = &service.cells[0];
        logs_of(&cell.id, service, &cell.logs, output.map(PathBuf::from)).unwrap().paths
    }

    #[test]
    fn a_cell_has_the_logs_of_its_service_its_own_and_what_it_prints() {
        let of_both = "{ paths: [\"/var/{cell}/x.log\", /y.log] }";
        let named = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(paths(of_both, None), named(&["/var/shop-1/x.log", "/y.log", "/own.log"]));
        // Several cells are made of a blueprint: a file without the cell's name is of none of them.
        assert_eq!(
            paths(of_both, Some("/s/cell.log")),
            named(&["/var/shop-1/x.log", "/own.log", "/s/cell.log"])
        );
        assert_eq!(paths("{ output: false }", Some("/s/cell.log")), named(&["/own.log"]));
    }

    #[test]
    fn limits_of_logs_are_taken_over() {
        use forefend_telemetry::logs::{Counted, Severity};
        let config = config("{ limits: [{ severity: error, limit: 5/s }, { line: \"a <*> b\", limit: 2 }] }");
        let options = assemble::logs(config.services.values().next().unwrap().logs.as_ref().unwrap());
        assert_eq!(options.limits[0].of, Counted::AtLeast(Severity::Error));
        assert!(matches!(&options.limits[1].of, Counted::Lines(pattern) if pattern.text() == "a <*> b"));
        assert_eq!([options.limits[0].per_second, options.limits[1].per_second], [5.0, 2.0]);
    }
}
