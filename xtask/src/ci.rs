//! The one test command and the dependency check.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    packages::{self, Package, PythonPackages},
    workspace::{cargo, find_program},
};

/// What the tests talk to.
const NEEDED: &[Package] = &[
    Package {
        programs: &["nginx"],
        debian: "nginx-light",
        needed_for: "tests with an unmodified third-party server",
    },
    Package {
        programs: &["python3"],
        debian: "python3",
        needed_for: "the example of a service made from a blueprint",
    },
    Package { programs: &["nft"], debian: "nftables", needed_for: "tests of faults in the network" },
    Package { programs: &["openssl"], debian: "openssl", needed_for: "tests of expired certificates" },
    Package { programs: &["pgrep"], debian: "procps", needed_for: "tests that look for processes" },
    Package {
        programs: &["chromium", "google-chrome"],
        debian: "chromium",
        needed_for: "tests of the dashboard",
    },
    Package {
        programs: &["prometheus"],
        debian: "prometheus",
        needed_for: "tests with a Prometheus that is read, and one that writes what it scrapes",
    },
];

/// Services that push by OpenTelemetry.
const OPEN_TELEMETRY: PythonPackages = PythonPackages {
    folder: "test-venv",
    packages: &[
        "opentelemetry-sdk==1.45.2",
        "opentelemetry-exporter-otlp-proto-http==1.45.2",
        "opentelemetry-exporter-otlp-proto-grpc==1.45.2",
    ],
    needed_for: "tests with services that push telemetry",
};

/// One phase of `cargo xtask test`.
struct Phase {
    name: &'static str,
    run: Box<dyn FnOnce() -> Result<()>>,
}

impl Phase {
    fn call(name: &'static str, run: impl FnOnce() -> Result<()> + 'static) -> Self {
        Self { name, run: Box::new(run) }
    }

    fn cargo(name: &'static str, arguments: &'static [&'static str]) -> Self {
        Self::call(name, move || succeed(cargo().args(arguments)))
    }
}

/// What the ML framework changes, and no more, for it takes minutes to build; of both packages at once, or it is built for each.
const NETWORKS: &[&str] = &[
    "test",
    "--package=forefend-learn",
    "--package=forefend",
    "--features=forefend-learn/lstm,forefend/lstm",
    "--lib",
    "--test=memory",
    "--test=lstm",
];

/// Runs every phase, even after one has failed, and prints how long each took.
///
/// # Errors
/// When a phase failed; names them all.
pub(crate) fn test() -> Result<()> {
    let tests: &'static [&'static str] = if find_program("cargo-nextest").is_some() {
        &["nextest", "run", "--workspace"]
    } else {
        &["test", "--workspace", "--lib", "--bins", "--tests", "--examples", "--no-fail-fast"]
    };
    run(vec![
        Phase::call("tools", tools),
        Phase::cargo("format", &["fmt", "--all", "--check"]),
        Phase::cargo("lints", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        Phase::cargo("tests", tests),
        Phase::cargo("networks", NETWORKS),
        Phase::cargo("doc tests", &["test", "--workspace", "--doc"]),
        Phase::call("simulation", crate::sim::ci),
        Phase::call("corpus", crate::corpus::ci),
    ])
}

/// Runs cargo-deny on `deny.toml`.
///
/// # Errors
/// When cargo-deny is not installed or finds fault.
pub(crate) fn deny() -> Result<()> {
    if find_program("cargo-deny").is_none() {
        bail!("cargo-deny is not installed; `cargo install cargo-deny --locked` installs it");
    }
    succeed(cargo().args(["deny", "check"]))
}

/// rustfmt and clippy must be there; programs that single tests talk to are installed if possible. A test that
/// misses its program says so itself.
fn tools() -> Result<()> {
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        let there = cargo().args([subcommand, "--version"]).output().is_ok_and(|o| o.status.success());
        if !there {
            succeed(Command::new("rustup").args(["component", "add", component])).with_context(|| {
                format!("{component} is missing; `rustup component add {component}` installs it")
            })?;
        }
    }
    for missing in packages::provide_all(NEEDED) {
        eprintln!("warning: {missing}");
    }
    if let Err(error) = OPEN_TELEMETRY.provide() {
        eprintln!("warning: {error:#}");
    }
    Ok(())
}

fn run(phases: Vec<Phase>) -> Result<()> {
    let mut done: Vec<(&str, Duration, bool)> = Vec::new();
    for phase in phases {
        println!("\n== {}", phase.name);
        let start = Instant::now();
        let result = (phase.run)();
        if let Err(error) = &result {
            eprintln!("error: {error:#}");
        }
        done.push((phase.name, start.elapsed(), result.is_ok()));
    }
    println!("\n{:<12} {:>9}", "phase", "seconds");
    for (name, took, ok) in &done {
        println!("{name:<12} {:>9.1}  {}", took.as_secs_f64(), if *ok { "ok" } else { "FAILED" });
    }
    let failed: Vec<&str> = done.iter().filter(|(_, _, ok)| !ok).map(|(name, ..)| *name).collect();
    ensure!(failed.is_empty(), "{} failed", failed.join(", "));
    Ok(())
}

fn succeed(command: &mut Command) -> Result<()> {
    let shown = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ");
    let status = command.status().with_context(|| format!("can't run `{shown}`"))?;
    ensure!(status.success(), "`{shown}` ended with {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;

    #[test]
    fn a_failed_phase_fails_the_whole_and_does_not_hide_the_next() {
        let reached = Rc::new(Cell::new(false));
        let seen = Rc::clone(&reached);
        let result = run(vec![
            Phase::call("first", || bail!("broken")),
            Phase::call("second", move || {
                seen.set(true);
                Ok(())
            }),
        ]);
        assert!(reached.get());
        assert_eq!(result.expect_err("a phase failed").to_string(), "first failed");
    }

    #[test]
    fn a_command_that_ends_badly_is_an_error_that_names_it() {
        assert!(succeed(&mut Command::new("true")).is_ok());
        let error = succeed(Command::new("false").arg("x")).expect_err("false fails");
        assert!(error.to_string().starts_with("`false x` ended with"), "{error}");
    }
}
