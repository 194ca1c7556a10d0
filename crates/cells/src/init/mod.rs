//! How a process becomes a cell: the program executes itself again as `cell-init`.
//!
//! 1. The engine starts `cell-init run` (the *shim*), with the [`InitSpec`] on its standard input.
//! 2. The shim takes the cell's lock, checks that this attempt is still wanted, enters new namespaces and starts
//!    `cell-init enter`. It writes the pid down *before* it hands the spec on, so that no cell ever runs unrecorded.
//! 3. `enter` is process 1 of the cell's pid namespace. It confines itself and executes the cell's program.
//! 4. The shim stays: it bounds the log and writes down how the cell ended, even when the engine is gone.

mod confine;
mod enter;
mod probe;
mod rootfs;
mod shim;
mod spec;

pub(crate) use spec::{Ended, InitSpec, Launched, ProbeReport};

/// The argument by which a program recognises that it was started as the init of a cell.
pub const INIT_ARGUMENT: &str = "cell-init";

/// What the program must call first thing in `main` when its first argument is [`INIT_ARGUMENT`]; `args` are those after
/// it. The program must have started no thread yet. Never returns.
pub fn init_main(args: &[String]) -> ! {
    let status = match args.first().map(String::as_str) {
        Some("run") => shim::run(),
        Some("enter") => enter::run(),
        Some("probe") => probe::run(args.get(1)),
        Some("probe-inner") => probe::run_inner(args.get(1)),
        _ => {
            eprintln!("{INIT_ARGUMENT} is started by the engine, not by hand");
            2
        }
    };
    std::process::exit(status)
}
