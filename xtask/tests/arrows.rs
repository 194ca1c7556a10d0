//! The direction of dependence between crates, as rules that a test keeps.
//!
//! A rule forbids some crates a set of others, or keeps a set of crates to the few that may know them. Rules name
//! crates that do not exist yet; such a rule waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// `from` must not reach `to`.
struct Never {
    from: &'static [&'static str],
    to: &'static [&'static str],
    reach: Reach,
    why: &'static str,
}

/// Nobody but `by` may depend on `of`. Binds our own crates only: what a library uses inside is its own affair.
struct Only {
    of: &'static [&'static str],
    by: &'static [&'static str],
    /// Whether `[dev-dependencies]` are bound too.
    tests_too: bool,
    why: &'static str,
}

/// How far a [`Never`] looks.
#[derive(Clone, Copy, PartialEq)]
enum Reach {
    /// Its own `Cargo.toml`.
    Direct,
    /// Through any number of crates.
    Through,
}

const DOMAIN: &str = "forefend-domain";
const TELEMETRY: &str = "forefend-telemetry";
const PREDICT: &str = "forefend-predict";
const LEARN: &str = "forefend-learn";
const DECIDE: &str = "forefend-decide";
const STORE: &str = "forefend-store";
const CONFIG: &str = "forefend-config";
const CONTROL: &str = "forefend-control";
const TRAFFIC: &str = "forefend-traffic";
const CELLS: &str = "forefend-cells";
const DATA: &str = "forefend-data";
const CHAOS: &str = "forefend-chaos";
const SIM: &str = "forefend-sim";
const APP: &str = "forefend";
const XTASK: &str = "xtask";
const CORPUS: &str = "xtask-corpus";

const PURE: &[&str] = &[DOMAIN, PREDICT, DECIDE];

const NEVER: &[Never] = &[
    Never {
        from: &[DOMAIN],
        to: &[
            TELEMETRY, PREDICT, LEARN, DECIDE, STORE, CONFIG, CONTROL, TRAFFIC, CELLS, DATA, CHAOS, SIM, APP,
        ],
        reach: Reach::Through,
        why: "the words depend on nothing of ours",
    },
    Never {
        from: &[DECIDE],
        to: &[PREDICT, LEARN],
        reach: Reach::Through,
        why: "they meet only in the values of domain",
    },
    Never {
        from: &[PREDICT],
        to: &[DECIDE, LEARN],
        reach: Reach::Through,
        why: "models are values that it is given; what to do about a prediction is not its affair",
    },
    Never {
        from: PURE,
        to: &[
            "tokio",
            "async-std",
            "smol",
            "hyper",
            "axum",
            "reqwest",
            "mio",
            "socket2",
            "redb",
            "futures-executor",
        ],
        reach: Reach::Through,
        why: "pure: no runtime and no I/O, not even through another crate",
    },
    Never {
        from: PURE,
        to: &["nix", "libc", "rustix", "tempfile", "tracing-subscriber"],
        reach: Reach::Direct,
        why: "pure: it asks the kernel for nothing",
    },
    Never {
        from: PURE,
        to: &[
            "chrono",
            "time",
            "jiff",
            "quanta",
            "coarsetime",
            "web-time",
            "instant",
            "getrandom",
            "fastrand",
        ],
        reach: Reach::Direct,
        why: "pure: time and randomness are passed in",
    },
    Never {
        from: &[TRAFFIC],
        to: &[CELLS, DATA, CONTROL],
        reach: Reach::Through,
        why: "the edges do not know each other nor the loop",
    },
    Never {
        from: &[CELLS],
        to: &[TRAFFIC, DATA, CONTROL],
        reach: Reach::Through,
        why: "the edges do not know each other nor the loop",
    },
    Never {
        from: &[DATA],
        to: &[TRAFFIC, CELLS, CONTROL],
        reach: Reach::Through,
        why: "the edges do not know each other nor the loop",
    },
    Never {
        from: &[CONTROL],
        to: &[STORE, TRAFFIC, CELLS, DATA, APP],
        reach: Reach::Through,
        why: "the loop knows ports; only app and sim choose drivers",
    },
    Never {
        from: &[TELEMETRY, STORE, CONFIG],
        to: &[CONTROL, DECIDE, PREDICT, APP],
        reach: Reach::Through,
        why: "what feeds the loop does not know it",
    },
];

const ONLY: &[Only] = &[
    Only {
        of: &[SIM],
        by: &[APP, XTASK],
        tests_too: false,
        why: "the made-up world stays out of production",
    },
    Only {
        of: &[CHAOS],
        by: &[APP, XTASK, CORPUS, SIM],
        tests_too: false,
        why: "nothing breaks things by accident",
    },
    Only { of: &[APP], by: &[XTASK], tests_too: true, why: "app chooses, nobody chooses app" },
    Only {
        of: &["bollard", "shiplift"],
        by: &[CELLS],
        tests_too: true,
        why: "container clients stay in cells",
    },
    Only {
        of: &["kube", "k8s-openapi"],
        by: &[CELLS, TRAFFIC],
        tests_too: true,
        why: "Kubernetes stays in cells and in traffic's gateway driver",
    },
    Only {
        of: &["burn", "candle-core", "candle-nn", "tch", "ort", "dfdx"],
        by: &[LEARN],
        tests_too: true,
        why: "the ML framework stays in learn",
    },
    Only { of: &["axum"], by: &[APP], tests_too: true, why: "the HTTP API framework stays in app" },
    Only {
        of: &["redb", "etcd-client"],
        by: &[STORE],
        tests_too: true,
        why: "engines stay behind the store's port",
    },
];

/// Who depends on whom.
#[derive(Default)]
struct Graph {
    /// Our own crates.
    members: BTreeSet<String>,
    /// What a crate is built with: normal and build dependencies, of every crate.
    built_with: BTreeMap<String, BTreeSet<String>>,
    /// What the tests of our own crates use besides.
    tested_with: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn of(metadata: &Metadata) -> Self {
        let name_of = |id: &cargo_metadata::PackageId| metadata[id].name.to_string();
        let mut graph = Self::default();
        for id in &metadata.workspace_members {
            graph.members.insert(name_of(id));
        }
        // What our own crates declare, optional and other systems' dependencies among them.
        for package in metadata.workspace_packages() {
            for dependency in &package.dependencies {
                let map = match dependency.kind {
                    DependencyKind::Development => &mut graph.tested_with,
                    _ => &mut graph.built_with,
                };
                map.entry(package.name.to_string()).or_default().insert(dependency.name.clone());
            }
        }
        // What cargo resolved, for all crates.
        for node in metadata.resolve.iter().flat_map(|resolve| &resolve.nodes) {
            let built = node
                .deps
                .iter()
                .filter(|d| d.dep_kinds.iter().any(|k| k.kind != DependencyKind::Development))
                .map(|d| name_of(&d.pkg));
            graph.built_with.entry(name_of(&node.id)).or_default().extend(built);
        }
        graph
    }

    /// The way from `from` to `to`, both ends included.
    fn path(&self, from: &str, to: &str, reach: Reach) -> Option<Vec<String>> {
        let mut paths = vec![vec![from.to_owned()]];
        let mut seen = BTreeSet::new();
        while let Some(path) = paths.pop() {
            let here = path.last()?;
            if here == to && path.len() > 1 {
                return Some(path);
            }
            if !seen.insert(here.clone()) || (reach == Reach::Direct && path.len() > 1) {
                continue;
            }
            for next in self.built_with.get(here).into_iter().flatten() {
                paths.push([path.as_slice(), std::slice::from_ref(next)].concat());
            }
        }
        None
    }
}

/// Every arrow that a rule forbids, in words.
fn forbidden(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for rule in NEVER {
        for from in rule.from.iter().filter(|from| graph.members.contains(**from)) {
            for to in rule.to {
                if let Some(path) = graph.path(from, to, rule.reach) {
                    found.push(format!("{}: {}", path.join(" -> "), rule.why));
                }
            }
        }
    }
    for rule in ONLY {
        for from in graph.members.iter().filter(|from| !rule.by.contains(&from.as_str())) {
            for to in rule.of {
                let has =
                    |map: &BTreeMap<String, BTreeSet<String>>| map.get(from).is_some_and(|s| s.contains(*to));
                if has(&graph.built_with) || (rule.tests_too && has(&graph.tested_with)) {
                    found.push(format!("{from} -> {to}: {}", rule.why));
                }
            }
        }
    }
    found
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
        .other_options(vec![
            "--filter-platform".to_owned(),
            format!("{}-unknown-linux-gnu", std::env::consts::ARCH),
        ])
        .exec()
        .expect("cargo metadata")
}

#[test]
fn no_crate_depends_on_what_it_must_not_know() {
    let graph = Graph::of(&metadata());
    for crate_name in [DOMAIN, PREDICT, DECIDE, CONTROL, TRAFFIC, CELLS, SIM, APP, XTASK] {
        assert!(
            graph.members.contains(crate_name),
            "the rules name {crate_name}, which the workspace has not"
        );
    }
    let found = forbidden(&graph);
    assert!(found.is_empty(), "forbidden arrows between crates:\n{}", found.join("\n"));
}

#[test]
fn grpc_comes_without_its_router() {
    let graph = Graph::of(&metadata());
    assert!(graph.built_with.contains_key("tonic"), "nobody uses tonic any more: this test can go");
    let path = graph.path("tonic", "axum", Reach::Through);
    assert_eq!(path, None, "the HTTP API framework is for the API alone");
}

#[test]
fn pure_crates_ban_clocks_and_global_randomness_through_clippy() {
    for krate in ["domain", "predict", "decide"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../crates/{krate}/clippy.toml"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let config: toml::Table = text.parse().expect("valid TOML");
        let banned: Vec<&str> = config["disallowed-methods"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|entry| entry.get("path")?.as_str())
            .collect();
        for method in ["std::time::Instant::now", "std::time::SystemTime::now", "rand::rng"] {
            assert!(banned.contains(&method), "{} does not ban {method}", path.display());
        }
    }
}

/// A workspace of `members` with these arrows; `dev` ones count for tests only.
fn small(members: &[&str], arrows: &[(&str, &str)], dev: &[(&str, &str)]) -> Graph {
    let mut graph = Graph { members: members.iter().map(|m| (*m).to_owned()).collect(), ..Graph::default() };
    for (from, to) in arrows {
        graph.built_with.entry((*from).to_owned()).or_default().insert((*to).to_owned());
    }
    for (from, to) in dev {
        graph.tested_with.entry((*from).to_owned()).or_default().insert((*to).to_owned());
    }
    graph
}

#[test]
fn a_forbidden_arrow_would_be_found() {
    // Each is a chain of crates, of which those before the bar are ours.
    let cases = [
        "forefend-decide forefend-predict |",
        "forefend-decide forefend-telemetry middle forefend-predict |",
        "forefend-predict | statrs tokio",
        "forefend-domain | libc",
        "forefend-decide | chrono",
        "forefend-traffic forefend-cells |",
        "forefend-data forefend-control |",
        "forefend-control forefend-store |",
        "forefend-control forefend-sim |",
        "forefend-traffic forefend-chaos |",
        "forefend-traffic | bollard",
        "forefend-control | kube",
        "forefend-predict | burn",
        "forefend-telemetry | axum",
        "forefend-cells forefend |",
    ];
    for case in cases {
        let members: Vec<&str> = case.split_whitespace().take_while(|name| *name != "|").collect();
        let chain: Vec<&str> = case.split_whitespace().filter(|name| *name != "|").collect();
        let arrows: Vec<(&str, &str)> = chain.windows(2).map(|pair| (pair[0], pair[1])).collect();
        let found = forbidden(&small(&members, &arrows, &[]));
        let arrow = format!("{}: ", chain.join(" -> "));
        assert!(found.iter().any(|f| f.starts_with(&arrow)), "{arrow} was not found; found: {found:?}");
    }
}

#[test]
fn a_permitted_arrow_is_let_through() {
    let graph = small(
        &[APP, SIM, CELLS, TRAFFIC, CONTROL, PREDICT],
        &[
            (APP, SIM),
            (APP, "axum"),
            (SIM, CONTROL),
            (CONTROL, PREDICT),
            (CELLS, "bollard"),
            (TRAFFIC, "kube"),
            // A library's own affair, and the kernel reached only through one.
            ("tonic", "axum"),
            (PREDICT, "statrs"),
            ("statrs", "libc"),
        ],
        // Tests may simulate.
        &[(CONTROL, SIM)],
    );
    assert_eq!(forbidden(&graph), Vec::<String>::new());
}

#[test]
fn tests_too_are_kept_from_frameworks() {
    let found = forbidden(&small(&[CONTROL], &[], &[(CONTROL, "burn")]));
    assert_eq!(found.len(), 1, "{found:?}");
}
