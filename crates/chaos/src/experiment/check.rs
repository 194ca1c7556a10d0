//! What no single value can tell: ranges, keys that exclude each other, bounds that contradict each other.

use std::{collections::BTreeSet, time::Duration};

use forefend_config::{
    Share,
    sections::{Node, Reading, Setting, Trail, written},
};
use forefend_domain::Weight;

use super::{BlockWindow, Experiment, FaultEntry, Outage, TargetConfig};

const S: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The smallest share above nothing that a file can write.
const SOME: f64 = 0.0001;

pub(super) fn check(experiment: &Experiment, root: &Node, reading: &mut Reading<'_>) {
    Check { experiment, root, reading }.all();
}

struct Check<'c, 'r, 't> {
    experiment: &'c Experiment,
    root: &'c Node,
    reading: &'r mut Reading<'t>,
}

impl Check<'_, '_, '_> {
    fn all(&mut self) {
        let root = &Trail::ROOT;
        self.work();
        if let Some(target) = &self.experiment.target {
            self.target(&root.key("target"), target);
        }
        for (i, entry) in self.experiment.faults.iter().enumerate() {
            self.fault(&root.key("faults").index(i), entry);
        }
        if let Some(outage) = &self.experiment.outage {
            self.outage(&root.key("outage"), outage);
        }
        self.hypothesis(&root.key("hypothesis"));
        self.stop_conditions(&root.key("stop_conditions"));
        self.schedule(&root.key("schedule"));
        for (i, window) in self.experiment.block_windows.iter().enumerate() {
            self.block_window(&root.key("block_windows").index(i), window);
        }
        self.approvals(&root.key("approvals"));
    }

    fn wrong(&mut self, at: &Trail<'_>, what: impl Into<String>, remedy: impl Into<String>) {
        let node = at.find(self.root);
        self.reading.wrong(node, at, what, remedy);
    }

    fn range<T: Setting + PartialOrd>(&mut self, at: &Trail<'_>, value: &T, lowest: T, highest: T) {
        self.reading.range(self.root, at, value, lowest, highest);
    }

    fn above_zero(&mut self, at: &Trail<'_>, share: Share) {
        self.range(at, &share, Share::percent(SOME), Share::percent(100.0));
    }

    /// Whether something is written there, right or wrong.
    fn written(&self, key: &str) -> bool {
        self.root.get(key).is_some_and(|node| !node.is_null())
    }

    /// What is done: faults to a target, or an outage.
    fn work(&mut self) {
        let root = &Trail::ROOT;
        match (self.written("faults"), self.written("outage"), self.written("target")) {
            (true, true, _) => self.wrong(
                &root.key("outage"),
                "there are both `faults` and `outage`",
                "keep one of the two: an outage's own fault is `outage.fault`",
            ),
            (false, false, _) => {
                // A key that is written wrongly is told already.
                if self.reading.is_clean() {
                    let remedy = "add `faults:` with a `target:`, or `outage:` for a drill of a region";
                    self.wrong(root, "nothing is done", remedy);
                }
            }
            (true, false, false) => self.wrong(
                &root.key("faults"),
                "there is no target",
                "add `target: { service: NAME }`: one of its primaries is chosen then",
            ),
            (false, true, true) => {
                self.wrong(
                    &root.key("target"),
                    "an outage has no `target`",
                    "leave it out: `outage.service` and `outage.region` say what is meant",
                );
            }
            (true, false, true) => {
                if self.experiment.faults.is_empty() && self.reading.clean(&root.key("faults")) {
                    self.wrong(
                        &root.key("faults"),
                        "there is no fault",
                        "add one: `- { fault: kill }`, for example",
                    );
                }
            }
            (false, true, false) => {}
        }
    }

    fn target(&mut self, at: &Trail<'_>, target: &TargetConfig) {
        let blast = at.key("blast_radius");
        self.range(&blast.key("max_cells"), &target.blast_radius.max_cells, 1, 10_000);
        self.above_zero(&blast.key("max_share"), target.blast_radius.max_share);
        let chosen = [
            ("count", target.count.is_some()),
            ("percent", target.percent.is_some()),
            ("whole", target.whole.is_some()),
        ];
        let written: Vec<&str> = chosen.iter().filter(|(_, is)| *is).map(|(key, _)| *key).collect();
        if let [first, second, ..] = written.as_slice() {
            let what = format!("there are both `{first}` and `{second}`");
            self.wrong(&at.key(second), what, "keep one of `count`, `percent` and `whole`");
        }
        if let Some(count) = &target.count {
            self.range(&at.key("count"), count, 1, 10_000);
            let bound = &target.blast_radius.max_cells;
            self.reading.at_most(self.root, &at.key("count"), count, bound, "blast_radius.max_cells");
        }
        if let Some(percent) = target.percent {
            self.above_zero(&at.key("percent"), percent);
        }
        let mut seen = BTreeSet::new();
        for (i, cell) in target.cells.iter().enumerate() {
            if !seen.insert(cell) {
                let what = format!("cell `{cell}` stands here twice");
                self.wrong(&at.key("cells").index(i), what, "keep one of the two");
            }
        }
    }

    fn fault(&mut self, at: &Trail<'_>, entry: &FaultEntry) {
        self.above_zero(&at.key("intensity"), entry.intensity);
        self.range(&at.key("after"), &entry.after, Duration::ZERO, DAY);
        self.range(&at.key("lasts"), &entry.lasts, S, DAY);
    }

    fn outage(&mut self, at: &Trail<'_>, outage: &Outage) {
        self.above_zero(&at.key("max_share"), outage.max_share);
        self.range(&at.key("step"), &outage.step, Weight::from_share(0.0001), Weight::FULL);
        self.range(&at.key("step_every"), &outage.step_every, S, HOUR);
        self.range(&at.key("moves_within"), &outage.moves_within, 10 * S, DAY);
        // The first step is asked for at once, each other one after `step_every`.
        let pauses = 10_000_u32.div_ceil(outage.step.bp().max(1)) - 1;
        if self.reading.clean(at) && outage.step_every.saturating_mul(pauses) > outage.moves_within {
            let least = written(&(outage.step_every * pauses));
            let what =
                format!("{} is too short: the steps take {least} at least", written(&outage.moves_within));
            let remedy = format!("choose more than `{least}`, larger steps, or a shorter `step_every`");
            self.wrong(&at.key("moves_within"), what, remedy);
        }
        self.range(&at.key("hold"), &outage.hold, S, DAY);
        self.range(&at.key("lease"), &outage.lease, 3 * S, 5 * MINUTE);
        if let Some(fault) = &outage.fault {
            self.above_zero(&at.key("fault").key("intensity"), fault.intensity);
        }
    }

    fn hypothesis(&mut self, at: &Trail<'_>) {
        let hypothesis = &self.experiment.hypothesis;
        if hypothesis.says.trim().is_empty() && self.reading.clean(&at.key("says")) {
            self.wrong(&at.key("says"), "the hypothesis says nothing", "write what you believe will happen");
        }
        self.range(&at.key("holds_for"), &hypothesis.holds_for, S, HOUR);
        let holds_for = hypothesis.holds_for.clamp(S, HOUR);
        self.range(&at.key("waits_at_most"), &hypothesis.waits_at_most, holds_for, DAY);
        self.range(&at.key("recovers_within"), &hypothesis.recovers_within, S, DAY);
        let stop = &self.experiment.stop_conditions;
        for (service, objectives) in &hypothesis.steady_state {
            let at = at.key("steady_state");
            let at = at.key(service.as_str());
            let (share, bound) = (&objectives.error_share, &stop.error_share);
            self.reading.at_most(
                self.root,
                &at.key("error_share"),
                share,
                bound,
                "stop_conditions.error_share",
            );
            if let (Some(p99), Some(bound)) = (&objectives.p99, &stop.p99) {
                self.reading.at_most(self.root, &at.key("p99"), p99, bound, "stop_conditions.p99");
            }
        }
    }

    fn stop_conditions(&mut self, at: &Trail<'_>) {
        let stop = &self.experiment.stop_conditions;
        self.range(&at.key("blind_for"), &stop.blind_for, S, 5 * MINUTE);
        if let Some(p99) = &stop.p99 {
            self.range(&at.key("p99"), p99, Duration::from_millis(1), HOUR);
        }
    }

    fn schedule(&mut self, at: &Trail<'_>) {
        let schedule = &self.experiment.schedule;
        if let Some(every) = &schedule.every {
            self.range(&at.key("every"), every, 10 * MINUTE, 366 * DAY);
            if schedule.daily_at.is_some() {
                self.wrong(
                    &at.key("every"),
                    "there are both `every` and `daily_at`",
                    "keep one of the two; `days` with `daily_at` names the days",
                );
            }
        }
        if !schedule.days.is_empty() && schedule.daily_at.is_none() {
            self.wrong(
                &at.key("days"),
                "days are named, but no time of day",
                "add `daily_at: \"03:00\"`, for example",
            );
        }
    }

    fn block_window(&mut self, at: &Trail<'_>, window: &BlockWindow) {
        if let (Some(first), Some(last)) = (window.first, window.last)
            && last < first
        {
            let what = format!("{} is before `first` ({})", written(&last), written(&first));
            self.wrong(&at.key("last"), what, "choose a day from `first` on");
        }
        if window.from == window.to {
            self.wrong(
                &at.key("to"),
                "the window ends where it begins",
                "leave `from` and `to` out for the whole day",
            );
        }
        let any_day = window.days.is_empty() && window.first.is_none() && window.last.is_none();
        if any_day && window.from == super::TimeOfDay::MIDNIGHT && window.to == super::TimeOfDay::END {
            self.wrong(
                at,
                "this window blocks always",
                "name `days`, dates or times of day; `schedule` left out means by hand only",
            );
        }
    }

    fn approvals(&mut self, at: &Trail<'_>) {
        let approvals = &self.experiment.approvals;
        let mut seen = BTreeSet::new();
        for (i, name) in approvals.by.iter().enumerate() {
            if !seen.insert(name) {
                let what = format!("`{name}` stands here twice");
                self.wrong(&at.key("by").index(i), what, "one person approves once: keep one of the two");
            }
        }
        let named = u32::try_from(seen.len()).unwrap_or(u32::MAX);
        if named > 0 && approvals.required > named {
            let what = format!("{} must approve, but `by` names {named}", approvals.required);
            self.wrong(&at.key("required"), what, "name more persons, or require fewer");
        }
        self.range(&at.key("within"), &approvals.within, MINUTE, 30 * DAY);
    }
}
