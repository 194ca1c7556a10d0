//! Who may have pushed something: from labels to cells.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use forefend_domain::CellId;

use super::{Target, target::PushTarget};
use crate::pushed::Labels;

/// Which labels say whose a series is, and which say nothing about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Labels of series and attributes of resources, in the order they are looked at. The first that is there decides: its
    /// value is the name of a cell or one of its addresses.
    pub cell_labels: Vec<String>,
    /// Labels that are left out of the names of series, besides those above.
    pub ignored_labels: Vec<String>,
}

/// Whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender<'a> {
    Cell(&'a CellId),
    /// Named, but by no name that is known: label and value.
    Stranger(&'a str, &'a str),
    /// No label says it.
    Nameless,
}

/// A cell that may push.
pub(super) struct Known {
    pub(super) target: PushTarget,
    /// What a cell says before it is warm, or while it is frozen, does not count.
    pub(super) paused: bool,
}

#[derive(Default)]
pub(super) struct Directory {
    cells: BTreeMap<CellId, Arc<Known>>,
    /// `None`: several cells have it, so it names none.
    addresses: HashMap<SocketAddr, Option<CellId>>,
    /// Names of labels, and whose each combination of their values is; `None` as above.
    known_as: BTreeMap<Vec<String>, HashMap<Vec<String>, Option<CellId>>>,
}

impl Directory {
    pub(super) fn new<'a>(targets: impl Iterator<Item = &'a Target>) -> Self {
        let mut directory = Self::default();
        for target in targets {
            for address in &target.push.addresses {
                directory
                    .addresses
                    .entry(*address)
                    .and_modify(|cell| {
                        if cell.as_ref() != Some(&target.cell) {
                            *cell = None;
                        }
                    })
                    .or_insert_with(|| Some(target.cell.clone()));
            }
            if !target.push.known_as.is_empty() {
                let mut labels = target.push.known_as.clone();
                labels.sort_unstable();
                let (names, values) = labels.into_iter().unzip();
                let of_names: &mut HashMap<_, _> = directory.known_as.entry(names).or_default();
                of_names
                    .entry(values)
                    .and_modify(|cell| *cell = None)
                    .or_insert_with(|| Some(target.cell.clone()));
            }
            let known = Known { target: target.push.clone(), paused: target.paused };
            directory.cells.insert(target.cell.clone(), Arc::new(known));
        }
        directory
    }

    pub(super) fn known(&self, cell: &CellId) -> Option<Arc<Known>> {
        self.cells.get(cell).cloned()
    }

    /// Labels of the series go before what is told of the sender.
    pub(super) fn sender<'a>(
        &'a self,
        identity: &'a Identity,
        labels: &'a Labels,
        source: &'a Labels,
    ) -> Sender<'a> {
        let value = |wanted: &str| {
            let told = labels.iter().chain(source).find(|(name, value)| name == wanted && !value.is_empty());
            told.map(|(_, value)| value.as_str())
        };
        let told = identity.cell_labels.iter().find_map(|label| Some((label, value(label)?)));
        let Some((label, value)) = told else { return Sender::Nameless };
        match self.cell(value) {
            Some(cell) => Sender::Cell(cell),
            None => Sender::Stranger(label, value),
        }
    }

    /// Of whom a series of a Prometheus is: by the labels that a cell is known as, else by the first of `cell_labels` that is there.
    pub(super) fn asked<'a>(
        &'a self,
        cell_labels: &'a [String],
        labels: &'a BTreeMap<String, String>,
    ) -> Sender<'a> {
        for (names, cells) in &self.known_as {
            let values: Option<Vec<String>> = names.iter().map(|name| labels.get(name).cloned()).collect();
            if let Some(Some(cell)) = values.and_then(|values| cells.get(&values)) {
                return Sender::Cell(cell);
            }
        }
        let told = cell_labels.iter().find_map(|label| Some((label, labels.get(label)?)));
        let Some((label, value)) = told else { return Sender::Nameless };
        match self.cell(value) {
            Some(cell) if self.cells.get(cell).is_some_and(|known| known.target.known_as.is_empty()) => {
                Sender::Cell(cell)
            }
            _ => Sender::Stranger(label, value),
        }
    }

    /// How many cells there are.
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    fn cell(&self, value: &str) -> Option<&CellId> {
        if let Some((cell, _)) = self.cells.get_key_value(value) {
            return Some(cell);
        }
        let address: SocketAddr = match value.strip_prefix("localhost:") {
            Some(port) => SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)),
            None => value.parse().ok()?,
        };
        self.addresses.get(&address)?.as_ref()
    }
}

impl Identity {
    /// The labels by which a series differs from others of its cell.
    pub(super) fn own(&self, labels: Labels) -> Labels {
        let told = |name: &String| self.cell_labels.contains(name) || self.ignored_labels.contains(name);
        labels.into_iter().filter(|(name, _)| !told(name)).collect()
    }
}
