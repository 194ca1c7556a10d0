//! What the loop waits for between two ticks.

use std::time::Instant;

use tokio::sync::mpsc;

use crate::api::{DrillRequest, ModelRequest, OperatorRequest, WindowsRequest};

pub(super) struct Signals {
    term: Option<tokio::signal::unix::Signal>,
    int: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    pub(super) fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self { term: signal(SignalKind::terminate()).ok(), int: signal(SignalKind::interrupt()).ok() }
    }

    async fn any(&mut self) {
        async fn one(signal: &mut Option<tokio::signal::unix::Signal>) {
            match signal {
                Some(signal) => {
                    signal.recv().await;
                }
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = one(&mut self.term) => {}
            () = one(&mut self.int) => {}
        }
    }
}

pub(super) enum Woken {
    Tick,
    Drill(DrillRequest),
    Model(ModelRequest),
    Look(WindowsRequest),
    Command(OperatorRequest),
    Stop,
}

pub(super) async fn wait(
    (commands, drills, models, looks): (
        &mut mpsc::Receiver<OperatorRequest>,
        &mut mpsc::Receiver<DrillRequest>,
        &mut mpsc::Receiver<ModelRequest>,
        &mut mpsc::Receiver<WindowsRequest>,
    ),
    signals: &mut Signals,
    until: Instant,
) -> Woken {
    tokio::select! {
        biased;
        () = signals.any() => Woken::Stop,
        Some(request) = commands.recv() => Woken::Command(request),
        Some(request) = drills.recv() => Woken::Drill(request),
        Some(request) = models.recv() => Woken::Model(request),
        Some(request) = looks.recv() => Woken::Look(request),
        () = tokio::time::sleep_until(until.into()) => Woken::Tick,
    }
}
