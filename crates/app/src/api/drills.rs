//! Experiments and drills over the API.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, State},
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    auth::Principal,
    commands::{Answer, Nothing, answer_of, read},
    problem::Problem,
    routes::Shared,
};
use crate::drills::{DrillCommand, DrillView};

/// An experiment's file is a page or two.
const EXPERIMENT_BYTES_AT_MOST: usize = 256 << 10;

/// The way to the drills of an engine.
#[derive(Debug, Clone)]
pub struct DrillsHandle {
    /// Every run that is known, newest first.
    pub runs: watch::Receiver<Arc<Vec<DrillView>>>,
    /// Where commands go. When it is full they are refused, not queued.
    pub commands: mpsc::Sender<DrillRequest>,
}

impl DrillsHandle {
    /// Of an engine that has none: every command is refused.
    #[must_use]
    pub fn none() -> Self {
        let (_, runs) = watch::channel(Arc::new(Vec::new()));
        let (commands, _) = mpsc::channel(1);
        Self { runs, commands }
    }
}

/// A command on its way to the drills.
#[derive(Debug)]
pub struct DrillRequest {
    /// Who asks: the name of the token, or `local` when there are no tokens.
    pub who: String,
    /// What for.
    pub command: DrillCommand,
    /// The answer in words.
    pub reply: oneshot::Sender<Result<String, String>>,
}

#[derive(Serialize)]
pub(super) struct Runs {
    runs: Vec<DrillView>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExperimentBody {
    /// The file, as text.
    experiment: String,
    /// Chooses the cells where there is a choice.
    #[serde(default)]
    seed: u64,
}

const EXAMPLE: &str = r#"{"experiment": "version: 1\nname: …", "seed": 1}"#;

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<Runs> {
    Json(Runs { runs: shared.engine.drills.runs.borrow().as_ref().clone() })
}

pub(super) async fn report(
    State(shared): State<Arc<Shared>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
) -> Answer {
    hand_over(&shared, who, DrillCommand::Report { id }).await
}

pub(super) async fn plan(
    State(shared): State<Arc<Shared>>,
    Extension(who): Extension<Principal>,
    body: Body,
) -> Answer {
    let ExperimentBody { experiment, seed } = read(body, EXAMPLE, EXPERIMENT_BYTES_AT_MOST).await?;
    hand_over(&shared, who, DrillCommand::Plan { experiment, seed }).await
}

pub(super) async fn run(
    State(shared): State<Arc<Shared>>,
    Extension(who): Extension<Principal>,
    body: Body,
) -> Answer {
    let ExperimentBody { experiment, seed } = read(body, EXAMPLE, EXPERIMENT_BYTES_AT_MOST).await?;
    hand_over(&shared, who, DrillCommand::Run { experiment, seed }).await
}

pub(super) async fn approve(
    State(shared): State<Arc<Shared>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    body: Body,
) -> Answer {
    read::<Nothing>(body, "{}", 4096).await?;
    hand_over(&shared, who, DrillCommand::Approve { id }).await
}

pub(super) async fn end(
    State(shared): State<Arc<Shared>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
    body: Body,
) -> Answer {
    read::<Nothing>(body, "{}", 4096).await?;
    hand_over(&shared, who, DrillCommand::End { id }).await
}

async fn hand_over(shared: &Shared, who: Principal, command: DrillCommand) -> Answer {
    let (reply, answer) = oneshot::channel();
    let request = DrillRequest { who: who.name, command, reply };
    shared.engine.drills.commands.try_send(request).map_err(|_| {
        Problem::unavailable(
            "drills-unavailable",
            "the engine takes no commands for drills now",
            "wait a tick and try again",
        )
    })?;
    answer_of(answer, "look at the runs: GET /api/v1/drills").await
}
