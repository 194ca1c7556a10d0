//! Prints one seed tick by tick.
fn main() {
    let seed = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let o = forefend_sim::run(forefend_sim::Options { trace: true, ..forefend_sim::Options::seed(seed) });
    println!("{o:#?}");
}
