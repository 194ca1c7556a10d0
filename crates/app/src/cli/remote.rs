//! Commands that change something in a running engine.

use forefend_domain::{CellId, Weight};
use serde_json::{Value, json};

use super::{Failure, Output, Remote};
use crate::api::client::Client;

pub(super) fn client(remote: &Remote) -> Result<Client, Failure> {
    Ok(Client::new(&remote.api, remote.token.clone())?)
}

pub(super) fn post(remote: &Remote, path: &str, body: &Value) -> Result<(), Failure> {
    let answer: Value = client(remote)?.post_blocking(path, body)?;
    match (remote.output, answer.get("result").and_then(Value::as_str)) {
        (Output::Table, Some(message)) => println!("{message}"),
        (Output::Table, None) => println!("done"),
        (Output::Json, _) => println!("{answer}"),
    }
    Ok(())
}

pub(super) fn freeze(remote: &Remote, freeze: bool) -> Result<(), Failure> {
    post(remote, if freeze { "/api/v1/freeze" } else { "/api/v1/unfreeze" }, &json!({}))
}

pub(super) fn shift(cell: &CellId, share: Weight, remote: &Remote) -> Result<(), Failure> {
    if share == Weight::ZERO {
        return post(remote, &format!("/api/v1/cells/{cell}/end-shift"), &json!({}));
    }
    post(remote, &format!("/api/v1/cells/{cell}/shift"), &json!({ "weight_bp": share.bp() }))
}

pub(super) fn approve(cell: &CellId, remote: &Remote) -> Result<(), Failure> {
    post(remote, &format!("/api/v1/cells/{cell}/approve"), &json!({}))
}
