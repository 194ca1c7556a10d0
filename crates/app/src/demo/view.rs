//! The live view in the terminal: one block that is drawn over itself, and lines of what happened above it.

use std::{
    collections::BTreeSet,
    io::{IsTerminal as _, Write as _},
};

use forefend_control::Snapshot;
use forefend_domain::{CellRole, ServiceView};

use super::figures::Figures;

/// Where the demo stands, for people.
pub(crate) struct View {
    live: bool,
    forecast: bool,
    title: String,
    drawn: usize,
    told: BTreeSet<String>,
}

const BAR: usize = 24;

impl View {
    pub(crate) fn new(live: bool, forecast: bool) -> Self {
        let live = live && std::io::stderr().is_terminal();
        Self { live, forecast, title: String::new(), drawn: 0, told: BTreeSet::new() }
    }

    pub(crate) fn act(&mut self, letter: char, title: &str) {
        let how = if self.forecast { "with prediction" } else { "without prediction" };
        self.title = format!("act {letter}: {title}, {how}");
        self.say(&format!("── {}", self.title));
    }

    /// A line that stays.
    pub(crate) fn say(&mut self, line: &str) {
        self.erase();
        eprintln!("{line}");
    }

    pub(crate) fn figures(&mut self, f: &Figures) {
        let lead = f.lead_time_s.map_or(String::new(), |s| format!(", {s:.1} s ahead of the failure"));
        self.say(&format!(
            "   {} requests: {} failed, {} slow, {} executed twice, p99 {:.0} ms{lead}",
            f.requests, f.failed, f.slow, f.executed_twice, f.p99_ms
        ));
    }

    /// Tells what is new, and draws the block.
    pub(crate) fn draw(
        &mut self,
        snapshot: &Snapshot,
        shop: &ServiceView,
        (requests, failed, slow): (u64, u64, u64),
    ) {
        for e in &snapshot.plan.explanations {
            let line = format!("   {} {}: {}", e.cell, e.what, e.why);
            if self.told.insert(format!("{} {line}", snapshot.tick)) {
                self.say(&line);
            }
        }
        if !self.live {
            return;
        }
        self.erase();
        let mut lines = vec![String::new(), format!("   \x1b[1m{}\x1b[0m", self.title)];
        for cell in shop.cells.values() {
            let id = &cell.cell.id;
            let share = shop.effective.as_ref().map_or(0.0, |w| w.share(id));
            let prediction = snapshot.predictions.get(id);
            let p = prediction.map_or(0.0, |p| p.probability.get());
            let fails = prediction
                .and_then(|p| p.time_to_failure.p50)
                .map_or("      –".to_owned(), |t| format!("{:>5.0} s", t.as_secs_f64()));
            let life = format!("{:?}{}", cell.life, if cell.parked { "*" } else { "" });
            let colour = match p {
                p if p >= 0.5 => "\x1b[31m",
                p if p >= 0.2 => "\x1b[33m",
                _ => "\x1b[32m",
            };
            let kind = if cell.cell.role == CellRole::Synthetic { "synthetic" } else { "primary" };
            lines.push(format!(
                "   {id:22} {kind:9} {life:9} {} {:>5.1}%  {colour}P {:>4.0}%\x1b[0m  fails in {fails}",
                bar(share),
                share * 100.0,
                p * 100.0
            ));
        }
        lines.push(format!("   users: {requests} requests, {failed} failed, {slow} slow"));
        self.drawn = lines.len();
        eprintln!("{}", lines.join("\n"));
        let _ = std::io::stderr().flush();
    }

    pub(crate) fn end(&mut self) {
        self.erase();
    }

    fn erase(&mut self) {
        if self.drawn > 0 {
            // Up over the block, then clear to the end of the screen.
            eprint!("\x1b[{}A\x1b[J", self.drawn);
            self.drawn = 0;
        }
    }
}

fn bar(share: f64) -> String {
    let full = (share * BAR as f64).round() as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(BAR.saturating_sub(full)))
}
