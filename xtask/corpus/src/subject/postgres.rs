//! PostgreSQL: items, and a few rows that everybody wants.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use super::Server;
use crate::{
    place::{USER, WORK, run},
    wire::Postgres,
};

/// Items that users ask for.
pub(crate) const ITEMS: u32 = 6_000;

fn template() -> PathBuf {
    Path::new(WORK).join("postgres")
}

fn binaries() -> Result<PathBuf> {
    // Debian keeps each version apart; the newest will do.
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("bin"))
        .filter(|bin| bin.join("initdb").is_file())
        .collect();
    found.sort();
    found.pop().context("PostgreSQL is not installed; on Debian `apt-get install postgresql` installs it")
}

const SCHEMA: &str = "\
CREATE ROLE app LOGIN;
CREATE TABLE item (id int PRIMARY KEY, qty int NOT NULL, note text NOT NULL);
INSERT INTO item SELECT i, 1 + i % 90, md5(i::text) || md5((i * 7)::text) FROM generate_series(0, 5999) i;
CREATE TABLE hot (id int PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 20);
INSERT INTO hot SELECT i, 0 FROM generate_series(1, 40) i;
CREATE TABLE orders (id bigserial, item int NOT NULL, note text NOT NULL);
CREATE TABLE filler (id bigserial, body text NOT NULL);
ALTER TABLE filler ALTER COLUMN body SET STORAGE PLAIN;
GRANT ALL ON ALL TABLES IN SCHEMA public TO app;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app;
VACUUM ANALYZE;
CHECKPOINT";

/// Makes the data directory that those of episodes are copied from.
pub(crate) async fn make_template() -> Result<()> {
    let folder = template();
    fs::create_dir_all(&folder)?;
    nix::unistd::chown(&folder, Some(USER.into()), Some(USER.into()))?;
    let data = folder.join("data");
    let data_text = data.display().to_string();
    let initdb = binaries()?.join("initdb").display().to_string();
    as_user(&[
        &initdb,
        "-D",
        &data_text,
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
        "--wal-segsize=1",
    ])
    .await?;
    let address = "127.77.255.1:5432";
    let server = binaries()?.join("postgres").display().to_string();
    let socket = format!("unix_socket_directories={data_text}");
    let mut child = command_as_user(&[
        &server,
        "-D",
        &data_text,
        "-c",
        "listen_addresses=127.77.255.1",
        "-c",
        &socket,
        "-c",
        "fsync=off",
    ])
    .stdout(Stdio::null())
    .stderr(Stdio::null())
    .spawn()?;
    let mut connection = None;
    for _ in 0..400 {
        tokio::time::sleep(Duration::from_millis(25)).await;
        if let Ok(open) = Postgres::open(address.parse()?, "template").await {
            connection = Some(open);
            break;
        }
    }
    let mut connection = connection.context("the template's PostgreSQL does not answer")?;
    for statement in SCHEMA.split(";\n") {
        connection.run(statement).await.with_context(|| format!("{statement:.60} failed"))?;
    }
    drop(connection);
    let id = child.id().context("the template's PostgreSQL has ended")?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(id.cast_signed()), nix::sys::signal::Signal::SIGINT)?;
    let status = child.wait().await?;
    if !status.success() {
        bail!("the template's PostgreSQL ended with {status}");
    }
    Ok(())
}

pub(super) async fn prepare(server: &Server) -> Result<()> {
    let from = template().join("data");
    let to = server.place.data.join("data");
    run("cp", &["-a".as_ref(), from.as_os_str(), to.as_os_str()]).await
}

pub(super) fn command(server: &Server) -> Result<Vec<String>> {
    let address = server.address();
    let data = server.place.data.join("data").display().to_string();
    let connections = server.limits.connections;
    let settings = [
        format!("listen_addresses={}", address.ip()),
        format!("port={}", address.port()),
        format!("unix_socket_directories={data}"),
        format!("max_connections={connections}"),
        "shared_buffers=16MB".to_owned(),
        "max_wal_size=8MB".to_owned(),
        "min_wal_size=2MB".to_owned(),
        "checkpoint_timeout=30s".to_owned(),
        "autovacuum_naptime=5s".to_owned(),
        "log_checkpoints=on".to_owned(),
        "log_lock_waits=on".to_owned(),
        "deadlock_timeout=200ms".to_owned(),
        "jit=off".to_owned(),
        "max_worker_processes=2".to_owned(),
        "max_parallel_workers_per_gather=0".to_owned(),
        "huge_pages=off".to_owned(),
    ];
    let mut command = vec![binaries()?.join("postgres").display().to_string(), "-D".to_owned(), data];
    for setting in settings {
        command.extend(["-c".to_owned(), setting]);
    }
    Ok(command)
}

async fn as_user(command: &[&str]) -> Result<()> {
    let output = command_as_user(command).output().await?;
    if output.status.success() {
        return Ok(());
    }
    bail!("{} ended with {}: {}", command[0], output.status, String::from_utf8_lossy(&output.stderr).trim())
}

fn command_as_user(command: &[&str]) -> Command {
    let mut as_user = Command::new(command[0]);
    as_user.args(&command[1..]).uid(USER).gid(USER).current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
    as_user
}
