use forefend_domain::Timestamp;
use forefend_learn::{
    evaluate::Estimate,
    practice::{Card, Drift, Registry, State, Status, gate},
};
use serde::{Deserialize, Serialize};

use super::trials::Role;

/// A model, as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelView {
    /// What it does; `None`: nothing.
    pub status: Option<Status>,
    /// Why it was refused or rolled back.
    pub why: Option<String>,
    /// What is known of it.
    pub card: Card,
}

/// A model that is asked beside the champion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialView {
    /// Which; `None`: the model of the first day.
    pub id: Option<String>,
    /// Why it is asked.
    pub role: Role,
    /// The champion that it is held against.
    pub against: String,
    /// Since when.
    pub since: Timestamp,
    /// Looks at cells whose outcome is known.
    pub looks: usize,
    /// What the gate says of it.
    pub verdict: gate::Verdict,
    /// By how much the Brier score of the one that has to prove itself is higher (of a shadow its own, of a guard the champion's), where that
    /// is beyond chance and no quirk of a quiet time.
    pub speaks_against: Option<Estimate>,
}

/// All about models.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelsView {
    /// Who serves; `None`: the model of the first day, which has learned nothing.
    pub champion: Option<String>,
    /// Oldest first.
    pub models: Vec<ModelView>,
    /// Models that are asked beside the champion.
    pub trials: Vec<TrialView>,
    /// Features whose spread lately is another than what the champion learned from, the most changed first.
    pub drift: Vec<Drift>,
    /// How the last training went and when the next one begins, in words.
    pub training: String,
    /// What is wrong, in words. Empty is good.
    pub trouble: Vec<String>,
}

impl ModelsView {
    pub(super) fn of(
        state: &State,
        cards: Vec<Card>,
        trials: Vec<TrialView>,
        training: String,
        trouble: Vec<String>,
    ) -> Self {
        let model = |card: Card| ModelView {
            status: Registry::status(state, &card.id),
            why: state.refused.get(&card.id).cloned(),
            card,
        };
        Self {
            champion: state.champion.clone(),
            models: cards.into_iter().map(model).collect(),
            trials,
            drift: Vec::new(),
            training,
            trouble,
        }
    }
}
