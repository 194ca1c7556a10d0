//! One service, one contender, the whole past.

use std::{cell::RefCell, rc::Rc};

use forefend_control::{Controller, Ports, Topology};
use forefend_domain::{ServiceId, Timestamp};
use forefend_predict::{DayZero, Predictor};
use forefend_telemetry::history::{History, Incident};

use super::{
    BacktestError, Contender, Options, Planned,
    contender::{Foreseeing, Remembering, Rule},
    record::Recorder,
    trace::{Trace, known},
    world::{State, World},
};

/// Replays a service.
pub(crate) fn service(
    history: &History,
    incidents: &[Incident],
    planned: &Planned,
    id: &ServiceId,
    contender: Contender,
    model: &(dyn Predictor + Sync),
    options: &Options,
) -> Result<Trace, BacktestError> {
    let Some(mut spec) = planned.topology.services.get(id).cloned() else { return Ok(Trace::default()) };
    if contender == Contender::Forefend
        && let Some(policy) = planned.by_curve.get(id)
    {
        spec.service.policy = policy.clone();
    }
    let spec = &spec;
    let known = known(history, incidents, spec.cells.keys(), options);
    let state = State::new(history, spec, &known, options)?;
    let Some((first, last)) = state.span() else { return Ok(Trace::default()) };
    let reactive = DayZero { forecast: false, ..DayZero::default() };
    let rule = Rule(contender);
    let foreseeing = options.outlooks.map(|outlooks| Foreseeing {
        predictor: model,
        history,
        outlooks,
        made: RefCell::default(),
    });
    let predictor: &dyn Predictor = match contender {
        Contender::Forefend => foreseeing.as_ref().map_or(model as &dyn Predictor, |all| all),
        Contender::Reactive | Contender::Nothing => &reactive,
        Contender::StaticThreshold | Contender::PredictLinear => &rule,
    };
    let mut world = World(Rc::new(RefCell::new(state)));
    let topology = Topology { services: [(id.clone(), spec.clone())].into() };
    let probe = (options.tick, options.tick);
    let controller = Controller::new(Remembering::new(predictor), topology, probe, &mut world);
    let mut controller = controller.map_err(|e| BacktestError::Loop(e.to_string()))?;
    let mut recorder = Recorder::new(spec, known, &world.0.borrow(), contender, options.tick);
    // The first window that ends with a value, in whole steps, so that the same past at another time of day gives the same.
    let step_ms = u64::try_from(history.step.as_millis()).unwrap_or(u64::MAX).max(1);
    let mut now = Timestamp::from_unix_ms(first.unix_ms() / step_ms * step_ms);
    let end = last + history.step;
    while now <= end {
        world.0.borrow_mut().advance(now);
        let [clock, mut telemetry, mut data_plane, mut cells, mut gate, mut store] =
            std::array::from_fn(|_| world.clone());
        let snapshot = controller.tick(&mut Ports {
            clock: &clock,
            telemetry: &mut telemetry,
            data_plane: &mut data_plane,
            cells: &mut cells,
            gate: &mut gate,
            store: &mut store,
        });
        let mut state = world.0.borrow_mut();
        state.serve(options.tick);
        recorder.note(&snapshot, &mut state);
        now = now + options.tick;
    }
    Ok(recorder.end())
}
