//! A small engine: makes one cell and says how far it is, a line for each change. It may be killed at any instant.

use std::{sync::Arc, time::Duration};

use forefend_cells::{AcceptMissing, InMemoryBlueprints, SandboxDriver, SandboxOptions};
use forefend_domain::{
    Cell,
    ports::{CellCommand, CellDriver, PortError},
};

/// `engine STATE_DIR BLUEPRINT_JSON CELL_JSON COMMAND…`, where a command is `park`, `unpark`, `retire` or `hold`, which waits to be killed: each is requested
/// when the cell is seen to rest (ready or parked). Ends when nothing is left to do.
pub(super) fn run(args: &[String]) {
    if let Err(why) = drive(args) {
        println!("error {why}");
        std::process::exit(1);
    }
}

fn drive(args: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let [state_dir, blueprint, cell, commands @ ..] = args else { return Err("too few arguments".into()) };
    let blueprints = InMemoryBlueprints::default();
    let blueprint: forefend_cells::Blueprint = serde_json::from_str(blueprint)?;
    let name = blueprint.name.clone();
    blueprints.put(blueprint)?;
    let cell: Cell = serde_json::from_str(cell)?;
    let id = cell.id.clone();
    let mut options = SandboxOptions::new(state_dir);
    options.accept_missing = AcceptMissing::All;
    let mut driver = SandboxDriver::new(options, Arc::new(blueprints))?;
    print!("{}", driver.protections());
    loop {
        match driver.request(CellCommand::Create { cell: cell.clone(), blueprint: name.clone() }) {
            // Adopted while it was on its way out: the real loop asks again at its next tick, too.
            Err(PortError::Refused { why, .. }) if why.contains("being retired") => {
                std::thread::sleep(Duration::from_millis(1));
            }
            other => break other?,
        }
    }
    let mut commands = commands.iter();
    let mut last = String::new();
    loop {
        let observed = driver.observe().into_iter().find(|o| o.cell.id == id);
        let Some(observed) = observed else {
            println!("gone");
            return Ok(());
        };
        let stage = serde_json::to_string(&observed.stage)?;
        if stage == last {
            // A tick, as the real loop has.
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        println!("stage {stage} {}", observed.address.map(|a| a.to_string()).unwrap_or_default());
        last = stage;
        use forefend_domain::ports::DriverStage as S;
        if matches!(observed.stage, S::Failed { .. }) {
            return Err("failed".into());
        }
        if matches!(observed.stage, S::Ready | S::Parked) {
            match commands.next().map(String::as_str) {
                Some("park") => driver.request(CellCommand::Park { cell: id.clone() })?,
                Some("unpark") => driver.request(CellCommand::Unpark { cell: id.clone() })?,
                Some("retire") => driver.request(CellCommand::Retire { cell: id.clone() })?,
                Some("hold") => std::thread::park(),
                Some(other) => return Err(format!("there is no command {other}").into()),
                None => return Ok(()),
            }
        }
    }
}
