//! The models of this engine, with the ways in and out.

use std::{sync::Arc, time::Duration};

use forefend_config::Config;
use forefend_control::Snapshot;
use forefend_domain::{OperatingCurve, Timestamp};
use forefend_store::LedgerReader;
use tokio::sync::{mpsc, watch};

use super::{EngineError, EngineOptions};
use crate::{
    api::{ModelRequest, ModelsHandle},
    models::{ModelCommand, Models, ModelsView, Places, Serving, Wish},
    outlooks::Outlooks,
};

/// Commands that may wait for the next tick.
const COMMANDS_WAITING: usize = 16;
/// The view is made anew after so many ticks, and at once when something changed.
const PUBLISHED_EVERY: u32 = 20;

pub(super) struct ModelsOfEngine {
    models: Models,
    /// `None`: this engine was started without forecasts.
    outlooks: Option<Outlooks>,
    ledger: LedgerReader,
    view: watch::Sender<Arc<ModelsView>>,
    commands: mpsc::Receiver<ModelRequest>,
    /// Ticks until the view is made anew.
    until_published: u32,
}

impl ModelsOfEngine {
    pub(super) fn open(
        options: &EngineOptions,
        config: &Config,
        ledger: LedgerReader,
        now: Timestamp,
    ) -> Result<(Self, ModelsHandle), EngineError> {
        let places = Places { config: options.config.clone(), state_dir: config.engine.state_dir.clone() };
        let models = Models::open(places, config.engine.learning.clone(), options.forecast, now)?;
        let outlooks = options.forecast.then(|| Outlooks::open(options.config.clone(), config, now));
        let (view, watched) = watch::channel(Arc::new(models.view()));
        let (sender, commands) = mpsc::channel(COMMANDS_WAITING);
        let handle = ModelsHandle { view: watched, commands: sender };
        Ok((Self { models, outlooks, ledger, view, commands, until_published: 0 }, handle))
    }

    pub(super) fn serving(&self) -> Serving {
        self.models.serving()
    }

    pub(super) fn configure(&mut self, config: &Config) {
        self.models.configure(config.engine.learning.clone());
        if let Some(outlooks) = &mut self.outlooks {
            outlooks.configure(config);
        }
    }

    /// How the model that serves did at each threshold, and how far ahead it looks. Once for each change of who serves.
    pub(super) fn news(&mut self) -> Option<(OperatingCurve, Duration)> {
        self.models.news()
    }

    /// The same, whether or not it is new.
    pub(super) fn operating(&self) -> (OperatingCurve, Duration) {
        self.models.operating()
    }

    pub(super) fn commands(&mut self) -> &mut mpsc::Receiver<ModelRequest> {
        &mut self.commands
    }

    pub(super) fn step(&mut self, snapshot: &Snapshot) -> Vec<Wish> {
        self.until_published = self.until_published.saturating_sub(1);
        if let Some(forecasts) = self.outlooks.as_mut().and_then(|outlooks| outlooks.step(snapshot.world.now))
        {
            self.models.serving().foretell(forecasts);
        }
        self.models.step(snapshot, &self.ledger)
    }

    pub(super) fn command(&mut self, command: &ModelCommand, now: Timestamp) -> Result<Wish, String> {
        self.until_published = 0;
        self.models.command(command, now)
    }

    pub(super) fn grant(&mut self, wish: &Wish, now: Timestamp) -> Result<(), String> {
        self.until_published = 0;
        self.models.grant(wish, now)
    }

    /// Makes the view anew, if it is time.
    pub(super) fn publish(&mut self) {
        if self.until_published > 0 {
            return;
        }
        self.until_published = PUBLISHED_EVERY;
        self.view.send_replace(Arc::new(self.models.view()));
    }
}
