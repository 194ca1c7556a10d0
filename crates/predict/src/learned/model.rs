use std::time::Duration;

use forefend_domain::{Prediction, Windows};
use serde::{Deserialize, Serialize};

use super::{Remembering, Stacked, feature_names};
use crate::{DayZero, Known, Predictor};

/// A model that can serve.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Model {
    /// Limits, trends and the prior: nothing was learned.
    #[default]
    FirstDay,
    /// What was learned from failures, beside the model of the first day.
    Stacked(Box<Stacked>),
    /// A memory above the other models.
    Remembering(Box<Remembering>),
}

impl Model {
    /// Features that it was trained on and that no window can give: a model that needs them can't serve.
    #[must_use]
    pub fn unknown_features(&self) -> Vec<String> {
        let mut unknown = self.stacked().map(unknown_of).unwrap_or_default();
        if let Self::Remembering(remembering) = self {
            unknown.extend(remembering.unknown_features());
        }
        unknown
    }

    /// What was learned over features of the newest instant, if anything was.
    fn stacked(&self) -> Option<&Stacked> {
        match self {
            Self::FirstDay => None,
            Self::Stacked(stacked) => Some(stacked),
            Self::Remembering(remembering) => remembering.parts().below.as_ref(),
        }
    }

    /// How far ahead what was learned looks; `None`: nothing was learned.
    #[must_use]
    pub fn reach(&self) -> Option<Duration> {
        match self {
            Self::Remembering(remembering) => Some(remembering.parts().lstm.reach()),
            Self::FirstDay | Self::Stacked(_) => self.stacked().map(|stacked| stacked.learned.hazard.reach()),
        }
    }
}

fn unknown_of(stacked: &Stacked) -> Vec<String> {
    let (known, features) = (feature_names(), stacked.learned.hazard.features());
    let mut unknown: Vec<String> = features.iter().filter(|f| !known.contains(f)).cloned().collect();
    // The right names in another order would be read as each other.
    if unknown.is_empty() && features != known {
        unknown.push("the order of its features".to_owned());
    }
    unknown
}

impl Predictor for Model {
    fn predict(&self, windows: &Windows, horizon: Duration) -> Option<Prediction> {
        self.predict_knowing(windows, horizon, &Known::default())
    }

    fn predict_knowing(&self, windows: &Windows, horizon: Duration, known: &Known) -> Option<Prediction> {
        match self {
            Self::FirstDay => DayZero::default().predict_knowing(windows, horizon, known),
            Self::Stacked(stacked) => stacked.predict_knowing(windows, horizon, known),
            Self::Remembering(remembering) => remembering.predict_knowing(windows, horizon, known),
        }
    }
}
