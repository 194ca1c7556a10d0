//! What the tests of faults run as processes of their own: a small service that can be hurt in every way, and an injector that
//! can be killed. Helpers and watchdog are this program too.
#![expect(clippy::unwrap_used, reason = "a test's process fails by panicking")]

mod service;

use std::{path::Path, time::Duration};

use forefend_chaos::{Fault, HELPER_ARGUMENT, Injector, Target, helper_main};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [HELPER_ARGUMENT, ..] => std::process::exit(helper_main(&arguments[1..])),
        ["serve", options] => service::serve(&serde_json::from_str(options).unwrap()),
        ["inject", leases, fault, target, level] => inject(leases, fault, target, level.parse().unwrap()),
        _ => panic!("usage: serve OPTIONS | inject LEASES FAULT TARGET LEVEL"),
    }
}

/// Brings a fault to a level, says so, and holds it until it is killed.
fn inject(leases: &str, fault: &str, target: &str, level: f64) {
    let fault: Fault = serde_json::from_str(fault).unwrap();
    let target: Target = serde_json::from_str(target).unwrap();
    let program = std::env::current_exe().unwrap();
    let injector = Injector::start(Path::new(leases), &program, Duration::from_secs(3)).unwrap();
    let injection = injector.begin(&fault, &target).unwrap();
    injection.set(level).unwrap();
    println!("on");
    loop {
        std::thread::park();
    }
}
