use std::{fs, time::Duration};

use forefend_domain::{CellId, ports::DriverStage};

use super::{
    actor,
    context::{Context, Entry},
    launch,
};
use crate::{
    init::Launched,
    process::Process,
    record::{self, Record, SavedStage},
};

/// Finds the cells that an engine before us left, whatever it was doing when it was killed, and removes what belongs to
/// none. Returns each cell with its process, if that lives.
pub(super) fn adopt(context: &Context) -> Vec<(CellId, Option<Process>)> {
    let mut adopted = Vec::new();
    let entries = fs::read_dir(context.options.state_dir.join("cells")).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| CellId::new(name).ok()) else { continue };
        match record::read_json::<Record>(&entry.path().join(record::CELL)) {
            Some(record) if record.cell.id == id => {
                let process = take_over(context, &id, record);
                adopted.push((id, process));
            }
            _ => clear(context, &id),
        }
    }
    for name in context.cgroups.leftovers() {
        let known = context.with(|entries| entries.contains_key(name.as_str()));
        if !known && let Err(e) = context.cgroups.groups_of(&name).destroy(Duration::from_secs(5)) {
            tracing::warn!(cell = name, "a control group that belongs to no cell can't be removed: {e}");
        }
    }
    adopted
}

fn take_over(context: &Context, id: &CellId, mut record: Record) -> Option<Process> {
    let dir = context.dir(id);
    let launched: Option<Launched> = record::read_json(&dir.join(record::PROCESS));
    let process = launched.filter(|launched| launched.attempt == record.attempt).and_then(Process::open);
    let stage = match (&record.stage, &process) {
        (SavedStage::Creating, _) => DriverStage::Creating,
        (SavedStage::Failed { why }, _) => DriverStage::Failed { why: why.clone() },
        (SavedStage::Warming, Some(_)) => DriverStage::Warming,
        (SavedStage::Ready, Some(process)) => {
            if actor::is_frozen(&record.groups, process) == Some(true) {
                DriverStage::Parked
            } else {
                // Half-way into the freezer when the engine was killed: out again, the loop will say what it wants.
                let _ = actor::set_frozen(&record.groups, process, false);
                DriverStage::Ready
            }
        }
        (SavedStage::Warming | SavedStage::Ready, None) => {
            let why = actor::how_it_ended(&record, &dir);
            DriverStage::Failed { why }
        }
    };
    if let DriverStage::Failed { why } = &stage {
        record.stage = SavedStage::Failed { why: why.clone() };
    }
    tracing::info!(cell = %id, ?stage, pid = process.as_ref().map(|p| p.pid), "adopted");
    let mut entry = Entry::new(record, stage);
    entry.pid = process.as_ref().map(|p| p.pid);
    let failed = matches!(entry.stage, DriverStage::Failed { .. });
    context.with(|entries| entries.insert(id.clone(), entry));
    if failed && let Err(e) = launch::kill_remains(context, id) {
        tracing::warn!(cell = %id, "{e}");
    }
    process
}

/// A directory without a whole record: its making or its removal had just begun or was nearly done.
fn clear(context: &Context, id: &CellId) {
    let dir = context.dir(id);
    let cleared = launch::kill_remains(context, id)
        .and_then(|()| launch::lock(&dir, Duration::from_secs(2)))
        .and_then(|_lock| fs::remove_dir_all(&dir).map_err(|e| e.to_string()));
    match cleared {
        Ok(()) => tracing::info!(cell = %id, "removed what was left of a half-made cell"),
        Err(e) => tracing::warn!(cell = %id, "what is left of a half-made cell can't be removed: {e}"),
    }
}
