//! What looks dangerous and is not: the same causes as those of failures, kept below what breaks the objective, or
//! ending in time.

use std::time::Duration;

use forefend_chaos::{Fault, Ramp};

use super::{
    Burst, Cause, Kind, Subject, What,
    draw::{Draft, MIB, Recipe},
};

/// The ways to make an episode of a healthy kind.
pub(super) fn recipes(kind: Kind) -> Vec<Recipe> {
    use Subject::{Nginx, Postgres, Redis, Shop};
    match kind {
        Kind::Season => [Nginx, Postgres, Redis, Shop].map(|s| (s, season as fn(&mut Draft))).to_vec(),
        Kind::Spike => [Nginx, Postgres, Redis, Shop].map(|s| (s, spike as fn(&mut Draft))).to_vec(),
        Kind::Batch => vec![(Nginx, batch), (Postgres, batch), (Redis, batch)],
        Kind::Gc => vec![(Shop, gc), (Redis, expiring), (Postgres, sessions)],
        Kind::Backup => vec![(Postgres, dump), (Redis, snapshot)],
        Kind::Deploy => vec![(Nginx, reload), (Shop, restart), (Redis, restart), (Postgres, reload)],
        Kind::CacheFlush => vec![(Redis, flush)],
        Kind::Plateau => vec![(Shop, own_plateau), (Redis, key_plateau), (Postgres, session_plateau)],
        Kind::DiskRotation => {
            vec![(Redis, rewritten), (Postgres, truncated), (Nginx, tidied), (Shop, rotated)]
        }
        Kind::ConnectionBurst => {
            vec![(Postgres, connections), (Redis, connections), (Nginx, connections), (Shop, files)]
        }
        Kind::LatencyHump => {
            vec![(Shop, own_hump), (Nginx, dependency_hump), (Postgres, lock_hump), (Redis, held_up)]
        }
        Kind::MaskedErrors => vec![(Nginx, upstreams_back), (Postgres, retried)],
        kind => unreachable!("{kind:?} is not healthy"),
    }
}

fn seconds(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

fn bytes(mib: f64) -> u64 {
    (mib * MIB) as u64
}

/// Up as a failure would, in 12 to 28 s.
fn up(draft: &mut Draft) -> Ramp {
    let over = seconds(draft.random.between(12.0, 28.0));
    if draft.random.chance(2.0 / 3.0) { Ramp::Linear { over } } else { Ramp::Exponential { over } }
}

/// Over and over: up, and down at once.
fn teeth(draft: &mut Draft, what: What) {
    let period = seconds(draft.random.between(9.0, 18.0));
    draft.cause(Cause::new(what, Ramp::Sawtooth { period }, draft.onset_s));
}

/// Up, and down at once a little later.
fn hump(draft: &mut Draft, what: What) {
    let ramp = up(draft);
    let until = draft.onset_s + draft.random.between(20.0, 32.0);
    draft.cause(Cause::new(what, ramp, draft.onset_s).until(until));
}

/// Up, and it stays there.
fn plateau(draft: &mut Draft, what: What) {
    let ramp = up(draft);
    draft.cause(Cause::new(what, ramp, draft.onset_s));
}

fn for_a_while(draft: &mut Draft, what: What, low_s: f64, high_s: f64) {
    let until = draft.onset_s + draft.random.between(low_s, high_s);
    draft.cause(Cause::new(what, Ramp::Step, draft.onset_s).until(until));
}

fn season(draft: &mut Draft) {
    draft.load.season = draft.random.between(0.4, 0.6);
    draft.load.base_per_s *= 1.3;
    draft.load.day_s = draft.random.between(22.0, 40.0);
}

fn spike(draft: &mut Draft) {
    // Small enough that the spike is felt, large enough that it is carried.
    draft.limits.cpu_cores *=
        if draft.limits.cpu_cores > 0.3 { 0.5 } else { draft.random.between(0.35, 0.5) };
    let factor = draft.random.between(2.0, 4.0);
    for_a_while(draft, What::LoadFactor { factor }, 4.0, 14.0);
    if draft.random.chance(0.5) {
        let at_s = draft.onset_s + draft.random.between(18.0, 28.0);
        draft.load.bursts.push(Burst { at_s, for_s: 4.0, factor: 2.0 });
    }
}

fn batch(draft: &mut Draft) {
    let busy = draft.random.between(0.25, 0.5);
    for_a_while(draft, What::Job { busy }, 8.0, 20.0);
}

fn gc(draft: &mut Draft) {
    let limit = draft.random.between(32.0, 64.0);
    draft.limits.memory_bytes = bytes(limit);
    let amount = (limit - 6.0) * draft.random.between(0.45, 0.75);
    teeth(draft, What::OwnLeak { bytes: bytes(amount) });
}

fn expiring(draft: &mut Draft) {
    let limit = draft.random.between(16.0, 32.0);
    draft.limits.max_memory_bytes = bytes(limit);
    draft.limits.memory_bytes = bytes(limit + 40.0);
    let amount = limit * draft.random.between(0.4, 0.7);
    teeth(draft, What::Keys { bytes: bytes(amount) });
}

fn sessions(draft: &mut Draft) {
    let amount = draft.random.between(20.0, 40.0);
    draft.limits.memory_bytes = bytes(amount + 75.0);
    teeth(draft, What::SessionState { bytes: bytes(amount) });
}

fn dump(draft: &mut Draft) {
    for_a_while(draft, What::Backup, 10.0, 20.0);
    let amount = draft.random.between(10.0, 24.0);
    hump(draft, What::ForeignLog { bytes: bytes(amount) });
}

fn snapshot(draft: &mut Draft) {
    let amount = draft.random.between(4.0, 10.0);
    plateau(draft, What::Keys { bytes: bytes(amount) });
    let period = seconds(draft.random.between(6.0, 12.0));
    let on = period / 2;
    draft.cause(Cause::new(What::Backup, Ramp::Intermittent { on, off: on }, draft.onset_s));
}

fn reload(draft: &mut Draft) {
    for_a_while(draft, What::Reload, 5.0, 6.0);
    let later = draft.onset_s + draft.random.between(15.0, 25.0);
    draft.cause(Cause::new(What::Reload, Ramp::Step, later));
}

fn restart(draft: &mut Draft) {
    draft.cause(Cause::new(What::Restart, Ramp::Step, draft.onset_s));
    let later = draft.onset_s + draft.random.between(18.0, 26.0);
    draft.cause(Cause::new(What::Restart, Ramp::Step, later));
}

fn flush(draft: &mut Draft) {
    let limit = draft.random.between(16.0, 32.0);
    draft.limits.max_memory_bytes = bytes(limit);
    draft.limits.memory_bytes = bytes(limit + 40.0);
    let amount = limit * draft.random.between(0.45, 0.75);
    let start = draft.random.between(3.5, 6.0);
    let dropped = draft.random.between(26.0, 40.0);
    let fill = Ramp::Linear { over: seconds(draft.random.between(10.0, 18.0)) };
    draft.cause(Cause::new(What::Keys { bytes: bytes(amount) }, fill, start).until(dropped));
    draft.cause(Cause::new(What::Flush, Ramp::Step, dropped + 0.2));
    draft.cause(Cause::new(What::Keys { bytes: bytes(amount) }, fill, dropped + 1.0));
}

fn own_plateau(draft: &mut Draft) {
    let limit = draft.random.between(32.0, 64.0);
    draft.limits.memory_bytes = bytes(limit);
    let amount = (limit - 6.0) * draft.random.between(0.5, 0.85);
    plateau(draft, What::OwnLeak { bytes: bytes(amount) });
}

fn key_plateau(draft: &mut Draft) {
    let limit = draft.random.between(16.0, 32.0);
    draft.limits.max_memory_bytes = bytes(limit);
    draft.limits.memory_bytes = bytes(limit + 40.0);
    let amount = (limit - 2.0) * draft.random.between(0.45, 0.75);
    plateau(draft, What::Keys { bytes: bytes(amount) });
}

fn session_plateau(draft: &mut Draft) {
    let amount = draft.random.between(20.0, 40.0);
    draft.limits.memory_bytes = bytes(amount + 75.0);
    plateau(draft, What::SessionState { bytes: bytes(amount) });
}

fn rewritten(draft: &mut Draft) {
    let disk = draft.random.between(16.0, 28.0);
    draft.limits.disk_bytes = bytes(disk);
    let amount = disk * draft.random.between(0.5, 0.75);
    teeth(draft, What::AppendLog { bytes: bytes(amount) });
}

fn truncated(draft: &mut Draft) {
    let amount = draft.random.between(12.0, 24.0);
    teeth(draft, What::Rows { bytes: bytes(amount) });
}

fn tidied(draft: &mut Draft) {
    let disk = draft.random.between(16.0, 32.0);
    draft.limits.disk_bytes = bytes(disk);
    let amount = disk * draft.random.between(0.5, 0.75);
    teeth(draft, What::Uploads { bytes: bytes(amount) });
}

fn rotated(draft: &mut Draft) {
    let disk = draft.random.between(8.0, 20.0);
    draft.limits.disk_bytes = bytes(disk);
    let amount = disk * draft.random.between(0.55, 0.85);
    teeth(draft, What::ForeignLog { bytes: bytes(amount) });
}

fn connections(draft: &mut Draft) {
    draft.limits.connections =
        if draft.limits.tasks > 64 { draft.random.pick(40, 60) } else { draft.random.pick(70, 120) };
    let count = f64::from(draft.limits.connections) * draft.random.between(0.4, 0.6);
    hump(draft, What::Connections { count: count as u32 });
}

fn files(draft: &mut Draft) {
    draft.limits.files = draft.random.pick(110, 200);
    let count = f64::from(draft.limits.files) * draft.random.between(0.4, 0.65);
    hump(draft, What::Connections { count: count as u32 });
}

fn own_hump(draft: &mut Draft) {
    let ms = draft.random.between(40.0, 80.0);
    hump(draft, What::OwnDelay { ms });
}

fn dependency_hump(draft: &mut Draft) {
    let ms = draft.random.between(40.0, 80.0);
    hump(draft, What::DependencyDelay { ms });
}

fn lock_hump(draft: &mut Draft) {
    let ms = draft.random.between(50.0, 85.0);
    hump(draft, What::LockHold { ms });
}

fn held_up(draft: &mut Draft) {
    let add = seconds(draft.random.between(0.04, 0.08));
    hump(draft, What::Fault { fault: Fault::Latency { add, jitter: add / 10 } });
}

fn upstreams_back(draft: &mut Draft) {
    let count = draft.random.pick(1, 4);
    hump(draft, What::LostUpstreams { count });
}

fn retried(draft: &mut Draft) {
    draft.load.retries = 2;
    let share = draft.random.between(0.1, 0.22);
    hump(draft, What::Poison { share });
}
