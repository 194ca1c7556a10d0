use std::{sync::Arc, time::Duration};

use axum::{Extension, Json, body::Body, extract::State, http::StatusCode};
use forefend_control::OperatorCommand;
use forefend_domain::Weight;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::{mpsc::error::TrySendError, oneshot};

use super::{
    auth::Principal,
    handle::OperatorRequest,
    problem::Problem,
    routes::{CellPath, Shared, cell_id},
};

/// Commands are a few bytes.
const BODY_BYTES_AT_MOST: usize = 4096;

/// A command is taken up at the next tick; an engine that needs longer than this is stuck, and the client must know.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What the engine said to a command.
#[derive(Serialize)]
pub(super) struct Done {
    /// In words.
    result: String,
}

pub(super) type Answer = Result<Json<Done>, Problem>;

/// A command without arguments; its body is `{}` or empty.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShiftBody {
    weight_bp: u32,
    /// Seconds; the engine knows the bounds.
    #[serde(default)]
    lease_s: Option<u32>,
    #[serde(default)]
    drill: bool,
}

pub(super) async fn freeze(
    State(shared): State<Arc<Shared>>,
    Extension(who): Extension<Principal>,
    body: Body,
) -> Answer {
    read::<Nothing>(body, "{}", BODY_BYTES_AT_MOST).await?;
    hand_over(&shared, who, OperatorCommand::Freeze).await
}

pub(super) async fn unfreeze(
    State(shared): State<Arc<Shared>>,
    Extension(who): Extension<Principal>,
    body: Body,
) -> Answer {
    read::<Nothing>(body, "{}", BODY_BYTES_AT_MOST).await?;
    hand_over(&shared, who, OperatorCommand::Unfreeze).await
}

pub(super) async fn shift(
    State(shared): State<Arc<Shared>>,
    Extension(who): Extension<Principal>,
    CellPath(id): CellPath,
    body: Body,
) -> Answer {
    let cell = cell_id(&shared, &id)?;
    let example = r#"{"weight_bp": 2500}"#;
    let ShiftBody { weight_bp, lease_s, drill } = read(body, example, BODY_BYTES_AT_MOST).await?;
    let weight = Weight::from_bp(weight_bp).map_err(|error| {
        Problem::bad_request("body", format!("the body's `weight_bp`: {error}"), format!("send {example}"))
    })?;
    let lease = lease_s.map(|s| Duration::from_secs(s.into()));
    hand_over(&shared, who, OperatorCommand::Shift { cell, weight, lease, drill }).await
}

pub(super) async fn end_shift(
    State(shared): State<Arc<Shared>>,
    Extension(who): Extension<Principal>,
    CellPath(id): CellPath,
    body: Body,
) -> Answer {
    let cell = cell_id(&shared, &id)?;
    read::<Nothing>(body, "{}", BODY_BYTES_AT_MOST).await?;
    hand_over(&shared, who, OperatorCommand::EndShift { cell }).await
}

pub(super) async fn approve(
    State(shared): State<Arc<Shared>>,
    Extension(who): Extension<Principal>,
    CellPath(id): CellPath,
    body: Body,
) -> Answer {
    let cell = cell_id(&shared, &id)?;
    read::<Nothing>(body, "{}", BODY_BYTES_AT_MOST).await?;
    hand_over(&shared, who, OperatorCommand::Approve { cell }).await
}

pub(super) async fn read<T: DeserializeOwned>(
    body: Body,
    example: &str,
    at_most: usize,
) -> Result<T, Problem> {
    let bytes = axum::body::to_bytes(body, at_most).await.map_err(|_| {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-size",
            "The body is too large",
            format!("the body is longer than {at_most} bytes or was cut off"),
            format!("send {example}"),
        )
    })?;
    let json: &[u8] = if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(json).map_err(|error| {
        Problem::bad_request("body", format!("the body: {error}"), format!("send {example}"))
    })
}

async fn hand_over(shared: &Shared, who: Principal, command: OperatorCommand) -> Answer {
    let (reply, answer) = oneshot::channel();
    tracing::info!(who = who.name, ?command, "an operator gave a command");
    shared.engine.commands.try_send(OperatorRequest { who: who.name, command, reply }).map_err(|error| {
        match error {
            TrySendError::Full(_) => Problem::unavailable(
                "engine-busy",
                "the engine has not yet taken up the commands before this one",
                "wait a tick and try again",
            ),
            TrySendError::Closed(_) => gone(),
        }
    })?;
    answer_of(answer, "look at the cell's explanation: GET /api/v1/cells/{id}").await
}

/// Waits for the engine's word.
pub(super) async fn answer_of(
    answer: oneshot::Receiver<Result<String, String>>,
    remedy: &'static str,
) -> Answer {
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(Ok(Ok(result))) => Ok(Json(Done { result })),
        Ok(Ok(Err(why))) => {
            Err(Problem::new(StatusCode::CONFLICT, "refused", "The engine refused", why, remedy))
        }
        Ok(Err(_)) => Err(gone()),
        Err(_) => Err(Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "engine-stuck",
            "The engine does not answer",
            format!("no answer within {} s; the command may still be taken up", ANSWER_WITHIN.as_secs()),
            "look at the ledger before giving it again",
        )),
    }
}

fn gone() -> Problem {
    Problem::unavailable(
        "engine-gone",
        "the engine is stopping and takes no commands",
        "try again when it has started",
    )
}
