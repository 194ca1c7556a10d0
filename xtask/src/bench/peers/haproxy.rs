//! HAProxy, with active and passive checks and retries on layer 7.

use std::{
    ffi::OsString,
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{CHECK_INTERVAL, Installed, Proxy, Purpose, Setup, TRY, version_of};
use crate::packages::Package;

const PACKAGE: Package =
    Package { programs: &["haproxy"], debian: "haproxy", needed_for: "a comparison with HAProxy" };
const SOCKET: &str = "haproxy.sock";

pub(super) fn provide() -> Result<Installed> {
    let program = PACKAGE.provide()?;
    let version = version_of(&program, "-v")?;
    Ok(Installed { program, version })
}

pub(super) fn configure(setup: &Setup<'_>) -> Result<Vec<OsString>> {
    let path = setup.folder.join("haproxy.cfg");
    fs::write(&path, text(setup)).with_context(|| format!("can't write {}", path.display()))?;
    Ok(vec!["-db".into(), "-f".into(), path.into()])
}

fn text(setup: &Setup<'_>) -> String {
    let socket = setup.folder.join(SOCKET);
    let protocol = if setup.purpose == (Purpose::Throughput { http2: true }) { " proto h2" } else { "" };
    let mut text = format!(
        "global\n\
         \x20 nbthread 1\n\
         \x20 maxconn 8192\n\
         \x20 stats socket {} mode 600 level admin\n\
         defaults\n\
         \x20 mode http\n\
         \x20 http-reuse always\n\
         \x20 option forwardfor\n\
         \x20 timeout connect 1s\n\
         \x20 timeout client 60s\n\
         \x20 timeout server 30s\n\
         \x20 timeout http-keep-alive 60s\n\
         frontend users\n\
         \x20 bind {}{protocol}\n",
        socket.display(),
        setup.listen,
    );
    let tried = TRY.as_millis();
    let check = CHECK_INTERVAL.as_millis();
    if setup.purpose == Purpose::Failover {
        // Writes have a backend of their own: no second try once they were sent, and a user's patience.
        text.push_str("  use_backend writes if METH_POST\n  default_backend reads\n");
        let reads = format!(
            "  timeout connect {tried}ms\n  timeout server {tried}ms\n  timeout check {tried}ms\n  retries 3\n  \
             option redispatch 1\n  retry-on all-retryable-errors\n"
        );
        let writes = format!(
            "  timeout connect {tried}ms\n  timeout server 2s\n  timeout check {tried}ms\n  retries 3\n  \
             option redispatch 1\n  retry-on conn-failure\n"
        );
        let server =
            format!("check inter {check}ms fall 2 rise 2 observe layer7 error-limit 5 on-error mark-down");
        backend(&mut text, "reads", &reads, &server, setup);
        backend(&mut text, "writes", &writes, &server, setup);
    } else {
        text.push_str("  default_backend reads\n");
        backend(&mut text, "reads", "", "check inter 1s", setup);
    }
    text
}

fn backend(text: &mut String, name: &str, settings: &str, server: &str, setup: &Setup<'_>) {
    text.push_str(&format!("backend {name}\n  balance roundrobin\n  option httpchk GET /health\n{settings}"));
    for (cell, id) in setup.cells.iter().zip(["first", "second"]) {
        // HAProxy's weights end at 256.
        text.push_str(&format!("  server {id} {} weight {} {server}\n", cell.address, cell.weight_bp / 100));
    }
}

/// Through the runtime API, as an operator's script would.
pub(super) fn move_weight_away(proxy: &Proxy) -> Result<()> {
    for backend in ["reads", "writes"] {
        let answer = command(&proxy.folder.join(SOCKET), &format!("set server {backend}/first weight 0"))?;
        ensure!(answer.trim().is_empty(), "HAProxy answered: {}", answer.trim());
    }
    Ok(())
}

fn command(socket: &Path, command: &str) -> Result<String> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("can't reach {}", socket.display()))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
