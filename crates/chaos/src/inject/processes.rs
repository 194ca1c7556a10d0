use std::{io, path::PathBuf};

use rustix::process::Signal;

use super::{Actuator, Prepared, Scene};
use crate::{
    Undo,
    helper::once::{self, Once},
    proc::ProcessId,
    undo::FileLimit,
};

/// Where a fault is either on or off, from this level on it is on.
pub(super) const ON_FROM: f64 = 0.5;

struct Kill(ProcessId);

impl Actuator for Kill {
    fn set(&mut self, level: f64) -> io::Result<()> {
        if level >= ON_FROM {
            // Children first: a parent that sees them die might start them again.
            for process in self.0.tree().into_iter().rev() {
                process.signal(Signal::KILL)?;
            }
        }
        Ok(())
    }
}

pub(super) fn kill(scene: &Scene<'_>) -> Prepared {
    Prepared { undo: Vec::new(), actuator: Box::new(Kill(scene.process)) }
}

struct Stop(ProcessId);

impl Actuator for Stop {
    fn set(&mut self, level: f64) -> io::Result<()> {
        let (signal, stopped) = if level >= ON_FROM { (Signal::STOP, true) } else { (Signal::CONT, false) };
        // The parent first, so that it starts no others meanwhile; twice, for those it had just started.
        for _ in 0..2 {
            for process in self.0.tree() {
                if process.is_stopped() == Some(!stopped) {
                    process.signal(signal)?;
                }
            }
        }
        Ok(())
    }
}

pub(super) fn stop(scene: &Scene<'_>) -> Prepared {
    Prepared {
        undo: vec![Undo::Resume { processes: scene.process.tree() }],
        actuator: Box::new(Stop(scene.process)),
    }
}

/// A process whose limit is lowered, with what it had and how many files it had open.
struct Lowered {
    process: ProcessId,
    soft: u64,
    hard: u64,
    open: u64,
    now: u64,
}

struct Files {
    program: PathBuf,
    leave: u64,
    lowered: Vec<Lowered>,
}

impl Actuator for Files {
    fn set(&mut self, level: f64) -> io::Result<()> {
        for one in &mut self.lowered {
            let least = (one.open + self.leave).min(one.soft);
            let wanted = one.soft - ((one.soft - least) as f64 * level) as u64;
            if wanted == one.now {
                continue;
            }
            let set = Once::FileLimit { process: one.process, soft: wanted, hard: one.hard };
            match once::run(&self.program, &set) {
                Err(e) if one.process.is_alive() => return Err(e),
                _ => one.now = wanted,
            }
        }
        Ok(())
    }
}

pub(super) fn files(scene: &Scene<'_>, leave: u32) -> Prepared {
    let lowered: Vec<Lowered> = scene
        .process
        .tree()
        .into_iter()
        .filter_map(|process| {
            let (soft, hard) = process.file_limit()?;
            Some(Lowered { process, soft, hard, open: process.open_files() as u64, now: soft })
        })
        .collect();
    let had = lowered.iter().map(|l| FileLimit { process: l.process, soft: l.soft, hard: l.hard }).collect();
    let undo = vec![Undo::FileLimits { had }];
    let actuator = Files { program: scene.program.to_owned(), leave: u64::from(leave), lowered };
    Prepared { undo, actuator: Box::new(actuator) }
}
