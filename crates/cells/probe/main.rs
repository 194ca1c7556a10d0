//! The tests' own program: the init of cells, a service that can be told to misbehave, and an engine that may be killed.

mod engine;
mod service;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(forefend_cells::INIT_ARGUMENT) => forefend_cells::init_main(&args[1..]),
        Some("service") => service::run(&args[1..]),
        Some("engine") => engine::run(&args[1..]),
        other => {
            eprintln!("there is no {other:?}; this program is run by tests");
            std::process::exit(2);
        }
    }
}
