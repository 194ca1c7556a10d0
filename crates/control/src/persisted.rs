use std::collections::{BTreeMap, BTreeSet};

use forefend_decide::Memory;
use forefend_domain::{CellId, LeadTimeProfile, ServiceId, ShiftRequest};
use forefend_predict::{Hazards, LearnedLimits};
use serde::{Deserialize, Serialize};

/// The version of the layout below. A newer one is refused rather than half understood.
const FORMAT: u32 = 1;

/// Everything of the loop that outlives it, stored atomically with the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Persisted {
    format: u32,
    pub(crate) memory: Memory,
    pub(crate) frozen: bool,
    pub(crate) approved: BTreeSet<CellId>,
    pub(crate) requested: BTreeMap<CellId, ShiftRequest>,
    pub(crate) lead_times: BTreeMap<ServiceId, LeadTimeProfile>,
    /// By service: its cells run the same program.
    #[serde(default)]
    pub(crate) limits: BTreeMap<ServiceId, LearnedLimits>,
    /// How often cells failed.
    #[serde(default)]
    pub(crate) hazards: Hazards,
}

impl Default for Persisted {
    fn default() -> Self {
        Self {
            format: FORMAT,
            memory: Memory::default(),
            frozen: false,
            approved: BTreeSet::new(),
            requested: BTreeMap::new(),
            lead_times: BTreeMap::new(),
            limits: BTreeMap::new(),
            hazards: Hazards::default(),
        }
    }
}

impl Persisted {
    /// The same with another memory of decisions and of failures; what it replaces, which is most of all, is not copied.
    pub(crate) fn with(&self, memory: Memory, hazards: Hazards) -> Self {
        Self {
            format: self.format,
            memory,
            frozen: self.frozen,
            approved: self.approved.clone(),
            requested: self.requested.clone(),
            lead_times: self.lead_times.clone(),
            limits: self.limits.clone(),
            hazards,
        }
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let persisted: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if persisted.format == FORMAT {
            Ok(persisted)
        } else {
            Err(format!("it has format {}, and this version reads format {FORMAT}", persisted.format))
        }
    }
}
