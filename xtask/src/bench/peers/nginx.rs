//! nginx, with passive checks (it has no active ones) and `proxy_next_upstream`.

use std::{ffi::OsString, fs, path::Path, process::Command};

use anyhow::{Context, Result};
use nix::{sys::signal::Signal, unistd::Pid};

use super::{Cell, Installed, Proxy, Purpose, Setup, TRY, version_of};
use crate::{bench::failover_load::WRITE_PATH, packages::Package};

const PACKAGE: Package =
    Package { programs: &["nginx"], debian: "nginx-light", needed_for: "a comparison with nginx" };
const CONFIG: &str = "nginx.conf";

pub(super) fn provide() -> Result<Installed> {
    let program = PACKAGE.provide()?;
    let version = version_of(&program, "-v")?;
    Ok(Installed { program, version })
}

pub(super) fn configure(setup: &Setup<'_>) -> Result<Vec<OsString>> {
    write(setup, &setup.cells)?;
    Ok(vec![
        "-p".into(),
        setup.folder.into(),
        "-e".into(),
        setup.folder.join("error.log").into(),
        "-c".into(),
        setup.folder.join(CONFIG).into(),
    ])
}

fn write(setup: &Setup<'_>, cells: &[Cell]) -> Result<()> {
    let path = setup.folder.join(CONFIG);
    fs::write(&path, text(setup, cells)).with_context(|| format!("can't write {}", path.display()))
}

fn text(setup: &Setup<'_>, cells: &[Cell]) -> String {
    let folder = setup.folder.display();
    let tried = TRY.as_millis();
    let failover = setup.purpose == Purpose::Failover;
    let http2 = if setup.purpose == (Purpose::Throughput { http2: true }) { " http2" } else { "" };
    // As root, the worker would become a user who may not enter the folder.
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    let temporary: String =
        temporary_paths().map(|kind| format!("{kind}_temp_path {folder}/{kind};\n")).collect();
    let passive = if failover { "max_fails=1 fail_timeout=10s" } else { "" };
    let servers: String = cells
        .iter()
        .map(|cell| format!("server {} weight={} {passive};\n", cell.address, cell.weight_bp))
        .collect();
    let reads = if failover {
        format!(
            "proxy_next_upstream error timeout http_502 http_503 http_504;\n\
             proxy_next_upstream_tries 4;\n\
             proxy_connect_timeout {tried}ms;\nproxy_read_timeout {tried}ms;\nproxy_send_timeout {tried}ms;\n"
        )
    } else {
        String::new()
    };
    // Without `non_idempotent`, a POST that was sent is not sent again.
    let writes = if failover {
        format!(
            "location {WRITE_PATH} {{\nproxy_pass http://cells;\nproxy_next_upstream error timeout;\n\
             proxy_connect_timeout {tried}ms;\nproxy_read_timeout 2s;\n}}\n"
        )
    } else {
        String::new()
    };
    format!(
        "daemon off;\nworker_processes 1;\n{user}\npid {folder}/nginx.pid;\nerror_log {folder}/error.log error;\n\
         worker_rlimit_nofile 16384;\nevents {{ worker_connections 8192; }}\n\
         http {{\naccess_log off;\n{temporary}\
         keepalive_timeout 60s;\nkeepalive_requests 100000000;\n\
         upstream cells {{\n{servers}keepalive 128;\nkeepalive_requests 100000000;\n}}\n\
         proxy_http_version 1.1;\nproxy_set_header Connection \"\";\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
         server {{\nlisten {}{http2} backlog=4096;\n\
         location / {{\nproxy_pass http://cells;\n{reads}}}\n{writes}}}\n}}\n",
        setup.listen
    )
}

/// The modules of this build that want a folder for temporary files.
fn temporary_paths() -> impl Iterator<Item = &'static str> {
    let built = PACKAGE
        .provide()
        .ok()
        .and_then(|program| Command::new(program).arg("-V").output().ok())
        .map(|output| String::from_utf8_lossy(&output.stderr).into_owned())
        .unwrap_or_default();
    ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .into_iter()
        .filter(move |kind| !built.contains(&format!("--without-http_{kind}_module")))
}

/// nginx has no runtime API in its free edition: a new configuration and a reload, whose old workers finish what
/// they have begun.
pub(super) fn move_weight_away(proxy: &Proxy) -> Result<()> {
    let path = proxy.folder.join(CONFIG);
    let text = fs::read_to_string(&path)?;
    let first = format!("server {} ", proxy.cells[0].address);
    let changed: String =
        text.lines().filter(|line| !line.starts_with(&first)).map(|l| format!("{l}\n")).collect();
    replace(&path, &changed)?;
    nix::sys::signal::kill(Pid::from_raw(proxy.process.id()), Signal::SIGHUP)
        .context("can't ask for a reload")
}

fn replace(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, path).with_context(|| format!("can't replace {}", path.display()))
}
