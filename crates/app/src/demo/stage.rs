//! The stage: the processes of `forefend serve`, and the hands that do harm to a cell.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use forefend_control::Snapshot;
use forefend_domain::{LedgerEntry, LifeState, ServiceId};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    DemoError,
    caretaker::{self, Caretaker},
    script,
};
use crate::api::client::Client;

/// How long starting and stopping may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that one run needs. Dropping it ends every process that it started.
pub(crate) struct Stage {
    dir: PathBuf,
    engine: Child,
    pub(crate) api: SocketAddr,
    pub(crate) shop: SocketAddr,
    client: Client,
    ended: bool,
    _caretaker: Caretaker,
}

impl Stage {
    /// Starts director, engine and cells, and waits until every cell serves.
    /// `temporary` is a directory to be removed should this process be killed.
    pub(crate) async fn set(
        dir: &Path,
        forecast: bool,
        api_port: Option<u16>,
        temporary: Option<&Path>,
    ) -> Result<Self, DemoError> {
        std::fs::create_dir_all(dir)?;
        let dir = &dir.canonicalize()?;
        let api = api_address(api_port)?;
        let [shop, inventory] = [free_address()?, free_address()?];
        let config = dir.join("forefend.yaml");
        std::fs::write(&config, script::configuration(&dir.join("state"), api, shop, inventory))?;
        let _caretaker = Caretaker::hire(dir, temporary)?;
        let log = std::fs::File::create(dir.join("engine.log"))?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["serve", "--config"])
            .arg(&config)
            .arg("--accept-missing-protections")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // Ctrl-C in the terminal is for the demo, which then ends its engine.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        if !forecast {
            command.arg("--no-forecast");
        }
        let engine = command.spawn()?;
        let client = Client::new(&format!("http://{api}"), None)?;
        let mut stage = Self { dir: dir.to_owned(), engine, api, shop, client, ended: false, _caretaker };
        stage.wait_until_all_serve().await?;
        Ok(stage)
    }

    async fn wait_until_all_serve(&mut self) -> Result<(), DemoError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(Some(status)) = self.engine.try_wait() {
                return Err(DemoError::new(format!(
                    "the engine ended at once ({status}):\n{}",
                    self.log_tail()
                )));
            }
            let seen = self.snapshot().await;
            if seen.as_ref().is_ok_and(all_serve) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let why = match seen {
                    Ok(seen) => format!("{:?}", seen.degraded),
                    Err(error) => error.to_string(),
                };
                return Err(DemoError::new(format!(
                    "the cells did not come up within {PATIENCE:?}: {why}\n{}",
                    self.log_tail()
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join("engine.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(12).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Protections that this host lacks, as the engine's log names them.
    pub(crate) fn missing_protections(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.join("engine.log")).unwrap_or_default();
        text.lines().filter_map(|line| line.find("this host lacks").map(|at| line[at..].to_owned())).collect()
    }

    pub(crate) async fn snapshot(&self) -> Result<Snapshot, DemoError> {
        Ok(self.client.get("/api/v1/snapshot").await?)
    }

    /// The newest entries of the ledger, newest first.
    pub(crate) async fn ledger(&self) -> Result<Vec<LedgerEntry>, DemoError> {
        let page: Value = self.client.get("/api/v1/ledger?limit=200").await?;
        let entries = page.get("entries").cloned().unwrap_or(page);
        serde_json::from_value(entries).map_err(|e| DemoError::new(format!("the ledger can't be read: {e}")))
    }

    /// Sets a fault in a cell.
    pub(crate) async fn harm(&self, cell: &str, fault: Value) -> Result<(), DemoError> {
        let address = self.address_of(cell)?;
        let request = hyper::Request::builder()
            .method("POST")
            .uri("/fault")
            .header("host", "cell")
            .header("content-type", "application/json")
            .header("x-control-token", script::CONTROL_TOKEN)
            .body(http_body_util::Full::<bytes::Bytes>::from(fault.to_string()))
            .map_err(|e| DemoError::new(e.to_string()))?;
        let words = |e: hyper::Error| DemoError::new(format!("{cell} can't be harmed: {e}"));
        let stream = tokio::net::TcpStream::connect(address).await?;
        let (mut sender, driver) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
                .await
                .map_err(words)?;
        tokio::spawn(driver);
        let answer = sender.send_request(request).await.map_err(words)?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(DemoError::new(format!("{cell} refused the fault {fault}: {}", answer.status())))
        }
    }

    /// Ends every fault of a cell.
    pub(crate) async fn heal(&self, cell: &str) -> Result<(), DemoError> {
        self.harm(cell, json!({ "release": true })).await
    }

    fn address_of(&self, cell: &str) -> Result<SocketAddr, DemoError> {
        let path = self.cells_dir().join(cell).join("cell.json");
        let text = std::fs::read_to_string(&path)?;
        let record: Value =
            serde_json::from_str(&text).map_err(|e| DemoError::new(format!("{}: {e}", path.display())))?;
        let address = record.get("address").and_then(Value::as_str).and_then(|a| a.parse().ok());
        address.ok_or_else(|| DemoError::new(format!("{} names no address", path.display())))
    }

    fn cells_dir(&self) -> PathBuf {
        self.dir.join("state").join("cells")
    }

    /// How many request ids of the act were begun more than once, over all cells of the shop.
    pub(crate) fn executed_twice(&self, letter: char) -> Result<u64, DemoError> {
        let mut begun: BTreeMap<String, u32> = BTreeMap::new();
        for cell in std::fs::read_dir(self.cells_dir())? {
            let cell = cell?;
            // The inventory hears of each request too; what counts is how often a shop did what was asked.
            if !cell.file_name().to_string_lossy().starts_with("shop-") {
                continue;
            }
            let log = cell.path().join("data").join("executed.log");
            let Ok(text) = std::fs::read_to_string(&log) else { continue };
            let ids = text.lines().filter_map(|line| line.split(' ').next());
            for id in ids.filter(|id| id.starts_with(letter) && id[1..].starts_with('-')) {
                *begun.entry(id.to_owned()).or_default() += 1;
            }
        }
        Ok(begun.values().filter(|times| **times > 1).count() as u64)
    }

    /// Ends engine, director and cells.
    pub(crate) async fn strike(mut self) {
        self.end();
        tokio::task::yield_now().await;
    }

    fn end(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        if let Err(error) = caretaker::clear(&self.dir) {
            eprintln!("{error}");
        }
        // It has ended by now, and somebody must hear of it.
        let _ = self.engine.kill();
        let _ = self.engine.wait();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether the shop has its home weights and every configured cell serves.
fn all_serve(seen: &Snapshot) -> bool {
    let Ok(shop) = ServiceId::new("shop") else { return false };
    let serving = |life: LifeState| matches!(life, LifeState::Serving | LifeState::Canary);
    seen.world.services.len() == 2
        && seen
            .world
            .services
            .values()
            .all(|s| s.cells.values().filter(|c| s.home.share(&c.cell.id) > 0.0).all(|c| serving(c.life)))
        && seen.world.services.get(&shop).is_some_and(|s| {
            s.cells.values().all(|c| matches!(c.objective, forefend_domain::ObjectiveState::Met { .. }))
        })
}

fn free_address() -> Result<SocketAddr, DemoError> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

fn api_address(wanted: Option<u16>) -> Result<SocketAddr, DemoError> {
    let usual = SocketAddr::from(([127, 0, 0, 1], wanted.unwrap_or(7_700)));
    match TcpListener::bind(usual) {
        Ok(_) => Ok(usual),
        Err(error) if wanted.is_some() => Err(DemoError::new(format!("can't listen on {usual}: {error}"))),
        Err(_) => free_address(),
    }
}
