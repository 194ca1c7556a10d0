use super::{INJECTED_WEIGHT, Label, Source, VERSION};
use crate::{
    drill::Drill,
    experiment::Experiment,
    run::{Injections, Record, Run},
};

/// The labels of a run: one for each fault at each cell. Write them when it is over; call it again after the injector was
/// seen to have undone everything for `undone` to be known.
#[must_use]
pub fn labels_of_run(run: &Run) -> Vec<Label> {
    labels(run.id(), run.experiment(), run.injections(), run.record(), Source::Fault)
}

/// The labels of a drill: of the fault that was done to its empty cells, if any was.
#[must_use]
pub fn labels_of_drill(drill: &Drill) -> Vec<Label> {
    labels(drill.id(), drill.experiment(), drill.injections(), drill.record(), Source::Drill)
}

fn labels(
    run: &str,
    experiment: &Experiment,
    injections: Option<&Injections>,
    record: &Record,
    source: Source,
) -> Vec<Label> {
    let all = injections.into_iter().flat_map(Injections::all);
    all.map(|(id, injected, entry)| {
        let seen = record.cells.get(&id.cell);
        Label {
            v: VERSION,
            id: format!("{run}/{}/{}", id.fault, id.cell),
            run: run.to_owned(),
            experiment: experiment.name.as_str().to_owned(),
            cell: id.cell.clone(),
            service: experiment.service().clone(),
            fault: entry.fault.clone(),
            ramp: entry.ramp,
            intensity: entry.intensity.get(),
            peak_level: injected.peak,
            mean_level: injected.mean_level().min(injected.peak),
            begun: injected.begun,
            ended: injected.ended,
            undone: injected.undone,
            foresight: entry.fault.foresight(entry.ramp),
            broke: seen.and_then(|seen| seen.failed_since),
            emptied: seen.and_then(|seen| seen.emptied),
            source,
            weight: INJECTED_WEIGHT,
        }
    })
    .collect()
}
