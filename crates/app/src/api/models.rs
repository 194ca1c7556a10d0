//! Learned models over the API.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, State},
    http::StatusCode,
};
use forefend_domain::{CellId, Timestamp};
use forefend_telemetry::history::{Incident, IncidentSource};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    auth::{Principal, Role},
    commands::{Answer, Nothing, answer_of, read},
    guard::forbidden,
    problem::Problem,
    routes::{CellPath, Shared, cell_id},
};
use crate::models::{ModelCommand, ModelView, ModelsView};

/// The way to the models of an engine.
#[derive(Debug, Clone)]
pub struct ModelsHandle {
    /// All about them.
    pub view: watch::Receiver<Arc<ModelsView>>,
    /// Where commands go. When it is full they are refused, not queued.
    pub commands: mpsc::Sender<ModelRequest>,
}

impl ModelsHandle {
    /// Of an engine that has none: every command is refused.
    #[must_use]
    pub fn none() -> Self {
        let (_, view) = watch::channel(Arc::new(ModelsView::default()));
        let (commands, _) = mpsc::channel(1);
        Self { view, commands }
    }
}

/// A command on its way to the models.
#[derive(Debug)]
pub struct ModelRequest {
    /// Who asks: the name of the token, or `local` when there are no tokens.
    pub who: String,
    /// What for.
    pub command: ModelCommand,
    /// The answer in words.
    pub reply: oneshot::Sender<Result<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PromoteBody {
    /// Although the gate has not let it pass.
    #[serde(default)]
    force: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IncidentBody {
    began_ms: u64,
    #[serde(default)]
    ended_ms: Option<u64>,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    event: String,
}

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<ModelsView> {
    Json(shared.engine.models.view.borrow().as_ref().clone())
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<ModelView>, Problem> {
    let view = shared.engine.models.view.borrow().clone();
    view.models.iter().find(|model| model.card.id == id).cloned().map(Json).ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "model",
            "No such model",
            format!("there is no model `{id}`"),
            "GET /api/v1/models lists those there are",
        )
    })
}

pub(super) async fn promote(
    State(shared): State<Arc<Shared>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    body: Body,
) -> Answer {
    let PromoteBody { force } = read(body, r#"{"force": false}"#, 4096).await?;
    // Whoever may steer by what was proved may not thereby switch the proof off.
    if force && who.role < Role::Admin {
        return Err(forbidden(&who.name, who.role, Role::Admin));
    }
    hand_over(&shared, who, ModelCommand::Promote { id, force }).await
}

pub(super) async fn rollback(
    State(shared): State<Arc<Shared>>,
    Extension(who): Extension<Principal>,
    body: Body,
) -> Answer {
    read::<Nothing>(body, "{}", 4096).await?;
    hand_over(&shared, who, ModelCommand::Rollback).await
}

pub(super) async fn train(
    State(shared): State<Arc<Shared>>,
    Extension(who): Extension<Principal>,
    body: Body,
) -> Answer {
    read::<Nothing>(body, "{}", 4096).await?;
    hand_over(&shared, who, ModelCommand::Train).await
}

pub(super) async fn incident(
    State(shared): State<Arc<Shared>>,
    Extension(who): Extension<Principal>,
    CellPath(id): CellPath,
    body: Body,
) -> Answer {
    const EXAMPLE: &str = r#"{"began_ms": 1700000000000, "ended_ms": 1700000600000, "kind": "memory leak"}"#;
    let cell: CellId = cell_id(&shared, &id)?;
    let IncidentBody { began_ms, ended_ms, kind, event } = read(body, EXAMPLE, 4096).await?;
    let now = shared.snapshot().world.now;
    let began = Timestamp::from_unix_ms(began_ms);
    let wrong = |what: &str| Problem::bad_request("body", what.to_owned(), format!("send {EXAMPLE}"));
    if began > now {
        return Err(wrong("`began_ms` is in the future"));
    }
    if ended_ms.is_some_and(|ended| ended <= began_ms) {
        return Err(wrong("`ended_ms` is not after `began_ms`"));
    }
    if kind.len() > 100 || event.len() > 100 {
        return Err(wrong("`kind` and `event` are at most 100 bytes long"));
    }
    let ended = ended_ms.map(Timestamp::from_unix_ms);
    let incident = Incident { cell, began, ended, kind, event, source: IncidentSource::Operator };
    hand_over(&shared, who, ModelCommand::Incident(incident)).await
}

async fn hand_over(shared: &Shared, who: Principal, command: ModelCommand) -> Answer {
    let (reply, answer) = oneshot::channel();
    let request = ModelRequest { who: who.name, command, reply };
    shared.engine.models.commands.try_send(request).map_err(|_| {
        Problem::unavailable(
            "models-unavailable",
            "the engine takes no commands for models now",
            "wait a tick and try again",
        )
    })?;
    answer_of(answer, "look at the models: GET /api/v1/models").await
}
