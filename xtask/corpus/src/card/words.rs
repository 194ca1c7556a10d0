//! The prose of the card.

use std::fmt::Write as _;

use crate::{
    alarm::LEAD_S,
    outcome::{PATIENCE, STEP, objective},
    spec::{Class, DAY_S},
    table::{About, Corpus},
};

pub(super) fn introduction(corpus: &Corpus, size_bytes: u64, text: &mut String) {
    let of = |class: Class| corpus.recordings.iter().filter(|r| r.spec.class() == class).count();
    let seconds: f64 = corpus.recordings.iter().map(|r| f64::from(r.steps) * STEP.as_secs_f64()).sum();
    let About { seed, reduced, .. } = corpus.about;
    let command = if reduced { "record --reduced" } else { "record" };
    let _ = write!(
        text,
        "# The failure corpus\n\n\
         Real servers under realistic load, some of which fail: {} episodes in which a failure builds up where metrics show it \
         (*foreseeable*), {} in which it comes at once (*unforeseeable*), {} in which nothing fails though it looks as if something might \
         (*healthy*). {:.1} hours, {:.1} MiB. This page is written by `cargo xtask corpus card`; do not edit it.\n\n\
         ```\n\
         cargo xtask corpus {command} --seed {seed}     # makes it again\n\
         cargo xtask corpus check --against DIR   # do two recordings agree?\n\
         cargo xtask corpus score                 # the model of the first day on it\n\
         cargo xtask corpus card                  # writes this page\n\
         ```\n\n\
         What an episode is was fixed from its seed before any server ran and any model saw it: what happens, when, how fast, under which load \
         and limits. Whether and when it *failed* is judged afterwards from what users saw, and from nothing else.\n\n\
         | table | a row is | columns |\n|---|---|---|\n\
         | `episodes.parquet` | an episode | `id`, `subject`, `class`, `kind`, `group` (0–9, for splitting: keep a group on one side), `steps`, \
         `onset_s`, `failed_s`, `spec` (JSON: seed, limits, load, causes), `cpu_scale` (the limit of CPU time was so many times that of `spec`), \
         `trouble` (what a cause met) |\n\
         | `series.parquet` | a metric of an episode | `episode`, `metric`, `family`, `kind`, `unit`, `limit`, `counter` |\n\
         | `samples.parquet` | a value | `episode`, `metric`, `step` (of {} ms), `value`; a step without a row is a gap |\n",
        of(Class::Foreseeable),
        of(Class::Unforeseeable),
        of(Class::Healthy),
        seconds / 3_600.0,
        size_bytes as f64 / f64::from(1 << 20),
        STEP.as_millis()
    );
}

pub(super) fn plots(text: &mut String) {
    text.push_str(
        "\n## Examples\n\n\
         The first episode of each kind that came out as meant. Blue: the resource that rose most, as a share of its limit. Orange: what users see, \
         as a share of what the objective allows (the worse of error share and 99th percentile of latency). Violet: errors in the log.\n\n\
         ![Foreseeable kinds](foreseeable.svg)\n\n![Unforeseeable kinds](unforeseeable.svg)\n\n![Healthy kinds](healthy.svg)\n\n\
         How long a failure takes from the beginning of its cause; the red mark is the median.\n\n![Times to failure](failures.svg)\n",
    );
}

pub(super) fn making(about: &About, (shortest, longest): (f64, f64), scales: &str, text: &mut String) {
    let objective = objective();
    let _ = write!(
        text,
        "\n## How it was made\n\n\
         Servers: {}; and the sample service of this repository with its inventory. All unmodified. Each episode has a server of its own, on an \
         address of its own in 127.77.0.0/16 of a network without any other interface, with its own control groups (memory, CPU quota in periods of 20 ms, tasks), its own limit of open files, \
         and its data on an ext4 file system of its own size. {} episodes ran at once on {} cores; all of them took {:.0} minutes. \
         Limits of CPU time are scaled by what a request costs on the machine, as measured just before: here {scales}.\n\n\
         **Load** is an open loop of 22 to 44 requests per second: Poisson arrivals at a rate with a day's season, slow noise and bursts, reads and writes, part of \
         them on fresh connections; a user waits {} ms. **Causes** use what servers really do: keys without expiry, tables and append-only \
         files that grow, connections that are not given back, hung jobs, locks held longer, rows spoilt by a buggy job, upstreams lost one by one.\n\n\
         **Failed** means that the objective was broken for {} s without a break, judged by the product's own tracker over a sliding window of 2 s: more than \
         {:.0}% errors (refused, reset, timed out, not 2xx, an error reply) or more than {:.0}% of answers slower than {} ms. `failed_s` is when that began. \
         {} s after a failure is certain, the recording ends.\n\n\
         **Time is compressed** where that is honest. A day of the load's season lasts {shortest:.0} to {longest:.0} s, a factor of {:.0} to {:.0}. What grows does so \
         from nothing to all in 12 to 33 s, with sizes of tens of MiB: memory, disks, connections and processes that pile up, and likewise load, delays and shares of spoilt data. A recipe names no other \
         pace than that of its load's day; by that, what ends in a failure grows for 6 to 21 hours. What piles up over weeks is compressed by more, up to tens of thousands of times; \
         a delay that grows within minutes would be by less. \
         *Not* compressed are latencies themselves, timeouts, the time a restart takes, and the reaction of servers to a limit (users feel a cause that comes at once within 1.7 s in 95% of the episodes). A model that reads \
         seconds off this corpus must be told the factor; one that reads shapes relative to its window need not.\n",
        about.versions.join("; "),
        about.jobs,
        about.cores,
        about.took_s / 60.0,
        PATIENCE.as_millis(),
        objective.failed_for.as_secs(),
        objective.error_share * 100.0,
        objective.slow_share * 100.0,
        objective.latency.as_millis(),
        STEP.as_secs_f64() * 3.0,
        DAY_S / longest,
        DAY_S / shortest,
    );
}

pub(super) fn floor(table: &str, text: &mut String) {
    let _ = write!(
        text,
        "\n## The floor: the model of the first day\n\n\
         First passage of metrics with a limit, no failure ever seen, in the code of production: the telemetry store's windows, the predictor, `decide`'s race with a \
         lead time of {LEAD_S:.0} s and a margin of 2 s, the trigger of the default policy (P ≥ 0.6 in 3 of 5 ticks). *Recall* is the share of failures with a shift \
         after the onset and at least {LEAD_S:.0} s before the failure; a *false shift* is any in a healthy episode, and elsewhere one before the cause began. \
         Episodes that did not come out as meant are left out of both. Learned models have this to beat.\n\n{table}",
    );
}

pub(super) fn limits(text: &mut String) {
    text.push_str(
        "\n## What it is not\n\n\
         - One machine, loopback: no network of its own, no disks with a latency of their own. Episodes that run at once disturb each other a little, as neighbours do.\n\
         - Foreseeable here means that the cause builds up. Whether *this* telemetry shows it is the model's business; in some episodes it hardly does.\n\
         - Episodes that did not come out as meant are kept and told apart by `failed_s`: leave them out of training, or treat them as what they became.\n\
         - The shares of classes are made, not found. They say nothing about how often real services fail.\n\
         - Servers are small. Absolute levels mean nothing elsewhere; shares of limits and shapes do.\n",
    );
}
