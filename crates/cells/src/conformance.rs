//! What every driver of cells must do, as functions that a driver's tests call: [`check_all`] or one by one.
//!
//! They run against the real thing: real processes, real addresses. Each panics with a sentence when the driver does
//! something else, waits on conditions with a deadline, and retires what it made.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use forefend_domain::{
    BlueprintName, Cell, CellId, CellRole, RegionId, ServiceId, Stage, Weight, ZoneId,
    ports::{CellCommand, CellDriver, CellObservation, DriverStage, PortError},
};

/// What the suite must know of the driver under test.
pub trait Harness {
    /// The driver.
    fn driver(&mut self) -> &mut dyn CellDriver;
    /// Ends the driver without warning, as far as a test can, and starts another that finds the same cells.
    fn restart(&mut self);
    /// A blueprint whose cells answer `GET /` with 200 and whose warm-up replays at least one request.
    fn good(&self) -> BlueprintName;
    /// A blueprint whose command ends at once.
    fn ends_at_once(&self) -> BlueprintName;
    /// A blueprint whose cells run, but whose warm-up fails its check.
    fn fails_warm_up(&self) -> BlueprintName;
    /// Kills the cell from outside, without the driver's knowledge.
    fn crash(&mut self, cell: &CellId);
    /// How long anything of this driver may take.
    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }
}

/// Runs every check.
pub fn check_all(harness: &mut dyn Harness) {
    a_cell_lives_rests_and_is_retired(harness);
    commands_are_idempotent(harness);
    what_does_not_exist_is_refused(harness);
    a_command_that_ends_is_a_failure(harness);
    a_warm_up_that_fails_is_a_failure(harness);
    a_crash_is_seen_and_recreated(harness);
    cells_are_adopted(harness);
}

/// A thawed cell must answer within this: freezing is of use only if thawing is quick.
const THAWED_ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// A frozen cell must not have answered after this.
const FROZEN_IS_SILENT_FOR: Duration = Duration::from_millis(150);

/// Create, ready, parked, silent, thawed, answering, retired, gone.
pub fn a_cell_lives_rests_and_is_retired(harness: &mut dyn Harness) {
    let cell = cell("conformance-life");
    let begun = Instant::now();
    let blueprint = harness.good();
    create(harness, &cell, blueprint).expect("a good blueprint is accepted");
    let mut took = Vec::new();
    let ready = until(harness, &cell.id, "ready", &mut took, |stage| *stage == DriverStage::Ready);
    assert_eq!(ready.cell, cell, "identity and place are kept with the cell");
    let address = ready.address.expect("a ready cell has an address");
    for stage in [Stage::Create, Stage::WarmUp] {
        let measured = took.iter().filter(|(s, _)| *s == stage).collect::<Vec<_>>();
        assert_eq!(measured.len(), 1, "{stage:?} is measured once: {took:?}");
        assert!(measured[0].1 <= begun.elapsed(), "{stage:?} took longer than there was time");
    }
    let passport = ready.passport.expect("a ready cell has a passport");
    assert!(passport.current, "it was made from the newest blueprint");
    assert!(passport.warm_requests > 0 && passport.warm_ok > 0, "it was warmed: {passport:?}");
    assert!(answers(address, harness.patience()), "a ready cell answers");

    request(harness, CellCommand::Park { cell: cell.id.clone() });
    until_stage(harness, &cell.id, &DriverStage::Parked);
    assert!(!answers(address, FROZEN_IS_SILENT_FOR), "a frozen cell does not answer");
    request(harness, CellCommand::Unpark { cell: cell.id.clone() });
    until_stage(harness, &cell.id, &DriverStage::Ready);
    assert!(answers(address, THAWED_ANSWERS_WITHIN), "a thawed cell answers at once");

    retire(harness, &cell.id);
    assert!(TcpStream::connect(address).is_err(), "nobody listens where a retired cell did");
}

/// Asking again for what is, or is under way, changes nothing.
pub fn commands_are_idempotent(harness: &mut dyn Harness) {
    let cell = cell("conformance-again");
    let other = Cell { zone: zone("elsewhere"), ..cell.clone() };
    let name = harness.good();
    create(harness, &cell, name.clone()).expect("accepted");
    create(harness, &cell, name.clone()).expect("asking for what is under way is no error");
    let before = until_stage(harness, &cell.id, &DriverStage::Ready);
    create(harness, &cell, name.clone()).expect("asking for what is there is no error");
    assert!(create(harness, &other, name).is_err(), "the same name for another cell is refused");
    for command in
        [CellCommand::Recreate { cell: cell.id.clone() }, CellCommand::Unpark { cell: cell.id.clone() }]
    {
        request(harness, command);
    }
    let after = until_stage(harness, &cell.id, &DriverStage::Ready);
    assert_eq!(before.passport, after.passport, "it was not made again");
    for _ in 0..2 {
        request(harness, CellCommand::Park { cell: cell.id.clone() });
        until_stage(harness, &cell.id, &DriverStage::Parked);
    }
    request(harness, CellCommand::Rewarm { cell: cell.id.clone() });
    let warmed_at = before.passport.map(|p| p.warmed_at);
    let mut took = Vec::new();
    let deadline = Instant::now() + harness.patience();
    loop {
        let seen = until(harness, &cell.id, "parked again", &mut took, |stage| *stage == DriverStage::Parked);
        if seen.passport.map(|p| p.warmed_at) > warmed_at {
            break;
        }
        assert!(Instant::now() < deadline, "a parked cell is warmed again and parked again");
    }
    retire(harness, &cell.id);
    request(harness, CellCommand::Retire { cell: cell.id });
}

/// No such cell, no such blueprint.
pub fn what_does_not_exist_is_refused(harness: &mut dyn Harness) {
    let cell = cell("conformance-nobody");
    let unknown = BlueprintName::new("conformance-no-such-blueprint").expect("a valid name");
    assert!(create(harness, &cell, unknown).is_err(), "an unknown blueprint is refused");
    assert!(find(harness, &cell.id).is_none(), "what was refused is not there");
    let id = cell.id;
    for command in [
        CellCommand::Park { cell: id.clone() },
        CellCommand::Unpark { cell: id.clone() },
        CellCommand::Rewarm { cell: id.clone() },
        CellCommand::Recreate { cell: id },
    ] {
        assert!(
            harness.driver().request(command.clone()).is_err(),
            "{command:?} of an unknown cell is refused"
        );
    }
}

/// A program that ends does not become ready.
pub fn a_command_that_ends_is_a_failure(harness: &mut dyn Harness) {
    let cell = cell("conformance-ends");
    let blueprint = harness.ends_at_once();
    create(harness, &cell, blueprint).expect("accepted");
    let failed = until_failed(harness, &cell.id);
    assert!(failed.passport.is_none(), "a failed cell has no papers");
    retire(harness, &cell.id);
}

/// A cell that can't do its warm-up is not ready.
pub fn a_warm_up_that_fails_is_a_failure(harness: &mut dyn Harness) {
    let cell = cell("conformance-cold");
    let blueprint = harness.fails_warm_up();
    create(harness, &cell, blueprint).expect("accepted");
    let failed = until_failed(harness, &cell.id);
    let DriverStage::Failed { why } = failed.stage else { unreachable!("until_failed returns failed cells") };
    assert!(why.contains("warm-up"), "the reason names the warm-up: {why}");
    retire(harness, &cell.id);
}

/// A crash is seen, and the cell made again keeps its place.
pub fn a_crash_is_seen_and_recreated(harness: &mut dyn Harness) {
    let cell = cell("conformance-crash");
    let blueprint = harness.good();
    create(harness, &cell, blueprint).expect("accepted");
    let ready = until_stage(harness, &cell.id, &DriverStage::Ready);
    harness.crash(&cell.id);
    until_failed(harness, &cell.id);
    request(harness, CellCommand::Recreate { cell: cell.id.clone() });
    let again = until_stage(harness, &cell.id, &DriverStage::Ready);
    assert_eq!(
        (again.cell, again.address),
        (ready.cell, ready.address),
        "identity, place and address are kept"
    );
    assert!(again.address.is_some_and(|address| answers(address, harness.patience())), "it answers again");
    retire(harness, &cell.id);
}

/// A driver that comes after finds ready and parked cells as they were, without touching them, and sees what died meanwhile.
pub fn cells_are_adopted(harness: &mut dyn Harness) {
    let (ready, parked) = (cell("conformance-kept"), cell("conformance-kept-parked"));
    for cell in [&ready, &parked] {
        let blueprint = harness.good();
        create(harness, cell, blueprint).expect("accepted");
    }
    let before = until_stage(harness, &ready.id, &DriverStage::Ready);
    until_stage(harness, &parked.id, &DriverStage::Ready);
    request(harness, CellCommand::Park { cell: parked.id.clone() });
    until_stage(harness, &parked.id, &DriverStage::Parked);
    let address = before.address.expect("a ready cell has an address");
    let mut connection = TcpStream::connect(address).expect("a ready cell accepts");
    harness.restart();
    let after = find(harness, &ready.id).expect("a running cell is adopted");
    assert_eq!(after.stage, DriverStage::Ready);
    assert_eq!((after.address, after.passport), (before.address, before.passport));
    assert!(exchange(&mut connection, harness.patience()), "its connections outlived the driver");
    let still = find(harness, &parked.id).expect("a parked cell is adopted");
    assert_eq!(still.stage, DriverStage::Parked);
    request(harness, CellCommand::Unpark { cell: parked.id.clone() });
    let thawed = until_stage(harness, &parked.id, &DriverStage::Ready);
    assert!(thawed.address.is_some_and(|address| answers(address, THAWED_ANSWERS_WITHIN)));
    harness.crash(&ready.id);
    until_failed(harness, &ready.id);
    harness.restart();
    until_failed(harness, &ready.id);
    for cell in [ready, parked] {
        retire(harness, &cell.id);
    }
}

/// A synthetic cell of the service `conformance` with this name.
///
/// # Panics
/// When `name` is not a valid name.
#[must_use]
pub fn cell(name: &str) -> Cell {
    Cell {
        id: CellId::new(name).expect("a valid name"),
        service: ServiceId::new("conformance").expect("a valid name"),
        region: RegionId::new("north").expect("a valid name"),
        zone: zone("north-1"),
        role: CellRole::Synthetic,
        home_weight: Weight::ZERO,
        blueprint: None,
    }
}

/// Waits until a cell is failed.
pub fn until_failed(harness: &mut dyn Harness, cell: &CellId) -> CellObservation {
    until(harness, cell, "failed", &mut Vec::new(), |stage| matches!(stage, DriverStage::Failed { .. }))
}

/// Waits until a cell is at `stage`. A cell that fails meanwhile ends the wait.
pub fn until_stage(harness: &mut dyn Harness, cell: &CellId, stage: &DriverStage) -> CellObservation {
    until(harness, cell, &format!("{stage:?}"), &mut Vec::new(), |seen| seen == stage)
}

/// Retires a cell and waits until it is gone.
///
/// # Panics
/// When it isn't in time.
pub fn retire(harness: &mut dyn Harness, cell: &CellId) {
    request(harness, CellCommand::Retire { cell: cell.clone() });
    let deadline = Instant::now() + harness.patience();
    while find(harness, cell).is_some() {
        assert!(Instant::now() < deadline, "{cell} is gone after it was retired");
        tick();
    }
}

/// Whether `GET /` at `address` is answered with 200 within `patience`, on a connection of its own.
#[must_use]
pub fn answers(address: SocketAddr, patience: Duration) -> bool {
    // A frozen cell's kernel still accepts connections; only an answer counts.
    TcpStream::connect_timeout(&address, patience).is_ok_and(|mut stream| exchange(&mut stream, patience))
}

fn exchange(stream: &mut TcpStream, patience: Duration) -> bool {
    let mut answer = [0u8; 12];
    stream.set_read_timeout(Some(patience)).is_ok()
        && stream.write_all(b"GET / HTTP/1.1\r\nhost: conformance\r\n\r\n").is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer.ends_with(b" 200")
}

fn create(harness: &mut dyn Harness, cell: &Cell, blueprint: BlueprintName) -> Result<(), PortError> {
    harness.driver().request(CellCommand::Create { cell: cell.clone(), blueprint })
}

fn request(harness: &mut dyn Harness, command: CellCommand) {
    let said = harness.driver().request(command.clone());
    assert_eq!(said, Ok(()), "{command:?} is accepted");
}

fn find(harness: &mut dyn Harness, cell: &CellId) -> Option<CellObservation> {
    harness.driver().observe().into_iter().find(|seen| seen.cell.id == *cell)
}

fn until(
    harness: &mut dyn Harness,
    cell: &CellId,
    what: &str,
    took: &mut Vec<(Stage, Duration)>,
    is_it: impl Fn(&DriverStage) -> bool,
) -> CellObservation {
    let deadline = Instant::now() + harness.patience();
    loop {
        let seen = find(harness, cell);
        if let Some(seen) = seen {
            took.extend(seen.took.iter().copied());
            if is_it(&seen.stage) {
                return seen;
            }
            if let DriverStage::Failed { why } = &seen.stage {
                panic!("{cell} should become {what}, but failed: {why}");
            }
        }
        assert!(Instant::now() < deadline, "{cell} should become {what}");
        tick();
    }
}

/// Drivers are polled, as the control loop does.
fn tick() {
    std::thread::sleep(Duration::from_millis(1));
}

fn zone(name: &str) -> ZoneId {
    ZoneId::new(name).expect("a valid name")
}
